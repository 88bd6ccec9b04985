package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// RemoveLeftovers removes what placing path, or anything in it, left where it was killed. Nobody may place there meanwhile.
func (c *Cache) RemoveLeftovers(path string) error {
	err := c.removeLeftover(filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path)), path)
	if err != nil {
		return fmt.Errorf("remove leftovers: %w", err)
	}
	err = filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		name, temporary := strings.CutPrefix(filepath.Base(at), tempPrefix)
		if err != nil || !temporary {
			return err
		}
		if err := c.removeLeftover(at, filepath.Join(filepath.Dir(at), name)); err != nil || !d.IsDir() {
			return err
		}
		return fs.SkipDir
	})
	if err != nil {
		return fmt.Errorf("remove leftovers in %s: %w", path, err)
	}
	return nil
}

// removeLeftover removes what stands under a temporary name. Killed after the swap and before carry was done, it is the old
// folder, with the names that nobody but their owner knows: these come to their place first.
func (c *Cache) removeLeftover(temp, path string) error {
	old, err := lstat(temp)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if now, err := lstat(path); err == nil && old.dir() && now.dir() && c.ignore != nil {
		if err := c.carry(temp, path); err != nil {
			return err
		}
	}
	return c.disk.removeAll(temp)
}

// carry moves ignored names from an old folder to the same place in the new one.
func (c *Cache) carry(from, to string) error {
	names, err := os.ReadDir(from)
	if errors.Is(err, unix.ENOTDIR) {
		return nil // a file stood here
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		a, b := filepath.Join(from, n.Name()), filepath.Join(to, n.Name())
		switch {
		case c.ignore(to, n.Name(), n.IsDir()):
			if _, err := os.Lstat(b); err == nil {
				continue
			}
			if err := os.MkdirAll(to, 0o777); err != nil {
				return err
			}
			if err := os.Rename(a, b); err != nil {
				return err
			}
		case n.IsDir():
			if err := c.carry(a, b); err != nil {
				return err
			}
		}
	}
	return nil
}
