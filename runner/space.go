package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"lpipe/cache"
)

// StageSpace is what a stage's recorded outputs take.
type StageSpace struct {
	Stage   string         `json:"stage"`
	Bytes   int64          `json:"bytes"`
	Stored  int64          `json:"stored_bytes"` // in the cache, what occurs twice counted once
	Outputs []ContentSpace `json:"outputs"`
}

// ContentSpace is what one output or source takes. Bytes are those of its files; Stored are those that the cache holds
// of it: fewer where files are the same, or where they are not in this cache.
type ContentSpace struct {
	Name   string `json:"name,omitempty"`
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Files  int64  `json:"files"`
	Stored int64  `json:"stored_bytes"`
}

// StageSpaces tells what the recorded outputs of the targets take, and the sources that were added.
func (r *Runner) StageSpaces(ctx context.Context, targets []string) (stages []StageSpace, sources []ContentSpace, err error) {
	if err := r.needLock(); err != nil {
		return nil, nil, err
	}
	nodes, added, err := r.checkoutTargets(targets)
	if err != nil {
		return nil, nil, err
	}
	stages, sources = []StageSpace{}, []ContentSpace{}
	for _, n := range nodes {
		recorded, locked := r.lock.Stages[n.Step.Name]
		if !locked {
			continue
		}
		stage, seen := StageSpace{Stage: n.Step.Name, Outputs: []ContentSpace{}}, map[cache.ID]bool{}
		for i := range n.Step.Out {
			name := n.Step.Out[i].Name
			one, err := r.contentSpace(ctx, name, recorded.Out[name].Path, recorded.Out[name].Content, seen)
			if err != nil {
				return nil, nil, err
			}
			stage.Outputs = append(stage.Outputs, one)
			stage.Bytes, stage.Stored = stage.Bytes+one.Bytes, stage.Stored+one.Stored
		}
		stages = append(stages, stage)
	}
	for _, at := range added {
		one, err := r.contentSpace(ctx, "", at, r.lock.Sources[at].Content, map[cache.ID]bool{})
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, one)
	}
	return stages, sources, nil
}

func (r *Runner) contentSpace(ctx context.Context, name, path string, content cache.Content, seen map[cache.ID]bool) (ContentSpace, error) {
	one := ContentSpace{Name: name, Path: path, Bytes: content.Size, Files: content.Files}
	for object, err := range r.Cache.Objects(ctx, content) {
		if err != nil && !errors.Is(err, cache.ErrNotFound) && !errors.Is(err, cache.ErrDamaged) {
			return one, err
		}
		if err == nil && !seen[object.ID] {
			seen[object.ID] = true
			one.Stored += object.Size
		}
	}
	return one, nil
}

// Leftover is a folder in .lpipe that serves only to look back, or to go on from: a run's events and logs, or the
// scratch folder of a key that has not succeeded.
type Leftover struct {
	What  string    `json:"what"` // "scratch" or "run"
	Name  string    `json:"name"` // key or run
	Last  time.Time `json:"last"` // when something in it was last written
	Bytes int64     `json:"bytes"`
}

// LeftoverOptions say which leftovers may go.
type LeftoverOptions struct {
	Scratch  time.Duration // scratch folders that nothing was written to for so long
	Runs     time.Duration // runs that are older
	KeepRuns int           // and all but the newest of them; 0: their age alone counts
}

// Leftovers lists what the workspace has, oldest first.
func (r *Runner) Leftovers() ([]Leftover, error) {
	var all []Leftover
	for what, folder := range map[string]string{"scratch": "scratch", "run": "runs"} {
		for _, name := range runIDs(r.path(folder)) {
			last, bytes, err := folderSpace(r.path(folder, name))
			if err != nil {
				return nil, fmt.Errorf("look at .lpipe/%s/%s: %w", folder, name, err)
			}
			all = append(all, Leftover{what, name, last, bytes})
		}
	}
	slices.SortFunc(all, func(a, b Leftover) int { return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// Old picks the leftovers that may go.
func (o LeftoverOptions) Old(all []Leftover, now time.Time) []Leftover {
	var old []Leftover
	runs := 0
	for _, one := range slices.Backward(all) { // the newest first
		age, most := now.Sub(one.Last), o.Scratch
		if one.What == "run" {
			most = o.Runs
			runs++
		}
		if age >= most || one.What == "run" && o.KeepRuns > 0 && runs > o.KeepRuns {
			old = append(old, one)
		}
	}
	slices.Reverse(old)
	return old
}

// ErrBusy says that another lpipe works in the workspace.
var ErrBusy = errors.New("another lpipe works in this workspace")

// RemoveLeftovers removes those that may go. While another lpipe works here it removes nothing and does not wait, since
// that may take days: the error is ErrBusy.
func (r *Runner) RemoveLeftovers(ctx context.Context, o LeftoverOptions) ([]Leftover, error) {
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	held, err := cache.LockFile(soon, r.path("lock"), true, nil)
	if err != nil {
		if ctx.Err() == nil && soon.Err() != nil {
			return nil, ErrBusy
		}
		return nil, cmp.Or(ctx.Err(), err)
	}
	defer held.Release()
	all, err := r.Leftovers()
	if err != nil {
		return nil, err
	}
	if err := r.removeTemporary(ctx); err != nil {
		return nil, err
	}
	old := o.Old(all, r.Now())
	for i, one := range old {
		folder := "scratch"
		if one.What == "run" {
			folder = "runs"
		}
		if err := removeAll(r.path(folder, one.Name)); err != nil {
			return old[:i], fmt.Errorf("remove .lpipe/%s/%s: %w", folder, one.Name, err)
		}
	}
	return old, nil
}

// removeTemporary removes what was left where writing the state, or placing an output or a source, was killed.
func (r *Runner) removeTemporary(ctx context.Context) error {
	entries, err := os.ReadDir(r.path())
	if err != nil {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".state-") {
			if err := os.Remove(r.path(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove leftovers: %w", err)
			}
		}
	}
	for _, out := range r.Plan.outputs {
		if err := r.Cache.RemoveLeftovers(r.Plan.abs(out.Path)); err != nil {
			return err
		}
	}
	for at, source := range r.lock.Sources {
		if source.Stored && !filepath.IsAbs(at) {
			if err := r.Cache.RemoveLeftovers(r.Plan.abs(at)); err != nil {
				return err
			}
		}
	}
	return r.removeTemporaryOfExperiments(ctx)
}

// removeTemporaryOfExperiments does so in their workspaces, where nobody works now. What is linked in is not entered.
func (r *Runner) removeTemporaryOfExperiments(ctx context.Context) error {
	instances, err := experimentWorkspaces(r.dir)
	if err != nil {
		return err
	}
	for _, dir := range instances {
		soon, cancel := context.WithTimeout(ctx, time.Millisecond)
		held, err := cache.LockFile(soon, filepath.Join(dir, ".lpipe", "lock"), true, nil)
		cancel()
		if err != nil {
			continue
		}
		err = r.Cache.RemoveLeftovers(dir)
		held.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// FolderBytes is what a folder in .lpipe takes; 0 where there is none.
func (r *Runner) FolderBytes(name string) (int64, error) {
	_, bytes, err := folderSpace(r.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return bytes, err
}

// folderSpace tells when something in a folder was last written, and what removing it would free: a file with another
// name elsewhere frees nothing.
func folderSpace(root string) (last time.Time, bytes int64, err error) {
	err = filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			if at != root && errors.Is(err, fs.ErrNotExist) {
				return nil // a stage that runs removes its files as it likes
			}
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) && at != root {
			return nil
		}
		if err != nil {
			return err
		}
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
		if s, ok := info.Sys().(*syscall.Stat_t); info.Mode().IsRegular() && (!ok || s.Nlink == 1) {
			bytes += info.Size()
		}
		return nil
	})
	return last, bytes, err
}
