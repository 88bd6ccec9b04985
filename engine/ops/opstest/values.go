package opstest

import (
	"math"

	"lpipe/engine/ops"
)

func memory(r *trial) {
	n := r.pick(1, 7, 64, 1000)
	if r.typ.Is4Bit() {
		n = 128 // rows of whole blocks
	}
	v := r.noise(n, 1)
	a, b := r.buf("a", v), r.out("b", n)
	r.d.Copy(b, a, n)
	r.check("copy", b, wide(v))
	r.d.Zero(a)
	r.check("zero", a, zeros(n))
	fresh := r.d.Alloc(n)
	r.check("alloc", fresh, zeros(n))
	r.d.Free(fresh)
	w, stored := r.weight(r.noise(5*n, 1), 5, n)
	row := r.noise(2*n, 1)
	r.d.WriteWeight(w, 3, row)
	got := make([]float32, 3*n)
	r.d.ReadWeight(got, w, 2)
	r.compare("weight row kept", got[:n], wide(stored[2*n:3*n]), 0)
	r.compare("weight rows written", got[n:], wide(row), r.stored())
}

// stored is the relative error that storing a weight makes.
func (r *trial) stored() float64 {
	switch r.typ {
	case ops.BF16, ops.BF16Exact:
		return 1.0 / 256
	case ops.NF4, ops.NF4BF16:
		return 0.16 // half the widest gap between two codes
	}
	return 0
}

func embedding(r *trial) {
	V, N, C := r.pick(1, 5, 40), r.pick(1, 6, 50), r.pick(1, 8, 33)
	r.note("V %d N %d C %d", V, N, C)
	w, v := r.weight(r.noise(V*C, 1), V, C)
	ids := make([]int32, N)
	for n := range ids {
		ids[n] = int32(r.rng.IntN(V))
	}
	dout, dw := r.noise(N*C, 1), r.noise(V*C, 1)
	out, gw := r.out("out", N*C), r.buf("dw", dw)
	id := r.int32s(ids)
	r.d.Embedding(out, w, id, N, C)
	r.d.EmbeddingBackward(gw, r.buf("dout", dout), id, N, C)
	want, grad := zeros(N*C), wide(dw)
	for n, id := range ids {
		for c := range C {
			want[n*C+c] = float64(v[int(id)*C+c])
			grad[int(id)*C+c] += float64(dout[n*C+c])
		}
	}
	r.check("out", out, want)
	r.check("dw", gw, grad)
}

func rmsNorm(r *trial) {
	N, C := r.pick(1, 3, 50, 130), r.pick(1, 8, 33, 64, 100)
	r.note("N %d C %d", N, C)
	x, w, dout, dx, dw := r.noise(N*C, 2), r.noise(C, 1), r.noise(N*C, 1), r.noise(N*C, 1), r.noise(C, 1)
	const eps = 1e-5
	out, rstd, gx, gw := r.out("out", N*C), r.out("rstd", N), r.buf("dx", dx), r.buf("dw", dw)
	xb, wb := r.buf("x", x), r.buf("w", w)
	r.d.RMSNorm(out, rstd, xb, wb, eps, N, C)
	if r.rng.IntN(3) == 0 {
		gw = ops.Buf{}
	}
	r.d.RMSNormBackward(gx, gw, r.buf("dout", dout), xb, wb, rstd, N, C)
	want, wantR, grad, gradW := zeros(N*C), zeros(N), wide(dx), wide(dw)
	for n := range N {
		var sum, dot float64
		for i := n * C; i < (n+1)*C; i++ {
			sum += float64(x[i]) * float64(x[i])
			dot += float64(w[i-n*C]) * float64(dout[i]) * float64(x[i])
		}
		s := 1 / math.Sqrt(sum/float64(C)+eps)
		wantR[n] = s
		for i := n * C; i < (n+1)*C; i++ {
			v, g, y := float64(x[i]), float64(w[i-n*C]), float64(dout[i])
			want[i] = v * s * g
			grad[i] += s*g*y - v*s*s*s*dot/float64(C)
			gradW[i-n*C] += y * v * s
		}
	}
	r.check("out", out, want)
	r.check("rstd", rstd, wantR)
	r.check("dx", gx, grad)
	if gw.Present() {
		r.check("dw", gw, gradW)
	}
	r.d.RMSNorm(xb, rstd, xb, wb, eps, N, C)
	r.check("out in place", xb, want)
}

func rope(r *trial) {
	H, G, D, N := r.pick(1, 2), r.pick(1, 3), r.pick(2, 6, 24, 64), r.pick(1, 5, 70)
	KV := H
	H *= G
	width, half := (H+2*KV)*D, D/2
	r.note("N %d H %d KV %d D %d", N, H, KV, D)
	freq, x, pos := make([]float32, half), r.noise(N*width, 1), make([]int32, N)
	for j := range freq {
		freq[j] = float32(math.Pow(1e6, -2*float64(j)/float64(D)))
	}
	for n := range pos {
		pos[n] = int32(r.rng.IntN(3000))
	}
	cos, sin, xb := r.out("cos", N*half), r.out("sin", N*half), r.buf("x", x)
	r.d.RoPETable(cos, sin, r.buf("freq", freq), r.int32s(pos), N, D)
	r.d.RoPE(xb, cos, sin, N, H, KV, D)
	want, wantC, wantS := wide(x), zeros(N*half), zeros(N*half)
	for n := range N {
		for j := range half {
			angle := float64(float32(pos[n]) * freq[j])
			c, s := math.Cos(angle), math.Sin(angle)
			wantC[n*half+j], wantS[n*half+j] = c, s
			for h := range H + KV {
				at := n*width + h*D + j
				a, b := want[at], want[at+half]
				want[at], want[at+half] = a*c-b*s, b*c+a*s
			}
		}
	}
	r.check("cos", cos, wantC)
	r.check("sin", sin, wantS)
	r.check("rotated", xb, want)
	r.d.RoPEBackward(xb, cos, sin, N, H, KV, D)
	r.check("rotated back", xb, wide(x))
}

func swiGLU(r *trial) {
	N, F := r.pick(1, 4, 60), r.pick(1, 9, 64, 101)
	r.note("N %d F %d", N, F)
	gu, dh := r.noise(2*N*F, 4), r.noise(N*F, 1)
	gu[0] = -90
	h, dgu, b := r.out("h", N*F), r.out("dgateUp", 2*N*F), r.buf("gateUp", gu)
	r.d.SwiGLU(h, b, N, F)
	want, grad := zeros(N*F), zeros(2*N*F)
	for n := range N {
		for f := range F {
			at := 2*n*F + f
			g, u, y := float64(gu[at]), float64(gu[at+F]), float64(dh[n*F+f])
			s := 1 / (1 + math.Exp(-g))
			want[n*F+f] = g * s * u
			grad[at], grad[at+F] = y*u*s*(1+g*(1-s)), y*g*s
		}
	}
	dhb := r.buf("dh", dh)
	r.d.SwiGLUBackward(dgu, dhb, b, N, F)
	r.check("h", h, want)
	r.check("dgateUp", dgu, grad)
	r.d.SwiGLUBackward(b, dhb, b, N, F)
	r.check("dgateUp in place", b, grad)
}

func values(r *trial) {
	n := r.pick(1, 8, 100, 20000)
	r.note("n %d", n)
	a, b := r.noise(n, 1), r.noise(n, 1)
	out, ab, bb, sum := r.out("out", n), r.buf("a", a), r.buf("b", b), r.buf("sum", []float32{2})
	sumWant, scaled, squares := zeros(n), zeros(n), 2.0
	for i := range n {
		sumWant[i] = float64(a[i]) + float64(b[i])
		scaled[i] = float64(a[i]) * float64(float32(0.3))
		squares += float64(a[i]) * float64(a[i])
	}
	r.d.Add(out, ab, bb, n)
	r.check("sum", out, sumWant)
	r.d.Add(bb, ab, bb, n)
	r.check("sum in place", bb, sumWant)
	r.d.SumSquares(sum, ab, n)
	r.check("sum of squares", sum, []float64{squares})
	r.d.Scale(ab, 0.3, n)
	r.check("scaled", ab, scaled)
}

func adamW(r *trial) {
	n := r.pick(1, 9, 130)
	r.note("n %d", n)
	o := ops.AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, GradScale: 0.5}
	v := r.noise(n, 1)
	p, m, s := wide(v), zeros(n), zeros(n)
	pb, mb, sb := r.buf("p", v), r.buf("m", make([]float32, n)), r.buf("v", make([]float32, n))
	for o.Step = 1; o.Step <= 4; o.Step++ {
		g, factor := r.noise(n, 1), 1.0
		if o.Step == 3 {
			o.Factor, factor = r.buf("factor", []float32{0.25}), 0.25
		}
		r.d.AdamW(pb, mb, sb, r.buf("grad", g), o, n)
		if o.Step == 3 { // changes nothing
			r.d.AdamW(pb, mb, sb, r.buf("grad", g), ops.AdamW{LR: 1, GradScale: 1, Step: 1, Factor: r.out("NaN", 1)}, n)
			o.Factor = ops.Buf{}
		}
		for i := range n {
			grad := float64(g[i]) * o.GradScale * factor
			p[i] -= o.LR * o.Decay * p[i]
			m[i] += (1 - o.Beta1) * (grad - m[i])
			s[i] = o.Beta2*s[i] + (1-o.Beta2)*grad*grad
			root := math.Sqrt(s[i]) / math.Sqrt(1-math.Pow(o.Beta2, float64(o.Step)))
			p[i] -= o.LR / (1 - math.Pow(o.Beta1, float64(o.Step))) * m[i] / (root + o.Eps)
		}
	}
	r.check("p", pb, p)
	r.check("m", mb, m)
	r.check("v", sb, s)
	clipFactor(r)
}

// clipFactor: as torch's clip_grad_norm_, and NaN where something is no finite number.
func clipFactor(r *trial) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		loss, squares float32
		limit, want   float64
	}{
		{2, 16, 1, 1 / (4 + 1e-6)}, {2, 16, 5, 1}, {2, 16, 0, 1}, {0, 0, 1, 1}, {nan, 16, 1, math.NaN()}, {inf, 16, 0, math.NaN()},
		{-inf, 16, 1, math.NaN()}, {2, nan, 0, math.NaN()}, {2, inf, 1, math.NaN()},
	} {
		factor := r.buf("factor", []float32{7})
		r.d.ClipFactor(factor, r.buf("loss", []float32{c.loss}), r.buf("squares", []float32{c.squares}), c.limit)
		if got := r.read(factor)[0]; got != float32(c.want) && (got == got || c.want == c.want) {
			r.t.Errorf("loss %g, squares %g, limit %g: the factor is %g, want %g", c.loss, c.squares, c.limit, got, c.want)
		}
	}
}
