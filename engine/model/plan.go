package model

import (
	"lpipe/engine/ops"
)

// plan says where every activation of a pass over N tokens lies. All of them are one allocation, which
// grows only when a pass needs more than any before it; a plan for fewer tokens cuts the same allocation
// again, which costs no device memory and no copy.
type plan struct {
	N     int
	train bool

	memory ops.Buf
	ints   ops.Ints

	ids, positions, starts, targets, slots ops.Ints // [N]

	cos, sin ops.Buf // [N, D/2]
	layers   []activations
	x        ops.Buf // [N, C] the residual stream after the last layer
	rstd     ops.Buf // [N] of the final norm
	out      ops.Buf // [N, C] what the head sees
	y        ops.Buf // [N, C] what o and down add to the residual stream
	nll      ops.Buf // [N]
	amount   ops.Buf // [N] a number for each token, while training only: NEFTune's noise, then the weight of its loss
	loss     ops.Buf // [1] of passes that do not train: HeadLoss adds to it in float32; meanLoss sums nll instead

	// Gradients, while training only: of the residual stream, of a norm's output, and of what lies between.
	dx, dnorm  ops.Buf // [N, C]
	dqkv       ops.Buf // [N, (H+2KV)D]
	dattention ops.Buf // [N, H·D]
	dh         ops.Buf // [N, F]
	dgateUp    ops.Buf // [N, 2F] rounded; absent: it takes the place of gateUp
	dz         ops.Buf // [N, widest linear] what DoRA's backward pass hands on; absent without DoRA
}

// activations of one layer. A trained layer keeps its own for the backward pass, but for what is computed again (see recompute.go);
// otherwise all layers share one set.
type activations struct {
	x         ops.Buf          // [N, C] the residual stream before the layer
	norm1     ops.Buf          // [N, C]; norm1, norm2 and h may be rounded: see seen
	rstd1     ops.Buf          // [N]
	qkv       ops.Buf          // [N, (H+2KV)D], queries and keys rotated
	heads     ops.Buf          // [N, (H+KV)·D] queries and keys before they are normalised; absent in families that do not, and unless trained
	rstdHeads ops.Buf          // [N, H+KV]
	lse       ops.Buf          // [N, H]
	attention ops.Buf          // [N, H·D] what o sees
	mid       ops.Buf          // [N, C] the residual stream after attention
	norm2     ops.Buf          // [N, C]
	rstd2     ops.Buf          // [N]
	gateUp    ops.Buf          // [N, 2F]
	h         ops.Buf          // [N, F] what down sees
	xa        [linears]ops.Buf // [N, Σ ranks] dropout(x) Aᵀ of each linear's adapters
	z         [linears]ops.Buf // [N, its outputs] before DoRA's gain and the bias; absent without DoRA, and unless trained
}

// lay cuts memory into the buffers of a pass and returns how many values it took; with an absent memory it
// only counts.
func (p *plan) lay(m *Model, memory ops.Buf, n int, train bool) int {
	c := m.Config
	cut := aligned{cutter{from: memory}}
	p.N, p.train = n, train
	p.cos, p.sin = cut.cut(n*c.D/2), cut.cut(n*c.D/2)
	if p.layers == nil {
		p.layers = make([]activations, len(m.layers))
	}
	p.x = cut.cut(n * c.C)
	if train {
		p.layTrained(&cut, m, n)
	} else {
		p.layOnce(&cut, m, n)
	}
	p.rstd, p.out, p.y = cut.cut(n), cut.cut(n*c.C), cut.cut(n*c.C)
	p.nll, p.loss = cut.cut(n), cut.cut(1)
	p.dx, p.dnorm, p.dqkv, p.dattention, p.dh = ops.Buf{}, ops.Buf{}, ops.Buf{}, ops.Buf{}, ops.Buf{}
	p.dz, p.amount, p.dgateUp = ops.Buf{}, ops.Buf{}, ops.Buf{}
	if train {
		p.amount = cut.cut(n)
		p.dx, p.dnorm = cut.cut(n*c.C), cut.cut(n*c.C)
		p.dqkv, p.dattention, p.dh = cut.cut(n*c.QKV()), cut.cut(n*c.H*c.D), cut.cut(n*c.F)
		if m.LoRA.DoRA { // whose gain comes before the product
			p.dz = cut.cut(n * max(c.QKV(), c.C, 2*c.F))
		} else {
			p.dgateUp = m.rounded(&cut, m.lowest, linGateUp, n, 2*c.F)
		}
	}
	return cut.at
}

// layOnce lays one set of activations for all layers, for a pass without a backward half. The stream is changed in place.
func (p *plan) layOnce(cut *aligned, m *Model, n int) {
	c := m.Config
	a := activations{x: p.x, mid: p.x}
	a.norm1, a.rstd1 = cut.cut(n*c.C), cut.cut(n)
	a.qkv, a.lse, a.attention = cut.cut(n*c.QKV()), cut.cut(n*c.H), cut.cut(n*c.H*c.D)
	a.norm2, a.rstd2 = cut.cut(n*c.C), cut.cut(n)
	a.gateUp, a.h = cut.cut(n*2*c.F), cut.cut(n*c.F)
	for j := range linears {
		if r := m.widest(j); r > 0 {
			a.xa[j] = cut.cut(n * r)
		}
	}
	for i := range p.layers {
		p.layers[i] = a
	}
}

// seen lays what linear j of layer i multiplies in a training pass, where nothing else sees it: rounded, if that is how the device begins.
// Dropout comes before rounding, so that with it the values must be there as they are.
func (m *Model) seen(cut *aligned, i, j, n int) ops.Buf {
	C := m.layers[i].linears[j].C
	if m.LoRA.Dropout == 0 {
		if b := m.rounded(cut, i, j, n, C); b.Half {
			return b
		}
	}
	return cut.cut(n * C)
}

// rounded lays [n, width] that only products with linear j of layer i see; nothing where those take them as they are.
func (m *Model) rounded(cut *aligned, i, j, n, width int) (b ops.Buf) {
	r, ok := m.dev.(ops.Rounder)
	if !ok {
		return b
	}
	if size := r.Rounded(m.layers[i].linears[j].w, n, width); size > 0 {
		b = cut.cut(size)
		b.Half = true
	}
	return b
}

// layTrained lays the activations of the layers that the backward pass visits. Those below them need nothing later: they
// use the lowest one's buffers, which it overwrites, and change the stream in place.
func (p *plan) layTrained(cut *aligned, m *Model, n int) {
	shared := p.shared(cut, m, n)
	for i := m.lowest; i < len(m.layers); i++ {
		p.layers[i] = p.own(cut, m, &shared, i, n)
	}
	for i := range m.lowest {
		p.layers[i] = p.layers[m.lowest]
		p.layers[i].x, p.layers[i].mid = p.x, p.x
		p.layers[i].xa, p.layers[i].z = [linears]ops.Buf{}, [linears]ops.Buf{}
	}
}

// widest is the largest sum of ranks of linear j of any layer.
func (m *Model) widest(j int) int {
	r := 0
	for _, l := range m.layers {
		r = max(r, l.linears[j].ranks)
	}
	return r
}

// aligned cuts pieces that begin at multiples of 64 bytes, as vector instructions like them.
type aligned struct{ cutter }

func (c *aligned) cut(n int) ops.Buf {
	b := c.cutter.cut(n)
	c.at = (c.at + 15) &^ 15
	return b
}

// ActivationBytes is the memory that a pass over n tokens takes beside weights and gradients.
func (m *Model) ActivationBytes(n int, train bool) int64 {
	var p plan
	return 4*int64(p.lay(m, ops.Buf{}, n, train)) + 4*5*int64(n)
}

// reserve makes the plan for a pass over n tokens.
func (m *Model) reserve(n int, train bool) error {
	p := &m.plan
	if p.N == n && p.train == train {
		return nil
	}
	if size := p.lay(m, ops.Buf{}, n, train); size > p.memory.Len {
		m.dev.Free(p.memory)
		p.memory = ops.Buf{} // first give back, then take: both at once may not fit
		p.memory = m.dev.Alloc(size)
	}
	if 5*n > p.ints.Len {
		m.dev.FreeInts(p.ints)
		p.ints = ops.Ints{}
		p.ints = m.dev.AllocInts(5 * n)
		m.host.grow(n)
	}
	if err := m.dev.Failed(); err != nil {
		p.N = 0
		return err
	}
	p.lay(m, p.memory, n, train)
	for i, ints := range []*ops.Ints{&p.ids, &p.positions, &p.starts, &p.targets, &p.slots} {
		*ints = p.ints.Slice(i*n, (i+1)*n)
	}
	return nil
}

// release gives all memory of passes back.
func (m *Model) release() {
	m.dev.Free(m.plan.memory)
	m.dev.FreeInts(m.plan.ints)
	m.dev.Free(m.host.logitsMemory)
	m.dev.FreeInts(m.host.rowsMemory)
	m.plan, m.host = plan{}, host{}
}

// host holds what goes to the device and comes back from it.
type host struct {
	ids, positions, starts, targets, slots []int32
	nllMemory, nll                         []float32

	logitsMemory ops.Buf
	rowsMemory   ops.Ints
	rows         []int32
	logits       []float32
}

func (h *host) grow(n int) {
	h.ids, h.positions, h.starts = make([]int32, n), make([]int32, n), make([]int32, n)
	h.targets, h.slots = make([]int32, n), make([]int32, n)
	h.nllMemory = make([]float32, n)
}

// begin checks a batch and brings it to the device.
func (m *Model) begin(b Batch, train bool) error {
	if err := b.check(m.Config.V); err != nil {
		return err
	}
	n := b.B * b.T
	if err := m.reserve(n, train); err != nil {
		return err
	}
	h := &m.host
	b.layout(h.positions[:n], h.starts[:n], h.targets[:n])
	m.dev.WriteInts(m.plan.ids, b.IDs)
	m.dev.WriteInts(m.plan.positions, h.positions[:n])
	m.dev.WriteInts(m.plan.starts, h.starts[:n])
	m.dev.WriteInts(m.plan.targets, h.targets[:n])
	if m.Method != Frozen { // the adapters may have changed since
		m.gains()
	}
	return m.dev.Failed()
}
