package stages

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// rowMap maps row numbers to a number each, usually another row's. It is filled first, in any order, and then read by many
// goroutines. Beyond a million entries (16 MB) it lies in scratch: a file of which every row has the same id fills no memory.
type rowMap struct {
	sorted *sorter
	keys   []uint64 // in memory: sorted, with values beside
	values []uint64
	file   *os.File // else: entries of 16 bytes, sorted
	count  int64
}

const (
	rowMapInMemory = 1 << 20
	rowMapEntry    = 16
)

func newRowMap(scratch string) *rowMap { return &rowMap{sorted: newSorter(scratch)} }

func (m *rowMap) add(row, value uint64) error {
	m.count++
	return m.sorted.add(pair{hi: row, lo: value})
}

// freeze ends the filling. Of two values for a row the smaller counts.
func (m *rowMap) freeze(ctx context.Context) error {
	defer m.sorted.close()
	var out *bufio.Writer
	if m.count > rowMapInMemory {
		if err := os.MkdirAll(m.sorted.dir, 0o777); err != nil {
			return fmt.Errorf("spill to scratch: %w", err)
		}
		f, err := os.CreateTemp(m.sorted.dir, "rows-*")
		if err != nil {
			return fmt.Errorf("spill to scratch: %w", err)
		}
		_ = os.Remove(f.Name())
		m.file, out = f, bufio.NewWriterSize(f, 1<<18)
	}
	m.count = 0
	last := pair{}
	for p, err := range m.sorted.sorted(ctx) {
		if err != nil {
			return err
		}
		if m.count > 0 && p.hi == last.hi {
			continue
		}
		last = p
		m.count++
		if out == nil {
			m.keys, m.values = append(m.keys, p.hi), append(m.values, p.lo)
			continue
		}
		var b [rowMapEntry]byte
		binary.LittleEndian.PutUint64(b[:], p.hi)
		binary.LittleEndian.PutUint64(b[8:], p.lo)
		if _, err := out.Write(b[:]); err != nil {
			return fmt.Errorf("spill to scratch: %w", err)
		}
	}
	if out != nil {
		if err := out.Flush(); err != nil {
			return fmt.Errorf("spill to scratch: %w", err)
		}
	}
	return nil
}

// get is the number of a row, if it has one. A nil map holds nothing.
func (m *rowMap) get(row uint64) (uint64, bool, error) {
	if m == nil || m.count == 0 {
		return 0, false, nil
	}
	if m.file == nil {
		i := sort.Search(len(m.keys), func(i int) bool { return m.keys[i] >= row })
		if i == len(m.keys) || m.keys[i] != row {
			return 0, false, nil
		}
		return m.values[i], true, nil
	}
	var b [rowMapEntry]byte
	var failed error
	i := sort.Search(int(m.count), func(i int) bool {
		if _, err := m.file.ReadAt(b[:], int64(i)*rowMapEntry); err != nil && failed == nil {
			failed = fmt.Errorf("read back from scratch: %w", err)
		}
		return binary.LittleEndian.Uint64(b[:]) >= row
	})
	if failed != nil || i == int(m.count) {
		return 0, false, failed
	}
	if _, err := m.file.ReadAt(b[:], int64(i)*rowMapEntry); err != nil && !errors.Is(err, io.EOF) {
		return 0, false, fmt.Errorf("read back from scratch: %w", err)
	}
	if binary.LittleEndian.Uint64(b[:]) != row {
		return 0, false, nil
	}
	return binary.LittleEndian.Uint64(b[8:]), true, nil
}

func (m *rowMap) close() {
	if m == nil {
		return
	}
	m.sorted.close()
	if m.file != nil {
		m.file.Close()
	}
}
