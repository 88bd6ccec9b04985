package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Ignored reads .lpipeignore of a workspace and returns what it means: names that do not count as content of
// folders and are never code. One pattern a line, "#" begins a comment; a pattern with a slash is matched against the
// path in the workspace, one without against the name at any depth; one that ends in a slash means folders.
// __pycache__, *.pyc and .git are built in.
func Ignored(dir string) (func(path string, dir bool) bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, ".lpipeignore"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read .lpipeignore: %w", err)
	}
	var names, paths []ignorePattern
	for n, line := range strings.Split("__pycache__/\n*.pyc\n.git\n"+string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		pattern := ignorePattern{}
		pattern.text, pattern.folders = strings.CutSuffix(line, "/")
		if _, err := path.Match(pattern.text, ""); err != nil {
			return nil, fmt.Errorf(".lpipeignore line %d: %q is no pattern: %w", n-2, line, err)
		}
		if strings.Contains(pattern.text, "/") {
			pattern.text = strings.TrimPrefix(pattern.text, "/")
			paths = append(paths, pattern)
		} else {
			names = append(names, pattern)
		}
	}
	return func(at string, isDir bool) bool {
		name := filepath.Base(at)
		for _, p := range names {
			if ok, _ := path.Match(p.text, name); ok && (isDir || !p.folders) {
				return true
			}
		}
		if len(paths) == 0 {
			return false
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return false
		}
		for _, p := range paths {
			if (isDir || !p.folders) && matchPattern(p.text, filepath.ToSlash(rel)) {
				return true
			}
		}
		return false
	}, nil
}

type ignorePattern struct {
	text    string
	folders bool
}
