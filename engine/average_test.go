package engine

import (
	"context"
	"math"
	"path/filepath"
	"reflect"
	"testing"

	"lpipe/engine/cpu"
)

// TestAverage compares the average with the recurrence in float64, and makes sure that evaluation leaves the weights as
// they were.
func TestAverage(t *testing.T) {
	o := small(t)
	o.EMA, o.Validation, o.Warmup = 0.4, nil, 0 // reached in step 5; the first step counts
	r, err := prepare(context.Background(), cpu.NewPlain(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	want := r.optimizer.weights()
	wide := make([][]float64, len(want))
	for i, w := range want {
		for _, v := range w {
			wide[i] = append(wide[i], float64(v))
		}
	}
	for step := 1; step <= 12; step++ {
		if err := r.trainStep(context.Background()); err != nil {
			t.Fatal(err)
		}
		d := math.Min(0.4, float64(1+step)/float64(10+step))
		for i, w := range r.optimizer.weights() {
			for j, v := range w {
				wide[i][j] = d*wide[i][j] + (1-d)*float64(v)
			}
		}
	}
	before := r.optimizer.weights()
	r.averaged(func() error {
		for i, w := range r.optimizer.weights() {
			for j, v := range w {
				if math.Abs(float64(v)-wide[i][j]) > 1e-6*math.Max(0.01, math.Abs(wide[i][j])) {
					t.Fatalf("%s[%d] is %g, want %g", r.optimizer.params[i].Name, j, v, wide[i][j])
				}
			}
		}
		return nil
	})
	for i, w := range r.optimizer.weights() {
		for j, v := range w {
			if v != before[i][j] {
				t.Fatal("the weights are not as they were")
			}
		}
	}
}

// TestAverageIsSaved: the validation loss of the last step is that of the saved adapter, not of the last weights, and the
// losses of training are those of a run without an average.
func TestAverageIsSaved(t *testing.T) {
	o := small(t)
	o.LoRA.Init = "pissa"
	plain := train(t, o, 1)
	o.EMA, o.Out = 0.95, filepath.Join(t.TempDir(), "out")
	averaged := train(t, o, 1)
	if !reflect.DeepEqual(averaged.Train, plain.Train) {
		t.Errorf("training differs: %v, %v", averaged.Train, plain.Train)
	}
	loss := averaged.Validation["loss"].(float64)
	if loss == plain.Validation["loss"] {
		t.Error("the average was not evaluated")
	}
	o.From, o.Out, o.Steps, o.EMA = o.Out, "", 1, 0
	o.LoRA.Rank, o.LoRA.Alpha, o.LoRA.Init = 8, 16, "" // what is saved of pissa
	first := 0.0
	o.Report = func(p Progress) {
		if v, ok := p.Metrics["validation/loss"]; ok && p.Step == 0 {
			first = v
		}
	}
	train(t, o, 1)
	if math.Abs(first-loss) > 1e-5 {
		t.Errorf("the saved adapter's loss is %v, the run's last %v", first, loss)
	}
}
