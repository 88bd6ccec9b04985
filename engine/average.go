package engine

import "lpipe/engine/ops"

// average is an exponential moving average of the trained weights (Polyak and Juditsky 1992, with geometric weights):
//
//	average ← d·average + (1-d)·weight      d = min(decay, (1+t)/(10+t))
//
// after step t, which counts the optimiser's steps from 1. It begins at the weights; the smaller d of the first steps, as
// in TensorFlow's ExponentialMovingAverage, lets it leave them soon. A step that was skipped does not count.
type average struct {
	of    *optimizer
	decay float64
	bufs  []ops.Buf // of each parameter
	spare ops.Buf   // as long as the longest
}

func newAverage(of *optimizer, decay float64) *average {
	a := &average{of: of, decay: decay}
	longest := 0
	for _, p := range of.params {
		b := of.dev.Alloc(p.Weights.Len)
		a.bufs = append(a.bufs, b)
		longest = max(longest, p.Weights.Len)
	}
	a.spare = of.dev.Alloc(longest)
	if of.dev.Err() == nil {
		for i, p := range of.params {
			of.dev.Copy(a.bufs[i], p.Weights, p.Weights.Len)
		}
	}
	return a
}

func (a *average) free() {
	for _, b := range append(a.bufs, a.spare) {
		a.of.dev.Free(b)
	}
}

// update takes in the weights after a step.
func (a *average) update() {
	t := float64(a.of.step)
	d := min(a.decay, (1+t)/(10+t))
	dev := a.of.dev
	for i, p := range a.of.params {
		n := p.Weights.Len
		spare := a.spare.Slice(0, n)
		dev.Copy(spare, p.Weights, n)
		dev.Scale(spare, float32(1-d), n)
		dev.Scale(a.bufs[i], float32(d), n)
		dev.Add(a.bufs[i], a.bufs[i], spare, n)
	}
}

// swap exchanges average and weights; doing it twice changes nothing.
func (a *average) swap() {
	dev := a.of.dev
	for i, p := range a.of.params {
		n := p.Weights.Len
		spare := a.spare.Slice(0, n)
		dev.Copy(spare, p.Weights, n)
		dev.Copy(p.Weights, a.bufs[i], n)
		dev.Copy(a.bufs[i], spare, n)
	}
}

const averagePrefix = "ema."

// parts are the averages with the names that a checkpoint gives them; restore takes them back.
func (a *average) parts() []part {
	var all []part
	for i, p := range a.of.params {
		all = append(all, part{averagePrefix + p.Name, a.bufs[i]})
	}
	return all
}

func (a *average) restore(c *checkpoint) error {
	for i, p := range a.of.params {
		data, err := c.tensor(averagePrefix+p.Name, p.Weights.Len)
		if err != nil {
			return err
		}
		a.of.dev.Write(a.bufs[i], data)
	}
	return a.of.dev.Err()
}

// averaged does work with the averaged weights in place, if there are any.
func (r *run) averaged(work func() error) error {
	if r.average == nil {
		return work()
	}
	r.average.swap()
	defer r.average.swap()
	return work()
}
