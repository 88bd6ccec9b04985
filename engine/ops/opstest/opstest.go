// Package opstest checks an ops.Device against the formulas of ops.Device in float64, on random shapes with odd sizes,
// shared key heads, packed documents and absent arguments. Every buffer lies between NaN guards: a value written beside
// a buffer, or read from beside it into a result, is found.
//
// Run is the suite; a device's own test calls it.
package opstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lpipe/engine/ops"
)

// Options say what a device promises.
type Options struct {
	// Tolerance bounds the error of a result: Tolerance × the largest value of the result that is expected. 0: 1e-5.
	Tolerance float64
	// Rounds is how many random shapes each operation is tried on. 0: 8.
	Rounds int
	// Types are the weight types to try. Nil: F32 only.
	Types []ops.Type
	// Report, if not nil, is told the error of every result that was compared: the largest difference over the largest value
	// that is expected.
	Report func(operation string, typ ops.Type, result string, err float64)
	// Yardstick opens a device that computes with bfloat16 values: see Rounded. Not nil: products may err by twice what it errs
	// on the same numbers, beside Tolerance, which is the rule by which FlashAttention is tested.
	Yardstick func() ops.Device
	// Operands says that products with an ops.BF16 weight round their other operand to bfloat16, exactly: what is expected is the product
	// of the rounded one.
	Operands bool
	// Only names the operations to try. Nil: all.
	Only []string
}

// Run checks a device that open makes.
func Run(t *testing.T, open func() ops.Device, o Options) {
	if o.Tolerance == 0 {
		o.Tolerance = 1e-5
	}
	if o.Rounds == 0 {
		o.Rounds = 8
	}
	if o.Types == nil {
		o.Types = []ops.Type{ops.F32}
	}
	for _, c := range []struct {
		name    string
		weights bool // has a weight: every type is tried
		try     func(*trial)
	}{
		{"Memory", true, memory}, {"Embedding", true, embedding}, {"RMSNorm", false, rmsNorm},
		{"Linear", true, linear}, {"LinearLoRA", true, linearLoRA}, {"LinearWeight", false, linearWeight},
		{"LinearMerge", true, linearMerge}, {"DoRA", true, dora}, {"RoPE", false, rope}, {"Attention", false, attention},
		{"AttentionCached", false, attentionCached}, {"QKNorm", false, qkNorm}, {"SwiGLU", false, swiGLU}, {"HeadLoss", true, headLoss},
		{"Logits", true, logits}, {"Values", false, values}, {"AdamW", false, adamW}, {"Lion", false, lion}, {"Noise", false, embeddingNoise},
		{"ScaleRows", false, scaleRows}, {"PairWeights", false, pairWeights},
	} {
		if o.Only != nil && !slices.Contains(o.Only, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			d := open()
			defer d.Close()
			var yardstick ops.Device
			if o.Yardstick != nil && isProduct(c.name) {
				yardstick = o.Yardstick()
				defer yardstick.Close()
			}
			for round := range o.Rounds {
				for i, typ := range o.Types {
					if i > 0 && !c.weights {
						continue
					}
					var allowed []float64
					if yardstick != nil {
						first := newTrial(t, yardstick, o, c.name, typ, round)
						first.measures = true
						c.try(first)
						first.finish()
						allowed = first.errors
					}
					try := newTrial(t, d, o, c.name, typ, round)
					try.allowed = allowed
					c.try(try)
					try.finish()
					if t.Failed() {
						t.Fatalf("round %d, sizes %s", round, try.sizes)
					}
				}
			}
		})
	}
}

// trial is one operation on one shape.
type trial struct {
	t     *testing.T
	d     ops.Device
	o     Options
	name  string // of the operation
	typ   ops.Type
	rng   *rand.Rand
	sizes string
	bufs  []guarded
	ints  []ops.Ints
	ws    []ops.Weight

	measures bool      // errors are kept, not judged
	errors   []float64 // of each result: the largest difference over the largest value
	allowed  []float64 // what the yardstick erred; nil: there is none
}

// isProduct says whether an operation is measured by the yardstick.
func isProduct(operation string) bool {
	return slices.Contains([]string{"Linear", "LinearLoRA", "Attention", "HeadLoss", "Logits"}, operation)
}

func newTrial(t *testing.T, d ops.Device, o Options, name string, typ ops.Type, round int) *trial {
	return &trial{t: t, d: d, o: o, name: name, typ: typ, rng: rand.New(rand.NewPCG(uint64(round), uint64(typ%ops.BF16Exact)))}
}

const guard = 19

// The error of few values says little: one step of bfloat16, from 1 to the next, is allowed then.
const (
	fewValues = 500
	bf16Step  = 1.0 / 128
)

type guarded struct {
	whole, buf ops.Buf
	name       string
}

// note records sizes for the message of a failure.
func (r *trial) note(format string, a ...any) { r.sizes = fmt.Sprintf(format, a...) }

// pick is one of the values.
func (r *trial) pick(v ...int) int { return v[r.rng.IntN(len(v))] }

// noise is n normal values.
func (r *trial) noise(n int, size float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.rng.NormFloat64() * size)
	}
	return v
}

// buf is a guarded buffer that holds v.
func (r *trial) buf(name string, v []float32) ops.Buf {
	all := make([]float32, len(v)+2*guard)
	for i := range all {
		all[i] = float32(math.NaN())
	}
	copy(all[guard:], v)
	whole := r.d.Alloc(len(all))
	r.d.Write(whole, all)
	b := whole.Slice(guard, guard+len(v))
	r.bufs = append(r.bufs, guarded{whole, b, name})
	return b
}

// out is a guarded buffer of n values that an operation must set: NaN until then.
func (r *trial) out(name string, n int) ops.Buf {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.NaN())
	}
	return r.buf(name, v)
}

func (r *trial) int32s(v []int32) ops.Ints {
	b := r.d.AllocInts(len(v))
	r.d.WriteInts(b, v)
	r.ints = append(r.ints, b)
	return b
}

// weight is a weight of v, and v as the device has stored it.
func (r *trial) weight(v []float32, rows, cols int) (ops.Weight, []float32) {
	w := r.d.AllocWeight(r.typ, rows, cols)
	r.d.WriteWeight(w, 0, v)
	stored := make([]float32, len(v))
	r.d.ReadWeight(stored, w, 0)
	r.ws = append(r.ws, w)
	return w, stored
}

func (r *trial) read(b ops.Buf) []float32 {
	v := make([]float32, b.Len)
	r.d.Read(v, b)
	return v
}

// check compares a buffer with what it should hold.
func (r *trial) check(name string, b ops.Buf, want []float64) {
	r.t.Helper()
	r.compare(name, r.read(b), want, r.o.Tolerance)
}

func (r *trial) compare(name string, got []float32, want []float64, tolerance float64) {
	r.t.Helper()
	var top float64
	for _, v := range want {
		top = max(top, math.Abs(v))
	}
	if r.allowed != nil {
		twice := 2 * r.allowed[len(r.errors)]
		if len(want) < fewValues { // the yardstick may have been lucky
			twice = max(twice, bf16Step)
		}
		tolerance += twice
	}
	worst := 0.0
	for i, v := range got {
		worst = max(worst, math.Abs(float64(v)-want[i]))
		if !r.measures && !(math.Abs(float64(v)-want[i]) <= tolerance*top+1e-30) {
			r.t.Errorf("%s[%d] = %g, want %g (largest %g, allowed %.2g of it)", name, i, v, want[i], top, tolerance)
			return
		}
	}
	r.errors = append(r.errors, worst/max(top, 1e-30))
	if r.o.Report != nil && !r.measures && top > 1e-20 { // of smaller ones only the absolute error means something
		r.o.Report(r.name, r.typ, name, worst/top)
	}
}

// finish looks at the guards and frees everything.
func (r *trial) finish() {
	for _, g := range r.bufs {
		v := r.read(g.whole)
		for i := range guard {
			if v[i] == v[i] || v[len(v)-1-i] == v[len(v)-1-i] {
				r.t.Errorf("%s: a value beside the buffer was written", g.name)
				break
			}
		}
		r.d.Free(g.whole)
	}
	for _, b := range r.ints {
		r.d.FreeInts(b)
	}
	for _, w := range r.ws {
		r.d.FreeWeight(w)
	}
	if err := r.d.Err(); err != nil {
		r.t.Errorf("device: %v", err)
	}
}

// operand is v as a product with a weight of the trial's type takes it.
func (r *trial) operand(v []float32) []float64 {
	if !r.rounds() {
		return wide(v)
	}
	rounded := slices.Clone(v)
	round(rounded)
	return wide(rounded)
}

func (r *trial) rounds() bool { return r.o.Operands && r.typ == ops.BF16 }

// wide is v in float64.
func wide(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func zeros(n int) []float64 { return make([]float64, n) }
