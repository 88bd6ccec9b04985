package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/engine"
	"lpipe/engine/cpu"
	"lpipe/engine/model"
	"lpipe/engine/tokenizer"
	"lpipe/runner"
)

// engineFixture is a workspace with a tiny model that has a tokenizer, and rows for it.
type engineFixture struct {
	t                   *testing.T
	dir                 string
	model, rows, tokens string
	cpus                int // of a run, 2 unless a test says otherwise
}

func newEngineFixture(t *testing.T) *engineFixture {
	t.Helper()
	dir := t.TempDir()
	f := &engineFixture{t, dir, filepath.Join(dir, "base"), filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "tokens"), 2}
	var rows []dataset.Row
	for i := range engineRows {
		rows = append(rows, engineRow(i, 10*i))
	}
	texts := func(yield func(string, error) bool) {
		for _, r := range rows {
			if !yield(r.Messages[0].Content, nil) || !yield(r.Messages[1].Content, nil) {
				return
			}
		}
	}
	tok, err := tokenizer.Train(t.Context(), tokenizer.TrainOptions{VocabSize: 300, Texts: texts, System: "Hi"})
	f.must(err)
	f.must(tok.Save(f.model))
	f.writeModel(tok.VocabSize())
	f.writeRows(rows)
	f.writeTokens(f.tokens, tok, rows)
	return f
}

// teach trains all weights to answer in the right form, with wrong answers: a base model.
func (f *engineFixture) teach() {
	tok, err := tokenizer.Load(f.model)
	f.must(err)
	var rows []dataset.Row
	for i := range engineRows {
		rows = append(rows, engineRow(i, 10*((i+1)%engineRows)))
	}
	f.writeTokens(f.path("wrong"), tok, rows)
	s := newTrain()
	s.Method = "full"
	f.short(s, 150, 1e-2)
	_, err = f.run(s, []string{"model", f.model, "train", f.path("wrong")}, []string{"model", f.path("taught"), "metrics", f.path("taught.json")})
	f.must(err)
	f.model = f.path("taught")
}

func (f *engineFixture) short(s *Train, steps int, lr float64) {
	s.Steps, s.LR, s.SequenceLength, s.BatchTokens, s.Precision = &steps, &lr, 128, 512, "fp32"
}

// engineRows is how many questions there are; each is answered by a number.
const engineRows = 12

func engineRow(i, answer int) dataset.Row {
	return dataset.Row{
		ID: fmt.Sprint("row", i), Answer: fmt.Sprint(answer),
		Messages: []dataset.Message{
			{Role: dataset.User, Content: fmt.Sprintf("%c%c?", 'A'+i, 'a'+i)},
			{Role: dataset.Assistant, Content: fmt.Sprintf(`<think>%c</think>\boxed{%d}`, 'a'+i, answer)},
		},
	}
}

func (f *engineFixture) writeModel(vocabulary int) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	config := model.Config{Layers: 2, C: 64, H: 4, KV: 2, D: 16, F: 128, V: vocabulary, Eps: 1e-6, Theta: 1e4, Tied: true, MaxPositions: 512}
	m, err := model.New(config, model.Init{Seed: 1, Deviation: 0.02}, dev, model.Options{})
	f.must(err)
	f.must(m.Save(f.t.Context(), f.model, model.SaveOptions{}))
	m.Free()
}

func (f *engineFixture) writeRows(rows []dataset.Row) {
	w, err := dataset.CreateRows(f.rows)
	f.must(err)
	for i := range rows {
		f.must(w.Write(&rows[i]))
	}
	f.must(w.Close())
}

func (f *engineFixture) writeTokens(dir string, tok *tokenizer.Tokenizer, rows []dataset.Row) {
	w, err := dataset.CreateTokens(dir, dataset.Manifest{
		Tokenizer: tok.Fingerprint(), Template: tok.TemplateFingerprint(), VocabSize: tok.VocabSize(),
	})
	f.must(err)
	encoder := tok.NewEncoder()
	for i := range rows {
		one, err := render(encoder, &rows[i])
		f.must(err)
		f.must(w.Append(dataset.Sequence{IDs: one.ids, Mask: one.mask, ID: one.id, Answer: one.answer, Row: i}))
	}
	f.must(w.Close())
}

func (f *engineFixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// run runs a stage with inputs and outputs given as port, path, port, path …
func (f *engineFixture) run(s runner.Stage, in, out []string) (log string, err error) {
	f.t.Helper()
	if c, ok := s.(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return "", err
		}
	}
	var messages bytes.Buffer
	env := &runner.Env{
		Dir: f.dir, In: map[string][]runner.Input{}, Out: map[string]string{}, CPUs: f.cpus,
		Scratch: filepath.Join(f.t.TempDir(), "scratch"), Log: &messages, Report: func(runner.Event) {},
	}
	for pair := range slices.Chunk(in, 2) {
		env.In[pair[0]] = append(env.In[pair[0]], runner.Input{Path: pair[1]})
	}
	for pair := range slices.Chunk(out, 2) {
		env.Out[pair[0]] = pair[1]
	}
	err = s.Run(context.Background(), env)
	return messages.String(), err
}

func (f *engineFixture) metrics(path string) map[string]any {
	f.t.Helper()
	text, err := os.ReadFile(path)
	f.must(err)
	var m map[string]any
	f.must(json.Unmarshal(text, &m))
	return m
}

func (f *engineFixture) path(name string) string { return filepath.Join(f.dir, name) }

// TestTrainEvaluateMerge goes the whole way: an adapter that answers its training rows, and a merged model that does
// so without it.
func TestTrainEvaluateMerge(t *testing.T) {
	f := newEngineFixture(t)
	f.teach()
	s := newTrain()
	f.short(s, 120, 5e-3)
	s.LoRAPlus = &[]float64{2}[0]
	log, err := f.run(s, []string{"model", f.model, "train", f.tokens, "validation", f.tokens}, []string{
		"adapter", f.path("adapter"), "metrics", f.path("lora.json"), "curve", f.path("curve.jsonl"),
		"samples", f.path("train-samples.jsonl"), "checkpoint", f.path("checkpoint"),
	})
	f.must(err)
	if !strings.Contains(log, "120 steps") {
		t.Errorf("log:\n%s", log)
	}
	if m := f.metrics(f.path("lora.json")); m["steps"] != 120.0 || m["validation"].(map[string]any)["loss"].(float64) > 0.2 {
		t.Fatalf("metrics %v", m)
	}
	for _, name := range []string{"adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/tokenizer.json", "checkpoint", "curve.jsonl"} {
		if _, err := os.Stat(f.path(name)); err != nil {
			t.Error(err)
		}
	}
	samples, err := os.ReadFile(f.path("train-samples.jsonl"))
	if f.must(err); strings.Count(string(samples), "\n") != 8 {
		t.Errorf("samples:\n%s", samples)
	}

	accuracy := func(name string, in ...string) float64 {
		e := evaluateKind().New().(*Evaluate)
		e.Generate.MaxTokens = 24
		_, err := f.run(e, in, []string{"metrics", f.path(name), "samples", f.path(name + ".samples")})
		f.must(err)
		return f.metrics(f.path(name))["accuracy"].(float64)
	}
	base := accuracy("base.json", "model", f.model, "data", f.tokens)
	tuned := accuracy("tuned.json", "model", f.model, "adapter", f.path("adapter"), "data", f.tokens)
	if base > 0.1 || tuned < 0.8 {
		t.Errorf("accuracy: base %v, tuned %v", base, tuned)
	}
	if rows := accuracy("rows.json", "model", f.model, "adapter", f.path("adapter"), "data", f.rows); rows != tuned {
		t.Errorf("accuracy on rows %v, on their tokens %v", rows, tuned)
	}
	if _, err := f.run(mergeKind().New(), []string{"model", f.model, "adapter", f.path("adapter")}, []string{"model", f.path("merged"), "gguf", f.path("merged.gguf")}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(f.path("merged.gguf")); err != nil || info.Size() < 10000 {
		f.t.Errorf("merged.gguf: %v", err)
	}
	if merged := accuracy("merged.json", "model", f.path("merged"), "data", f.tokens); merged != tuned {
		t.Errorf("accuracy of the merged model %v, with the adapter %v", merged, tuned)
	}
	testOtherBase(f)
}

// testOtherBase trains all weights a little: the adapter no longer belongs to that model.
func testOtherBase(f *engineFixture) {
	s := newTrain()
	f.short(s, 1, 1e-3)
	s.Method, s.Warmup = "full", 0
	_, err := f.run(s, []string{"model", f.model, "train", f.tokens}, []string{"model", f.path("full"), "metrics", f.path("full.json")})
	f.must(err)
	const want = "was trained on another model"
	if _, err := f.run(mergeKind().New(), []string{"model", f.path("full"), "adapter", f.path("adapter")}, []string{"model", f.path("m")}); err == nil || !strings.Contains(err.Error(), want) {
		f.t.Errorf("merge into another base: %v", err)
	}
	if _, err := f.run(evaluateKind().New(), []string{"model", f.path("full"), "adapter", f.path("adapter"), "data", f.tokens}, nil); err == nil || !strings.Contains(err.Error(), want) {
		f.t.Errorf("evaluate on another base: %v", err)
	}
	// A model of another tokenizer.
	other := newEngineFixture(f.t)
	tok, err := tokenizer.Train(f.t.Context(), tokenizer.TrainOptions{VocabSize: 300, Texts: func(yield func(string, error) bool) { yield("xyxyxy zyzyzy", nil) }})
	f.must(err)
	f.must(tok.Save(other.model))
	if _, err := f.run(s, []string{"model", other.model, "train", f.tokens}, nil); err == nil || !strings.Contains(err.Error(), "another tokenizer") {
		f.t.Errorf("another tokenizer: %v", err)
	}
}

func TestEvaluateErrors(t *testing.T) {
	f := newEngineFixture(t)
	run := func(change func(*Evaluate), model, data string) error {
		e := evaluateKind().New().(*Evaluate)
		change(e)
		_, err := f.run(e, []string{"model", model, "data", data}, []string{"metrics", f.path("m.json")})
		return err
	}
	noAnswers := f.path("none.jsonl")
	os.WriteFile(noAnswers, []byte(`{"id":"1","messages":[{"role":"user","content":"A"},{"role":"assistant","content":"B"}]}`+"\n"), 0o666)
	empty := f.path("empty.jsonl")
	os.WriteFile(empty, nil, 0o666)
	bare := f.path("bare")
	f.must(os.Mkdir(bare, 0o777))
	for _, name := range []string{"config.json", "model.safetensors"} {
		text, err := os.ReadFile(filepath.Join(f.model, name))
		f.must(err)
		f.must(os.WriteFile(filepath.Join(bare, name), text, 0o666))
	}
	keep := func(*Evaluate) {}
	for _, c := range []struct {
		want   string
		change func(*Evaluate)
		model  string
		data   string
	}{
		{"no row has a reference answer", keep, f.model, noAnswers},
		{"the data set is empty", keep, f.model, empty},
		{"does not exist", keep, f.model, f.path("nothing")},
		{"not a token folder", keep, f.model, f.model},
		{"not a model folder", keep, f.tokens, f.tokens},
		{"has no tokenizer", keep, bare, f.tokens},
		{"answer:", func(e *Evaluate) { e.Answer = "letters" }, f.model, f.tokens},
		{"max_tokens", func(e *Evaluate) { e.Generate.MaxTokens = 0 }, f.model, f.tokens},
		{"greedy = false", func(e *Evaluate) { e.Generate.N = 2 }, f.model, f.tokens},
		{"temperature", func(e *Evaluate) { e.Generate.Greedy, e.Generate.Temperature = false, 0 }, f.model, f.tokens},
		{"top_p", func(e *Evaluate) { e.Generate.Greedy, e.Generate.TopP = false, 2 }, f.model, f.tokens},
		{"limit", func(e *Evaluate) { e.Limit = -1 }, f.model, f.tokens},
	} {
		if err := run(c.change, c.model, c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
	if err := run(func(e *Evaluate) { e.Answer = "none" }, bare, f.tokens); err != nil {
		t.Errorf("without answers no tokenizer is needed: %v", err)
	}
	sampled := func(e *Evaluate) {
		e.Generate.Greedy, e.Generate.N, e.Generate.MaxTokens, e.Limit = false, 3, 4, 5
	}
	if err := run(sampled, f.model, f.tokens); err != nil {
		t.Error(err)
	}
	if m := f.metrics(f.path("m.json")); m["rows"] != 5.0 || m["any_right"] == nil {
		t.Errorf("metrics %v", m)
	}
}

// TestTrainSettings decodes every form of every setting, and refuses what is not supported by its name.
func TestTrainSettings(t *testing.T) {
	decode := func(body string) (*Train, string) {
		dir := t.TempDir()
		os.Mkdir(filepath.Join(dir, "m"), 0o777)
		os.Mkdir(filepath.Join(dir, "d"), 0o777)
		text := "stage \"train\" \"x\" {\n  in = { model = \"m\", train = \"d\", validation = \"d\" }\n" + body + "\n}\n"
		if err := os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: []*runner.Kind{trainKind()}})
		if diags.HasErrors() {
			return nil, diags.Error()
		}
		return p.Steps[0].Stage.(*Train), ""
	}
	all, problem := decode(`
		method = "lora"
		rank = 8
		alpha = 4
		dropout = 0.1
		targets = ["q_proj", "mlp.down_proj"]
		init = "gaussian"
		rslora = true
		lora_plus = 16
		rank_pattern = { q_proj = 4 }
		alpha_pattern = { q_proj = 2 }
		quantize = "none"
		sequence_length = 128
		batch_tokens = 512
		epochs = 0.5
		lr = 1e-3
		schedule = "linear"
		warmup = 10
		lr_min = 1e-5
		optimizer = { beta2 = 0.95 }
		weight_decay = 0.1
		clip = 0
		precision = "fp32"
		eval_every = 5
		eval_limit = 0
		select = "best"
		early_stop = { patience = 2, min_delta = 0.01 }
		checkpoint_every = 3
		seed = 1`)
	if problem != "" {
		t.Fatal(problem)
	}
	if all.Rank != 8 || *all.LoRAPlus != 16 || all.RankPattern["q_proj"] != 4 || len(all.Targets) != 2 || all.CheckpointEvery.Steps != 3 ||
		all.Optimizer != (Optimizer{"adamw", 0.9, 0.95, 1e-8}) || all.EarlyStop.Patience != 2 || *all.Epochs != 0.5 {
		t.Errorf("%+v", all)
	}
	if s, problem := decode(`targets = "all-linear"
		checkpoint_every = "90s"
		optimizer = "AdamW"`); problem != "" || s.CheckpointEvery.Time.Seconds() != 90 || s.Targets[0] != "all-linear" || s.Rank != 16 {
		t.Errorf("%+v: %s", s, problem)
	}
	for text, want := range map[string]Optimizer{
		`"lion"`:                          {"lion", 0.9, 0.99, 1e-8},
		`{ name = "lion", beta1 = 0.95 }`: {"lion", 0.95, 0.99, 1e-8},
		`{ beta2 = 0.95 }`:                {"adamw", 0.9, 0.95, 1e-8},
	} {
		if s, problem := decode("optimizer = " + text); problem != "" || s.Optimizer != want {
			t.Errorf("optimizer = %s: %+v %s", text, s, problem)
		}
	}
	for want, body := range map[string]string{
		"Setting method ":          `method = "ppo"`,
		"Is a setting of method":   `beta = 0.1`,
		"Setting quantize ":        `quantize = "int8"`,
		"Setting lr ":              `method = "full"`,
		"Setting rank ":            `rank = 0`,
		"Setting alpha ":           `alpha = 0`,
		"Setting dropout ":         `dropout = 1`,
		"Must be 0 with method":    "method = \"dora\"\ndropout = 0.1",
		"Setting init ":            `init = "eva"`,
		"Setting ema ":             `ema = 1`,
		"Setting checkpoint_keep ": `checkpoint_keep = 1`,
		"Setting targets ":         `targets = []`,
		"Setting lora_plus ":       `lora_plus = 0`,
		"Setting rank_pattern ":    `rank_pattern = { q_proj = 0.5 }`,
		"Setting alpha_pattern ":   `alpha_pattern = { q_proj = 0 }`,
		"Setting precision ":       `precision = "fp16"`,
		"Setting schedule ":        `schedule = "step"`,
		"Setting neftune ":         `neftune = -1`,
		"Setting decay ":           `decay = -1`,
		"Setting lr_min ":          `lr_min = 1`,
		"Setting steps ":           "steps = 1\nepochs = 1",
		"Setting micro_batch ":     `micro_batch = 2`,
		"Setting select ":          `select = "first"`,
		"optimizer":                `optimizer = "sgd"`,
		"checkpoint_every":         `checkpoint_every = "often"`,
	} {
		if _, problem := decode(body); !strings.Contains(problem, want) {
			t.Errorf("%s: %q", body, problem)
		}
	}
}

func TestPreferenceSettings(t *testing.T) {
	zero := 0.0
	for want, change := range map[string]func(*Train){
		"beta: must be above 0":                func(s *Train) { s.Beta = &zero },
		`overlong: "split" is neither`:         func(s *Train) { s.Overlong = "split" },
		"init: pissa takes":                    func(s *Train) { s.Init = "pissa" },
		"neftune: has no place":                func(s *Train) { s.NEFTune = 5 },
		"overlong: is a setting of method dpo": func(s *Train) { s.Method, s.Overlong = "lora", "drop" },
		"rank: must be at least 1":             func(s *Train) { s.Rank = 0 },
	} {
		s := newTrain()
		s.Method = "dpo"
		if err := s.Check(); err != nil || s.schedule().Rate != 1e-5 {
			t.Errorf("defaults: %v, rate %v", err, s.schedule().Rate)
		}
		change(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{`"5GB"`: 5e9, `"1.5 MiB"`: 3 << 19, `1000`: 1000, `"0"`: 0, `"7B"`: 7} {
		var s Size
		if err := json.Unmarshal([]byte(text), &s); err != nil || s != want {
			t.Errorf("%s: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{`"5 apples"`, `-1`, `"GB"`, `"1e30GB"`, `true`} {
		var s Size
		if json.Unmarshal([]byte(text), &s) == nil {
			t.Errorf("%s: taken for %d", text, s)
		}
	}
}

var _ engine.Examples = examples(nil)

// TestTrainSamples: answers while training carry their step, and change nothing of what is trained.
func TestTrainSamples(t *testing.T) {
	f := newEngineFixture(t)
	weights := func(name string, every float64, out ...string) string {
		s := newTrain()
		f.short(s, 6, 5e-3)
		s.SamplesEvery = every
		_, err := f.run(s, []string{"model", f.model, "train", f.tokens}, append([]string{"adapter", f.path(name), "metrics", f.path(name + ".json")}, out...))
		f.must(err)
		b, err := os.ReadFile(f.path(name + "/adapter_model.safetensors"))
		f.must(err)
		return string(b)
	}
	if weights("quiet", 0) != weights("talking", 2, "samples", f.path("samples.jsonl")) {
		t.Error("samples changed what was trained")
	}
	text, err := os.ReadFile(f.path("samples.jsonl"))
	f.must(err)
	steps := map[int]int{}
	for line := range strings.Lines(string(text)) {
		var l struct{ Step *int }
		f.must(json.Unmarshal([]byte(line), &l))
		if l.Step == nil {
			t.Fatalf("a line without a step: %s", line)
		}
		steps[*l.Step]++
	}
	if want := map[int]int{0: 8, 2: 8, 4: 8, 6: 8}; !maps.Equal(steps, want) {
		t.Errorf("lines by step %v, want %v", steps, want)
	}
}

// What a setting measures must be there when the file is checked, not when the stage's turn comes hours later.
func TestTrainNeedsValidation(t *testing.T) {
	for _, setting := range []string{`select = "best"`, `select = "validation/x/loss"`, `early_stop = { patience = 2 }`} {
		for in, ok := range map[string]bool{"": false, ", validation = \"v\"": true} {
			dir := t.TempDir()
			for _, name := range []string{"m", "d", "v"} {
				os.Mkdir(filepath.Join(dir, name), 0o777)
			}
			text := fmt.Sprintf("stage \"train\" \"x\" {\n  in = { model = \"m\", train = \"d\"%s }\n  %s\n}\n", in, setting)
			if err := os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			_, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: []*runner.Kind{trainKind()}})
			if diags.HasErrors() == ok || !ok && !strings.Contains(diags.Error(), "validation") {
				t.Errorf("%s with %q: %v", setting, in, diags)
			}
		}
	}
}

// What was trained is kept, whatever out names.
func TestTrainKeepsItsWeights(t *testing.T) {
	for method, want := range map[string]string{"lora": "adapter curve metrics", "dpo": "adapter curve metrics", "full": "curve metrics model"} {
		dir := t.TempDir()
		os.Mkdir(filepath.Join(dir, "m"), 0o777)
		os.WriteFile(filepath.Join(dir, "d"), nil, 0o666)
		in := "train"
		if method == "dpo" {
			in = "pairs"
		}
		text := fmt.Sprintf("stage \"train\" \"x\" {\n  in = { model = \"m\", %s = \"d\" }\n  method = %q\n  lr = 1e-3\n  out = { curve = \"c.jsonl\" }\n}\n", in, method)
		if err := os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: []*runner.Kind{trainKind()}})
		if diags.HasErrors() {
			t.Fatal(diags.Error())
		}
		var names []string
		for _, out := range p.Steps[0].Out {
			names = append(names, out.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: outputs %s, want %s", method, got, want)
		}
	}
}
