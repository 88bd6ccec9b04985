package runner

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/cache"
)

// Within finds the recorded folder, an output or an added source, that a path lies in, and where in it.
func (r *Runner) Within(target string) (folder NamedContent, rel string, ok bool, err error) {
	if err := r.needLock(); err != nil {
		return folder, "", false, err
	}
	at, err := r.inside(target)
	if err != nil || !strings.Contains(at, "/") {
		return folder, "", false, nil // a stage's name, or no path of ours: others say so
	}
	for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
		if source, ok := r.lock.Sources[dir]; ok && source.Stored && source.Content.Dir {
			return NamedContent{dir, source.Content}, at[len(dir)+1:], true, nil
		}
		if out, ok := r.Plan.above(dir); ok && out.Path == dir {
			content := r.lock.Stages[out.node.Step.Name].Out[out.Name].Content
			return NamedContent{dir, content}, at[len(dir)+1:], content.Dir, nil
		}
	}
	return folder, "", false, nil
}

// PlacePart puts part of a recorded folder at its path. An edit in the way is kept in the cache first.
func (r *Runner) PlacePart(ctx context.Context, at string, want cache.Content) error {
	missing := &MissingError{}
	err := r.exclusive(ctx, func() error {
		if err := r.needLock(); err != nil {
			return err
		}
		var done []CheckedOut
		x := r.newExecution(nil, ReproOptions{NoRemote: true})
		return x.checkout(ctx, nil, &StepOutput{Path: at, Cache: true}, want, &done, missing)
	})
	if err == nil && len(missing.Paths) > 0 {
		err = missing
	}
	return errors.Join(err, r.saveState())
}

// isPart tells whether a folder holds nothing but what a recorded one holds in the same places, as after a pull of a part of it:
// replacing it by the whole loses nothing.
func (r *Runner) isPart(ctx context.Context, at string, whole cache.Content) bool {
	names, err := os.ReadDir(at)
	if err != nil || !whole.Dir {
		return false
	}
	tree, err := r.Cache.ReadTree(whole.ID)
	if err != nil {
		return false
	}
	for _, name := range names {
		i := slices.IndexFunc(tree.Entries, func(e cache.Entry) bool { return e.Name == name.Name() })
		if i < 0 || !r.isEntry(ctx, filepath.Join(at, name.Name()), tree.Entries[i]) {
			return false
		}
	}
	return true
}

func (r *Runner) isEntry(ctx context.Context, at string, e cache.Entry) bool {
	switch e.Type {
	case cache.Dir:
		return r.isPart(ctx, at, e.Content())
	case cache.Link:
		text, err := os.Readlink(at)
		return err == nil && text == e.Link
	}
	scan, err := r.Cache.Scan(ctx, r.State, at)
	return err == nil && scan.Content == e.Content()
}
