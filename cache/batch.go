package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Batch stores many objects with few flushes: it writes them under temporary names, makes them durable
// together, and then gives them their names. Its methods may be called from several goroutines.
type Batch struct {
	c   *Cache
	end func() // nil within Add, which holds the cache itself

	mu      sync.Mutex
	written []pending
	durable bool            // the bytes of all that is written are durable already
	folders map[string]bool // that got names

	bulk      string // start of the names that PutBytes gives
	bulkFiles int
	maskOnce  sync.Once
	masked    bool // new files come without some of the rights that they should have
}

type pending struct {
	id   ID
	tree bool
	temp string
	size int64
}

// NewBatch starts a batch. It holds the cache against a gc until Commit or Discard.
func (c *Cache) NewBatch(ctx context.Context) (*Batch, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	return &Batch{c: c, end: end, folders: map[string]bool{}}, nil
}

// Put writes an object from r, verified: other bytes than id's are ErrDamaged. It appears with Commit.
func (b *Batch) Put(ctx context.Context, id ID, tree bool, size int64, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.put(id, tree, size, r, false); err != nil {
		return fmt.Errorf("store object %s in cache %s: %w", id, b.c.dir, err)
	}
	return nil
}

// Commit makes what was put durable and visible, and ends the batch.
func (b *Batch) Commit(ctx context.Context) error {
	defer b.Discard()
	if err := b.publish(ctx); err != nil {
		return fmt.Errorf("store objects in cache %s: %w", b.c.dir, err)
	}
	return nil
}

// Discard removes what was put and not committed, and ends the batch. After Commit it does nothing.
func (b *Batch) Discard() {
	b.drop()
	if b.end != nil {
		b.end()
		b.end = nil
	}
}

// Put stores one object from r, durable when it returns, verified: other bytes than id's are ErrDamaged.
func (c *Cache) Put(ctx context.Context, id ID, tree bool, size int64, r io.Reader) error {
	b, err := c.NewBatch(ctx)
	if err != nil {
		return err
	}
	defer b.Discard()
	if err := b.Put(ctx, id, tree, size, r); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// temps are the temporary names of what was written.
func (b *Batch) temps() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	paths := make([]string, len(b.written))
	for i, p := range b.written {
		paths[i] = p.temp
	}
	return paths
}

// unnamed counts the files that were written, and their bytes.
func (b *Batch) unnamed() (n int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.written {
		bytes += p.size
	}
	return len(b.written), bytes
}

func (b *Batch) unsynced() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable = false
}

// file copies an object from a file, cloned where the file system can. Other bytes than id's are ErrDamaged.
func (b *Batch) file(id ID, path string, size int64) error {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	return b.put(id, false, size, src, !b.c.cloneRefused())
}

func (b *Batch) bytes(id ID, tree bool, data []byte) error {
	return b.put(id, tree, int64(len(data)), &sliceReader{data}, false)
}

// sliceReader is bytes.Reader without WriteTo, so that writes go through disk.
type sliceReader struct{ rest []byte }

func (r *sliceReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// put writes one object under a temporary name, hashing what goes by.
func (b *Batch) put(id ID, tree bool, size int64, r io.Reader, tryClone bool) (err error) {
	f, err := b.c.disk.temp(b.c.in("tmp"))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if src, ok := r.(*os.File); ok && tryClone && clone(f, src) == nil {
		r = f // hash the clone: what it shares cannot change any more
	}
	h := b.c.hashers.take()
	defer b.c.hashers.give(h)
	got, n, err := h.copy(b.c.disk, f, r)
	if err != nil {
		return err
	}
	if got != id || n != size {
		return damaged("%d bytes with hash %s instead of %d with %s", n, got, size, id)
	}
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	// An mtime in the past: whatever writes to the object later, through a hard link say, must change it.
	past := unix.NsecToTimespec(time.Now().Add(-2 * tick).UnixNano())
	unix.UtimesNanoAt(unix.AT_FDCWD, f.Name(), []unix.Timespec{past, past}, 0)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written = append(b.written, pending{id, tree, f.Name(), size})
	return nil
}

// copy writes r to f, unless they are the same file, and returns the hash of what r gave.
func (h *hashing) copy(d disk, f *os.File, r io.Reader) (id ID, n int64, err error) {
	h.h.Reset()
	for {
		k, err := r.Read(h.buf)
		if k > 0 {
			h.h.Write(h.buf[:k])
			n += int64(k)
			if r != io.Reader(f) {
				if _, err := d.write(f, h.buf[:k]); err != nil {
					return id, n, err
				}
			}
		}
		if err == io.EOF {
			h.h.Sum(id[:0])
			return id, n, nil
		}
		if err != nil {
			return id, n, err
		}
	}
}

// named runs a call that gives an object its name, making its folder where that is missing.
func (b *Batch) named(to string, call func() error) error {
	dir := filepath.Dir(to)
	err := call()
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.c.disk.mkdirAll(dir); err == nil {
			err = call()
		}
	}
	if err != nil {
		return err
	}
	b.note(to)
	return nil
}

// note has syncFolders make an object's name durable.
func (b *Batch) note(to string) {
	dir := filepath.Dir(to)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.folders[dir] = true
	if parent := b.c.disk.parent(dir); parent != "" {
		b.folders[parent] = true
	}
}

// found is note for a name that was there already: whoever gave it a moment ago may not have made it durable yet, and
// what rests on it is acknowledged with this batch.
func (b *Batch) found(to string, now fileStat) {
	if b.c.now().UnixNano()-now.ctime < int64(nameSettles) {
		b.note(to)
	}
}

// nameSettles is how long after its last change an object's name may still not be durable; longer than any sync takes.
const nameSettles = 5 * time.Minute

// publish makes the written objects durable and then visible, and their names durable.
func (b *Batch) publish(ctx context.Context) error {
	if err := b.nameAll(ctx); err != nil {
		return err
	}
	return b.syncFolders()
}

// nameAll makes the written objects durable and then visible. Their names are durable after syncFolders.
func (b *Batch) nameAll(ctx context.Context) error {
	if err := b.sync(); err != nil {
		return err
	}
	err := newCrew().each(ctx, len(b.written), 16, func(i int) error { return b.name(b.written[i]) })
	if err == nil {
		b.written = nil // else drop removes what is left of them
	}
	return err
}

func (b *Batch) sync() error {
	if b.durable {
		return nil
	}
	_, bytes := b.unnamed()
	return b.c.disk.syncPaths(b.temps(), bytes, b.c.in("tmp"))
}

func (b *Batch) name(p pending) error {
	c, to := b.c, b.c.Path(p.id)
	if p.tree {
		to = c.treePath(p.id)
	}
	if p.tree {
		return b.named(to, func() error { return c.disk.rename(p.temp, to) })
	}
	// A good object stays: files in workspaces are links of it, and others may be about to link to it.
	err := b.named(to, func() error { return c.disk.renameNew(p.temp, to) })
	if errors.Is(err, fs.ErrExist) {
		if now, bad := c.verify(p.id); bad == nil {
			c.records.use(p.id, now, c.now())
			b.found(to, now)
			return c.disk.remove(p.temp)
		}
		err = b.named(to, func() error { return c.disk.rename(p.temp, to) })
	}
	if err != nil {
		return err
	}
	now, err := lstat(to)
	if err == nil {
		c.records.note(p.id, now, now.settled(time.Now(), true))
	}
	return err
}

func (b *Batch) syncFolders() error {
	defer clear(b.folders)
	if err := b.c.disk.syncPaths(slices.Collect(maps.Keys(b.folders)), 0, b.c.dir); err != nil {
		return err
	}
	for dir := range b.folders {
		b.c.disk.named(dir)
	}
	return nil
}

// drop removes what was written and not published.
func (b *Batch) drop() {
	for _, p := range b.written {
		os.Remove(p.temp)
	}
	b.written = nil
}
