package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// Has tells whether the cache holds a file's bytes or a tree under id, and that they are good: an object whose
// stat differs from its record is hashed first.
func (c *Cache) Has(id ID) bool {
	if _, err := c.verify(id); err == nil {
		return true
	}
	_, err := c.readTree(id)
	return err == nil
}

// ReadTree is the tree stored under id: ErrNotFound, or ErrDamaged.
func (c *Cache) ReadTree(id ID) (*Tree, error) { return c.readTree(id) }

// readTree always hashes: trees are small.
func (c *Cache) readTree(id ID) (*Tree, error) {
	path := c.treePath(id)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("tree %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if Sum(data) != id {
		c.setAside(path, id)
		return nil, damaged("tree %s: its file was changed", id)
	}
	t, err := DecodeTree(data)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	return t, nil
}

// Missing lists the objects of want that the cache does not hold. Below a missing tree nothing is known: store
// the tree and ask again.
func (c *Cache) Missing(ctx context.Context, want Content) ([]ID, error) {
	var missing []ID
	for o, err := range c.walk(ctx, want, true) {
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
			return nil, err
		}
		if err != nil {
			missing = append(missing, o.ID)
		}
	}
	return missing, nil
}

// Objects gives every object of want once, each tree after what it names. An object that the cache lacks comes
// with an error that is ErrNotFound or ErrDamaged; the walk goes on after it if the loop does.
func (c *Cache) Objects(ctx context.Context, want Content) iter.Seq2[Object, error] {
	return c.walk(ctx, want, true)
}

func (c *Cache) walk(ctx context.Context, want Content, verify bool) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if want.ID.IsZero() {
			return
		}
		w := walker{c: c, verify: verify, seen: map[ID]bool{}, yield: yield}
		if want.Dir {
			w.tree(ctx, want.ID)
		} else {
			w.file(want.ID, want.Size)
		}
	}
}

type walker struct {
	c      *Cache
	verify bool
	seen   map[ID]bool
	yield  func(Object, error) bool
}

func (w *walker) file(id ID, size int64) bool {
	if w.seen[id] {
		return true
	}
	w.seen[id] = true
	if !w.verify {
		return w.yield(Object{ID: id, Size: size}, nil)
	}
	_, err := w.c.verify(id)
	return w.yield(Object{ID: id, Size: size}, err)
}

func (w *walker) tree(ctx context.Context, id ID) bool {
	if w.seen[id] {
		return true
	}
	w.seen[id] = true
	if err := ctx.Err(); err != nil {
		w.yield(Object{ID: id, Tree: true}, err)
		return false
	}
	t, err := w.c.readTree(id)
	if err != nil {
		return w.yield(Object{ID: id, Tree: true}, err)
	}
	for _, e := range t.Entries {
		switch {
		case e.Type == Dir && !w.tree(ctx, e.ID),
			(e.Type == File || e.Type == Exec) && !w.file(e.ID, e.Size):
			return false
		}
	}
	return w.yield(Object{ID: id, Tree: true, Size: int64(len(t.Encode()))}, nil)
}

// Open reads a file's bytes, or an encoded tree, and verifies them on the way: instead of io.EOF damage is
// ErrDamaged. What was read before that must not be used.
func (c *Cache) Open(id ID) (io.ReadCloser, error) {
	path := c.Path(id)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		path = c.treePath(id)
		f, err = os.Open(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("object %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &verified{f, blake3.New(), func() error {
		c.setAside(path, id)
		return damaged("object %s: its file was changed", id)
	}, id}, nil
}

// Append adds an object's bytes to b, verified: other bytes, or another number of them, are ErrDamaged. For what counts when
// tens of thousands of small objects are read: it is Open without a hasher, and with two system calls less, for each.
func (c *Cache) Append(b []byte, o Object) ([]byte, error) {
	path, start := c.ObjectPath(o), len(b)
	fd := -1
	err := retry(func() (err error) { fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); return err })
	if err == unix.ENOENT {
		return b, fmt.Errorf("object %s: %w", o.ID, ErrNotFound)
	}
	if err != nil {
		return b, pathError("open", path, err)
	}
	defer unix.Close(fd)
	b = slices.Grow(b, int(o.Size))
	for left := o.Size; left > 0; {
		n := 0
		if err := retry(func() (err error) { n, err = unix.Read(fd, b[len(b):len(b)+int(left)]); return err }); err != nil {
			return b[:start], pathError("read", path, err)
		}
		if n == 0 {
			break
		}
		b, left = b[:len(b)+n], left-int64(n)
	}
	if int64(len(b)-start) == o.Size && Sum(b[start:]) == o.ID {
		return b, nil
	}
	if !o.Tree {
		c.rehash(o.ID) // sets it aside, unless it is whoever told its size that was wrong
	} else if _, err := c.readTree(o.ID); err != nil {
		return b[:start], err
	}
	return b[:start], damaged("object %s: not the %d bytes that it should be", o.ID, o.Size)
}

// verified is a file that must hash to id by its end.
type verified struct {
	*os.File
	h    *blake3.Hasher
	fail func() error
	id   ID
}

// Read is os.File's, with the check at the end.
func (v *verified) Read(b []byte) (int, error) {
	n, err := v.File.Read(b)
	v.h.Write(b[:n])
	if err == io.EOF {
		var got ID
		v.h.Sum(got[:0])
		if got != v.id {
			return n, v.fail()
		}
	}
	return n, err
}

// WriteTo hides os.File's, which would bypass the check.
func (v *verified) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{v})
}
