//go:build unix

package dataset

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapped is a file in memory, read-only.
type mapped struct{ data []byte }

func mapFile(path string) (mapped, error) {
	f, err := os.Open(path)
	if err != nil {
		return mapped{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return mapped{}, err
	}
	if !info.Mode().IsRegular() {
		return mapped{}, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() == 0 { // an empty map is an error
		return mapped{}, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return mapped{}, fmt.Errorf("map %s: %w", path, err)
	}
	return mapped{data}, nil
}

// forget drops the pages before the byte n from this process; a later read brings them back.
func (m mapped) forget(n int) {
	page := os.Getpagesize()
	if n = n / page * page; n > 0 && n <= len(m.data) {
		_ = unix.Madvise(m.data[:n], unix.MADV_DONTNEED) // only a hint
	}
}

func (m *mapped) close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}
