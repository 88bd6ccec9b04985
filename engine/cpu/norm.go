package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// normJob is RMSNorm and its backward half over a range of tokens a task.
type normJob struct {
	vec             vector
	back            bool
	out, rstd, x, w []float32 // forward
	dx, dw, dout    []float32 // backward; dw holds shares by task, or is nil
	eps             float32
	n, c, high      int
}

// RMSNorm sets rstd[n] = 1/√(Σ x²/C + eps) and out = x·rstd·w.
func (d *Device) RMSNorm(out, rstd, x, w ops.Buf, eps float32, N, C int) {
	if d.err != nil {
		return
	}
	d.norm = normJob{vec: d.vec, out: d.f(out, N*C), rstd: d.f(rstd, N), x: d.f(x, N*C), w: d.f(w, C),
		eps: eps, n: N, c: C, high: taskRows(N)}
	d.pool.do(&d.norm, blocks(N, d.norm.high))
}

// RMSNormBackward adds to dx: rstd·(w·dout) - x·rstd³·dot/C, dot = Σ w·dout·x, and to dw Σ dout·x·rstd.
func (d *Device) RMSNormBackward(dx, dw, dout, x, w, rstd ops.Buf, N, C int) {
	if d.err != nil {
		return
	}
	d.mem.reset()
	d.norm = normJob{vec: d.vec, back: true, dx: d.f(dx, N*C), dout: d.f(dout, N*C), x: d.f(x, N*C), w: d.f(w, C),
		rstd: d.f(rstd, N), n: N, c: C, high: taskRows(N)}
	tasks := blocks(N, d.norm.high)
	d.reduce.parts = d.reduce.parts[:0]
	if dw.Present() {
		d.norm.dw = d.reduce.add(&d.mem, d.f(dw, C), tasks)
	}
	d.pool.do(&d.norm, tasks)
	d.pool.do(&d.reduce, d.reduce.tasks())
}

func (j *normJob) task(_ *worker, i int) {
	var share []float32
	if j.dw != nil {
		share = j.dw[i*j.c:][:j.c]
		clear(share)
	}
	for n := i * j.high; n < min((i+1)*j.high, j.n); n++ {
		lo, hi := n*j.c, (n+1)*j.c
		x := j.x[lo:hi]
		if !j.back {
			r := float32(1 / math.Sqrt(float64(j.vec.sumSquares(x))/float64(j.c)+float64(j.eps)))
			j.rstd[n] = r
			j.vec.norm(j.out[lo:hi], x, j.w, r)
			continue
		}
		r, dout := j.rstd[n], j.dout[lo:hi]
		dot := j.vec.dot3(j.w, dout, x)
		j.vec.normBack(j.dx[lo:hi], dout, j.w, x, r, r*r*r*dot/float32(j.c))
		if share != nil {
			j.vec.mulAdd(share, dout, x, r)
		}
	}
}
