package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// sweptInstance is an instance on its way through a sweep.
type sweptInstance struct {
	*SweepInstance
	watch   *watch            // nil: nothing stops it
	waiting bool              // it stands at a rung
	record  *ExperimentRecord // of one that does

	before      int     // stages that were up to date when it stood at the rung before
	ran, reused int     // stages so far
	seconds     float64 // that its stage took on the way to rungs
}

// all runs the instances: each to its end, or with halving rung by rung, where each round only takes those that go on.
func (s *sweep) all(ctx context.Context) {
	field := make([]*sweptInstance, len(s.Instances))
	for i := range s.Instances {
		field[i] = &sweptInstance{SweepInstance: &s.Instances[i]}
	}
	h := s.Experiment.Halving
	if h == nil || s.Whole {
		s.each(ctx, field)
		return
	}
	for _, one := range field {
		one.watch = &watch{halving: h, curve: s.Curve, path: rungsPath(s.dir(one))}
	}
	next := field
	for rung := range len(h.Rungs) + 1 {
		for _, one := range next {
			one.watch.limit, one.watch.paused = rung, false
		}
		s.each(ctx, next)
		if ctx.Err() != nil || s.broken() || rung == len(h.Rungs) {
			return
		}
		if field = s.choose(rung, field); s.broken() {
			return
		}
		next = slices.DeleteFunc(slices.Clone(field), func(one *sweptInstance) bool { return !one.waiting })
	}
}

// choose lets the best of those that came to a rung go on, and records that the others stopped there. One that is done or has
// failed counts by what it showed at the rung, but is neither stopped nor run.
func (s *sweep) choose(rung int, field []*sweptInstance) (on []*sweptInstance) {
	h := s.Experiment.Halving
	var contenders []contender
	for _, one := range field {
		if values, key := one.watch.rungs(); len(values) > rung {
			contenders = append(contenders, contender{one.Name, key.String(), values[rung].Value})
		}
	}
	chosen, decided := h.goOn(len(field), contenders)
	if !decided && len(contenders) > 0 {
		s.report(RunEvent{Event: "warning", Message: fmt.Sprintf("rung %d: no instance told %s by then, so all go on; have it measured more often, or put the rung later", rung+1, h.Metric)})
	}
	var names []string
	for _, one := range field {
		switch {
		case chosen[one.Name]:
			on = append(on, one)
			names = append(names, one.Name)
		case one.waiting:
			s.stop(one, rung)
		}
	}
	s.report(RunEvent{Event: "note", Message: fmt.Sprintf("rung %d: %d of %d go on: %s", rung+1, len(on), len(field), strings.Join(names, " "))})
	return on
}

// stop records that an instance came no further than a rung. Its checkpoint stays.
func (s *sweep) stop(one *sweptInstance, rung int) {
	one.record.State, one.record.Rung = fmt.Sprintf("%s %d", ExperimentStopped, rung+1), rung+1
	err := s.conclude(one.record)
	if err != nil {
		s.ended(nil, err)
		return
	}
	s.ended(one.record, nil)
}

// paused tells whether the instance was stopped at a rung in this round.
func (one *sweptInstance) paused() bool {
	if one.watch == nil {
		return false
	}
	one.watch.mu.Lock()
	defer one.watch.mu.Unlock()
	return one.watch.paused
}

// add counts what another round did. What was up to date before is not counted again.
func (one *sweptInstance) add(round *Summary) {
	round.Reused = max(0, round.Reused-one.before)
	one.before += round.Ran + round.Reused
	one.ran, one.reused = one.ran+round.Ran, one.reused+round.Reused
	one.seconds += round.paused
}

// note puts into a record what the instance showed at the rungs, and under the metric's name what it showed last.
func (one *sweptInstance) note(record *ExperimentRecord) {
	if one.watch == nil {
		return
	}
	one.watch.mu.Lock()
	defer one.watch.mu.Unlock()
	record.Rungs = slices.Clone(one.watch.settled)
	metric := one.watch.halving.Metric
	if _, there := record.Metrics[metric]; there || len(record.Rungs) == 0 {
		return
	}
	record.Metrics[metric] = record.Rungs[len(record.Rungs)-1].Value
	if one.watch.ended && len(one.watch.told) > 0 {
		record.Metrics[metric] = one.watch.told[len(one.watch.told)-1].Value
	}
}
