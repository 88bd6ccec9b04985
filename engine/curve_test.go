package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wholeSteps reads a curve that may still grow: whole lines, each step once and in order. It returns the last one's number.
func wholeSteps(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for line := range bytes.Lines(text) {
		var p point
		if err := json.Unmarshal(line, &p); err != nil || !bytes.HasSuffix(line, []byte("\n")) {
			t.Fatalf("%v in the line %q", err, line)
		}
		if p.Step != last+1 {
			t.Fatalf("step %d behind step %d:\n%s", p.Step, last, text)
		}
		last = p.Step
	}
	return last
}

// TestCurveGrows: while a step is told of, those before it stand in the file, with what validation said of them; a run that goes
// on elsewhere begins with what it has from the checkpoint; at the end the file is as if written at once.
func TestCurveGrows(t *testing.T) {
	o := small(t)
	o.Steps, o.EvalEvery, o.Scratch, o.CheckpointSteps = 9, 3, filepath.Join(t.TempDir(), "scratch"), 1
	stopped := false
	trainInterrupted(t, o, false, func(step int) bool {
		if last := wholeSteps(t, o.CurveOut); last != step-1 {
			t.Errorf("step %d is told of, and the file ends with %d", step, last)
		}
		stop := step == 5 && !stopped
		stopped = stopped || stop
		return stop
	})
	if last := wholeSteps(t, o.CurveOut); last != 9 {
		t.Errorf("the file ends with %d", last)
	}
	text, _ := os.ReadFile(o.CurveOut)
	if n := strings.Count(string(text), "validation/loss"); n != 4 {
		t.Errorf("%d evaluations in\n%s", n, text)
	}

	o.CurveOut, o.Out = filepath.Join(t.TempDir(), "other.jsonl"), filepath.Join(t.TempDir(), "again")
	train(t, o, 0) // from the checkpoint of the stop
	if last := wholeSteps(t, o.CurveOut); last != 9 {
		t.Errorf("another file ends with %d", last)
	}

	var messages bytes.Buffer
	o.CurveOut, o.Scratch, o.Log, o.Out = filepath.Join(t.TempDir(), "no", "folder.jsonl"), "", &messages, filepath.Join(t.TempDir(), "last")
	if err := trainError(t, o); err == nil || strings.Count(messages.String(), "the curve cannot be followed") != 1 {
		t.Errorf("%v\n%s", err, &messages)
	}
}
