package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"lpipe/cache"
)

// Dir is a bucket in a folder, on a network share say.
type Dir struct {
	root  string
	known sync.Map // folders whose own names are durable
}

var _ Bucket = (*Dir)(nil)

// NewDir uses a folder. The folder itself is made by the first Put, its parent must exist: a share that is not
// mounted must not be mistaken for an empty one.
func NewDir(path string) (*Dir, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("remote folder %s: %w", path, err)
	}
	return &Dir{root: root}, nil
}

// String is the folder.
func (d *Dir) String() string { return d.root }

func (d *Dir) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Get implements Bucket.
func (d *Dir) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, d.fail("get", name, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, d.fail("get", name, err)
	}
	if length < 0 {
		return f, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, length), f}, ctx.Err()
}

// Put implements Bucket: temporary file, sync, rename, sync of the folder.
func (d *Dir) Put(ctx context.Context, name string, r io.ReadSeeker) error {
	return d.put(ctx, name, r, os.Rename)
}

// PutNew implements Bucket by a link, which fails where the name is taken; where there are no links by looking first.
func (d *Dir) PutNew(ctx context.Context, name string, r io.ReadSeeker) (bool, error) {
	if _, err := os.Lstat(d.path(name)); err == nil {
		return false, nil
	}
	err := d.put(ctx, name, r, func(temp, path string) error {
		err := os.Link(temp, path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			os.Remove(temp)
			return err
		}
		return os.Rename(temp, path)
	})
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// replaceLock is held by who replaces something, so that nothing else does between its look and its rename.
const replaceLock = "tmp/lock"

// Replace implements Bucket under a lock, and without one where the share knows none.
func (d *Dir) Replace(ctx context.Context, name string, old []byte, r io.ReadSeeker) (bool, error) {
	if _, err := os.Lstat(d.path(name)); errors.Is(err, fs.ErrNotExist) {
		return false, nil // and no lock, whose folders would be made
	}
	lock, err := cache.LockFile(ctx, d.path(replaceLock), true, nil)
	if errors.Is(err, cache.ErrLocked) {
		return false, d.fail("put", name, err)
	}
	defer lock.Release()
	there, err := os.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, d.fail("get", name, err)
	}
	same, err := isText(there, old)
	if err != nil {
		return false, d.fail("get", name, err)
	}
	if !same {
		return false, nil
	}
	err = d.Put(ctx, name, r)
	return err == nil, err
}

func (d *Dir) put(ctx context.Context, name string, r io.ReadSeeker, settle func(temp, path string) error) (err error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	path := d.path(name)
	if err := d.parents(filepath.Dir(path)); err != nil {
		return d.fail("put", name, err)
	}
	f, err := os.CreateTemp(d.path("tmp"), "t-*")
	if err != nil {
		return d.fail("put", name, err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, readerWith(ctx, r)); err != nil {
		if isOurs(err) {
			return err
		}
		return d.fail("put", name, err)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return d.fail("put", name, err)
	}
	if err := settle(f.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		return d.fail("put", name, err)
	}
	return d.settled(filepath.Dir(path))
}

// readerWith stops between two reads when ctx ends.
func readerWith(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func (d *Dir) parents(dir string) error {
	if err := os.Mkdir(d.root, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, one := range []string{d.path("tmp"), dir} {
		if err := os.MkdirAll(one, 0o777); err != nil {
			return err
		}
	}
	return nil
}

// settled makes what stands in a folder durable, and the first time the folder's own name, up to the root's.
func (d *Dir) settled(dir string) error {
	if err := d.syncDir(dir); err != nil {
		return err
	}
	for at := dir; at != filepath.Dir(d.root); at = filepath.Dir(at) {
		if _, done := d.known.Load(at); done {
			break
		}
		if err := d.syncDir(filepath.Dir(at)); err != nil {
			return err
		}
		d.known.Store(at, true)
	}
	return nil
}

func (d *Dir) syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return d.fail("put", "", err)
	}
	defer f.Close()
	err = f.Sync()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrPermission) {
		return d.fail("put", "", err)
	}
	return nil // some shares cannot sync a folder, and keep its names without
}

// AbandonUploads removes what puts that were interrupted before a time left behind.
func (d *Dir) AbandonUploads(ctx context.Context, before time.Time) (int, error) {
	entries, err := os.ReadDir(d.path("tmp"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, d.fail("delete", "tmp/", err)
	}
	removed := 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) || "tmp/"+e.Name() == replaceLock {
			continue
		}
		if err := d.Delete(ctx, "tmp/"+e.Name()); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// List implements Bucket.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := d.reachable(); err != nil {
			yield(Item{}, d.fail("list", prefix, err))
			return
		}
		start, _ := filepath.Split(prefix)
		err := filepath.WalkDir(d.path(start), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err := errors.Join(err, ctx.Err()); err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(d.root, path)
			name := filepath.ToSlash(rel)
			if err != nil || !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, "tmp/") {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if !yield(Item{name, info.Size(), info.ModTime()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Item{}, d.fail("list", prefix, err))
		}
	}
}

// reachable tells an empty folder, which may not be made yet, from one whose parent is missing too.
func (d *Dir) reachable() error {
	info, err := os.Stat(d.root)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(d.root))
	}
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errAbsent
	}
	return err
}

// errAbsent is not fs.ErrNotExist, which means a name in the bucket.
var errAbsent = errors.New("neither the folder nor its parent exists")

// Delete implements Bucket.
func (d *Dir) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d.fail("delete", name, err)
		}
	}
	return ctx.Err()
}

func (d *Dir) fail(op, name string, err error) error {
	e := &Error{Kind: Other, Op: op, Name: name, Where: d.root, Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Remedy = Credentials, "ask its owner for the right, or set another path in the remote block"
	case errors.Is(err, errAbsent) || op == "put" && errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Remedy = BadBucket, "mount it, create it, or set another path in the remote block"
	}
	return e
}
