package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Register notes a project that uses this cache, so that a gc started from another one can ask what it needs.
func (c *Cache) Register(workspace string) error {
	abs, err := filepath.Abs(workspace)
	if err != nil {
		return fmt.Errorf("register project %s: %w", workspace, err)
	}
	path := c.projectPath(abs)
	if text, err := os.ReadFile(path); err == nil && string(text) == abs+"\n" {
		return nil
	}
	end, err := c.beginNow()
	if err != nil {
		return err
	}
	defer end()
	if err := c.disk.writeFile(c.in("tmp"), path, []byte(abs+"\n"), 0o644); err != nil {
		return fmt.Errorf("register project %s: %w", workspace, err)
	}
	return nil
}

// Unregister forgets a project.
func (c *Cache) Unregister(workspace string) error {
	abs, err := filepath.Abs(workspace)
	if err == nil {
		err = c.disk.remove(c.projectPath(abs))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unregister project %s: %w", workspace, err)
	}
	return nil
}

// Projects lists the registered workspaces, sorted, those that no longer exist included. A damaged entry is ErrDamaged:
// what that project needs cannot be asked.
func (c *Cache) Projects() ([]string, error) {
	files, err := os.ReadDir(c.in("projects"))
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	var list []string
	for _, f := range files {
		dir, err := c.readProject(f.Name())
		if err != nil {
			return nil, fmt.Errorf("list projects: %w", err)
		}
		list = append(list, dir)
	}
	slices.Sort(list)
	return list, nil
}

func (c *Cache) readProject(name string) (dir string, err error) {
	text, err := os.ReadFile(c.in("projects", name))
	if err != nil {
		return "", err
	}
	if !names(text, name) {
		return "", damaged("%s: it is not the path that its name is the hash of; lpipe fsck --repair", c.in("projects", name))
	}
	return strings.TrimSuffix(string(text), "\n"), nil
}

// names tells whether a file in projects holds the path that its name is made of.
func names(text []byte, name string) bool {
	path, whole := bytes.CutSuffix(text, []byte("\n"))
	return whole && Sum(path).String()[:32] == name
}

// projects checks who is registered. A path with one wrong bit is mended; otherwise the entry goes, and comes back with the
// project's next command.
func (f *checker) projects(context.Context) error {
	files, err := os.ReadDir(f.c.in("projects"))
	if err != nil {
		return err
	}
	for _, file := range files {
		_, err := f.c.readProject(file.Name())
		if !errors.Is(err, ErrDamaged) {
			if err != nil {
				return err
			}
			continue
		}
		path := f.c.in("projects", file.Name())
		f.problem(Problem{Path: path, What: "project", Err: err}, func() error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if mended, ok := Mend(text, func(b []byte) bool { return names(b, file.Name()) }); ok {
				return f.c.disk.writeFile(f.c.in("tmp"), path, mended, 0o644)
			}
			return f.c.disk.remove(path)
		})
	}
	return nil
}

func (c *Cache) projectPath(abs string) string {
	return c.in("projects", Sum([]byte(abs)).String()[:32])
}

// beginNow is begin for calls that have no context: they wait for a gc as long as it takes.
func (c *Cache) beginNow() (func(), error) { return c.begin(context.Background()) }
