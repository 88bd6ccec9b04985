package runner

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
)

// maxInFlight bounds the goroutines of steps that wait for resources.
const maxInFlight = 1024

// schedule starts steps as soon as all that they need is done. Hashing, and running what is found to need it, go on
// side by side.
func (x *execution) schedule(ctx context.Context, nodes []*Node) error {
	ready := &readyQueue{priority: x.priority, likely: x.likely}
	waits := make([]int, len(x.Plan.Nodes))
	for _, n := range nodes {
		if x.outcomes[n.index].how != "" {
			continue // known without a step, and all that it needs
		}
		for _, need := range n.Needs {
			if x.selected[need.index] && x.outcomes[need.index].how == "" {
				waits[n.index]++
			}
		}
		if waits[n.index] == 0 {
			heap.Push(ready, n)
		}
	}
	crew := &crew{run: func(n *Node) { x.outcomes[n.index] = x.timed(n, func() outcome { return x.step(ctx, n) }) }, work: make(chan *Node), finished: make(chan *Node, maxInFlight)}
	defer close(crew.work)
	for inFlight := 0; ; {
		var turn chan<- struct{} // to hash; nil while nothing is to be started
		if ready.Len() > 0 && inFlight < maxInFlight && ctx.Err() == nil && !x.stopping() {
			turn = x.looking
		} else if inFlight == 0 {
			return ctx.Err()
		} else {
			x.letGo() // what runs now may run for days
		}
		select {
		case turn <- struct{}{}:
			inFlight++
			crew.start(heap.Pop(ready).(*Node))
		case n := <-crew.finished:
			inFlight--
			crew.idle++
			for _, next := range x.released(n, waits) {
				heap.Push(ready, next)
			}
		}
	}
}

// released are the nodes that waited for nothing but this one. What needs a failed node never becomes ready.
func (x *execution) released(n *Node, waits []int) []*Node {
	if x.outcomes[n.index].err != nil {
		return nil
	}
	var released []*Node
	for _, next := range n.Feeds {
		if !x.selected[next.index] {
			continue
		}
		if waits[next.index]--; waits[next.index] == 0 {
			released = append(released, next)
		}
	}
	return released
}

// crew are goroutines that run nodes one after the other: a new one starts only when none is idle.
type crew struct {
	run      func(*Node)
	work     chan *Node
	finished chan *Node
	idle     int
}

func (c *crew) start(n *Node) {
	if c.idle > 0 {
		c.idle--
		c.work <- n
		return
	}
	go func() {
		for ok := true; ok; n, ok = <-c.work {
			c.run(n)
			c.finished <- n
		}
	}()
}

// likely tells whether a node whose needs are done will run, as far as can be told without a look: one that never ran here,
// or that reads what was just made.
func (x *execution) likely(n *Node) bool {
	if _, locked := x.lock.Stages[n.Step.Name]; !locked {
		return true
	}
	return slices.ContainsFunc(n.Needs, func(need *Node) bool { return x.outcomes[need.index].how == HowRan })
}

// readyQueue is a heap of nodes: what is likely to run before what most likely stands and is looked at meanwhile, then highest
// priority first, then the order of the file.
type readyQueue struct {
	nodes    []readyNode
	priority []float64
	likely   func(*Node) bool
}

type readyNode struct {
	*Node
	likely bool
}

func (q *readyQueue) Len() int { return len(q.nodes) }
func (q *readyQueue) Less(i, j int) bool {
	a, b := q.nodes[i], q.nodes[j]
	if a.likely != b.likely {
		return a.likely
	}
	return cmp.Or(cmp.Compare(q.priority[b.index], q.priority[a.index]), cmp.Compare(a.index, b.index)) < 0
}
func (q *readyQueue) Swap(i, j int) { q.nodes[i], q.nodes[j] = q.nodes[j], q.nodes[i] }
func (q *readyQueue) Push(n any) {
	q.nodes = append(q.nodes, readyNode{n.(*Node), q.likely(n.(*Node))})
}
func (q *readyQueue) Pop() any {
	n := q.nodes[len(q.nodes)-1]
	q.nodes = q.nodes[:len(q.nodes)-1]
	return n.Node
}
