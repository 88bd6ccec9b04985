package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// qkNormJob is QKNorm and its backward half over a range of tokens a task.
type qkNormJob struct {
	vec             vector
	qkv, raw, rstd  []float32 // qkv is dqkv on the way back; raw and rstd may be nil on the way forth
	w               [2][]float32
	share           [2][]float32 // of dw, by task; nil unless wanted
	eps             float32
	back            bool
	n, h, kv, d     int
	high            int
	width, narrowed int // values of a token in qkv, in raw
}

// QKNorm normalises the query and key heads in place.
func (d *Device) QKNorm(raw, rstd, qkv, wq, wk ops.Buf, eps float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	j := d.qkNormJob(qkv, wq, wk, N, H, KV, D)
	j.eps, j.raw, j.rstd = eps, d.opt(raw, N*(H+KV)*D), d.opt(rstd, N*(H+KV))
	d.qkNorm = j
	d.pool.do(&d.qkNorm, blocks(N, j.high))
}

// QKNormBackward takes a gradient back through it, in place.
func (d *Device) QKNormBackward(dqkv, dwq, dwk, raw, rstd, wq, wk ops.Buf, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	d.mem.reset()
	j := d.qkNormJob(dqkv, wq, wk, N, H, KV, D)
	j.back, j.raw, j.rstd = true, d.f(raw, N*(H+KV)*D), d.f(rstd, N*(H+KV))
	tasks := blocks(N, j.high)
	d.reduce.parts = d.reduce.parts[:0]
	for i, dw := range [2]ops.Buf{dwq, dwk} {
		if dw.Present() {
			j.share[i] = d.reduce.add(&d.mem, d.f(dw, D), tasks)
		}
	}
	d.qkNorm = j
	d.pool.do(&d.qkNorm, tasks)
	d.pool.do(&d.reduce, d.reduce.tasks())
}

func (d *Device) qkNormJob(qkv, wq, wk ops.Buf, N, H, KV, D int) qkNormJob {
	width := (H + 2*KV) * D
	return qkNormJob{vec: d.vec, qkv: d.f(qkv, N*width), w: [2][]float32{d.f(wq, D), d.f(wk, D)},
		n: N, h: H, kv: KV, d: D, high: taskRows(N), width: width, narrowed: (H + KV) * D}
}

func (j *qkNormJob) task(w *worker, i int) {
	var share [2][]float32
	for k, all := range j.share {
		if all != nil {
			share[k] = all[i*j.d:][:j.d]
			clear(share[k])
		}
	}
	for n := i * j.high; n < min((i+1)*j.high, j.n); n++ {
		for h := range j.h + j.kv {
			kind := 0 // a query head
			if h >= j.h {
				kind = 1
			}
			head := j.qkv[n*j.width+h*j.d:][:j.d]
			if j.back {
				j.backward(w, head, n*(j.h+j.kv)+h, j.w[kind], share[kind])
			} else {
				j.forward(head, n*(j.h+j.kv)+h, j.w[kind])
			}
		}
	}
}

// forward normalises head number `at` of the batch.
func (j *qkNormJob) forward(head []float32, at int, weight []float32) {
	r := float32(1 / math.Sqrt(float64(j.vec.sumSquares(head))/float64(j.d)+float64(j.eps)))
	if j.raw != nil {
		copy(j.raw[at*j.d:][:j.d], head)
	}
	if j.rstd != nil {
		j.rstd[at] = r
	}
	j.vec.norm(head, head, weight, r)
}

func (j *qkNormJob) backward(w *worker, head []float32, at int, weight, share []float32) {
	dy := w.buf(scratchHead0, j.d)
	copy(dy, head)
	clear(head)
	x, r := j.raw[at*j.d:][:j.d], j.rstd[at]
	j.vec.normBack(head, dy, weight, x, r, r*r*r*j.vec.dot3(weight, dy, x)/float32(j.d))
	if share != nil {
		j.vec.mulAdd(share, dy, x, r)
	}
}

// QKNorm normalises the query and key heads in place.
func (d *Plain) QKNorm(raw, rstd, qkv, wq, wk ops.Buf, eps float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	kept, roots := d.opt(raw, N*(H+KV)*D), d.opt(rstd, N*(H+KV))
	eachHead(d.f(qkv, N*(H+2*KV)*D), d.f(wq, D), d.f(wk, D), N, H, KV, D, func(at int, head, w []float32, _ bool) {
		var sum float64
		for _, v := range head {
			sum += float64(v) * float64(v)
		}
		r := float32(1 / math.Sqrt(sum/float64(D)+float64(eps)))
		if kept != nil {
			copy(kept[at*D:], head)
		}
		if roots != nil {
			roots[at] = r
		}
		for i := range head {
			head[i] *= r * w[i]
		}
	})
}

// QKNormBackward takes a gradient back through it, in place.
func (d *Plain) QKNormBackward(dqkv, dwq, dwk, raw, rstd, wq, wk ops.Buf, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	kept, roots := d.f(raw, N*(H+KV)*D), d.f(rstd, N*(H+KV))
	gq, gk := make([]float64, D), make([]float64, D)
	eachHead(d.f(dqkv, N*(H+2*KV)*D), d.f(wq, D), d.f(wk, D), N, H, KV, D, func(at int, head, w []float32, key bool) {
		x, r, g := kept[at*D:][:D], float64(roots[at]), gq
		if key {
			g = gk
		}
		var dot float64
		for i, dy := range head {
			dot += float64(w[i]) * float64(dy) * float64(x[i])
			g[i] += float64(dy) * float64(x[i]) * r
		}
		for i, dy := range head {
			head[i] = float32(r*float64(w[i])*float64(dy) - float64(x[i])*r*r*r*dot/float64(D))
		}
	})
	for _, sum := range []struct {
		to   ops.Buf
		from []float64
	}{{dwq, gq}, {dwk, gk}} {
		for i, v := range d.opt(sum.to, D) {
			d.f(sum.to, D)[i] = v + float32(sum.from[i])
		}
	}
}

// eachHead visits the query and key heads of all tokens, numbered as rstd has them.
func eachHead(qkv, wq, wk []float32, N, H, KV, D int, visit func(at int, head, w []float32, key bool)) {
	for n := range N {
		for h := range H + KV {
			w := wq
			if h >= H {
				w = wk
			}
			visit(n*(H+KV)+h, qkv[(n*(H+2*KV)+h)*D:][:D], w, h >= H)
		}
	}
}

// ScaleRows multiplies x[n] by s[n].
func (d *Plain) ScaleRows(x, s ops.Buf, N, C int) {
	if d.err != nil {
		return
	}
	v := d.f(x, N*C)
	for n, by := range d.f(s, N) {
		for c := range C {
			v[n*C+c] *= by
		}
	}
}
