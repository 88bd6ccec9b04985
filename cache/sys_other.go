//go:build !linux

package cache

import (
	"os"

	"golang.org/x/sys/unix"
)

// flushEach is how many files are flushed each by itself in any case: sync may return before all is written.
const flushEach = 16

func syncFS(*os.File) error { unix.Sync(); return nil }

func unwritten() int64 { return 0 }

func clone(dst, src *os.File) error { return unix.ENOTSUP }

func mayClone(*os.File) bool { return false }

func renameNew(from, to string) error { return unix.ENOSYS }

func swap(a, b string) error { return unix.ENOSYS }

type statBuffer struct{}

func (*statBuffer) at(fd int, name string) (fileStat, error) { return lstatAt(fd, name) }

func listsByTime(string) bool { return false }

func allocate(f *os.File, size int64) error { return f.Truncate(size) }

func startWriting(*os.File, int64, int64) {}

func setModified(int, string, unix.Timespec) error { return unix.ENOTSUP }
