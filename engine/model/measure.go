package model

import (
	"lpipe/engine/ops"
)

// Memory is what training a model takes on a device, in bytes, known before anything is loaded.
type Memory struct {
	Parameters int64 `json:"parameters"` // of the base model
	Trained    int64 `json:"trained"`    // numbers that are trained
	Weights    int64 `json:"weights_bytes"`
	Adapter    int64 `json:"adapter_bytes"`
	Gradients  int64 `json:"gradients_bytes"`
}

// Outline makes the same allocations as Load, for a model of shape c with options o, on a device that only counts them. The
// model that it returns can tell what passes on that device take (ActivationBytes, Fit) and nothing else.
func Outline(c Config, o Options, on ops.Device) (*Model, Memory, error) {
	dev := &counter{}
	dev.rounder, _ = on.(ops.Rounder)
	m := &Model{Config: c, Method: o.Method, dev: dev}
	if err := m.outline(o); err != nil {
		return nil, Memory{}, err
	}
	r := Memory{Parameters: c.Parameters(), Gradients: 4 * int64(m.gradients.Len), Trained: int64(m.gradients.Len)}
	r.Adapter = 4 * int64(m.adapterMemory.Len+m.gainMemory.Len)
	r.Weights = dev.bytes - r.Gradients - r.Adapter
	return m, r, nil
}

// Largest is the number of values of the largest trained tensor.
func (m *Model) Largest() int {
	n := 0
	for _, p := range m.trained {
		n = max(n, p.Weights.Len)
	}
	return n
}

// Rehearse says what scratch memory dev would take for a training pass over n tokens of such a model, and what the model itself;
// 0 where it cannot tell.
func Rehearse(c Config, o Options, dev ops.Device, n int) (stored, scratch int64, err error) {
	if _, ok := dev.(ops.Rehearser); !ok {
		return 0, 0, nil
	}
	d, outlines := dev.(ops.Outliner)
	if outlines { // not even what is computed again would fit in dev, perhaps
		dev = d.Outline()
		defer dev.Close()
	}
	m := &Model{Config: c, Method: o.Method, dev: dev}
	defer m.Free()
	if err := m.outline(o); err != nil {
		return 0, 0, err
	}
	if outlines {
		stored = dev.Info().Bytes
	}
	scratch, err = m.Prepare(n)
	return stored, scratch, err
}

// outline is build without values.
func (m *Model) outline(o Options) error {
	if err := o.fits(m.Config); err != nil {
		return err
	}
	if o.Method == TrainFull {
		o.Weights = ops.F32
	}
	linear, err := m.linearType(o)
	if err != nil {
		return err
	}
	m.allocate(o.Weights, linear)
	if o.Method == TrainLoRA && m.dev.Err() == nil {
		rank, err := o.LoRA.ranks(m.Config)
		if err != nil {
			return err
		}
		m.attach(o.LoRA, rank, true)
	}
	if err := m.dev.Err(); err != nil {
		return err
	}
	m.list()
	return nil
}

// counter is a device without memory. It has what building a model calls.
type counter struct {
	ops.Device
	bytes   int64
	blocks  int32
	rounder ops.Rounder // nil: nothing is rounded
}

// Rounded is what the device says for which memory is counted.
func (d *counter) Rounded(w ops.Weight, N, C int) int {
	if d.rounder == nil {
		return 0
	}
	return d.rounder.Rounded(w, N, C)
}

func (d *counter) next() int32 {
	d.blocks++
	return d.blocks
}

func (d *counter) Alloc(n int) ops.Buf {
	d.bytes += 4 * int64(n)
	return ops.Buf{Block: d.next(), Len: n}
}

func (d *counter) AllocWeight(t ops.Type, rows, cols int) ops.Weight {
	w := ops.Weight{Type: t, Rows: rows, Cols: cols, Block: d.next()}
	n := int64(rows) * int64(cols)
	switch {
	case t == ops.F32:
		w.Values = d.Alloc(rows * cols)
	case t == ops.BF16 || t == ops.BF16Exact:
		d.bytes += 2 * n
	case t.Is4Bit():
		d.bytes += (n+1)/2 + 4*((n+63)/64)
	}
	return w
}

func (d *counter) Info() ops.Info           { return ops.Info{} }
func (d *counter) Write(ops.Buf, []float32) {}
func (d *counter) Err() error               { return nil }
func (d *counter) Failed() error            { return nil }
