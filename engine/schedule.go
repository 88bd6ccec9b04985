package engine

import (
	"fmt"
	"math"
)

// Schedule is the learning rate as a function of the optimiser step. It is that of transformers'
// get_constant_schedule_with_warmup, get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup,
// get_cosine_with_min_lr_schedule_with_warmup, get_wsd_schedule and get_inverse_sqrt_schedule: with a warm-up the
// first step's rate is 0.
type Schedule struct {
	Kind   string  // "constant", "linear", "cosine", "wsd" (warm-up, stable, decay) or "inverse_sqrt"
	Rate   float64 // the highest rate
	Min    float64 // the rate at the end of "linear", "cosine" and "wsd"
	Warmup int     // steps from 0 to Rate
	Decay  int     // steps of the half cosine to Min that ends "wsd"
	Steps  int     // all steps, warm-up included
}

// Check says which field makes no sense.
func (s Schedule) Check() error {
	switch s.Kind {
	case "constant", "linear", "cosine", "wsd", "inverse_sqrt":
	default:
		return fmt.Errorf("schedule: %q is none of constant, linear, cosine, wsd, inverse_sqrt", s.Kind)
	}
	switch {
	case !(s.Rate > 0) || math.IsInf(s.Rate, 0):
		return fmt.Errorf("lr: must be above 0, not %v", s.Rate)
	case !(s.Min >= 0) || s.Min > s.Rate:
		return fmt.Errorf("lr_min: must be between 0 and lr (%v), not %v", s.Rate, s.Min)
	case s.Warmup < 0:
		return fmt.Errorf("warmup: must not be negative")
	case s.Decay < 0:
		return fmt.Errorf("decay: must not be negative")
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
	case "wsd":
		into := done - max(s.Warmup, s.Steps-s.Decay) // steps of the decay that are made
		switch {
		case into < 0:
			return 1
		case done >= s.Steps:
			return low
		}
		progress := float64(into) / float64(max(1, s.Decay))
		return low + (1-low)*0.5*(1+math.Cos(math.Pi*progress))
	case "inverse_sqrt":
		scale := float64(s.Warmup)
		if s.Warmup == 0 {
			scale = inverseSqrtScale
		}
		return 1 / math.Sqrt((float64(done-s.Warmup)+scale)/scale)
	}
	return 1
}

// inverseSqrtScale is the number of steps in which "inverse_sqrt" falls to 1/√2 when there is no warm-up.
const inverseSqrtScale = 10_000

// Amount resolves a share or count: below 1 it is a share of all steps, from 1 a number of steps. Shares round up,
// as transformers' warmup_ratio does.
func Amount(v float64, steps int) int {
	if v < 1 {
		return int(math.Ceil(v * float64(steps)))
	}
	return int(v)
}
