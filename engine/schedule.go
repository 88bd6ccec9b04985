package engine

import (
	"fmt"
	"math"
)

// Schedule is the learning rate as a function of the optimiser step. It is that of transformers'
// get_constant_schedule_with_warmup, get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup and
// get_cosine_with_min_lr_schedule_with_warmup: with a warm-up the first step's rate is 0.
type Schedule struct {
	Kind   string  // "constant", "linear" or "cosine"
	Rate   float64 // the highest rate
	Min    float64 // the rate at the end of "linear" and "cosine"
	Warmup int     // steps from 0 to Rate
	Steps  int     // all steps, warm-up included
}

// Check says which field makes no sense.
func (s Schedule) Check() error {
	switch s.Kind {
	case "constant", "linear", "cosine":
	default:
		return fmt.Errorf("schedule: %q is none of constant, linear, cosine", s.Kind)
	}
	switch {
	case !(s.Rate > 0) || math.IsInf(s.Rate, 0):
		return fmt.Errorf("lr: must be above 0, not %v", s.Rate)
	case !(s.Min >= 0) || s.Min > s.Rate:
		return fmt.Errorf("lr_min: must be between 0 and lr (%v), not %v", s.Rate, s.Min)
	case s.Warmup < 0:
		return fmt.Errorf("warmup: must not be negative")
	}
	return nil
}

// At returns the rate of optimiser step n, counted from 1.
func (s Schedule) At(n int) float64 {
	return s.Rate * s.factor(n-1)
}

// factor is what transformers' LambdaLR multiplies the rate with after `done` steps.
func (s Schedule) factor(done int) float64 {
	if done < s.Warmup {
		return float64(done) / float64(max(1, s.Warmup))
	}
	low := s.Min / s.Rate
	length := float64(max(1, s.Steps-s.Warmup))
	switch s.Kind {
	case "linear":
		return low + (1-low)*math.Max(0, float64(s.Steps-done)/length)
	case "cosine":
		progress := float64(done-s.Warmup) / length
		return low + (1-low)*math.Max(0, 0.5*(1+math.Cos(math.Pi*progress)))
	}
	return 1
}

// Amount resolves a share or count: below 1 it is a share of all steps, from 1 a number of steps. Shares round up,
// as transformers' warmup_ratio does.
func Amount(v float64, steps int) int {
	if v < 1 {
		return int(math.Ceil(v * float64(steps)))
	}
	return int(v)
}
