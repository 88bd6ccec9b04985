//go:build cgo && (cudahost || cuda)

package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/cudatest"
	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// waiting is a machine that counts how often the host waits for it, and allocates.
type waiting struct {
	cuda.Machine
	times  *int
	allocs *int // nil: allocations are not counted
}

func (w waiting) Alloc(bytes int64) (cuda.Pointer, error) {
	if w.allocs != nil {
		*w.allocs++
	}
	return w.Machine.Alloc(bytes)
}

func (w waiting) Download(dst []byte, src cuda.Pointer) error {
	*w.times++
	return w.Machine.Download(dst, src)
}

func (w waiting) Sync() error {
	*w.times++
	return w.Machine.Sync()
}

func (w waiting) Free(p cuda.Pointer) error {
	*w.times++
	return w.Machine.Free(p)
}

// driverWaits counts the calls that wait in the list that the driver on the processor keeps; 0 where there is none.
func driverWaits(t *testing.T, path string) int {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("wait_"))
}

// A training step of several packs waits once for the device, whatever its optimiser does, and that of a checkpoint no more often; a step
// whose numbers nobody reads does not wait. None allocates.
func TestCUDAWaitsOnceAStep(t *testing.T) {
	waitsOnceAStep(t, small)
}

// So does one of preferences, whose gradients depend on the losses of their own pass.
func TestCUDAWaitsOnceAStepOfPairs(t *testing.T) {
	var c dpoCase
	readCase(t, "dpo", &c)
	waitsOnceAStep(t, func(t testing.TB) TrainOptions { return dpoOptions(t, c, "texts") }) // two packs a step
}

func waitsOnceAStep(t *testing.T, options func(testing.TB) TrainOptions) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		calls := filepath.Join(t.TempDir(), "calls")
		t.Setenv("FAKE_CUDA_LOG", calls)
		times, allocs := 0, 0
		dev := cuda.New(waiting{open(), &times, &allocs}, cuda.Options{})
		defer dev.Close()
		o := options(t)
		o.Steps, o.EvalEvery, o.EMA, o.LoRA.Dropout = 5, 0, 0.9, 0
		o.CheckpointSteps, o.Scratch = 2, filepath.Join(t.TempDir(), "scratch")
		var seen, driver, taken []int
		o.Report = func(p Progress) {
			seen, driver, taken = append(seen, times), append(driver, driverWaits(t, calls)), append(taken, allocs)
		}
		if _, err := Train(context.Background(), dev, o); err != nil {
			t.Fatal(err)
		}
		for i := 2; i <= 5; i++ { // 0 is the evaluation before the first step
			if n := seen[i] - seen[i-1]; n != 1 {
				t.Errorf("step %d waits %d times", i, n)
			}
			if n := taken[i] - taken[i-1]; n != 0 {
				t.Errorf("step %d allocates %d times", i, n)
			}
			checkpoint := 0
			if i == 3 || i == 5 { // begins one: its goroutine waits for the copies, and it perhaps for the memory
				checkpoint = 2
			}
			if n := driver[i] - driver[i-1]; driver[i] > 0 && (n < 1 || n > 1+checkpoint) {
				t.Errorf("step %d calls what waits %d times", i, n)
			}
		}
	})
}

func TestCUDAQueuedStepsDoNotWait(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		calls := filepath.Join(t.TempDir(), "calls")
		t.Setenv("FAKE_CUDA_LOG", calls)
		times := 0
		dev := cuda.New(waiting{open(), &times, nil}, cuda.Options{})
		defer dev.Close()
		m, err := model.Load(context.Background(), tied, dev, model.Options{
			Method: model.TrainLoRA, Seed: 1, LoRA: model.LoRA{Rank: 4, Alpha: 8, Targets: []string{model.AllLinear}}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		opt := newOptimizer(m, Optimizer{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Clip: 1}, 0)
		defer opt.free()
		const steps = 3
		b := model.Batch{B: 1, T: 9, IDs: []int32{5, 9, 2, 7, 1, 8, 3, 6, 4}}
		if err := m.Room(steps * b.T); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Prepare(b.T); err != nil {
			t.Fatal(err)
		}
		before, driver := times, driverWaits(t, calls)
		for range steps {
			m.ZeroGrad()
			if err := m.QueueStep(b, 8); err != nil {
				t.Fatal(err)
			}
			opt.apply(1e-2)
		}
		if times != before || driverWaits(t, calls) != driver {
			t.Errorf("the host waited %d times, %d of them in the driver", times-before, driverWaits(t, calls)-driver)
		}
		settled, err := m.Settle()
		if err != nil {
			t.Fatal(err)
		}
		if l := settled.Losses; len(l) != steps || !(l[2] < l[1] && l[1] < l[0]) || times != before+1 {
			t.Errorf("losses %v after %d waits", l, times-before)
		}
	})
}

// simple hides that a device copies beside its work.
type simple struct{ ops.Device }

// A checkpoint that is copied while training goes on holds the same bytes as one that everything waits for.
func TestCUDACheckpointBesideTraining(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		run := func(wrap func(ops.Device) ops.Device) string {
			dev := cuda.New(open(), cuda.Options{})
			defer dev.Close()
			o := small(t)
			o.Steps, o.EvalEvery, o.EMA, o.EvalLimit = 4, 0, 0.5, 1
			o.CheckpointSteps, o.CheckpointKeep, o.Scratch = 1, 9, filepath.Join(t.TempDir(), "scratch")
			now := time.Unix(0, 0)
			o.Now = func() time.Time { now = now.Add(time.Second); return now }
			if _, err := Train(context.Background(), wrap(dev), o); err != nil {
				t.Fatal(err)
			}
			return o.Scratch
		}
		beside := run(func(d ops.Device) ops.Device { return d })
		apart := run(func(d ops.Device) ops.Device { return simple{d} })
		for n := 1; n < 4; n++ {
			got, err := os.ReadFile(filepath.Join(beside, checkpointName(n)))
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(apart, checkpointName(n)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the checkpoint of step %d is another one", n)
			}
		}
	})
}
