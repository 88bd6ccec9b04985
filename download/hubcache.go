package download

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hubCache is the folder that Hugging Face's tools share: https://huggingface.co/docs/hub/local-cache. For a repository,
//
//	<cache>/models--ORG--NAME/blobs/<hash>
//	<cache>/models--ORG--NAME/refs/<revision>            the commit, as text
//	<cache>/models--ORG--NAME/snapshots/<commit>/<path>  a relative link to the blob
//	<cache>/.locks/models--ORG--NAME/<hash>.lock         held while the blob is written
type hubCache struct{ dir string }

const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by lpipe for the Hugging Face hub cache.\n# For information about cache directory tags, see https://bford.info/cachedir/\n"

// prepare makes the cache's folder, marked for backup programs to leave out.
func (h hubCache) prepare() error {
	if err := os.MkdirAll(h.dir, 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(h.dir, "CACHEDIR.TAG"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) {
		return nil // one that may only be read serves what it has
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(cacheTag)
	return errors.Join(err, f.Close())
}

func (h hubCache) blob(r Repo, hash string) string {
	return filepath.Join(h.dir, r.folder(), "blobs", hash)
}

func (h hubCache) snapshot(r Repo, commit string) string {
	return filepath.Join(h.dir, r.folder(), "snapshots", commit)
}

// setRef records what commit a branch stood at.
func (h hubCache) setRef(r Repo, revision, commit string) error {
	at := filepath.Join(h.dir, r.folder(), "refs", filepath.FromSlash(revision))
	if revision == commit || !filepath.IsLocal(filepath.FromSlash(revision)) {
		return nil
	}
	if old, err := os.ReadFile(at); err == nil && string(old) == commit {
		return nil
	}
	if err := writeFile(at, []byte(commit)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// link makes a snapshot's file: a relative link to its blob, or where links cannot be made the file itself.
func (h hubCache) link(r Repo, commit string, f File) error {
	at := filepath.Join(h.snapshot(r, commit), filepath.FromSlash(f.Path))
	up := strings.Repeat("../", 2+strings.Count(f.Path, "/"))
	to := filepath.FromSlash(path.Join(up, "blobs", f.Hash))
	if old, err := os.Readlink(at); err == nil && old == to {
		return nil
	} else if err != nil && check(at, f) == nil { // the file itself, as the Python tools keep it where links cannot be made
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		return err
	}
	temp := at + ".lpipe.new"
	os.Remove(temp)
	if err := os.Symlink(to, temp); err != nil {
		if err := placeFile(h.blob(r, f.Hash), temp); err != nil {
			return err
		}
	}
	return os.Rename(temp, at)
}

// lock takes a blob's lock, as the Python tools do (flock on a file that either may remove).
func (h hubCache) lock(ctx context.Context, r Repo, hash string) (release func(), err error) {
	at := filepath.Join(h.dir, ".locks", r.folder(), hash+".lock")
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(at, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(f, at) {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "lock", Path: at, Err: err}
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// writeFile replaces a small file by rename, durably.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".lpipe.*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// syncDir makes renames in a folder durable, where the file system can.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
