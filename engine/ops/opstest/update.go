package opstest

import (
	"math"

	"lpipe/engine/ops"
)

func lion(r *trial) {
	n := r.pick(1, 9, 130, 20000)
	r.note("n %d", n)
	o := ops.Lion{LR: 1e-2, Beta1: 0.9, Beta2: 0.99, Decay: 0.1, GradScale: 0.5}
	v := r.noise(n, 1)
	p, m := wide(v), zeros(n)
	pb, mb := r.buf("p", v), r.buf("m", make([]float32, n))
	for range 4 {
		g := r.noise(n, 1)
		g[0] = 0 // the sign of 0 is 0
		r.d.Lion(pb, mb, r.buf("grad", g), o, n)
		r.d.Lion(pb, mb, r.buf("grad", g), ops.Lion{LR: 1, GradScale: 1, Factor: r.out("NaN", 1)}, n) // changes nothing
		for i := range n {
			grad := float64(g[i]) * o.GradScale
			p[i] -= o.LR * o.Decay * p[i]
			if u := o.Beta1*m[i] + (1-o.Beta1)*grad; u != 0 {
				p[i] -= math.Copysign(o.LR, u)
			}
			m[i] = o.Beta2*m[i] + (1-o.Beta2)*grad
		}
	}
	r.check("p", pb, p)
	r.check("m", mb, m)
}

func embeddingNoise(r *trial) {
	N, C := r.pick(1, 7, 60), r.pick(1, 8, 33)
	r.note("N %d C %d", N, C)
	x, amount, seed := r.noise(N*C, 1), r.noise(N, 0.1), r.rng.Uint64()
	b := r.buf("x", x)
	r.d.Noise(b, r.buf("amount", amount), seed, N, C)
	want := wide(x)
	for i := range want {
		want[i] += float64(amount[i/C]) * float64(int32(ops.MaskBits(seed, i))) / (1 << 31)
	}
	r.check("x", b, want)
}

func scaleRows(r *trial) {
	N, C := r.pick(1, 7, 60), r.pick(1, 8, 33)
	r.note("N %d C %d", N, C)
	x, by := r.noise(N*C, 1), r.noise(N, 1)
	by[0] = 0
	b := r.buf("x", x)
	r.d.ScaleRows(b, r.buf("s", by), N, C)
	want := wide(x)
	for i := range want {
		want[i] *= float64(by[i/C])
	}
	r.check("x", b, want)
}

func pairWeights(r *trial) {
	K, behind, total := r.pick(0, 1, 5), r.pick(0, 1, 40), r.pick(1, 7)
	ends, N := make([]int32, 2*K), 0
	for i := range ends {
		N += r.pick(1, 3, 300)
		ends[i] = int32(N)
	}
	N += max(behind, 1-N)
	r.note("N %d K %d", N, K)
	nll, reference, beta := r.noise(N, 1), r.noise(N, 1), 0.1
	weight, want := r.out("weight", N), zeros(N)
	r.d.PairWeights(weight, r.buf("nll", nll), r.buf("reference", reference), r.int32s(ends), beta, total, N, K)
	from := 0
	for k := range K {
		mid, to, margin := int(ends[2*k]), int(ends[2*k+1]), 0.0
		for n := from; n < to; n++ {
			gain := beta * (float64(reference[n]) - float64(nll[n]))
			if want[n] = 1; n >= mid {
				want[n], gain = -1, -gain
			}
			margin += gain
		}
		for n := from; n < to; n++ {
			want[n] *= beta / (1 + math.Exp(margin)) / float64(total)
		}
		from = to
	}
	r.check("weight", weight, want)
}
