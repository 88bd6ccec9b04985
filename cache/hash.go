package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// hashing is what one goroutine needs to hash files: BLAKE3 is fastest on 64 KiB and more.
type hashing struct {
	h      *blake3.Hasher
	buf    []byte  // partSize
	chains []chain // of a subtree that is longer than buf
}

type hashers struct {
	pool    sync.Pool
	helpers helpers
}

func (p *hashers) take() *hashing {
	if h, ok := p.pool.Get().(*hashing); ok {
		return h
	}
	return &hashing{h: blake3.New(), buf: make([]byte, partSize)}
}

func (p *hashers) give(h *hashing) { p.pool.Put(h) }

// file hashes dir/name, open folder dirfd, and returns the stat of the version that it hashed, and when it began.
// seen, if not nil, is its stat of just before, which spares one. With settle a later write to a large file must show in its
// times: where that is not so yet, its mtime is moved into the past, or time passes first.
func (p *hashers) file(ctx context.Context, dirfd int, dir, name string, seen *fileStat, settle bool) (ID, fileStat, time.Time, error) {
	path := filepath.Join(dir, name)
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return ID{}, fileStat{}, time.Time{}, pathError("open", path, err)
	}
	defer unix.Close(fd)
	for try := 0; ; try++ {
		before, err := before(fd, path, seen)
		if err != nil {
			return ID{}, fileStat{}, time.Time{}, err
		}
		seen = nil
		at := time.Now()
		if settle && before.size >= 1<<20 && !before.settled(at, true) && before.settled(at.Add(2*tick), true) {
			if before, err = before.settle(fd, dirfd, name, path); err != nil {
				return ID{}, fileStat{}, time.Time{}, err
			}
			at = time.Now()
		}
		id, err := p.sum(ctx, fd, path, before.size)
		short := errors.Is(err, ErrChanged)
		if err != nil && !short {
			return ID{}, fileStat{}, time.Time{}, err
		}
		after, err := fstat(fd, path)
		if err != nil {
			return ID{}, fileStat{}, time.Time{}, err
		}
		if !short && before.same(after) {
			return id, after, at, nil
		}
		if try == 2 {
			return ID{}, fileStat{}, time.Time{}, fmt.Errorf("hash %s: %w", path, ErrChanged)
		}
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			return ID{}, fileStat{}, time.Time{}, pathError("seek", path, err)
		}
	}
}

func before(fd int, path string, seen *fileStat) (fileStat, error) {
	if seen != nil {
		return *seen, nil
	}
	return fstat(fd, path)
}

// sum hashes an open file from its beginning to its end, which was at size bytes when last looked at.
func (p *hashers) sum(ctx context.Context, fd int, path string, size int64) (ID, error) {
	if size >= largeFile {
		return p.large(ctx, fd, path, size, partFor(size))
	}
	h := p.take()
	defer p.give(h)
	return h.sum(ctx, fd, path, size)
}

// sum spares the read that would find the end: a file that grew meanwhile has another stat afterwards.
func (h *hashing) sum(ctx context.Context, fd int, path string, size int64) (id ID, err error) {
	h.h.Reset()
	for done := int64(0); done < max(size, 1); {
		n := 0
		err := retry(func() (err error) { n, err = unix.Read(fd, h.buf); return err })
		if err != nil {
			return id, pathError("read", path, err)
		}
		if n <= 0 {
			break
		}
		h.h.Write(h.buf[:n])
		done += int64(n)
		if err := ctx.Err(); err != nil {
			return id, err
		}
	}
	h.h.Sum(id[:0])
	return id, nil
}
