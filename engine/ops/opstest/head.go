package opstest

import (
	"math"

	"lpipe/engine/ops"
)

func headLoss(r *trial) {
	N, C, V := r.pick(1, 9, 50, 230), r.pick(1, 16, 40), r.pick(1, 7, 100, 515)
	r.note("N %d C %d V %d", N, C, V)
	x, dw, targets := r.noise(N*C, 1), r.noise(V*C, 1), make([]int32, N)
	w, v := r.weight(r.noise(V*C, 0.7), V, C)
	trained := r.pick(0, 1, 2, 2)
	for n := range targets {
		targets[n] = int32(r.rng.IntN(V))
		if trained == 0 || trained == 1 && r.rng.IntN(2) == 0 {
			targets[n] = int32(r.pick(-1, -100))
		}
	}
	loss, nll, dx, gw := r.buf("loss", []float32{0.5}), r.out("nll", N), r.out("dx", N*C), r.buf("dw", dw)
	scale := float32(1) / float32(N)
	with := r.rng.IntN(4)
	switch with {
	case 0:
		gw = ops.Buf{}
	case 1:
		nll, dx, gw = ops.Buf{}, ops.Buf{}, ops.Buf{}
	}
	r.d.HeadLoss(loss, nll, dx, gw, r.buf("x", x), w, r.int32s(targets), scale, N, C, V)

	total, each, gx, grad := 0.5, zeros(N), zeros(N*C), wide(dw)
	in := wide(x)
	if !gw.Present() { // a head that is trained rounds nothing
		in = r.operand(x)
	}
	all := matmul(in, wide(v), N, V, C)
	for n, t := range targets {
		if t < 0 {
			continue
		}
		row := all[n*V:][:V]
		z := logSum(row)
		each[n] = z - row[t]
		total += float64(scale) * each[n]
		for i, l := range row {
			g := math.Exp(l - z)
			if i == int(t) {
				g--
			}
			g *= float64(scale)
			for c := range C {
				gx[n*C+c] += g * float64(v[i*C+c])
				grad[i*C+c] += g * float64(x[n*C+c])
			}
		}
	}
	r.check("loss", loss, []float64{total})
	if nll.Present() {
		r.check("nll", nll, each)
	}
	switch {
	case dx.Present() && r.rounds() && !gw.Present():
		r.compare("dx in bfloat16", r.read(dx), gx, 1.0/256)
	case dx.Present():
		r.check("dx", dx, gx)
	}
	if gw.Present() {
		r.check("dw", gw, grad)
	}
}

func logits(r *trial) {
	N, C, V, n := r.pick(1, 9, 50), r.pick(1, 16, 40), r.pick(1, 7, 100, 515), r.pick(1, 3, 40)
	r.note("N %d C %d V %d rows %d", N, C, V, n)
	x, rows := r.noise(N*C, 1), make([]int32, n)
	w, v := r.weight(r.noise(V*C, 1), V, C)
	want := zeros(n * V)
	all := matmul(r.operand(x), wide(v), N, V, C)
	for i := range rows {
		rows[i] = int32(r.rng.IntN(N))
		copy(want[i*V:], all[int(rows[i])*V:][:V])
	}
	out := r.out("logits", n*V)
	r.d.Logits(out, r.buf("x", x), w, r.int32s(rows), N, C, V)
	r.check("logits", out, want)
}
