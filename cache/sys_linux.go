package cache

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flushEach is how many files are flushed each by itself in any case.
const flushEach = 1

func syncFS(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

// unwritten is how many bytes all programs together wrote to files and the disks do not have yet, a few MiB more or less; 0 where
// the system does not tell.
func unwritten() (bytes int64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && (f[0] == "Dirty:" || f[0] == "Writeback:") {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			bytes += kib << 10
		}
	}
	return bytes
}

// clone makes dst share src's blocks until one of them changes (btrfs, xfs).
func clone(dst, src *os.File) error { return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) }

// mayClone asks the file system of an open file whether it could have reflinks, without making one: a range that lies over
// itself is no range to clone, and only those that have them say so.
func mayClone(f *os.File) bool {
	err := unix.IoctlFileCloneRange(int(f.Fd()), &unix.FileCloneRange{Src_fd: int64(f.Fd()), Src_length: 1})
	return !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY)
}

func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func swap(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return nil
}

// statBuffer is what one goroutine needs to look at many names.
type statBuffer struct {
	raw  unix.Statx_t
	name [256]byte
}

// at is lstat of a name in an open folder. unix.Statx would make a copy of each name.
func (b *statBuffer) at(fd int, name string) (fileStat, error) {
	if len(name) >= len(b.name) {
		return lstatAt(fd, name)
	}
	b.name[copy(b.name[:], name)] = 0
	for {
		_, _, err := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&b.name)), unix.AT_SYMLINK_NOFOLLOW,
			unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(&b.raw)), 0)
		switch err {
		case 0:
			return b.stat(), nil
		case unix.EINTR:
		case unix.ENOSYS, unix.EPERM: // a kernel or a container's filter that does not know statx
			return lstatAt(fd, name)
		default:
			return fileStat{}, err
		}
	}
}

func (b *statBuffer) stat() fileStat {
	r := &b.raw
	nano := func(t unix.StatxTimestamp) int64 { return t.Sec*int64(time.Second) + int64(t.Nsec) }
	return fileStat{
		ino: r.Ino, size: int64(r.Size), mtime: nano(r.Mtime), ctime: nano(r.Ctime),
		mode: uint32(r.Mode), nlink: r.Nlink, dev: unix.Mkdev(r.Dev_major, r.Dev_minor), uid: r.Uid,
	}
}

// listsByTime tells whether on path's file system every name that comes or goes changes its folder's mtime and ctime,
// so that a folder with known times need not be listed. What is not known to, may not.
func listsByTime(path string) bool {
	var s unix.Statfs_t
	if retry(func() error { return unix.Statfs(path, &s) }) != nil {
		return false
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return true // ext2 and ext3 have ext4's number
	}
	return false
}

// allocate gives a file its size, and its blocks where the file system can: a full disk shows at the start.
func allocate(f *os.File, size int64) error {
	err := retry(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if err == unix.ENOTSUP || err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		err = f.Truncate(size)
	}
	if err != nil {
		return pathError("allocate", f.Name(), err)
	}
	return nil
}

// startWriting asks for bytes to go to the disk soon.
func startWriting(f *os.File, at, n int64) {
	unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
}

// setModified sets the mtime of a name in an open folder, of a symlink its own.
func setModified(dirfd int, name string, at unix.Timespec) error {
	return unix.UtimesNanoAt(dirfd, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, at}, unix.AT_SYMLINK_NOFOLLOW)
}
