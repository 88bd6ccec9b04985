package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
)

// TestResumesFromEveryStep goes on from the checkpoint of each step, those among them that were evaluated or sampled: nothing is
// done twice, so that early stopping counts as before, and each sample stands once.
func TestResumesFromEveryStep(t *testing.T) {
	o := spoiled(t)
	o.SampleEvery, o.SelectBest, o.EMA = 2, true, 0.5
	o.EarlyStop = &EarlyStop{Patience: 3, MinDelta: 10} // never so much better: ends at step 6
	o.SamplesOut = filepath.Join(t.TempDir(), "samples.jsonl")
	o.Scratch, o.CheckpointSteps, o.CheckpointKeep = filepath.Join(t.TempDir(), "scratch"), 1, 100
	all := func() string {
		result := train(t, o, 0)
		if result.Selected != 0 {
			t.Errorf("the best weights are those of step %d", result.Selected)
		}
		text := snapshot(t, o, result)
		samples, err := os.ReadFile(o.SamplesOut)
		if err != nil {
			t.Fatal(err)
		}
		return text + string(samples)
	}
	want, scratch := all(), o.Scratch
	names, err := checkpointFiles(scratch)
	if err != nil || len(names) != 5 {
		t.Fatalf("checkpoints %v, %v", names, err)
	}
	for _, name := range names {
		o.Scratch, o.Out = t.TempDir(), filepath.Join(t.TempDir(), "out")
		content, err := os.ReadFile(filepath.Join(scratch, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.Scratch, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
		o.Saved = func(path string) {
			if filepath.Base(path) == name {
				t.Errorf("%s was written again", name)
			}
		}
		if got := all(); got != want {
			t.Errorf("from %s: other bits:\n%s\nwant:\n%s", name, got, want)
		}
	}
}

// spoiled is a run that begins with an adapter that has learned its rows, and unlearns them at far too high a rate: the best weights are
// the first.
func spoiled(t *testing.T) TrainOptions {
	t.Helper()
	o := small(t)
	o.Model, o.Validation[0].Path = dpoModel(t), o.Train
	o.Steps, o.BatchTokens, o.LoRA.Dropout = 40, 400, 0
	train(t, o, 0)
	o.From, o.Out = o.Out, filepath.Join(t.TempDir(), "spoiled")
	o.Schedule, o.Warmup = Schedule{Kind: "constant", Rate: 0.3}, 0
	o.Steps, o.BatchTokens, o.EvalEvery = 12, 100, 2
	return o
}

// TestGoesOnAfterEarlyStop: a run that goes on from the checkpoint of one that stopped early has patience of its own.
func TestGoesOnAfterEarlyStop(t *testing.T) {
	o := small(t)
	o.EvalEvery, o.EarlyStop = 2, &EarlyStop{Patience: 2, MinDelta: 10}
	o.CheckpointOut = filepath.Join(t.TempDir(), "checkpoint")
	if first := train(t, o, 0); first.Steps != 4 || !first.Stopped {
		t.Fatalf("%+v", first)
	}
	o.Checkpoint, o.Out, o.CheckpointOut = o.CheckpointOut, filepath.Join(t.TempDir(), "out"), ""
	if second := train(t, o, 0); second.Steps != 10 || !second.Stopped {
		t.Errorf("stopped after step %d, want 10: the first evaluation is that of step 6", second.Steps)
	}
}

// TestBestOfARunThatKeptNone: who goes on from it with select = "best" gets the best of what follows, even if a step before was better.
func TestBestOfARunThatKeptNone(t *testing.T) {
	o := spoiled(t)
	o.CheckpointOut = filepath.Join(t.TempDir(), "checkpoint")
	if first := train(t, o, 0); first.Best.Step >= 8 {
		t.Fatalf("the best is that of step %d", first.Best.Step)
	}
	o.Checkpoint, o.Out, o.CheckpointOut = o.CheckpointOut, filepath.Join(t.TempDir(), "out"), ""
	o.Steps, o.SelectBest = 16, true
	if second := train(t, o, 0); second.Selected <= 12 {
		t.Errorf("step %d is selected", second.Selected)
	}
}

// TestKernelWithOtherSums: a kernel whose sums have an order of their own does not go on where another stopped, nor the other way.
func TestKernelWithOtherSums(t *testing.T) {
	run := func(o TrainOptions, name string) error {
		dev := named{cpu.New(cpu.Options{Threads: 1}), name}
		defer dev.Close()
		_, err := Train(t.Context(), dev, o)
		return err
	}
	for _, c := range [][3]string{
		{"cpu:go", "cpu:amx-bf16", "kernel was go and is amx-bf16"}, {"cpu", "cpu:go", "kernel was none and is go"}, {"cpu:go", "cpu", "kernel was go and is none"},
	} {
		o := small(t)
		o.Scratch, o.CheckpointSteps, o.Steps = t.TempDir(), 1, 2
		if err := run(o, c[0]); err != nil {
			t.Fatal(err)
		}
		o.Checkpoint, o.Scratch, o.Out = o.Scratch, t.TempDir(), filepath.Join(t.TempDir(), "out")
		if err := run(o, c[1]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("from %s to %s: %v", c[0], c[1], err)
		}
	}
}

// named is a device under another name.
type named struct {
	ops.Device
	name string
}

func (d named) Info() ops.Info {
	info := d.Device.Info()
	info.Name = d.name
	return info
}
