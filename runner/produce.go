package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"lpipe/cache"
)

// produce runs a stage and records what came out. Of two stages with the same key only one runs.
func (x *execution) produce(ctx context.Context, n *Node, key cache.Key, description string, in ingredients) (done outcome, err error) {
	leave, twin := x.twins.enter(ctx, key)
	if leave == nil {
		return outcome{}, ctx.Err()
	}
	defer func() {
		if done.deposit == nil {
			leave() // else a twin waits until the result can be found
		}
	}()
	if twin {
		if done, found, err := x.find(ctx, n, key); found || err != nil {
			return done, err
		}
	}
	if x.watch.watches(n) {
		if was := x.watch.open(key); was != "" {
			x.warn(n.Step.Name, "was measured by %s until now; %s of the steps before those that run now is known only if it is told again, and who has no number at a rung goes no further: lpipe exp rm begins anew", was, x.watch.halving.Metric)
		}
		if x.watch.holds() {
			return outcome{}, errPaused
		}
		defer x.watch.close()
	}
	span := &x.spans[n.index]
	asked := x.Now()
	grant, err := x.pools.take(ctx, n.resources(), x.priority[n.index])
	if err != nil {
		return outcome{}, err
	}
	span.waited = x.Now().Sub(asked) > noticeable
	defer func() {
		span.freed = x.Now()
		grant.release()
	}()
	if x.stopping() {
		return outcome{}, errStopped
	}
	job, err := x.prepare(ctx, n, key, in, grant)
	if err != nil {
		return outcome{}, err
	}
	x.start(ctx, n, key, description, in, job.log)
	began := x.Now()
	span.began = began
	if err = job.attempts(ctx); ctx.Err() != nil {
		err = ctx.Err() // interrupted: no failure of the stage, whatever it says
	}
	done = outcome{how: HowRan, seconds: x.Now().Sub(began).Seconds(), log: x.rel(job.log)}
	if err == nil {
		done.changed, err = x.inputsChanged(ctx, n, in)
	}
	if err == nil {
		err = job.collect(ctx, key, description, began, &done)
	}
	if err != nil {
		job.discard()
	}
	if done.deposit != nil {
		// Without a result, a checkpoint in the scratch folder is all there is; an empty one serves the next stage at once.
		reused := job.execution.scratch.reuse(job.scratch)
		done.settled = func() {
			leave()
			if !reused {
				job.execution.scratch.done(job.scratch)
			}
		}
		done.discard = job.discard
	}
	if err == nil && x.logs.reuse(job.log) {
		done.log = ""
	}
	return done, job.close(ctx, err)
}

// job is one stage while it runs.
type job struct {
	*execution
	node    *Node
	grant   *grant
	in      ingredients
	log     string
	scratch string
	key     cache.Key
	out     map[string]string // output -> where the attempt writes it
	confine *confinement      // of the last attempt; nil without a sandbox
	fresh   string            // the folder for outputs of kinds that write at fresh paths; "" for those in place
	moved   string            // where the outputs of a failed attempt went
	pause   context.CancelCauseFunc
	begun   *journal // says that the stage began, of one in place

	mu      sync.Mutex // guards what the stage reports
	device  string
	metrics map[string]float64
}

func (x *execution) prepare(ctx context.Context, n *Node, key cache.Key, in ingredients, g *grant) (*job, error) {
	j := &job{execution: x, node: n, grant: g, in: in, key: key, metrics: map[string]float64{}}
	if err := x.bringInputs(ctx, in); err != nil {
		return nil, err
	}
	for i := range n.Step.Out {
		if err := x.safe(n.Step.Out[i].Path); err != nil {
			return nil, err
		}
	}
	run, err := x.run.folder()
	if err == nil {
		j.log = filepath.Join(run, n.Step.Name+".log")
		j.scratch, err = x.scratch.take(key.String())
	}
	if err == nil && n.Step.Kind.InPlace {
		err = x.guard.start(ctx)
	} else if err == nil {
		if err = os.MkdirAll(x.path("tmp"), 0o777); err == nil {
			j.fresh, err = os.MkdirTemp(x.path("tmp"), n.Step.Name+".")
		}
	}
	if err != nil {
		return nil, writeError(x.dir, err)
	}
	return j, nil
}

// bringInputs puts into the workspace what was known by its record alone so far.
func (x *execution) bringInputs(ctx context.Context, in ingredients) error {
	for _, one := range in.inputs {
		if standsAt(x.Plan.abs(one.Path)) {
			continue
		}
		x.commits.flush() // it may be the output of a stage that just ended, which another one took away
		var err error
		if one.origin != nil && one.origin.Download != nil {
			err = x.bringDownload(ctx, one.origin.Download, true)
		} else {
			err = x.obtain(ctx, one.content, one.Path)
		}
		if err != nil {
			return fmt.Errorf("input %q: %w", one.Name, err)
		}
	}
	return nil
}

// attempts runs the stage until it succeeds or its retries are used up.
func (j *job) attempts(ctx context.Context) error {
	log, err := j.logs.open(j.log)
	if err != nil {
		return writeError(j.dir, err)
	}
	defer log.Close()
	ctx, j.pause = context.WithCancelCause(ctx)
	defer j.pause(nil)
	for attempt := 0; ; attempt++ {
		err := j.attempt(ctx, log)
		if errors.Is(context.Cause(ctx), errPaused) {
			return errPaused
		}
		if err == nil || ctx.Err() != nil || attempt >= j.node.Step.Retries {
			return err
		}
		j.discard()
		j.warn(j.node.Step.Name, "%v; trying again (%d of %d)", err, attempt+1, j.node.Step.Retries)
		fmt.Fprintf(log, "lpipe: %v; trying again (%d of %d)\n", err, attempt+1, j.node.Step.Retries)
	}
}

// attempt runs the stage once.
func (j *job) attempt(ctx context.Context, log *os.File) error {
	err := j.clear(ctx)
	if err != nil {
		return err
	}
	if limit := j.node.Step.Timeout; limit > 0 {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err = j.call(limited, log)
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			err = &timeoutError{limit, err}
		}
	} else {
		err = j.call(ctx, log)
	}
	if err == nil {
		err = ctx.Err() // cancelled in its last moment: write nothing more
	}
	if err == nil {
		err = j.checkOutputs()
	}
	return err
}

// clear makes room for the outputs and says where the stage is to write them.
func (j *job) clear(ctx context.Context) error {
	out := make(map[string]string, len(j.node.Step.Out))
	if j.fresh != "" {
		for i := range j.node.Step.Out {
			out[j.node.Step.Out[i].Name] = j.freshPath(&j.node.Step.Out[i])
		}
		j.out = out
		return nil
	}
	paths := make([]string, 0, len(j.node.Step.Out))
	for i := range j.node.Step.Out {
		one := &j.node.Step.Out[i]
		if err := j.keepEdit(ctx, j.node, one); err != nil {
			return err
		}
		paths = append(paths, one.Path)
		out[one.Name] = j.Plan.abs(one.Path)
	}
	// After a kill, the next command finds here whose half-written outputs stand in the workspace.
	journal, err := j.record([]entry{{Profile: j.Pipeline.Profile, Begin: j.node.Step.Name, Run: j.run.id, Paths: paths}})
	if err != nil {
		return err
	}
	j.begun = journal
	j.out = out
	for _, at := range out {
		err := removeAll(at)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(at), 0o777)
		}
		if err != nil {
			return writeError(j.dir, err)
		}
	}
	return nil
}

// freshPath keeps of the declared path what counts in the key: the extension.
func (j *job) freshPath(out *StepOutput) string {
	if out.Folder {
		return filepath.Join(j.fresh, out.Name)
	}
	return filepath.Join(j.fresh, out.Name+filepath.Ext(out.Path))
}

// cpus is how many threads the stage may use.
func (j *job) cpus() int {
	if step := j.node.Step; step.Kind.Shared && step.Resources == nil {
		return int(j.pools.total["cpu"])
	}
	return j.grant.cpus
}

// call hands over to the stage.
func (j *job) call(ctx context.Context, log *os.File) (err error) {
	variables, secrets := environ(j.Environ, j.node.Step, j.scratch, j.grant.gpus)
	if j.confine == nil {
		if j.confine, err = j.confinement(); err != nil {
			return err
		}
	}
	masked, flush := masking(log, secrets)
	env := &Env{
		Dir:     j.dir,
		Name:    j.node.Step.Name,
		In:      j.inputs(),
		Out:     j.out,
		Environ: j.confine.variables(j.node.Step, variables),
		GPUs:    j.grant.gpus,
		Device:  j.Device,
		CPUs:    j.cpus(),
		Scratch: j.scratch,
		Log:     masked,
		Report:  j.told,
		Spawned: func(group int) func() { return j.guard.spawned(group, j.scratch) },
		Confine: j.wrap(j.confine),
	}
	if c := j.Options.Checkpoints; c != nil {
		env.SendCheckpoint = func(ctx context.Context, path string) error { return c.SendCheckpoint(ctx, j.key, path) }
		env.BringCheckpoint = func(ctx context.Context, than string) (string, error) {
			return c.BringCheckpoint(ctx, j.key, j.scratch, than)
		}
	}
	defer func() {
		if bug := recover(); bug != nil {
			fmt.Fprintf(log, "panic: %v\n%s", bug, debug.Stack())
			err = fmt.Errorf("stage kind %s has a bug and panicked: %v", j.node.Step.Kind.Name, bug)
		}
		if flushed := flush(); err == nil && flushed != nil {
			err = fmt.Errorf("write log: %w", flushed)
		}
	}()
	before := j.marks(j.confine)
	err = j.watched(func() error { return j.node.Step.Stage.Run(ctx, env) })
	j.tellUndeclared(j.confine, before)
	return err
}

// lasting is how long a stage that writes in place runs before it is made durable that it began. After a loss of power what it
// was writing is then known for its own; the disk writes back what a shorter one wrote hardly before that line.
const lasting = 200 * time.Millisecond

// watched runs what may be stopped at a rung while its curves are followed.
func (j *job) watched(run func() error) error {
	if j.begun != nil {
		defer j.begun.syncAfter(lasting)()
	}
	if !j.watch.watches(j.node) || j.fresh != "" {
		return run()
	}
	done, followed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		j.warnUnkept(j.watch.follow(done, j.curvesOf(j.node), j.stopAtRung))
	}()
	defer func() {
		close(done)
		<-followed
	}()
	return run()
}

func (j *job) stopAtRung() { j.pause(errPaused) }

// warnUnkept says that what a stage showed at a rung may not outlive this run.
func (j *job) warnUnkept(err error) {
	if err != nil {
		j.warn(j.node.Step.Name, "its metric cannot be kept, so after a kill its rungs may not be known: %v", writeError(j.dir, err))
	}
}

func (j *job) inputs() map[string][]Input {
	in := map[string][]Input{}
	for i := range j.node.Step.In {
		one := &j.node.Step.In[i]
		in[one.Port] = append(in[one.Port], Input{Name: one.Key, Path: j.inputAt(&j.node.inputs[i])})
	}
	return in
}

// told passes on what the running stage reports and keeps what belongs into the record.
func (j *job) told(e Event) {
	j.mu.Lock()
	if e.Device != "" {
		j.device = e.Device
	}
	for name, value := range e.Metrics {
		j.metrics[name] = value
	}
	j.mu.Unlock()
	if j.watch.watches(j.node) {
		j.warnUnkept(j.watch.heard(e, j.stopAtRung))
	}
	j.emit(RunEvent{Event: "progress", Stage: j.node.Step.Name, Kind: j.node.Step.Kind.Name, Progress: &e})
}

// checkOutputs demands every declared output, as file or folder.
func (j *job) checkOutputs() error {
	var wrong []string
	for i := range j.node.Step.Out {
		one := &j.node.Step.Out[i]
		info, err := os.Lstat(j.out[one.Name])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, fmt.Sprintf("it did not write its output %q (%s)", one.Name, one.Path))
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			wrong = append(wrong, fmt.Sprintf("its output %q (%s) is a symbolic link; it must be a file or folder of its own", one.Name, one.Path))
		case one.Folder && !info.IsDir():
			wrong = append(wrong, fmt.Sprintf("its output %q (%s) is declared as a folder, but it wrote a file", one.Name, one.Path))
		case one.File && info.IsDir():
			wrong = append(wrong, fmt.Sprintf("its output %q (%s) must be a file, but it wrote a folder", one.Name, one.Path))
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// discard takes what a failed attempt left out of the way: fresh paths just go, what stands in the workspace moves to
// the run's folder, where a person can look at it.
func (j *job) discard() {
	for i := range j.node.Step.Out {
		one := &j.node.Step.Out[i]
		at := j.out[one.Name]
		if at == "" {
			continue // it did not come so far
		}
		if j.fresh != "" {
			removeAll(at)
			continue
		}
		if moved, err := j.run.setAside(j.node.Step.Name, one.Path, at); err != nil {
			j.warn(j.node.Step.Name, "%s, left by the failed stage, cannot be moved away and is removed: %v", one.Path, err)
			removeAll(at) // else the next run would take it for somebody's edit
		} else if moved != "" {
			j.moved = j.rel(moved)
		}
	}
}

// close removes what only the running stage needed. Scratch stays when it failed: the next attempt goes on from there.
func (j *job) close(ctx context.Context, err error) error {
	if j.fresh != "" {
		removeAll(j.fresh)
	}
	if j.confine != nil && j.confine.temp != "" {
		removeAll(j.confine.temp)
	}
	if err == nil {
		if j.fresh != "" {
			j.execution.scratch.done(j.scratch)
		}
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errPaused) {
		return err
	}
	failure := &StageFailure{Stage: j.node.Step.Name, Err: err, Log: j.rel(j.log), Tail: tail(j.log), Moved: j.moved, Range: j.node.Step.Range}
	if j.confine != nil {
		failure.Sandbox = j.confine.note
	}
	var command *CommandError
	if errors.As(err, &command) {
		failure.Command = command.Command
	}
	return failure
}

// tail returns the last lines of a log.
func tail(path string) []string {
	const lines, most = 20, 16 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		f.Seek(-most, io.SeekEnd)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(all) == 1 && all[0] == "" {
		return nil
	}
	return all[max(0, len(all)-lines):]
}
