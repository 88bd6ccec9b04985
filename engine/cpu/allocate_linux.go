package cpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// preferHugePages asks for pages of 2 MiB, which a product walks through without missing their addresses. It is advice only.
func preferHugePages(m mapping) {
	unix.Madvise(unsafe.Slice((*byte)(m.at), m.size), unix.MADV_HUGEPAGE)
}

// noReserve: what a rehearsal allocates is never written, so that the system need not have it.
const noReserve = unix.MAP_NORESERVE
