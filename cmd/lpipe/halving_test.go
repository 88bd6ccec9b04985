package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lpipe/runner"
)

// A training that is stopped at two rungs and goes on from its checkpoints ends in the bits of one that nobody stopped, under
// the same key: experiment or not makes no difference to what others find.
func TestHalvingOfTrainingChangesNoBit(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for some seconds")
	}
	halved := shortDemo(t)
	_, messages, code := run(t, "-C", halved, "exp", "run")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, messages)
	}
	for _, want := range []string{"paused lr=0.01/lora", "rung 1: 2 of 3 go on: lr=0.01 lr=0.003", "rung 2: 1 of 2 go on: lr=0.01"} {
		if !strings.Contains(messages, want) {
			t.Errorf("%q is not in\n%s", want, messages)
		}
	}
	plain := shortDemo(t)
	mustRun(t, "-C", plain, "repro", "--var", "lr=0.01", "lora")
	one, other := lockedStage(t, halved+"/.lpipe/exp/lrs/lr=0.01", "lora"), lockedStage(t, plain, "lora")
	if one.Key != other.Key {
		t.Errorf("keys %s and %s", one.Key, other.Key)
	}
	for _, name := range []string{"adapter", "metrics", "samples"} { // the curve and what holds it tell how fast the machine was
		if one.Out[name] != other.Out[name] {
			t.Errorf("%s: %v, undisturbed %v", name, one.Out[name], other.Out[name])
		}
	}
	if out := mustRun(t, "-C", halved, "--json", "repro", "--var", "lr=0.01", "lora"); !strings.Contains(out, `"ran":0`) {
		t.Errorf("the result is not found:\n%s", out)
	}
}

// shortDemo is the demo with a training of 20 small steps and an experiment that halves three of it.
func shortDemo(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "demo")
	mustRun(t, "init", "--demo", dir)
	path := filepath.Join(dir, "pipeline.hcl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hcl := string(text)
	for pattern, with := range map[string]string{
		`steps +=.*`: "steps = 20\n  eval_every = 2\n  eval_limit = 8", `lr +=.*`: "lr = var.lr", `batch_tokens +=.*`: "batch_tokens = 512", `sequence_length +=.*`: "sequence_length = 256",
	} {
		hcl = regexp.MustCompile(pattern).ReplaceAllString(hcl, with)
	}
	hcl += `
variable "lr" { default = 0.003 }
experiment "lrs" {
  targets = ["lora"]
  matrix  = { lr = [1e-5, 1e-2, 3e-3] }
  halving {
    metric = "lora.validation/loss"
    rungs  = [0.2, 0.5]
  }
}
`
	if err := os.WriteFile(path, []byte(hcl), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

func lockedStage(t *testing.T, dir, stage string) runner.LockStage {
	lock, err := runner.ReadLock(runner.LockPath(dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	return lock.Stages[stage]
}
