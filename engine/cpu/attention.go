package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// attentionJob is attention, forward or backward. Tokens are cut where a token sees nothing before itself; a task is a range
// of query tokens of such a segment (backward: the whole segment) and one key head with its query heads, so that no two
// tasks write the same values. Scores exist for a few query rows at a time.
type attentionJob struct {
	k               *kernel
	vec             vector
	out, lse, qkv   []float32
	dqkv, dout      []float32 // backward only
	starts          []int32
	scale           float32
	h, kv, d, width int
	spans           []span
}

// span is the query tokens [from, to) of the segment that begins at first.
type span struct{ first, from, to int }

// querySpan is the most query tokens of one forward task.
const querySpan = 256

// shortSpan: segments shorter than this share a task.
const shortSpan = 64

// Attention sets out and lse: causal within each token's document.
func (d *Device) Attention(out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width := (H + 2*KV) * D
	d.attention = attentionJob{k: d.k, vec: d.vec, out: d.f(out, N*H*D), lse: d.f(lse, N*H), qkv: d.f(qkv, N*width),
		starts: d.i(starts, N), scale: scale, h: H, kv: KV, d: D, width: width, spans: d.attention.spans[:0]}
	d.attention.cut(querySpan)
	d.pool.do(&d.attention, len(d.attention.spans)*KV)
}

// AttentionBackward sets dqkv.
func (d *Device) AttentionBackward(dqkv, dout, out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width := (H + 2*KV) * D
	d.attention = attentionJob{k: d.k, vec: d.vec, out: d.f(out, N*H*D), lse: d.f(lse, N*H), qkv: d.f(qkv, N*width),
		dqkv: d.f(dqkv, N*width), dout: d.f(dout, N*H*D),
		starts: d.i(starts, N), scale: scale, h: H, kv: KV, d: D, width: width, spans: d.attention.spans[:0]}
	d.attention.cut(N)
	d.pool.do(&d.attention, len(d.attention.spans)*KV)
}

// cut makes the spans, of at most so many tokens each unless short segments share one.
func (j *attentionJob) cut(most int) {
	n := len(j.starts)
	for first := 0; first < n; {
		end := first + 1
		for end < n && (int(j.starts[end]) < end || end-first < shortSpan) {
			end++
		}
		for from := first; from < end; from += most {
			j.spans = append(j.spans, span{first, from, min(from+most, end)})
		}
		first = end
	}
}

func (j *attentionJob) task(w *worker, i int) {
	s, head := j.spans[i/j.kv], i%j.kv
	if j.dqkv != nil {
		j.clearKeys(s, head)
	}
	for from := s.from; from < s.to; {
		end := from + 1 // the part of the span that is one segment
		for end < s.to && int(j.starts[end]) < end {
			end++
		}
		j.segment(w, from, end, head)
		from = end
	}
}

// clearKeys zeroes the gradients of a span's keys and values, to which query rows will add.
func (j *attentionJob) clearKeys(s span, head int) {
	for n := s.from; n < s.to; n++ {
		row := j.dqkv[n*j.width:][:j.width]
		clear(row[(j.h+head)*j.d:][:j.d])
		clear(row[(j.h+j.kv+head)*j.d:][:j.d])
	}
}

// segment handles the query tokens [from, to), which see tokens from starts[from] on.
func (j *attentionJob) segment(w *worker, from, to, head int) {
	first := int(j.starts[from])
	key := view{j.qkv[first*j.width+(j.h+head)*j.d:], j.width, 1}
	value := view{j.qkv[first*j.width+(j.h+j.kv+head)*j.d:], j.width, 1}
	keys := j.columns(w, scratchHead2, key, to-first)
	var values []float32
	if j.dqkv != nil {
		values = j.columns(w, scratchHead3, value, to-first)
	}
	rows := min(48, max(12, 1<<14/(to-first)/12*12))
	for q := from; q < to; q += rows {
		b := block{q: q, rows: min(rows, to-q), first: first, key: key, value: value, keys: keys, values: values}
		b.cols = b.q + b.rows - first
		for h := head * (j.h / j.kv); h < (head+1)*(j.h/j.kv); h++ {
			if j.dqkv == nil {
				j.forward(w, &b, h)
			} else {
				j.backward(w, &b, h, head)
			}
		}
	}
}

// columns is n rows of m as panels of columns: the B of a product with mᵀ.
func (j *attentionJob) columns(w *worker, scratch int, m view, n int) []float32 {
	nr := j.k.nr
	out := w.buf(scratch, blocks(n, nr)*nr*j.d)
	src := source{matrix{f: m.data}, 0, 1, m.rs, 1}
	for c := 0; c < n; c += nr {
		j.vec.packPanel(w, out[c*j.d:][:nr*j.d], &src, nr, j.d, c, n)
	}
	return out
}

// block is a few query rows and the keys they may see: tokens first … first+cols-1.
type block struct {
	q, rows, first, cols int
	key, value           view      // rows from first on
	keys, values         []float32 // their columns, packed
}

// forward computes one head of a block.
func (j *attentionJob) forward(w *worker, b *block, h int) {
	p := w.buf(scratchHead0, b.rows*b.cols)
	j.scores(w, p, b, view{j.qkv[b.q*j.width+h*j.d:], j.width, 1}, b.keys)
	var sums [48]float32
	for r := range b.rows {
		n := b.q + r
		row := p[r*b.cols:][:b.cols]
		lo, hi := int(j.starts[n])-b.first, n+1-b.first
		top := float32(j.vec.max(row[lo:hi]) * j.scale) // rounded by itself: no machine makes one step of it and the sum below
		sums[r] = j.vec.exp(row[lo:hi], row[lo:hi], j.scale, top)
		clear(row[:lo])
		clear(row[hi:])
		j.lse[n*j.h+h] = top + float32(math.Log(float64(sums[r])))
	}
	out := j.out[(b.q*j.h+h)*j.d:]
	j.product(w, out, j.h*j.d, view{p, b.cols, 1}, b.rows, b.cols, b.value, false)
	for r := range b.rows {
		row := out[r*j.h*j.d:][:j.d]
		j.vec.scale(row, row, 1/sums[r])
	}
}

// backward computes one head of a block: the probabilities again, their gradients, and from both dq, dk, dv.
func (j *attentionJob) backward(w *worker, b *block, h, head int) {
	p, ds := w.buf(scratchHead0, b.rows*b.cols), w.buf(scratchHead1, b.rows*b.cols)
	query := view{j.qkv[b.q*j.width+h*j.d:], j.width, 1}
	dout := view{j.dout[(b.q*j.h+h)*j.d:], j.h * j.d, 1}
	j.scores(w, p, b, query, b.keys)
	j.scores(w, ds, b, dout, b.values)
	for r := range b.rows {
		n := b.q + r
		row, grad := p[r*b.cols:][:b.cols], ds[r*b.cols:][:b.cols]
		lo, hi := int(j.starts[n])-b.first, n+1-b.first
		at := (n*j.h + h) * j.d
		delta := j.vec.dot(j.dout[at:][:j.d], j.out[at:][:j.d])
		j.vec.exp(row[lo:hi], row[lo:hi], j.scale, j.lse[n*j.h+h])
		j.vec.softBack(grad[lo:hi], row[lo:hi], grad[lo:hi], delta, j.scale)
		clear(row[:lo])
		clear(row[hi:])
		clear(grad[:lo])
		clear(grad[hi:])
	}
	dkey := j.dqkv[b.first*j.width+(j.h+head)*j.d:]
	dvalue := j.dqkv[b.first*j.width+(j.h+j.kv+head)*j.d:]
	j.product(w, j.dqkv[b.q*j.width+h*j.d:], j.width, view{ds, b.cols, 1}, b.rows, b.cols, b.key, false)
	j.product(w, dkey, j.width, view{ds, 1, b.cols}, b.cols, b.rows, query, true)
	j.product(w, dvalue, j.width, view{p, 1, b.cols}, b.cols, b.rows, dout, true)
}

// scores sets out [rows, cols] = a · columnsᵀ over a head's width.
func (j *attentionJob) scores(w *worker, out []float32, b *block, a view, columns []float32) {
	w.terms[0] = term{a: a, k: j.d, packed: columns, to: b.cols}
	w.product = product{c: out, ldc: b.cols, cols: b.cols, terms: w.terms[:1]}
	j.k.rows(w, &w.product, 0, b.rows, 0, b.cols)
}

// product sets or adds out [rows, D] = a [rows, k] · b [k, D].
func (j *attentionJob) product(w *worker, out []float32, ldc int, a view, rows, k int, b view, add bool) {
	w.terms[0] = term{a: a, k: k, b: b, to: j.d}
	w.product = product{c: out, ldc: ldc, cols: j.d, add: add, terms: w.terms[:1]}
	j.k.rows(w, &w.product, 0, rows, 0, j.d)
}
