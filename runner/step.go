package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"lpipe/cache"
)

// outcome is how a node's step ended. Dependents read it after they were started because of it.
type outcome struct {
	how     string
	out     map[string]cache.Content
	seconds float64
	log     string         // of a stage that ran
	changed bool           // an input changed while the stage ran: nothing of it is on record
	deposit *cache.Deposit // of a stage that ran: what the cache is yet to store
	calm    bool           // what is to be stored may be read before it is; else nothing may start that would
	settled func()         // called when that is stored, or cannot be
	discard func()         // called if it cannot, at the end of the run: stages may read the outputs until then
	spared  float64        // of a known result: the seconds that making it took, where the result was read
	err     error
}

// step brings one node up to date: inputs to key, key to result, result to workspace. A stage whose inputs came out
// as before has the key it had before, so a rebuilt output that did not change stops the wave by itself.
func (x *execution) step(ctx context.Context, n *Node) outcome {
	leave := sync.OnceFunc(func() { <-x.looking }) // hashing is over: another step may look
	defer leave()
	if n.Step.Frozen {
		return x.frozen(ctx, n)
	}
	if err := x.bringDownloads(ctx, n); err != nil {
		return x.failed(ctx, n, outcome{err: err})
	}
	in, err := x.ingredients(ctx, n)
	if err != nil {
		return x.failed(ctx, n, outcome{err: err})
	}
	description := describe(n, in)
	key := cache.SumKey(description)
	release, err := x.hold(ctx) // until what is found is on record: before, a gc knows nobody who needs it
	if err != nil {
		return x.failed(ctx, n, outcome{err: err})
	}
	done, found, err := x.find(ctx, n, key)
	if err == nil && found {
		done.settled = release
	} else {
		release()
	}
	if err == nil && !found {
		leave()
		done, err = x.produce(ctx, n, key, description, in)
	}
	if err != nil {
		done.err = err
		return x.failed(ctx, n, done)
	}
	if x.watch.watches(n) {
		if err := x.watch.end(key, x.curvesOf(n)); err != nil {
			x.warn(n.Step.Name, "%v", err)
		}
	}
	x.acknowledge(n, key, description, in, done)
	if done.deposit != nil && !done.calm && x.hasReaders(n) {
		x.commits.flush()
	}
	return done
}

// hasReaders tells whether stages of this run wait for a node's outputs.
func (x *execution) hasReaders(n *Node) bool {
	return slices.ContainsFunc(n.Feeds, func(next *Node) bool { return x.selected[next.index] })
}

// find looks for what a key leads to and puts it into the workspace: as recorded there, in the cache, at the remote.
func (x *execution) find(ctx context.Context, n *Node, key cache.Key) (outcome, bool, error) {
	if x.opts.Force || n.Step.Always {
		return outcome{}, false, nil
	}
	recorded, locked := x.lock.Stages[n.Step.Name]
	locked = locked && recorded.Key == key
	if locked {
		if want := recorded.contents(); x.stands(ctx, n, want) {
			return outcome{how: HowWorkspace, out: want}, true, nil
		}
		if done, found, err := x.restore(ctx, n, recorded.contents(), HowCache); found || err != nil {
			return done, found, err
		}
	}
	result, err := x.Cache.Result(key)
	if err == nil {
		if done, found, err := x.restore(ctx, n, result.Outputs, HowCache); found || err != nil {
			done.spared = result.Record.Seconds
			return done, found, err
		}
	} else if !errors.Is(err, cache.ErrNotFound) {
		x.warn(n.Step.Name, "the recorded result cannot be used: %v", err)
	}
	if result, found := x.ask(ctx, n, key); found {
		if x.onlyForKeys(n) {
			return outcome{how: HowRemote, out: result.Outputs, spared: result.Record.Seconds}, true, nil
		}
		if done, found, err := x.restore(ctx, n, result.Outputs, HowRemote); found || err != nil {
			if err == nil {
				err = x.Cache.PutResult(key, result)
			}
			done.spared = result.Record.Seconds
			return done, found, err
		}
	}
	if locked && x.opts.AllowMissing && x.absent(n) {
		return outcome{how: HowSkipped, out: recorded.contents()}, true, nil
	}
	return outcome{}, false, ctx.Err()
}

// contents are a recorded stage's outputs by name.
func (s LockStage) contents() map[string]cache.Content {
	out := make(map[string]cache.Content, len(s.Out))
	for name, one := range s.Out {
		out[name] = one.Content
	}
	return out
}

// stands tells whether all outputs of a node are in the workspace as wanted.
func (v *view) stands(ctx context.Context, n *Node, want map[string]cache.Content) bool {
	for i := range n.Step.Out {
		out := &n.Step.Out[i]
		scan, err := v.Cache.Scan(ctx, v.State, v.Plan.abs(out.Path))
		if err != nil || scan.Content != want[out.Name] {
			return false
		}
	}
	return true
}

// restore puts a result's outputs into the workspace, if the cache holds all those that do not stand there, or with
// HowRemote the remote does.
func (x *execution) restore(ctx context.Context, n *Node, want map[string]cache.Content, how string) (outcome, bool, error) {
	var absent []*StepOutput
	var lacking []cache.Content
	for i := range n.Step.Out {
		out := &n.Step.Out[i]
		content, named := want[out.Name]
		if !named {
			return outcome{}, false, nil
		}
		scan, err := x.Cache.Scan(ctx, x.State, x.Plan.abs(out.Path))
		if err == nil && scan.Content == content {
			continue
		}
		absent = append(absent, out)
		missing, err := x.Cache.Missing(ctx, content)
		if err != nil && x.unlessUnusable(n, err) != nil {
			return outcome{}, false, err
		}
		if err != nil || len(missing) > 0 {
			lacking = append(lacking, content)
		}
	}
	if len(lacking) > 0 && (how != HowRemote || !x.bring(ctx, lacking)) {
		return outcome{}, false, ctx.Err()
	}
	for _, out := range absent {
		if err := x.place(ctx, n, out, want[out.Name]); err != nil {
			return outcome{}, false, x.unlessUnusable(n, err)
		}
	}
	if len(absent) == 0 {
		how = HowWorkspace
	}
	return outcome{how: how, out: want}, true, nil
}

// unlessUnusable makes a miss of what the cache lacks or has found damaged: the stage can make it again.
func (x *execution) unlessUnusable(n *Node, err error) error {
	if errors.Is(err, cache.ErrDamaged) {
		x.warn(n.Step.Name, "a cached output cannot be used and is made again: %v", err)
		return nil
	}
	if errors.Is(err, cache.ErrNotFound) {
		return nil
	}
	return err
}

// place puts content at an output's path. What stands there and is known nowhere else is kept in the cache first.
func (x *execution) place(ctx context.Context, n *Node, out *StepOutput, want cache.Content) error {
	if err := x.safe(out.Path); err != nil {
		return err
	}
	if !x.isPart(ctx, x.Plan.abs(out.Path), want) {
		if err := x.keepEdit(ctx, n, out); err != nil {
			return err
		}
	}
	_, err := x.Cache.Place(ctx, x.State, want, x.Plan.abs(out.Path))
	return err
}

// ask asks the remote for a result. The first failure ends the questions of this run: a colleague's result saves time,
// but nothing depends on it.
func (x *execution) ask(ctx context.Context, n *Node, key cache.Key) (*cache.Result, bool) {
	if !x.online() {
		return nil, false
	}
	result, err := x.Fetcher.Result(ctx, key)
	if errors.Is(err, cache.ErrUntrusted) {
		x.warn(n.Step.Name, "not used: %v", err)
		return nil, false
	}
	if err == nil && cache.SumKey(result.Description) != key {
		x.warn(n.Step.Name, "the remote's result for key %s describes something else and is not used", key)
		return nil, false
	}
	return result, x.answered(ctx, err)
}

// bring brings content from the remote into the cache.
func (x *execution) bring(ctx context.Context, wanted []cache.Content) bool {
	return x.online() && x.answered(ctx, x.Fetcher.Contents(ctx, wanted))
}

// answered tells whether the remote had what it was asked for, and gives it up if it failed.
func (x *execution) answered(ctx context.Context, err error) bool {
	if err != nil && !errors.Is(err, cache.ErrNotFound) && ctx.Err() == nil {
		x.giveUpRemote(err)
	}
	return err == nil
}

// absent tells whether no output of a node is in the workspace.
func (x *execution) absent(n *Node) bool {
	return !slices.ContainsFunc(n.Step.Out, func(out StepOutput) bool { return standsAt(x.Plan.abs(out.Path)) })
}

// frozen takes a frozen stage's outputs as they stand; only missing ones are put back from the record.
func (x *execution) frozen(ctx context.Context, n *Node) outcome {
	done := outcome{how: HowSkipped, out: map[string]cache.Content{}}
	recorded := x.lock.Stages[n.Step.Name]
	for i := range n.Step.Out {
		out := &n.Step.Out[i]
		scan, err := x.Cache.Scan(ctx, x.State, x.Plan.abs(out.Path))
		if errors.Is(err, fs.ErrNotExist) {
			content := recorded.Out[out.Name].Content
			if content.ID.IsZero() {
				err = fmt.Errorf("the stage is frozen, and its output %s neither exists nor is on record; run it once without frozen", out.Path)
			} else {
				err = x.obtain(ctx, content, out.Path)
			}
			done.out[out.Name] = content
		} else if err == nil {
			done.out[out.Name] = scan.Content
		}
		if err != nil {
			done.err = err
			return x.failed(ctx, n, done)
		}
	}
	x.commits.tell(func() { x.finished(n, cache.Key{}, done, x.Now()) })
	return done
}

// obtain puts recorded content at a path that is empty: from the cache, else from the remote.
func (x *execution) obtain(ctx context.Context, want cache.Content, at string) error {
	if err := x.safe(at); err != nil {
		return err
	}
	missing, err := x.Cache.Missing(ctx, want)
	if err == nil && len(missing) > 0 {
		if err = cache.ErrNotFound; x.bring(ctx, []cache.Content{want}) {
			err = nil
		}
	}
	if err == nil {
		_, err = x.Cache.Place(ctx, x.State, want, x.Plan.abs(at))
	}
	if errors.Is(err, cache.ErrNotFound) {
		return fmt.Errorf("%s is missing, and its recorded content %s is neither in the cache nor at the remote; put it back, or run lpipe pull from a remote that has it: %w", at, want.ID, fs.ErrNotExist)
	}
	return err
}

// acknowledge has a finished step made part of the record, and tells who watches once the record is durable: soon, not
// at once. A stage that was not acknowledged may run again after a crash; one that was never does.
func (x *execution) acknowledge(n *Node, key cache.Key, description string, in ingredients, done outcome) {
	entries := x.newSources(in)
	recorded, locked := x.lock.Stages[n.Step.Name]
	if done.how != HowSkipped && !(locked && recorded.Key == key && recorded.matches(n, done.out)) {
		if !done.changed {
			stage := lockStage(n, key, description, in, done.out)
			entries = append(entries, entry{Profile: x.Pipeline.Profile, Stage: n.Step.Name, Done: &stage})
		}
	}
	at := x.Now()
	told := func() { x.finished(n, key, done, at) }
	if len(entries) == 0 && done.deposit == nil {
		x.commits.tell(func() {
			done.settle()
			told()
		})
		return
	}
	x.mu.Lock()
	x.waiting = append(x.waiting, entries...)
	x.mu.Unlock()
	x.commits.submit(&ending{deposit: done.deposit, calm: done.calm, entries: entries,
		told: func() {
			done.settle()
			told()
		},
		failed: func(err error) {
			done.settle()
			x.lost(n, done, err)
		},
	})
}

func (o outcome) settle() {
	if o.settled != nil {
		o.settled()
	}
}

// matches tells whether a record names these outputs at the places where the pipeline wants them.
func (s LockStage) matches(n *Node, out map[string]cache.Content) bool {
	if len(s.Out) != len(n.Step.Out) {
		return false
	}
	for i := range n.Step.Out {
		one := &n.Step.Out[i]
		if s.Out[one.Name] != (LockOutput{one.Path, out[one.Name]}) {
			return false
		}
	}
	return true
}
