package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lpipe/cache"
)

// safe refuses an output's place if a link on the way to it leads out of the workspace: lpipe replaces what stands at
// an output's path, and must not do so to what is not the workspace's.
func (x *execution) safe(at string) error {
	parent := filepath.Dir(filepath.FromSlash(at))
	x.safeMu.Lock()
	defer x.safeMu.Unlock()
	if err, asked := x.safeDirs[parent]; asked {
		return err
	}
	err := staysInside(x.dir, parent)
	x.safeDirs[parent] = err
	return err
}

func staysInside(dir, parent string) error {
	if filepath.IsAbs(parent) {
		return nil // a source with an absolute path, which the pipeline names as such
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	at := dir
	for _, part := range strings.Split(filepath.ToSlash(parent), "/") {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		real, err := filepath.EvalSymlinks(at)
		if err != nil {
			return fmt.Errorf("follow link %s: %w", at, err)
		}
		if real != root && !strings.HasPrefix(real, root+string(filepath.Separator)) {
			return fmt.Errorf("%s is a link to %s, outside the workspace: outputs cannot be written through it", at, real)
		}
	}
	return nil
}

// keepEdit sees to it that replacing an output loses nothing: content that neither the lock nor the cache knows is
// somebody's work. It goes into the cache, pinned, and its id is told.
func (r *Runner) keepEdit(ctx context.Context, n *Node, out *StepOutput) error {
	at, name := r.Plan.abs(out.Path), ""
	if n != nil {
		name = n.Step.Name // nil: a source
	}
	scan, err := r.Cache.Scan(ctx, r.State, at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err == nil {
		if n != nil && r.lock.Stages[n.Step.Name].Out[out.Name].Content == scan.Content || r.Cache.Has(scan.ID) || r.otherLocks()[scan.Content] {
			return nil
		}
		// The pin first: killed between the two, we would find the edit in the cache and take it for a known one.
		err := r.pin(scan.Content, out.Path)
		content := scan.Content
		if err == nil {
			content, err = r.Cache.Add(ctx, r.State, at, cache.AddOptions{Move: true})
		}
		if err == nil && content != scan.Content {
			err = r.pin(content, out.Path) // it was changed once more meanwhile
		}
		if err != nil {
			return fmt.Errorf("keep %s, which was changed outside lpipe: %w", out.Path, writeError(r.dir, err))
		}
		r.warn(name, "%s was changed outside lpipe; the edit is kept in the cache, pinned, as %s (%s)", out.Path, content.ID, r.Cache.Path(content.ID))
		return nil
	}
	// What the cache refuses (sockets, links that leave the folder) is moved instead.
	aside := r.path("edits", r.Now().UTC().Format("20060102-150405.000000"), filepath.FromSlash(out.Path))
	err = replace(at, aside)
	if err == nil {
		err = syncUp(filepath.Dir(aside))
	}
	if err != nil {
		return fmt.Errorf("keep %s, which was changed outside lpipe: %w", out.Path, writeError(r.dir, err))
	}
	r.warn(name, "%s was changed outside lpipe; it is moved to %s", out.Path, r.rel(aside))
	return nil
}

// otherLocks are the outputs that the locks of this workspace's profiles name.
func (r *Runner) otherLocks() map[cache.Content]bool {
	named := map[cache.Content]bool{}
	files, _ := lockFiles(r.dir) // without them an edit is kept that need not be
	for _, path := range files {
		lock, err := ReadLock(path)
		if err != nil {
			continue
		}
		for _, stage := range lock.Stages {
			for _, out := range stage.Out {
				named[out.Content] = true
			}
		}
	}
	return named
}

// lockFiles lists the lock files of a workspace, all profiles'. An error is no empty list: what gc keeps hangs on it.
func lockFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for locks: %w", err)
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "pipeline") && strings.HasSuffix(e.Name(), ".lock") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// replace moves a file or folder to a path, over what stands there.
func replace(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if err == nil {
		return nil
	}
	if standsAt(to) {
		if err := removeAll(to); err != nil {
			return err
		}
		return os.Rename(from, to)
	}
	return err
}

// removeAll removes a file or folder, folders without write permission in it included.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(at, 0o777)
		}
		return nil
	})
	return os.RemoveAll(path)
}

func standsAt(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
