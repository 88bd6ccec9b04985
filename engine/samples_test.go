package engine

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readSamples returns a file's lines by step.
func readSamples(t *testing.T, path string) map[int][]SampleLine {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[int][]SampleLine{}
	for line := range strings.Lines(string(text)) {
		var l SampleLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		step := -1
		if l.Step != nil {
			step = *l.Step
		}
		l.Step = nil
		lines[step] = append(lines[step], l)
	}
	return lines
}

// TestSamplesBySteps: which steps are sampled, once each, when training ends as planned and when it stops early; and that the answers
// are those of the averaged weights, which are saved: a run that ends there gives the same.
func TestSamplesBySteps(t *testing.T) {
	o := small(t)
	o.Model, o.SamplesOut, o.EMA = dpoModel(t), filepath.Join(t.TempDir(), "samples.jsonl"), 0.9
	o.Schedule, o.Warmup = Schedule{Kind: "constant", Rate: 2e-2}, 0
	sampled := func(steps int, every float64, stop *EarlyStop, want ...int) map[int][]SampleLine {
		t.Helper()
		o.Steps, o.SampleEvery, o.EarlyStop, o.EvalEvery = steps, every, stop, 4
		o.Out = filepath.Join(t.TempDir(), "out")
		train(t, o, 0)
		lines := readSamples(t, o.SamplesOut)
		if got := slices.Sorted(maps.Keys(lines)); !slices.Equal(got, want) {
			t.Errorf("%d steps, every %v: samples of %v, want %v", steps, every, got, want)
		}
		for step, of := range lines {
			if len(of) != sampleRows {
				t.Errorf("%d steps, every %v: %d answers of step %d", steps, every, len(of), step)
			}
		}
		return lines
	}
	last := sampled(4, 0, nil, -1)[-1]
	longer := sampled(8, 4, nil, 0, 4, 8)
	if !slices.Equal(longer[4], last) || slices.Equal(longer[0], last) {
		t.Errorf("after step 4:\n%+v\nof a run that ends there:\n%+v", longer[4], last)
	}
	sampled(8, 0.3, nil, 0, 3, 6, 8)
	sampled(12, 4, &EarlyStop{Patience: 2, MinDelta: 100}, 0, 4, 8)
}
