//go:build amd64

package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lpipe/engine/ops"
)

// blockKernels are kernels with blocks: the processor's, if it has one, and one whose assembly is interpreted, on any processor.
func blockKernels(t *testing.T) []*kernel {
	var all []*kernel
	for _, k := range kernels() {
		if k.blocks != nil {
			all = append(all, k)
		}
	}
	plain := &kernel{name: "amx-bf16 interpreted", nr: 32, step: 1, run: [][2]func(*tile){{nil, nil}}, pairs: [][2]func(*tile){{nil, nil}}}
	interpretedBlocks := *(kernel{}).withBlocks().blocks
	for i := range interpretedBlocks {
		for j, f := range interpretedBlocks[i] {
			interpretedBlocks[i][j] = interpreted(t, f)
		}
	}
	plain.blocks = &interpretedBlocks
	return append(all, plain)
}

// blockSum is a value of C after a product of n pairs, in the order of amx.go: the formula in loops.
func blockSum(c float32, a, b func(k int) uint16, n int) float32 {
	for from := 0; from < n; from += 2 * blockPairs {
		var sums [2]float32
		for k := from; k < min(from+2*blockPairs, n); k++ {
			sums[k%2] = fusedToZero(unbf16(a(k)), unbf16(b(k)), sums[k%2])
		}
		c = fusedToZero(1, fusedToZero(1, sums[0], sums[1]), c)
	}
	return c
}

// Blocks of every size give the bits of the formula, and write nothing beside them.
func TestBlocks(t *testing.T) {
	const inner, apart = 3*2*blockPairs + 14, 100 // of k; of C's rows
	rng := rand.New(rand.NewPCG(7, 8))
	halves := func(n int) []uint16 {
		v := make([]uint16, n)
		for i := range v {
			v[i] = half(float32(rng.NormFloat64() * math.Exp(2*rng.NormFloat64())))
		}
		return v
	}
	a, b := halves(32*inner), halves(inner*96)
	panels := make([]float32, inner/2*96)
	for p := range 3 {
		for k := range inner / 2 {
			for j := range 32 {
				panels[(p*inner/2+k)*32+j] = pair(b[2*k*96+p*32+j], b[(2*k+1)*96+p*32+j])
			}
		}
	}
	for _, kernel := range blockKernels(t) {
		for _, s := range [][3]int{{1, 1, inner}, {16, 16, 2 * blockPairs}, {17, 5, inner}, {3, 33, 8}, {32, 96, inner}, {31, 64, 64}, {9, 17, 34}, {32, 79, 2}} {
			rows, cols, n := s[0], s[1], s[2]
			c, bias := noise(rng, 34*apart), noise(rng, cols)
			got := slices.Clone(c)
			p := &product{c: got[apart+2:], ldc: apart, cols: cols, bias: bias, terms: []term{{k: inner / 2, packed: panels, form: pairs, to: cols}}}
			pc := &piece{k1: n / 2, a: view{asPairs(a), inner / 2, 1}}
			p.add = cols%2 == 0
			kernel.blockStrip(&worker{}, p, pc, true, 0, rows, 0, cols)
			for i, v := range c {
				row, col := i/apart-1, i%apart-2
				if row >= 0 && row < rows && col >= 0 && col < cols {
					if !p.add {
						v = bias[col]
					}
					v = blockSum(v, func(k int) uint16 { return a[row*inner+k] }, func(k int) uint16 { return b[k*96+col] }, n)
				}
				if math.Float32bits(got[i]) != math.Float32bits(v) {
					t.Fatalf("%s, %d × %d × %d: row %d, column %d is %g, want %g", kernel.name, rows, n, cols, row, col, got[i], v)
				}
			}
		}
	}
}

// A linear on a weight in bfloat16, forward and backward, has the bits of the formula: those that doc/numerics.md promises for AMX.
func TestBlockProducts(t *testing.T) {
	for _, kernel := range blockKernels(t) {
		for _, s := range [][3]int{{5, 40, 30}, {25, 70, 50}, {33, 1100, 65}, {70, 34, 97}} {
			N, C, F := s[0], s[1], s[2]
			d := New(Options{Threads: 2, Kernel: "go"})
			d.use(kernel)
			rng := rand.New(rand.NewPCG(1, uint64(N)))
			w, x, dy, y, dx := d.AllocWeight(ops.BF16, F, C), d.Alloc(N*C), d.Alloc(N*F), d.Alloc(N*F), d.Alloc(N*C)
			ws, xs, dys := noise(rng, F*C), noise(rng, N*C), noise(rng, N*F)
			d.WriteWeight(w, 0, ws)
			d.Write(x, xs)
			d.Write(dy, dys)
			d.Linear(y, ops.Buf{}, x, w, ops.Buf{}, nil, N, C, F)
			d.LinearBackward(dx, dy, ops.Buf{}, ops.Buf{}, w, nil, false, N, C, F)
			ys, dxs := make([]float32, N*F), make([]float32, N*C)
			d.Read(ys, y)
			d.Read(dxs, dx)
			if err := d.Err(); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			for i, v := range ys {
				n, f := i/F, i%F
				if want := blockSum(0, func(k int) uint16 { return half(xs[n*C+k]) }, func(k int) uint16 { return half(ws[f*C+k]) }, C); v != want {
					t.Fatalf("%s, %v: y[%d, %d] is %g, want %g", kernel.name, s, n, f, v, want)
				}
			}
			for i, v := range dxs {
				n, c := i/C, i%C
				if want := blockSum(0, func(k int) uint16 { return half(dys[n*F+k]) }, func(k int) uint16 { return half(ws[k*C+c]) }, F); v != want {
					t.Fatalf("%s, %v: dx[%d, %d] is %g, want %g", kernel.name, s, n, c, v, want)
				}
			}
		}
	}
}
