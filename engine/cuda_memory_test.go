//go:build cgo && (cudahost || cuda)

package engine

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/host"
	"lpipe/engine/model"
)

// weighed is a machine that knows how much of it was in use at most.
type weighed struct {
	cuda.Machine
	sizes      map[cuda.Pointer]int64
	used, peak int64
}

func (w *weighed) Alloc(bytes int64) (cuda.Pointer, error) {
	p, err := w.Machine.Alloc(bytes)
	if err == nil {
		w.sizes[p] = bytes
		w.used += bytes
		w.peak = max(w.peak, w.used)
	}
	return p, err
}

func (w *weighed) Free(p cuda.Pointer) error {
	w.used -= w.sizes[p]
	delete(w.sizes, p)
	return w.Machine.Free(p)
}

// A run takes the memory that was foretold, also where not all of what it might keep would fit: planning takes none.
func TestCUDAMemoryForetold(t *testing.T) {
	bf16 := bf16File(t)
	for _, c := range []struct {
		name   string
		share  float64 // of what everything kept takes
		change func(*TrainOptions)
	}{
		{"fp32", 2, func(*TrainOptions) {}},
		{"fp32 of a bf16 file", 2, func(o *TrainOptions) { o.Model = bf16 }},
		{"bf16, recomputed", 0.9, func(o *TrainOptions) { o.Precision = "bf16" }},
		{"nf4, average", 2, func(o *TrainOptions) { o.Precision, o.Quantize, o.EMA = "bf16", "nf4", 0.9 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := small(t)
			o.Quantize, o.Steps, o.EvalEvery, o.EvalLimit = "none", 2, 0, 1
			o.BatchTokens, o.SequenceLength, o.LoRA.Dropout = 64, 64, 0
			c.change(&o)
			config, err := model.ReadConfig(o.Model)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := o.needs(config, OutlineGPU(1e9), 64, 20)
			if err != nil {
				t.Fatal(err)
			}
			o.DeviceMemory = int64(c.share * float64(whole.Total))
			w := &weighed{Machine: &host.Machine{Limit: o.DeviceMemory}, sizes: map[cuda.Pointer]int64{}}
			dev := cuda.New(w, cuda.Options{})
			defer dev.Close()
			said, err := o.needs(config, dev, 64, 20)
			if err != nil {
				t.Fatal(err)
			}
			if w.peak > 0 {
				t.Errorf("planning took %d bytes", w.peak)
			}
			if (said.Recompute.Light > 0) != (c.share < 1) {
				t.Errorf("computed again: %+v", said.Recompute)
			}
			o.Out = filepath.Join(t.TempDir(), "adapter")
			if _, err := Train(context.Background(), dev, o); err != nil {
				t.Fatal(err)
			}
			if off := float64(w.peak)/float64(said.Total) - 1; math.Abs(off) > 0.02 {
				t.Errorf("%d bytes were foretold, %d taken (%+.1f %%): %s", said.Total, w.peak, 100*off, said.Parts())
			}
		})
	}
}
