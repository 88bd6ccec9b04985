//go:build !unix

package dataset

import "os"

// mapped is a file in memory, read-only. Where there is no mmap it is read whole.
type mapped struct{ data []byte }

func mapFile(path string) (mapped, error) {
	data, err := os.ReadFile(path)
	return mapped{data}, err
}

func (m mapped) forget(int) {}

func (m *mapped) close() error {
	m.data = nil
	return nil
}
