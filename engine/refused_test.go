package engine

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/engine/cpu"
	"lpipe/engine/model"
	"lpipe/engine/safetensors"
)

// TestRefusedSettings names the settings that do not go together, before the model is read.
func TestRefusedSettings(t *testing.T) {
	pairs := func(o *TrainOptions) {
		o.Pairs, o.Train, o.Validation, o.Beta = filepath.Join("testdata", "dpo", "texts.jsonl"), "", nil, 0.1
	}
	for want, change := range map[string]func(*TrainOptions){
		"init: pissa takes the adapter out":   func(o *TrainOptions) { pairs(o); o.LoRA.Init = "pissa" },
		"neftune: the reference":              func(o *TrainOptions) { pairs(o); o.NEFTune = 5 },
		"stand instead of train":              func(o *TrainOptions) { train := o.Train; pairs(o); o.Train = train },
		"beta: must be above 0":               func(o *TrainOptions) { pairs(o); o.Beta = 0 },
		"from: method full trains no adapter": func(o *TrainOptions) { o.Method, o.LoRA, o.From = "full", model.LoRA{}, t.TempDir() },
		"ema: must be from 0 to below 1":      func(o *TrainOptions) { o.EMA = 1 },
		"dropout: must be 0 with DoRA":        func(o *TrainOptions) { o.LoRA.DoRA = true },
	} {
		o := small(t)
		change(&o)
		if err := trainError(t, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestFromOfOtherSettings refuses an adapter to start from that is not what the settings say; dropout is the run's own.
func TestFromOfOtherSettings(t *testing.T) {
	o := small(t)
	o.Steps = 1
	train(t, o, 0)
	o.From, o.Out = o.Out, ""
	for want, change := range map[string]func(*TrainOptions){
		"the settings say 5, 8":       func(o *TrainOptions) { o.LoRA.Rank = 5 },
		"the settings say 4, 9":       func(o *TrainOptions) { o.LoRA.Alpha = 9 },
		"the settings say 4, 8, true": func(o *TrainOptions) { o.LoRA.RSLoRA = true },
		"4, 8, false, true":           func(o *TrainOptions) { o.LoRA.DoRA, o.LoRA.Dropout = true, 0 },
		"the settings' targets are":   func(o *TrainOptions) { o.LoRA.Targets = []string{"q_proj"} },
	} {
		bad := o
		change(&bad)
		if err := trainError(t, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	losses := map[float64]float64{}
	o.Steps, o.Schedule, o.Warmup = 6, Schedule{Kind: "constant", Rate: 2e-2}, 0
	for _, o.LoRA.Dropout = range []float64{0, 0.5} {
		losses[o.LoRA.Dropout] = train(t, o, 0).Train.Loss
	}
	if losses[0] == losses[0.5] {
		t.Error("dropout changes nothing")
	}
}

// TestOtherTokenizerAndTemplate: rows of another tokenizer than the model's are refused, those of another template told of.
func TestOtherTokenizerAndTemplate(t *testing.T) {
	o := small(t)
	o.Model, o.Validation, o.Steps, o.Out = dpoModel(t), nil, 1, ""
	tok, err := loadTokenizer(o.Model)
	if err != nil {
		t.Fatal(err)
	}
	folder := func(tokenizer, template string) string {
		dir := filepath.Join(t.TempDir(), "tokens")
		w, err := dataset.CreateTokens(dir, dataset.Manifest{VocabSize: 256, Tokenizer: tokenizer, Template: template})
		if err != nil {
			t.Fatal(err)
		}
		w.Append(dataset.Sequence{ID: "0", IDs: []int32{1, 2, 3}, Mask: []bool{false, true, true}})
		w.Close()
		return dir
	}
	const warning = "another chat template"
	for template, warned := range map[string]bool{"other": true, tok.TemplateFingerprint(): false, "": false} {
		var log bytes.Buffer
		o.Train, o.Log = folder(tok.Fingerprint(), template), &log
		train(t, o, 0)
		if strings.Contains(log.String(), warning) != warned {
			t.Errorf("template %q:\n%s", template, &log)
		}
	}
	o.Train = folder("other", "")
	if err := trainError(t, o); err == nil || !strings.Contains(err.Error(), "was made by another tokenizer than the model's") {
		t.Errorf("another tokenizer: %v", err)
	}
}

// TestFullOf4Bit: a model that is stored in 4 bits is refused for method full, before memory is planned for it.
func TestFullOf4Bit(t *testing.T) {
	o := small(t)
	stored := filepath.Join(t.TempDir(), "nf4")
	if err := model.Quantise(t.Context(), o.Model, stored, model.QuantiseOptions{}); err != nil {
		t.Fatal(err)
	}
	o.Model = stored
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	for want, change := range map[string]func(*TrainOptions){
		"method: full trains all weights":   func(o *TrainOptions) { o.Method, o.LoRA = "full", model.LoRA{} },
		"init: pissa changes the weights, ": func(o *TrainOptions) { o.LoRA.Init = "pissa" },
	} {
		bad := o
		change(&bad)
		if _, err := Train(t.Context(), dev, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("train: %v, want %q", err, want)
		}
		if _, err := Plan(t.Context(), dev, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("plan: %v, want %q", err, want)
		}
	}
}

// TestBrokenModel: a model whose files hold NaN is named with the tensor, and no advice about learning rates is given.
func TestBrokenModel(t *testing.T) {
	o := small(t)
	good, err := model.OpenFolder(o.Model, "")
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	const name = "model.layers.1.mlp.up_proj.weight"
	var sources []safetensors.Source
	for _, tensor := range good.Tensors() {
		values, err := tensor.Values()
		if err != nil {
			t.Fatal(err)
		}
		if tensor.Name == name {
			values[7] = float32(math.NaN())
		}
		sources = append(sources, safetensors.Float32s(tensor.Name, safetensors.F32, tensor.Shape, values))
	}
	dir := t.TempDir()
	if err := safetensors.WriteDir(dir, sources, 0, nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(o.Model, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	o.Model = dir
	unmeasured := o
	unmeasured.Validation = nil
	for _, o := range []TrainOptions{o, unmeasured} {
		if err := trainError(t, o); err == nil || !strings.Contains(err.Error(), "NaN or infinite values in "+name+":") || strings.Contains(err.Error(), "lower lr") {
			t.Errorf("train: %v", err)
		}
	}
	data, err := dataset.OpenTokens(o.Train)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	generated := cpu.New(cpu.Options{})
	defer generated.Close()
	m, err := model.Load(t.Context(), dir, generated, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	err = Generate(t.Context(), m, [][]int32{{1, 2}}, GenerateOptions{MaxTokens: 2}, func(int, Continuation) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "logits are NaN") {
		t.Errorf("generate: %v", err)
	}
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	if _, err := Evaluate(t.Context(), dev, EvaluateOptions{Model: dir, Data: data}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("evaluate: %v", err)
	}
}
