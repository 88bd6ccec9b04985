package cuda

import (
	"math"
	"slices"

	"lpipe/engine/ops"
)

// Embedding sets out[n] = w[ids[n]].
func (d *Device) Embedding(out ops.Buf, w ops.Weight, ids ops.Ints, N, C int) {
	if !d.begin("Embedding", "NC", N, C) {
		return
	}
	d.shape(w, w.Rows, C)
	for _, id := range d.host(ids, N) {
		if id < 0 || int(id) >= w.Rows {
			panic("cuda: token id outside the vocabulary")
		}
	}
	p, absmax, typ, ld := d.parts(w)
	d.p().ptrs(d.f(out, N*C), p, absmax, d.i(ids, N)).ints(typ, ld).i64(N).i64(C)
	d.each("embedding", N*C)
}

// EmbeddingBackward adds dout[n] to dw[ids[n]], for n rising.
func (d *Device) EmbeddingBackward(dw, dout ops.Buf, ids ops.Ints, N, C int) {
	if !d.begin("EmbeddingBackward", "NC", N, C) {
		return
	}
	d.p().ptrs(d.f(dw, dw.Len), d.f(dout, N*C), d.i(ids, N)).i64(N).i64(C)
	d.each("embedding_backward", C)
}

// DoRAGain sets norms and gain of the rows of w with their adapters.
func (d *Device) DoRAGain(gain, norms ops.Buf, w ops.Weight, lora []ops.LoRA, C, F int) {
	if !d.begin("DoRAGain", "CF", C, F) {
		return
	}
	d.shape(w, F, C)
	g, s := d.f(gain, F), d.f(norms, F)
	for _, p := range []Pointer{g, s} {
		d.p().ptr(p).f32(1).i64(F)
		d.each("fill", F)
	}
	p, absmax, typ, ld := d.parts(w)
	for i := range lora {
		l := &lora[i]
		if !l.M.Present() {
			continue
		}
		d.p().ptrs(g, s, p, absmax, d.f(l.A, l.R*C), d.f(l.B, l.F*l.R), d.f(l.M, l.F)).f32(l.Scale).ints(typ, ld, l.Col, l.R, C)
		d.launch("dora_gain", [3]int{l.F, 1, 1}, rowThreads(C), reduceShared+64)
	}
}

// DoRA sets y = gain·z + bias.
func (d *Device) DoRA(y, z, gain, bias ops.Buf, N, F int) {
	if !d.begin("DoRA", "NF", N, F) {
		return
	}
	d.p().ptrs(d.f(y, N*F), d.f(z, N*F), d.f(gain, F), d.opt(bias, F)).i64(N).i64(F)
	d.each("dora", N*F)
}

// DoRABackward sets dz = gain·dy and adds to the gradients of the magnitudes.
func (d *Device) DoRABackward(dz, dy, z, gain, norms ops.Buf, lora []ops.LoRA, N, F int) {
	if !d.begin("DoRABackward", "NF", N, F) {
		return
	}
	g, s := d.f(dy, N*F), d.f(norms, F)
	part, count := d.columns(g, d.f(z, N*F), 0, N, F)
	for i := range lora {
		l := &lora[i]
		if l.DM.Present() {
			d.p().ptrs(d.f(l.DM, l.F), part, s).ints(l.Col, l.F, count, F)
			d.each("column_sums", l.F)
		}
	}
	d.p().ptrs(d.f(dz, N*F), g, d.f(gain, F), 0).i64(N).i64(F)
	d.each("dora", N*F)
}

// SwiGLU sets h = silu(gate)·up.
func (d *Device) SwiGLU(h, gateUp ops.Buf, N, F int) {
	if !d.begin("SwiGLU", "NF", N, F) {
		return
	}
	float, half, ld := d.output(h, N, F)
	d.p().ptrs(float, half, d.f(gateUp, 2*N*F)).i64(N).ints(F, ld)
	d.each("swiglu", N*round8(F))
}

// SwiGLUBackward sets dgateUp.
func (d *Device) SwiGLUBackward(dgateUp, dh, gateUp ops.Buf, N, F int) {
	if !d.begin("SwiGLUBackward", "NF", N, F) {
		return
	}
	float, half, ld := d.output(dgateUp, N, 2*F)
	d.p().ptrs(float, half, d.f(dh, N*F), d.f(gateUp, 2*N*F)).i64(N).ints(F, ld)
	d.each("swiglu_backward", N*F)
}

// Add sets out = a + b.
func (d *Device) Add(out, a, b ops.Buf, n int) {
	if !d.begin("Add", "n", n) {
		return
	}
	d.p().ptrs(d.changes(out, n), d.f(a, n), d.f(b, n)).i64(n)
	d.each("add", n)
}

// Scale multiplies n values by s.
func (d *Device) Scale(x ops.Buf, s float32, n int) {
	if !d.begin("Scale", "n", n) {
		return
	}
	d.p().ptr(d.changes(x, n)).f32(s).i64(n)
	d.each("scale", n)
}

// ScaleRows multiplies x[n] by s[n].
func (d *Device) ScaleRows(x, s ops.Buf, N, C int) {
	if !d.begin("ScaleRows", "NC", N, C) {
		return
	}
	d.p().ptrs(d.f(x, N*C), d.f(s, N)).i64(N).i64(C)
	d.each("scale_rows", N*C)
}

// PairWeights sets how much a loss of preferences grows with that of each token.
func (d *Device) PairWeights(weight, nll, reference ops.Buf, ends ops.Ints, beta float64, pairs, N, K int) {
	if !d.begin("PairWeights", "NP", N, K) {
		return
	}
	if e := d.host(ends, 2*K); !slices.IsSorted(e) || K > 0 && (e[0] < 0 || int(e[2*K-1]) > N) {
		panic("cuda: pairs outside the batch")
	}
	d.p().ptrs(d.f(weight, N), d.f(nll, N), d.f(reference, N), d.i(ends, 2*K)).f64(beta).f64(float64(pairs)).ints(N, K)
	d.launch("pair_weights", [3]int{K + 1, 1, 1}, eachThreads, reduceShared)
}

// SumSquares adds Σ x² of n values to sum.
func (d *Device) SumSquares(sum, x ops.Buf, n int) {
	if !d.begin("SumSquares", "n", n) || n == 0 {
		return
	}
	part, count := d.sumValues("sum_squares", d.f(x, n), n)
	d.p().ptrs(d.f(sum, 1), part).f64(1).ints(count)
	d.launch("sum_parts", [3]int{1, 1, 1}, 32, 0)
}

// sumValues makes shares of a sum in float64.
func (d *Device) sumValues(kernel string, x Pointer, n int) (part Pointer, count int) {
	const most = 512
	count = min(blocks(n, 4*eachThreads), most)
	part = d.scratch.take(8 * count)
	d.p().ptrs(part, x).i64(n)
	d.launch(kernel, [3]int{count, 1, 1}, eachThreads, reduceShared)
	return part, count
}

// ClipFactor sets what gradients are multiplied by: NaN where a step must change nothing.
func (d *Device) ClipFactor(factor, loss, squares ops.Buf, limit float64) {
	if d.begin("ClipFactor", "") {
		d.p().ptrs(d.f(factor, 1), d.f(loss, 1), d.f(squares, 1)).f64(limit)
		d.launch("clip_factor", [3]int{1, 1, 1}, 32, 0)
	}
}

// AdamW makes one step of n values. Bias corrections are worked out in float64, as torch does.
func (d *Device) AdamW(p, m, v, grad ops.Buf, o ops.AdamW, n int) {
	if !d.begin("AdamW", "n", n) {
		return
	}
	t := float64(o.Step)
	d.p().ptrs(d.changes(p, n), d.changes(m, n), d.changes(v, n), d.f(grad, n), d.opt(o.Factor, 1))
	d.params.f32(float32(1-o.LR*o.Decay), float32(o.GradScale), float32(1-o.Beta1), float32(1-o.Beta2), float32(o.Beta2),
		float32(o.LR/(1-math.Pow(o.Beta1, t))), float32(math.Sqrt(1-math.Pow(o.Beta2, t))), float32(o.Eps)).i64(n)
	d.each("adamw", n)
}

// Lion makes one step of n values.
func (d *Device) Lion(p, m, grad ops.Buf, o ops.Lion, n int) {
	if !d.begin("Lion", "n", n) {
		return
	}
	d.p().ptrs(d.changes(p, n), d.changes(m, n), d.f(grad, n), d.opt(o.Factor, 1))
	d.params.f32(float32(1-o.LR*o.Decay), float32(o.LR), float32(o.GradScale), float32(o.Beta1), float32(o.Beta2),
		float32(1-o.Beta1), float32(1-o.Beta2)).i64(n)
	d.each("lion", n)
}

// Noise adds amount[n]·u, u uniform in [-1, 1).
func (d *Device) Noise(x, amount ops.Buf, seed uint64, N, C int) {
	if !d.begin("Noise", "NC", N, C) {
		return
	}
	d.p().ptrs(d.f(x, N*C), d.f(amount, N)).u64(seed).i64(N).i64(C)
	d.each("noise", N*C)
}

// RandomWeight draws a weight on the device: uniform, of that deviation. It is for models that are only timed.
func (d *Device) RandomWeight(w ops.Weight, seed uint64, deviation float64) {
	if !d.begin("RandomWeight", "FC", w.Rows, w.Cols) {
		return
	}
	d.shape(w, w.Rows, w.Cols)
	p, absmax, typ, ld := d.parts(w)
	width := float32(deviation * math.Sqrt(3))
	d.p().ptrs(p, absmax).u64(seed).f32(width).ints(typ).i64(w.Rows).ints(w.Cols, ld)
	d.each("random_weight", w.Rows*w.Cols)
}
