package cpu

import "lpipe/engine/ops"

// Linear sets y = x Wᵀ + bias, adapters added in the same pass over y.
func (d *Device) Linear(y, xa, x ops.Buf, w ops.Weight, bias ops.Buf, lora []ops.LoRA, N, C, F int) {
	if d.err != nil {
		return
	}
	out, in, m, b := d.f(y, N*F), d.f(x, N*C), d.w(w, F, C), d.opt(bias, F)
	d.mem.reset()
	at := 0
	for i := range lora {
		l := &lora[i]
		d.loraDown(d.f(xa.Slice(at, at+N*l.R), N*l.R), in, l, N, C)
		at += N * l.R
	}
	block := max(d.limits.packed/max(C, 1)/d.k.nr, 1) * d.k.nr
	few := N <= fewRows
	if few {
		d.linearFew(out, in, m, b, N, C, F)
		block = F
	}
	for f0 := 0; f0 < F && (!few || len(lora) > 0); f0 += block {
		f1, used := min(f0+block, F), d.mem.used
		d.begin()
		p := d.product(out[f0:], F, f1-f0)
		p.add = few
		if !few {
			if b != nil {
				p.bias = b[f0:f1]
			}
			d.term(p, view{in, C, 1}, C, source{m, f0 * C, 1, C, 1}, 0, f1-f0)
		}
		at = 0
		for i := range lora {
			l := &lora[i]
			from, to := max(l.Col, f0), min(l.Col+l.F, f1)
			if from < to {
				up := source{matrix{f: d.f(l.B, l.F*l.R)}, (from - l.Col) * l.R, 1, l.R, l.Scale}
				d.term(p, view{d.f(xa.Slice(at, at+N*l.R), N*l.R), l.R, 1}, l.R, up, from-f0, to-f0)
			}
			at += N * l.R
		}
		d.run(N)
		d.mem.giveBack(used)
	}
}

// loraDown sets xa = dropout(x) Aᵀ.
func (d *Device) loraDown(xa, x []float32, l *ops.LoRA, N, C int) {
	in := x
	if l.Drop > 0 {
		in = d.mem.take(N * C)
		d.dropout = dropoutJob{in, x, l.Seed, l.Drop}
		d.pool.do(&d.dropout, blocks(N*C, dropoutBlock))
	}
	d.begin()
	p := d.product(xa, l.R, l.R)
	d.term(p, view{in, C, 1}, C, source{matrix{f: d.f(l.A, l.R*C)}, 0, 1, C, 1}, 0, l.R)
	d.run(N)
}

// LinearBackward sets or adds dx and adds to the adapters' gradients.
func (d *Device) LinearBackward(dx, dy, x, xa ops.Buf, w ops.Weight, lora []ops.LoRA, add bool, N, C, F int) {
	if d.err != nil {
		return
	}
	g, gx := d.f(dy, N*F), d.opt(dx, N*C)
	d.mem.reset()
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
			d.term(p, view{g[f0:], F, 1}, n, source{m, f0 * C, C, 1, 1}, 0, C)
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

// addOuter adds gᵀ x to out [F, C].
func (d *Device) addOuter(out, g, x []float32, N, C, F int) {
	block := max(d.limits.packed/max(C, 1), depth)
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
