package runner

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// errStopped says that a step was given up because another one failed.
var errStopped = errors.New("not tried: another stage failed")

// pools hold what stages need while they run: one of the jobs, CPUs, GPUs, RAM, the user's own. A stage takes all that
// it needs at once or waits; of those that wait, the one with the highest priority goes first.
type pools struct {
	mu      sync.Mutex
	total   map[string]int64
	free    map[string]int64
	gpus    []int // ids that are free, in order
	waiting []*waiter
	stopped bool
}

type waiter struct {
	needs    map[string]int64
	priority float64
	ready    chan *grant // nil: stopped
}

// grant is what a stage was given.
type grant struct {
	pools *pools
	taken map[string]int64
	gpus  []int // nil: the stage asked for none
	cpus  int
}

// newPools sizes the pools. What the pipeline declares goes before what was found.
func newPools(o Options) *pools {
	p := &pools{total: map[string]int64{"jobs": int64(o.Jobs), "cpu": int64(max(o.CPUs, o.Jobs)), "gpu": int64(len(o.GPUs)), "ram": o.RAM}}
	if o.RAM == 0 {
		p.total["ram"] = availableRAM()
	}
	for name, size := range o.Pipeline.Settings.Pools {
		p.total[name] = int64(size)
	}
	p.gpus = slices.Clone(o.GPUs)
	for id := 0; int64(len(p.gpus)) < p.total["gpu"]; id++ {
		if !slices.Contains(p.gpus, id) {
			p.gpus = append(p.gpus, id)
		}
	}
	p.gpus = p.gpus[:p.total["gpu"]]
	p.free = maps.Clone(p.total)
	return p
}

// take waits until all that is needed is free. A need beyond what this machine has is cut to all of it: where a stage
// may run must not depend on where it was written.
func (p *pools) take(ctx context.Context, needs Resources, priority float64) (*grant, error) {
	w := &waiter{needs: p.cut(needs), priority: priority, ready: make(chan *grant, 1)}
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return nil, errStopped
	}
	at, _ := slices.BinarySearchFunc(p.waiting, w, func(a, b *waiter) int {
		if a.priority >= b.priority {
			return -1
		}
		return 1
	})
	p.waiting = slices.Insert(p.waiting, at, w)
	p.serve()
	p.mu.Unlock()
	select {
	case g := <-w.ready:
		if g == nil {
			return nil, errStopped
		}
		return g, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	} else if g := <-w.ready; g != nil {
		g.giveBack()
	}
	return nil, ctx.Err()
}

func (p *pools) cut(needs Resources) map[string]int64 {
	cpu := int64(needs.CPU)
	if cpu < 0 {
		cpu = p.total["cpu"]
	}
	want := map[string]int64{"jobs": 1, "cpu": cpu, "gpu": int64(needs.GPU), "ram": needs.RAM}
	for name, n := range needs.Pool {
		want[name] = int64(n)
	}
	for name := range want {
		want[name] = min(want[name], p.total[name])
	}
	return want
}

// serve hands out what is free. What the first in line lacks is not given to those behind it: a stage that needs much
// would never run beside many that need little. The caller holds mu.
func (p *pools) serve() {
	kept := map[string]bool{}
	for i := 0; i < len(p.waiting) && p.free["jobs"] > 0; {
		w := p.waiting[i]
		if !p.fits(w.needs, kept) {
			i++
			continue
		}
		p.waiting = slices.Delete(p.waiting, i, i+1)
		w.ready <- p.give(w.needs)
	}
}

// fits tells whether all that is needed is free and not kept for others; if not, what is lacking is kept from now on.
func (p *pools) fits(needs map[string]int64, kept map[string]bool) bool {
	fits := true
	for name, n := range needs {
		if n > p.free[name] {
			kept[name] = true
			fits = false
		} else if n > 0 && kept[name] {
			fits = false
		}
	}
	return fits
}

func (p *pools) give(needs map[string]int64) *grant {
	for name, n := range needs {
		p.free[name] -= n
	}
	g := &grant{pools: p, taken: needs, cpus: int(needs["cpu"])}
	if n := needs["gpu"]; n > 0 {
		g.gpus = slices.Clone(p.gpus[:n])
		p.gpus = slices.Delete(p.gpus, 0, int(n))
	}
	return g
}

func (g *grant) release() {
	g.pools.mu.Lock()
	defer g.pools.mu.Unlock()
	g.giveBack()
	g.pools.serve()
}

func (g *grant) giveBack() {
	for name, n := range g.taken {
		g.pools.free[name] += n
	}
	g.pools.gpus = append(g.pools.gpus, g.gpus...)
	slices.Sort(g.pools.gpus)
}

// stop sends all who wait away, and those who come.
func (p *pools) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, w := range p.waiting {
		w.ready <- nil
	}
	p.waiting = nil
}

func (x *execution) stopping() bool {
	x.pools.mu.Lock()
	defer x.pools.mu.Unlock()
	return x.pools.stopped
}

// twins keeps stages with equal keys from running at the same time.
type twins[K comparable] struct {
	mu   sync.Mutex
	busy map[K]chan struct{}
}

// enter waits for the others with this key; it tells whether there were any. The leave it returns is nil if ctx ended.
func (t *twins[K]) enter(ctx context.Context, key K) (leave func(), waited bool) {
	for {
		t.mu.Lock()
		other, busy := t.busy[key]
		if !busy {
			if t.busy == nil {
				t.busy = map[K]chan struct{}{}
			}
			mine := make(chan struct{})
			t.busy[key] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, key)
				t.mu.Unlock()
				close(mine)
			}, waited
		}
		t.mu.Unlock()
		waited = true
		select {
		case <-other:
		case <-ctx.Done():
			return nil, true
		}
	}
}
