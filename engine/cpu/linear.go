package cpu

import "lpipe/engine/ops"

// Linear sets y = x Wᵀ + bias, adapters added in the same pass over y.
func (d *Device) Linear(y, xa, x ops.Buf, w ops.Weight, bias ops.Buf, lora []ops.LoRA, N, C, F int) {
	if d.err != nil {
		return
	}
	l := linearCall{d.f(y, N*F), d.f(x, N*C), d.opt(bias, F), d.w(w, F, C), xa, lora, N, C, F}
	d.mem.reset()
	d.begin()
	d.loraDown(&l)
	block := max(d.limits.packed/max(C, 1)/d.k.nr, 1) * d.k.nr
	switch {
	case d.isFew(&l.w, N, C):
		d.run(N)
		d.linearFew(l.y, l.x, l.w, l.bias, N, C, F)
		if len(lora) > 0 {
			d.begin()
			d.linearColumns(&l, 0, F, false)
			d.run(N)
		}
	case F*C >= d.limits.wide:
		d.run(N)
		deep := d.wideDepth(N)
		for k0 := 0; k0 < C; k0 += deep {
			used := d.mem.used
			d.linearWide(&l, k0, min(k0+deep, C))
			d.mem.giveBack(used)
		}
	case F <= block && blocks(N, taskRows(N)) >= wantedTasks/2:
		d.linearColumns(&l, 0, F, true) // a task makes its rows of xa and then of y
		d.run(N)
	default:
		d.run(N)
		for f0 := 0; f0 < F; f0 += block {
			used := d.mem.used
			d.begin()
			d.linearColumns(&l, f0, min(f0+block, F), true)
			d.run(N)
			d.mem.giveBack(used)
		}
	}
}

// linearCall is one call's arguments.
type linearCall struct {
	y, x, bias []float32
	w          matrix
	xa         ops.Buf
	lora       []ops.LoRA
	n, c, f    int
}

// loraDown plans xa = dropout(x) Aᵀ of every adapter.
func (d *Device) loraDown(l *linearCall) {
	at := 0
	for i := range l.lora {
		a := &l.lora[i]
		p := d.product(d.f(l.xa.Slice(at, at+l.n*a.R), l.n*a.R), a.R, a.R)
		d.term(p, view{d.dropped(l.x, a), l.c, 1}, l.c, source{matrix{f: d.f(a.A, a.R*l.c)}, 0, 1, l.c, 1}, 0, a.R)
		at += l.n * a.R
	}
}

// linearColumns plans columns [f0, f1) of y: x Wᵀ + bias where base is true, and the adapters' part.
func (d *Device) linearColumns(l *linearCall, f0, f1 int, base bool) {
	p := d.product(l.y[f0:], l.f, f1-f0)
	p.add = !base
	if base {
		if l.bias != nil {
			p.bias = l.bias[f0:f1]
		}
		d.weightTerm(p, l.x, l.c, l.n, l.c, source{l.w, f0 * l.c, 1, l.c, 1}, 0, f1-f0)
	}
	d.adapterTerms(p, l, f0, f1)
}

// adapterTerms adds to the product of columns [f0, f1) what the adapters give.
func (d *Device) adapterTerms(p *product, l *linearCall, f0, f1 int) {
	at := 0
	for i := range l.lora {
		a := &l.lora[i]
		from, to := max(a.Col, f0), min(a.Col+a.F, f1)
		if from < to {
			up := source{matrix{f: d.f(a.B, a.F*a.R)}, (from - a.Col) * a.R, 1, a.R, a.Scale}
			d.term(p, view{d.f(l.xa.Slice(at, at+l.n*a.R), l.n*a.R), a.R, 1}, a.R, up, from-f0, to-f0)
		}
		at += l.n * a.R
	}
}

// linearWide computes what inputs [k0, k1) give to y, behind the last of them what the adapters do.
func (d *Device) linearWide(l *linearCall, k0, k1 int) {
	d.begin()
	p := d.product(l.y, l.f, l.f)
	if p.add = k0 > 0; !p.add {
		p.bias = l.bias
	}
	d.wideTerm(p, l.x[k0:], l.c, l.n, k1-k0, source{l.w, k0, 1, l.c, 1})
	if k1 == l.c {
		d.adapterTerms(p, l, 0, l.f)
	}
	d.runWide(l.n)
}

// LinearBackward sets or adds dx and adds to the adapters' gradients.
func (d *Device) LinearBackward(dx, dy, x, xa ops.Buf, w ops.Weight, lora []ops.LoRA, add bool, N, C, F int) {
	if d.err != nil {
		return
	}
	g, gx := d.f(dy, N*F), d.opt(dx, N*C)
	d.mem.reset()
	if gx != nil && F*C >= d.limits.wide && N > fewRows && !dropping(lora) {
		d.backwardWide(gx, g, x, xa, d.w(w, F, C), lora, add, N, C, F)
		return
	}
	block := F
	if gx != nil {
		m := d.w(w, F, C)
		block = min(F, max(d.limits.packed/max(C, 1), depth))
		used := d.mem.used
		for f0 := 0; f0 < F; f0 += block {
			n := min(block, F-f0)
			if f0 > 0 {
				d.run(N)
				d.mem.giveBack(used)
			}
			d.begin()
			p := d.product(gx, C, C)
			p.add = add || f0 > 0
			d.weightTerm(p, g[f0:], F, N, n, source{m, f0 * C, C, 1, 1}, 0, C)
		}
	} else {
		d.begin()
		d.product(nil, 0, 0)
	}
	if len(lora) == 0 {
		d.run(N)
		return
	}
	d.loraBackward(g, x, xa, lora, N, C, F)
}

// backwardWide is LinearBackward for a large weight: what adapters without dropout need first, then dx.
func (d *Device) backwardWide(dx, dy []float32, x, xa ops.Buf, w matrix, lora []ops.LoRA, add bool, N, C, F int) {
	if len(lora) > 0 {
		d.begin()
		d.product(nil, 0, 0)
		d.loraBackward(dy, x, xa, lora, N, C, F)
	}
	deep := d.wideDepth(N)
	for f0 := 0; f0 < F; f0 += deep {
		n, used := min(deep, F-f0), d.mem.used
		d.begin()
		p := d.product(dx, C, C)
		p.add = add || f0 > 0
		d.wideTerm(p, dy[f0:], F, N, n, source{w, f0 * C, C, 1, 1})
		if f0+n == F {
			for i := range lora {
				d.loraInput(p, &d.lora.adapters[i], &lora[i], C)
			}
		}
		d.runWide(N)
		d.mem.giveBack(used)
	}
}

// LinearWeightBackward adds dyᵀ x to dw and the column sums of dy to db.
func (d *Device) LinearWeightBackward(dw, db, dy, x ops.Buf, N, C, F int) {
	if d.err != nil {
		return
	}
	g := d.f(dy, N*F)
	d.mem.reset()
	if db.Present() {
		d.columns = columnsJob{d.f(db, F), g, N, F}
		d.pool.do(&d.columns, blocks(F, columnsBlock))
	}
	if dw.Present() {
		d.addOuter(d.f(dw, F*C), g, d.f(x, N*C), N, C, F)
	}
}

// addOuter adds gᵀ x to out [F, C], tokens after tokens: a tile takes few values of each row of g, which must still be in
// cache when its neighbours take theirs.
func (d *Device) addOuter(out, g, x []float32, N, C, F int) {
	block := max(d.limits.outer/max(F, C, 1)/depth, 1) * depth
	for n0 := 0; n0 < N; n0 += block {
		n, used := min(block, N-n0), d.mem.used
		d.begin()
		p := d.product(out, C, C)
		p.add = true
		d.term(p, view{g[n0*F:], 1, F}, n, source{matrix{f: x}, n0 * C, C, 1, 1}, 0, C)
		d.run(F)
		d.mem.giveBack(used)
	}
}

// LinearMerge adds Scale·B A to rows of w.
func (d *Device) LinearMerge(w ops.Weight, lora []ops.LoRA, C, F int) {
	if d.err != nil {
		return
	}
	if w.Type != ops.F32 {
		d.Plain.LinearMerge(w, lora, C, F)
		return
	}
	m := d.w(w, F, C)
	d.mem.reset()
	for i := range lora {
		l := &lora[i]
		d.begin()
		p := d.product(m.f[l.Col*C:], C, C)
		p.add = true
		d.term(p, view{d.f(l.B, l.F*l.R), l.R, 1}, l.R, source{matrix{f: d.f(l.A, l.R*C)}, 0, C, 1, l.Scale}, 0, C)
		d.run(l.F)
	}
}

// columnsJob adds column sums: out[f] += Σ_n x[n,f].
type columnsJob struct {
	out, x []float32
	n, f   int
}

const columnsBlock = 64

func (j *columnsJob) task(_ *worker, i int) {
	lo, hi := i*columnsBlock, min((i+1)*columnsBlock, j.f)
	var sum [columnsBlock]float64
	for n := range j.n {
		for f, v := range j.x[n*j.f+lo : n*j.f+hi] {
			sum[f] += float64(v)
		}
	}
	for f := lo; f < hi; f++ {
		j.out[f] += float32(sum[f-lo])
	}
}

// dropoutJob sets out to x with dropped elements zero and kept ones scaled.
type dropoutJob struct {
	out, x []float32
	seed   uint64
	p      float32
}

const dropoutBlock = 1 << 14

func (j *dropoutJob) task(_ *worker, i int) {
	limit, scale := ops.Threshold(j.p), 1/(1-j.p)
	for e := i * dropoutBlock; e < min((i+1)*dropoutBlock, len(j.x)); e++ {
		j.out[e] = 0
		if ops.MaskBits(j.seed, e) >= limit {
			j.out[e] = j.x[e] * scale
		}
	}
}

// blocks is how many blocks of size b n values make.
func blocks(n, b int) int { return (n + b - 1) / b }
