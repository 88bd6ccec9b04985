package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// dpoCase is testdata/dpo/case.json: what TRL's DPOTrainer computes.
type dpoCase struct {
	Beta float64 `json:"beta"`
	LoRA struct {
		R       int      `json:"r"`
		Alpha   float64  `json:"lora_alpha"`
		Targets []string `json:"target_modules"`
	} `json:"lora"`
	Chats, Texts dpoPairs
	Steps        []map[string]float64 `json:"steps"`
	Training     struct {
		Steps             int
		Rate, Decay, Clip float64
		Schedule          string
	} `json:"training"`
}

type dpoPairs struct {
	Pairs []struct {
		Loss           float64 `json:"loss"`
		Prompt         []int32 `json:"prompt_ids"`
		Chosen         []int32 `json:"chosen_ids"`
		Rejected       []int32 `json:"rejected_ids"`
		LogpChosen     float64 `json:"logps/chosen"`
		LogpRejected   float64 `json:"logps/rejected"`
		RewardChosen   float64 `json:"rewards/chosen"`
		RewardRejected float64 `json:"rewards/rejected"`
	} `json:"pairs"`
	Batch map[string]float64 `json:"batch"`
}

func (c dpoCase) pairs(file string) dpoPairs {
	if file == "texts" {
		return c.Texts
	}
	return c.Chats
}

// dpoModel is the fixture's model with its tokenizer.
func dpoModel(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{untied, "testdata/dpo/tokenizer"} {
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// preferring is a run on a file of the fixture, with the adapter whose tensors begin with prefix.
func preferring(t *testing.T, c dpoCase, file, prefix string) *run {
	t.Helper()
	dev := cpu.New(cpu.Options{Threads: 2})
	t.Cleanup(func() { dev.Close() })
	r, err := prepare(context.Background(), dev, dpoOptions(t, c, file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	expected := openTensors(t, "testdata/dpo/expected.safetensors")
	for _, p := range r.model.Parameters() {
		dev.Write(p.Weights, floats(t, expected, prefix+p.Name, p.Weights.Len))
	}
	return r
}

// dpoOptions are steps of all pairs of a file at once: no two of them differ in their rows, whatever the order.
func dpoOptions(t testing.TB, c dpoCase, file string) TrainOptions {
	length, step := 256, 1102
	if file == "texts" {
		length, step = 80, 112
	}
	data := filepath.Join("testdata", "dpo", file+".jsonl")
	return TrainOptions{
		Model: dpoModel(t), Pairs: data, Validation: []DataSet{{Path: data}}, Beta: c.Beta, Method: "lora", Precision: "fp32",
		LoRA:           model.LoRA{Rank: c.LoRA.R, Alpha: c.LoRA.Alpha, Targets: c.LoRA.Targets},
		SequenceLength: length, BatchTokens: step, Steps: c.Training.Steps,
		Schedule:  Schedule{Kind: c.Training.Schedule, Rate: c.Training.Rate},
		Optimizer: Optimizer{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: c.Training.Decay, Clip: c.Training.Clip},
		EvalEvery: 2, Seed: 7, Out: filepath.Join(t.TempDir(), "out"), CurveOut: filepath.Join(t.TempDir(), "curve.jsonl"),
	}
}

// TestPreferenceMargins: the loss is right where the exponential of a margin is no number.
func TestPreferenceMargins(t *testing.T) {
	for margin, want := range map[float64]float64{1000: 0, -1000: 1000, 0: math.Ln2} {
		var p preference
		p.add(1, logps{chosen: margin}, logps{})
		if math.Abs(p.loss-want) > 1e-12 || p.pairs != 1 || p.right != max(0, int(margin/1000)) {
			t.Errorf("margin %v: %+v", margin, p)
		}
	}
}

// TestPreferenceIsTRLs compares ids, log p, rewards, loss and gradients of a batch with DPOTrainer's, in packs of one pair
// and of several.
func TestPreferenceIsTRLs(t *testing.T) {
	var c dpoCase
	readCase(t, "dpo", &c)
	for _, file := range []string{"chats", "texts"} {
		want := c.pairs(file)
		r := preferring(t, c, file, file+".weight.")
		if r.data.Len() != len(want.Pairs) {
			t.Fatalf("%s: %d pairs, want %d", file, r.data.Len(), len(want.Pairs))
		}
		for i, p := range want.Pairs {
			ids := fmt.Sprint(p.Prompt, p.Chosen, p.Prompt, p.Rejected)
			got := r.data.IDs(i, nil)
			at, n := r.data.(*pairs).Split(i), len(p.Prompt)
			if fmt.Sprint(got[:n], got[n:at], got[at:at+n], got[at+n:]) != ids {
				t.Errorf("%s, pair %d: other ids", file, i)
			}
		}
		packs, _ := r.plan.step(1)
		if len(packs) < 2 || len(packs) == len(want.Pairs) && file == "texts" {
			t.Errorf("%s: %d packs", file, len(packs)) // texts: one of two pairs
		}
		r.model.ZeroGrad()
		sums := preference{}
		for _, pack := range packs {
			before := sums
			if err := r.pass(r.batch.fill(r.plan.set, pack), pack, len(want.Pairs)); err != nil {
				t.Fatal(err)
			}
			settled, err := r.model.Settle()
			if err != nil {
				t.Fatal(err)
			}
			r.settlePairs(&sums, [][]int32{pack}, settled.Pairs, len(want.Pairs))
			if len(pack) > 1 {
				continue
			}
			p := want.Pairs[pack[0]]
			near(t, "loss", sums.loss-before.loss, p.Loss, 2e-5)
			near(t, "log p of the chosen", sums.logpChosen-before.logpChosen, p.LogpChosen, 2e-6)
			near(t, "log p of the rejected", sums.logpRejected-before.logpRejected, p.LogpRejected, 2e-6)
			near(t, "reward of the chosen", sums.chosen-before.chosen, p.RewardChosen, 2e-4)
			near(t, "reward of the rejected", sums.rejected-before.rejected, p.RewardRejected, 2e-4)
		}
		near(t, "loss", sums.loss/float64(sums.pairs), want.Batch["loss"], 1e-5)
		for name, v := range sums.metrics("") {
			near(t, file+" "+name, v, want.Batch[name], 1e-4)
		}
		compareGradients(t, r, file+".grad.")
	}
}

func compareGradients(t *testing.T, r *run, prefix string) {
	t.Helper()
	expected := openTensors(t, "testdata/dpo/expected.safetensors")
	for _, p := range r.model.Parameters() {
		want, got := floats(t, expected, prefix+p.Name, p.Grad.Len), make([]float32, p.Grad.Len)
		r.dev.Read(got, p.Grad)
		worst, largest := 0.0, 0.0
		for i, w := range want {
			worst, largest = max(worst, math.Abs(float64(got[i]-w))), max(largest, math.Abs(float64(w)))
		}
		if !(worst <= 5e-5*largest) {
			t.Errorf("%s differs by %g of %g", p.Name, worst, largest)
		}
	}
}

// TestPreferenceTraining takes DPOTrainer's steps: numbers of each, and the adapter behind them.
func TestPreferenceTraining(t *testing.T) {
	var c dpoCase
	readCase(t, "dpo", &c)
	r := preferring(t, c, "chats", "train.initial.")
	if err := r.loop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if first := r.Curve[1]; math.Abs(*first.Loss-math.Ln2) > 1e-15 || first.Preference["train/rewards/margins"] != 0 {
		t.Errorf("an adapter that adds nothing: loss %v, %v", *first.Loss, first.Preference)
	}
	for i, want := range c.Steps {
		p := r.Curve[i+1]
		near(t, "loss", *p.Loss, want["loss"], 1e-5)
		near(t, "rate", *p.Rate, want["learning_rate"], 1e-9)
		near(t, "norm", *p.Norm, want["grad_norm"], 1e-4)
		for name, v := range p.Preference {
			if got, want := v, want[strings.TrimPrefix(name, "train/")]; math.Abs(got-want) > 1e-4*math.Abs(want)+1e-5 {
				t.Errorf("step %d, %s is %v, want %v", i+1, name, got, want)
			}
		}
	}
	expected := openTensors(t, "testdata/dpo/expected.safetensors")
	for _, p := range r.model.Parameters() {
		want, got := floats(t, expected, "train.final."+p.Name, p.Weights.Len), make([]float32, p.Weights.Len)
		r.dev.Read(got, p.Weights)
		for i, w := range want {
			if math.Abs(float64(got[i]-w)) > 2e-5 { // a hundredth of a step
				t.Fatalf("%s[%d] is %v, want %v", p.Name, i, got[i], w)
			}
		}
	}
	if v := r.result().Validation; !(v["loss"].(float64) < 0.5) || !(v["rewards"].(map[string]float64)["margins"] > 0.5) {
		t.Errorf("validation: %v", v)
	}
}

// TestPreferenceResumes: dropout, several packs, a stop after every step: the bits of one run, curve included.
func TestPreferenceResumes(t *testing.T) {
	var c dpoCase
	readCase(t, "dpo", &c)
	o := dpoOptions(t, c, "chats")
	o.LoRA.Dropout, o.BatchTokens, o.SelectBest, o.Steps = 0.1, 256, true, 6
	want := snapshot(t, o, train(t, o, 1))
	resumed := o
	resumed.Out, resumed.Scratch, resumed.CheckpointSteps = filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "scratch"), 1
	last := -1
	result, starts := trainInterrupted(t, resumed, true, func(step int) bool {
		stop := step > last && step > 0
		last = max(last, step)
		return stop
	})
	if got := snapshot(t, resumed, result); got != want || starts < 4 {
		t.Errorf("other bits after %d starts:\n%s\nwant:\n%s", starts, got, want)
	}
	var saved map[string]any
	text, err := json.Marshal(result)
	if err != nil || json.Unmarshal(text, &saved) != nil {
		t.Fatal(err)
	}
	if _, ok := saved["train"].(map[string]any)["rewards"].(map[string]any)["accuracies"]; !ok {
		t.Errorf("metrics: %s", text)
	}
}

// TestPreferencesRefused: what cannot be trained on is said before any work.
func TestPreferencesRefused(t *testing.T) {
	var c dpoCase
	readCase(t, "dpo", &c)
	file := func(lines ...string) string {
		path := filepath.Join(t.TempDir(), "pairs.jsonl")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := `{"prompt": "one", "chosen": "two", "rejected": "three"}`
	long := `{"prompt": "one", "chosen": "` + strings.Repeat("many words ", 60) + `", "rejected": "three"}`
	same := `{"prompt": "one", "chosen": "two", "rejected": "two"}`
	for want, change := range map[string]func(*TrainOptions){
		"the file is empty":                           func(o *TrainOptions) { o.Pairs = file() },
		"line 2: column rejected is missing":          func(o *TrainOptions) { o.Pairs = file(good, `{"prompt": "a", "chosen": "b"}`) },
		"prompt is null, chosen a text":               func(o *TrainOptions) { o.Pairs = file(`{"chosen": "b", "rejected": "c"}`) },
		"the prompt is empty":                         func(o *TrainOptions) { o.Pairs = file(`{"prompt": "", "chosen": "b", "rejected": "c"}`) },
		"chosen or rejected is empty":                 func(o *TrainOptions) { o.Pairs = file(`{"prompt": "a", "chosen": "", "rejected": "c"}`) },
		"chosen and rejected are the same":            func(o *TrainOptions) { o.Pairs = file(same) },
		"more than 80 tokens together":                func(o *TrainOptions) { o.Pairs = file(long) },
		"has no tokenizer":                            func(o *TrainOptions) { o.Model = untied },
		"beta: must be above 0":                       func(o *TrainOptions) { o.Beta = 0 },
		"pairs: preferences train an adapter":         func(o *TrainOptions) { o.Method = "full" },
		"has no message":                              func(o *TrainOptions) { o.Pairs = file(`{"prompt": [], "chosen": [], "rejected": []}`) },
		"neftune: the reference":                      func(o *TrainOptions) { o.NEFTune = 5 },
		"not the base model, which preferences":       func(o *TrainOptions) { o.LoRA.Init = "pissa" },
		"validation: " + "open rows":                  func(o *TrainOptions) { o.Validation = []DataSet{{Path: t.TempDir()}} },
		"pairs: open rows: open /missing/pairs.jsonl": func(o *TrainOptions) { o.Pairs = "/missing/pairs.jsonl" },
	} {
		o := dpoOptions(t, c, "texts")
		change(&o)
		if err := trainError(t, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}

	var log bytes.Buffer
	o := dpoOptions(t, c, "texts")
	o.Pairs, o.Validation, o.Truncate, o.Log = file(good, same, long), nil, true, &log
	if result := train(t, o, 1); result.Rows != 2 {
		t.Errorf("%d pairs are left", result.Rows)
	}
	for _, want := range []string{"1 pairs are left out: chosen and rejected are the same, the first is", "1 pairs are cut to 40 tokens a text", "line 3"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, &log)
		}
	}
}

// TestPreferencePrompt: without a prompt it is what both conversations begin with, and reads the same.
func TestPreferencePrompt(t *testing.T) {
	dir := dpoModel(t)
	ids := func(row string) string {
		path := filepath.Join(t.TempDir(), "pairs.jsonl")
		if err := os.WriteFile(path, []byte(row), 0o666); err != nil {
			t.Fatal(err)
		}
		p, err := readPairs(path, dir, 1000, false, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(p.IDs(0, nil), p.Mask(0, nil))
	}
	explicit := ids(`{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Yes"}], "rejected": [{"role": "assistant", "content": "No"}]}`)
	if implicit := ids(`{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]}`); implicit != explicit {
		t.Errorf("%s, want %s", implicit, explicit)
	}
}
