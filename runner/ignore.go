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
func Ignored(dir string) (func(folder, name string, isDir bool) bool, error) {
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
		pattern := newIgnorePattern(line)
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
	return func(folder, name string, isDir bool) bool {
		for i := range names {
			if names[i].matches(name, isDir) {
				return true
			}
		}
		if len(paths) == 0 {
			return false
		}
		rel, err := filepath.Rel(dir, filepath.Join(folder, name))
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

// ignorePattern is one line. The usual ones, a plain name and a star before a plain ending, are compared as such: every
// name of every folder is asked about.
type ignorePattern struct {
	text    string
	folders bool // only these
	star    bool // text is "*" and ending
	plain   bool // text, or ending, has nothing that a pattern gives a meaning
	ending  string
}

func newIgnorePattern(line string) ignorePattern {
	p := ignorePattern{}
	p.text, p.folders = strings.CutSuffix(line, "/")
	p.ending, p.star = strings.CutPrefix(p.text, "*")
	p.plain = !strings.ContainsAny(p.ending, `*?[\/`)
	return p
}

// matches is path.Match of a name.
func (p *ignorePattern) matches(name string, isDir bool) bool {
	switch {
	case p.folders && !isDir:
		return false
	case p.plain && p.star:
		return strings.HasSuffix(name, p.ending)
	case p.plain:
		return name == p.text
	}
	ok, _ := path.Match(p.text, name)
	return ok
}
