package engine

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// readCase decodes a fixture's case.json.
func readCase(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// TestSchedules compares with the factors that transformers' schedulers gave, beyond the schedule's end too.
func TestSchedules(t *testing.T) {
	var fixture struct{ Factors map[string][]float64 }
	readCase(t, "schedules", &fixture)
	for name, s := range map[string]Schedule{
		"constant":             {Kind: "constant"},
		"constant_with_warmup": {Kind: "constant", Warmup: 5},
		"linear":               {Kind: "linear", Warmup: 5},
		"cosine":               {Kind: "cosine", Warmup: 5},
		"cosine_no_warmup":     {Kind: "cosine"},
		"cosine_with_min_lr":   {Kind: "cosine", Warmup: 5, Min: 0.1},
		"warmup_stable_decay":  {Kind: "wsd", Warmup: 5, Decay: 10},
	} {
		s.Rate, s.Steps = 1, 40
		want := fixture.Factors[name]
		if len(want) == 0 {
			t.Fatalf("%s: not in the fixture", name)
		}
		for i, w := range want {
			if got := s.At(i + 1); math.Abs(got-w) > 1e-15+1e-12*math.Abs(w) {
				t.Errorf("%s, step %d: %v, transformers has %v", name, i+1, got, w)
			}
		}
	}
}

// TestInverseSqrt: transformers' get_inverse_sqrt_schedule, whose timescale is the warm-up, or 10,000 without one.
func TestInverseSqrt(t *testing.T) {
	for _, c := range []struct {
		warmup, step int
		want         float64
	}{{5, 1, 0}, {5, 3, 0.4}, {5, 6, 1}, {5, 21, 0.5}, {0, 1, 1}, {0, 10_001, math.Sqrt(0.5)}, {0, 30_001, 0.5}} {
		if got := (Schedule{Kind: "inverse_sqrt", Rate: 2, Warmup: c.warmup}).At(c.step); math.Abs(got-2*c.want) > 1e-12 {
			t.Errorf("warm-up %d, step %d: %v, want %v", c.warmup, c.step, got, 2*c.want)
		}
	}
}

// TestWSDLowest: the decay ends at lr_min, and one longer than the run begins after the warm-up.
func TestWSDLowest(t *testing.T) {
	s := Schedule{Kind: "wsd", Rate: 1, Min: 0.25, Warmup: 2, Decay: 4, Steps: 10}
	for step, want := range map[int]float64{1: 0, 3: 1, 7: 1, 9: 0.625, 11: 0.25, 20: 0.25} {
		if got := s.At(step); math.Abs(got-want) > 1e-12 {
			t.Errorf("step %d: %v, want %v", step, got, want)
		}
	}
	if s.Decay = 100; s.At(3) != 1 || s.At(11) != 0.25 {
		t.Errorf("a long decay begins at %v and ends at %v", s.At(3), s.At(11))
	}
}

// TestLowest: lr_min is a rate, not a share of lr, and each schedule falls to it over its whole length.
func TestLowest(t *testing.T) {
	for kind, half := range map[string]float64{"linear": 1.25, "cosine": 1.25, "wsd": 1.25, "constant": 2} {
		s := Schedule{Kind: kind, Rate: 2, Min: 0.5, Warmup: 2, Decay: 8, Steps: 10}
		for step, want := range map[int]float64{2: 1, 3: 2, 7: half, 11: 2*half - 2} { // the last is the one behind the end
			if got := s.At(step); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s, step %d: %v, want %v", kind, step, got, want)
			}
		}
	}
}

func TestAmount(t *testing.T) {
	for _, c := range []struct {
		v     float64
		steps int
		want  int
	}{{0, 100, 0}, {0.03, 100, 3}, {0.03, 120, 4}, {0.03, 110, 4}, {0.1, 7, 1}, {1, 100, 1}, {50, 100, 50}, {0.999, 10, 10}} {
		if got := Amount(c.v, c.steps); got != c.want {
			t.Errorf("Amount(%v, %d) = %d, want %d", c.v, c.steps, got, c.want)
		}
	}
}

func TestScheduleErrors(t *testing.T) {
	good := Schedule{Kind: "cosine", Rate: 1e-4, Min: 1e-5, Warmup: 3, Steps: 10}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, s := range map[string]Schedule{
		"kind": {Kind: "step", Rate: 1}, "zero": {Kind: "linear"}, "nan": {Kind: "linear", Rate: math.NaN()},
		"min": {Kind: "linear", Rate: 1, Min: 2}, "warmup": {Kind: "linear", Rate: 1, Warmup: -1},
		"decay": {Kind: "wsd", Rate: 1, Decay: -1}, "min below 0": {Kind: "linear", Rate: 1, Min: -0.1}, "infinite": {Kind: "linear", Rate: math.Inf(1)},
	} {
		if s.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
