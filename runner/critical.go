package runner

import (
	"slices"
	"time"
)

// CriticalStage is one link of the chain of stages that decided how long a run took: each could not start before the
// one ahead of it was done.
type CriticalStage struct {
	Stage   string  `json:"stage"`
	How     string  `json:"how"`
	Start   float64 `json:"start"` // seconds since the run's start
	Seconds float64 `json:"seconds"`
	// After says why it waited for the one ahead: "needs" its output, or "resources" that it held. "" for the first.
	After string `json:"after,omitempty"`
}

// span is when a node's step did what. Each is written by the goroutine that has the step and read when all are done.
type span struct {
	from, began, freed, ended time.Time // the step, the run of its stage, its resources given back, the step's end
	waited                    bool      // for resources
}

// noticeable is how long a wait for resources must be to count: below that, none was needed.
const noticeable = 2 * time.Millisecond

// timed runs a node's step and notes when.
func (x *execution) timed(n *Node, step func() outcome) outcome {
	s := &x.spans[n.index]
	s.from = x.Now()
	done := step()
	s.ended = x.Now()
	return done
}

// critical walks back from the stage that ended last: to whom it waited for, the last of its needs or whoever gave the
// resources free that it then took.
func (x *execution) critical(nodes []*Node, began time.Time) []CriticalStage {
	var last *Node
	for _, n := range nodes {
		if s := x.spans[n.index]; !s.ended.IsZero() && x.worked(n) && (last == nil || s.ended.After(x.spans[last.index].ended)) {
			last = n
		}
	}
	var givers []*Node // of resources, in the order in which they gave them back
	for _, n := range nodes {
		if !x.spans[n.index].freed.IsZero() {
			givers = append(givers, n)
		}
	}
	slices.SortFunc(givers, func(a, b *Node) int { return x.spans[a.index].freed.Compare(x.spans[b.index].freed) })
	var path []CriticalStage
	seen := map[*Node]bool{}
	for n := last; n != nil && !seen[n]; {
		seen[n] = true
		s := x.spans[n.index]
		start := s.from
		if !s.began.IsZero() {
			start = s.began
		}
		one := CriticalStage{Stage: n.Step.Name, How: x.outcomes[n.index].how, Start: start.Sub(began).Seconds(), Seconds: s.ended.Sub(start).Seconds()}
		before, why := x.waitedFor(n, givers)
		if before != nil {
			one.After = why
		}
		path = append(path, one)
		n = before
	}
	slices.Reverse(path)
	return path
}

// worked tells whether a node's step took time that counts: what stood in the workspace did not.
func (x *execution) worked(n *Node) bool {
	how := x.outcomes[n.index].how
	return how == HowRan || how == HowCache || how == HowRemote || how == HowFailed
}

func (x *execution) waitedFor(n *Node, givers []*Node) (before *Node, why string) {
	for _, need := range n.Needs {
		if x.selected[need.index] && x.worked(need) && (before == nil || x.spans[need.index].ended.After(x.spans[before.index].ended)) {
			before, why = need, "needs"
		}
	}
	s := x.spans[n.index]
	if !s.waited {
		return before, why
	}
	i, _ := slices.BinarySearchFunc(givers, s.began, func(n *Node, t time.Time) int {
		if x.spans[n.index].freed.After(t) {
			return 1
		}
		return -1
	})
	if i > 0 && (before == nil || x.spans[givers[i-1].index].freed.After(x.spans[before.index].ended)) {
		before, why = givers[i-1], "resources"
	}
	return before, why
}
