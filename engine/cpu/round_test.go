package cpu

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"lpipe/engine/ops"
)

// Operands are rounded to nearest even in every form; below 2^-126 they are zero.
func TestRound(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, k := range kernels() {
		for n := range 140 {
			x := make([]float32, n)
			for i := range x {
				x[i] = math.Float32frombits(rng.Uint32()) // of all magnitudes, NaN among them
				if i%5 == 0 {
					x[i] = math.Float32frombits(rng.Uint32()&0x807fffff | rng.Uint32N(2)<<23)
				}
				if i%7 == 0 {
					x[i] = math.Float32frombits(rng.Uint32()&0xffff0000 | 0x8000) // between two
				}
			}
			for _, f := range []form{asFloats, swapped, pairs} {
				if f == pairs && k.pairs == nil {
					continue
				}
				size := n
				if f == pairs {
					size = blocks(n, 2)
				}
				got, want := make([]float32, size), make([]float32, size)
				vector(k.vec).round(got, x, f)
				roundGo(want, x, f)
				for i := range want {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%s, %d values, form %d: %d is %#x, want %#x", k.name, n, f, i, math.Float32bits(got[i]), math.Float32bits(want[i]))
					}
				}
			}
		}
	}
	for in, want := range map[float32]uint16{1: 0x3f80, 1 + 1.0/256: 0x3f80, 1 + 3.0/256: 0x3f82, -0x1p-127: 0x8000, 0x1p-126: 0x80, float32(math.Inf(1)): 0x7f80} {
		if got := half(in); got != want {
			t.Errorf("%g is rounded to %#x, want %#x", in, got, want)
		}
	}
}

// The sum of a product in bfloat16 is the one that doc/numerics.md states: of each pair of k first the odd one, then the even one, each as
// a fused multiply-add. What is smaller than 2^-126 counts as zero.
func TestPairSums(t *testing.T) {
	i := slices.IndexFunc(kernels(), func(k *kernel) bool { return k.pairs != nil })
	if i < 0 {
		t.Skip("this processor has no products of pairs")
	}
	run := kernels()[i].pairs[0][0]
	dot := func(a, b []uint16) float32 {
		panel, rows, c := make([]float32, 32*len(b)/2), make([]float32, 4*len(a)/2), make([]float32, 4*32)
		for i, v := range asPairs(b) {
			panel[i*32] = v
		}
		copy(rows, asPairs(a))
		run(&tile{a: &rows[0], b: &panel[0], c: &c[0], rs: len(a) * 2, cs: 4, ldb: 128, ldc: 128, k: len(a) / 2, cols: 32})
		return c[0]
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		a, b := make([]uint16, 64), make([]uint16, 64)
		var sum float32
		for i := range a {
			a[i], b[i] = bf16(float32(rng.NormFloat64()*math.Exp(3*rng.NormFloat64()))), bf16(float32(rng.NormFloat64()))
		}
		for i := 0; i < len(a); i += 2 {
			sum = fma(unbf16(a[i+1]), unbf16(b[i+1]), sum)
			sum = fma(unbf16(a[i]), unbf16(b[i]), sum)
		}
		if got := dot(a, b); got != sum {
			t.Fatalf("the sum is %g, want %g", got, sum)
		}
	}
	const one = 0x3f80
	for _, c := range []struct {
		a, b uint16
		want float32
	}{{one, 0x0080, 0x1p-126}, {one, 0x0040, 0}, {0x3f00, 0x0080, 0}, {0x2080, 0x1f80, 0x1p-126}} {
		if got := dot([]uint16{c.a, 0}, []uint16{c.b, 0}); got != c.want {
			t.Errorf("%g·%g is %g, want %g", unbf16(c.a), unbf16(c.b), got, c.want)
		}
	}
}

// fma is a·b + c, rounded once to float32.
func fma(a, b, c float32) float32 {
	exact := func(v float32) *big.Float { return new(big.Float).SetPrec(400).SetFloat64(float64(v)) }
	sum := exact(a)
	sum.Mul(sum, exact(b)).Add(sum, exact(c))
	v, _ := sum.Float32()
	return v
}

// Products with bfloat16 weights have the same bits with every kernel of multiply-adds, and with any number of threads. Blocks add in
// an order of their own: TestBlockProducts.
func TestRoundedProductsAgree(t *testing.T) {
	var names []string
	for _, k := range kernels() {
		if k.vec {
			names = append(names, k.name)
		}
	}
	if len(names) == 0 {
		t.Skip("no vector functions on this processor")
	}
	for _, s := range [][3]int{{1, 40, 30}, {3, 64, 50}, {7, 96, 70}, {24, 1100, 33}, {33, 1100, 65}, {50, 33, 17}, {40, 2100, 600}, {90, 600, 2100}} {
		var want []float32
		for i, name := range append(names, names[0]) {
			got := roundedProducts(t, New(Options{Threads: 1 + i, Kernel: name}), s[0], s[1], s[2])
			if i == 0 {
				want = got
			} else if !slices.Equal(got, want) {
				t.Errorf("%d × %d × %d: %s differs from %s", s[0], s[1], s[2], name, names[0])
			}
		}
	}
}

// roundedProducts are y, dx of a linear and dx of a head, behind each other.
func roundedProducts(t *testing.T, d *Device, N, C, F int) (all []float32) {
	defer d.Close()
	rng := rand.New(rand.NewPCG(1, uint64(N)))
	w := d.AllocWeight(ops.BF16, F, C)
	d.WriteWeight(w, 0, noise(rng, F*C))
	x, dy, y, dx, head := d.Alloc(N*C), d.Alloc(N*F), d.Alloc(N*F), d.Alloc(N*C), d.Alloc(N*C)
	d.Write(x, noise(rng, N*C))
	d.Write(dy, noise(rng, N*F))
	loss, targets, want := d.Alloc(1), d.AllocInts(N), make([]int32, N)
	for i := range want {
		want[i] = int32(i % F)
	}
	d.WriteInts(targets, want)
	d.Linear(y, ops.Buf{}, x, w, ops.Buf{}, nil, N, C, F)
	d.LinearBackward(dx, dy, ops.Buf{}, ops.Buf{}, w, nil, false, N, C, F)
	d.HeadLoss(loss, ops.Buf{}, head, ops.Buf{}, x, w, targets, 1/float32(N), N, C, F)
	for _, b := range []ops.Buf{y, dx, head, loss} {
		part := make([]float32, b.Len)
		d.Read(part, b)
		all = append(all, part...)
	}
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
