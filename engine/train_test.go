package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

const (
	untied = "testdata/models/untied" // vocabulary 320, 2 layers, width 64
	tied   = "testdata/models/tied"   // vocabulary 256, 3 layers, width 72
)

// tokenFolder writes rows that can be learned: after a prompt, the same tokens again, plus one.
func tokenFolder(t testing.TB, rows int, seed uint64) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	dir := filepath.Join(t.TempDir(), "tokens")
	w, err := dataset.CreateTokens(dir, dataset.Manifest{VocabSize: 256})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		n := 2 + r.IntN(5)
		s := dataset.Sequence{ID: fmt.Sprint(i), Row: i, Answer: fmt.Sprint(i)}
		for range n {
			s.IDs = append(s.IDs, int32(1+r.IntN(40)))
		}
		s.Mask = make([]bool, n, 2*n+2)
		for j := range n {
			s.IDs, s.Mask = append(s.IDs, s.IDs[j]+50), append(s.Mask, true)
		}
		s.IDs, s.Mask = append(s.IDs, 200, 201), append(s.Mask, true, false)
		if err := w.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// small is a run of a second: LoRA with dropout on the tied model.
func small(t testing.TB) TrainOptions {
	return TrainOptions{
		Model: tied, Train: tokenFolder(t, 40, 1), Validation: []DataSet{{Path: tokenFolder(t, 12, 2)}},
		Method: "lora", Precision: "fp32",
		LoRA:           model.LoRA{Rank: 4, Alpha: 8, Dropout: 0.1, Targets: []string{model.AllLinear}},
		SequenceLength: 32, BatchTokens: 100, Steps: 12,
		Schedule: Schedule{Kind: "cosine", Rate: 5e-3}, Warmup: 0.1,
		Optimizer: Optimizer{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Clip: 1},
		EvalEvery: 4, EvalLimit: 8, Seed: 7,
		Out: filepath.Join(t.TempDir(), "out"), CurveOut: filepath.Join(t.TempDir(), "curve.jsonl"),
	}
}

func train(t testing.TB, o TrainOptions, threads int) *TrainResult {
	t.Helper()
	dev := cpu.New(cpu.Options{Threads: threads})
	defer dev.Close()
	result, err := Train(context.Background(), dev, o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// trainError runs what must fail.
func trainError(t *testing.T, o TrainOptions) error {
	t.Helper()
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	_, err := Train(context.Background(), dev, o)
	return err
}

// snapshot is all that a run left that must not depend on anything but its key: the files of its output, its numbers,
// and its curve without the speed.
func snapshot(t testing.TB, o TrainOptions, result *TrainResult) string {
	t.Helper()
	var b strings.Builder
	numbers, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%s\n", numbers)
	filepath.WalkDir(o.Out, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %s\n", d.Name(), fingerprint(content))
		}
		return err
	})
	curve, err := os.ReadFile(o.CurveOut)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(curve) {
		var p map[string]any
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatal(err)
		}
		delete(p, "tokens_per_s")
		delete(p, "memory_mb")
		text, _ := json.Marshal(p)
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

func TestTrainLearns(t *testing.T) {
	o := small(t)
	o.Steps, o.BatchTokens, o.LoRA.Dropout = 60, 400, 0
	o.Validation[0].Path = o.Train
	var messages bytes.Buffer
	o.Log = &messages
	last := Progress{}
	o.Report = func(p Progress) { last = p }
	result := train(t, o, 0)
	v := result.Validation["loss"].(float64)
	if v > 0.7*result.Train.Loss+0.7 || result.Train.Loss > 2 || result.Steps != 60 {
		t.Errorf("did not learn: %+v", result)
	}
	if last.Step != 60 || last.Metrics["validation/loss"] != v {
		t.Errorf("last report %+v", last)
	}
	for _, want := range []string{"parameters are trained", "60 steps of up to 400 tokens", "tokens/s"} {
		if !strings.Contains(messages.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, &messages)
		}
	}

	// What was saved gives the loss that was reported, and the base model another one.
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	data, err := dataset.OpenTokens(o.Train)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	e := EvaluateOptions{Model: o.Model, Adapter: o.Out, Data: data, Limit: 8}
	tuned, err := Evaluate(context.Background(), dev, e)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss of the saved adapter", tuned.Loss, v, 1e-6)
	e.Adapter = ""
	base, err := Evaluate(context.Background(), dev, e)
	if err != nil {
		t.Fatal(err)
	}
	if base.Loss < 2*tuned.Loss {
		t.Errorf("base %v, tuned %v", base.Loss, tuned.Loss)
	}
}

func TestTrainFull(t *testing.T) {
	o := small(t)
	o.Method, o.Model, o.LoRA, o.Steps, o.BatchTokens = "full", untied, model.LoRA{}, 50, 400
	result := train(t, o, 0)
	if result.Train.Loss > 2 {
		t.Errorf("did not learn: %+v", result)
	}
	o2 := o
	o2.Model, o2.Steps, o2.Out = o.Out, 1, filepath.Join(t.TempDir(), "again")
	if again := train(t, o2, 0); again.Train.Loss > 2 {
		t.Errorf("the saved model begins at a loss of %v", again.Train.Loss)
	}
}

// TestTrainRepeats gives the same bits for the same seed, and for one or two threads; other bits for another seed.
func TestTrainRepeats(t *testing.T) {
	o := small(t)
	first := snapshot(t, o, train(t, o, 1))
	for name, threads := range map[string]int{"again": 1, "two threads": 2} {
		o.Out = filepath.Join(t.TempDir(), "out")
		if got := snapshot(t, o, train(t, o, threads)); got != first {
			t.Errorf("%s: other bits:\n%s\nfirst:\n%s", name, got, first)
		}
	}
	o.Seed++
	o.Out = filepath.Join(t.TempDir(), "out")
	if snapshot(t, o, train(t, o, 1)) == first {
		t.Error("another seed gives the same")
	}
}

// TestTrainResumes interrupts a run after random steps, politely (a cancelled context saves) and not (what lay on disk
// just then is what is left), as often as it takes, and wants the bits of an undisturbed run.
func TestTrainResumes(t *testing.T) {
	whole := small(t)
	whole.SelectBest = true
	want := snapshot(t, whole, train(t, whole, 0))
	r := rand.New(rand.NewPCG(3, 4))
	for trial := range 6 {
		o := whole
		o.Out = filepath.Join(t.TempDir(), "out")
		o.Scratch = filepath.Join(t.TempDir(), "scratch")
		o.CheckpointSteps = 1 + trial
		kill := trial%2 == 1
		result, stops := trainInterrupted(t, o, kill, func(step int) bool { return r.IntN(5) == 0 })
		if got := snapshot(t, o, result); got != want {
			t.Errorf("trial %d (kill %t, stopped %d times): other bits:\n%s\nwant:\n%s", trial, kill, stops, got, want)
		}
	}
}

// trainInterrupted runs until the end, interrupted where stop says so.
func trainInterrupted(t *testing.T, o TrainOptions, kill bool, stop func(step int) bool) (*TrainResult, int) {
	t.Helper()
	for stops := 0; ; stops++ {
		if stops > 100 {
			t.Fatal("never finished")
		}
		ctx, cancel := context.WithCancel(context.Background())
		scratch := o.Scratch
		o.Report = func(p Progress) {
			if ctx.Err() != nil || !stop(p.Step) {
				return
			}
			if kill { // go on with what lies there now; what the dying run still saves does not count
				os.MkdirAll(scratch, 0o777)
				o.Scratch = copyAlive(t, scratch)
			}
			cancel()
		}
		dev := cpu.New(cpu.Options{})
		result, err := Train(ctx, dev, o)
		dev.Close()
		cancel()
		if err == nil {
			return result, stops
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// copyAlive copies a folder into which checkpoints are being saved: a file that went since it was listed means another try.
func copyAlive(t *testing.T, from string) (to string) {
	t.Helper()
	for try := 0; ; try++ {
		to = filepath.Join(t.TempDir(), "scratch")
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil {
			return to
		}
		if !errors.Is(err, fs.ErrNotExist) || try == 100 {
			t.Fatal(err)
		}
	}
}

// TestTrainDamagedCheckpoint goes on from the one before, and says so.
func TestTrainDamagedCheckpoint(t *testing.T) {
	o := small(t)
	want := snapshot(t, o, train(t, o, 0))
	o.Scratch, o.CheckpointSteps = filepath.Join(t.TempDir(), "scratch"), 2
	ctx, cancel := context.WithCancel(context.Background())
	o.Report = func(p Progress) {
		if p.Step == 7 {
			cancel()
		}
	}
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	if _, err := Train(ctx, dev, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	newest := filepath.Join(o.Scratch, checkpointName(7))
	raw, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	os.WriteFile(newest, raw, 0o666)
	var messages bytes.Buffer
	o.Report, o.Log, o.Out = nil, &messages, filepath.Join(t.TempDir(), "out")
	if got := snapshot(t, o, train(t, o, 0)); got != want {
		t.Errorf("other bits:\n%s\nwant:\n%s", got, want)
	}
	if s := messages.String(); !strings.Contains(s, checkpointName(7)) || !strings.Contains(s, "going on after step 6") {
		t.Errorf("log:\n%s", s)
	}
}

// TestTrainGoesOn trains 12 steps, and from their checkpoint to 20: the bits of 20 steps at once.
func TestTrainGoesOn(t *testing.T) {
	o := small(t)
	o.Schedule.Kind, o.Warmup, o.EvalEvery = "constant", 2, 2
	o.Steps, o.LoRA.Dropout = 20, 0
	want := snapshot(t, o, train(t, o, 0))
	part := o
	part.Steps, part.Out, part.CheckpointOut = 12, filepath.Join(t.TempDir(), "part"), filepath.Join(t.TempDir(), "checkpoint")
	train(t, part, 0)
	o.Checkpoint, o.Out = part.CheckpointOut, filepath.Join(t.TempDir(), "out")
	if got := snapshot(t, o, train(t, o, 0)); got != want {
		t.Errorf("other bits:\n%s\nwant:\n%s", got, want)
	}

	for what, change := range map[string]func(*TrainOptions){
		"validation is another one (fingerprint ": func(o *TrainOptions) { o.Validation = nil },
		"lr was 0.005 and is 0.01":                func(o *TrainOptions) { o.Schedule.Rate = 0.01 },
		"train is another one (fingerprint ":      func(o *TrainOptions) { o.Train = tokenFolder(t, 40, 3) },
		"model is another one (fingerprint ":      func(o *TrainOptions) { o.Model = untied },
		"but rank was 4 and is 2;":                func(o *TrainOptions) { o.LoRA.Rank = 2 },
		`but init was "" and is "gaussian"; method dora was false and is true; targets was ["all-linear"] and is ["q_proj"]; to start`: func(o *TrainOptions) {
			o.LoRA.Init, o.LoRA.DoRA, o.LoRA.Targets = "gaussian", true, []string{"q_proj"}
		},
		"raise steps":          func(o *TrainOptions) { o.Steps = 5 },
		"or epochs":            func(o *TrainOptions) { o.Steps, o.Epochs = 0, 0.1 },
		"no usable checkpoint": func(o *TrainOptions) { o.Checkpoint = t.TempDir() },
	} {
		bad := o
		bad.Out = filepath.Join(t.TempDir(), "out")
		change(&bad)
		if err := trainError(t, bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestTrainFrom starts from an adapter's weights with a fresh optimiser.
func TestTrainFrom(t *testing.T) {
	o := small(t)
	o.Steps, o.BatchTokens = 40, 400
	first := train(t, o, 0)
	next := o
	next.From, next.Out, next.Steps = o.Out, filepath.Join(t.TempDir(), "next"), 3
	if second := train(t, next, 0); second.Train.Loss > first.Train.Loss+0.5 {
		t.Errorf("began at %v, the adapter had reached %v", second.Train.Loss, first.Train.Loss)
	}
	next.LoRA.Rank = 8
	if err := trainError(t, next); err == nil || !strings.Contains(err.Error(), "rank 4") {
		t.Errorf("another rank: %v", err)
	}
	next.LoRA.Rank, next.Model = 4, untied
	if err := trainError(t, next); err == nil || !strings.Contains(err.Error(), "trained on another model") {
		t.Errorf("another base: %v", err)
	}
}

func TestTrainSelectsAndStops(t *testing.T) {
	o := small(t)
	o.Schedule = Schedule{Kind: "constant", Rate: 0.05} // too high: it soon gets worse on rows not seen
	o.Steps, o.EvalEvery, o.SelectBest = 60, 2, true
	o.EarlyStop = &EarlyStop{Metric: "validation/loss", Patience: 3}
	for _, o.EMA = range []float64{0, 0.3} { // with an average it is that which is measured and saved
		o.Out = filepath.Join(t.TempDir(), "out")
		selectsAndStops(t, o)
	}
}

func selectsAndStops(t *testing.T, o TrainOptions) {
	t.Helper()
	result := train(t, o, 0)
	if !result.Stopped || result.Steps == 60 || result.Steps != result.Best.Step+6 || result.Selected != result.Best.Step {
		t.Errorf("%+v, best %+v", result, result.Best)
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
	near(t, "loss of what was saved", saved.Loss, result.Best.Loss, 1e-6)
}

func TestTrainErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	w, err := dataset.CreateTokens(empty, dataset.Manifest{VocabSize: 256})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	one := func(ids []int32, mask []bool, vocabulary int) string {
		dir := filepath.Join(t.TempDir(), "one")
		w, err := dataset.CreateTokens(dir, dataset.Manifest{VocabSize: vocabulary})
		if err != nil {
			t.Fatal(err)
		}
		w.Append(dataset.Sequence{IDs: ids, Mask: mask})
		w.Close()
		return dir
	}
	for want, change := range map[string]func(*TrainOptions){
		"data set is empty":              func(o *TrainOptions) { o.Train = empty },
		"every label is masked":          func(o *TrainOptions) { o.Train = one([]int32{1, 2, 3}, []bool{true, false, false}, 256) },
		"the only token of its row":      func(o *TrainOptions) { o.Train = one([]int32{1}, []bool{true}, 256) },
		"outside the model's vocabulary": func(o *TrainOptions) { o.Train = one([]int32{1, 2, 256}, []bool{false, true, true}, 256) },
		"made by a tokenizer of 300":     func(o *TrainOptions) { o.Train = one([]int32{1, 2, 3}, []bool{false, true, true}, 300) },
		"raise sequence_length":          func(o *TrainOptions) { o.SequenceLength = 8 },
		"raise batch_tokens":             func(o *TrainOptions) { o.BatchTokens = 8 },
		"not a token folder":             func(o *TrainOptions) { o.Train = t.TempDir() },
		"not a model folder":             func(o *TrainOptions) { o.Model = t.TempDir() },
		"targets":                        func(o *TrainOptions) { o.LoRA.Targets = []string{"x_proj"} },
		"rank":                           func(o *TrainOptions) { o.LoRA.Rank = 73 }, // the model is 72 wide
		"select":                         func(o *TrainOptions) { o.SelectBest, o.Validation = true, nil },
		"early_stop: needs":              func(o *TrainOptions) { o.EarlyStop, o.Validation = &EarlyStop{}, nil },
		`no metric "validation/x/loss"`:  func(o *TrainOptions) { o.EarlyStop = &EarlyStop{Metric: "validation/x/loss"} },
		`select: there is no metric "validation/x/loss"; with these inputs it may be "validation/loss"`: func(o *TrainOptions) {
			o.SelectBest, o.SelectBy = true, "validation/x/loss"
		},
		"method":                 func(o *TrainOptions) { o.Method = "dora" },
		"precision":              func(o *TrainOptions) { o.Precision = "fp8" },
		"neftune":                func(o *TrainOptions) { o.NEFTune = -1 },
		"neither adamw nor lion": func(o *TrainOptions) { o.Optimizer.Kind = "sgd" },
		"quantize":               func(o *TrainOptions) { o.Quantize = "int8" },
		"quantize: method full":  func(o *TrainOptions) { o.Method, o.Quantize = "full", "nf4" },
		"epochs":                 func(o *TrainOptions) { o.Steps = 0 },
		"schedule":               func(o *TrainOptions) { o.Schedule.Kind = "step" },
		"training diverged":      func(o *TrainOptions) { o.Schedule = Schedule{Kind: "constant", Rate: 1e30}; o.Warmup = 0 },
	} {
		o := small(t)
		change(&o)
		err := trainError(t, o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, statErr := os.Stat(o.Out); statErr == nil {
			t.Errorf("%s: left an output", want)
		}
	}
}
