package stages

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestTrainUsesItsThreads: a stage that gets one processor computes on one thread from the decompositions of PiSSA to the samples:
// there is no moment in which more goroutines compute. With two there are two.
func TestTrainUsesItsThreads(t *testing.T) {
	f := newEngineFixture(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // that many would be used where nobody asks
	for _, cpus := range []int{1, 2} {
		s := newTrain()
		f.short(s, 60, 5e-3)
		s.Init, s.SamplesEvery, s.CheckpointEvery.Steps = "pissa", 30, 10
		f.cpus = cpus
		stop := make(chan struct{})
		most := mostComputing(stop)
		name := f.path(strings.Repeat("x", cpus))
		log, err := f.run(s, []string{"model", f.model, "train", f.tokens, "validation", f.tokens}, []string{"adapter", name, "metrics", name + ".json", "samples", name + ".jsonl"})
		close(stop)
		f.must(err)
		want := min(cpus, runtime.NumCPU())
		if got := <-most; got > want || want == 1 && got == 0 {
			t.Errorf("%d processors: %d goroutines computed at once", cpus, got)
		}
		if !strings.Contains(log, "threads: "+string(rune('0'+want))) {
			t.Errorf("%d processors: the log does not say so:\n%s", cpus, log)
		}
	}
}

// mostComputing looks, until stop is closed, at what all goroutines do, and tells how many were within the kernels' tasks or a
// decomposition at once, at most.
func mostComputing(stop chan struct{}) chan int {
	most := make(chan int, 1)
	go func() {
		highest, stacks := 0, make([]byte, 1<<20)
		for {
			n := 0
			for one := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
				if bytes.Contains(one, []byte("cpu.(*pool).take(")) || bytes.Contains(one, []byte("cpu.(*pool).do(")) || bytes.Contains(one, []byte("model.decompose(")) {
					n++
				}
			}
			highest = max(highest, n)
			select {
			case <-stop:
				most <- highest
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	return most
}
