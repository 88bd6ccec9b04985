package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// HeadLoss computes logits, loss and gradients of the trained tokens; others cost nothing.
func (d *Device) HeadLoss(loss, nll, dx, dw, x ops.Buf, w ops.Weight, targets ops.Ints, scale float32, N, C, V int) {
	if d.err != nil {
		return
	}
	h := &d.head
	*h = headCall{in: d.f(x, N*C), w: d.w(w, V, C), dx: d.opt(dx, N*C), dw: d.opt(dw, V*C), targets: d.i(targets, N), scale: scale, c: C, v: V}
	d.mem.reset()
	d.rows = d.rows[:0]
	for n, t := range h.targets {
		if int(t) >= V {
			panic("cpu: target outside the vocabulary")
		}
		if t >= 0 {
			d.rows = append(d.rows, int32(n))
		}
	}
	each := d.opt(nll, N)
	clear(each)
	clear(h.dx)
	chunk := d.limits.headRows
	if h.dw != nil {
		h.w.rounds = false
		h.packWhole(d)
		d.soft = softmaxJob{vec: d.vec, v: V, targets: h.targets, scale: scale}
		chunk = max(d.limits.logits/max(V, 1), d.limits.headRows/4)
	}
	var total float64
	for r := 0; r < len(d.rows); r += chunk {
		used, rows := d.mem.used, d.rows[r:min(r+chunk, len(d.rows))]
		if h.dw != nil {
			total += h.chunk(d, rows, each)
		} else {
			total += h.stream(d, rows, each)
		}
		d.mem.giveBack(used)
	}
	d.f(loss, 1)[0] += float32(float64(scale) * total)
}

// headCall is one call's arguments, and its weight packed whole where dw is wanted and that is small enough.
type headCall struct {
	in, dx, dw []float32
	w          matrix
	targets    []int32
	scale      float32
	c, v       int
	down, up   []float32 // panels of Wᵀ and of W; nil: packed a block at a time
}

func (h *headCall) packWhole(d *Device) {
	if h.c*h.v > d.limits.packed {
		return
	}
	d.begin()
	h.down = d.packs.add(&d.mem, factor{source: source{h.w, 0, 1, h.c, 1}}, h.c, 0, h.v)
	if h.dx != nil {
		h.up = d.packs.add(&d.mem, factor{source: source{h.w, 0, h.c, 1, 1}}, h.v, 0, h.c)
	}
	d.pool.do(&d.packs, d.packs.tasks())
}

// gather is the tokens' rows of x, and where those of dx go until scatter: where they are if they follow each other.
func (h *headCall) gather(d *Device, rows []int32) (in, dx []float32) {
	n, first := len(rows), int(rows[0])
	if int(rows[n-1])-first == n-1 {
		if h.dx != nil {
			dx = h.dx[first*h.c:]
		}
		return h.in[first*h.c:], dx
	}
	in = d.mem.take(n * h.c)
	for i, r := range rows {
		copy(in[i*h.c:][:h.c], h.in[int(r)*h.c:])
	}
	if h.dx != nil {
		dx = d.mem.take(n * h.c)
	}
	return in, dx
}

func (h *headCall) scatter(dx []float32, rows []int32) {
	if dx == nil || &dx[0] == &h.dx[int(rows[0])*h.c] {
		return
	}
	for i, r := range rows {
		copy(h.dx[int(r)*h.c:][:h.c], dx[i*h.c:])
	}
}

// chunk handles some tokens, all of whose logits exist at once: dw needs them. It returns the sum of their nll.
func (h *headCall) chunk(d *Device, rows []int32, nll []float32) float64 {
	n := len(rows)
	in, dx := h.gather(d, rows)
	logits := d.mem.take(n * h.v)
	h.logits(d, logits, in, n)
	d.soft.logits, d.soft.rows, d.soft.nll = logits, rows, d.mem.take(n)
	d.pool.do(&d.soft, blocks(n, softmaxRows))
	if dx != nil {
		h.inputGradient(d, dx, logits, n)
	}
	h.scatter(dx, rows)
	d.addOuter(h.dw, logits, in, n, h.c, h.v)
	return spread(nll, d.soft.nll, rows)
}

// spread puts the tokens' nll at their places and returns the sum.
func spread(nll, each []float32, rows []int32) (sum float64) {
	for i, v := range each {
		sum += float64(v)
		if nll != nil {
			nll[rows[i]] = v
		}
	}
	return sum
}

// logits sets out [n, V] = in Wᵀ.
func (h *headCall) logits(d *Device, out, in []float32, n int) {
	if h.down == nil && d.isFew(&h.w, n, h.c) {
		d.linearFew(out, in, h.w, nil, n, h.c, h.v)
		return
	}
	if h.down == nil && h.c*h.v >= d.limits.wide {
		h.wideProduct(d, out, h.v, in, h.c, source{h.w, 0, 1, h.c, 1}, n)
		return
	}
	block := max(d.limits.packed/max(h.c, 1)/d.k.nr, 1) * d.k.nr
	if h.down != nil {
		block = h.v
	}
	for v0 := 0; v0 < h.v; v0 += block {
		used, cols := d.mem.used, min(block, h.v-v0)
		d.begin()
		p := d.product(out[v0:], h.v, cols)
		if h.down != nil {
			p.terms = append(p.terms, term{a: view{in, h.c, 1}, k: h.c, packed: h.down, to: cols})
		} else {
			d.weightTerm(p, in, h.c, n, h.c, source{h.w, v0 * h.c, 1, h.c, 1}, 0, cols)
		}
		d.run(n)
		d.mem.giveBack(used)
	}
}

// inputGradient sets dx [n, C] = dlogits W.
func (h *headCall) inputGradient(d *Device, dx, dlogits []float32, n int) {
	if h.up == nil && h.c*h.v >= d.limits.wide {
		h.wideProduct(d, dx, h.c, dlogits, h.v, source{h.w, 0, h.c, 1, 1}, n)
		return
	}
	block := max(d.limits.packed/max(h.c, 1), 1)
	if h.up != nil {
		block = h.v
	}
	for v0 := 0; v0 < h.v; v0 += block {
		used, k := d.mem.used, min(block, h.v-v0)
		d.begin()
		p := d.product(dx, h.c, h.c)
		p.add = v0 > 0
		if h.up != nil {
			p.terms = append(p.terms, term{a: view{dlogits, h.v, 1}, k: k, packed: h.up, to: h.c})
		} else {
			d.weightTerm(p, dlogits[v0:], h.v, n, k, source{h.w, v0 * h.c, h.c, 1, 1}, 0, h.c)
		}
		d.run(n)
		d.mem.giveBack(used)
	}
}

// wideProduct sets out [n, cols] = a·b, a [n, K], over K in parts.
func (h *headCall) wideProduct(d *Device, out []float32, cols int, a []float32, K int, b source, n int) {
	deep := d.wideDepth(n)
	for k0 := 0; k0 < K; k0 += deep {
		used := d.mem.used
		d.begin()
		p := d.product(out, cols, cols)
		p.add = k0 > 0
		from := b
		from.at = b.at + k0*b.rs
		d.wideTerm(p, a[k0:], K, n, min(deep, K-k0), from)
		d.runWide(n)
		d.mem.giveBack(used)
	}
}

// softmaxJob turns rows of logits into scale·(softmax - onehot) in place and sets nll.
type softmaxJob struct {
	vec     vector
	logits  []float32
	nll     []float32
	rows    []int32 // the tokens that the rows are of
	targets []int32 // by token
	v       int
	scale   float32
}

const softmaxRows = 16

func (j *softmaxJob) task(_ *worker, i int) {
	for r := i * softmaxRows; r < min((i+1)*softmaxRows, len(j.rows)); r++ {
		row, target := j.logits[r*j.v:][:j.v], j.targets[j.rows[r]]
		top, right := j.vec.max(row), row[target]
		sum := j.vec.exp(row, row, 1, top)
		j.nll[r] = float32(math.Log(float64(sum)) + float64(top) - float64(right))
		j.vec.scale(row, row, j.scale/sum)
		row[target] -= j.scale
	}
}

// Logits sets logits[i] = x[rows[i]] Wᵀ.
func (d *Device) Logits(logits, x ops.Buf, w ops.Weight, rows ops.Ints, N, C, V int) {
	if d.err != nil {
		return
	}
	h := headCall{w: d.w(w, V, C), c: C, v: V}
	all, list := d.f(x, N*C), d.i(rows, rows.Len)
	d.mem.reset()
	in := d.mem.take(len(list) * C)
	for i, n := range list {
		copy(in[i*C:][:C], all[int(n)*C:(int(n)+1)*C])
	}
	h.logits(d, d.f(logits, len(list)*V), in, len(list))
}
