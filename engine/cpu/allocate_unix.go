//go:build unix

package cpu

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapPages maps zeros. Pages count as memory of the process once they are written.
func mapPages(size uintptr) (mapping, unsafe.Pointer, error) {
	m := mapping{size: size}
	at, err := unix.MmapPtr(-1, 0, nil, m.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|noReserve)
	if err != nil {
		return mapping{}, nil, fmt.Errorf("allocate %d MB on cpu: %w", size/1e6, err)
	}
	m.at = at
	preferHugePages(m)
	return m, at, nil
}

func unmapPages(m mapping) { unix.MunmapPtr(m.at, m.size) }
