package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// TestResumesFromEveryStep goes on from the checkpoint of each step, those among them that were evaluated or sampled: nothing is
// done twice, so that early stopping counts as before, and each sample stands once.
func TestResumesFromEveryStep(t *testing.T) {
	o := small(t)
	o.Model, o.SequenceLength = dpoModel(t), 32
	o.EvalEvery, o.SampleEvery, o.SelectBest, o.EMA = 2, 2, true, 0.5
	o.EarlyStop = &EarlyStop{Patience: 3, MinDelta: 10} // never so much better: ends at step 6
	o.SamplesOut = filepath.Join(t.TempDir(), "samples.jsonl")
	o.Scratch, o.CheckpointSteps, o.CheckpointKeep = filepath.Join(t.TempDir(), "scratch"), 1, 100
	all := func() string {
		text := snapshot(t, o, train(t, o, 0))
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
		if got := all(); got != want {
			t.Errorf("from %s: other bits:\n%s\nwant:\n%s", name, got, want)
		}
	}
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
