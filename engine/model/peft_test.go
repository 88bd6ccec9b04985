package model

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

func TestPEFTFolder(t *testing.T) {
	f := open(t, "peft_dir")
	want, b := f.tensors(t, "expected.safetensors"), f.tensors(t, "inputs.safetensors").batch("")
	adapter := filepath.Join(f.dir, "adapter")
	devices(t, func(t *testing.T, dev ops.Device) {
		m := load(t, f.Model, dev, Options{Adapter: adapter})
		near(t, "logits", allLogits(t, m, b), want.floats("logits"), 1e-5, 6e-5, b.real())
		near(t, "logits against float64", allLogits(t, m, b), f.tensors(t, "reference64.safetensors").floats("logits"), 1e-5, 6e-5, b.real())
		base := load(t, f.Model, dev, Options{})
		near(t, "base logits", allLogits(t, base, b), want.floats("base_logits"), 1e-5, 6e-5, b.real())

		again := t.TempDir()
		if err := m.SaveAdapter(again, "models/tied"); err != nil {
			t.Fatal(err)
		}
		sameFile(t, filepath.Join(again, adapterWeights), filepath.Join(adapter, adapterWeights))
		sameSettings(t, filepath.Join(again, adapterConfig), filepath.Join(adapter, adapterConfig))
		reloaded := load(t, f.Model, dev, Options{Adapter: again})
		near(t, "logits of the saved adapter", allLogits(t, reloaded, b), allLogits(t, m, b), 0, 0, b.real())
	})
}

// TestSavedSettings: what is saved of an adapter that PEFT wrote says what PEFT said.
func TestSavedSettings(t *testing.T) {
	for _, name := range []string{"lora_grads_patterns", "lora_grads_rslora", "lora_grads_subset"} {
		f := open(t, name)
		adapter := filepath.Join(f.dir, "adapter")
		dev := cpu.NewPlain()
		m := load(t, f.Model, dev, Options{Adapter: adapter})
		again := t.TempDir()
		if err := m.SaveAdapter(again, "models/"+filepath.Base(f.Model)); err != nil {
			t.Fatal(err)
		}
		sameFile(t, filepath.Join(again, adapterWeights), filepath.Join(adapter, adapterWeights))
		sameSettings(t, filepath.Join(again, adapterConfig), filepath.Join(adapter, adapterConfig))
	}
}

func sameFile(t *testing.T, got, want string) {
	t.Helper()
	g, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("%s differs from %s", got, want)
	}
}

// sameSettings compares every key that is written with what PEFT wrote.
func sameSettings(t *testing.T, got, want string) {
	t.Helper()
	read := func(path string) (m map[string]any) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	g, w := read(got), read(want)
	for key, v := range g {
		if !reflect.DeepEqual(v, w[key]) {
			t.Errorf("%s: %s is %v, want %v", want, key, v, w[key])
		}
	}
	if len(g) < 20 {
		t.Errorf("%s has only %d settings", got, len(g))
	}
}

func TestMerge(t *testing.T) {
	f := open(t, "peft_dir")
	adapter, merged := filepath.Join(f.dir, "adapter"), filepath.Join(f.dir, "merged")
	want, b := f.tensors(t, "expected.safetensors"), f.tensors(t, "inputs.safetensors").batch("")
	out := filepath.Join(t.TempDir(), "model")
	if err := Merge(context.Background(), f.Model, adapter, out, SaveOptions{Shard: 70_000}); err != nil {
		t.Fatal(err)
	}
	sameFile(t, filepath.Join(out, safetensors.Index), filepath.Join(merged, safetensors.Index))
	sameFile(t, filepath.Join(out, "generation_config.json"), filepath.Join(merged, "generation_config.json"))
	got, expected := folder(t, out), folder(t, merged)
	for _, tensor := range expected.Tensors() {
		g, w := make([]float32, tensor.Len()), make([]float32, tensor.Len())
		if err := got.Float32(tensor.Name, g); err != nil {
			t.Fatal(err)
		}
		if err := expected.Float32(tensor.Name, w); err != nil {
			t.Fatal(err)
		}
		near(t, tensor.Name, g, w, 1e-6, 1e-7, nil)
	}
	dev := cpu.NewPlain()
	m := load(t, out, dev, Options{})
	near(t, "merged logits", allLogits(t, m, b), want.floats("merged_logits"), 1e-5, 6e-5, b.real())
}

func folder(t *testing.T, dir string) *safetensors.Folder {
	t.Helper()
	d, err := safetensors.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestMergeTypes: the type of the merged weights is the base's unless another is asked for, and config.json says it.
func TestMergeTypes(t *testing.T) {
	f := open(t, "peft_dir")
	ctx, half, back := context.Background(), filepath.Join(t.TempDir(), "half"), filepath.Join(t.TempDir(), "back")
	adapter := filepath.Join(f.dir, "adapter")
	if err := Merge(ctx, f.Model, adapter, half, SaveOptions{DType: "bfloat16"}); err != nil {
		t.Fatal(err)
	}
	if err := Merge(ctx, half, adapter, back, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{half, back} {
		c, err := ReadConfig(dir)
		if err != nil || c.DType != "bfloat16" {
			t.Errorf("config.json says %q, error %v", c.DType, err)
		}
		for _, tensor := range folder(t, dir).Tensors() {
			if tensor.DType != safetensors.BF16 {
				t.Errorf("%s has type %s", tensor.Name, tensor.DType)
			}
		}
	}
	if err := Merge(ctx, f.Model, adapter, back, SaveOptions{DType: "int4"}); err == nil || !strings.Contains(err.Error(), "bfloat16") {
		t.Errorf("error %v does not name the types that there are", err)
	}
}

// TestSaveFull: a model that was loaded and saved is the same model.
func TestSaveFull(t *testing.T) {
	for _, name := range []string{"tied", "untied", "headdim"} {
		dir := filepath.Join("..", "testdata", "models", name)
		m := load(t, dir, cpu.NewPlain(), Options{Method: TrainFull})
		out := t.TempDir()
		if err := m.Save(context.Background(), out, SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		sameFile(t, filepath.Join(out, "model.safetensors"), filepath.Join(dir, "model.safetensors"))
		sameSettings(t, filepath.Join(out, "config.json"), filepath.Join(dir, "config.json"))
	}
}

func TestAdapterOfAnotherBase(t *testing.T) {
	adapter := filepath.Join("..", "testdata", "peft_dir", "adapter")
	_, err := Load(context.Background(), filepath.Join("..", "testdata", "models", "untied"), cpu.NewPlain(), Options{Adapter: adapter})
	for _, want := range []string{
		adapter, "made for models/tied",
		"layers.{0-1}.self_attn.q_proj.lora_A.weight has shape [8 72] where model and adapter_config.json need [8 64]",
		"layers.2.mlp.down_proj.lora_A.weight belongs to no linear of the model's 2 layers",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
}

func TestBadAdapters(t *testing.T) {
	good := filepath.Join("..", "testdata", "peft_dir", "adapter")
	text, err := os.ReadFile(filepath.Join(good, adapterConfig))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(filepath.Join(good, adapterWeights))
	if err != nil {
		t.Fatal(err)
	}
	config, err := ReadConfig(filepath.Join("..", "testdata", "models", "tied"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new, want string }{
		{"DoRA", `"use_dora": false`, `"use_dora": true`, "layers.{0-2}.mlp.up_proj.lora_magnitude_vector is missing"},
		{"another kind", `"LORA"`, `"IA3"`, `peft_type is "IA3"`},
		{"trained biases", `"bias": "none"`, `"bias": "all"`, `bias is "all"`},
		{"whole modules", `"modules_to_save": null`, `"modules_to_save": ["lm_head"]`, `modules_to_save is ["lm_head"]`},
		{"another rank", `"r": 8`, `"r": 4`, "has shape [8 72] where model and adapter_config.json need [4 72]"},
		{"rank 0", `"r": 8`, `"r": 0`, "rank: must be at least 1"},
		{"no JSON", `{`, ``, adapterConfig},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			changed := strings.Replace(string(text), test.old, test.new, 1)
			if changed == string(text) {
				t.Fatal("nothing was replaced")
			}
			os.WriteFile(filepath.Join(dir, adapterConfig), []byte(changed), 0o644)
			os.WriteFile(filepath.Join(dir, adapterWeights), weights, 0o644)
			if _, err := OpenAdapter(dir, config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not contain %q", err, test.want)
			}
		})
	}
	dir := t.TempDir()
	if _, err := OpenAdapter(dir, config); err == nil || !strings.Contains(err.Error(), "not an adapter folder") {
		t.Errorf("error %v does not say that it is no adapter folder", err)
	}
	os.WriteFile(filepath.Join(dir, adapterConfig), text, 0o644)
	os.WriteFile(filepath.Join(dir, adapterWeights), weights[:len(weights)-4], 0o644)
	if _, err := OpenAdapter(dir, config); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("error %v does not say that the file is truncated", err)
	}
}

func TestTargets(t *testing.T) {
	c, err := ReadConfig(filepath.Join("..", "testdata", "models", "tied"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		targets []string
		n       int
		want    string // of the error
	}{
		{[]string{AllLinear}, 21, ""},
		{[]string{"q_proj", "v_proj"}, 6, ""},
		{[]string{"mlp.down_proj"}, 3, ""},
		{[]string{"layers.1.self_attn.q_proj"}, 1, ""},
		{[]string{"layers.[01].self_attn.(q|k)_proj"}, 4, ""},
		{[]string{"model.layers.2.mlp.*"}, 3, ""},
		{[]string{"proj"}, 0, `targets: "proj" matches no linear`},
		{[]string{"lm_head"}, 0, "self_attn.q_proj"},
		{[]string{"q_proj("}, 0, "regular expression"},
		{nil, 0, "targets: none"},
	}
	for _, test := range tests {
		names, err := LoRA{Rank: 4, Alpha: 8, Targets: test.targets}.Modules(c)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("targets %q: error %v does not contain %q", test.targets, err, test.want)
			}
		} else if err != nil || len(names) != test.n {
			t.Errorf("targets %q chose %v, error %v; want %d", test.targets, names, err, test.n)
		}
	}
	_, err = LoRA{
		Rank: 0, Alpha: -1, Dropout: 1, Targets: []string{"nope"}, Init: "eva",
		RankPattern: NewPatterns(map[string]float64{"x": 2.5}), AlphaPattern: NewPatterns(map[string]float64{"q_proj": 0}),
	}.Modules(c)
	for _, want := range []string{
		"rank: ", "alpha: ", "dropout: ", "targets: ", "init: ", "rank_pattern: the rank", `rank_pattern: "x" matches none`, "alpha_pattern: the alpha",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
}

// A pattern that matches nothing is told what there is to match.
func TestPatternOfNothing(t *testing.T) {
	c, err := ReadConfig(filepath.Join("..", "testdata", "models", "tied"))
	if err != nil {
		t.Fatal(err)
	}
	l := LoRA{Rank: 4, Alpha: 8, Targets: []string{"v_proj", "q_proj"}, RankPattern: NewPatterns(map[string]float64{"qproj": 2})}
	want := `rank_pattern: "qproj" matches none of the adapted modules, which are q_proj, v_proj of 3 layers`
	if _, err := l.Modules(c); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestLargestRank: a rank may be above a module's narrow side, as PEFT allows, but not above the hidden size.
func TestLargestRank(t *testing.T) {
	c, err := ReadConfig(filepath.Join("..", "testdata", "models", "tied"))
	if err != nil {
		t.Fatal(err)
	}
	if narrow := c.KV * c.D; narrow >= c.C {
		t.Fatalf("keys and values are %d wide, the model %d: nothing is tested", narrow, c.C)
	}
	l := LoRA{Rank: c.C, Alpha: 8, Targets: []string{AllLinear}}
	if _, err := l.Modules(c); err != nil {
		t.Errorf("rank %d: %v", l.Rank, err)
	}
	l.Rank = c.C + 1
	want := fmt.Sprintf("rank: %d (of model.layers.0.self_attn.q_proj) is larger than the model's hidden size, %d", l.Rank, c.C)
	if _, err := l.Modules(c); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("rank %d: %v; want one error that begins %q", l.Rank, err, want)
	}
	l.RankPattern = NewPatterns(map[string]float64{".*": 4})
	if _, err := l.Modules(c); err != nil {
		t.Errorf("rank_pattern lowers every rank, yet: %v", err)
	}
	l.Rank, l.RankPattern = 4, NewPatterns(map[string]float64{"down_proj": float64(c.C + 1)})
	if _, err := l.Modules(c); err == nil || !strings.Contains(err.Error(), "layers.0.mlp.down_proj") {
		t.Errorf("rank_pattern above the hidden size: %v", err)
	}
}

// TestNewAdapters: A is drawn as PEFT draws it, B is zero, and both follow from seed and name alone.
func TestNewAdapters(t *testing.T) {
	dir := filepath.Join("..", "testdata", "models", "untied")
	dev := cpu.NewPlain()
	l := LoRA{Rank: 8, Alpha: 16, Targets: []string{AllLinear}}
	all := load(t, dir, dev, Options{Method: TrainLoRA, LoRA: l, Seed: 1})
	other := load(t, dir, dev, Options{Method: TrainLoRA, LoRA: l, Seed: 2})
	l.Targets = []string{"v_proj"}
	some := load(t, dir, dev, Options{Method: TrainLoRA, LoRA: l, Seed: 1})
	byName := map[string][]float32{}
	for i, p := range all.Parameters() {
		values := read(all, p.Weights)
		byName[p.Name] = values
		if strings.Contains(p.Name, "lora_B") {
			near(t, p.Name, values, make([]float32, len(values)), 0, 0, nil)
			continue
		}
		bound, mean, square := 1/math.Sqrt(float64(p.Shape[1])), 0.0, 0.0
		for _, v := range values {
			if math.Abs(float64(v)) > bound {
				t.Errorf("%s holds %g, beyond %g", p.Name, v, bound)
			}
			mean += float64(v) / float64(len(values))
			square += float64(v) * float64(v) / float64(len(values))
		}
		// Six standard errors of the mean and of the mean square of a uniform distribution.
		n := math.Sqrt(float64(len(values)))
		if math.Abs(mean) > 6*bound/math.Sqrt(3)/n || math.Abs(square-bound*bound/3) > 6*bound*bound*0.3/n {
			t.Errorf("%s has mean %g and mean square %g; bound %g", p.Name, mean, square, bound)
		}
		if reflect.DeepEqual(values, read(other, other.Parameters()[i].Weights)) {
			t.Errorf("%s is the same for another seed", p.Name)
		}
	}
	for _, p := range some.Parameters() {
		if !reflect.DeepEqual(read(some, p.Weights), byName[p.Name]) {
			t.Errorf("%s depends on which other modules are adapted", p.Name)
		}
	}
	if !reflect.DeepEqual(some.LoRA.Targets, []string{"v_proj"}) || len(some.Parameters()) != 4 {
		t.Errorf("%d tensors for %v", len(some.Parameters()), some.LoRA.Targets)
	}
}
