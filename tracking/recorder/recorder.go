package recorder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/tracking"
	"lpipe/tracking/spool"
)

// Options say what is recorded, and where.
type Options struct {
	Root       string // the folder of spools: .lpipe/tracking
	URI        string // "": whoever sends it knows
	Experiment string
	Run        string                   // the server's id of a run that is to be the one at the top; "": a new one
	Name       string                   // of the run at the top: "repro", or the sweep's
	Tags       func() map[string]string // asked once, when there is something to record
	Units      []Unit
	Cache      *cache.Cache
	Now        func() time.Time
	Warn       func(message string)
	// Opened is called once, when there is first something to record.
	Opened func(w *spool.Writer)
}

// Unit is a pipeline that is brought up to date: of a repro the only one, with an empty name; of a sweep one an instance.
type Unit struct {
	Name     string
	Dir      string // where its outputs stand
	Pipeline *runner.Pipeline
	Vars     []string // the variables that the instance is about; none: all
}

// Recorder writes one spool. Its methods may be called from several goroutines.
type Recorder struct {
	o     Options
	units map[string]*unit

	mu      sync.Mutex // guards what follows
	w       *spool.Writer
	tags    map[string]string
	failed  bool
	waiting []runner.RunEvent            // reused stages, told before the first one runs
	early   map[string][]runner.RunEvent // progress of stages whose start was not told yet
	running map[string]string            // spool's run, by the event's stage
}

type unit struct {
	Unit
	steps   map[string]*runner.Step
	names   map[string]string // of its stages, as parameters and metrics have them: "eval/a" for eval@a
	begun   bool
	broken  bool // a stage of it failed
	stopped bool // halving let it go no further
	params  int  // recorded of its stages
}

// New records nothing yet.
func New(o Options) *Recorder {
	r := &Recorder{o: o, units: map[string]*unit{}, early: map[string][]runner.RunEvent{}, running: map[string]string{}}
	for _, one := range o.Units {
		u := &unit{Unit: one, steps: map[string]*runner.Step{}, names: map[string]string{}}
		var names tracking.Names
		for _, step := range one.Pipeline.Steps {
			u.steps[step.Name] = step
			u.names[step.Name], _ = names.Of(strings.Replace(step.Name, "@", "/", 1))
		}
		r.units[one.Name] = u
	}
	return r
}

// Event takes one event of the runner. Nothing of it can fail a stage.
func (r *Recorder) Event(e runner.RunEvent) {
	if e.Stage == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	u, step := r.stage(e.Stage)
	if step == nil || r.failed {
		return
	}
	switch e.Event {
	case "start":
		if r.open() {
			r.started(u, step, e)
		}
	case "progress":
		r.progress(e)
	case "stage":
		if r.w == nil {
			r.waiting = append(r.waiting, e)
		} else {
			r.ended(u, step, e)
		}
	}
}

// stage finds what an event speaks of: "lora", in a sweep "rank=8/lora".
func (r *Recorder) stage(name string) (*unit, *runner.Step) {
	instance, stage := "", name
	if at := strings.LastIndexByte(name, '/'); at >= 0 {
		instance, stage = name[:at], name[at+1:]
	}
	u := r.units[instance]
	if u == nil {
		return nil, nil
	}
	return u, u.steps[stage]
}

// open begins the spool, or goes on with the last one.
func (r *Recorder) open() bool {
	if r.w != nil || r.failed {
		return !r.failed
	}
	ctx := context.Background()
	head := spool.Head{URI: r.o.URI, Experiment: r.o.Experiment, Run: r.o.Run, State: r.state()}
	w, err := r.unfinished(ctx, head)
	if err == nil && w == nil {
		head.ID = newID(r.o.Now())
		w, err = spool.Create(ctx, filepath.Join(r.o.Root, head.ID), head, r.o.Now)
	}
	if err != nil {
		r.failed = true
		r.warn("nothing of this run is recorded for tracking: %v", err)
		return false
	}
	r.w, r.tags = w, r.o.Tags()
	r.w.Append(spool.Record{Start: &spool.Start{Name: r.o.Name}})
	r.w.Append(spool.Record{Tags: r.tags})
	if _, alone := r.units[""]; alone {
		r.begin(r.units[""])
	}
	if r.o.Opened != nil {
		r.o.Opened(w)
	}
	for _, e := range r.waiting {
		if u, step := r.stage(e.Stage); step != nil {
			r.ended(u, step, e)
		}
	}
	r.waiting = nil
	return true
}

// kept is how many recorded runs a workspace keeps after all of them is sent.
const kept = 50

// unfinished is the last spool, if its run was interrupted or failed and this one goes on with it; nil otherwise. What
// other commands left without an end, because they were killed, gets one.
func (r *Recorder) unfinished(ctx context.Context, head spool.Head) (*spool.Writer, error) {
	dirs, err := spool.List(r.o.Root)
	if err != nil {
		return nil, err
	}
	for i, dir := range slices.Backward(dirs) {
		info, err := spool.Read(dir)
		if err == nil && info.Sent.Done && i < len(dirs)-kept {
			err = spool.Drop(dir)
		}
		if err != nil || info.Size == 0 || info.End == "FINISHED" || info.End != "" && i < len(dirs)-1 {
			continue
		}
		w, err := spool.Reopen(ctx, dir, r.o.Now)
		if errors.Is(err, cache.ErrLocked) {
			continue // of another command that runs
		}
		if err != nil {
			return nil, err
		}
		was := w.Head()
		if i == len(dirs)-1 && was.State == head.State && was.Experiment == head.Experiment && was.Run == head.Run && was.URI == head.URI {
			return w, nil
		}
		killOpen(w)
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// killOpen ends the runs that a killed command left, those below first.
func killOpen(w *spool.Writer) {
	open := w.Open()
	slices.SortFunc(open, func(a, b string) int { return len(b) - len(a) })
	for _, run := range open {
		w.Append(spool.Record{Run: run, End: "KILLED"})
	}
}

// begin begins the run of a unit: its variables are parameters.
func (r *Recorder) begin(u *unit) {
	if u.begun {
		return
	}
	u.begun = true
	if u.Name != "" {
		r.w.Append(spool.Record{Run: u.Name, Start: &spool.Start{Name: u.Name}})
		tags := maps.Clone(r.tags)
		tags["lpipe.instance"] = u.Name
		r.w.Append(spool.Record{Run: u.Name, Tags: tags})
	}
	params := map[string]string{}
	for _, v := range u.Pipeline.Variables {
		if !v.Sensitive && v.Value != "" {
			params[v.Name] = runner.ValueText(v.Value)
		}
	}
	if len(params) > 0 {
		r.w.Append(spool.Record{Run: u.Name, Params: params})
	}
}

// started begins a stage's run, or goes on with the one that it has.
func (r *Recorder) started(u *unit, step *runner.Step, e runner.RunEvent) {
	r.begin(u)
	run := r.runOf(e)
	r.running[e.Stage] = run
	r.w.Append(spool.Record{Run: run, Start: &spool.Start{Name: e.Stage, Parent: u.Name, Key: e.Key.String()}})
	tags := maps.Clone(r.tags)
	maps.Copy(tags, map[string]string{"lpipe.stage": step.Block, "lpipe.kind": step.Kind.Name, "lpipe.key": e.Key.String()})
	if _, instance, of := strings.Cut(step.Name, "@"); of {
		tags["lpipe.stage_instance"] = instance
	}
	if u.Name != "" {
		tags["lpipe.instance"] = u.Name
	}
	if step.Desc != "" {
		tags["mlflow.note.content"] = step.Desc
	}
	r.w.Append(spool.Record{Run: run, Tags: tags})
	if params := settings(step, step.Block); len(params) > 0 {
		r.w.Append(spool.Record{Run: run, Params: params})
	}
	for _, early := range r.early[e.Stage] {
		r.progress(early)
	}
	delete(r.early, e.Stage)
}

// runOf is the name of a stage's run in the spool: that of an earlier attempt at the same key, if it did not finish.
func (r *Recorder) runOf(e runner.RunEvent) string {
	for n := int64(1); ; n++ {
		name := runName(e.Stage, n)
		was, known := r.w.Run(name)
		if !known || was.Key == e.Key.String() && was.End != "FINISHED" {
			return name
		}
	}
}

func runName(stage string, n int64) string {
	if n == 1 {
		return stage
	}
	return fmt.Sprintf("%s#%d", stage, n)
}

// settings are a step's, by the names that parameters have: `<stage>.<setting>`.
func settings(step *runner.Step, prefix string) map[string]string {
	params := map[string]string{}
	for _, one := range step.Settings {
		if !one.Sensitive {
			params[prefix+"."+one.Name] = runner.ValueText(one.Value)
		}
	}
	return params
}

// progress records the numbers that a running stage tells.
func (r *Recorder) progress(e runner.RunEvent) {
	if e.Progress == nil || len(e.Progress.Metrics) == 0 {
		return
	}
	run, begun := r.running[e.Stage]
	if !begun {
		r.early[e.Stage] = append(r.early[e.Stage], e)
		return
	}
	metrics := make(map[string]spool.Number, len(e.Progress.Metrics))
	for name, value := range e.Progress.Metrics {
		metrics[name] = spool.Number(value)
	}
	r.w.Append(spool.Record{Run: run, Time: e.Time.UnixMilli(), Step: int64(e.Progress.Done), Metrics: metrics})
}

// Close ends the run: how says FINISHED, FAILED or KILLED. Stages that are still open were interrupted.
func (r *Recorder) Close(how string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.w == nil {
		return nil
	}
	for _, run := range r.w.Open() {
		if _, instance := r.units[run]; run != "" && !instance {
			r.w.Append(spool.Record{Run: run, End: "KILLED"})
		}
	}
	for _, run := range slices.Sorted(slices.Values(r.w.Open())) {
		if run != "" {
			r.w.Append(spool.Record{Run: run, End: r.instanceEnd(run, how)})
		}
	}
	r.w.Append(spool.Record{End: how})
	return r.w.Close()
}

func (r *Recorder) warn(format string, args ...any) {
	if r.o.Warn != nil {
		r.o.Warn(fmt.Sprintf(format, args...))
	}
}
