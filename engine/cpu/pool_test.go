package cpu

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countJob counts its tasks; every slow-th sleeps.
type countJob struct {
	counts []atomic.Int32
	slow   int
}

func (j *countJob) task(_ *worker, i int) {
	if j.slow > 0 && i%j.slow == 0 {
		time.Sleep(200 * time.Microsecond)
	}
	j.counts[i].Add(1)
}

// Every task runs once and do returns after all of them, with short jobs, slow ones and fewer tasks than threads.
func TestPoolRunsEveryTaskOnce(t *testing.T) {
	p := newPool(5)
	defer p.close()
	for round := range 3000 {
		n := round % 23
		j := &countJob{counts: make([]atomic.Int32, n)}
		if round%50 == 0 {
			j.slow = 3
		}
		p.do(j, n)
		for i := range j.counts {
			if got := j.counts[i].Load(); got != 1 {
				t.Fatalf("round %d: task %d of %d ran %d times", round, i, n, got)
			}
		}
	}
}

// busyJob notes how many of its tasks run at the same moment.
type busyJob struct{ now, most atomic.Int32 }

func (j *busyJob) task(*worker, int) {
	n := j.now.Add(1)
	for most := j.most.Load(); n > most && !j.most.CompareAndSwap(most, n); most = j.most.Load() {
	}
	time.Sleep(50 * time.Microsecond) // time for others to come
	j.now.Add(-1)
}

// meetJob ends when all of its tasks run at once.
type meetJob struct{ here sync.WaitGroup }

func (j *meetJob) task(*worker, int) {
	j.here.Done()
	j.here.Wait()
}

// Never more tasks run at once than there are threads, the caller's among them, whatever was signalled before; and so many do.
func TestPoolIsNeverBusierThanItsThreads(t *testing.T) {
	for threads := 1; threads <= 4; threads++ {
		p := newPool(threads)
		for n := range 40 {
			j := &busyJob{}
			p.do(j, n)
			if got := j.most.Load(); got > int32(threads) {
				t.Fatalf("%d threads: %d of %d tasks at once", threads, got, n)
			}
		}
		var all meetJob
		all.here.Add(threads)
		p.do(&all, threads)
		p.close()
	}
}

// close returns when all threads have ended, whatever they were doing.
func TestPoolCloses(t *testing.T) {
	for range 50 {
		p := newPool(4)
		p.do(&countJob{counts: make([]atomic.Int32, 9)}, 9)
		p.close()
	}
}
