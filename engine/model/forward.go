package model

import (
	"math"

	"lpipe/engine/ops"
)

// forward computes what the output head sees from the tokens that begin or feed brought to the device. With
// a cache, tokens go on from what their slots hold; without, documents stand whole in the batch.
func (m *Model) forward(cache *Cache) {
	d, c, p := m.dev, m.Config, &m.plan
	d.Embedding(p.layers[0].x, m.embed, p.ids, p.N, c.C)
	if m.noisy {
		d.Noise(p.layers[0].x, p.amount, m.noiseSeed, p.N, c.C)
	}
	d.RoPETable(p.cos, p.sin, m.freq, p.positions, p.N, c.D)
	for i := range m.layers {
		m.forwardAttention(i, cache)
		m.forwardMLP(i)
	}
	d.RMSNorm(p.out, p.rstd, p.x, m.norm, c.Eps, p.N, c.C)
}

// forwardAttention: mid = x + o(attention(rope(qkv(norm(x))))), with heads normalised before rope in some families.
func (m *Model) forwardAttention(i int, cache *Cache) {
	d, c, p := m.dev, m.Config, &m.plan
	l, a := &m.layers[i], &p.layers[i]
	d.RMSNorm(a.norm1, a.rstd1, a.x, l.norm1, c.Eps, p.N, c.C)
	m.forwardLinear(i, linQKV, a.qkv, a.norm1)
	if l.normQ.Present() {
		d.QKNorm(a.heads, a.rstdHeads, a.qkv, l.normQ, l.normK, c.Eps, p.N, c.H, c.KV, c.D)
	}
	d.RoPE(a.qkv, p.cos, p.sin, p.N, c.H, c.KV, c.D)
	if cache != nil {
		d.CacheStore(cache.layers[i], a.qkv, p.slots, p.positions, cache.Length, p.N, c.H, c.KV, c.D)
	}
	if cache == nil || cache.fresh {
		d.Attention(a.attention, a.lse, a.qkv, p.starts, m.attentionScale(), p.N, c.H, c.KV, c.D)
	} else {
		d.AttentionCached(a.attention, a.qkv, cache.layers[i], p.slots, p.positions, m.attentionScale(), cache.Length, p.N, c.H, c.KV, c.D)
	}
	m.forwardLinear(i, linO, p.y, a.attention)
	d.Add(a.mid, a.x, p.y, p.N*c.C)
}

// forwardMLP: the next layer's x = mid + down(swiglu(gateUp(norm(mid)))).
func (m *Model) forwardMLP(i int) {
	d, c, p := m.dev, m.Config, &m.plan
	l, a := &m.layers[i], &p.layers[i]
	d.RMSNorm(a.norm2, a.rstd2, a.mid, l.norm2, c.Eps, p.N, c.C)
	m.forwardLinear(i, linGateUp, a.gateUp, a.norm2)
	d.SwiGLU(a.h, a.gateUp, p.N, c.F)
	m.forwardLinear(i, linDown, p.y, a.h)
	d.Add(m.after(i), a.mid, p.y, p.N*c.C)
}

// after is the residual stream behind layer i.
func (m *Model) after(i int) ops.Buf {
	if i+1 < len(m.layers) {
		return m.plan.layers[i+1].x
	}
	return m.plan.x
}

// forwardLinear: y = x Wᵀ + bias, and the adapters' part. With DoRA: z = x Wᵀ and the adapters' part, y = gain·z + bias.
func (m *Model) forwardLinear(i, j int, y, x ops.Buf) {
	l := &m.layers[i].linears[j]
	if m.bare {
		m.dev.Linear(y, ops.Buf{}, x, l.w, l.bias, nil, m.plan.N, l.C, l.F)
		return
	}
	if l.gain.Present() {
		z := m.plan.layers[i].z[j]
		if !z.Present() {
			z = y
		}
		m.dev.Linear(z, m.plan.layers[i].xa[j], x, l.w, ops.Buf{}, l.lora, m.plan.N, l.C, l.F)
		m.dev.DoRA(y, z, l.gain, l.bias, m.plan.N, l.F)
		return
	}
	m.dev.Linear(y, m.plan.layers[i].xa[j], x, l.w, l.bias, l.lora, m.plan.N, l.C, l.F)
}

// setNoise brings to the device how much noise each token gets: less in a longer document, as in the paper
// (arXiv 2310.05914, algorithm 1), where a row is one document.
func (m *Model) setNoise(b Batch) {
	amount, starts := m.host.nllMemory[:m.plan.N], m.host.starts[:m.plan.N]
	for from := 0; from < len(amount); {
		to := from + 1
		for to < len(amount) && starts[to] == starts[from] {
			to++
		}
		for i := from; i < to; i++ {
			amount[i] = float32(m.NEFTune / math.Sqrt(float64((to-from)*m.Config.C)))
		}
		from = to
	}
	m.dev.Write(m.plan.amount, amount)
	m.noiseSeed = mix(b.Seed ^ hash("neftune"))
}

// loss computes the losses of the batch's targets and, for training, the gradient of what the head saw.
func (m *Model) loss(nll ops.Buf, scale float32, train bool) {
	c, p := m.Config, &m.plan
	sum := p.loss
	var dnorm, dhead ops.Buf
	if train {
		sum, dnorm, dhead = m.StepSums().Loss, p.dnorm, m.dhead
	}
	m.dev.HeadLoss(sum, nll, dnorm, dhead, p.out, m.head, p.targets, scale, p.N, c.C, c.V)
}

func (m *Model) attentionScale() float32 {
	return float32(1 / math.Sqrt(float64(m.Config.D)))
}
