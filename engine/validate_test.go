package engine

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
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
