//go:build cgo && (cudahost || cuda)

package cuda_test

import (
	"math"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/cuda"
	"lpipe/engine/cuda/cudatest"
	"lpipe/engine/cuda/host"
	"lpipe/engine/ops"
	"lpipe/engine/ops/opstest"
)

// small makes every chunk of the head a few rows.
func small() cuda.Options { return cuda.Options{LogitBytes: 3000} }

// Every kernel, with float weights and with others whose products are float: as exact as the processor's own device.
func TestKernelsFloat(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		opstest.Run(t, func() ops.Device { return cuda.New(open(), small()) }, opstest.Options{Types: []ops.Type{ops.F32, ops.NF4, ops.BF16Exact}})
	})
}

// The same with bfloat16 weights: tensor cores. Products err at most twice as much as the plain computation in bfloat16.
func TestKernelsHalf(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		half(t, open, opstest.Options{})
		half(t, open, opstest.Options{Rounds: 24, Only: []string{"Attention"}})
	})
}

// The tensor-core products of our own, where the machine would rather take cuBLASLt.
func TestKernelsOwnProducts(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		own := func() cuda.Machine { return withoutProduct{open()} }
		half(t, own, opstest.Options{Only: []string{"Linear", "LinearLoRA", "HeadLoss", "Logits"}})
	})
}

type withoutProduct struct{ cuda.Machine }

func (withoutProduct) Product(*cuda.Product) (bool, error) { return false, nil }

// GPUs whose blocks have little shared memory (99 KB: sm_86, sm_89, sm_120) attend to fewer keys at a time.
func TestKernelsSmallShared(t *testing.T) {
	small := func() cuda.Machine { return &host.Machine{Shared: 99 << 10} }
	half(t, small, opstest.Options{Rounds: 24, Only: []string{"Attention"}})
	half(t, small, opstest.Options{Rounds: 2, Only: []string{"Linear", "LinearLoRA", "HeadLoss"}})
}

// Results do not depend on the order in which threads and blocks run: a barrier that is missing would be seen.
func TestKernelsOrder(t *testing.T) {
	for _, order := range []uint32{1, 77} {
		open := func() cuda.Machine { return &host.Machine{Order: order} }
		opstest.Run(t, func() ops.Device { return cuda.New(open(), small()) }, opstest.Options{Types: []ops.Type{ops.F32}, Rounds: 2})
		half(t, open, opstest.Options{Rounds: 3, Only: []string{"Linear", "LinearLoRA", "Attention", "HeadLoss"}})
	}
}

func half(t *testing.T, open func() cuda.Machine, o opstest.Options) {
	o.Types = []ops.Type{ops.BF16, ops.NF4BF16}
	o.Yardstick = func() ops.Device { return opstest.Rounded(cpu.NewPlain()) }
	opstest.Run(t, func() ops.Device {
		d := cuda.New(open(), small())
		d.AllocWeight(ops.BF16, 1, 1) // from now on attention is in bfloat16 too
		return d
	}, o)
}

// An error stays, and names operation, sizes and the machine's text.
func TestErrorsStay(t *testing.T) {
	d := cuda.New(&host.Machine{Limit: 1 << 20}, cuda.Options{})
	defer d.Close()
	x, y := d.Alloc(1000), d.Alloc(1000)
	d.Alloc(1 << 20)
	d.Add(y, x, x, 1000)
	d.Free(x)
	err := d.Err()
	if err == nil || !strings.Contains(err.Error(), "Alloc n=1048576") || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("after an allocation too large: %v", err)
	}
}

// A step that repeats allocates nothing: scratch has grown to its size in the first, or before it in a rehearsal.
func TestScratchStays(t *testing.T) {
	d := cuda.New(&host.Machine{}, cuda.Options{})
	defer d.Close()
	const N, C, F = 40, 16, 24
	x, y, w := d.Alloc(N*C), d.Alloc(N*F), d.AllocWeight(ops.NF4BF16, F, C)
	step := func() int64 {
		d.Linear(y, ops.Buf{}, x, w, ops.Buf{}, nil, N, C, F)
		d.LinearBackward(x, y, ops.Buf{}, ops.Buf{}, w, nil, false, N, C, F)
		return d.Info().Scratch
	}
	foretold := d.Rehearse(func() { step() })
	if first := step(); first != foretold || foretold == 0 {
		t.Errorf("scratch of %d bytes after a rehearsal that foretold %d", first, foretold)
	}
	second := step()
	if third := step(); second == 0 || third != second {
		t.Errorf("scratch of %d bytes became %d in the next step", second, third)
	}
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
}

// A weight that the device draws has about the deviation that was asked for.
func TestRandomWeight(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		d := cuda.New(open(), cuda.Options{})
		defer d.Close()
		const rows, cols = 30, 64
		for _, typ := range []ops.Type{ops.F32, ops.BF16, ops.BF16Exact, ops.NF4BF16} {
			w, got := d.AllocWeight(typ, rows, cols), make([]float32, rows*cols)
			d.RandomWeight(w, 7, 0.02)
			d.ReadWeight(got, w, 0)
			var squares float64
			for _, v := range got {
				squares += float64(v) * float64(v)
			}
			if deviation := math.Sqrt(squares / float64(len(got))); !(deviation > 0.015 && deviation < 0.025) {
				t.Errorf("type %d: deviation %g", typ, deviation)
			}
		}
		if err := d.Err(); err != nil {
			t.Error(err)
		}
	})
}
