package model

import "lpipe/engine/ops"

// Recompute says what a training pass does not keep of the layers but computes again when the backward pass comes to them
// (Chen et al. 2016, arXiv 1604.06174). Each number counts layers, from the lowest trained one up; a layer that is counted
// by a later field is by those before it too. The same operations run again on the same values, so that losses and gradients
// have the same bits whatever it says. The zero value keeps everything.
type Recompute struct {
	Light int `json:"light"` // both norms and SwiGLU's product: hardly any time
	MLP   int `json:"mlp"`   // gate and up as well
	Whole int `json:"whole"` // everything but the layer's input
}

// redo is what of one layer is computed again.
type redo int

const (
	keepAll redo = iota
	redoLight
	redoMLP
	redoWhole
)

// of is what is done to the layer that is i-th from the lowest trained one.
func (r Recompute) of(i int) redo {
	switch {
	case i < r.Whole:
		return redoWhole
	case i < r.MLP:
		return redoMLP
	case i < r.Light:
		return redoLight
	}
	return keepAll
}

// SetRecompute changes what later passes keep.
func (m *Model) SetRecompute(r Recompute) {
	m.recompute = r
	m.plan.N = 0 // the next pass lays its memory anew
}

// redo is what of layer i is computed again.
func (m *Model) redo(i int) redo { return m.recompute.of(i - m.lowest) }

// Flops is what a pass over a token computes again, in operations; the adapters' and attention's part is left out.
func (r Recompute) Flops(c Config) float64 {
	mlp := float64(2 * c.C * 2 * c.F)
	whole := float64(2*c.C*c.QKV() + 2*c.H*c.D*c.C)
	if r.Light == 0 {
		return 0
	}
	least := func(layers int) float64 { return float64(min(layers, r.Light-1)) } // the highest is still there
	return least(r.MLP)*mlp + least(r.Whole)*whole
}

// Prepare makes room for training passes over up to n tokens, so that none allocates. It returns the device's scratch memory
// of such a pass, 0 where the device cannot tell.
func (m *Model) Prepare(n int) (scratch int64, err error) {
	if err := m.reserve(n, true); err != nil {
		return 0, err
	}
	d, ok := m.dev.(ops.Rehearser)
	if !ok {
		return 0, nil
	}
	m.dropout(m.LoRA.Dropout, 0)
	m.dev.WriteInts(m.plan.ids, make([]int32, n))
	m.dev.WriteInts(m.plan.targets, make([]int32, n)) // every token has one: more than any batch
	scratch = d.Rehearse(func() {
		m.gains()
		m.forward(nil)
		m.loss(m.plan.nll, 1, true)
		m.backward()
	})
	m.ZeroGrad()
	return scratch, m.dev.Err()
}

// Fit chooses what a training pass over n tokens computes again so that its activations take at most limit bytes: first what
// costs least, which light says to leave out in any case. The second result is what they take then, which is above limit if nothing
// more can be left out.
func (m *Model) Fit(n int, limit int64, light bool) (Recompute, int64) {
	was := m.recompute
	defer func() { m.recompute = was }()
	layers := m.Config.Layers - m.lowest
	size := func(r Recompute) int64 {
		m.recompute = r
		return m.ActivationBytes(n, true)
	}
	r := Recompute{}
	if light {
		r.Light = layers
	}
	for _, field := range []*int{&r.Light, &r.MLP, &r.Whole} {
		for ; *field < layers; *field++ {
			if bytes := size(r); bytes <= limit {
				return r, bytes
			}
		}
	}
	return r, size(r)
}

// shared lays the buffers of which the layers that are computed again have one set together.
func (p *plan) shared(cut *aligned, m *Model, n int) activations {
	var a activations
	c, most := m.Config, m.recompute.of(0)
	if most >= redoLight {
		a.norm1, a.norm2, a.h = m.seen(cut, m.lowest, linQKV, n), m.seen(cut, m.lowest, linGateUp, n), m.seen(cut, m.lowest, linDown, n)
	}
	if most >= redoMLP {
		a.gateUp = cut.cut(n * 2 * c.F)
	}
	if most >= redoWhole {
		a.qkv, a.lse, a.attention, a.mid = cut.cut(n*c.QKV()), cut.cut(n*c.H), cut.cut(n*c.H*c.D), cut.cut(n*c.C)
		if c.Family.traits().qkNorm {
			a.heads, a.rstdHeads = cut.cut(n*(c.H+c.KV)*c.D), cut.cut(n*(c.H+c.KV))
		}
	}
	if m.LoRA.DoRA {
		if most >= redoMLP {
			a.z[linGateUp] = cut.cut(n * 2 * c.F)
		}
		if most >= redoWhole {
			a.z[linQKV], a.z[linO] = cut.cut(n*c.QKV()), cut.cut(n*c.C)
		}
	}
	return a
}

// own lays the buffers of a trained layer: those that are computed again are the shared ones.
func (p *plan) own(cut *aligned, m *Model, shared *activations, i, n int) activations {
	c, l, again := m.Config, &m.layers[i], m.redo(i)
	var a activations
	if again > keepAll {
		a = *shared
	}
	keep := func(b *ops.Buf, until redo, size int) {
		if again < until {
			*b = cut.cut(size)
		}
	}
	a.x, a.rstd1, a.rstd2 = cut.cut(n*c.C), cut.cut(n), cut.cut(n)
	if again < redoLight {
		a.norm1, a.norm2, a.h = m.seen(cut, i, linQKV, n), m.seen(cut, i, linGateUp, n), m.seen(cut, i, linDown, n)
	}
	keep(&a.gateUp, redoMLP, n*2*c.F)
	keep(&a.qkv, redoWhole, n*c.QKV())
	keep(&a.lse, redoWhole, n*c.H)
	keep(&a.attention, redoWhole, n*c.H*c.D)
	keep(&a.mid, redoWhole, n*c.C)
	if c.Family.traits().qkNorm {
		keep(&a.heads, redoWhole, n*(c.H+c.KV)*c.D)
		keep(&a.rstdHeads, redoWhole, n*(c.H+c.KV))
	}
	until := [linears]redo{linQKV: redoWhole, linO: redoWhole, linGateUp: redoMLP, linDown: redoWhole + 1}
	for j := range linears {
		if l.linears[j].ranks > 0 { // xa of down is needed and down is not computed again: all are kept, they are narrow
			a.xa[j] = cut.cut(n * l.linears[j].ranks)
		}
		if !l.linears[j].gain.Present() {
			a.z[j] = ops.Buf{}
			continue
		}
		keep(&a.z[j], until[j], n*l.linears[j].F)
	}
	return a
}

// again computes what was not kept of layer i. The highest such layer was the last to write the shared buffers, so that
// all of it is still there.
func (m *Model) again(i int) {
	level := m.redo(i)
	if level == keepAll || i+1 >= len(m.layers) || m.redo(i+1) == keepAll {
		return
	}
	d, c, p := m.dev, m.Config, &m.plan
	l, a := &m.layers[i], &p.layers[i]
	if level == redoWhole {
		m.forwardAttention(i, nil)
	} else {
		d.RMSNorm(a.norm1, a.rstd1, a.x, l.norm1, c.Eps, p.N, c.C)
	}
	d.RMSNorm(a.norm2, a.rstd2, a.mid, l.norm2, c.Eps, p.N, c.C)
	if level >= redoMLP {
		m.forwardLinear(i, linGateUp, a.gateUp, a.norm2)
	}
	d.SwiGLU(a.h, a.gateUp, p.N, c.F)
}
