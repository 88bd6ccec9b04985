package model

import "lpipe/engine/ops"

// backward is forward from the bottom up. p.dnorm holds the gradient of what the head saw, from loss; p.dx is the
// gradient of the residual stream all the way, to which each norm adds its part.
func (m *Model) backward() {
	d, c, p := m.dev, m.Config, &m.plan
	d.Zero(p.dx)
	d.RMSNormBackward(p.dx, m.dnorm, p.dnorm, p.x, m.norm, p.rstd, p.N, c.C)
	for i := len(m.layers) - 1; i >= m.lowest; i-- {
		m.again(i)
		if !m.backwardMLP(i) || !m.backwardAttention(i) {
			return
		}
	}
	if m.dembed.Present() {
		d.EmbeddingBackward(m.dembed, p.dx, p.ids, p.N, c.C)
	}
}

// backwardMLP adds to p.dx. It returns false where nothing below is trained.
func (m *Model) backwardMLP(i int) bool {
	d, c, p := m.dev, m.Config, &m.plan
	l, a := &m.layers[i], &p.layers[i]
	if !m.backwardLinear(i, linDown, p.dh, p.dx, a.h) {
		return false
	}
	dgateUp := a.gateUp
	if p.dgateUp.Present() {
		dgateUp = p.dgateUp
	}
	d.SwiGLUBackward(dgateUp, p.dh, a.gateUp, p.N, c.F)
	if !m.backwardLinear(i, linGateUp, p.dnorm, dgateUp, a.norm2) {
		return false
	}
	d.RMSNormBackward(p.dx, l.dnorm2, p.dnorm, a.mid, l.norm2, a.rstd2, p.N, c.C)
	return true
}

// backwardAttention adds to p.dx. It returns false where nothing below is trained.
func (m *Model) backwardAttention(i int) bool {
	d, c, p := m.dev, m.Config, &m.plan
	l, a := &m.layers[i], &p.layers[i]
	if !m.backwardLinear(i, linO, p.dattention, p.dx, a.attention) {
		return false
	}
	d.AttentionBackward(p.dqkv, p.dattention, a.attention, a.lse, a.qkv, p.starts, m.attentionScale(), p.N, c.H, c.KV, c.D)
	d.RoPEBackward(p.dqkv, p.cos, p.sin, p.N, c.H, c.KV, c.D)
	if l.normQ.Present() {
		d.QKNormBackward(p.dqkv, l.dnormQ, l.dnormK, a.heads, a.rstdHeads, l.normQ, l.normK, p.N, c.H, c.KV, c.D)
	}
	if !m.backwardLinear(i, linQKV, p.dnorm, p.dqkv, a.norm1) {
		return false
	}
	d.RMSNormBackward(p.dx, l.dnorm1, p.dnorm, a.x, l.norm1, a.rstd1, p.N, c.C)
	return true
}

// backwardLinear sets dx and adds to the gradients of adapters or weights. At the lowest trained linear it leaves dx out
// and returns false: no gradient is wanted further down.
func (m *Model) backwardLinear(i, j int, dx, dy, x ops.Buf) bool {
	l, n := &m.layers[i].linears[j], m.plan.N
	lowest := m.Method == TrainLoRA && i == m.lowest && j == m.lowestLinear
	if lowest {
		dx = ops.Buf{}
	}
	if l.gain.Present() {
		m.dev.DoRABackward(m.plan.dz, dy, m.plan.layers[i].z[j], l.gain, l.norms, l.lora, n, l.F)
		dy = m.plan.dz
	}
	m.dev.LinearBackward(dx, dy, x, m.plan.layers[i].xa[j], l.w, l.lora, false, n, l.C, l.F)
	if l.dw.Present() {
		m.dev.LinearWeightBackward(l.dw, l.db, dy, x, n, l.C, l.F)
	}
	return !lowest
}
