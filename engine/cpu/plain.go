package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// Plain is the device of loops: slow, and simple enough to be believed. Sums are float64, results are
// rounded once.
type Plain struct{ memory }

var _ ops.Device = (*Plain)(nil)

// NewPlain makes a plain device. It has one thread and nothing to close.
func NewPlain() *Plain { return &Plain{} }

// Info describes the device.
func (d *Plain) Info() ops.Info {
	return ops.Info{Name: "cpu", Detail: "plain loops", Threads: 1, Bytes: d.bytes}
}

// Close frees the memory.
func (d *Plain) Close() error {
	d.freeAll()
	return nil
}

// Embedding sets out[n] = w[ids[n]].
func (d *Plain) Embedding(out ops.Buf, w ops.Weight, ids ops.Ints, N, C int) {
	if d.err != nil {
		return
	}
	to, from := d.f(out, N*C), d.w(w, w.Rows, C)
	for n, id := range d.i(ids, N) {
		if id < 0 || int(id) >= w.Rows {
			panic("cpu: token id outside the vocabulary")
		}
		from.row(to[n*C:(n+1)*C], int(id))
	}
}

// EmbeddingBackward adds dout[n] to dw[ids[n]], for n rising.
func (d *Plain) EmbeddingBackward(dw, dout ops.Buf, ids ops.Ints, N, C int) {
	if d.err != nil {
		return
	}
	to, from := d.f(dw, dw.Len), d.f(dout, N*C)
	for n, id := range d.i(ids, N) {
		row := to[int(id)*C : (int(id)+1)*C]
		for c := range row {
			row[c] += from[n*C+c]
		}
	}
}

// RMSNorm sets rstd[n] = 1/√(Σ x²/C + eps) and out = x·rstd·w.
func (d *Plain) RMSNorm(out, rstd, x, w ops.Buf, eps float32, N, C int) {
	if d.err != nil {
		return
	}
	o, r, v, g := d.f(out, N*C), d.f(rstd, N), d.f(x, N*C), d.f(w, C)
	for n := range N {
		var sum float64
		for c := range C {
			sum += float64(v[n*C+c]) * float64(v[n*C+c])
		}
		r[n] = float32(1 / math.Sqrt(sum/float64(C)+float64(eps)))
		for c := range C {
			o[n*C+c] = v[n*C+c] * r[n] * g[c]
		}
	}
}

// RMSNormBackward adds to dx: rstd·(w·dout) - x·rstd³·dot/C, dot = Σ w·dout·x, and to dw Σ dout·x·rstd.
func (d *Plain) RMSNormBackward(dx, dw, dout, x, w, rstd ops.Buf, N, C int) {
	if d.err != nil {
		return
	}
	gx, gw, gy := d.f(dx, N*C), d.opt(dw, C), d.f(dout, N*C)
	v, g, r := d.f(x, N*C), d.f(w, C), d.f(rstd, N)
	for n := range N {
		var dot float64
		for i := n * C; i < (n+1)*C; i++ {
			dot += float64(g[i-n*C]) * float64(gy[i]) * float64(v[i])
		}
		s := float64(r[n])
		for i := n * C; i < (n+1)*C; i++ {
			gx[i] += float32(s*float64(g[i-n*C])*float64(gy[i]) - float64(v[i])*s*s*s*dot/float64(C))
		}
	}
	for c := range gw {
		var sum float64
		for n := range N {
			sum += float64(gy[n*C+c]) * float64(v[n*C+c]) * float64(r[n])
		}
		gw[c] += float32(sum)
	}
}

// RoPETable sets cos and sin of positions·freq.
func (d *Plain) RoPETable(cos, sin, freq ops.Buf, positions ops.Ints, N, D int) {
	if d.err != nil {
		return
	}
	half := D / 2
	cs, sn, fr := d.f(cos, N*half), d.f(sin, N*half), d.f(freq, half)
	for n, p := range d.i(positions, N) {
		for j, f := range fr {
			angle := float64(float32(p) * f)
			cs[n*half+j], sn[n*half+j] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
}

// RoPE rotates the query and key heads in place.
func (d *Plain) RoPE(qkv, cos, sin ops.Buf, N, H, KV, D int) { d.rotate(qkv, cos, sin, 1, N, H, KV, D) }

// RoPEBackward rotates them back.
func (d *Plain) RoPEBackward(dqkv, cos, sin ops.Buf, N, H, KV, D int) {
	d.rotate(dqkv, cos, sin, -1, N, H, KV, D)
}

func (d *Plain) rotate(qkv, cos, sin ops.Buf, sign float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	half, width := D/2, (H+2*KV)*D
	x, cs, sn := d.f(qkv, N*width), d.f(cos, N*half), d.f(sin, N*half)
	for n := range N {
		for h := range H + KV {
			head := x[n*width+h*D:][:D]
			for j := range half {
				a, b, c, s := head[j], head[j+half], cs[n*half+j], sign*sn[n*half+j]
				head[j], head[j+half] = a*c-b*s, b*c+a*s
			}
		}
	}
}

// SwiGLU sets h = silu(gate)·up.
func (d *Plain) SwiGLU(h, gateUp ops.Buf, N, F int) {
	if d.err != nil {
		return
	}
	o, gu := d.f(h, N*F), d.f(gateUp, 2*N*F)
	for n := range N {
		for f := range F {
			g, u := float64(gu[2*n*F+f]), float64(gu[2*n*F+F+f])
			o[n*F+f] = float32(g / (1 + math.Exp(-g)) * u)
		}
	}
}

// SwiGLUBackward sets dgate = dh·up·s·(1+gate·(1-s)) and dup = dh·gate·s with s = 1/(1+exp(-gate)).
func (d *Plain) SwiGLUBackward(dgateUp, dh, gateUp ops.Buf, N, F int) {
	if d.err != nil {
		return
	}
	dgu, dy, gu := d.f(dgateUp, 2*N*F), d.f(dh, N*F), d.f(gateUp, 2*N*F)
	for n := range N {
		for f := range F {
			g, u, y := float64(gu[2*n*F+f]), float64(gu[2*n*F+F+f]), float64(dy[n*F+f])
			s := 1 / (1 + math.Exp(-g))
			dgu[2*n*F+f], dgu[2*n*F+F+f] = float32(y*u*s*(1+g*(1-s))), float32(y*g*s)
		}
	}
}

// Add sets out = a + b.
func (d *Plain) Add(out, a, b ops.Buf, n int) {
	if d.err != nil {
		return
	}
	o, x, y := d.f(out, n), d.f(a, n), d.f(b, n)
	for i := range o {
		o[i] = x[i] + y[i]
	}
}

// Scale multiplies n values by s.
func (d *Plain) Scale(x ops.Buf, s float32, n int) {
	if d.err != nil {
		return
	}
	v := d.f(x, n)
	for i := range v {
		v[i] *= s
	}
}

// SumSquares adds Σ x² to sum.
func (d *Plain) SumSquares(sum, x ops.Buf, n int) {
	if d.err != nil {
		return
	}
	var s float64
	for _, v := range d.f(x, n) {
		s += float64(v) * float64(v)
	}
	d.f(sum, 1)[0] += float32(s)
}

// ClipFactor sets what gradients are multiplied by.
func (d *Plain) ClipFactor(factor, loss, squares ops.Buf, limit float64) {
	if d.err == nil {
		d.f(factor, 1)[0] = clipFactor(d.f(loss, 1)[0], d.f(squares, 1)[0], limit)
	}
}

// AdamW makes one step of n values.
func (d *Plain) AdamW(p, m, v, grad ops.Buf, o ops.AdamW, n int) {
	if d.err != nil {
		return
	}
	if a := newAdam(o); factored(&a.scale, d.opt(o.Factor, 1)) {
		adamwPlain(d.f(p, n), d.f(m, n), d.f(v, n), d.f(grad, n), a)
	}
}
