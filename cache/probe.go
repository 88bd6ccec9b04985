package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// LinkTry is what came of one way to place a file.
type LinkTry struct {
	How string // as in Options.Link
	Err error  // nil: it works
}

// TryLinks makes a file in folder from, places it in folder to in each way that Options.Link knows, and removes
// all of it again. An error says that one of the folders cannot be written at all.
func TryLinks(from, to string) ([]LinkTry, error) {
	object, err := os.CreateTemp(from, tempPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("try links: %w", err)
	}
	defer os.Remove(object.Name())
	defer object.Close()
	dir, err := os.MkdirTemp(to, tempPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("try links: %w", err)
	}
	defer os.RemoveAll(dir)
	if _, err := object.WriteString("lpipe"); err != nil {
		return nil, fmt.Errorf("try links: %w", err)
	}
	path := func(how string) string { return filepath.Join(dir, how) }
	return []LinkTry{
		{"reflink", tryClone(object, path("reflink"))},
		{"hardlink", os.Link(object.Name(), path("hardlink"))},
		{"symlink", os.Symlink(object.Name(), path("symlink"))},
		{"copy", os.WriteFile(path("copy"), []byte("lpipe"), 0o666)},
	}, nil
}

func tryClone(object *os.File, path string) error {
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = errors.Join(clone(dst, object), dst.Close())
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		return errors.New("the file system has none")
	}
	return err
}

// linkFor is how content is placed on a device, before trying: what cannot work is left out.
func (c *Cache) linkFor(dev uint64) string {
	for _, l := range c.links {
		switch {
		case l == "reflink" && (dev != c.dev || c.cloneRefused()):
		case l == "hardlink" && dev != c.dev:
		default:
			return l
		}
	}
	return "copy"
}

// cloneRefused tries once whether the cache's file system has reflinks.
func (c *Cache) cloneRefused() bool {
	c.cloneOnce.Do(func() {
		c.noClone = true
		if f, err := os.OpenFile(c.in("lock"), os.O_RDWR, 0); err == nil {
			may := mayClone(f)
			f.Close()
			if !may {
				return
			}
		}
		a, err := c.disk.temp(c.in("tmp"))
		if err != nil {
			return
		}
		defer os.Remove(a.Name())
		defer a.Close()
		b, err := c.disk.temp(c.in("tmp"))
		if err != nil {
			return
		}
		defer os.Remove(b.Name())
		defer b.Close()
		a.WriteString("x")
		c.noClone = clone(b, a) != nil
	})
	return c.noClone
}
