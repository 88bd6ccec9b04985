package spool

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"lpipe/tracking"
)

// take makes of a record what the server is to get: rows are collected, all else is sent in its turn.
func (x *sending) take(ctx context.Context, r *Record) error {
	if r.Start == nil && r.Head == nil && x.state.Runs[r.Run] == nil {
		return nil // of a run whose start is damaged
	}
	switch {
	case r.Metrics != nil:
		x.takeMetrics(r)
	case r.Params != nil:
		return x.takeParams(ctx, r)
	case r.Tags != nil:
		x.takeTags(r)
	case r.Start != nil:
		return x.start(ctx, r)
	case r.Input != nil:
		return x.input(ctx, r)
	case r.File != nil:
		return x.file(ctx, r)
	case r.End != "":
		return x.end(ctx, r)
	}
	return nil
}

func (x *sending) batch(run string) *tracking.Batch {
	if x.pending[run] == nil {
		x.pending[run] = &tracking.Batch{}
	}
	return x.pending[run]
}

func (x *sending) takeMetrics(r *Record) {
	b := x.batch(r.Run)
	for _, name := range sortedKeys(r.Metrics) {
		b.Metrics = append(b.Metrics, tracking.Metric{Key: x.clean(r.Run, "metric", name), Value: float64(r.Metrics[name]), Time: r.Time, Step: r.Step})
	}
	x.queued += len(r.Metrics)
}

// takeParams shortens what is too long; the whole value then goes to the artifacts.
func (x *sending) takeParams(ctx context.Context, r *Record) error {
	b := x.batch(r.Run)
	for _, name := range sortedKeys(r.Params) {
		clean := x.clean(r.Run, "parameter", name)
		value, long := tracking.Cut(r.Params[name], tracking.MaxParam)
		if long {
			at := path.Join("params", strings.NewReplacer("/", "_", ":", "_").Replace(clean)+".txt")
			x.warn("parameter %q has %d bytes: the server takes %d characters of it, the whole is the artifact %s", name, len(r.Params[name]), tracking.MaxParam, at)
			run := x.state.Runs[r.Run]
			err := x.Client.Upload(ctx, run.Artifacts, at, strings.NewReader(r.Params[name]), int64(len(r.Params[name])))
			if err := x.pass(r.Run, "artifact "+at, err); err != nil {
				return err
			}
		}
		b.Params = append(b.Params, tracking.Tag{Key: clean, Value: value})
	}
	x.queued += len(r.Params)
	return nil
}

func (x *sending) takeTags(r *Record) {
	b := x.batch(r.Run)
	for _, name := range sortedKeys(r.Tags) {
		value, long := tracking.Cut(r.Tags[name], tracking.MaxTag)
		if long {
			x.warn("tag %q has %d bytes: the server gets the first %d characters", name, len(r.Tags[name]), tracking.MaxTag)
		}
		tag := tracking.Tag{Key: x.clean(r.Run, "tag", name), Value: value}
		b.Tags = slices.DeleteFunc(b.Tags, func(t tracking.Tag) bool { return t.Key == tag.Key })
		b.Tags = append(b.Tags, tag)
	}
	x.queued += len(r.Tags)
}

// flush sends a run's pending rows, as many in one request as the server takes.
func (x *sending) flush(ctx context.Context, run string) error {
	b := x.pending[run]
	if b == nil {
		return nil
	}
	for b.Size() > 0 {
		var part tracking.Batch
		part.Tags, b.Tags = split(b.Tags, tracking.MaxTags)
		part.Params, b.Params = split(uniqueParams(b.Params), tracking.MaxParams)
		part.Metrics, b.Metrics = split(b.Metrics, tracking.MaxBatchSize-len(part.Tags)-len(part.Params))
		if err := x.sendBatch(ctx, run, part); err != nil {
			return err
		}
	}
	delete(x.pending, run)
	return nil
}

// uniqueParams keeps the first of the same name: a server refuses a batch with two, and never changes one it has.
func uniqueParams(params []tracking.Tag) []tracking.Tag {
	seen := map[string]bool{}
	return slices.DeleteFunc(params, func(p tracking.Tag) bool {
		twice := seen[p.Key]
		seen[p.Key] = true
		return twice
	})
}

func split[T any](list []T, n int) (first, rest []T) {
	n = min(n, len(list))
	return list[:n:n], list[n:]
}

// sendBatch sends one batch. Of one that the server refuses, the halves are sent, down to the row that it does not take:
// that one is told of and left out.
func (x *sending) sendBatch(ctx context.Context, run string, b tracking.Batch) error {
	err := x.Client.LogBatch(ctx, x.state.Runs[run].ID, b)
	if err == nil || !tracking.IsKind(err, tracking.Refused) || gone(err) {
		return x.explain(run, err)
	}
	if b.Size() == 1 {
		return x.pass(run, rowName(b), err)
	}
	var one, two tracking.Batch
	one.Tags, two.Tags = split(b.Tags, (len(b.Tags)+1)/2)
	one.Params, two.Params = split(b.Params, len(b.Params)/2)
	one.Metrics, two.Metrics = split(b.Metrics, (len(b.Metrics)+1)/2)
	if one.Size() == 0 || two.Size() == 0 { // one of each sort: sort by sort
		one, two = tracking.Batch{Metrics: b.Metrics}, tracking.Batch{Params: b.Params, Tags: b.Tags}
	}
	for _, part := range []tracking.Batch{one, two} {
		if part.Size() > 0 {
			if err := x.sendBatch(ctx, run, part); err != nil {
				return err
			}
		}
	}
	return nil
}

func rowName(b tracking.Batch) string {
	switch {
	case len(b.Metrics) > 0:
		return fmt.Sprintf("metric %q of step %d", b.Metrics[0].Key, b.Metrics[0].Step)
	case len(b.Params) > 0:
		return fmt.Sprintf("parameter %q", b.Params[0].Key)
	}
	return fmt.Sprintf("tag %q", b.Tags[0].Key)
}

// pass tells of something that the server does not take, counts it and goes on; other errors stay errors.
func (x *sending) pass(run, what string, err error) error {
	if err == nil || !tracking.IsKind(err, tracking.Refused) && !tracking.IsKind(err, tracking.Unsupported) || gone(err) {
		return x.explain(run, err)
	}
	x.warn("the server does not take %s: %v", what, err)
	x.state.Refused++
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
