//go:build cgo && (cudahost || cuda)

package engine

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/cuda"
	"lpipe/engine/cuda/cudatest"
	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// curveSteps is how long losses are compared: the kernels on the processor take their time.
func curveSteps(t *testing.T) int {
	if strings.HasSuffix(t.Name(), "/gpu") {
		return 200
	}
	return 8
}

// The losses of a run are those of the processor's device within 1 %.
func TestCUDALossCurve(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		for _, precision := range []string{"fp32", "bf16"} {
			o := small(t)
			o.Precision, o.Steps, o.EvalEvery, o.LoRA.Dropout = precision, curveSteps(t), 0, 0
			want := losses(t, cpu.New(cpu.Options{}), o)
			got := losses(t, cuda.New(open(), cuda.Options{}), o)
			for i, w := range want {
				if !(math.Abs(got[i]-w) <= 0.01*w) {
					t.Fatalf("%s: step %d has loss %g, on the cpu %g", precision, i+1, got[i], w)
				}
			}
		}
	})
}

// With precision fp32 the losses of a model whose file is bfloat16 are those of the processor's device but for the order of sums.
func TestCUDAFloat32OfBF16File(t *testing.T) {
	dir := bf16File(t)
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		o := small(t)
		o.Model, o.Steps, o.EvalEvery, o.EvalLimit = dir, 4, 0, 1
		want := losses(t, cpu.New(cpu.Options{}), o)
		got := losses(t, cuda.New(open(), cuda.Options{}), o)
		for i, w := range want {
			if !(math.Abs(got[i]-w) <= 2e-6*w) {
				t.Errorf("step %d has loss %v, on the cpu %v", i+1, got[i], w)
			}
		}
	})
}

// Preferences: the processor's losses, and two packs a step.
func TestCUDAPreferences(t *testing.T) {
	var c dpoCase
	readCase(t, "dpo", &c)
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		o := dpoOptions(t, c, "texts")
		o.Steps, o.EvalEvery, o.Validation = 3, 0, nil
		want := losses(t, cpu.New(cpu.Options{}), o)
		got := losses(t, cuda.New(open(), cuda.Options{}), o)
		for i, w := range want {
			if !(math.Abs(got[i]-w) <= 1e-5*w) {
				t.Errorf("step %d has loss %v, on the cpu %v", i+1, got[i], w)
			}
		}
		if math.Abs(want[0]-math.Ln2) > 1e-15 || !(want[2] < want[0]) {
			t.Errorf("losses %v", want)
		}
	})
}

// bf16File is the small model, saved as bfloat16.
func bf16File(t *testing.T) string {
	dev := cpu.New(cpu.Options{Threads: 1})
	defer dev.Close()
	m, err := model.Load(context.Background(), tied, dev, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	dir := filepath.Join(t.TempDir(), "bf16")
	if err := m.Save(context.Background(), dir, model.SaveOptions{DType: "bfloat16"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// losses are those of a run's steps; the device is closed.
func losses(t *testing.T, dev ops.Device, o TrainOptions) (all []float64) {
	t.Helper()
	defer dev.Close()
	o.Out, o.CurveOut = filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "curve.jsonl")
	o.Report = func(p Progress) {
		if loss, ok := p.Metrics["train/loss"]; ok {
			all = append(all, loss)
		}
	}
	if _, err := Train(context.Background(), dev, o); err != nil {
		t.Fatal(err)
	}
	if len(all) != o.Steps {
		t.Fatalf("%d losses of %d steps", len(all), o.Steps)
	}
	return all
}

// The same seed gives the same bits, and so does a run that was stopped and went on.
func TestCUDAResumes(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		run := func(o TrainOptions, stop int) (*TrainResult, error) {
			dev := cuda.New(open(), cuda.Options{})
			defer dev.Close()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o.Report = func(p Progress) {
				if p.Step == stop {
					cancel()
				}
			}
			return Train(ctx, dev, o)
		}
		for _, precision := range []string{"fp32", "bf16"} {
			whole := small(t)
			whole.Precision, whole.Steps, whole.EvalLimit = precision, 3, 1
			result, err := run(whole, -1)
			if err != nil {
				t.Fatal(err)
			}
			want := snapshot(t, whole, result)
			o := whole
			o.Out, o.Scratch = filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "scratch")
			if _, err := run(o, 1); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if result, err = run(o, -1); err != nil {
				t.Fatal(err)
			}
			if got := snapshot(t, o, result); got != want {
				t.Errorf("%s: other bits after a stop:\n%s\nwant:\n%s", precision, got, want)
			}
		}
	})
}

// Rows in packs have the loss and gradients that they have alone.
func TestCUDAPackedIsSeparate(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		dev := cuda.New(open(), cuda.Options{})
		defer dev.Close()
		set, err := newRowSet(rowsOf(9, 5, 14, 3, 8, 11), 256)
		if err != nil {
			t.Fatal(err)
		}
		run := func(capacity int) (float64, []float32) {
			m, err := model.Load(context.Background(), tied, dev, model.Options{
				Method: model.TrainLoRA, Seed: 1, LoRA: model.LoRA{Rank: 4, Alpha: 8, Targets: []string{model.AllLinear}}})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Free()
			packs, targets := set.measured(set.spread(0), capacity)
			loss := 0.0
			var b batch
			for _, pack := range packs {
				part, err := m.Step(b.fill(set, pack), targets)
				if err != nil {
					t.Fatal(err)
				}
				loss += part
			}
			grad := make([]float32, m.Gradients().Len)
			dev.Read(grad, m.Gradients())
			return loss, grad
		}
		packed, g1 := run(50)
		alone, g2 := run(14)
		if math.Abs(packed-alone) > 1e-6*alone {
			t.Errorf("packed the loss is %g, alone %g", packed, alone)
		}
		var top, apart float64
		for i, v := range g2 {
			top, apart = max(top, math.Abs(float64(v))), max(apart, math.Abs(float64(v)-float64(g1[i])))
		}
		if apart > 1e-5*top {
			t.Errorf("gradients differ by %g; the largest is %g", apart, top)
		}
	})
}
