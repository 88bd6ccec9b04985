package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"

	"lpipe/engine/ops"
)

// Trial is what a kernel's products with a frozen weight differ by from the plain loops': the largest difference of y = x·Wᵀ and dx = dy·W over
// the largest value, by what the weight is stored as.
type Trial struct {
	Kernel  string  `json:"kernel"`
	F32     float64 `json:"f32"`
	BF16    float64 `json:"bf16"`
	NF4     float64 `json:"nf4"`
	OK      bool    `json:"ok"`                // below TrialTolerance, all of them
	Missing string  `json:"missing,omitempty"` // why the machine cannot run the kernel; it was not tried then
}

// TrialTolerance bounds what sums in another order differ by on the shapes of TryKernels.
const TrialTolerance = 1e-5

// TryKernels runs every kernel that the processor has on products of random shapes, as the seed gives them: rows for each height of tile, and
// columns that leave some over. AMX is among them, or missing; its blocks were also compared with their formula then, bit for bit.
func TryKernels(threads int, seed uint64) ([]Trial, error) {
	var trials []Trial
	for _, name := range Kernels() {
		trials = append(trials, Trial{Kernel: name})
	}
	rng := rand.New(rand.NewPCG(seed, 27))
	for rows := 1; rows < 60; rows += 1 + rng.IntN(10) {
		p := tried{rows: rows, inputs: 1 + rng.IntN(600), outputs: 1 + rng.IntN(100)}
		for _, p.weight = range []ops.Type{ops.F32, ops.BF16, ops.NF4} {
			if p.seed = rng.Uint64(); p.weight == ops.NF4 {
				p.inputs = blocks(p.inputs, 64) * 64
			}
			if err := p.compare(trials, threads); err != nil {
				return nil, err
			}
		}
	}
	for i := range trials {
		t := &trials[i]
		t.OK = max(t.F32, t.BF16, t.NF4) < TrialTolerance
	}
	if _, err := amxKernel(); err != nil {
		trials = append(trials, Trial{Kernel: AMX, Missing: err.Error()})
	}
	return trials, nil
}

// tried is a linear on random numbers.
type tried struct {
	rows, inputs, outputs int
	weight                ops.Type
	seed                  uint64
}

// compare raises what the kernels of trials differ by.
func (p *tried) compare(trials []Trial, threads int) error {
	y, dx, err := p.products(NewPlain())
	if err != nil {
		return fmt.Errorf("try plain loops: %w", err)
	}
	for i := range trials {
		t := &trials[i]
		kernelY, kernelDX, err := p.products(New(Options{Threads: threads, Kernel: t.Kernel}))
		if err != nil {
			return fmt.Errorf("try kernel %s: %w", t.Kernel, err)
		}
		worst := map[ops.Type]*float64{ops.F32: &t.F32, ops.BF16: &t.BF16, ops.NF4: &t.NF4}[p.weight]
		*worst = max(*worst, difference(kernelY, y), difference(kernelDX, dx))
	}
	return nil
}

// products computes y and dx on a device, which it closes.
func (p *tried) products(d ops.Device) (y, dx []float32, err error) {
	defer d.Close()
	rng := rand.New(rand.NewPCG(p.seed, 28))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	n, c, f := p.rows, p.inputs, p.outputs
	w, x, dy, out, back := d.AllocWeight(p.weight, f, c), d.Alloc(n*c), d.Alloc(n*f), d.Alloc(n*f), d.Alloc(n*c)
	d.WriteWeight(w, 0, random(f*c))
	d.Write(x, random(n*c))
	d.Write(dy, random(n*f))
	d.Linear(out, ops.Buf{}, x, w, ops.Buf{}, nil, n, c, f)
	d.LinearBackward(back, dy, ops.Buf{}, ops.Buf{}, w, nil, false, n, c, f)
	y, dx = make([]float32, n*f), make([]float32, n*c)
	d.Read(y, out)
	d.Read(dx, back)
	return y, dx, d.Err()
}

// difference is the largest one over the largest wanted value; infinite where something is not a number.
func difference(got, want []float32) float64 {
	var worst, largest float64
	for i, v := range want {
		d := math.Abs(float64(got[i]) - float64(v))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst, largest = max(worst, d), max(largest, math.Abs(float64(v)))
	}
	return worst / max(largest, math.SmallestNonzeroFloat32)
}
