package model

// allocateGains makes room for gains and norms of every linear with an adapter.
func (m *Model) allocateGains() {
	size := 0
	m.eachAdapted(func(l *linear) { size += 2 * l.F })
	m.gainMemory = m.dev.Alloc(size)
	if m.dev.Err() != nil {
		return
	}
	cut := cutter{from: m.gainMemory}
	m.eachAdapted(func(l *linear) { l.gain, l.norms = cut.cut(l.F), cut.cut(l.F) })
}

// eachAdapted visits the linears that have adapters.
func (m *Model) eachAdapted(visit func(*linear)) {
	for i := range m.layers {
		for j := range m.layers[i].linears {
			if l := &m.layers[i].linears[j]; len(l.lora) > 0 {
				visit(l)
			}
		}
	}
}

// gains brings DoRA's norms and gains up to date with the adapters' weights.
func (m *Model) gains() {
	if m.LoRA.DoRA {
		m.eachAdapted(func(l *linear) { m.dev.DoRAGain(l.gain, l.norms, l.w, l.lora, l.C, l.F) })
	}
}

// measure sets every magnitude to the present length of its row, so that training begins at the base model.
func (m *Model) measure() {
	m.gains()
	for _, a := range m.adapters {
		l := &m.layers[a.layer].linears[a.linear]
		m.dev.Copy(a.m, l.norms.Slice(a.from, a.from+a.out), a.out)
	}
	m.gains()
}
