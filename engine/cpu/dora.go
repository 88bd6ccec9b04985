package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// DoRAGain sets norms and gain of the rows of w with their adapters.
func (d *Plain) DoRAGain(gain, norms ops.Buf, w ops.Weight, lora []ops.LoRA, C, F int) {
	if d.err != nil {
		return
	}
	g, s, m := d.f(gain, F), d.f(norms, F), d.w(w, F, C)
	ones(g, s)
	row := make([]float32, C)
	for _, l := range lora {
		if !l.M.Present() {
			continue
		}
		a, b, size := d.f(l.A, l.R*C), d.f(l.B, l.F*l.R), d.f(l.M, l.F)
		for f := range l.F {
			m.row(row, l.Col+f)
			var sum float64
			for c, v := range row {
				var ba float64
				for r := range l.R {
					ba += float64(b[f*l.R+r]) * float64(a[r*C+c])
				}
				sum += math.Pow(float64(v)+float64(l.Scale)*ba, 2)
			}
			norm := float32(math.Sqrt(sum))
			s[l.Col+f], g[l.Col+f] = norm, size[f]/norm
		}
	}
}

func ones(gain, norms []float32) {
	for f := range gain {
		gain[f], norms[f] = 1, 1
	}
}

// DoRA sets y = gain·z + bias.
func (d *Plain) DoRA(y, z, gain, bias ops.Buf, N, F int) {
	if d.err != nil {
		return
	}
	j := doraJob{dy: d.f(y, N*F), z: d.f(z, N*F), gain: d.f(gain, F), bias: d.opt(bias, F), n: N, f: F}
	j.forward(0, N)
}

// DoRABackward sets dz = gain·dy and adds to the gradients of the magnitudes.
func (d *Plain) DoRABackward(dz, dy, z, gain, norms ops.Buf, lora []ops.LoRA, N, F int) {
	if d.err != nil {
		return
	}
	j := doraJob{dz: d.f(dz, N*F), dy: d.f(dy, N*F), z: d.f(z, N*F), gain: d.f(gain, F), sums: make([]float32, F), n: N, f: F}
	for from := 0; from < F; from += columnsBlock {
		j.backward(from, min(from+columnsBlock, F))
	}
	d.addMagnitudes(j.sums, d.f(norms, F), lora)
}

// addMagnitudes: DM += Σ_n dy·z / norm.
func (d *Plain) addMagnitudes(sums, norms []float32, lora []ops.LoRA) {
	for _, l := range lora {
		if !l.DM.Present() {
			continue
		}
		dm := d.f(l.DM, l.F)
		for f := range dm {
			dm[f] += sums[l.Col+f] / norms[l.Col+f]
		}
	}
}

// DoRAGain sets norms and gain: rows of W + Scale·B A a block at a time, as products, then their norms.
func (d *Device) DoRAGain(gain, norms ops.Buf, w ops.Weight, lora []ops.LoRA, C, F int) {
	if d.err != nil {
		return
	}
	g, s, m := d.f(gain, F), d.f(norms, F), d.w(w, F, C)
	ones(g, s)
	d.mem.reset()
	block := max(d.limits.outer/max(C, 1)/doraRows, 1) * doraRows
	for i := range lora {
		l := &lora[i]
		if !l.M.Present() {
			continue
		}
		b, size := d.f(l.B, l.F*l.R), d.f(l.M, l.F)
		for f0 := 0; f0 < l.F; f0 += block {
			n, used := min(block, l.F-f0), d.mem.used
			rows, at := d.mem.take(n*C), l.Col+f0
			d.dora = doraJob{what: doraDecode, vec: d.vec, w: m, rows: rows, first: at, n: n, f: C}
			d.pool.do(&d.dora, blocks(n, doraRows))
			d.begin()
			p := d.product(rows, C, C)
			p.add = true
			d.term(p, view{b[f0*l.R:], l.R, 1}, l.R, source{matrix{f: d.f(l.A, l.R*C)}, 0, C, 1, l.Scale}, 0, C)
			d.run(n)
			d.dora.what, d.dora.gain, d.dora.norms, d.dora.size = doraNorm, g[at:at+n], s[at:at+n], size[f0:f0+n]
			d.pool.do(&d.dora, blocks(n, doraRows))
			d.mem.giveBack(used)
		}
	}
}

// DoRA sets y = gain·z + bias.
func (d *Device) DoRA(y, z, gain, bias ops.Buf, N, F int) {
	if d.err != nil {
		return
	}
	d.dora = doraJob{what: doraForward, dy: d.f(y, N*F), z: d.f(z, N*F), gain: d.f(gain, F), bias: d.opt(bias, F), n: N, f: F}
	d.pool.do(&d.dora, blocks(N, doraRows))
}

// DoRABackward sets dz = gain·dy and adds to the gradients of the magnitudes.
func (d *Device) DoRABackward(dz, dy, z, gain, norms ops.Buf, lora []ops.LoRA, N, F int) {
	if d.err != nil {
		return
	}
	d.mem.reset()
	d.dora = doraJob{what: doraBackward, dz: d.f(dz, N*F), dy: d.f(dy, N*F), z: d.f(z, N*F), gain: d.f(gain, F), sums: d.mem.take(F), n: N, f: F}
	d.pool.do(&d.dora, blocks(F, columnsBlock))
	d.addMagnitudes(d.dora.sums, d.f(norms, F), lora)
}

// doraJob is one of DoRA's steps: rows of a weight, tokens, or columns a task.
type doraJob struct {
	what doraOp
	vec  vector

	w                 matrix
	rows              []float32 // [n, f] of the weight, from row first on
	first             int
	gain, norms, size []float32

	dz, dy, z, bias, sums []float32 // dy is y in the forward step
	n, f                  int
}

type doraOp uint8

const (
	doraDecode doraOp = iota
	doraNorm
	doraForward
	doraBackward
)

const doraRows = 48 // rows of a task

func (j *doraJob) task(_ *worker, i int) {
	from, to := i*doraRows, min((i+1)*doraRows, j.n)
	switch j.what {
	case doraDecode:
		j.w.decode(j.rows[from*j.f:to*j.f], (j.first+from)*j.f)
	case doraNorm:
		for r := from; r < to; r++ {
			norm := float32(math.Sqrt(float64(j.vec.sumSquares(j.rows[r*j.f:][:j.f]))))
			j.norms[r], j.gain[r] = norm, j.size[r]/norm
		}
	case doraForward:
		j.forward(from, to)
	case doraBackward:
		j.backward(i*columnsBlock, min((i+1)*columnsBlock, j.f))
	}
}

// forward sets tokens from … to-1 of y.
func (j *doraJob) forward(from, to int) {
	for n := from; n < to; n++ {
		y, z := j.dy[n*j.f:][:j.f], j.z[n*j.f:][:j.f]
		for f, g := range j.gain {
			y[f] = z[f] * g
		}
		for f, b := range j.bias {
			y[f] += b
		}
	}
}

// backward sets columns from … to-1 of dz and their sums over tokens of dy·z, in float64.
func (j *doraJob) backward(from, to int) {
	var sum [columnsBlock]float64
	gain := j.gain[from:to]
	for n := range j.n {
		dz, dy, z := j.dz[n*j.f+from:][:len(gain)], j.dy[n*j.f+from:][:len(gain)], j.z[n*j.f+from:][:len(gain)]
		for f, g := range gain {
			v := dy[f]
			sum[f] += float64(v) * float64(z[f])
			dz[f] = v * g
		}
	}
	for f := range gain {
		j.sums[from+f] = float32(sum[f])
	}
}
