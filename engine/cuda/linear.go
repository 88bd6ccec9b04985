package cuda

import (
	"errors"

	"lpipe/engine/ops"
)

// fewRows is up to how many rows of x a linear reads its weight where it lies: a token a sequence in generation.
const fewRows = 8

// Linear sets y = x Wᵀ + bias and adds the adapters; xa = dropout(x) Aᵀ is kept.
func (d *Device) Linear(y, xa, x ops.Buf, w ops.Weight, bias ops.Buf, lora []ops.LoRA, N, C, F int) {
	if !d.begin("Linear", "NCF", N, C, F) {
		return
	}
	l := linear{out: d.f(y, N*F), x: d.input(x, N, C), bias: d.opt(bias, F), w: w, lora: lora, n: N, c: C, f: F}
	l.kept = d.opt(xa, N*l.ranks())
	d.shape(w, F, C)
	switch {
	case N <= fewRows && !l.dropped() && !l.x.half:
		d.linearFew(&l)
	case d.bordered(&l):
		d.linearBordered(&l)
	default:
		d.linearApart(&l)
	}
}

// linear is one call's arguments.
type linear struct {
	out, bias, kept Pointer // kept is xa: adapter after adapter [N, R]
	x               matrix
	w               ops.Weight
	lora            []ops.LoRA
	n, c, f         int
}

// ranks is ΣR.
func (l *linear) ranks() (r int) {
	for i := range l.lora {
		r += l.lora[i].R
	}
	return r
}

func (l *linear) dropped() bool {
	for i := range l.lora {
		if l.lora[i].Drop > 0 {
			return true
		}
	}
	return false
}

// bordered says whether the adapters are computed within the weight's border.
func (d *Device) bordered(l *linear) bool {
	return len(l.lora) > 0 && isHalf(l.w.Type) && !l.dropped() && round8(l.ranks()) <= d.o.Border
}

// linearFew reads each row of the weight once, for all tokens.
func (d *Device) linearFew(l *linear) {
	p, absmax, typ, ld := d.parts(l.w)
	d.gemv(l.out, l.x.p, p, absmax, l.bias, 1, false, typ, ld, l.f, l.n, l.c, l.f)
	kept := l.kept
	for i := range l.lora {
		a := &l.lora[i]
		d.gemv(kept, l.x.p, d.f(a.A, a.R*l.c), 0, 0, 1, false, int(ops.F32), l.c, a.R, l.n, l.c, a.R)
		d.gemv(l.out+Pointer(4*a.Col), kept, d.f(a.B, a.F*a.R), 0, 0, a.Scale, true, int(ops.F32), a.R, l.f, l.n, a.R, a.F)
		kept += Pointer(4 * l.n * a.R)
	}
}

func (d *Device) gemv(y, x, w, absmax, bias Pointer, alpha float32, add bool, typ, ld, ldy, N, C, F int) {
	d.p().ptrs(y, x, w, absmax, bias).f32(alpha).ints(number(add), typ, ld, ldy, N, C, F)
	d.launch("gemv", [3]int{blocks(F, 4), 1, 1}, 128, 64)
}

// linearApart adds each adapter by products of its own.
func (d *Device) linearApart(l *linear) {
	w := d.weight(l.w, l.f, l.c, 0)
	x := d.operandOf(l.x, w.half, l.n, l.c)
	d.multiply(Product{C: l.out, Bias: l.bias, TransB: true, Alpha: 1, M: l.n, N: l.f, K: l.c, LDC: l.f}, x, w)
	kept := l.kept
	for i := range l.lora {
		a := &l.lora[i]
		in := x
		if a.Drop > 0 {
			in = d.operand(d.dropout(l.x, a, l.n*l.c), w.half, l.n, l.c)
		}
		down := d.operand(d.f(a.A, a.R*l.c), w.half, a.R, l.c)
		d.multiply(Product{C: kept, TransB: true, Alpha: 1, M: l.n, N: a.R, K: l.c, LDC: a.R}, in, down)
		rank, up := d.operand(kept, w.half, l.n, a.R), d.operand(d.f(a.B, a.F*a.R), w.half, a.F, a.R)
		d.multiply(Product{C: l.out + Pointer(4*a.Col), TransB: true, Alpha: a.Scale, Add: true, M: l.n, N: a.F, K: a.R, LDC: l.f}, rank, up)
		kept += Pointer(4 * l.n * a.R)
	}
}

// linearBordered: y = [x | xa] [W | s·B]ᵀ + bias.
func (d *Device) linearBordered(l *linear) {
	ranks, c8, f8 := l.ranks(), round8(l.c), round8(l.f)
	wide := round8(ranks)
	w := d.borders(l)
	x := l.x
	if !x.half {
		x = d.half(x.p, 0, 1, l.n, l.c, l.c, c8+wide)
	}
	all := d.scratch.take(4 * l.n * ranks)
	d.multiply(Product{C: all, TransB: true, Alpha: 1, M: l.n, N: ranks, K: l.c, LDC: ranks}, x, w.at(f8, 0))
	d.place(x.at(0, c8), all, l.n, ranks)
	at, kept := 0, l.kept
	for i := range l.lora {
		r := l.lora[i].R
		d.p().ptrs(kept, all).i64(l.n).ints(at, r, ranks)
		d.each("border_split", l.n*r)
		at, kept = at+r, kept+Pointer(4*l.n*r)
	}
	d.multiply(Product{C: l.out, Bias: l.bias, TransB: true, Alpha: 1, M: l.n, N: l.f, K: c8 + wide, LDC: l.f}, x, w)
}

// place writes x [n, cols] into a matrix in bfloat16, up to a round number of columns.
func (d *Device) place(to matrix, x Pointer, n, cols int) {
	d.p().ptrs(to.p, x).i64(n).ints(cols, round8(cols), to.ld)
	d.each("border_x", n*round8(cols))
}

// borders is the weight with s·B of each adapter in the columns from round8(C) on, and A in the rows from round8(F) on.
func (d *Device) borders(l *linear) matrix {
	ranks, c8, f8 := l.ranks(), round8(l.c), round8(l.f)
	w := d.weight(l.w, l.f, l.c, ranks)
	if l.w.Type != ops.BF16 {
		below := w.at(l.f, 0)
		d.set(below.p, 0, 2*(f8+round8(ranks)-l.f)*w.ld)
	}
	at := 0
	for i := range l.lora {
		a := &l.lora[i]
		wide := a.R
		if i == len(l.lora)-1 {
			wide = round8(ranks) - at
		}
		d.p().ptrs(w.at(0, c8+at).p, d.f(a.B, a.F*a.R)).f32(a.Scale).ints(l.f, a.Col, a.F, a.R, wide, w.ld)
		d.each("border_b", l.f*wide)
		d.place(w.at(f8+at, 0), d.f(a.A, a.R*l.c), a.R, l.c)
		at += a.R
	}
	if rest := round8(ranks) - ranks; rest > 0 && l.w.Type == ops.BF16 { // what wider adapters may have left
		d.set(w.at(f8+ranks, 0).p, 0, 2*rest*w.ld)
	}
	return w
}

// LinearBackward sets or adds dx and adds to the adapters' gradients.
func (d *Device) LinearBackward(dx, dy, x, xa ops.Buf, w ops.Weight, lora []ops.LoRA, add bool, N, C, F int) {
	if !d.begin("LinearBackward", "NCF", N, C, F) {
		return
	}
	l := linear{out: d.opt(dx, N*C), w: w, lora: lora, n: N, c: C, f: F}
	g := d.input(dy, N, F)
	d.shape(w, F, C)
	if len(lora) > 0 {
		l.x, l.kept = d.input(x, N, C), d.f(xa, N*l.ranks())
	}
	if d.bordered(&l) {
		d.backwardBordered(&l, g, add)
		return
	}
	d.backwardApart(&l, g, add)
}

// backwardApart adds each adapter's part by products of its own.
func (d *Device) backwardApart(l *linear, g matrix, add bool) {
	half := isHalf(l.w.Type)
	dy := d.operandOf(g, half, l.n, l.f)
	if l.out != 0 {
		w := d.weight(l.w, l.f, l.c, 0)
		d.multiply(Product{C: l.out, Alpha: 1, Add: add, M: l.n, N: l.c, K: l.f, LDC: l.c}, dy, w)
	}
	kept := l.kept
	for i := range l.lora {
		a := &l.lora[i]
		own := dy.at(0, a.Col)
		dxa := d.scratch.take(4 * l.n * a.R)
		d.multiply(Product{C: dxa, Alpha: a.Scale, M: l.n, N: a.R, K: a.F, LDC: a.R}, own, d.operand(d.f(a.B, a.F*a.R), half, a.F, a.R))
		down := d.operand(dxa, half, l.n, a.R)
		if a.DB.Present() {
			d.multiply(Product{C: d.f(a.DB, a.F*a.R), TransA: true, Alpha: a.Scale, Add: true, M: a.F, N: a.R, K: l.n, LDC: a.R},
				own, d.operand(kept, half, l.n, a.R))
		}
		if a.DA.Present() {
			in := l.x
			if a.Drop > 0 {
				in.p = d.dropout(l.x, a, l.n*l.c)
			}
			d.multiply(Product{C: d.f(a.DA, a.R*l.c), TransA: true, Alpha: 1, Add: true, M: a.R, N: l.c, K: l.n, LDC: l.c},
				down, d.operandOf(in, half, l.n, l.c))
		}
		d.dropoutBack(l, a, down)
		kept += Pointer(4 * l.n * a.R)
	}
}

// dropoutBack adds dxa A to dx where dropout kept x.
func (d *Device) dropoutBack(l *linear, a *ops.LoRA, dxa matrix) {
	if l.out == 0 {
		return
	}
	p := Product{C: l.out, Alpha: 1, Add: true, M: l.n, N: l.c, K: a.R, LDC: l.c}
	if a.Drop > 0 {
		p.C, p.Add = d.scratch.take(4*l.n*l.c), false
	}
	d.multiply(p, dxa, d.operand(d.f(a.A, a.R*l.c), dxa.half, a.R, l.c))
	if a.Drop > 0 {
		d.p().ptrs(l.out, p.C).u64(a.Seed).u32(ops.Threshold(a.Drop)).f32(1 / (1 - a.Drop)).i64(l.n * l.c)
		d.each("dropout_add", l.n*l.c)
	}
}

// backwardBordered: dxa = dy (s·B), dx = [dy | dxa] [W ; A], dA = dxaᵀ x of all adapters at once.
func (d *Device) backwardBordered(l *linear, dy matrix, add bool) {
	ranks, c8, f8 := l.ranks(), round8(l.c), round8(l.f)
	wide := round8(ranks)
	w := d.borders(l)
	if !dy.half {
		dy = d.half(dy.p, 0, 1, l.n, l.f, l.f, f8+wide)
	}
	all := d.scratch.take(4 * l.n * ranks)
	d.multiply(Product{C: all, Alpha: 1, M: l.n, N: ranks, K: l.f, LDC: ranks}, dy, w.at(0, c8))
	d.place(dy.at(0, f8), all, l.n, ranks)
	if l.out != 0 {
		d.multiply(Product{C: l.out, Alpha: 1, Add: add, M: l.n, N: l.c, K: f8 + wide, LDC: l.c}, dy, w)
	}
	d.gradientsA(l, dy.at(0, f8))
	kept := l.kept
	for i := range l.lora {
		a := &l.lora[i]
		if a.DB.Present() {
			rank := d.half(kept, 0, a.Scale, l.n, a.R, a.R, round8(a.R))
			d.multiply(Product{C: d.f(a.DB, a.F*a.R), TransA: true, Alpha: 1, Add: true, M: a.F, N: a.R, K: l.n, LDC: a.R}, dy.at(0, a.Col), rank)
		}
		kept += Pointer(4 * l.n * a.R)
	}
}

// gradientsA adds dxaᵀ x to each DA.
func (d *Device) gradientsA(l *linear, dxa matrix) {
	wanted := false
	for i := range l.lora {
		wanted = wanted || l.lora[i].DA.Present()
	}
	if !wanted {
		return
	}
	x := d.operandOf(l.x, true, l.n, l.c)
	ranks := l.ranks()
	all := d.scratch.take(4 * ranks * l.c)
	d.multiply(Product{C: all, TransA: true, Alpha: 1, M: ranks, N: l.c, K: l.n, LDC: l.c}, dxa, x)
	for i := range l.lora {
		a := &l.lora[i]
		if a.DA.Present() {
			da := d.f(a.DA, a.R*l.c)
			d.p().ptrs(da, da, all).i64(a.R * l.c)
			d.each("add", a.R*l.c)
		}
		all += Pointer(4 * a.R * l.c)
	}
}

// dropout is dropout(x) of an adapter, n values.
func (d *Device) dropout(x matrix, a *ops.LoRA, n int) Pointer {
	if x.half {
		panic("cuda: dropout of values that are rounded already")
	}
	out := d.scratch.take(4 * n)
	d.p().ptrs(out, x.p).u64(a.Seed).u32(ops.Threshold(a.Drop)).f32(1 / (1 - a.Drop)).i64(n)
	d.each("dropout", n)
	return out
}

// LinearWeightBackward adds dyᵀ x to dw and the column sums of dy to db.
func (d *Device) LinearWeightBackward(dw, db, dy, x ops.Buf, N, C, F int) {
	if !d.begin("LinearWeightBackward", "NCF", N, C, F) {
		return
	}
	g := d.f(dy, N*F)
	if db.Present() {
		part, count := d.columns(g, 0, 0, N, F)
		d.p().ptrs(d.f(db, F), part, 0).ints(0, F, count, F)
		d.each("column_sums", F)
	}
	if dw.Present() {
		d.multiply(Product{C: d.f(dw, F*C), TransA: true, Alpha: 1, Add: true, M: F, N: C, K: N, LDC: C}, matrix{g, F, false}, matrix{d.f(x, N*C), C, false})
	}
}

// LinearMerge adds Scale·B A to rows of w.
func (d *Device) LinearMerge(w ops.Weight, lora []ops.LoRA, C, F int) {
	if !d.begin("LinearMerge", "CF", C, F) {
		return
	}
	d.shape(w, F, C)
	if w.Type.Is4Bit() {
		d.fail(errMergeNF4)
		return
	}
	p, _, typ, ld := d.parts(w)
	for i := range lora {
		l := &lora[i]
		d.p().ptrs(p, d.f(l.A, l.R*C), d.f(l.B, l.F*l.R)).f32(l.Scale).ints(typ, ld, l.Col, l.F, l.R, C)
		d.each("linear_merge", l.F*C)
	}
}

var errMergeNF4 = errors.New("merge into an nf4 weight: load the model unquantised")

// multiply makes a product of a and b. The machine's own way is taken where it has one.
func (d *Device) multiply(p Product, a, b matrix) {
	if d.err != nil || d.scratch.idle || p.M == 0 || p.N == 0 {
		return
	}
	if a.half != b.half {
		panic("cuda: operands of two kinds")
	}
	p.A, p.LDA, p.B, p.LDB, p.Half = a.p, a.ld, b.p, b.ld, a.half
	d.product = p
	done, err := d.m.Product(&d.product)
	if err != nil {
		d.fail(err)
		return
	}
	if !done {
		d.multiplyOurs(&d.product)
	}
}

// Tiles of the kernels gemm, and of gemm_nt, gemm_nn and gemm_tn.
const (
	plainTile = 64
	halfTile  = 128
	stages    = 3
)

func (d *Device) multiplyOurs(p *Product) {
	d.p().ptrs(p.C, p.A, p.B, p.Bias).f32(p.Alpha).ints(number(p.Add), p.M, p.N, p.K, p.LDC)
	if !p.Half {
		am, ak, bk, bn := p.LDA, 1, p.LDB, 1
		if p.TransA {
			am, ak = 1, p.LDA
		}
		if p.TransB {
			bk, bn = 1, p.LDB
		}
		d.params.i64(am).i64(ak).i64(bk).i64(bn)
		d.launch("gemm", [3]int{blocks(p.N, plainTile), blocks(p.M, plainTile), 1}, 256, 2*16*(plainTile+1)*4)
		return
	}
	d.params.ints(p.LDA, p.LDB)
	// a tile with K along its lines is 128 lines of 32+8 values, the other way 32 lines of 128+8
	across, along := 2*halfTile*(32+8), 2*32*(halfTile+8)
	name, shared := "gemm_nn", across+along
	switch {
	case p.TransB && !p.TransA:
		name, shared = "gemm_nt", 2*across
	case p.TransA && !p.TransB:
		name, shared = "gemm_tn", 2*along
	case p.TransA:
		panic("cuda: no product of two transposed matrices")
	}
	d.launch(name, [3]int{blocks(p.N, halfTile), blocks(p.M, halfTile), 1}, 256, stages*shared)
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
