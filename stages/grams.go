package stages

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// gramFile finds the n-grams of words that several rows share. The n-grams of all rows lie in scratch, one row behind the
// other; two bitmaps tell those that were seen once from those that may have been seen again, so that only the latter are
// sorted: of a hundred million, a few.
type gramFile struct {
	scratch     string
	common      int // rows of an n-gram that count; more need not be told apart
	file        *os.File
	out         *bufio.Writer
	seen, again []uint64 // bit sets by the low bits of the hash
	mask        uint64
}

const (
	gramBitsLeast = 1 << 20
	gramBitsMost  = 1 << 28 // two sets of 32 MB
)

// newGramFile makes one for about as many bytes of text. Of an n-gram's rows the first common and one more are found.
func newGramFile(scratch string, common int, bytes int64) (*gramFile, error) {
	bits := uint64(gramBitsLeast)
	for bits < gramBitsMost && bits < uint64(bytes) {
		bits *= 2
	}
	if err := os.MkdirAll(scratch, 0o777); err != nil {
		return nil, fmt.Errorf("spill to scratch: %w", err)
	}
	f, err := os.CreateTemp(scratch, "ngrams-*")
	if err != nil {
		return nil, fmt.Errorf("spill to scratch: %w", err)
	}
	_ = os.Remove(f.Name())
	return &gramFile{scratch: scratch, common: common, file: f, out: bufio.NewWriterSize(f, 1<<18), seen: make([]uint64, bits/64), again: make([]uint64, bits/64), mask: bits - 1}, nil
}

// add takes a row's n-grams, in the order of rows.
func (g *gramFile) add(row uint64, grams []uint64) error {
	b := binary.LittleEndian.AppendUint64(nil, row)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(grams)))
	for _, h := range grams {
		at, bit := h&g.mask/64, uint64(1)<<(h%64)
		if g.seen[at]&bit != 0 {
			g.again[at] |= bit
		}
		g.seen[at] |= bit
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	if _, err := g.out.Write(b); err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	return nil
}

// shared sorts what may be in several rows; nothing is added behind it.
func (g *gramFile) shared(ctx context.Context) (*sorter, error) {
	if err := g.out.Flush(); err != nil {
		return nil, fmt.Errorf("spill to scratch: %w", err)
	}
	if _, err := g.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read back from scratch: %w", err)
	}
	g.seen = nil // memory for what is sorted
	defer func() { g.again = nil }()
	in := bufio.NewReaderSize(g.file, 1<<18)
	sorted := newSorter(g.scratch)
	often := crowd{most: g.common + 1, rows: map[uint64]rowCount{}}
	var head [16]byte
	var hashes []byte
	for ctx.Err() == nil {
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return sorted, nil
		} else if err != nil {
			return nil, fmt.Errorf("read back from scratch: %w", err)
		}
		row, count := binary.LittleEndian.Uint64(head[:]), int(binary.LittleEndian.Uint64(head[8:]))
		hashes = slices.Grow(hashes[:0], 8*count)[:8*count]
		if _, err := io.ReadFull(in, hashes); err != nil {
			return nil, fmt.Errorf("read back from scratch: %w", err)
		}
		for i := range count {
			h := binary.LittleEndian.Uint64(hashes[8*i:])
			if g.again[h&g.mask/64]>>(h%64)&1 == 0 || often.full(h, row) {
				continue
			}
			if err := sorted.add(pair{h, 0, row}); err != nil {
				return nil, err
			}
		}
	}
	return nil, ctx.Err()
}

// crowd tells n-grams that have as many rows as count: of rows that all begin alike each would bring all of its own to be
// sorted. It counts in as many as it has room for, which takes them as they come; those of many rows come soon.
type crowd struct {
	most int
	rows map[uint64]rowCount
}

type rowCount struct {
	rows int
	last uint64 // row
}

const crowdInMemory = 1 << 18 // n-grams: some 12 MB

// full says that an n-gram has most rows already, and counts this one if not.
func (c *crowd) full(h, row uint64) bool {
	n, known := c.rows[h]
	switch {
	case !known && len(c.rows) == crowdInMemory:
		return false
	case n.rows > 0 && n.last == row:
		return false
	case n.rows == c.most:
		return true
	}
	c.rows[h] = rowCount{n.rows + 1, row}
	return false
}

// sharedGrams calls each with the rows of every n-gram that two rows or more have, in the order of rows. The slice is reused.
func sharedGrams(ctx context.Context, sorted *sorter, each func(rows []uint64) error) error {
	for rows, err := range sorted.groups(ctx) {
		if err != nil {
			return err
		}
		distinct := rows[:1]
		for _, row := range rows[1:] {
			if row != distinct[len(distinct)-1] {
				distinct = append(distinct, row)
			}
		}
		if len(distinct) < 2 {
			continue
		}
		if err := each(distinct); err != nil {
			return err
		}
	}
	return nil
}

func (g *gramFile) close() { g.file.Close() }
