package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
)

// recorded notes for the lock what stands in the journal for good.
func (x *execution) recorded(entries []entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	noteEntries(entries, x.stages, x.sources)
}

func noteEntries(entries []entry, stages map[string]*LockStage, sources map[string]LockSource) {
	for _, e := range entries {
		if e.Done != nil {
			stages[e.Stage] = e.Done
		}
		if e.Content != nil {
			sources[e.Source] = *e.Content
		}
	}
}

// draft is a lock that is durable under its temporary name: what fold writes if these are the records of the run.
type draft struct {
	stages  map[string]*LockStage
	sources map[string]LockSource
	lock    *Lock
}

// draftLock begins to write the lock as it will be when all that waits is on record, while that happens. It is called after the last
// step has ended. The function that it returns waits for it, and gives nil where there is nothing to wait for or it failed.
func (x *execution) draftLock() (finish func() *draft) {
	x.mu.Lock()
	defer x.mu.Unlock()
	d := &draft{stages: maps.Clone(x.stages), sources: maps.Clone(x.sources)}
	noteEntries(x.waiting, d.stages, d.sources)
	if x.draws(d) {
		return func() *draft { return nil } // all is on record
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.lock = x.next(d.stages, d.sources)
		if writeDurably(x.path("lock.new"), d.lock.encode()) != nil {
			d = nil // fold tries once more, and says so
		}
	}()
	return func() *draft {
		<-ended
		return d
	}
}

// draws tells whether a draft has the records of the run, no more and no less. The caller holds mu, or is the last.
func (x *execution) draws(d *draft) bool {
	return maps.Equal(x.stages, d.stages) && maps.Equal(x.sources, d.sources)
}

// fold writes the lock, if it changed. A draft that fits is taken.
func (x *execution) fold(d *draft) error {
	if d != nil && x.draws(d) {
		if err := moveDurably(x.path("lock.new"), LockPath(x.dir, x.Pipeline.Profile)); err != nil {
			return writeError(x.dir, fmt.Errorf("write lock: %w", err))
		}
		return x.lockWritten(d.lock)
	}
	if d != nil {
		os.Remove(x.path("lock.new"))
	}
	if !x.changes() {
		if x.journal == nil {
			return nil
		}
		if err := os.Remove(x.path("journal")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return writeError(x.dir, err)
		}
		return nil
	}
	return x.writeLock(x.next(x.stages, x.sources))
}

// changes tells whether the run makes another lock of the one that it found.
func (x *execution) changes() bool {
	return len(x.stages) > 0 || len(x.sources) > 0 || x.lockErr != nil || !x.lockFits()
}

// next is the lock with what was recorded, over what was there, without stages that are no more.
func (x *execution) next(stages map[string]*LockStage, sources map[string]LockSource) *Lock {
	next := &Lock{Sources: maps.Clone(x.lock.Sources), Stages: maps.Clone(x.lock.Stages)}
	next.texts, next.rest = maps.Clone(x.lock.texts), x.lock.rest // the lock is written whole, and most of it is as it was
	for name, stage := range stages {
		next.Stages[name] = *stage
		delete(next.texts, name)
	}
	maps.Copy(next.Sources, sources)
	maps.DeleteFunc(next.Stages, func(name string, _ LockStage) bool { return !x.keeps(name) })
	maps.DeleteFunc(next.Sources, func(path string, s LockSource) bool { return !x.keepsSource(path, s) })
	return next
}

// keeps tells whether a stage's record stays: it is in the pipeline, or only switched off.
func (r *Runner) keeps(stage string) bool {
	if r.Pipeline.left != nil {
		return true // of all records KeepFresh has found so
	}
	if _, here := r.Plan.named[stage]; here {
		return true
	}
	block, _, _ := strings.Cut(stage, "@")
	for _, off := range r.Pipeline.Off {
		if off == stage || off == block {
			return true
		}
	}
	return false
}

func (r *Runner) keepsSource(path string, s LockSource) bool {
	_, read := r.Plan.origins[path]
	return read || r.Pipeline.left != nil || s.Stored || s.Pin != ""
}
