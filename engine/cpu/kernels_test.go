package cpu

import (
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"lpipe/engine/ops"
)

// The kernels of AVX-512, AVX2 and NEON add in one order: their functions, products and three whole steps give the same bits on every
// processor. The sums of bits were written down on AVX-512.
func TestKernelsHaveOneOrder(t *testing.T) {
	want := map[string]uint32{
		"adamw":              0x015beef3,
		"dot":                0x7ecaf18b,
		"dot3":               0x68505f24,
		"dots":               0x17326235,
		"exp":                0x9b089670,
		"max":                0xfac951d8,
		"mix":                0xca44209f,
		"norm":               0xeef1d472,
		"normBack, mulAdd":   0x0e38d07a,
		"products, weight 0": 0x717eafd0,
		"products, weight 1": 0xab232757,
		"products, weight 4": 0x50fa1b44,
		"three steps":        0x4f3f6662,
		"rotate":             0x9c1f13c0,
		"round":              0xc0348532,
		"silu":               0x5c0050ae,
		"siluBack":           0x11fda82e,
		"softBack":           0x032e58c0,
		"sumSquares":         0x597cfa51,
	}
	for _, k := range kernels() {
		if !k.vec {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			got := map[string]uint32{}
			functionBits(got, vector(k.vec))
			productBits(t, got, k.name)
			for name, sum := range got {
				if sum != want[name] {
					t.Errorf("%q: %#08x,", name, sum)
				}
			}
		})
	}
}

// exact is n values between -2 and 2 that no processor computes otherwise.
func exact(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(int32(rng.Uint32())>>8) * 0x1p-22
	}
	return v
}

func bitsOf(sum uint32, values ...float32) uint32 {
	for _, v := range values {
		b := math.Float32bits(v)
		sum = crc32.Update(sum, crc32.IEEETable, []byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
	}
	return sum
}

// functionBits takes the sums of vector functions over lengths around whole vectors.
func functionBits(got map[string]uint32, v vector) {
	step := adam{0.99, 0.5, 0.1, 0.01, 0.99, 0.01, 0.25, 1e-8}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := 0; n < 70; n++ {
		a, b, c, d := exact(rng, n), exact(rng, n), exact(rng, n), exact(rng, n)
		note := func(name string, values ...float32) { got[name] = bitsOf(got[name], values...) }
		out, more := make([]float32, n), exact(rng, n)
		note("dot", v.dot(a, b))
		note("dot3", v.dot3(a, b, c))
		note("sumSquares", v.sumSquares(a))
		note("max", v.max(a))
		note("exp", v.exp(out, a, 2, 0.5))
		note("exp", out...)
		v.silu(out, a, b)
		note("silu", out...)
		v.siluBack(out, more, c, a, b)
		note("siluBack", append(out, more...)...)
		v.norm(out, a, b, 0.7)
		note("norm", out...)
		v.softBack(out, a, b, 0.7, 0.3)
		note("softBack", out...)
		v.normBack(out, a, b, c, 0.7, 0.3)
		v.mulAdd(out, b, c, 0.7)
		note("normBack, mulAdd", out...)
		v.round(out, d, swapped)
		note("round", out...)
		v.rotate(a, b, c, d, -1)
		note("rotate", append(a, b...)...)
		v.scale(out, out, 0)
		v.adamw(a, b, out, c, step)
		note("adamw", append(append(a, b...), out...)...)
	}
	for _, d := range []int{8, 24, 64} {
		for n := 1; n < 14; n++ {
			q, p, rows, out, mixed := exact(rng, d), exact(rng, n), exact(rng, n*d), make([]float32, n), make([]float32, d)
			v.dots(out, q, rows)
			got["dots"] = bitsOf(got["dots"], out...)
			v.mix(mixed, p, rows)
			got["mix"] = bitsOf(got["mix"], mixed...)
		}
	}
}

// productBits takes the sums of products of all layouts, and of all that three training steps compute.
func productBits(t *testing.T, got map[string]uint32, name string) {
	d := New(Options{Threads: 2, Kernel: name})
	defer d.Close()
	for _, typ := range []ops.Type{ops.F32, ops.BF16, ops.BF16Exact} {
		for _, s := range [][3]int{{1, 40, 30}, {3, 64, 50}, {7, 96, 70}, {33, 1100, 65}, {50, 33, 17}, {40, 2100, 600}} {
			N, C, F := s[0], s[1], s[2]
			rng := rand.New(rand.NewPCG(1, uint64(N)))
			w := d.AllocWeight(typ, F, C)
			d.WriteWeight(w, 0, exact(rng, F*C))
			x, dy, y, dx, dw := d.Alloc(N*C), d.Alloc(N*F), d.Alloc(N*F), d.Alloc(N*C), d.Alloc(F*C)
			d.Write(x, exact(rng, N*C))
			d.Write(dy, exact(rng, N*F))
			d.Linear(y, ops.Buf{}, x, w, ops.Buf{}, nil, N, C, F)
			d.LinearBackward(dx, dy, ops.Buf{}, ops.Buf{}, w, nil, false, N, C, F)
			d.LinearWeightBackward(dw, ops.Buf{}, dy, x, N, C, F)
			for _, b := range []ops.Buf{y, dx, dw} {
				part := make([]float32, b.Len)
				d.Read(part, b)
				name := fmt.Sprint("products, weight ", typ)
				got[name] = bitsOf(got[name], part...)
			}
		}
	}
	s := newStep(d, 11, 37, 48, 6, 2, 80, 130, 5)
	for range 3 {
		s.run()
	}
	for _, b := range s.all {
		part := make([]float32, b.Len)
		d.Read(part, b)
		got["three steps"] = bitsOf(got["three steps"], part...)
	}
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
}
