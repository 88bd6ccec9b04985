package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"lpipe/cache"
)

// SweepOptions say which instances of an experiment to run.
type SweepOptions struct {
	// Options are those of every instance's runner; Pipeline is the project's, and Report is told of all of them, with
	// the instance before the stage's name: "rank=8/train".
	Options
	Experiment ExperimentBlock
	Block      bool // the pipeline declares the experiment
	Instances  []SweepInstance
	Git        *GitState
	Whole      bool // the experiment's halving stops none of these
	// Curve reads the numbers of that name from a file of curves, for halving.
	Curve func(path, name string) ([]CurvePoint, error)
}

// SweepInstance is an instance with its pipeline, which was decoded in the project's folder with the instance's values.
type SweepInstance struct {
	ExperimentInstance
	Pipeline *Pipeline
}

// SweepSummary says how a sweep ended.
type SweepSummary struct {
	Records    []*ExperimentRecord // of those that ended, by name
	Unfinished int
	Summary    // of all stages together
}

// window is how many instances are under way at once: enough to fill any machine, few enough to keep memory small.
const window = 32

// LockExperiments makes the caller the only one that runs or removes experiments of a project; others wait.
func LockExperiments(ctx context.Context, project string, timeout time.Duration, wait func(holder string)) (release func(), err error) {
	dir := experimentsDir(project)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, writeError(project, err)
	}
	if timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	held, err := cache.LockFile(ctx, filepath.Join(dir, "lock"), true, wait)
	if err != nil {
		return nil, writeError(project, err)
	}
	return func() { held.Release() }, nil
}

// RunSweep brings every instance up to date, each in a workspace of its own, all by one scheduler. A failed instance
// stops no other. The error is about the sweep itself, or ctx's; the next RunSweep goes on from there. The caller holds
// the experiments' lock.
func RunSweep(ctx context.Context, o SweepOptions) (SweepSummary, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	began := o.Now()
	s := &sweep{SweepOptions: o, project: o.Pipeline.Dir}
	if err := s.prepare(); err != nil {
		return SweepSummary{}, err
	}
	defer s.shared.guard.close()
	if err := s.shared.guard.wait(ctx); err != nil {
		return SweepSummary{}, err
	}
	s.all(ctx)
	if o.State != nil {
		if err := o.State.Save(); err != nil {
			s.report(RunEvent{Event: "warning", Message: fmt.Sprintf("the stat cache cannot be saved, so the next run hashes again: %v", err)})
		}
	}
	slices.SortFunc(s.done.Records, func(a, b *ExperimentRecord) int { return strings.Compare(a.Instance, b.Instance) })
	s.done.Unfinished = len(o.Instances) - len(s.done.Records)
	s.done.Seconds = o.Now().Sub(began).Seconds()
	return s.done, errors.Join(s.err, ctx.Err())
}

type sweep struct {
	SweepOptions
	project string
	shared  *Shared

	mu    sync.Mutex // guards what follows
	done  SweepSummary
	err   error           // the first that is no instance's own
	total int             // stages of the instances so far
	saved time.Time       // when the stat cache was written last
	told  map[string]bool // what was warned of
}

// prepare notes all instances before the first one starts, so that those that a kill keeps from starting are known.
func (s *sweep) prepare() error {
	r := &Runner{Options: s.Options, dir: s.project}
	r.Now = s.Now
	if err := r.readLock(); err != nil {
		return err
	}
	if s.CPUs <= 0 {
		s.CPUs = runtime.NumCPU()
	}
	if s.Jobs <= 0 {
		s.Jobs = s.CPUs
	}
	s.shared, s.told = NewShared(s.Options), map[string]bool{}
	s.shared.project = r.lock
	s.shared.guard = &guard{dir: experimentsDir(s.project), scratch: experimentsDir(s.project)} // one for all instances
	b := &s.Experiment
	e, err := readExperiment(s.project, b.Name)
	if err != nil {
		return err
	}
	if e == nil {
		e = &Experiment{}
	}
	if s.Block || !e.Block {
		e.Targets, e.Metric, e.Goal, e.Desc, e.Halving = b.Targets, b.Metric, b.Goal, b.Desc, b.Halving
	}
	e.Schema, e.Name, e.Profile, e.Block = experimentSchema, b.Name, s.Pipeline.Profile, s.Block
	if e.Instances == nil {
		e.Instances = map[string]map[string]json.RawMessage{}
	}
	for _, one := range s.Instances {
		e.Instances[one.Name] = rawPoint(one.Point)
	}
	return writeError(s.project, writeJSON(filepath.Join(experimentsDir(s.project), b.Name, "experiment.json"), e))
}

// each runs instances, a window of them at a time.
func (s *sweep) each(ctx context.Context, instances []*sweptInstance) {
	next := make(chan *sweptInstance)
	var crew sync.WaitGroup
	for range min(window, len(instances)) {
		crew.Go(func() {
			for one := range next {
				record, err := s.instance(ctx, one)
				s.ended(record, err)
			}
		})
	}
	for _, one := range instances {
		if ctx.Err() != nil || s.broken() {
			break
		}
		next <- one
	}
	close(next)
	crew.Wait()
}

func (s *sweep) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

func (s *sweep) ended(record *ExperimentRecord, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if record != nil {
		s.done.Records = append(s.done.Records, record)
		if s.State != nil && s.Now().Sub(s.saved) > time.Minute {
			s.State.Save() // a failure is told at the end
			s.saved = s.Now()
		}
	}
	if err != nil && s.err == nil && !errors.Is(err, context.Canceled) {
		s.err = err
	}
}

// instance brings one instance up to date and records how it ended; the record is nil if it was interrupted, or stands at a rung.
func (s *sweep) instance(ctx context.Context, one *sweptInstance) (*ExperimentRecord, error) {
	dir := s.dir(one)
	record := &ExperimentRecord{Schema: experimentSchema, Experiment: s.Experiment.Name, Instance: one.Name, State: ExperimentDone,
		Point: rawPoint(one.Point), Set: sortedKeys(one.Vars), Vars: map[string]json.RawMessage{}, Metrics: map[string]*float64{},
		Started: s.Now().UTC(), Git: s.Git, Version: s.Version, User: s.User, Host: s.Host}
	for _, v := range one.Pipeline.Variables {
		if !v.Sensitive {
			record.Vars[v.Name] = json.RawMessage(v.Value)
		}
	}
	options := s.Options
	pipeline := *one.Pipeline
	pipeline.Dir = dir
	options.Pipeline, options.Origin, options.Shared = &pipeline, s.project, s.shared
	options.Report = func(e RunEvent) { s.heard(one, dir, e) }
	r, diags, err := New(options)
	if err != nil {
		return nil, err
	}
	if diags.HasErrors() {
		for _, d := range diags {
			record.Failures = append(record.Failures, ExperimentFailure{Error: d.Summary + ": " + d.Detail})
		}
	} else if err := s.run(ctx, r, one, record); err != nil {
		return nil, err
	}
	if one.waiting = one.paused() && len(record.Failures) == 0; one.waiting {
		one.record = record
		return nil, nil
	}
	if len(record.Failures) > 0 {
		record.State = ExperimentFailed
	}
	return record, s.conclude(record)
}

// conclude writes an instance's record.
func (s *sweep) conclude(record *ExperimentRecord) error {
	record.Finished = s.Now().UTC()
	if err := writeJSON(recordPath(record.Dir(s.project)), record); err != nil {
		return writeError(s.project, fmt.Errorf("record %s: %w", record.FullName(), err))
	}
	return nil
}

func (s *sweep) dir(one *sweptInstance) string {
	return filepath.Join(experimentsDir(s.project), s.Experiment.Name, one.Name)
}

func (s *sweep) run(ctx context.Context, r *Runner, one *sweptInstance, record *ExperimentRecord) error {
	if err := r.link(); err != nil {
		return err
	}
	if err := errors.Join(r.notItsOwnBest(s.Experiment.Name, s.Experiment.Targets), r.staysBelow(s.Experiment.Targets)); err != nil {
		return err
	}
	s.warnOfPaths(ctx, r)
	r.watch = one.watch
	summary, err := r.Repro(ctx, ReproOptions{Targets: s.Experiment.Targets, KeepGoing: true})
	one.add(&summary)
	s.mu.Lock()
	s.done.Ran += summary.Ran
	s.done.Reused += summary.Reused
	s.done.Failed += summary.Failed
	s.done.Skipped += summary.Skipped
	s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	record.Ran, record.Reused, record.Seconds = one.ran, one.reused, one.seconds
	var failed *FailedError
	switch {
	case errors.As(err, &failed):
		for _, f := range failed.Failures {
			why := ExperimentFailure{Stage: f.Stage, Error: f.Err.Error()}
			if f.Log != "" {
				why.Log = filepath.Join(record.relDir(), f.Log)
			}
			record.Failures = append(record.Failures, why)
		}
	case err != nil:
		return fmt.Errorf("%s: %w", record.FullName(), err)
	}
	if err := r.measure(record, summary.fresh); err != nil {
		return err
	}
	one.note(record)
	return nil
}

func (r *ExperimentRecord) relDir() string { return r.Dir("") }

// measure fills in what the instance's stages left that are up to date: metrics, and how long they took.
func (r *Runner) measure(record *ExperimentRecord, fresh func(*Node) bool) error {
	for _, n := range r.Plan.Nodes {
		locked, known := r.lock.Stages[n.Step.Name]
		if !known || !fresh(n) {
			continue
		}
		if result, err := r.Cache.Result(locked.Key); err == nil {
			record.Seconds += result.Record.Seconds
		}
		for _, out := range n.Step.MetricOutputs() {
			numbers, err := ReadMetrics(r.Plan.abs(out.Path))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a stage that failed, or that no target needs
			}
			if err != nil {
				record.Failures = append(record.Failures, ExperimentFailure{Stage: n.Step.Name, Error: fmt.Sprintf("metrics in %s: %v", out.Path, err)})
				continue
			}
			for _, number := range numbers {
				record.Metrics[n.Step.Name+"."+number.Name] = number.Value
			}
		}
	}
	return nil
}

// heard passes on what an instance's runner tells. A record speaks of what was; it goes when its stages run anew.
func (s *sweep) heard(one *sweptInstance, dir string, e RunEvent) {
	if one.before > 0 && (e.Event == "plan" || e.Event == "stage" && e.How == HowWorkspace) {
		return // it was told on the way to the rung before
	}
	rel := (&ExperimentRecord{Experiment: s.Experiment.Name, Instance: one.Name}).relDir()
	switch e.Event {
	case "start":
		if err := os.Remove(recordPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.report(RunEvent{Event: "warning", Message: fmt.Sprintf("%s: the last record cannot be removed: %v", one.Name, err)})
		}
	case "warning", "note", "wait":
		if e.Stage == "" {
			e.Message = one.Name + ": " + e.Message
		}
	}
	if e.Stage != "" {
		e.Stage = one.Name + "/" + e.Stage
	}
	if e.Log != "" {
		e.Log = filepath.Join(rel, e.Log)
	}
	if e.Failure != nil {
		failure := *e.Failure
		failure.Stage = one.Name + "/" + failure.Stage
		for _, path := range []*string{&failure.Log, &failure.Moved} {
			if *path != "" {
				*path = filepath.Join(rel, *path)
			}
		}
		e.Failure = &failure
	}
	s.report(e)
}

// report tells whoever watches, one event at a time; of "plan" the stages of all instances so far.
func (s *sweep) report(e RunEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Event == "plan" {
		s.total += e.Total
		e.Total = s.total
	}
	if s.Report != nil {
		if e.Time.IsZero() {
			e.Time = s.Now()
		}
		s.Report(e)
	}
}
