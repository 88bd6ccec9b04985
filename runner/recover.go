package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"lpipe/cache"
)

// recover cleans up after a command that was killed: its processes die, what its stages had half written in place moves
// to its run's folder, and what its journal holds becomes part of the locks.
func (r *Runner) recover(ctx context.Context) error {
	if err := removeAll(r.path("tmp")); err != nil {
		return writeError(r.dir, err)
	}
	if err := os.Remove(r.path("lock.new")); err != nil && !errors.Is(err, fs.ErrNotExist) { // after a loss of power, beside the lock that it became
		return writeError(r.dir, err)
	}
	if r.total == 0 {
		return nil
	}
	if r.total > r.good {
		r.warn("", "the last %d bytes of .lpipe/journal are damaged and are cut off; stages that they named run again", r.total-r.good)
	}
	if r.Shared == nil { // else the sweep has waited
		guard := &guard{dir: r.path()}
		if err := guard.wait(ctx); err != nil {
			return err
		}
		defer guard.close()
	}
	killStrays(r.path("scratch"))
	if err := r.setAsidePartials(ctx); err != nil {
		return err
	}
	if r.lockErr != nil {
		return nil // repro rebuilds the lock with the journal's help; other commands refuse to work
	}
	if err := r.foldOthers(); err != nil {
		return err
	}
	return r.writeLock(r.lock)
}

// setAsidePartials moves away what stages left that had begun and not finished.
func (r *Runner) setAsidePartials(ctx context.Context) error {
	begun := map[[2]string]entry{}
	for _, e := range r.journaled {
		switch {
		case e.Begin != "":
			begun[[2]string{e.Profile, e.Begin}] = e
		case e.Done != nil:
			delete(begun, [2]string{e.Profile, e.Stage})
		}
	}
	for _, e := range begun {
		killed := &run{id: e.Run, root: r.path("runs")}
		for _, path := range e.Paths {
			at := r.Plan.abs(path)
			scan, err := r.Cache.Scan(ctx, r.State, at)
			if err == nil && (r.Cache.Has(scan.ID) || r.otherLocks()[scan.Content]) {
				err = r.Cache.RemoveLeftovers(at) // it may have been killed while it was made a link of what the cache had
				if err != nil {
					return writeError(r.dir, err)
				}
				continue
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := killed.setAside(e.Begin, path, at); err != nil {
				return writeError(r.dir, fmt.Errorf("move away what the killed stage %s left: %w", e.Begin, err))
			}
		}
		killed.close()
	}
	return nil
}

// foldOthers gives the other profiles' locks what the journal holds of them.
func (r *Runner) foldOthers() error {
	done := map[string]bool{r.Pipeline.Profile: true}
	for _, e := range r.journaled {
		if done[e.Profile] {
			continue
		}
		done[e.Profile] = true
		path := LockPath(r.dir, e.Profile)
		lock, err := ReadLock(path)
		if errors.Is(err, cache.ErrDamaged) {
			data, _ := os.ReadFile(path)
			lock, err = salvage(data), nil
		}
		if err != nil {
			return err
		}
		lock.apply(r.journaled, e.Profile)
		if err := r.replaceLock(path, lock); err != nil {
			return err
		}
	}
	return nil
}
