package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"lpipe/cache"
)

// inputsChanged looks at all inputs again: the result of a stage whose inputs changed under it belongs to no key.
func (x *execution) inputsChanged(ctx context.Context, n *Node, in ingredients) (bool, error) {
	changed := ""
	for _, one := range in.inputs {
		if one.origin != nil {
			x.scans.forget(one.Path)
		}
		scan, err := x.scan(ctx, one.nodeInput)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, cache.ErrChanged), err == nil && !sameRead(n, one, scan):
			changed = one.Path
		case err != nil:
			return false, err
		}
	}
	for _, file := range in.code {
		scan, err := x.Cache.Scan(ctx, x.State, file.path)
		if err != nil || scan.Content != file.content {
			changed = file.name
		}
	}
	if changed != "" {
		x.warn(n.Step.Name, "%s changed while the stage ran, so its result is not recorded; the next repro runs it again", changed)
	}
	return changed != "", ctx.Err()
}

// sameRead tells whether a scan shows what an input was: all of it, or the files that the kind reads.
func sameRead(n *Node, one readInput, scan *cache.Scan) bool {
	if scan.Content == one.content {
		return true
	}
	return !one.digest.IsZero() && scan.Dir && scan.Digest(matching(n.reads(one.nodeInput))) == one.digest
}

// collect hands the outputs and the result over to the cache. What stands in the workspace already is stored soon, with
// what other stages leave. Fresh outputs are stored at once and then appear at their places.
func (j *job) collect(ctx context.Context, key cache.Key, description string, began time.Time, done *outcome) (err error) {
	deposit, err := j.Cache.NewDeposit(ctx) // it keeps a gc from taking the outputs before the result names them
	if err != nil {
		return err
	}
	defer func() {
		if done.deposit == nil {
			deposit.Discard()
		}
	}()
	done.out = make(map[string]cache.Content, len(j.node.Step.Out))
	done.calm = j.fresh == "" && j.hasReaders(j.node)
	for i := range j.node.Step.Out {
		one := &j.node.Step.Out[i]
		content, err := j.store(ctx, deposit, one)
		if err != nil {
			return fmt.Errorf("store output %q: %w", one.Name, writeError(j.dir, err))
		}
		done.out[one.Name] = content
		done.calm = done.calm && (content.Light() || !one.Cache)
	}
	if !done.changed {
		result := &cache.Result{Outputs: done.out, Description: description, Record: j.entry(ctx, deposit, began, done.seconds), Inputs: j.listFiles(ctx, j.node, j.in)}
		if err := deposit.PutResult(key, result); err != nil {
			return writeError(j.dir, err)
		}
	}
	if j.fresh == "" {
		done.deposit = deposit
		return nil
	}
	release, err := j.hold(ctx) // Commit ends the deposit's, and the journal does not name the key yet
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	done.settled = release
	if err := errors.Join(j.Cache.Commit(ctx, []*cache.Deposit{deposit})...); err != nil {
		return writeError(j.dir, err)
	}
	for i := range j.node.Step.Out {
		one := &j.node.Step.Out[i]
		if !one.Cache {
			continue
		}
		if err := j.place(ctx, j.node, one, done.out[one.Name]); err != nil {
			return fmt.Errorf("place output %q: %w", one.Name, writeError(j.dir, err))
		}
	}
	return nil
}

// store takes one output into the cache; one with cache = false only goes to its place.
func (j *job) store(ctx context.Context, deposit *cache.Deposit, one *StepOutput) (cache.Content, error) {
	at := j.Plan.abs(one.Path)
	made := at
	if j.fresh != "" {
		made = j.freshPath(one)
	}
	if one.Cache {
		return deposit.Add(ctx, j.State, made, cache.AddOptions{Move: true, Calm: j.fresh == "" && j.hasReaders(j.node)})
	}
	if made != at {
		if err := j.keepEdit(ctx, j.node, one); err != nil {
			return cache.Content{}, err
		}
		if err := replace(made, at); err != nil {
			return cache.Content{}, err
		}
	}
	scan, err := j.Cache.Scan(ctx, j.State, at)
	if err != nil {
		return cache.Content{}, err
	}
	return scan.Content, nil
}

// entry is the record of who made the result, with its log.
func (j *job) entry(ctx context.Context, deposit *cache.Deposit, began time.Time, seconds float64) cache.Record {
	record := cache.Record{
		Stage: j.node.Step.Name, Kind: j.node.Step.Kind.Name,
		User: j.User, Host: j.Host, Device: j.device, Version: j.Version, Run: j.run.id,
		Started: began.UTC().Truncate(time.Millisecond), Seconds: seconds, Metrics: j.metrics,
	}
	if info, err := os.Stat(j.log); err == nil && info.Size() > 0 {
		log, err := deposit.Add(ctx, j.State, j.log, cache.AddOptions{})
		if err == nil {
			record.Log = &log
		} else if ctx.Err() == nil {
			j.warn(j.node.Step.Name, "the result is recorded without its log, which cannot be stored: %v", err)
		}
	}
	return record
}
