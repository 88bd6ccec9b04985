package engine

import (
	"fmt"
	"math"

	"lpipe/engine/ops"
)

// Param is one trained tensor: its weight and gradient on the device.
type Param struct {
	Name string // as in the file it is saved to
	W, G ops.Buf
	Rate float64 // multiplies the learning rate; 0 means 1
}

// AdamW are the optimiser's settings.
type AdamW struct {
	Beta1, Beta2, Eps float64
	Decay             float64 // weight_decay; A and B of an adapter decay alike, as in PEFT
	Clip              float64 // largest global norm of the gradient; 0: no clipping
}

// optimizer holds the moments of all trained tensors.
type optimizer struct {
	AdamW
	dev    ops.Device
	params []Param
	m, v   []ops.Buf
	sum    ops.Buf
	step   int // steps made
}

func newOptimizer(dev ops.Device, params []Param, settings AdamW) *optimizer {
	o := &optimizer{AdamW: settings, dev: dev, params: params, sum: dev.Alloc(1)}
	for _, p := range params {
		o.m = append(o.m, dev.Alloc(p.W.Len))
		o.v = append(o.v, dev.Alloc(p.W.Len))
	}
	return o
}

// zero clears the gradients.
func (o *optimizer) zero() {
	for _, p := range o.params {
		o.dev.Zero(p.G)
	}
}

// apply clips the gradients to a global norm as torch's clip_grad_norm_ does, makes a step of the given rate and
// returns the norm before clipping. A norm that is not a number changes nothing.
func (o *optimizer) apply(rate float64) (norm float64, err error) {
	o.dev.Zero(o.sum)
	for _, p := range o.params {
		o.dev.SumSquares(o.sum, p.G, p.G.Len)
	}
	var squares [1]float32
	o.dev.Read(squares[:], o.sum)
	if err := o.dev.Err(); err != nil {
		return 0, fmt.Errorf("gradient norm: %w", err)
	}
	norm = math.Sqrt(float64(squares[0]))
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, nil
	}
	scale := 1.0
	if o.Clip > 0 {
		scale = min(1, o.Clip/(norm+1e-6))
	}
	o.step++
	for i, p := range o.params {
		lr := rate
		if p.Rate != 0 {
			lr *= p.Rate
		}
		o.dev.AdamW(p.W, o.m[i], o.v[i], p.G, ops.AdamW{
			LR: lr, Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Decay: o.Decay,
			GradScale: scale, Step: o.step,
		}, p.W.Len)
	}
	return norm, nil
}

// tensors returns a copy of weights and moments, for a checkpoint.
func (o *optimizer) tensors() []namedTensor {
	var all []namedTensor
	for i, p := range o.params {
		all = append(all,
			o.read("weight."+p.Name, p.W), o.read("exp_avg."+p.Name, o.m[i]), o.read("exp_avg_sq."+p.Name, o.v[i]))
	}
	return all
}

func (o *optimizer) read(name string, b ops.Buf) namedTensor {
	data := make([]float32, b.Len)
	o.dev.Read(data, b)
	return namedTensor{name, b.Len, data}
}

// restore is the opposite of tensors.
func (o *optimizer) restore(c *checkpoint) error {
	for i, p := range o.params {
		for _, part := range []struct {
			prefix string
			to     ops.Buf
		}{{"weight.", p.W}, {"exp_avg.", o.m[i]}, {"exp_avg_sq.", o.v[i]}} {
			data, err := c.tensor(part.prefix+p.Name, p.W.Len)
			if err != nil {
				return err
			}
			o.dev.Write(part.to, data)
		}
	}
	o.step = c.Step
	return o.dev.Err()
}

// weights copies the trained weights to the host, writeWeights puts such a copy back.
func (o *optimizer) weights() [][]float32 {
	all := make([][]float32, len(o.params))
	for i, p := range o.params {
		all[i] = make([]float32, p.W.Len)
		o.dev.Read(all[i], p.W)
	}
	return all
}

func (o *optimizer) writeWeights(all [][]float32) {
	for i, p := range o.params {
		o.dev.Write(p.W, all[i])
	}
}
