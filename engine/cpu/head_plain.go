package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// HeadLoss adds to loss and dw and sets nll and dx, token by token.
func (d *Plain) HeadLoss(loss, nll, dx, dw, x ops.Buf, w ops.Weight, targets ops.Ints, scale float32, N, C, V int) {
	if d.err != nil {
		return
	}
	v, stored := d.f(x, N*C), d.w(w, V, C)
	each, gx, gw := d.opt(nll, N), d.opt(dx, N*C), d.opt(dw, V*C)
	m, in := stored.all(V), v
	if gw == nil {
		in = stored.operand(v)
	}
	clear(each)
	clear(gx)
	logits := make([]float64, V)
	var total float64
	for n, target := range d.i(targets, N) {
		if target < 0 {
			continue
		}
		if int(target) >= V {
			panic("cpu: target outside the vocabulary")
		}
		row := v[n*C : (n+1)*C]
		times(logits, m, in[n*C:(n+1)*C])
		z := logSumExp(logits)
		total += z - logits[target]
		if each != nil {
			each[n] = float32(z - logits[target])
		}
		for i := range logits {
			logits[i] = math.Exp(logits[i] - z)
		}
		logits[target]--
		for c := range C {
			if gx != nil {
				var sum float64
				for i, g := range logits {
					sum += g * float64(m[i*C+c])
				}
				gx[n*C+c] = scale * float32(sum)
			}
			for i := 0; i < V && gw != nil; i++ {
				gw[i*C+c] += scale * float32(logits[i]*float64(row[c]))
			}
		}
	}
	d.f(loss, 1)[0] += float32(float64(scale) * total)
}

// Logits sets logits[i] = x[rows[i]] Wᵀ.
func (d *Plain) Logits(logits, x ops.Buf, w ops.Weight, rows ops.Ints, N, C, V int) {
	if d.err != nil {
		return
	}
	stored, out := d.w(w, V, C), d.f(logits, rows.Len*V)
	v, m := stored.operand(d.f(x, N*C)), stored.all(V)
	line := make([]float64, V)
	for i, n := range d.i(rows, rows.Len) {
		times(line, m, v[int(n)*C:(int(n)+1)*C])
		for j, s := range line {
			out[i*V+j] = float32(s)
		}
	}
}

// times sets out = m x.
func times(out []float64, m, x []float32) {
	for i := range out {
		out[i] = dot64(x, m[i*len(x):])
	}
}
