package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// Optimizer are the optimiser's settings.
type Optimizer struct {
	Kind              string  // "adamw", the same as "", or "lion"
	Beta1, Beta2, Eps float64 // Lion has no Eps
	Decay             float64 // weight_decay; biases and norms are spared, A and B of an adapter decay alike, as with PEFT
	Clip              float64 // largest global norm of the gradient; 0: no clipping
}

// optimizer holds the moments of all trained tensors.
type optimizer struct {
	Optimizer
	dev    ops.Device
	params []model.Parameter
	rates  []float64 // of each parameter, relative to the schedule's
	m, v   []ops.Buf // v is empty for Lion
	step   int       // steps made
	model  *model.Model
}

// newOptimizer makes an optimiser of all that m trains. plus is LoRA+'s ratio of the rates of B and A (Hayou et al.
// 2024, arXiv 2402.12354); 0: none. DoRA's magnitudes learn as B does, as in PEFT's create_loraplus_optimizer.
func newOptimizer(m *model.Model, settings Optimizer, plus float64) *optimizer {
	dev := m.Device()
	o := &optimizer{Optimizer: settings, dev: dev, params: m.Parameters(), model: m}
	for _, p := range o.params {
		rate := 1.0
		if plus > 0 && (strings.HasSuffix(p.Name, ".lora_B.weight") || len(p.Shape) == 1) {
			rate = plus
		}
		o.rates = append(o.rates, rate)
		o.m = append(o.m, dev.Alloc(p.Weights.Len))
		if !o.lion() {
			o.v = append(o.v, dev.Alloc(p.Weights.Len))
		}
	}
	return o
}

func (o *optimizer) lion() bool { return o.Kind == "lion" }

// check says which setting makes no sense.
func (o Optimizer) check() error {
	switch {
	case o.Kind != "" && o.Kind != "adamw" && o.Kind != "lion":
		return fmt.Errorf("optimizer: %q is neither adamw nor lion", o.Kind)
	case !(o.Beta1 >= 0 && o.Beta1 < 1) || !(o.Beta2 >= 0 && o.Beta2 < 1):
		return errors.New("optimizer: beta1 and beta2 must be from 0 to below 1")
	case o.Kind != "lion" && !(o.Eps > 0):
		return errors.New("optimizer: eps must be above 0")
	}
	return nil
}

// free gives the moments back.
func (o *optimizer) free() {
	for _, b := range slices.Concat(o.m, o.v) {
		o.dev.Free(b)
	}
}

// apply queues a step of the given rate, with the gradients clipped to a global norm as torch's clip_grad_norm_ does. Where
// the loss or the norm is no finite number it changes nothing: the device sees to that, so that the host need not wait.
// outcome must follow before the next step.
func (o *optimizer) apply(rate float64) {
	sums, grad := o.model.StepSums(), o.model.Gradients()
	o.dev.SumSquares(sums.Squares, grad, grad.Len)
	o.dev.ClipFactor(sums.Factor, sums.Loss, sums.Squares, o.Clip)
	o.step++
	for i, p := range o.params {
		decay := o.Decay
		if !p.Decay {
			decay = 0
		}
		if o.lion() {
			o.dev.Lion(p.Weights, o.m[i], p.Grad, ops.Lion{
				LR: rate * o.rates[i], Beta1: o.Beta1, Beta2: o.Beta2, Decay: decay, GradScale: 1, Factor: sums.Factor,
			}, p.Weights.Len)
			continue
		}
		o.dev.AdamW(p.Weights, o.m[i], o.v[i], p.Grad, ops.AdamW{
			LR: rate * o.rates[i], Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Decay: decay,
			GradScale: 1, Factor: sums.Factor, Step: o.step,
		}, p.Weights.Len)
	}
}

// outcome returns the gradient's norm before clipping, and whether the step that apply queued changed anything.
func (o *optimizer) outcome(s model.Settled) (norm float64, made bool) {
	made = finite(float64(s.Factor))
	if !made {
		o.step--
	}
	return math.Sqrt(float64(s.Squares)), made
}

// part is one of the buffers that a checkpoint holds of a parameter, under the name of torch's optimisers.
type part struct {
	name string
	buf  ops.Buf
}

// parts are weights and moments, for a checkpoint.
func (o *optimizer) parts() []part {
	var all []part
	for i, p := range o.params {
		all = append(all, part{"weight." + p.Name, p.Weights}, part{"exp_avg." + p.Name, o.m[i]})
		if !o.lion() {
			all = append(all, part{"exp_avg_sq." + p.Name, o.v[i]})
		}
	}
	return all
}

// restore takes them back; made counts the steps that were not skipped.
func (o *optimizer) restore(c *checkpoint, made int) error {
	for _, part := range o.parts() {
		data, err := c.tensor(part.name, part.buf.Len)
		if err != nil {
			return err
		}
		o.dev.Write(part.buf, data)
	}
	o.step = made
	return o.dev.Err()
}

// weights copies the trained weights to the host, writeWeights puts such a copy back.
func (o *optimizer) weights() [][]float32 {
	all := make([][]float32, len(o.params))
	for i, p := range o.params {
		all[i] = make([]float32, p.Weights.Len)
		o.dev.Read(all[i], p.Weights)
	}
	return all
}

func (o *optimizer) writeWeights(all [][]float32) {
	for i, p := range o.params {
		o.dev.Write(p.Weights, all[i])
	}
}
