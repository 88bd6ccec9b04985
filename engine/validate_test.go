package engine

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTrainNamedValidation measures several sets, each under its name.
func TestTrainNamedValidation(t *testing.T) {
	o := small(t)
	o.Validation = []DataSet{{Name: "b", Path: tokenFolder(t, 5, 3)}, {Name: "a", Path: tokenFolder(t, 5, 4)}}
	result := train(t, o, 0)
	a, b := result.Validation["a"].(map[string]any)["loss"].(float64), result.Validation["b"].(map[string]any)["loss"].(float64)
	near(t, "the loss that decides", result.Last.Loss, (a+b)/2, 1e-12)
	curve, _ := os.ReadFile(o.CurveOut)
	if lines := strings.Count(string(curve), "\n"); lines != 13 || !strings.Contains(string(curve), `"validation/a/loss":`) {
		t.Errorf("%d lines of curve:\n%s", lines, curve)
	}

	o.Out, o.SelectBest, o.SelectBy = filepath.Join(t.TempDir(), "by"), true, "validation/a/loss"
	o.EarlyStop = &EarlyStop{Metric: "validation/b/loss", Patience: 100}
	by := train(t, o, 0)
	lowest := math.Inf(1)
	text, _ := os.ReadFile(o.CurveOut)
	for line := range bytes.Lines(text) {
		var p point
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatal(err)
		}
		if loss, ok := p.Validation["validation/a/loss"]; ok && loss < lowest {
			lowest = loss
		}
	}
	if by.Best.Loss != lowest || by.Selected != by.Best.Step || by.Last.Loss != a {
		t.Errorf("select by a: best %v of %v, selected %d, last %v of %v", by.Best, lowest, by.Selected, by.Last, a)
	}
}

// TestBestIsTheFirst of equally low losses, by the set that select names, else by the one that early stopping names.
func TestBestIsTheFirst(t *testing.T) {
	losses := [][2]float64{{5, 1}, {4, 2}, {4, 1}, {6, 0.5}}
	for _, c := range []struct {
		by, stop string
		want     bestPoint
	}{
		{"validation/a/loss", "", bestPoint{1, 4}}, {"validation/b/loss", "", bestPoint{3, 0.5}},
		{"validation/a/loss", "validation/b/loss", bestPoint{1, 4}}, {"", "validation/a/loss", bestPoint{1, 4}}, {"", "", bestPoint{2, 2.5}},
	} {
		r := &run{TrainOptions: TrainOptions{SelectBy: c.by, Log: new(strings.Builder)}}
		if c.stop != "" {
			r.EarlyStop = &EarlyStop{Metric: c.stop, Patience: 100}
		}
		for _, name := range []string{"a", "b"} {
			r.validation = append(r.validation, &validationSet{DataSet: DataSet{Name: name}})
		}
		for step, l := range losses {
			r.Step = step
			r.judge(map[string]float64{"validation/a/loss": l[0], "validation/b/loss": l[1]})
		}
		if *r.Best != c.want {
			t.Errorf("%+v: %+v", c, *r.Best)
		}
	}
}

// TestEvaluatesTheEnds: before the first step, every eval_every steps, and after the last, which need not be one of them.
func TestEvaluatesTheEnds(t *testing.T) {
	o := small(t)
	o.Steps, o.EvalEvery = 8, 0.4 // of eight: every fourth, rounded up
	for every, want := range map[float64][]int{0.4: {0, 4, 8}, 3: {0, 3, 6, 8}, 0: {0, 8}} {
		o.EvalEvery, o.Out = every, filepath.Join(t.TempDir(), "out")
		var got []int
		o.Report = func(p Progress) {
			if _, ok := p.Metrics["validation/loss"]; ok {
				got = append(got, p.Step)
			}
		}
		train(t, o, 0)
		if !slices.Equal(got, want) {
			t.Errorf("eval_every %v: evaluated after %v, want %v", every, got, want)
		}
	}
}
