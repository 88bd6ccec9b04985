package cache

import (
	"time"

	"golang.org/x/sys/unix"
)

// fileStat is what tells one version of a file from another without reading it.
type fileStat struct {
	ino          uint64
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
	mode         uint32
	nlink        uint32
	dev          uint64 // not remembered: unstable across reboots
	uid          uint32 // not remembered
}

func statOf(s *unix.Stat_t) fileStat {
	return fileStat{
		ino: s.Ino, size: s.Size, mtime: s.Mtim.Nano(), ctime: s.Ctim.Nano(),
		mode: uint32(s.Mode), nlink: uint32(s.Nlink), dev: uint64(s.Dev), uid: s.Uid,
	}
}

func (s fileStat) regular() bool { return s.mode&unix.S_IFMT == unix.S_IFREG }
func (s fileStat) dir() bool     { return s.mode&unix.S_IFMT == unix.S_IFDIR }
func (s fileStat) symlink() bool { return s.mode&unix.S_IFMT == unix.S_IFLNK }
func (s fileStat) exec() bool    { return s.mode&0o100 != 0 }

// same tells whether two stats of an open file, taken before and after reading, are of one version.
func (s fileStat) same(t fileStat) bool {
	return s.ino == t.ino && s.size == t.size && s.mtime == t.mtime && s.ctime == t.ctime
}

// unchanged tells whether a file of which we know a settled stat is still that version.
//
// A write sets mtime, and whoever sets mtime back changes ctime. For a linked file (one inode with an object)
// ctime also changes when any project places or removes a link, which shows in the number of links: a changed
// ctime with the same number of links is what remains suspicious.
func (s fileStat) unchanged(now fileStat, linked bool) bool {
	if s.ino != now.ino || s.size != now.size || s.mtime != now.mtime {
		return false
	}
	return s.ctime == now.ctime || linked && s.nlink != now.nlink
}

const (
	// tick is beyond the granularity of the kernel's file times: 1 to 10 ms.
	tick = 20 * time.Millisecond
	// coarseTick is for file systems that keep whole seconds (two in FAT).
	coarseTick = 2100 * time.Millisecond
)

// settled tells whether a write after the moment at must show in mtime or ctime. A file written so shortly before
// that a second write can fall into the same tick is not: "racily clean", as git calls it.
func (s fileStat) settled(at time.Time, linked bool) bool {
	last := s.mtime
	if !linked {
		last = max(last, s.ctime) // of a linked file ctime is our own link()
	}
	return last < at.Add(-s.granularity()).UnixNano()
}

func (s fileStat) granularity() time.Duration {
	if s.mtime%int64(time.Second) == 0 {
		return coarseTick
	}
	return tick
}

// settle makes a file settled that was written a moment ago, open as fd and named in an open folder, and returns its stat then. With
// an mtime in the past every later write must change it. Where that cannot be set, or there are other names to the file, under
// which somebody may know its times, it lets as much time pass.
func (s fileStat) settle(fd, dirfd int, name, path string) (fileStat, error) {
	now := time.Now()
	past := unix.NsecToTimespec(now.Add(-2 * tick).UnixNano())
	if s.nlink == 1 && setModified(dirfd, name, past) == nil {
		if t, err := fstat(fd, path); err != nil || t.settled(now, true) {
			return t, err
		}
	}
	time.Sleep(tick + time.Millisecond)
	return fstat(fd, path)
}

func lstat(path string) (fileStat, error) {
	var s unix.Stat_t
	if err := retry(func() error { return unix.Lstat(path, &s) }); err != nil {
		return fileStat{}, pathError("lstat", path, err)
	}
	return statOf(&s), nil
}

// lstatAt is lstat of a name in an open folder. Its errors do not name the path.
func lstatAt(fd int, name string) (fileStat, error) {
	var s unix.Stat_t
	err := retry(func() error { return unix.Fstatat(fd, name, &s, unix.AT_SYMLINK_NOFOLLOW) })
	return statOf(&s), err
}

func fstat(fd int, path string) (fileStat, error) {
	var s unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &s) }); err != nil {
		return fileStat{}, pathError("fstat", path, err)
	}
	return statOf(&s), nil
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
