package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"lpipe/engine/ops"
)

// The three layouts of a product, on shapes with every kind of edge, against float64.
func TestProducts(t *testing.T) {
	sizes := []int{1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 16, 17, 31, 32, 33, 48, 65, 100, 129}
	for _, name := range Kernels() {
		d := New(Options{Threads: 2, Kernel: name})
		defer d.Close()
		rng := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			M, N := sizes[rng.IntN(len(sizes))], sizes[rng.IntN(len(sizes))]
			K := 1 + rng.IntN(40)
			if rng.IntN(8) == 0 {
				K = 400 + rng.IntN(900)
			}
			layout, add, biased := rng.IntN(3), rng.IntN(2) == 0, rng.IntN(2) == 0
			if err := checkProduct(d, rng, layout, M, N, K, add, biased && !add); err != nil {
				t.Fatalf("%s: layout %d, %d×%d×%d, add %v: %v", name, layout, M, N, K, add, err)
			}
		}
	}
}

func checkProduct(d *Device, rng *rand.Rand, layout, M, N, K int, add, biased bool) error {
	a, b, c, bias := noise(rng, M*K), noise(rng, K*N), noise(rng, M*N), noise(rng, N)
	av, bs := view{a, K, 1}, source{matrix{f: b}, 0, 1, K, 1} // NT
	switch layout {
	case 1: // NN
		bs = source{matrix{f: b}, 0, N, 1, 1}
	case 2: // TN
		av, bs = view{a, 1, M}, source{matrix{f: b}, 0, N, 1, 1}
	}
	want := make([]float64, M*N)
	for i := range M {
		for j := range N {
			if add {
				want[i*N+j] = float64(c[i*N+j])
			} else if biased {
				want[i*N+j] = float64(bias[j])
			}
			for k := range K {
				want[i*N+j] += float64(a[i*av.rs+k*av.cs]) * float64(b[k*bs.rs+j*bs.cs])
			}
		}
	}
	d.mem.reset()
	d.begin()
	p := d.product(c, N, N)
	p.add = add
	if biased {
		p.bias = bias
	}
	d.term(p, av, K, bs, 0, N)
	d.run(M)
	for i, v := range c {
		if !(math.Abs(float64(v)-want[i]) <= 1e-6*float64(K+8)) {
			return fmt.Errorf("value %d: got %g, want %g", i, v, want[i])
		}
	}
	return nil
}

func noise(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// best runs f and reports the fastest run's rate: other programs disturb it least.
func best(b *testing.B, f func(), work float64, unit string) {
	fastest := time.Hour
	for b.Loop() {
		start := time.Now()
		f()
		fastest = min(fastest, time.Since(start))
	}
	b.ReportMetric(work/fastest.Seconds(), unit)
}

// Linear and its halves, in GFLOP/s; BenchmarkPeak says what a core can do.
func BenchmarkLinear(b *testing.B) {
	for _, threads := range []int{1, 2} {
		for _, s := range [][3]int{{512, 512, 512}, {64, 128, 352}, {256, 128, 352}, {1024, 128, 352}, {6400, 128, 704}, {6400, 352, 128}} {
			N, C, F := s[0], s[1], s[2]
			d := New(Options{Threads: threads})
			x, y, dx, dw := d.Alloc(N*C), d.Alloc(N*F), d.Alloc(N*C), d.Alloc(F*C)
			w := d.AllocWeight(ops.F32, F, C)
			rng := rand.New(rand.NewPCG(1, 1)) // memory that was never written would be one page of zeros
			d.Write(x, noise(rng, N*C))
			d.WriteWeight(w, 0, noise(rng, F*C))
			for _, half := range []struct {
				name string
				f    func()
			}{
				{"NT", func() { d.Linear(y, ops.Buf{}, x, w, ops.Buf{}, nil, N, C, F) }},
				{"NN", func() { d.LinearBackward(dx, y, ops.Buf{}, ops.Buf{}, w, nil, false, N, C, F) }},
				{"TN", func() { d.LinearWeightBackward(dw, ops.Buf{}, y, x, N, C, F) }},
			} {
				b.Run(fmt.Sprintf("%s/%dx%dx%d/threads=%d", half.name, N, C, F, threads), func(b *testing.B) {
					best(b, half.f, 2*float64(N*C*F)/1e9, "GFLOP/s")
				})
			}
			d.Close()
		}
	}
}

// BenchmarkPeak runs each kernel's largest tile on data in level-1 cache.
func BenchmarkPeak(b *testing.B) {
	for _, k := range kernels() {
		b.Run(k.name, func(b *testing.B) {
			const K = 256
			a, panel, c := make([]float32, 12*K), make([]float32, 32*K), make([]float32, 12*32)
			t := &tile{a: &a[0], b: &panel[0], c: &c[0], rs: K * 4, cs: 4, ldb: k.nr * 4, ldc: k.nr * 4, k: K, cols: k.nr}
			rows := len(k.run) * k.step
			best(b, func() {
				for range 100 {
					k.run[len(k.run)-1][0](t)
				}
			}, 100*2*float64(rows*k.nr*K)/1e9, "GFLOP/s")
		})
	}
}
