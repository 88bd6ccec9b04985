package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"lpipe/cache"
)

// Updated is a source that Update has looked at.
type Updated struct {
	Name    string        `json:"name"`
	Path    string        `json:"path"`
	Old     string        `json:"old,omitempty"` // the pin before
	Pin     string        `json:"pin"`
	Changed bool          `json:"changed"`
	Content cache.Content `json:"content"`
}

// Update moves downloads to what their blocks stand for now: a branch's head, the file at an address. What did not
// move is left alone.
func (r *Runner) Update(ctx context.Context, names []string) ([]Updated, error) {
	sources, err := r.downloads(names)
	if err != nil {
		return nil, err
	}
	var done []Updated
	err = r.exclusive(ctx, func() error {
		for _, s := range sources {
			var one Updated
			err := r.changeLock(func(lock *Lock) (err error) {
				one, err = r.updateOne(ctx, lock, s)
				return err
			})
			if err != nil {
				return err
			}
			done = append(done, one)
		}
		return nil
	})
	return done, errors.Join(err, r.saveState())
}

func (r *Runner) updateOne(ctx context.Context, lock *Lock, s *Source) (Updated, error) {
	v := &view{Runner: r}
	record, fits := v.pinned(s)
	one := Updated{Name: s.Name, Path: s.Path, Old: r.pinFor(s, record), Pin: record.Pin, Content: record.Content}
	downloader := r.downloader(s)
	if downloader == nil {
		return one, s.notPinned()
	}
	pin, err := downloader.Resolve(ctx, s)
	if err != nil {
		return one, fmt.Errorf("source.%s: %w", s.Name, err)
	}
	if fits && pin == record.Pin {
		return one, nil
	}
	moved, err := r.download(ctx, s, pin, false, record)
	if err != nil {
		return one, err
	}
	recorded, stages, err := r.follow(ctx, s, moved)
	if err != nil {
		return one, err
	}
	maps.Copy(lock.Sources, recorded)
	maps.Copy(lock.Stages, stages)
	one.Pin, one.Content, one.Changed = moved.Pin, moved.Content, moved.Content != record.Content || moved.Pin != record.Pin
	return one, nil
}

// downloads finds the sources that are downloaded, by name or path.
func (r *Runner) downloads(names []string) ([]*Source, error) {
	var all []string
	for _, s := range r.Pipeline.Sources {
		if s.fetchable() {
			all = append(all, s.Name)
		}
	}
	if len(names) == 0 {
		if len(all) == 0 {
			return nil, usage("no source of this pipeline is downloaded (source blocks with hf, url, s3, mlflow or experiment)")
		}
		return nil, usage("say which source to update: %s", strings.Join(all, ", "))
	}
	var found []*Source
	for _, name := range names {
		i := slices.IndexFunc(r.Pipeline.Sources, func(s *Source) bool { return s.Name == name || s.Path == path.Clean(name) })
		switch {
		case i < 0:
			return nil, usage("there is no source %q; those that can be updated: %s", name, strings.Join(all, ", "))
		case r.Pipeline.Sources[i].Download == "":
			return nil, usage("source.%s is a path here, and is never downloaded: its content counts as it stands", name)
		case !r.Pipeline.Sources[i].fetchable():
			return nil, usage("source.%s: this version does not download from %s", name, r.Pipeline.Sources[i].Download)
		}
		found = append(found, r.Pipeline.Sources[i])
	}
	return found, nil
}
