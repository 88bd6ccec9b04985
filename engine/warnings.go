package engine

import (
	"slices"
	"strings"
)

// spikeWindow is how many losses a new one is compared with, and the steps between two warnings.
const spikeWindow = 20

// warn says when a step's loss stands far above those before it. It changes nothing: clipping bounds what one step can do.
func (r *run) warn(step int, loss float64) {
	var before []float64
	for i := len(r.Curve) - 2; i >= 0 && len(before) < spikeWindow; i-- { // the last point is the step's own
		if l := r.Curve[i].Loss; l != nil {
			before = append(before, *l)
		}
	}
	if len(before) < spikeWindow || step-r.warned < spikeWindow {
		return
	}
	slices.Sort(before)
	usual, high := before[len(before)/2], before[len(before)-1]
	if loss > 2*usual && loss > high+0.5 {
		r.warned = step
		r.logf("step %d: the loss jumped to %.4g; it was about %.4g in the %d steps before: look at its rows, or lower lr", step, loss, usual, spikeWindow)
	}
}

// warnDead says which adapters training has not moved: a B that is still zero adds nothing.
func (r *run) warnDead() {
	dead, all := 0, 0
	example := ""
	for _, p := range r.model.Parameters() {
		if !strings.HasSuffix(p.Name, ".lora_B.weight") {
			continue
		}
		all++
		values := make([]float32, p.Weights.Len)
		r.dev.Read(values, p.Weights)
		if !slices.ContainsFunc(values, func(v float32) bool { return v != 0 }) {
			dead, example = dead+1, p.Name
		}
	}
	if dead > 0 {
		r.logf("%d of %d adapters are as they began and add nothing, %s among them: raise lr or steps, or look at targets", dead, all, example)
	}
}
