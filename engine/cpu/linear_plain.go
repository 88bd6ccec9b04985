package cpu

import (
	"errors"

	"lpipe/engine/ops"
)

// Linear sets y = x Wᵀ + bias and adds the adapters; xa = dropout(x) Aᵀ is kept.
func (d *Plain) Linear(y, xa, x ops.Buf, w ops.Weight, bias ops.Buf, lora []ops.LoRA, N, C, F int) {
	if d.err != nil {
		return
	}
	o, v, stored, b := d.f(y, N*F), d.f(x, N*C), d.w(w, F, C), d.opt(bias, F)
	m, in := stored.all(F), stored.operand(v)
	for n := range N {
		for f := range F {
			var sum float64
			for c := range C {
				sum += float64(in[n*C+c]) * float64(m[f*C+c])
			}
			if b != nil {
				sum += float64(b[f])
			}
			o[n*F+f] = float32(sum)
		}
	}
	at := 0
	for _, l := range lora {
		t := d.f(xa.Slice(at, at+N*l.R), N*l.R)
		d.loraPlain(o, t, v, l, N, C, F)
		at += N * l.R
	}
}

func (d *Plain) loraPlain(y, xa, x []float32, l ops.LoRA, N, C, F int) {
	a, b := d.f(l.A, l.R*C), d.f(l.B, l.F*l.R)
	for n := range N {
		for r := range l.R {
			var sum float64
			for c := range C {
				sum += float64(dropped(x, n*C+c, l)) * float64(a[r*C+c])
			}
			xa[n*l.R+r] = float32(sum)
		}
		for f := range l.F {
			var sum float64
			for r := range l.R {
				sum += float64(xa[n*l.R+r]) * float64(b[f*l.R+r])
			}
			y[n*F+l.Col+f] += l.Scale * float32(sum)
		}
	}
}

// dropped is element i of dropout(x).
func dropped(x []float32, i int, l ops.LoRA) float32 {
	switch {
	case l.Drop == 0:
		return x[i]
	case ops.Keep(l.Seed, i, l.Drop):
		return x[i] / (1 - l.Drop)
	}
	return 0
}

// LinearBackward sets or adds dx and adds to the adapters' gradients.
func (d *Plain) LinearBackward(dx, dy, x, xa ops.Buf, w ops.Weight, lora []ops.LoRA, add bool, N, C, F int) {
	if d.err != nil {
		return
	}
	g := d.f(dy, N*F)
	gx := d.opt(dx, N*C)
	if gx != nil {
		stored := d.w(w, F, C)
		m, g := stored.all(F), stored.operand(g)
		for n := range N {
			for c := range C {
				var sum float64
				for f := range F {
					sum += float64(g[n*F+f]) * float64(m[f*C+c])
				}
				if add {
					gx[n*C+c] += float32(sum)
				} else {
					gx[n*C+c] = float32(sum)
				}
			}
		}
	}
	at := 0
	for _, l := range lora {
		t := d.f(xa.Slice(at, at+N*l.R), N*l.R)
		d.loraBackwardPlain(gx, g, d.f(x, N*C), t, l, N, C, F)
		at += N * l.R
	}
}

func (d *Plain) loraBackwardPlain(dx, dy, x, xa []float32, l ops.LoRA, N, C, F int) {
	a, b := d.f(l.A, l.R*C), d.f(l.B, l.F*l.R)
	dxa := make([]float32, N*l.R)
	for n := range N {
		for r := range l.R {
			var sum float64
			for f := range l.F {
				sum += float64(dy[n*F+l.Col+f]) * float64(b[f*l.R+r])
			}
			dxa[n*l.R+r] = l.Scale * float32(sum)
		}
	}
	if l.DB.Present() {
		db := d.f(l.DB, l.F*l.R)
		for f := range l.F {
			for r := range l.R {
				var sum float64
				for n := range N {
					sum += float64(dy[n*F+l.Col+f]) * float64(xa[n*l.R+r])
				}
				db[f*l.R+r] += l.Scale * float32(sum)
			}
		}
	}
	if l.DA.Present() {
		da := d.f(l.DA, l.R*C)
		for r := range l.R {
			for c := range C {
				var sum float64
				for n := range N {
					sum += float64(dxa[n*l.R+r]) * float64(dropped(x, n*C+c, l))
				}
				da[r*C+c] += float32(sum)
			}
		}
	}
	for i := range dx {
		if l.Drop > 0 && !ops.Keep(l.Seed, i, l.Drop) {
			continue
		}
		var sum float64
		for r := range l.R {
			sum += float64(dxa[i/C*l.R+r]) * float64(a[r*C+i%C])
		}
		dx[i] += float32(sum) / (1 - l.Drop)
	}
}

// LinearWeightBackward adds dyᵀ x to dw and the column sums of dy to db.
func (d *Plain) LinearWeightBackward(dw, db, dy, x ops.Buf, N, C, F int) {
	if d.err != nil {
		return
	}
	g, gw, gb := d.f(dy, N*F), d.opt(dw, F*C), d.opt(db, F)
	for f := range gb {
		var sum float64
		for n := range N {
			sum += float64(g[n*F+f])
		}
		gb[f] += float32(sum)
	}
	if gw == nil {
		return
	}
	v := d.f(x, N*C)
	for f := range F {
		for c := range C {
			var sum float64
			for n := range N {
				sum += float64(g[n*F+f]) * float64(v[n*C+c])
			}
			gw[f*C+c] += float32(sum)
		}
	}
}

// LinearMerge adds the adapters to w.
func (d *Plain) LinearMerge(w ops.Weight, lora []ops.LoRA, C, F int) {
	if w.Type.Is4Bit() {
		d.fail(errMergeNF4)
	}
	if d.err != nil {
		return
	}
	m, row := d.w(w, F, C), make([]float32, C)
	for _, l := range lora {
		a, b := d.f(l.A, l.R*C), d.f(l.B, l.F*l.R)
		for f := range l.F {
			m.row(row, l.Col+f)
			for c := range C {
				var sum float64
				for r := range l.R {
					sum += float64(b[f*l.R+r]) * float64(a[r*C+c])
				}
				row[c] += l.Scale * float32(sum)
			}
			d.WriteWeight(w, l.Col+f, row)
		}
	}
}

var errMergeNF4 = errors.New("merge into an nf4 weight: load the model unquantised")
