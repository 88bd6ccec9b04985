//go:build cgo && (cudahost || cuda)

package cuda_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/cudatest"
	"lpipe/engine/ops"
)

// What RMSNorm and SwiGLU hand on rounded gives the bits that float32 values give: outputs, gradients of inputs and of adapters.
func TestRoundedBits(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		for _, c := range []roundedCase{
			{ops.BF16, 40, 64, 72, nil}, {ops.BF16, 40, 64, 72, []int{5, 16}}, {ops.BF16, 9, 33, 42, []int{3}},
			{ops.BF16, 150, 48, 130, []int{80}}, // more ranks than the border holds
			{ops.NF4BF16, 40, 64, 128, []int{8}}, {ops.NF4BF16, 13, 64, 64, nil},
		} {
			t.Run(fmt.Sprint(c), func(t *testing.T) {
				want, got := c.run(open(), false), c.run(open(), true)
				for i, v := range want {
					if math.Float32bits(v) != math.Float32bits(got[i]) || v != v {
						t.Fatalf("value %d of %d is %v from rounded values, %v from float32 ones", i, len(want), got[i], v)
					}
				}
			})
		}
	})
}

type roundedCase struct {
	typ     ops.Type
	N, C, F int
	ranks   []int
}

// run computes linears of RMSNorm's and of SwiGLU's output, forward and backward, and returns all that came of them.
func (c roundedCase) run(m cuda.Machine, rounded bool) (all []float32) {
	d := cuda.New(m, cuda.Options{})
	defer d.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	buf := func(n int) ops.Buf {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		b := d.Alloc(n)
		d.Write(b, v)
		return b
	}
	read := func(b ops.Buf) {
		v := make([]float32, b.Len)
		d.Read(v, b)
		all = append(all, v...)
	}
	for _, gated := range []bool{false, true} {
		w := d.AllocWeight(c.typ, c.F, c.C)
		d.RandomWeight(w, 3, 0.5)
		x := d.Alloc(c.N * c.C)
		if rounded {
			x = d.Alloc(d.Rounded(w, c.N, c.C))
			x.Half = true
		}
		if gated {
			d.SwiGLU(x, buf(2*c.N*c.C), c.N, c.C)
		} else {
			d.RMSNorm(x, buf(c.N), buf(c.N*c.C), buf(c.C), 1e-6, c.N, c.C)
		}
		var lora []ops.LoRA
		ranks := 0
		for i, r := range c.ranks {
			F := c.F / len(c.ranks)
			lora = append(lora, ops.LoRA{A: buf(r * c.C), B: buf(F * r), DA: buf(r * c.C), DB: buf(F * r), Col: i * F, F: F, R: r, Scale: 0.7})
			ranks += r
		}
		y, xa, dx := buf(c.N*c.F), buf(c.N*ranks), buf(c.N*c.C)
		dy := d.Alloc(c.N * c.F)
		if rounded {
			dy = d.Alloc(d.Rounded(w, c.N, c.F))
			dy.Half = true
		}
		d.SwiGLUBackward(dy, buf(c.N*c.F/2), buf(c.N*c.F), c.N, c.F/2)
		d.Linear(y, xa, x, w, buf(c.F), lora, c.N, c.C, c.F)
		d.LinearBackward(dx, dy, x, xa, w, lora, gated, c.N, c.C, c.F)
		read(y)
		read(dx)
		for _, l := range lora {
			read(l.DA)
			read(l.DB)
		}
	}
	if err := d.Err(); err != nil {
		panic(err)
	}
	return all
}

// Float32 products and weights as they are take no rounded values.
func TestRoundedOnlyWhereProductsRound(t *testing.T) {
	d := cuda.NewOutline(cuda.Description{}, cuda.Options{})
	defer d.Close()
	for typ, want := range map[ops.Type]int{ops.F32: 0, ops.NF4: 0, ops.BF16Exact: 0, ops.BF16: 10 * (64 + 64) / 2, ops.NF4BF16: 10 * (64 + 64) / 2} {
		if got := d.Rounded(d.AllocWeight(typ, 64, 64), 10, 64); got != want {
			t.Errorf("type %d: %d values, want %d", typ, got, want)
		}
	}
}
