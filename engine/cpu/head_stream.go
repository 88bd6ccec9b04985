package cpu

import "math"

// The head of a frozen vocabulary, some columns of logits at a time: their part of the softmax is taken while they are in cache, against
// the largest logit so far, and what it gives to dx is added at once. When a later block has a larger one, what was added before
// shrinks by the ratio (Milakov and Gimelshein 2018, arXiv 1805.02867, here with the product behind it as in arXiv 2205.14135).
// The token's own target is left out of that sum and follows at the end, as (softmax - 1)·W[target]: where the model is sure, the two would
// cancel, and in bfloat16 little would be left.

// streamJob takes a block of logits, rows of tokens a task.
type streamJob struct {
	vec             vector
	head            *headCall
	rows            []int32   // tokens
	dx              []float32 // [tokens, C], or nil
	top, sum, right []float32 // of each token: the largest logit so far, Σ exp(logit - top), the target's logit
	logits          []float32 // [tokens, cols]; becomes exp(logit - top) in form
	form            form
	from, cols      int  // the block's part of the vocabulary
	last            bool // there are no logits: complete dx, and set right to nll
}

const blockStep = 32 // of columns: whole panels of every kernel

// stream handles some tokens and returns the sum of their nll.
func (h *headCall) stream(d *Device, rows []int32, nll []float32) float64 {
	n := len(rows)
	in, dx := h.gather(d, rows)
	j := &d.stream
	*j = streamJob{vec: d.vec, head: h, rows: rows, dx: dx, top: d.mem.take(n), sum: d.mem.take(n), right: d.mem.take(n)}
	block := min((d.limits.logits/n/blockStep|1)*blockStep, h.v) // an odd number of steps: rows a power of two apart share cache sets
	down, up := d.rounded(in, h.c, n, h.c, source{h.w, 0, 1, h.c, 1}), term{}
	logits := d.mem.take(n * block)
	j.form = down.form
	for j.from = 0; j.from < h.v; j.from += block {
		used := d.mem.used
		j.cols = min(block, h.v-j.from)
		j.logits = logits[:n*j.cols]
		d.begin()
		p := d.product(j.logits, j.cols, j.cols)
		down.src.at, down.wide, down.to = j.from*h.c, true, j.cols
		p.terms = append(p.terms, down)
		d.runWide(n)
		d.pool.do(j, blocks(n, softmaxRows))
		if dx != nil {
			up = term{a: view{j.logits, j.cols, 1}, k: j.cols, form: j.form, wide: true, to: h.c}
			if j.form == pairs {
				up.k = blocks(j.cols, 2)
			}
			up.src = factor{source{h.w, j.from * h.c, h.c, 1, 1}, j.form, j.cols}
			d.begin()
			p := d.product(dx, h.c, h.c)
			p.add = j.from > 0
			p.terms = append(p.terms, up)
			d.runWide(n)
		}
		d.mem.giveBack(used)
	}
	j.last = true
	d.pool.do(j, blocks(n, softmaxRows))
	h.scatter(dx, rows)
	return spread(nll, j.right, rows)
}

func (j *streamJob) task(w *worker, i int) {
	for r := i * softmaxRows; r < min((i+1)*softmaxRows, len(j.rows)); r++ {
		var dx []float32
		if j.dx != nil {
			dx = j.dx[r*j.head.c:][:j.head.c]
		}
		target := int(j.head.targets[j.rows[r]])
		if j.last {
			j.finish(w, r, target, dx)
		} else {
			j.block(r, target-j.from, dx)
		}
	}
}

// block takes one token's part of a block; target counts from its first column.
func (j *streamJob) block(r, target int, dx []float32) {
	row := j.logits[r*j.cols:][:j.cols]
	top := j.vec.max(row)
	switch {
	case j.from == 0:
		j.top[r], j.sum[r] = top, 0
	case top > j.top[r]:
		shrink := float32(math.Exp(float64(j.top[r] - top)))
		j.sum[r] *= shrink
		j.vec.scale(dx, dx, shrink)
		j.top[r] = top
	}
	if target >= 0 && target < j.cols {
		j.right[r] = row[target]
	}
	j.sum[r] += j.vec.exp(row, row, 1, j.top[r])
	if dx == nil {
		return
	}
	if target >= 0 && target < j.cols {
		row[target] = 0
	}
	if j.form == pairs {
		j.vec.round(row[:blocks(j.cols, 2)], row, pairs)
	} else if j.form == swapped {
		j.vec.round(row, row, swapped)
	}
}

// finish sets nll and dx = scale·(Σ softmax·W + (softmax[target] - 1)·W[target]).
func (j *streamJob) finish(w *worker, r, target int, dx []float32) {
	sum, below := float64(j.sum[r]), float64(j.top[r])-float64(j.right[r])
	j.right[r] = float32(math.Log(sum) + below)
	if dx == nil {
		return
	}
	h := j.head
	j.vec.scale(dx, dx, h.scale/j.sum[r])
	row := w.buf(scratchRows, h.c)
	h.w.row(row, target)
	factor := h.scale * float32(math.Exp(-below)/sum-1)
	for i, v := range row {
		dx[i] += float32(factor * v) // rounded apart, for every machine the same
	}
}
