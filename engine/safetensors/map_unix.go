//go:build unix

package safetensors

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFile maps the file at path read-only. An empty file gives an empty slice: it cannot be mapped.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() == 0 {
		return nil, nil
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

func unmapFile(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return unix.Munmap(b)
}

// forget lets go of the whole pages within part of a mapping; whoever reads there again gets them from the file. It is advice.
func forget(part []byte) {
	page := uintptr(os.Getpagesize())
	if uintptr(len(part)) < 2*page {
		return
	}
	skip := -uintptr(unsafe.Pointer(&part[0])) % page
	if whole := (uintptr(len(part)) - skip) / page * page; whole > 0 {
		unix.Madvise(part[skip:skip+whole], unix.MADV_DONTNEED)
	}
}
