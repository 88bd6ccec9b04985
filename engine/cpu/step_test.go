package cpu

import (
	"math/rand/v2"
	"testing"

	"lpipe/engine/ops"
)

// step is one transformer layer with adapters on all linears, its head, backward pass and optimiser: all operations of a
// training step, in the shape that the fields give.
type step struct {
	d                     ops.Device
	N, C, H, KV, D, F, V  int
	R                     int
	embed, head           ops.Weight
	linears               [4]ops.Weight // qkv, o, gate-up, down
	lora                  [4][]ops.LoRA
	p, m, v, grad         ops.Buf // all trained values
	xa, x, y              [4]ops.Buf
	norms                 [3]ops.Buf // weights
	rstd                  [3]ops.Buf
	res, dres             [3]ops.Buf
	cos, sin, freq        ops.Buf
	attn, dattn, dqkv     ops.Buf
	lse, dh, dgu, dnorm   ops.Buf
	loss, nll             ops.Buf
	ids, pos, start, want ops.Ints
	all                   []ops.Buf // everything that a step computes
	t                     int
}

func newStep(d ops.Device, docs, length, C, H, KV, F, V, R int) *step {
	s := &step{d: d, N: docs * length, C: C, H: H, KV: KV, D: C / H, F: F, V: V, R: R}
	rng := rand.New(rand.NewPCG(7, 7))
	fill := func(n int, size float32) ops.Buf {
		b, v := d.Alloc(n), noise(rng, n)
		for i := range v {
			v[i] *= size
		}
		d.Write(b, v)
		return b
	}
	weight := func(rows, cols int) ops.Weight {
		w := d.AllocWeight(ops.F32, rows, cols)
		d.WriteWeight(w, 0, noise(rng, rows*cols))
		d.Scale(w.Values, 0.1, rows*cols)
		return w
	}
	out := func(n int) ops.Buf {
		b := d.Alloc(n)
		s.all = append(s.all, b)
		return b
	}
	N, wide := s.N, (H+2*KV)*s.D
	s.embed, s.head = weight(V, C), weight(V, C)
	type part struct{ col, f int }
	for i, l := range []struct {
		rows, cols int
		parts      []part
	}{
		{wide, C, []part{{0, C}, {C, KV * s.D}, {C + KV*s.D, KV * s.D}}}, {C, C, []part{{0, C}}},
		{2 * F, C, []part{{0, F}, {F, F}}}, {C, F, []part{{0, C}}},
	} {
		s.linears[i] = weight(l.rows, l.cols)
		s.xa[i], s.y[i] = out(N*R*len(l.parts)), out(N*l.rows)
		for _, p := range l.parts {
			s.lora[i] = append(s.lora[i], ops.LoRA{A: fill(R*l.cols, 0.1), B: fill(p.f*R, 0.1), DA: out(R * l.cols), DB: out(p.f * R),
				Col: p.col, F: p.f, R: R, Scale: 2})
		}
	}
	for i := range 3 {
		s.norms[i], s.rstd[i], s.res[i], s.dres[i] = fill(C, 1), out(N), out(N*C), out(N*C)
	}
	s.x = [4]ops.Buf{out(N * C), out(N * C), out(N * C), out(N * F)}
	s.cos, s.sin, s.freq = out(N*s.D/2), out(N*s.D/2), fill(s.D/2, 0.1)
	s.attn, s.dattn, s.dqkv, s.lse = s.x[1], out(N*C), out(N*wide), out(N*H)
	s.dh, s.dgu, s.dnorm, s.loss, s.nll = out(N*F), out(2*N*F), out(N*C), out(1), out(N)
	n := R * C
	s.p, s.m, s.v, s.grad = fill(n, 1), out(n), out(n), s.lora[0][0].DA
	ids := make([]int32, N)
	pos, start, want := make([]int32, N), make([]int32, N), make([]int32, N)
	for i := range ids {
		ids[i], pos[i], start[i], want[i] = int32(rng.IntN(V)), int32(i%length), int32(i/length*length), int32(rng.IntN(V))
		if rng.IntN(2) == 0 {
			want[i] = -1
		}
	}
	ints := func(v []int32) ops.Ints {
		b := d.AllocInts(len(v))
		d.WriteInts(b, v)
		return b
	}
	s.ids, s.pos, s.start, s.want = ints(ids), ints(pos), ints(start), ints(want)
	return s
}

func (s *step) run() {
	d, N, C, F, wide := s.d, s.N, s.C, s.F, (s.H+2*s.KV)*s.D
	const eps, scale = 1e-6, 0.2
	s.t++
	d.Zero(s.loss)
	d.RoPETable(s.cos, s.sin, s.freq, s.pos, N, s.D)
	d.Embedding(s.res[0], s.embed, s.ids, N, C)
	d.RMSNorm(s.x[0], s.rstd[0], s.res[0], s.norms[0], eps, N, C)
	d.Linear(s.y[0], s.xa[0], s.x[0], s.linears[0], ops.Buf{}, s.lora[0], N, C, wide)
	d.RoPE(s.y[0], s.cos, s.sin, N, s.H, s.KV, s.D)
	d.Attention(s.attn, s.lse, s.y[0], s.start, scale, N, s.H, s.KV, s.D)
	d.Linear(s.y[1], s.xa[1], s.x[1], s.linears[1], ops.Buf{}, s.lora[1], N, C, C)
	d.Add(s.res[1], s.res[0], s.y[1], N*C)
	d.RMSNorm(s.x[2], s.rstd[1], s.res[1], s.norms[1], eps, N, C)
	d.Linear(s.y[2], s.xa[2], s.x[2], s.linears[2], ops.Buf{}, s.lora[2], N, C, 2*F)
	d.SwiGLU(s.x[3], s.y[2], N, F)
	d.Linear(s.y[3], s.xa[3], s.x[3], s.linears[3], ops.Buf{}, s.lora[3], N, F, C)
	d.Add(s.res[2], s.res[1], s.y[3], N*C)
	d.RMSNorm(s.dnorm, s.rstd[2], s.res[2], s.norms[2], eps, N, C)

	d.HeadLoss(s.loss, s.nll, s.dres[0], ops.Buf{}, s.dnorm, s.head, s.want, 1/float32(N), N, C, s.V)
	d.Zero(s.dres[2])
	d.RMSNormBackward(s.dres[2], ops.Buf{}, s.dres[0], s.res[2], s.norms[2], s.rstd[2], N, C)
	d.LinearBackward(s.dh, s.dres[2], s.x[3], s.xa[3], s.linears[3], s.lora[3], false, N, F, C)
	d.SwiGLUBackward(s.dgu, s.dh, s.y[2], N, F)
	d.LinearBackward(s.dnorm, s.dgu, s.x[2], s.xa[2], s.linears[2], s.lora[2], false, N, C, 2*F)
	d.RMSNormBackward(s.dres[2], ops.Buf{}, s.dnorm, s.res[1], s.norms[1], s.rstd[1], N, C)
	d.LinearBackward(s.dattn, s.dres[2], s.x[1], s.xa[1], s.linears[1], s.lora[1], false, N, C, C)
	d.AttentionBackward(s.dqkv, s.dattn, s.attn, s.lse, s.y[0], s.start, scale, N, s.H, s.KV, s.D)
	d.RoPEBackward(s.dqkv, s.cos, s.sin, N, s.H, s.KV, s.D)
	d.LinearBackward(s.dnorm, s.dqkv, s.x[0], s.xa[0], s.linears[0], s.lora[0], false, N, C, wide)
	d.RMSNormBackward(s.dres[2], ops.Buf{}, s.dnorm, s.res[0], s.norms[0], s.rstd[0], N, C)
	d.LinearWeightBackward(s.grad, ops.Buf{}, s.x[0].Slice(0, N*s.R), s.res[0], N, C, s.R)
	d.AdamW(s.p, s.m, s.v, s.grad, ops.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, GradScale: 1, Step: s.t}, s.R*C)
}

// The number of threads changes no bit of anything that a step computes.
func TestThreadsGiveTheSameBits(t *testing.T) {
	for _, name := range Kernels() {
		var want [][]float32
		for _, threads := range []int{1, 2, 3, 7} {
			d := New(Options{Threads: threads, Kernel: name})
			defer d.Close()
			s := newStep(d, 11, 37, 48, 6, 2, 80, 130, 5)
			for range 3 {
				s.run()
			}
			for i, b := range s.all {
				got := make([]float32, b.Len)
				d.Read(got, b)
				if threads == 1 {
					want = append(want, got)
					continue
				}
				for k, v := range got {
					if v != want[i][k] || v != v {
						t.Fatalf("%s, %d threads: buffer %d value %d is %g, with one thread %g", name, threads, i, k, v, want[i][k])
					}
				}
			}
		}
	}
}

// After its first call of a shape no operation allocates.
func TestStepsAllocateNothing(t *testing.T) {
	d := New(Options{Threads: 2})
	defer d.Close()
	s := newStep(d, 5, 37, 48, 6, 2, 80, 130, 5)
	for range 20 { // every worker has met every task
		s.run()
	}
	if n := testing.AllocsPerRun(10, s.run); n > 0 {
		t.Fatalf("%v allocations a step", n)
	}
}

// One layer and the head in the demo's shape.
func BenchmarkStep(b *testing.B) {
	d := New(Options{})
	defer d.Close()
	s := newStep(d, 64, 100, 128, 4, 2, 352, 600, 16)
	s.run()
	best(b, s.run, float64(s.N), "tokens/s")
}
