package engine

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lpipe/engine/cpu"
)

func sampleCheckpoint(step int) *checkpoint {
	data := make([]float32, 20000)
	for i := range data {
		data[i] = float32(i*step) * 0.37
	}
	return &checkpoint{Settings: map[string]string{"seed": "1"}, Step: step, State: json.RawMessage(`{"a":1}`), Tensors: []namedTensor{
		{"weight.x", len(data), data}, {"empty", 0, []float32{}}, {"exp_avg.x", 3, []float32{1, 2, 3}},
	}}
}

func TestCheckpointRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for step := 1; step <= 4; step++ {
		if err := sampleCheckpoint(step).save(dir, 2); err != nil {
			t.Fatal(err)
		}
	}
	got, err := latestCheckpoint(dir, func(s string) { t.Error(s) })
	if err != nil {
		t.Fatal(err)
	}
	if want := sampleCheckpoint(4); !reflect.DeepEqual(got, want) {
		t.Error("what was read is not what was written")
	}
	names, _ := checkpointFiles(dir)
	if want := []string{checkpointName(3), checkpointName(4)}; !reflect.DeepEqual(names, want) {
		t.Errorf("kept %v, want %v", names, want)
	}
	if err := sampleCheckpoint(5).save(dir, 3); err != nil {
		t.Fatal(err)
	}
	if names, _ := checkpointFiles(dir); len(names) != 3 || names[0] != checkpointName(3) {
		t.Errorf("kept %v of three", names)
	}
	if _, err := got.tensor("weight.x", 5); err == nil || !strings.Contains(err.Error(), "weight.x") {
		t.Errorf("wrong size: %v", err)
	}
}

// TestCheckpointDamage changes one byte at many places, and cuts the file at many lengths: the one before is used.
func TestCheckpointDamage(t *testing.T) {
	dir := t.TempDir()
	for step := 1; step <= 2; step++ {
		if err := sampleCheckpoint(step).save(dir, 2); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, checkpointName(2))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
		noted := 0
		c, err := latestCheckpoint(dir, func(s string) {
			if noted++; !strings.Contains(s, checkpointName(2)) {
				t.Errorf("%s: the note does not name the file: %s", what, s)
			}
		})
		if err != nil || c.Step != 1 || noted != 1 {
			t.Errorf("%s: got %v, %v, %d notes", what, c, err, noted)
		}
	}
	for at := 0; at < len(good); at += 1 + at/7 {
		if at == 6 || at == 7 {
			continue // the version: see TestCheckpointVersion
		}
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x40
		expect("byte changed", bad)
	}
	for n := 0; n < len(good); n += 1 + n/3 {
		expect("cut", good[:n])
	}
	expect("grown", append(good[:len(good):len(good)], 0))
}

func TestCheckpointVersion(t *testing.T) {
	dir := t.TempDir()
	if err := sampleCheckpoint(1).save(dir, 2); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, checkpointName(1))
	raw, _ := os.ReadFile(path)
	raw[6] = 9
	os.WriteFile(path, raw, 0o666)
	if _, err := latestCheckpoint(dir, func(string) {}); err == nil || errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("a newer version: %v", err)
	}
}

// TestCheckpointWriteFails leaves what was there, and no litter.
func TestCheckpointWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := sampleCheckpoint(1).save(dir, 2); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, ".step-000000009.ckpt.123"), []byte("cut"), 0o666)
	if err := os.Mkdir(filepath.Join(dir, checkpointName(2)), 0o777); err != nil { // rename onto it fails
		t.Fatal(err)
	}
	if err := sampleCheckpoint(2).save(dir, 2); err == nil {
		t.Fatal("no error")
	}
	c, err := latestCheckpoint(dir, func(string) {})
	if err != nil || c.Step != 1 {
		t.Errorf("got %v, %v", c, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 {
		t.Errorf("litter: %v", entries)
	}
}

// TestOneCheckpointAtATime: a run that is stopped while a checkpoint is being written waits for it before it writes the last one, which
// uses the same memory.
func TestOneCheckpointAtATime(t *testing.T) {
	o := small(t)
	o.Scratch, o.CheckpointSteps, o.Validation = filepath.Join(t.TempDir(), "scratch"), 1, nil
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy atomic.Bool
	calls := 0
	o.Saved = func(string) {
		if !busy.CompareAndSwap(false, true) {
			t.Error("two are written at once")
			return
		}
		calls++
		cancel()
		time.Sleep(100 * time.Millisecond)
		busy.Store(false)
	}
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	if _, err := Train(ctx, dev, o); !errors.Is(err, context.Canceled) || calls < 2 {
		t.Errorf("%v after %d checkpoints", err, calls)
	}
}

// TestValidationDiverged: a validation loss that is no number ends the run and is no best one.
func TestValidationDiverged(t *testing.T) {
	o := small(t)
	r, err := prepare(t.Context(), cpu.NewPlain(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	weights := r.model.Parameters()[1].Weights
	values := make([]float32, weights.Len)
	for i := range values {
		values[i] = float32(math.NaN())
	}
	r.dev.Write(weights, values)
	if err := r.evaluateIfDue(t.Context()); err == nil || !strings.Contains(err.Error(), "validation/loss after step 0 is NaN: training diverged") || r.Best != nil {
		t.Errorf("%v, best %v", err, r.Best)
	}
}
