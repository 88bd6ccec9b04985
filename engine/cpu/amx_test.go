//go:build amd64

package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"lpipe/engine/ops"
)

// blockKernels are kernels with blocks: the processor's, if it has one, and one whose assembly is interpreted, on any processor.
func blockKernels(t *testing.T) []*kernel {
	var all []*kernel
	if k, err := amxKernel(); err == nil {
		all = append(all, k)
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

// Blocks of every size give the bits of the formula, and write nothing beside them.
func TestBlocks(t *testing.T) {
	const inner, apart = 3*2*blockPairs + 14, 100 // of k; of C's rows
	rng := rand.New(rand.NewPCG(7, 8))
	a, b := halves(rng, 32*inner), halves(rng, inner*96)
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
					v = blockSum(v, a[row*inner:][:n], every(b[col:], 96, n))
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
				if want := blockSum(0, rounded(xs[n*C:], 1, C), rounded(ws[f*C:], 1, C)); v != want {
					t.Fatalf("%s, %v: y[%d, %d] is %g, want %g", kernel.name, s, n, f, v, want)
				}
			}
			for i, v := range dxs {
				n, c := i/C, i%C
				if want := blockSum(0, rounded(dys[n*F:], 1, F), rounded(ws[c:], C, F)); v != want {
					t.Fatalf("%s, %v: dx[%d, %d] is %g, want %g", kernel.name, s, n, c, v, want)
				}
			}
		}
	}
}

// every is n values, so many apart.
func every[T any](v []T, apart, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v[i*apart]
	}
	return all
}

func rounded(v []float32, apart, n int) []uint16 {
	all := make([]uint16, n)
	for i, x := range every(v, apart, n) {
		all[i] = half(x)
	}
	return all
}

// What a machine must pass before AMX is used there notices one wrong number, in a product of any function, or in a long block on either of
// two threads; blocks that are right pass, also where a thread never leaves its processor.
func TestBlocksAreCheckedBeforeUse(t *testing.T) {
	for _, k := range blockKernels(t) {
		right := *k.blocks
		for _, c := range []struct {
			name    string
			wrong   func(low, right int, b *blockCall) bool
			calls   int64 // of those that wrong chooses, the one that goes wrong; 0: none
			message string
		}{
			{"right", nil, 0, ""},
			{"high", func(low, right int, b *blockCall) bool { return low == 1 && right == 0 }, 2, "of 27 × 80 × 16 numbers, row 26, column 15"},
			{"narrow", func(low, right int, b *blockCall) bool { return low == 0 && right == 1 }, 1, "of 16 × 80 × 31 numbers, row 15, column 30"},
			{"one thread", func(_, _ int, b *blockCall) bool { return b.panels == 3 }, 1, "beside another thread on the same processor: row 31, column 95 of 96 is"},
		} {
			var count atomic.Int64
			tried := *k
			tried.blocks = &[2][2]func(*blockCall){}
			for low := range 2 {
				for wide := range 2 {
					tried.blocks[low][wide] = func(b *blockCall) {
						right[low][wide](b)
						if c.calls > 0 && c.wrong(low, wide, b) && count.Add(1) == c.calls {
							flipLast(b)
						}
					}
				}
			}
			system := thisProcessor()
			if c.calls == 0 {
				system.switches = func() int64 { return 0 }
			}
			err := tried.checkBlocks(3, 3, system)
			if (err == nil) != (c.message == "") || err != nil && !strings.HasPrefix(err.Error(), c.message) {
				t.Errorf("%s, %s: %v, want %q", k.name, c.name, err, c.message)
			}
		}
	}
}

// flipLast changes the lowest bit of the last number that a call computed.
func flipLast(b *blockCall) {
	rows, cols := 0, 0
	for i := range 2 {
		rows, cols = rows+int(b.config.rows[2*i]), cols+int(b.config.bytes[i])/4
	}
	last := floats(b.c, (rows-1)*b.ldc/4+(b.panels-1)*blockRows+cols)
	p := &last[len(last)-1]
	*p = math.Float32frombits(math.Float32bits(*p) ^ 1)
}

// Who asks for AMX gets it, or is told why not; who does not ask never gets it.
func TestAMXIsAskedFor(t *testing.T) {
	usual := New(Options{})
	defer usual.Close()
	if info := usual.Info(); info.Detail == AMX || usual.Err() != nil {
		t.Errorf("without a choice: %+v, %v", info, usual.Err())
	}
	d := New(Options{Threads: 1, Kernel: AMX})
	defer d.Close()
	_, lacks := amxKernel()
	switch err := d.Err(); {
	case lacks == nil && (err != nil || d.Info().Name != "cpu:"+AMX):
		t.Errorf("AMX is there: %+v, %v", d.Info(), err)
	case lacks != nil && (err == nil || !strings.Contains(err.Error(), lacks.Error())):
		t.Errorf("AMX is not there: %v, want %v", err, lacks)
	}
}
