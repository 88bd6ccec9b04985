package model

import (
	"lpipe/engine/ops"
)

// Memory is what training a model takes on a device, in bytes, known before anything is loaded.
type Memory struct {
	Parameters  int64 `json:"parameters"` // of the base model
	Trained     int64 `json:"trained"`    // numbers that are trained
	Weights     int64 `json:"weights_bytes"`
	Adapter     int64 `json:"adapter_bytes"`
	Gradients   int64 `json:"gradients_bytes"`
	Activations int64 `json:"activations_bytes"` // of one pass
}

// Measure says what a model of shape c would take with options o, and a training pass over n tokens with it. It makes the
// same allocations as Load and Step, on a device that only counts them.
func Measure(c Config, o Options, n int) (Memory, error) {
	dev := &counter{}
	m := &Model{Config: c, Method: o.Method, dev: dev}
	if o.Method == TrainFull {
		o.Weights = ops.F32
	}
	linear, err := m.linearType(o)
	if err != nil {
		return Memory{}, err
	}
	m.allocate(o.Weights, linear)
	gradients := 4 * int64(m.gradients.Len)
	r := Memory{Parameters: c.Parameters(), Weights: dev.bytes - gradients}
	if o.Method == TrainLoRA {
		names, err := o.LoRA.Modules(c)
		if err != nil {
			return Memory{}, err
		}
		rank := map[string]int{}
		for _, name := range names {
			rank[name] = o.LoRA.rank(name)
		}
		m.attach(o.LoRA, rank, true)
		gradients = 4 * int64(m.gradients.Len)
		r.Adapter = dev.bytes - r.Weights - gradients
	}
	r.Gradients, r.Trained = gradients, gradients/4
	r.Activations = m.ActivationBytes(n, true)
	return r, nil
}

// counter is a device without memory. It has what building a model calls.
type counter struct {
	ops.Device
	bytes  int64
	blocks int32
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
	case t == ops.BF16:
		d.bytes += 2 * n
	case t.Is4Bit():
		d.bytes += (n+1)/2 + 4*((n+63)/64)
	}
	return w
}

func (d *counter) Write(ops.Buf, []float32) {}
func (d *counter) Err() error               { return nil }
