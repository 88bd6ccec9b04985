package cpu

import (
	"sync"
	"sync/atomic"
)

// job is work cut into tasks that do not depend on each other. A task must compute the same whichever
// worker runs it.
type job interface {
	task(w *worker, i int)
}

// worker is what one thread needs for itself.
type worker struct {
	tile    tile
	blocks  blockCall
	edge    [12 * 32]float32 // a tile of which some rows do not exist
	scratch [scratches][]float32
	product product // one that a task makes for itself
	terms   [1]term
}

// The scratch buffers of a worker, by who uses them: callers and callees must not share one.
const (
	scratchA    = iota // product: rows of A, padded with zeros
	scratchFar         // product: rows of a transposed A
	scratchPack        // packing: columns made float32
	scratchWide        // product: panels of a wide B
	scratchB           // product: the last, partial panel of an unpacked B
	scratchRows        // linear: rows of dropout(x), of dx before its mask
	scratchFew         // linearFew: rows of yᵀ, and of a weight made float32
	scratchFewW
	scratchHead0 // attention: scores; QKNorm: a head's gradient
	scratchHead1 // attention: gradients of scores
	scratchHead2 // attention: transposed keys
	scratchHead3 // attention: transposed values
	scratches
)

// buf is scratch buffer number which, n values of it, content undefined.
func (w *worker) buf(which, n int) []float32 {
	if cap(w.scratch[which]) < n {
		w.scratch[which] = make([]float32, n+n/4)
	}
	return w.scratch[which][:n]
}

// pool runs jobs on the caller's goroutine and on others that wait for work. One job at a time.
type pool struct {
	workers []*worker // [0] is the caller
	idle    bool      // jobs are left out: see Device.Rehearse
	wake    []chan struct{}
	closing atomic.Bool
	ended   sync.WaitGroup

	// state is the job's number in the upper half and how many tasks nobody has taken in the lower. A worker
	// that takes a task by compare-and-swap therefore takes it from the job that it looked at, and
	// that job cannot end, nor job and n change, before the worker has counted its task in done.
	state atomic.Uint64
	done  atomic.Int64
	// parked is set while the caller sleeps in finished because the last tasks take long; whoever clears it
	// ends that: the worker with a message, the caller without one.
	parked   atomic.Bool
	finished chan struct{}
	job      job
	n        int
}

func newPool(threads int) *pool {
	p := &pool{workers: make([]*worker, threads), wake: make([]chan struct{}, threads), finished: make(chan struct{}, 1)}
	for i := range p.workers {
		p.workers[i] = &worker{}
		p.wake[i] = make(chan struct{}, 1)
	}
	for i := 1; i < threads; i++ {
		p.ended.Add(1)
		go p.serve(p.workers[i], p.wake[i])
	}
	return p
}

// close ends the threads and waits for them.
func (p *pool) close() {
	p.closing.Store(true)
	for i := 1; i < len(p.workers); i++ {
		p.signal(i)
	}
	p.ended.Wait()
}

// do runs tasks 0 … n-1 and returns when all are done.
func (p *pool) do(j job, n int) {
	if p.idle {
		return
	}
	if n <= 1 || len(p.workers) == 1 {
		for i := range n {
			j.task(p.workers[0], i)
		}
		return
	}
	p.job, p.n = j, n
	p.done.Store(0)
	p.state.Store((p.state.Load()>>32+1)<<32 | uint64(n))
	for i := 1; i < min(len(p.workers), n); i++ {
		p.signal(i)
	}
	for p.take(p.workers[0]) {
	}
	p.wait(int64(n))
}

// wait returns when n tasks are done: soon, usually, so it looks for a while before it sleeps.
func (p *pool) wait(n int64) {
	for range spins {
		if p.done.Load() == n {
			return
		}
	}
	for p.done.Load() < n { // a worker may end the sleep late, on account of an earlier job
		p.parked.Store(true)
		if p.done.Load() == n && p.parked.CompareAndSwap(true, false) {
			return
		}
		<-p.finished
	}
}

func (p *pool) signal(i int) {
	select {
	case p.wake[i] <- struct{}{}:
	default: // it has not looked at the last signal yet
	}
}

// take runs one task, the lowest left, if there is one.
func (p *pool) take(w *worker) bool {
	for {
		s := p.state.Load()
		left := int(uint32(s))
		if left == 0 {
			return false
		}
		if p.state.CompareAndSwap(s, s-1) {
			n := p.n
			p.job.task(w, n-left)
			if p.done.Add(1) == int64(n) && p.parked.CompareAndSwap(true, false) {
				p.finished <- struct{}{}
			}
			return true
		}
	}
}

// spins is how often an idle worker looks for work before it sleeps, some 20 µs: operations follow each
// other faster than a sleeping thread wakes.
const spins = 20_000

func (p *pool) serve(w *worker, wake chan struct{}) {
	defer p.ended.Done()
	for {
		for i := 0; i < spins; i++ {
			if p.take(w) {
				i = 0
			}
		}
		if p.closing.Load() {
			return
		}
		<-wake
	}
}
