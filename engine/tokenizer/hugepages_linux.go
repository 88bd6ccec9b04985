package tokenizer

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePages asks for large pages behind new memory: a cache is read all over, and the table of
// small pages that it would need is larger than what the processor keeps of it. What the system
// answers makes no difference but of speed.
func hugePages(p unsafe.Pointer, size int) {
	const page = largePage
	skip := int(-uintptr(p) & (page - 1))
	if size = (size - skip) &^ (page - 1); size > 0 {
		_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(p, skip)), size), unix.MADV_HUGEPAGE)
	}
}
