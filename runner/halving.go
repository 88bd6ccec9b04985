package runner

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Halving stops an experiment's hopeless instances early: at each rung those go on whose metric is among the best, the others
// stop (successive halving: Jamieson and Talwalkar 2016, arXiv:1502.07943, algorithm 1). What goes on does so from its
// checkpoint, under the key it has without halving.
type Halving struct {
	Metric string    `json:"metric"` // "STAGE.NAME": a number that the stage reports while it runs, or writes into a file of `plots`
	Goal   string    `json:"goal"`   // "max" or "min"
	Rungs  []float64 `json:"rungs"`  // rising: all below 1, shares of all steps; or all from 1, numbers of steps
	Keep   float64   `json:"keep"`   // the share of instances that goes on from each rung
}

// stage is the stage that is stopped at rungs; the rest of the metric is the number's name.
func (h *Halving) split() (stage, number string) {
	stage, number, _ = strings.Cut(h.Metric, ".")
	return stage, number
}

// step is the step of a rung; total is how many the run has. The rounding is that of the trainer's eval_every.
func (h *Halving) step(rung int, total float64) float64 {
	if at := h.Rungs[rung]; at >= 1 {
		return at
	}
	return math.Ceil(h.Rungs[rung] * total)
}

// contender is an instance at a rung.
type contender struct {
	name  string
	key   string   // of the stage that is measured; equal keys share their fate
	value *float64 // nil: it is no number, or there was none
}

// goOn names the contenders that go on from a rung, of which entered, those that failed since among them, came to it.
// Equal values count in the order of the contenders. One without a number never goes on; where none has one, nothing can be
// told and all do, which is not decided.
func (h *Halving) goOn(entered int, contenders []contender) (on map[string]bool, decided bool) {
	ranked := slices.DeleteFunc(slices.Clone(contenders), func(c contender) bool { return c.value == nil })
	on = map[string]bool{}
	if len(ranked) == 0 {
		for _, c := range contenders {
			on[c.name] = true
		}
		return on, false
	}
	slices.SortStableFunc(ranked, func(a, b contender) int {
		if h.Goal == "min" {
			return cmp.Compare(*a.value, *b.value)
		}
		return cmp.Compare(*b.value, *a.value)
	})
	const rounding = 1e-9 // a third of nine is three
	kept := ranked[:min(len(ranked), max(1, int(math.Ceil(float64(entered)*h.Keep-rounding))))]
	for _, c := range contenders {
		on[c.name] = slices.ContainsFunc(kept, func(k contender) bool { return k.name == c.name || k.key == c.key && c.key != "" })
	}
	return on, true
}
