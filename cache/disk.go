package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// disk holds the operations that change files, so that a test can make the n-th of them fail.
type disk struct {
	fault func(op, path string) error // nil outside of tests
	known *durable
}

// durable are folders whose own names this process has made durable. One that another process or goroutine has just
// made may not be: whoever puts something into it sees to that first.
type durable struct{ folders sync.Map }

// parent is the folder that must be synced for dir's own name to be durable; "" where that is done.
func (d disk) parent(dir string) string {
	if d.known != nil {
		if _, done := d.known.folders.Load(dir); done {
			return ""
		}
	}
	return filepath.Dir(dir)
}

func (d disk) named(dir string) {
	if d.known != nil {
		d.known.folders.Store(dir, true)
	}
}

// mkdirDurable makes a folder with its parents, and the names of those that were missing durable.
func (d disk) mkdirDurable(path string) error {
	var missing []string
	for at := path; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, at)
	}
	if err := d.mkdirAll(path); err != nil {
		return err
	}
	for _, at := range missing {
		if err := d.syncPath(filepath.Dir(at)); err != nil {
			return err
		}
	}
	return nil
}

func (d disk) check(op, path string) error {
	if d.fault == nil {
		return nil
	}
	if err := d.fault(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// temp makes a new file in dir that only this process knows.
func (d disk) temp(dir string) (*os.File, error) {
	if err := d.check("create", dir); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, "t-*")
}

// create makes path, which must not exist, with the permissions that the user's umask leaves of perm.
func (d disk) create(path string, perm fs.FileMode) (*os.File, error) {
	if err := d.check("create", path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

func (d disk) mkdirAll(path string) error {
	if err := d.check("mkdir", path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o777)
}

func (d disk) link(from, to string) error {
	if err := d.check("link", to); err != nil {
		return err
	}
	return os.Link(from, to)
}

// linkAt links a name in an open folder, whose path is dir.
func (d disk) linkAt(folder int, dir, name, to string) error {
	if err := d.check("link", to); err != nil {
		return err
	}
	if err := retry(func() error { return unix.Linkat(folder, name, unix.AT_FDCWD, to, 0) }); err != nil {
		return &os.LinkError{Op: "link", Old: dir + "/" + name, New: to, Err: err}
	}
	return nil
}

// linkInto links a file to a name in an open folder, whose path is dir.
func (d disk) linkInto(from string, folder int, dir, name string) error {
	if d.fault != nil {
		if err := d.check("link", dir+"/"+name); err != nil {
			return err
		}
	}
	if err := retry(func() error { return unix.Linkat(unix.AT_FDCWD, from, folder, name, 0) }); err != nil {
		return &os.LinkError{Op: "link", Old: from, New: dir + "/" + name, Err: err}
	}
	return nil
}

// chmodAt changes the permissions of a file in an open folder, whose path is dir.
func (d disk) chmodAt(folder int, dir, name string, mode uint32) error {
	if d.fault != nil {
		if err := d.check("chmod", dir+"/"+name); err != nil {
			return err
		}
	}
	if err := retry(func() error { return unix.Fchmodat(folder, name, mode, 0) }); err != nil {
		return pathError("chmod", dir+"/"+name, err)
	}
	return nil
}

// openFolder keeps the folder open that was asked for last.
type openFolder struct {
	path string
	fd   int // -1: none
}

func (o *openFolder) open(path string) (err error) {
	if o.fd >= 0 && o.path == path {
		return nil
	}
	o.close()
	err = retry(func() (err error) {
		o.fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		o.fd = -1
		return pathError("open", path, err)
	}
	o.path = path
	return nil
}

func (o *openFolder) close() {
	if o.fd >= 0 {
		unix.Close(o.fd)
		o.fd = -1
	}
}

func (d disk) symlink(text, path string) error {
	if err := d.check("symlink", path); err != nil {
		return err
	}
	return os.Symlink(text, path)
}

func (d disk) rename(from, to string) error {
	if err := d.check("rename", to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// renameNew is rename where nothing has the new name yet, else fs.ErrExist; on file systems that cannot tell it is rename.
func (d disk) renameNew(from, to string) error {
	if err := d.check("rename", to); err != nil {
		return err
	}
	err := renameNew(from, to)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) {
		return os.Rename(from, to)
	}
	return err
}

func (d disk) chmod(path string, mode fs.FileMode) error {
	if err := d.check("chmod", path); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func (d disk) remove(path string) error {
	if err := d.check("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

// removeAll removes a folder with what is in it, folders without write permission included.
func (d disk) removeAll(path string) error {
	if err := d.check("remove", path); err != nil {
		return err
	}
	err := os.RemoveAll(path)
	if errors.Is(err, fs.ErrPermission) {
		filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
		err = os.RemoveAll(path)
	}
	return err
}

// write is what io.Copy and Write go through.
func (d disk) write(f *os.File, b []byte) (int, error) {
	if err := d.check("write", f.Name()); err != nil {
		return 0, err
	}
	return f.Write(b)
}

func (d disk) sync(f *os.File) error {
	if err := d.check("sync", f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

// exchange swaps two paths in one step where the system can; else old's name is free for a moment.
func (d disk) exchange(fresh, old string) error {
	if err := d.check("rename", old); err != nil {
		return err
	}
	err := swap(fresh, old)
	if err == nil || !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	aside := fresh + "-old"
	if err := os.Rename(old, aside); err != nil {
		return err
	}
	if err := os.Rename(fresh, old); err != nil {
		os.Rename(aside, old) // back to where it stood
		return err
	}
	return os.Rename(aside, fresh)
}

// writeFile writes a small file whole or not at all: temporary file in dir, sync, rename, sync of the folder.
func (d disk) writeFile(tmp, path string, data []byte, mode fs.FileMode) (err error) {
	f, err := d.temp(tmp)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := d.write(f, data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := d.sync(f); err != nil {
		return err
	}
	if err := d.rename(f.Name(), path); errors.Is(err, fs.ErrNotExist) {
		if err := d.mkdirAll(filepath.Dir(path)); err != nil {
			return err
		}
		if err := d.rename(f.Name(), path); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if parent := d.parent(dir); parent != "" {
		if err := d.syncPath(parent); err != nil {
			return err
		}
		d.named(dir)
	}
	return d.syncPath(dir)
}
