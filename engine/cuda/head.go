package cuda

import "lpipe/engine/ops"

// HeadLoss computes logits, loss and gradients a chunk of trained tokens at a time; other tokens cost nothing.
func (d *Device) HeadLoss(loss, nll, dx, dw, x ops.Buf, w ops.Weight, targets ops.Ints, scale float32, N, C, V int) {
	if !d.begin("HeadLoss", "NCV", N, C, V) {
		return
	}
	h := headCall{nll: d.opt(nll, N), dx: d.opt(dx, N*C), dw: d.opt(dw, V*C), x: d.f(x, N*C), targets: d.i(targets, N), scale: scale, c: C, v: V}
	d.trainedTokens(d.host(targets, N), V)
	if h.nll != 0 {
		d.set(h.nll, 0, 4*N)
	}
	if h.dx != 0 {
		d.set(h.dx, 0, 4*N*C)
	}
	n := len(d.rows)
	if n == 0 {
		return
	}
	h.rows, h.each = d.scratch.take(4*n), d.scratch.take(4*n)
	if !d.scratch.idle {
		d.fail(d.m.Upload(h.rows, raw(d.rows)))
	}
	h.w = d.weight(w, V, C, 0)
	chunk := min(n, max(int(d.o.LogitBytes)/(4*V), 64))
	h.reserve(d, chunk)
	for at := 0; at < n; at += chunk {
		h.chunk(d, at, min(chunk, n-at))
	}
	if h.nll != 0 {
		d.p().ptrs(h.nll, h.each, h.rows).i64(n).i64(1)
		d.each("scatter", n)
	}
	part, count := d.sumValues("sum_values", h.each, n)
	d.p().ptrs(d.f(loss, 1), part).f64(float64(scale)).ints(count)
	d.launch("sum_parts", [3]int{1, 1, 1}, 32, 0)
}

// trainedTokens lists the tokens with a target in d.rows.
func (d *Device) trainedTokens(targets []int32, V int) {
	d.rows = d.rows[:0]
	for n, t := range targets {
		if int(t) >= V {
			panic("cuda: target outside the vocabulary")
		}
		if t >= 0 {
			d.rows = append(d.rows, int32(n))
		}
	}
}

// headCall is one call's arguments and the scratch of a chunk.
type headCall struct {
	nll, dx, dw, x, targets Pointer
	w                       matrix
	scale                   float32
	c, v                    int

	rows, each Pointer // the trained tokens, and their losses
	in         matrix  // their rows of x
	logits     Pointer
	half       matrix // their gradient in bfloat16 …
	late       matrix // … when dw wants it in float32 first
	part       Pointer
	plain      Pointer // in, as float32, for dw
}

func (h *headCall) reserve(d *Device, chunk int) {
	h.in = matrix{ld: h.c, half: h.w.half}
	if h.w.half {
		h.in.ld = round8(h.c)
		h.in.p = d.scratch.take(2 * chunk * h.in.ld)
	} else {
		h.in.p = d.scratch.take(4 * chunk * h.c)
	}
	h.logits = d.scratch.take(4 * chunk * h.v)
	if h.w.half && h.dx != 0 && h.dw == 0 {
		h.half = matrix{ld: round8(h.v), half: true}
		h.half.p = d.scratch.take(2 * chunk * h.half.ld)
	}
	if h.w.half && h.dx != 0 && h.dw != 0 {
		h.late = matrix{ld: round8(h.v), half: true}
		h.late.p = d.scratch.take(2 * chunk * h.late.ld)
	}
	if h.dx != 0 {
		h.part = d.scratch.take(4 * chunk * h.c)
	}
	if h.dw != 0 {
		h.plain = d.scratch.take(4 * chunk * h.c)
	}
}

// chunk handles n trained tokens from number at on.
func (h *headCall) chunk(d *Device, at, n int) {
	rows := h.rows + Pointer(4*at)
	h.gather(d, rows, n)
	d.multiply(Product{C: h.logits, TransB: true, Alpha: 1, M: n, N: h.v, K: h.c, LDC: h.v}, h.in, h.w)
	d.p().ptrs(h.logits, h.half.p, h.each+Pointer(4*at), rows, h.targets).f32(h.scale).ints(number(h.dx != 0 || h.dw != 0), h.half.ld, h.v)
	d.launch("softmax_loss", [3]int{n, 1, 1}, rowThreads(h.v), reduceShared)
	g := h.half
	if g.p == 0 {
		g = matrix{h.logits, h.v, false}
	}
	if h.dw != 0 {
		in := h.plain
		d.p().ptrs(in, h.x, rows).i64(n).i64(h.c)
		d.each("gather", n*h.c)
		d.multiply(Product{C: h.dw, TransA: true, Alpha: 1, Add: true, M: h.v, N: h.c, K: n, LDC: h.c}, g, matrix{in, h.c, false})
	}
	if h.dx != 0 {
		if h.w.half && !g.half {
			d.p().ptrs(h.late.p, g.p, 0).f32(1).i64(n).ints(h.v, h.v, h.late.ld)
			d.each("to_half", n*h.late.ld/8)
			g = h.late
		}
		d.multiply(Product{C: h.part, Alpha: 1, M: n, N: h.c, K: h.v, LDC: h.c}, g, h.w)
		d.p().ptrs(h.dx, h.part, rows).i64(n).i64(h.c)
		d.each("scatter", n*h.c)
	}
}

// gather sets in to rows of x.
func (h *headCall) gather(d *Device, rows Pointer, n int) {
	if h.w.half {
		d.p().ptrs(h.in.p, h.x, rows).f32(1).i64(n).ints(h.c, h.c, h.in.ld)
		d.each("to_half", n*h.in.ld/8)
		return
	}
	d.p().ptrs(h.in.p, h.x, rows).i64(n).i64(h.c)
	d.each("gather", n*h.c)
}

// Logits sets logits[i] = x[rows[i]] Wᵀ.
func (d *Device) Logits(logits, x ops.Buf, w ops.Weight, rows ops.Ints, N, C, V int) {
	n := rows.Len
	if !d.begin("Logits", "nNCV", n, N, C, V) || n == 0 {
		return
	}
	for _, r := range d.host(rows, n) {
		if r < 0 || int(r) >= N {
			panic("cuda: row outside the batch")
		}
	}
	d.shape(w, V, C)
	out, list := d.f(logits, n*V), d.i(rows, n)
	if n <= fewRows {
		in := d.scratch.take(4 * n * C)
		d.p().ptrs(in, d.f(x, N*C), list).i64(n).i64(C)
		d.each("gather", n*C)
		p, absmax, typ, ld := d.parts(w)
		d.gemv(out, in, p, absmax, 0, 1, false, typ, ld, V, n, C, V)
		return
	}
	h := headCall{x: d.f(x, N*C), w: d.weight(w, V, C, 0), logits: out, c: C, v: V}
	h.in = matrix{d.scratch.take(4 * n * round8(C)), C, h.w.half}
	if h.w.half {
		h.in.ld = round8(C)
	}
	h.gather(d, list, n)
	d.multiply(Product{C: out, TransB: true, Alpha: 1, M: n, N: V, K: C, LDC: V}, h.in, h.w)
}
