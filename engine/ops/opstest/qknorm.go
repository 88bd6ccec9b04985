package opstest

import (
	"math"

	"lpipe/engine/ops"
)

func qkNorm(r *trial) {
	var none ops.Buf
	H, KV, D := r.heads()
	N := r.pick(1, 5, 60, 200)
	r.note("N %d H %d KV %d D %d", N, H, KV, D)
	const eps = 1e-5
	width, heads := (H+2*KV)*D, H+KV
	x, dy := r.noise(N*width, 1), r.noise(N*width, 1)
	w := [2][]float32{r.noise(D, 1), r.noise(D, 1)}
	start := [2][]float32{r.noise(D, 1), r.noise(D, 1)}
	y, dx := wide(x), wide(dy)
	raw, rstd := zeros(N*heads*D), zeros(N*heads)
	dw := [2][]float64{wide(start[0]), wide(start[1])}
	for n := range N {
		for h := range heads {
			kind := 0
			if h >= H {
				kind = 1
			}
			at, k := n*width+h*D, n*heads+h
			v, g := wide(x[at:at+D]), wide(dy[at:at+D])
			root := 1 / math.Sqrt(inner(v, v)/float64(D)+eps)
			rstd[k] = root
			copy(raw[k*D:], v)
			var dot float64
			for i := range D {
				dot += float64(w[kind][i]) * g[i] * v[i]
				dw[kind][i] += g[i] * v[i] * root
			}
			for i := range D {
				y[at+i] = v[i] * root * float64(w[kind][i])
				dx[at+i] = root*float64(w[kind][i])*g[i] - v[i]*root*root*root*dot/float64(D)
			}
		}
	}
	wq, wk := r.buf("wq", w[0]), r.buf("wk", w[1])
	qkv, rawb, rstdb := r.buf("qkv", x), r.out("raw", N*heads*D), r.out("rstd", N*heads)
	r.d.QKNorm(rawb, rstdb, qkv, wq, wk, eps, N, H, KV, D)
	r.check("qkv", qkv, y)
	r.check("raw", rawb, raw)
	r.check("rstd", rstdb, rstd)
	again := r.buf("qkv without raw", x)
	r.d.QKNorm(none, none, again, wq, wk, eps, N, H, KV, D)
	r.check("qkv", again, y)
	grad, dwq, dwk := r.buf("dqkv", dy), r.buf("dwq", start[0]), r.buf("dwk", start[1])
	r.d.QKNormBackward(grad, dwq, dwk, rawb, rstdb, wq, wk, N, H, KV, D)
	r.check("dqkv", grad, dx)
	r.check("dw", dwq, dw[0])
	r.check("dw", dwk, dw[1])
	frozen := r.buf("dqkv of frozen norms", dy)
	r.d.QKNormBackward(frozen, none, none, rawb, rstdb, wq, wk, N, H, KV, D)
	r.check("dqkv", frozen, dx)
}
