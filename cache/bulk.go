package cache

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// PutBytes is Put for an object that is in memory, with a third of its system calls: what counts when tens of thousands
// of small files arrive. Other bytes than id's are ErrDamaged.
func (b *Batch) PutBytes(ctx context.Context, id ID, tree bool, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if got := Sum(data); got != id {
		return damaged("object %s: %d bytes with hash %s", id, len(data), got)
	}
	path := b.bulkName()
	if err := b.writeBulk(path, data); err != nil {
		os.Remove(path)
		return fmt.Errorf("store object %s in cache %s: %w", id, b.c.dir, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written = append(b.written, pending{id, tree, path, int64(len(data))})
	return nil
}

// bulkName is a name in tmp that nobody else uses.
func (b *Batch) bulkName() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bulk == "" {
		b.bulk = b.c.in("tmp", "b-"+rand.Text()+"-")
	}
	b.bulkFiles++
	return b.bulk + strconv.Itoa(b.bulkFiles)
}

// writeBulk makes a read-only file whose mtime lies in the past, as put does.
func (b *Batch) writeBulk(path string, data []byte) error {
	if err := b.c.disk.check("create", path); err != nil {
		return err
	}
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
		return err
	})
	if err != nil {
		return pathError("create", path, err)
	}
	err = b.fill(fd, path, data)
	if e := unix.Close(fd); err == nil && e != nil {
		err = pathError("close", path, e)
	}
	past := unix.NsecToTimespec(time.Now().Add(-2 * tick).UnixNano())
	unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{past, past}, 0)
	return err
}

func (b *Batch) fill(fd int, path string, data []byte) error {
	if len(data) > 0 {
		if err := b.c.disk.check("write", path); err != nil {
			return err
		}
	}
	for len(data) > 0 {
		n := 0
		err := retry(func() (err error) { n, err = unix.Write(fd, data); return err })
		if err != nil {
			return pathError("write", path, err)
		}
		data = data[n:]
	}
	b.maskOnce.Do(func() {
		// An umask that takes rights away would keep other users of a shared cache out.
		now, err := fstat(fd, path)
		b.masked = err != nil || now.mode&0o777 != 0o444
	})
	if !b.masked {
		return nil
	}
	if err := unix.Fchmod(fd, 0o444); err != nil {
		return pathError("chmod", path, err)
	}
	return nil
}
