package runner

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"lpipe/cache"
)

// ReproOptions say what to bring up to date, and how.
type ReproOptions struct {
	Targets      []string // stage names, instances, globs, output paths; none: everything
	Only         bool     // the targets alone, without what they need
	Downstream   bool     // the targets and all that follows from them
	Force        bool     // run stages whose result is known, too
	KeepGoing    bool     // after a failure, run what does not depend on it
	AllowMissing bool     // leave stages alone whose key is as recorded and whose outputs are nowhere to be had
	NoRemote     bool     // do not ask the Fetcher
	// Circumstances are those under which KeepFresh was or will be called; nil: what it found is not used.
	Circumstances *Circumstances

	explain bool // of Why: say of what is up to date what was compared
}

// Summary counts what a run did.
type Summary struct {
	Run     string  `json:"run,omitempty"` // the id, if anything ran
	Ran     int     `json:"ran"`
	Reused  int     `json:"reused"` // workspace, cache, remote
	Failed  int     `json:"failed"`
	Skipped int     `json:"skipped"`
	Seconds float64 `json:"seconds"`
	// Saved is how long the reused stages took when they ran; SavedRemote is that of the ones whose results the remote
	// gave, which Saved does not count.
	Saved       float64 `json:"saved_seconds"`
	SavedRemote float64 `json:"saved_remote_seconds"`
	// Critical is the chain of stages that decided how long this run took.
	Critical []CriticalStage `json:"critical,omitempty"`

	fresh  func(*Node) bool // tells whether a stage is up to date now
	paused float64          // seconds that a stage took before it was stopped at a rung
}

// Repro brings the targets up to date: it runs what has no known result, restores what has one, and leaves alone what
// stands. Finished stages are on record whatever happens next. A failed stage is a *FailedError; an ended ctx is
// ctx's error, and the next Repro goes on from there.
func (r *Runner) Repro(ctx context.Context, o ReproOptions) (Summary, error) {
	nodes, err := r.Plan.Select(Selection{o.Targets, o.Only, o.Downstream})
	if err != nil {
		return Summary{}, err
	}
	began := r.Now()
	var summary Summary
	err = r.exclusive(ctx, func() error {
		if r.lockErr != nil {
			r.warn("", "%v", r.lockErr)
		}
		var unlooked []bool
		var looking sync.WaitGroup
		if o.Circumstances != nil && !o.Force && len(o.Targets) == 0 {
			looking.Go(func() { unlooked = r.unlooked(*o.Circumstances) })
		}
		x := r.newExecution(nodes, o)
		looking.Wait()
		release, err := r.hold(ctx)
		if err != nil {
			return err
		}
		x.letGo = release
		defer x.letGo()
		r.report(RunEvent{Event: "plan", Total: len(nodes) + len(r.Pipeline.left.stages())})
		err = x.finish(x.scheduleRest(ctx, nodes, unlooked))
		summary = x.summary(nodes)
		summary.Critical = x.critical(nodes, began)
		summary.Seconds = r.Now().Sub(began).Seconds()
		x.run.note(RunEvent{Event: "done", Time: r.Now(), Seconds: summary.Seconds})
		x.run.close()
		return err
	})
	return summary, err
}

// execution is one Repro.
type execution struct {
	view
	opts     ReproOptions
	outcomes []outcome // by node; a node's is written before its dependents start
	selected []bool    // by node
	asked    []bool    // by node: its outputs are wanted in the workspace
	spans    []span    // by node
	priority []float64 // by node: seconds from its start to the end of the longest chain behind it
	memory   *memory
	run      *run
	guard    *guard
	pools    *pools
	scratch  *scratches
	logs     spareLogs
	commits  *commits
	unlinked []*cache.Deposit // stored, with files that are yet to become links; only commit adds to it
	twins    *twins[cache.Key]
	looking  chan struct{} // bounds how many steps hash at once
	letGo    func()        // ends the hold on the cache that spares each look one of its own

	bringing sync.Map // a mutex for each download, by path

	confineOnce sync.Once
	confineErr  error // why sandbox = true cannot be enforced

	safeMu   sync.Mutex
	safeDirs map[string]error

	mu       sync.Mutex
	journal  *journal        // opened by the first record
	late     map[int]outcome // by node: what failed after its step was done
	waiting  []entry         // what was submitted to be put on record, all of this run
	stages   map[string]*LockStage
	sources  map[string]LockSource
	failures []*StageFailure
	remote   bool // the remote failed and is not asked any more
}

func (r *Runner) newExecution(nodes []*Node, o ReproOptions) *execution {
	x := &execution{
		opts:     o,
		outcomes: make([]outcome, len(r.Plan.Nodes)),
		selected: make([]bool, len(r.Plan.Nodes)),
		spans:    make([]span, len(r.Plan.Nodes)),
		memory:   readMemory(r.path("stages.json")),
		run:      newRun(r.path("runs"), r.Now()),
		scratch:  &scratches{dir: r.path("scratch")},
		safeDirs: map[string]error{},
		stages:   map[string]*LockStage{},
		sources:  map[string]LockSource{},
		late:     map[int]outcome{},
	}
	x.commits = &commits{prepare: func(d []*cache.Deposit) { x.Cache.Prepare(d) }, store: x.commit}
	shared := r.Shared
	if shared == nil {
		shared = NewShared(r.Options)
	}
	x.pools, x.twins, x.looking, x.guard = shared.pools, &shared.twins, shared.looking, shared.guard
	x.view = view{Runner: r, made: x.made, fresh: x.freshSource}
	for _, n := range nodes {
		x.selected[n.index] = true
	}
	x.asked = r.Plan.asked(o, nodes)
	x.prioritize()
	return x
}

// hold keeps a gc away from the cache until the function that it returns is called, which may be more than once. A
// stage may run for days: the hold ends before.
func (r *Runner) hold(ctx context.Context) (release func(), err error) {
	batch, err := r.Cache.NewBatch(ctx)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(batch.Discard), nil
}

// made answers for outputs that this run has brought up to date.
func (x *execution) made(n *Node, output string) (cache.Content, bool) {
	content, known := x.outcomes[n.index].out[output]
	return content, known
}

// freshSource answers for sources that this run has recorded.
func (x *execution) freshSource(path string) (LockSource, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	one, known := x.sources[path]
	return one, known
}

// alone lets one caller at a time deal with a path, until the function that it returns is called.
func (x *execution) alone(path string) (leave func()) {
	one, _ := x.bringing.LoadOrStore(path, new(sync.Mutex))
	mu := one.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// prioritize puts stages first that the longest recorded work waits for.
func (x *execution) prioritize() {
	x.priority = make([]float64, len(x.Plan.Nodes))
	for i := len(x.Plan.order) - 1; i >= 0; i-- {
		n := x.Plan.order[i]
		for _, next := range n.Feeds {
			x.priority[n.index] = max(x.priority[n.index], x.priority[next.index])
		}
		x.priority[n.index] += x.memory.seconds(n.Step.Name)
	}
}

// record writes to the journal, which it opens at the first call.
func (x *execution) record(entries []entry) (*journal, error) {
	x.mu.Lock()
	if x.journal == nil {
		j, err := openJournal(x.path("journal"), x.good)
		if err != nil {
			x.mu.Unlock()
			return nil, writeError(x.dir, err)
		}
		x.journal = j
	}
	j := x.journal
	x.mu.Unlock()
	return j, writeError(x.dir, j.append(entries...))
}

// newSources are records of the sources that a step read, where they differ from what is recorded.
func (x *execution) newSources(in ingredients) []entry {
	var entries []entry
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, one := range in.inputs {
		if one.origin == nil || one.missing {
			continue
		}
		was, known := x.sources[one.Path]
		if !known {
			was, known = x.lock.Sources[one.Path]
		}
		if known && was.Content == one.content {
			continue
		}
		entries = append(entries, entry{Profile: x.Pipeline.Profile, Source: one.Path, Content: was.with(one.content)})
	}
	return entries
}

// start tells that a stage runs now, and why.
func (x *execution) start(ctx context.Context, n *Node, key cache.Key, description string, in ingredients, log string) {
	e := RunEvent{Event: "start", Time: x.Now(), Stage: n.Step.Name, Kind: n.Step.Kind.Name, Key: key, Log: x.rel(log), Reasons: x.reasons(ctx, n, key, description, in)}
	x.commits.tell(func() { x.emit(e) })
}

// finished tells that a step is done.
func (x *execution) finished(n *Node, key cache.Key, done outcome, at time.Time) {
	x.emit(RunEvent{Event: "stage", Time: at, Stage: n.Step.Name, Kind: n.Step.Kind.Name, Key: key, How: done.how, Seconds: done.seconds, Log: done.log})
	if done.how == HowRan {
		x.memory.set(n.Step.Name, stageMemory{Seconds: done.seconds})
	} else {
		seconds := done.spared
		if seconds == 0 {
			seconds = x.memory.seconds(n.Step.Name)
		}
		x.memory.set(n.Step.Name, stageMemory{Seconds: seconds})
	}
}

// lost notes that a step was done, and could not be put on record.
func (x *execution) lost(n *Node, done outcome, err error) {
	done.err = writeError(x.dir, err)
	done = x.failed(context.Background(), n, done)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.late[n.index] = done
}

// failed notes a failure, tells it, and unless the run is to keep going starts nothing more.
func (x *execution) failed(ctx context.Context, n *Node, done outcome) outcome {
	done.how = HowFailed
	if errors.Is(done.err, errStopped) || ctx.Err() != nil && errors.Is(done.err, ctx.Err()) {
		done.how = HowSkipped
		return done
	}
	if errors.Is(done.err, errPaused) {
		done.how = HowPaused
		e := RunEvent{Event: "stage", Time: x.Now(), Stage: n.Step.Name, Kind: n.Step.Kind.Name, How: HowPaused, Seconds: done.seconds, Log: done.log}
		x.commits.tell(func() { x.emit(e) })
		return done
	}
	failure, ok := done.err.(*StageFailure)
	if !ok {
		failure = &StageFailure{Stage: n.Step.Name, Err: done.err, Range: n.Step.Range}
		done.err = failure
	}
	x.mu.Lock()
	x.failures = append(x.failures, failure)
	x.mu.Unlock()
	x.memory.set(n.Step.Name, stageMemory{Seconds: x.memory.seconds(n.Step.Name), Failed: x.run.id, Error: failure.Err.Error()})
	e := RunEvent{Event: "stage", Time: x.Now(), Stage: n.Step.Name, Kind: n.Step.Kind.Name, How: HowFailed, Seconds: done.seconds, Log: failure.Log, Error: failure.Err.Error(), Failure: failure}
	x.commits.tell(func() { x.emit(e) })
	if !x.opts.KeepGoing {
		x.pools.stop()
	}
	return done
}

// emit tells whoever watches and writes it into the run's events. Mere progress is not kept.
func (x *execution) emit(e RunEvent) {
	x.report(e)
	if e.Event == "progress" && (e.Progress == nil || len(e.Progress.Metrics) == 0) {
		return
	}
	if e.Time.IsZero() {
		e.Time = x.Now()
	}
	x.run.note(e)
}

// online tells whether there is a remote to ask.
func (x *execution) online() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.Fetcher != nil && !x.opts.NoRemote && !x.remote
}

func (x *execution) giveUpRemote(err error) {
	x.mu.Lock()
	told := x.remote
	x.remote = true
	x.mu.Unlock()
	if !told {
		x.warn("", "the remote's results cannot be used in this run: %v", err)
	}
}

// finish ends the run in order, however it went: what was finished becomes part of the lock.
func (x *execution) finish(err error) error {
	var guarding sync.WaitGroup
	if x.Shared == nil {
		guarding.Go(x.guard.close)
	}
	draft := x.draftLock()
	x.commits.close()
	guarding.Wait()
	for at, one := range x.late {
		x.outcomes[at] = one
		if one.discard != nil {
			one.discard()
		}
	}
	keep := func(other error) {
		if err == nil {
			err = other
		}
	}
	if len(x.failures) > 0 && err == nil {
		err = &FailedError{Failures: x.failures, Blocked: x.tellSkipped()}
	}
	written := true
	if x.journal != nil {
		flushed := x.journal.close()
		written = flushed == nil
		keep(flushed)
	}
	var saving sync.WaitGroup
	saving.Go(func() {
		x.link(x.unlinked)
		x.scratch.close()
		x.logs.close()
		x.saveState()
	})
	saving.Go(func() {
		if saved := x.memory.save(); saved != nil {
			x.warn("", "durations cannot be saved: %v", saved)
		}
	})
	if ready := draft(); written {
		keep(x.fold(ready))
	}
	saving.Wait()
	return err
}

// saveState writes down what spares the next run the hashing.
func (x *execution) saveState() {
	if x.State == nil || x.Shared != nil { // a sweep saves the state of all its runners
		return
	}
	if saved := x.State.Save(); saved != nil {
		x.warn("", "the stat cache cannot be saved, so the next run hashes again: %v", saved)
	}
}

// tellSkipped tells which stages a failure kept from being tried.
func (x *execution) tellSkipped() (count int) {
	for _, n := range x.Plan.order {
		if x.selected[n.index] && (x.outcomes[n.index].how == "" || errors.Is(x.outcomes[n.index].err, errStopped)) {
			count++
			x.emit(RunEvent{Event: "stage", Stage: n.Step.Name, Kind: n.Step.Kind.Name, How: HowSkipped})
		}
	}
	return count
}

func (x *execution) summary(nodes []*Node) Summary {
	var s Summary
	for _, n := range nodes {
		switch x.outcomes[n.index].how {
		case HowRan:
			s.Ran++
		case HowFailed:
			s.Failed++
		case HowWorkspace, HowCache:
			s.Reused++
			s.Saved += x.memory.seconds(n.Step.Name)
		case HowRemote:
			s.Reused++
			s.SavedRemote += x.memory.seconds(n.Step.Name)
		default:
			s.Skipped++
		}
	}
	for _, one := range x.Pipeline.left.stages() {
		s.Reused++
		s.Saved += x.memory.seconds(one.name)
	}
	s.fresh = func(n *Node) bool { return x.outcomes[n.index].how != "" && x.outcomes[n.index].err == nil }
	for _, n := range nodes {
		if x.outcomes[n.index].how == HowPaused {
			s.paused = x.outcomes[n.index].seconds
		}
	}
	if standsAt(filepath.Join(x.run.root, x.run.id)) {
		s.Run = x.run.id
	}
	return s
}
