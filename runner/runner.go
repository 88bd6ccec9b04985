package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"lpipe/cache"
)

// Options are what a Runner works with. Pipeline and Cache must be set; State, and all that describes the machine
// and the person, may be left out.
type Options struct {
	Pipeline   *Pipeline
	Cache      *cache.Cache
	State      *cache.State
	Downloader Downloader // who brings sources from hubs and addresses; nil: nobody
	Fetcher    Fetcher    // who is asked after a miss in the cache; nil: nobody
	// Checkpoints keeps what running stages go on from where other machines find it; nil: nobody does.
	Checkpoints Checkpoints
	// Elsewhere names the remote that is known to have a result, without asking it; "" where none is. Nil: nothing is known.
	Elsewhere func(cache.Key) string

	Jobs    int      // stages at once; 0: as many as CPUs
	CPUs    int      // 0: this machine's
	RAM     int64    // bytes; 0: no limit
	GPUs    []int    // ids of those that may be used
	Device  string   // handed to stages
	Environ []string // of this process; shell stages see a part of it

	// SandboxHelper is a program of ours that calls sandbox.Main; "": stages cannot be confined.
	SandboxHelper string

	Version, User, Host string // for the records of results

	// LockTimeout is how long to wait for another lpipe in the same workspace; 0: as long as it takes.
	LockTimeout time.Duration
	// Record is the lock of this workspace and profile, read ahead; nil: New reads it.
	Record *Record
	// AllowMissing accepts sources that do not exist and whose content is not on record.
	AllowMissing bool
	// Origin is where sources and code are read, if not in the workspace: the project whose experiment this is.
	Origin string
	// Shared is what the runners of a sweep have in common; nil: this one works alone.
	Shared *Shared
	// Report is told what happens, one call at a time. Nil: nobody is.
	Report func(RunEvent)
	Now    func() time.Time // nil: time.Now
}

// Fetcher brings results and content from elsewhere into the cache.
type Fetcher interface {
	// Result returns what is recorded under a key, cache.ErrNotFound where nothing is. It brings no content.
	Result(ctx context.Context, key cache.Key) (*cache.Result, error)
	// Contents brings all objects of some contents that the cache lacks, cache.ErrNotFound where one is not there
	// either.
	Contents(ctx context.Context, want []cache.Content) error
}

// Checkpoints keeps files of scratch folders where other machines find them, under the key of the stage.
type Checkpoints interface {
	// SendCheckpoint sends a file; its name sorts behind those of the files sent before it.
	SendCheckpoint(ctx context.Context, key cache.Key, path string) error
	// BringCheckpoint brings the newest file into dir and returns its name: "" if none sorts behind than.
	BringCheckpoint(ctx context.Context, key cache.Key, dir, than string) (name string, err error)
}

// RunEvent is something that happened, for whoever watches.
type RunEvent struct {
	// Event is "plan" (Total stages will be looked at), "start" (a stage runs now), "progress" (Progress says how
	// far), "stage" (a stage is finished: How), "warning" and "note" (Message), "wait" (Message: who holds the lock),
	// "fetch" and "fetched" (a source's download begins and ends).
	Event   string        `json:"event"`
	Time    time.Time     `json:"time"`
	Stage   string        `json:"stage,omitempty"`
	Source  string        `json:"source,omitempty"` // of "fetch", "progress", "fetched" and notes about them
	Kind    string        `json:"kind,omitempty"`
	How     string        `json:"how,omitempty"` // ran, workspace, cache, remote, skipped, failed, paused
	Seconds float64       `json:"seconds,omitempty"`
	Log     string        `json:"log,omitempty"` // relative to the workspace
	Message string        `json:"message,omitempty"`
	Total   int           `json:"total,omitempty"`
	Reasons []Reason      `json:"reasons,omitempty"` // of "start": why it runs
	Error   string        `json:"error,omitempty"`
	Failure *StageFailure `json:"-"`
	Key     cache.Key     `json:"-"` // of "start", and of a "stage" that has a result: where it is found
	// Progress is what the running stage told.
	Progress *Event `json:"progress,omitempty"`
}

// How a stage came to be up to date.
const (
	HowRan       = "ran"
	HowWorkspace = "workspace" // it stood there
	HowCache     = "cache"
	HowRemote    = "remote"
	HowSkipped   = "skipped" // frozen, or not tried because of a failure
	HowFailed    = "failed"
	HowPaused    = "paused" // an experiment's halving stopped it at a rung
)

// Runner brings a workspace up to date with its pipeline, and says how far it is.
type Runner struct {
	Options
	Plan *Plan

	dir    string
	watch  *watch // of an instance whose experiment has halving
	ignore func(folder, name string, dir bool) bool

	lock      *Lock
	lockErr   error   // why the lock file could not be read; its content is then salvaged as far as possible
	journaled []entry // the good records of the journal when the lock was read, of all profiles
	good      int64   // the length of the journal's good part
	total     int64   // the length of the journal
	stamp     stamp
	reportMu  sync.Mutex
}

// New reads the lock and plans the pipeline. The diagnostics are the mistakes of the pipeline, complete; the error
// is about anything else. A lock that is damaged is an error of the methods that need it, not of New.
func New(o Options) (*Runner, hcl.Diagnostics, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CPUs <= 0 {
		o.CPUs = runtime.NumCPU()
	}
	if o.Jobs <= 0 {
		o.Jobs = o.CPUs
	}
	r := &Runner{Options: o, dir: o.Pipeline.Dir}
	ignore, err := Ignored(r.origin())
	if err != nil {
		return nil, nil, err
	}
	r.ignore = ignore
	if o.Record == nil || o.Record.dir != r.dir || o.Record.profile != r.Pipeline.Profile {
		err = r.readLock()
	} else {
		err = r.take(*o.Record)
	}
	if err != nil {
		return nil, nil, err
	}
	plan, diags := NewPlan(o.Pipeline, PlanOptions{Known: r.knownSource, Exists: func(at string) bool {
		_, err := os.Lstat(r.originAt(at))
		return err == nil || !os.IsNotExist(err) // what cannot be looked at is reported by the step that reads it
	}})
	r.Plan = plan
	return r, diags, nil
}

// KnownSources tells which paths have their content on record, for a plan that is made without a Runner.
func KnownSources(p *Pipeline) func(path string) bool {
	r := &Runner{Options: Options{Pipeline: p}, dir: p.Dir}
	if err := r.readLock(); err != nil {
		return nil
	}
	return r.knownSource
}

func (r *Runner) knownSource(path string) bool {
	_, known := r.knownRecord(path)
	return known || r.AllowMissing
}

// stamp tells whether the files that a lock was read from are still the same.
type stamp [2]struct {
	size  int64
	mtime time.Time
}

func (r *Runner) stampNow() stamp {
	return stampOf(LockPath(r.dir, r.Pipeline.Profile), r.path("journal"))
}

func stampOf(lock, journal string) stamp {
	var s stamp
	for i, path := range []string{lock, journal} {
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].mtime = info.Size(), info.ModTime()
		}
	}
	return s
}

// Record is the recorded state of a workspace as it was read: its lock and, over it, the journal, as the last command left
// them, however it ended.
type Record struct {
	dir, profile string
	lock         *Lock
	lockErr      error   // why lock is not whole, nil if it is
	journaled    []entry // what stood in the journal, of all profiles
	good         int64   // the length of the journal's good part
	total        int64   // the length of the journal
	stamp        stamp
	err          error // what could not be read at all
}

// ReadRecord reads it for Options, beside what else takes time before New.
func ReadRecord(c Circumstances) *Record {
	dir, err := c.workspace()
	if err != nil {
		return nil
	}
	record := readRecord(dir, c.Decode.Profile)
	return &record
}

func readRecord(dir, profile string) (record Record) {
	path, journal := LockPath(dir, profile), filepath.Join(dir, ".lpipe", "journal")
	record.dir, record.profile, record.stamp = dir, profile, stampOf(path, journal)
	record.lock, record.err = ReadLock(path)
	if errors.Is(record.err, cache.ErrDamaged) {
		data, _ := os.ReadFile(path)
		record.lock, record.lockErr, record.err = salvage(data), record.err, nil
	}
	if record.err != nil {
		return record
	}
	record.journaled, record.good, record.total, record.err = readJournal(journal)
	if record.err == nil {
		record.lock.apply(record.journaled, profile)
	}
	return record
}

func (r *Runner) readLock() error {
	return r.take(readRecord(r.dir, r.Pipeline.Profile))
}

func (r *Runner) take(record Record) error {
	if record.err == nil {
		r.lock, r.lockErr, r.stamp = record.lock, record.lockErr, record.stamp
		r.journaled, r.good, r.total = record.journaled, record.good, record.total
	}
	return record.err
}

// apply makes a profile's records of a journal part of its lock.
func (l *Lock) apply(entries []entry, profile string) {
	for _, e := range entries {
		switch {
		case e.Profile != profile:
		case e.Done != nil:
			l.Stages[e.Stage] = *e.Done
			delete(l.texts, e.Stage)
		case e.Content != nil:
			l.Sources[e.Source] = *e.Content
		}
	}
}

// Lock is the recorded state as it was read, and the error that says why if it is not whole.
func (r *Runner) Lock() (*Lock, error) { return r.lock, r.lockErr }

// path is a path in .lpipe.
func (r *Runner) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir, ".lpipe"}, elem...)...)
}

// rel is a path relative to the workspace, for messages and records.
func (r *Runner) rel(path string) string {
	if rel, err := filepath.Rel(r.dir, path); err == nil {
		return filepath.ToSlash(rel)
	}
	return path
}

// exclusive runs f as the only lpipe that writes in this workspace.
func (r *Runner) exclusive(ctx context.Context, f func() error) error {
	if err := os.MkdirAll(r.path(), 0o777); err != nil {
		return writeError(r.dir, err)
	}
	waiting := ctx
	if r.LockTimeout > 0 {
		limited, cancel := context.WithTimeout(ctx, r.LockTimeout)
		defer cancel()
		waiting = limited
	}
	waited, by := false, ""
	held, err := cache.LockFile(waiting, r.path("lock"), true, func(holder string) {
		waited, by = true, holder
		r.report(RunEvent{Event: "wait", Message: "waiting for " + holder + ", which works in this workspace"})
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, cache.ErrLocked) {
			return fmt.Errorf("this workspace is %w: waited %s (--lock-timeout) for %s", cache.ErrLocked, r.LockTimeout, by)
		}
		return writeError(r.dir, err)
	}
	defer held.Release()
	changed := r.stampNow() != r.stamp
	if r.Pipeline.left != nil && (changed || waited) {
		return ErrExcerpt
	}
	if changed {
		if err := r.readLock(); err != nil {
			return err
		}
	}
	if err := r.recover(ctx); err != nil {
		return err
	}
	return f()
}

// needLock is for commands that cannot do their work without a whole lock.
func (r *Runner) needLock() error { return r.lockErr }

// writeLock folds the journal into the lock file: the lock first, then the journal goes.
func (r *Runner) writeLock(lock *Lock) error {
	if err := r.replaceLock(LockPath(r.dir, r.Pipeline.Profile), lock); err != nil {
		return err
	}
	return r.lockWritten(lock)
}

// lockWritten ends what a written lock makes superfluous.
func (r *Runner) lockWritten(lock *Lock) error {
	if err := os.Remove(r.path("journal")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return writeError(r.dir, err)
	}
	if r.Shared != nil {
		// The project is registered, and its roots reach into its experiments.
	} else if err := r.Cache.Register(r.dir); err != nil {
		r.warn("", "this project cannot be registered with its cache, so a gc run from another project that shares it may remove what only this one needs: %v", err)
	}
	r.lock, r.lockErr = lock, nil
	r.journaled, r.good, r.total = nil, 0, 0
	r.stamp = r.stampNow()
	return nil
}

func (r *Runner) replaceLock(path string, lock *Lock) error {
	if err := writeFile(path, r.path("lock.new"), lock.encode()); err != nil {
		return writeError(r.dir, fmt.Errorf("write lock: %w", err))
	}
	return nil
}

// changeLock applies a change to a copy of the lock and writes it if that made a difference.
func (r *Runner) changeLock(change func(*Lock) error) error {
	if err := r.needLock(); err != nil {
		return err
	}
	next := &Lock{Sources: maps.Clone(r.lock.Sources), Stages: maps.Clone(r.lock.Stages)}
	if err := change(next); err != nil {
		return err
	}
	if string(next.encode()) == string(r.lock.encode()) {
		return nil
	}
	return r.writeLock(next)
}

// report tells whoever watches, one event at a time.
func (r *Runner) report(e RunEvent) {
	if r.Report == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = r.Now()
	}
	r.reportMu.Lock()
	defer r.reportMu.Unlock()
	r.Report(e)
}

func (r *Runner) warn(stage, format string, args ...any) {
	r.report(RunEvent{Event: "warning", Stage: stage, Message: fmt.Sprintf(format, args...)})
}
