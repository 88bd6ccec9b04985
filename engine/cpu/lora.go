package cpu

import (
	"slices"

	"lpipe/engine/ops"
)

// loraJob is the backward pass of a linear with adapters. A task takes a range of tokens through all of it while they are in
// cache: the gradient of xa, then dx, then its share of the adapters' gradients, which reduceJob sums up afterwards
// in the order of tasks.
type loraJob struct {
	k        *kernel
	vec      vector
	dx       *product
	adapters []loraTask
	n, c     int // tokens, width
	high     int // tokens of a task
}

// loraTask is one adapter's part.
type loraTask struct {
	down   product   // dxa = Scale·dy B
	dxa    []float32 // [N, R]
	dy     view      // the adapter's columns of dy
	x, xa  []float32 // [N, C] after dropout, [N, R]
	da, db []float32 // shares by task: [tasks][R, C], [tasks][F, R]; nil: not wanted
	f, r   int
	scale  float32
	up     product // dx += dxa A where dropout keeps it; only with dropout
	drop   float32
	seed   uint64
}

// subRows is how many tokens a task takes through all steps at once: their rows of dy and x fit in level-2 cache.
const subRows = 96

// loraBackward completes the job that LinearBackward began: its product is dx without the adapters.
func (d *Device) loraBackward(dy []float32, x, xa ops.Buf, lora []ops.LoRA, N, C, F int) {
	j := &d.lora
	j.n, j.c, j.high, j.dx = N, C, taskRows(N), &d.products.products[0]
	tasks := blocks(N, j.high)
	j.adapters = j.adapters[:0]
	d.reduce.parts = d.reduce.parts[:0]
	at := 0
	for i := range lora {
		l := &lora[i]
		t := j.next()
		*t = loraTask{
			down: t.down, up: t.up, dxa: d.mem.take(N * l.R), dy: view{dy[l.Col:], F, 1},
			f: l.F, r: l.R, scale: l.Scale, drop: l.Drop, seed: l.Seed,
		}
		if l.DB.Present() {
			t.xa = d.f(xa.Slice(at, at+N*l.R), N*l.R)
			t.db = d.reduce.add(&d.mem, d.f(l.DB, l.F*l.R), tasks)
		}
		if l.DA.Present() {
			t.x = d.dropped(d.f(x, N*C), l)
			t.da = d.reduce.add(&d.mem, d.f(l.DA, l.R*C), tasks)
		}
		d.loraProducts(t, l, j.dx, N, C)
		at += N * l.R
	}
	d.pool.do(&d.packs, d.packs.tasks())
	d.pool.do(j, tasks)
	d.pool.do(&d.reduce, d.reduce.tasks())
}

// next extends the list of adapters, keeping what its memory has.
func (j *loraJob) next() *loraTask {
	if len(j.adapters) < cap(j.adapters) {
		j.adapters = j.adapters[:len(j.adapters)+1]
	} else {
		j.adapters = append(j.adapters, loraTask{})
	}
	return &j.adapters[len(j.adapters)-1]
}

// loraProducts plans dxa and what it adds to dx.
func (d *Device) loraProducts(t *loraTask, l *ops.LoRA, dx *product, N, C int) {
	t.down = product{c: t.dxa, ldc: l.R, cols: l.R, terms: t.down.terms[:0]}
	d.term(&t.down, t.dy, l.F, source{matrix{f: d.f(l.B, l.F*l.R)}, 0, l.R, 1, l.Scale}, 0, l.R)
	if dx.c == nil {
		return
	}
	if l.Drop == 0 {
		d.loraInput(dx, t, l, C)
		return
	}
	t.up = product{ldc: C, cols: C, terms: t.up.terms[:0]}
	d.loraInput(&t.up, t, l, C)
}

// loraInput adds dxa A to a product.
func (d *Device) loraInput(p *product, t *loraTask, l *ops.LoRA, C int) {
	d.term(p, view{t.dxa, l.R, 1}, l.R, source{matrix{f: d.f(l.A, l.R*C)}, 0, C, 1, 1}, 0, C)
}

func dropping(lora []ops.LoRA) bool {
	return slices.ContainsFunc(lora, func(l ops.LoRA) bool { return l.Drop > 0 })
}

// dropped is dropout(x), or x itself without dropout.
func (d *Device) dropped(x []float32, l *ops.LoRA) []float32 {
	if l.Drop == 0 {
		return x
	}
	out := d.mem.take(len(x))
	d.dropout = dropoutJob{out, x, l.Seed, l.Drop}
	d.pool.do(&d.dropout, blocks(len(x), dropoutBlock))
	return out
}

func (j *loraJob) task(w *worker, i int) {
	r0, r1 := i*j.high, min((i+1)*j.high, j.n)
	for from := r0; from < r1; from += subRows {
		to := min(from+subRows, r1)
		for a := range j.adapters {
			t := &j.adapters[a]
			j.k.rows(w, &t.down, from, to, 0, t.r)
		}
		if j.dx.c != nil {
			j.k.rows(w, j.dx, from, to, 0, j.c)
		}
		for a := range j.adapters {
			t := &j.adapters[a]
			j.masked(w, t, from, to)
			j.share(w, t, i, from, to, from > r0)
		}
	}
}

// masked adds dxa A to dx where dropout kept x.
func (j *loraJob) masked(w *worker, t *loraTask, from, to int) {
	if t.drop == 0 || j.dx.c == nil {
		return
	}
	rows := w.buf(scratchRows, (to-from)*j.c)
	up, term := t.up, t.up.terms[0]
	term.a.data = term.a.data[from*t.r:]
	w.terms[0] = term
	up.c, up.terms = rows, w.terms[:1]
	w.product = up
	j.k.rows(w, &w.product, 0, to-from, 0, j.c)
	limit, scale := ops.Threshold(t.drop), 1/(1-t.drop)
	for e, v := range rows {
		if ops.MaskBits(t.seed, from*j.c+e) >= limit {
			j.dx.c[from*j.c+e] += float32(v * scale) // rounded apart, for every machine the same
		}
	}
}

// share sets, or where add is true adds, the part that some tokens have in task i's gradients.
func (j *loraJob) share(w *worker, t *loraTask, i, from, to int, add bool) {
	n := to - from
	if t.db != nil {
		wide := blocks(t.r, j.k.nr) * j.k.nr
		packed := w.buf(scratchRows, n*wide)
		src := source{matrix{f: t.xa}, from * t.r, t.r, 1, t.scale}
		for c := 0; c < t.r; c += j.k.nr {
			j.vec.packPanel(w, packed[c*n:][:n*j.k.nr], &src, j.k.nr, n, c, t.r)
		}
		a := view{t.dy.data[from*t.dy.rs:], 1, t.dy.rs}
		w.terms[0] = term{a: a, k: n, packed: packed, to: t.r}
		w.product = product{c: t.db[i*t.f*t.r:], ldc: t.r, cols: t.r, add: add, terms: w.terms[:1]}
		j.k.rows(w, &w.product, 0, t.f, 0, t.r)
	}
	if t.da != nil {
		w.terms[0] = term{a: view{t.dxa[from*t.r:], 1, t.r}, k: n, b: view{t.x[from*j.c:], j.c, 1}, to: j.c}
		w.product = product{c: t.da[i*t.r*j.c:], ldc: j.c, cols: j.c, add: add, terms: w.terms[:1]}
		j.k.rows(w, &w.product, 0, t.r, 0, j.c)
	}
}

// reduceJob adds shares to their sums, in the order of shares.
type reduceJob struct {
	vec   vector
	parts []reducePart
}

type reducePart struct {
	out, in []float32 // [len(out)], [shares][len(out)]
	shares  int
	first   int // number of the first task
}

const reduceBlock = 4096

// add plans one sum and returns the memory for its shares.
func (j *reduceJob) add(mem *arena, out []float32, shares int) []float32 {
	in := mem.take(len(out) * shares)
	j.parts = append(j.parts, reducePart{out, in, shares, j.tasks()})
	return in
}

func (j *reduceJob) tasks() int {
	if len(j.parts) == 0 {
		return 0
	}
	p := &j.parts[len(j.parts)-1]
	return p.first + blocks(len(p.out), reduceBlock)
}

func (j *reduceJob) task(_ *worker, i int) {
	n := len(j.parts) - 1
	for j.parts[n].first > i {
		n--
	}
	p := &j.parts[n]
	lo := (i - p.first) * reduceBlock
	hi := min(lo+reduceBlock, len(p.out))
	for s := range p.shares {
		from := p.in[s*len(p.out):]
		j.vec.add(p.out[lo:hi], p.out[lo:hi], from[lo:hi])
	}
}
