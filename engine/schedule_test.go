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

func TestAmount(t *testing.T) {
	for _, c := range []struct {
		v     float64
		steps int
		want  int
	}{{0, 100, 0}, {0.03, 100, 3}, {0.03, 120, 4}, {0.1, 7, 1}, {1, 100, 1}, {50, 100, 50}, {0.999, 10, 10}} {
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
		"kind": {Kind: "wsd", Rate: 1}, "zero": {Kind: "linear"}, "nan": {Kind: "linear", Rate: math.NaN()},
		"min": {Kind: "linear", Rate: 1, Min: 2}, "warmup": {Kind: "linear", Rate: 1, Warmup: -1},
	} {
		if s.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
