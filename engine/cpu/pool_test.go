package cpu

import (
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

// close returns when all threads have ended, whatever they were doing.
func TestPoolCloses(t *testing.T) {
	for range 50 {
		p := newPool(4)
		p.do(&countJob{counts: make([]atomic.Int32, 9)}, 9)
		p.close()
	}
}
