package engine

import (
	"bytes"
	"context"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestTrainDoRA learns, goes on from a checkpoint with the bits of one run, and is evaluated as it was measured.
func TestTrainDoRA(t *testing.T) {
	o := small(t)
	o.LoRA.DoRA, o.LoRA.Dropout, o.LoRAPlus = true, 0, 4
	o.Schedule.Kind, o.Warmup, o.EvalEvery = "constant", 2, 2
	result := train(t, o, 1)
	want := snapshot(t, o, result)
	part := o
	part.Steps, part.Out, part.CheckpointOut = 6, filepath.Join(t.TempDir(), "part"), filepath.Join(t.TempDir(), "checkpoint")
	first := train(t, part, 2)
	if !(result.Validation["loss"].(float64) < first.Validation["loss"].(float64)) {
		t.Errorf("did not learn: %v, then %v", first.Validation, result.Validation)
	}
	again := o
	again.Checkpoint, again.Out = part.CheckpointOut, filepath.Join(t.TempDir(), "out")
	if got := snapshot(t, again, train(t, again, 2)); got != want {
		t.Errorf("other bits:\n%s\nwant:\n%s", got, want)
	}
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	data, err := dataset.OpenTokens(o.Validation[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	saved, err := Evaluate(context.Background(), dev, EvaluateOptions{Model: o.Model, Adapter: o.Out, Data: data, Limit: o.EvalLimit})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss of the saved adapter", saved.Loss, result.Validation["loss"].(float64), 1e-6)
}

// TestTrainLion, with noise on the embeddings and a schedule that decays at the end, learns and resumes bit for bit.
func TestTrainLion(t *testing.T) {
	o := small(t)
	o.Optimizer = Optimizer{Kind: "lion", Beta1: 0.9, Beta2: 0.99, Decay: 0.01, Clip: 1}
	o.Schedule, o.Decay, o.NEFTune = Schedule{Kind: "wsd", Rate: 1e-3}, 0.25, 5
	result := train(t, o, 0)
	want := snapshot(t, o, result)
	resumed := o
	resumed.Out, resumed.Scratch, resumed.CheckpointSteps = filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "scratch"), 1
	once := false
	again, _ := trainInterrupted(t, resumed, true, func(step int) bool {
		stop := step == 5 && !once
		once = once || stop
		return stop
	})
	if got := snapshot(t, resumed, again); got != want {
		t.Errorf("other bits:\n%s\nwant:\n%s", got, want)
	}
	quiet := o
	quiet.NEFTune, quiet.Out = 0, filepath.Join(t.TempDir(), "quiet")
	if other := train(t, quiet, 0); reflect.DeepEqual(other.Train, result.Train) {
		t.Error("noise changed nothing")
	}
	longer := o
	longer.Steps, longer.BatchTokens, longer.Out, longer.LoRA.Dropout = 40, 400, filepath.Join(t.TempDir(), "longer"), 0
	if learnt := train(t, longer, 0); learnt.Train.Loss > result.Train.Loss-0.5 {
		t.Errorf("did not learn: %v, then %v", result.Train, learnt.Train)
	}
}

// TestTrainQuantised trains on a base quantised on load: that of a quantised checkpoint gives the same losses, and so does the
// evaluation of what was saved.
func TestTrainQuantised(t *testing.T) {
	for quantize, double := range map[string]bool{"nf4": true, "nf4-single": false} {
		o := small(t)
		o.Quantize, o.SequenceLength = quantize, 32
		result := train(t, o, 0)
		dev := cpu.New(cpu.Options{})
		defer dev.Close()
		data, err := dataset.OpenTokens(o.Validation[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		defer data.Close()
		saved, err := Evaluate(context.Background(), dev, EvaluateOptions{Model: o.Model, Adapter: o.Out, Data: data, Limit: o.EvalLimit})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "loss of the saved adapter", saved.Loss, result.Validation["loss"].(float64), 1e-6)

		stored := filepath.Join(t.TempDir(), "nf4")
		if err := model.Quantise(context.Background(), o.Model, stored, model.QuantiseOptions{Double: double}); err != nil {
			t.Fatal(err)
		}
		o.Model, o.Quantize, o.Out = stored, "none", filepath.Join(t.TempDir(), "out")
		if again := train(t, o, 0); !reflect.DeepEqual(again.Train, result.Train) {
			t.Errorf("%s: losses %v on the checkpoint, %v quantised on load", quantize, again.Train, result.Train)
		}
	}
}

// TestTrainSkips: a step without a finite gradient changes no weight and no average and is counted; a good one starts the count anew.
func TestTrainSkips(t *testing.T) {
	o := small(t)
	o.Steps, o.Validation, o.Out, o.CurveOut, o.EMA = 20, nil, "", "", 0.9
	var messages bytes.Buffer
	o.Log = &messages
	r, err := prepare(context.Background(), cpu.NewPlain(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	weights := r.model.Parameters()[0].Weights
	poison := func(bad bool) error {
		kept := make([]float32, weights.Len)
		r.dev.Read(kept, weights)
		if bad {
			r.dev.Scale(weights, float32(math.Inf(1)), weights.Len)
		}
		before, average := r.optimizer.step, averages(r)
		err := r.trainStep(context.Background())
		if bad {
			if r.optimizer.step != before {
				t.Error("the optimiser made a step")
			}
			if !reflect.DeepEqual(averages(r), average) {
				t.Error("the average took the step in")
			}
			r.dev.Write(weights, kept)
		}
		return err
	}
	for i, bad := range []bool{false, true, true, false, true, false} {
		if err := poison(bad); err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
	}
	if res := r.result(); res.Skipped != 3 || res.Steps != 6 || !finite(res.Train.Loss) {
		t.Errorf("%+v", res)
	}
	if !strings.Contains(messages.String(), "the step is skipped") || !strings.Contains(messages.String(), "in rows ") {
		t.Errorf("log:\n%s", &messages)
	}
	resumed(t, r, o)
	for range 2 {
		if err := poison(true); err != nil {
			t.Fatal(err)
		}
	}
	if err := poison(true); err == nil || !strings.Contains(err.Error(), "training diverged") || !strings.Contains(err.Error(), "at step 6") {
		t.Errorf("after three: %v", err)
	}
}

// averages copies a run's averages.
func averages(r *run) (all [][]float32) {
	for _, b := range r.average.bufs {
		values := make([]float32, b.Len)
		r.dev.Read(values, b)
		all = append(all, values)
	}
	return all
}

// resumed saves a run and makes sure that a new one goes on with the optimiser's count of steps.
func resumed(t *testing.T, r *run, o TrainOptions) {
	t.Helper()
	o.Scratch = t.TempDir()
	if err := r.saveNow(o.Scratch); err != nil {
		t.Fatal(err)
	}
	again, err := prepare(context.Background(), cpu.NewPlain(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if err := again.resume(); err != nil || again.Step != r.Step || again.optimizer.step != r.optimizer.step {
		t.Errorf("resumed at step %d, the optimiser's %d; want %d, %d: %v", again.Step, again.optimizer.step, r.Step, r.optimizer.step, err)
	}
}
