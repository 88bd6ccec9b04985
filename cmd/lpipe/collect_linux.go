package main

import "golang.org/x/sys/unix"

// askLarge asks for large pages where memory is touched for the first time.
func askLarge(memory []byte) error { return unix.Madvise(memory, unix.MADV_HUGEPAGE) }
