package cache

import (
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

// Projects lists the registered workspaces, sorted, those that no longer exist included.
func (c *Cache) Projects() ([]string, error) {
	files, err := os.ReadDir(c.in("projects"))
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	var list []string
	for _, f := range files {
		text, err := os.ReadFile(c.in("projects", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("list projects: %w", err)
		}
		list = append(list, strings.TrimSuffix(string(text), "\n"))
	}
	slices.Sort(list)
	return list, nil
}

func (c *Cache) projectPath(abs string) string {
	return c.in("projects", Sum([]byte(abs)).String()[:32])
}

// beginNow is begin for calls that have no context: they wait for a gc as long as it takes.
func (c *Cache) beginNow() (func(), error) { return c.begin(context.Background()) }
