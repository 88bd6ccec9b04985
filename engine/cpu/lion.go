package cpu

import "lpipe/engine/ops"

// Lion makes one step of n values.
func (d *Plain) Lion(p, m, grad ops.Buf, o ops.Lion, n int) {
	if d.err != nil {
		return
	}
	if l := newLion(o); factored(&l.scale, d.opt(o.Factor, 1)) {
		lionPlain(d.f(p, n), d.f(m, n), d.f(grad, n), l)
	}
}

// Lion makes one step of n values.
func (d *Device) Lion(p, m, grad ops.Buf, o ops.Lion, n int) {
	if d.err != nil {
		return
	}
	if l := newLion(o); factored(&l.scale, d.opt(o.Factor, 1)) {
		d.values(flatJob{what: opLion, a: d.f(p, n), b: d.f(m, n), c: d.f(grad, n), lion: l})
	}
}

// lion holds one step's numbers as float32.
type lion struct {
	keep   float32 // 1 - LR·Decay
	lr     float32
	scale  float32 // of the gradient
	b1, b2 float32 // Beta1, Beta2
	c1, c2 float32 // 1-Beta1, 1-Beta2
}

func newLion(o ops.Lion) lion {
	return lion{
		keep: float32(1 - float64(o.LR*o.Decay)), lr: float32(o.LR), scale: float32(o.GradScale),
		b1: float32(o.Beta1), b2: float32(o.Beta2), c1: float32(1 - o.Beta1), c2: float32(1 - o.Beta2),
	}
}

func lionPlain(p, m, grad []float32, l lion) {
	for i, g := range grad {
		g *= l.scale
		u := float32(l.b1*m[i]) + float32(l.c1*g) // rounded apart, so that every machine sees the same sign
		v := float32(p[i] * l.keep)
		switch {
		case u > 0:
			v -= l.lr
		case u < 0:
			v += l.lr
		}
		p[i] = v
		m[i] = float32(l.b2*m[i]) + float32(l.c2*g)
	}
}

// Noise adds amount[n]·u, u uniform in [-1, 1).
func (d *Plain) Noise(x, amount ops.Buf, seed uint64, N, C int) {
	if d.err != nil {
		return
	}
	v := d.f(x, N*C)
	for n, a := range d.f(amount, N) {
		row := v[n*C : (n+1)*C]
		for c := range row {
			u := float32(int32(ops.MaskBits(seed, n*C+c))) * (1.0 / (1 << 31))
			row[c] += float32(a * u)
		}
	}
}
