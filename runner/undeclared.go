package runner

import (
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// mark tells one version of a file from another, as far as a warning needs it.
type mark struct {
	size     int64
	modified time.Time
	inode    uint64
}

// marks are the files in the workspace that belong to no stage's outputs: in all of it where a stage is only watched,
// else where the sandbox has to let it write.
func (j *job) marks(c *confinement) map[string]mark {
	if c == nil {
		return nil
	}
	roots := []string{j.dir}
	if c.enforced {
		roots = c.rules.Make
	}
	found := map[string]mark{}
	for _, root := range roots {
		filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it went away, or nobody can look: no warning then
			}
			rel := j.rel(at)
			if rel == ".lpipe" || rel != "." && j.ignore != nil && j.ignore(filepath.Dir(at), d.Name(), d.IsDir()) {
				return skip(d)
			}
			if _, made := j.Plan.above(rel); made || rel == path.Base(LockPath("", j.Pipeline.Profile)) {
				return skip(d)
			}
			if info, err := d.Info(); err == nil && !d.IsDir() {
				one := mark{size: info.Size(), modified: info.ModTime()}
				if s, ok := info.Sys().(*syscall.Stat_t); ok {
					one.inode = uint64(s.Ino)
				}
				found[rel] = one
			}
			return nil
		})
	}
	return found
}

// tellUndeclared warns of files that are not as they were before the stage ran.
func (j *job) tellUndeclared(c *confinement, before map[string]mark) {
	if c == nil {
		return
	}
	var written []string
	for rel, now := range j.marks(c) {
		if was, known := before[rel]; !known || was != now {
			written = append(written, rel)
		}
	}
	if len(written) == 0 {
		return
	}
	slices.Sort(written)
	more := ""
	if len(written) > 10 {
		written, more = written[:10], " and more"
	}
	j.warn(j.node.Step.Name, "while it ran, files were written that are not its outputs: %s%s", strings.Join(written, ", "), more)
}
