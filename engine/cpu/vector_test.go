package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lpipe/engine/ops"
)

// Every vector function against its Go twin, at lengths around whole vectors; nothing beyond the slices is touched.
func TestVectorFunctions(t *testing.T) {
	v := vector(kernels()[0].vec)
	if !v {
		t.Skip("no vector functions on this processor")
	}
	type call func(v vector, s [][]float32) float32
	none := func(f func(v vector, s [][]float32)) call {
		return func(v vector, s [][]float32) float32 { f(v, s); return 0 }
	}
	step := newAdam(ops.AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.1, GradScale: 0.5, Step: 3})
	for name, f := range map[string]call{
		"add":        none(func(v vector, s [][]float32) { v.add(s[0], s[1], s[2]) }),
		"scale":      none(func(v vector, s [][]float32) { v.scale(s[0], s[1], 0.7) }),
		"norm":       none(func(v vector, s [][]float32) { v.norm(s[0], s[1], s[2], 0.7) }),
		"normBack":   none(func(v vector, s [][]float32) { v.normBack(s[0], s[1], s[2], s[3], 0.7, 0.3) }),
		"mulAdd":     none(func(v vector, s [][]float32) { v.mulAdd(s[0], s[1], s[2], 0.7) }),
		"softBack":   none(func(v vector, s [][]float32) { v.softBack(s[0], s[1], s[2], 0.7, 0.3) }),
		"rotate":     none(func(v vector, s [][]float32) { v.rotate(s[0], s[1], s[2], s[3], -1) }),
		"silu":       none(func(v vector, s [][]float32) { v.silu(s[0], s[1], s[2]) }),
		"siluBack":   none(func(v vector, s [][]float32) { v.siluBack(s[0], s[1], s[2], s[3], s[4]) }),
		"siluBackIn": none(func(v vector, s [][]float32) { v.siluBack(s[0], s[1], s[2], s[0], s[1]) }),
		"adamw":      none(func(v vector, s [][]float32) { v.scale(s[2], s[2], 0); v.adamw(s[0], s[1], s[2], s[3], step) }),
		"sumSquares": func(v vector, s [][]float32) float32 { return v.sumSquares(s[0]) },
		"dot":        func(v vector, s [][]float32) float32 { return v.dot(s[0], s[1]) },
		"dot3":       func(v vector, s [][]float32) float32 { return v.dot3(s[0], s[1], s[2]) },
		"max":        func(v vector, s [][]float32) float32 { return v.max(s[0]) },
		"exp":        func(v vector, s [][]float32) float32 { return v.exp(s[0], s[1], 2, 0.5) },
	} {
		rng := rand.New(rand.NewPCG(3, 4))
		for n := 0; n < 70; n++ {
			got, want := make([][]float32, 5), make([][]float32, 5)
			for i := range got {
				got[i] = noise(rng, n+8)
				want[i] = append([]float32(nil), got[i]...)
				got[i], want[i] = got[i][:n], want[i][:n]
			}
			g, w := f(v, got), f(false, want)
			alike(t, name, n, g, w)
			for i := range got {
				for j, w := range want[i][:n+8] {
					alike(t, name, n, got[i][:n+8][j], w)
				}
			}
		}
	}
}

func alike(t *testing.T, name string, n int, got, want float32) {
	t.Helper()
	if d := math.Abs(float64(got - want)); !(d <= 2e-6*math.Max(1, math.Abs(float64(want)))*math.Sqrt(float64(n+1))) && got != want {
		t.Fatalf("%s of %d values: got %g, want %g", name, n, got, want)
	}
}

// Tiles of a transposed operand, copied by vectors and one by one.
func TestGather(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for tiles := 1; tiles <= farTiles; tiles++ {
		for n := 1; n < 20; n++ {
			stride := tiles*farRows + rng.IntN(9)
			src, size := noise(rng, n*stride), tiles*farRows*n
			got, want := make([]float32, size+8), make([]float32, size+8)
			vector(kernels()[0].vec).gather(got[:size], src, n, stride, tiles)
			gatherGo(want[:size], src, n, stride, tiles)
			if !slices.Equal(got, want) {
				t.Fatalf("%d tiles of %d rows, %d apart:\n%v\nwant\n%v", tiles, n, stride, got, want)
			}
		}
	}
}

// A vector against rows, with whole vectors and odd widths.
func TestVectorAgainstRows(t *testing.T) {
	v, rng := vector(kernels()[0].vec), rand.New(rand.NewPCG(3, 4))
	for _, d := range []int{1, 6, 8, 16, 24, 32, 64} {
		for n := range 14 {
			q, p, rows := noise(rng, d), noise(rng, n), noise(rng, n*d)
			got, want := make([]float32, n), make([]float32, n)
			v.dots(got, q, rows)
			dotsGo(want, q, rows)
			mixed, sum := noise(rng, d), make([]float32, d)
			v.mix(mixed, p, rows)
			mixGo(sum, p, rows)
			for i := range want {
				alike(t, "dots", d, got[i], want[i])
			}
			for i := range sum {
				alike(t, "mix", n, mixed[i], sum[i])
			}
		}
	}
}

// exp is right to two units in the last place wherever the result is a normal number, and keeps NaN.
func TestExp(t *testing.T) {
	v := vector(kernels()[0].vec)
	var in, out [9]float32
	for x := float32(-87.2); x < 88.3; x += 0.00037 {
		in[3], in[8] = x, x
		v.exp(out[:], in[:], 1, 0)
		want := math.Exp(float64(x))
		for _, i := range []int{3, 8} {
			if math.Abs(float64(out[i])/want-1) > 2.5e-7 {
				t.Fatalf("exp(%g) = %g, want %g", x, out[i], want)
			}
		}
	}
	in = [9]float32{float32(math.NaN()), float32(math.Inf(-1)), -1000, 1000}
	v.exp(out[:], in[:], 1, 0)
	if out[0] == out[0] || out[1] > 2e-38 || out[2] > 2e-38 || out[3] < 1e38 {
		t.Fatalf("exp at the ends: %v", out)
	}
}
