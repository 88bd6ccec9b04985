package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
)

// firstCollection is how large the heap grows before it is collected for the first time, in bytes: most commands end
// before. Go's own limit is 4 MB, where collecting costs a repro of 1,000 stages a tenth of its time.
const firstCollection = 48 << 20

// collector says when memory is collected.
type collector struct {
	percent int         // GOGC as it was found
	began   atomic.Bool // the heap was collected once
	thrift  atomic.Bool // between the calls of thrifty and what it returned
	early   atomic.Bool // a collection of our own is under way, which is not the first
}

// collectLater puts the first collection off; from then on all is as it was found.
func collectLater() *collector {
	c := &collector{percent: debug.SetGCPercent(-1)}
	if c.percent < 0 {
		return c // GOGC=off
	}
	limit := debug.SetMemoryLimit(firstCollection)
	if limit < firstCollection {
		debug.SetMemoryLimit(limit) // GOMEMLIMIT
	}
	c.afterFirst(func() {
		c.began.Store(true)
		if debug.SetGCPercent(c.percent); c.thrift.Load() {
			debug.SetGCPercent(thriftyPercent)
		}
		debug.SetMemoryLimit(limit)
	})
	return c
}

// afterFirst has a function called after the first collection.
func (c *collector) afterFirst(do func()) {
	// A value with a pointer has memory of its own; a small one without shares it with others, and would outlive them.
	runtime.SetFinalizer(new(*int), func(**int) {
		if c.early.Swap(false) {
			c.afterFirst(do)
			return
		}
		do()
	})
}

// largeAhead is how much of the heap largePages prepares, in bytes.
const largeAhead = 32 << 20

// largePages has the heap grow into large pages, where the system gives them to those who ask: a repro of 1,000 stages touches 13 MB of
// it, each page of 4 KB by a fault of its own, which in a virtual machine is a quarter of the command's processor time. Go takes the system's pages as they come and
// maps 4 MB at a time; so memory that nobody uses is taken at once, asked for in large pages, and given back to Go.
func (c *collector) largePages() {
	if c == nil || c.began.Load() {
		return
	}
	memory := make([]byte, largeAhead)
	if askLarge(memory) != nil {
		return // it goes with the first collection
	}
	memory = nil
	c.early.Store(true)
	runtime.GC()
}

// seldom is for work that makes many small values which live until its end: collecting among them takes a third of the
// time. The function that it returns ends that.
func (c *collector) seldom() (end func()) {
	was := debug.SetGCPercent(1000)
	return func() {
		debug.SetGCPercent(was)
		if was < 0 && c != nil && c.began.Load() { // during that work
			debug.SetGCPercent(c.percent)
		}
	}
}

// thriftyPercent is GOGC for thrifty: of 50 MB that live 15 lie idle, not 50.
const thriftyPercent = 30

// thrifty is for commands that keep a little for each of very many files until they end: collecting sooner costs a tenth of
// their processor time at most and spares a seventh of their memory. Whoever sets GOGC decides. The function that it returns ends
// that.
func (c *collector) thrifty() (end func()) {
	const usual = 100
	if c == nil || c.percent != usual {
		return func() {}
	}
	if c.thrift.Store(true); c.began.Load() {
		debug.SetGCPercent(thriftyPercent)
	}
	return func() {
		if c.thrift.Store(false); c.began.Load() {
			debug.SetGCPercent(c.percent)
		}
	}
}

// room is how much the heap may grow between two collections of stages' work, in bytes, be it small or large. Data stages drop
// some 40 kB a row and keep little: collecting whenever a small heap has doubled takes a seventh of their time, and where they
// keep 200 MB, of millions of rows, their peak would be twice that.
const room = 96 << 20

// roomy is for stages' work: it sets GOGC by what lives, within bounds. Whoever sets GOGC decides. The function that it returns
// ends that.
func (c *collector) roomy() (end func()) {
	const usual, least, most = 100, 50, 400
	if c == nil || c.percent != usual {
		return func() {}
	}
	var mu sync.Mutex
	ended := false
	var afterNext func() // the next collection
	afterNext = func() {
		runtime.SetFinalizer(new(*int), func(**int) {
			mu.Lock()
			defer mu.Unlock()
			if ended {
				return
			}
			live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(live)
			debug.SetGCPercent(int(min(max(100*room/max(live[0].Value.Uint64(), 1), least), most)))
			afterNext()
		})
	}
	afterNext()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if ended = true; c.began.Load() {
			debug.SetGCPercent(c.percent)
		}
	}
}
