package opstest

import "lpipe/engine/ops"

// matmul is a [M, K] · bᵀ, b [N, K], in float64.
func matmul(a, b []float64, M, N, K int) []float64 {
	out := zeros(M * N)
	for i := range M {
		for j := range N {
			for k := range K {
				out[i*N+j] += a[i*K+k] * b[j*K+k]
			}
		}
	}
	return out
}

// turned is the transpose of a [M, N].
func turned(a []float64, M, N int) []float64 {
	out := zeros(M * N)
	for i := range M {
		for j := range N {
			out[j*M+i] = a[i*N+j]
		}
	}
	return out
}

func addTo(to, from []float64) {
	for i, v := range from {
		to[i] += v
	}
}

func (r *trial) linearSizes() (N, C, F int) {
	N, C, F = r.pick(1, 2, 7, 33, 100, 130), r.pick(1, 5, 16, 33, 64), r.pick(1, 3, 16, 40, 70)
	if r.rng.IntN(6) == 0 {
		N = r.pick(600, 1100)
	}
	if r.rng.IntN(4) == 0 {
		C = 600
	} else if r.rng.IntN(4) == 0 {
		F = 600
	}
	if r.rng.IntN(6) == 0 { // a pack of the usual length, in which tasks are longer than their inner blocks
		N, C, F = 4100, r.pick(5, 33), r.pick(3, 40)
	}
	r.note("N %d C %d F %d", N, C, F)
	return
}

func linear(r *trial) {
	N, C, F := r.linearSizes()
	x, bias, dy, dx := r.noise(N*C, 1), r.noise(F, 1), r.noise(N*F, 1), r.noise(N*C, 1)
	w, v := r.weight(r.noise(F*C, 1), F, C)
	y, b := r.out("y", N*F), r.buf("bias", bias)
	want := matmul(r.operand(x), wide(v), N, F, C)
	if r.rng.IntN(2) == 0 {
		b = ops.Buf{}
	} else {
		for i := range want {
			want[i] += float64(bias[i%F])
		}
	}
	xb, dyb := r.buf("x", x), r.buf("dy", dy)
	r.d.Linear(y, ops.Buf{}, xb, w, b, nil, N, C, F)
	r.check("y", y, want)
	grad := matmul(r.operand(dy), turned(wide(v), F, C), N, C, F)
	set, add := r.out("dx", N*C), r.buf("dx", dx)
	r.d.LinearBackward(set, dyb, ops.Buf{}, ops.Buf{}, w, nil, false, N, C, F)
	r.check("dx", set, grad)
	r.d.LinearBackward(add, dyb, ops.Buf{}, ops.Buf{}, w, nil, true, N, C, F)
	addTo(grad, wide(dx))
	r.check("dx added", add, grad)
}

func linearWeight(r *trial) {
	N, C, F := r.linearSizes()
	x, dy, dw, db := r.noise(N*C, 1), r.noise(N*F, 1), r.noise(F*C, 1), r.noise(F, 1)
	gw, gb := r.buf("dw", dw), r.buf("db", db)
	want, wantB := matmul(turned(wide(dy), N, F), turned(wide(x), N, C), F, C, N), wide(db)
	addTo(want, wide(dw))
	for i, v := range dy {
		wantB[i%F] += float64(v)
	}
	switch r.rng.IntN(3) {
	case 0:
		gb = ops.Buf{}
	case 1:
		gw = ops.Buf{}
	}
	r.d.LinearWeightBackward(gw, gb, r.buf("dy", dy), r.buf("x", x), N, C, F)
	if gw.Present() {
		r.check("dw", gw, want)
	}
	if gb.Present() {
		r.check("db", gb, wantB)
	}
}

// adapter is one adapter's numbers.
type adapter struct {
	a, b, da, db []float32
	mask         []float64 // [N, C]: 0, or what a kept element is multiplied by
	l            ops.LoRA
}

// adapters makes one to three adapters on columns of F that do not overlap, with gaps.
func (r *trial) adapters(N, C, F int) []*adapter {
	var all []*adapter
	for col := 0; col < F && len(all) < 3; {
		f := 1 + r.rng.IntN(F-col)
		R := r.pick(1, 3, 8, 16, 40)
		a := &adapter{a: r.noise(R*C, 1), b: r.noise(f*R, 1), da: r.noise(R*C, 1), db: r.noise(f*R, 1), mask: zeros(N * C)}
		a.l = ops.LoRA{A: r.buf("A", a.a), B: r.buf("B", a.b), DA: r.buf("dA", a.da), DB: r.buf("dB", a.db),
			Col: col, F: f, R: R, Scale: 1.5, Seed: r.rng.Uint64()}
		if r.rng.IntN(3) == 0 {
			a.l.Drop = 0.25
		}
		switch r.rng.IntN(6) {
		case 0:
			a.l.DA = ops.Buf{}
		case 1:
			a.l.DB = ops.Buf{}
		}
		for i := range a.mask {
			if ops.Keep(a.l.Seed, i, a.l.Drop) {
				a.mask[i] = 1 / (1 - float64(a.l.Drop))
			}
		}
		all = append(all, a)
		col += f + r.pick(0, 0, 5)
	}
	return all
}

func linearLoRA(r *trial) {
	N, C, F := r.linearSizes()
	x, dy, dx := r.noise(N*C, 1), r.noise(N*F, 1), r.noise(N*C, 1)
	w, v := r.weight(r.noise(F*C, 1), F, C)
	all := r.adapters(N, C, F)
	var list []ops.LoRA
	ranks := 0
	for _, a := range all {
		list = append(list, a.l)
		ranks += a.l.R
	}
	y, xa, xb, dyb := r.out("y", N*F), r.out("xa", N*ranks), r.buf("x", x), r.buf("dy", dy)
	r.d.Linear(y, xa, xb, w, ops.Buf{}, list, N, C, F)
	gx, add := r.buf("dx", dx), r.rng.IntN(2) == 0
	absent := r.rng.IntN(5) == 0
	if absent {
		r.d.LinearBackward(ops.Buf{}, dyb, xb, xa, w, list, add, N, C, F)
	} else {
		r.d.LinearBackward(gx, dyb, xb, xa, w, list, add, N, C, F)
	}

	want, grad := matmul(r.operand(x), wide(v), N, F, C), matmul(r.operand(dy), turned(wide(v), F, C), N, C, F)
	if add {
		addTo(grad, wide(dx))
	}
	var wantXA []float64
	for _, a := range all {
		wantXA = append(wantXA, a.reference(want, grad, x, dy, N, C, F)...)
	}
	r.check("y", y, want)
	r.check("xa", xa, wantXA)
	if !absent {
		r.check("dx", gx, grad)
	}
	for _, a := range all {
		dA, dB := a.gradients(x, dy, N, C, F)
		if a.l.DA.Present() {
			r.check("dA", a.l.DA, dA)
		}
		if a.l.DB.Present() {
			r.check("dB", a.l.DB, dB)
		}
	}
}

// masked is dropout(x).
func (a *adapter) masked(x []float32) []float64 {
	out := wide(x)
	for i := range out {
		out[i] *= a.mask[i]
	}
	return out
}

// columns is the adapter's columns of m [N, F].
func (a *adapter) columns(m []float32, N, F int) []float64 {
	out := zeros(N * a.l.F)
	for i := range out {
		out[i] = float64(m[i/a.l.F*F+a.l.Col+i%a.l.F])
	}
	return out
}

// reference adds the adapter to y and dx and returns xa.
func (a *adapter) reference(y, dx []float64, x, dy []float32, N, C, F int) []float64 {
	xa := matmul(a.masked(x), wide(a.a), N, a.l.R, C)
	for i, v := range matmul(xa, wide(a.b), N, a.l.F, a.l.R) {
		y[i/a.l.F*F+a.l.Col+i%a.l.F] += float64(a.l.Scale) * v
	}
	dxa := matmul(a.columns(dy, N, F), turned(wide(a.b), a.l.F, a.l.R), N, a.l.R, a.l.F)
	for i, v := range matmul(dxa, turned(wide(a.a), a.l.R, C), N, C, a.l.R) {
		dx[i] += float64(a.l.Scale) * v * a.mask[i]
	}
	return xa
}

func (a *adapter) gradients(x, dy []float32, N, C, F int) (da, db []float64) {
	in, out := a.masked(x), a.columns(dy, N, F)
	xa := matmul(in, wide(a.a), N, a.l.R, C)
	dxa := matmul(out, turned(wide(a.b), a.l.F, a.l.R), N, a.l.R, a.l.F)
	da = matmul(turned(dxa, N, a.l.R), turned(in, N, C), a.l.R, C, N)
	db = matmul(turned(out, N, a.l.F), turned(xa, N, a.l.R), a.l.F, a.l.R, N)
	for i := range da {
		da[i] = float64(a.l.Scale)*da[i] + float64(a.da[i])
	}
	for i := range db {
		db[i] = float64(a.l.Scale)*db[i] + float64(a.db[i])
	}
	return da, db
}

func linearMerge(r *trial) {
	if r.typ.Is4Bit() {
		return // refused
	}
	_, C, F := r.linearSizes()
	w, v := r.weight(r.noise(F*C, 1), F, C)
	all := r.adapters(1, C, F)
	var list []ops.LoRA
	want := wide(v)
	for _, a := range all {
		list = append(list, a.l)
		for i, s := range matmul(wide(a.b), turned(wide(a.a), a.l.R, C), a.l.F, C, a.l.R) {
			want[a.l.Col*C+i] += float64(a.l.Scale) * s
		}
	}
	r.d.LinearMerge(w, list, C, F)
	got := make([]float32, F*C)
	r.d.ReadWeight(got, w, 0)
	r.compare("merged", got, want, max(r.o.Tolerance, r.stored()))
}
