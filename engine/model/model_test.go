package model

import (
	"context"
	"errors"
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

func TestConfigForms(t *testing.T) {
	// As published with Qwen2.5-0.5B-Instruct, by transformers 4.
	old := `{"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"bos_token_id":151643,"eos_token_id":151645,"hidden_act":"silu",
		"hidden_size":896,"initializer_range":0.02,"intermediate_size":4864,"max_position_embeddings":32768,"max_window_layers":21,
		"model_type":"qwen2","num_attention_heads":14,"num_hidden_layers":24,"num_key_value_heads":2,"rms_norm_eps":1e-06,
		"rope_theta":1000000.0,"sliding_window":32768,"tie_word_embeddings":true,"torch_dtype":"bfloat16",
		"transformers_version":"4.43.1","use_cache":true,"use_sliding_window":false,"vocab_size":151936}`
	c, err := parseConfig([]byte(old))
	if err != nil {
		t.Fatal(err)
	}
	c.file = nil
	want := Config{
		Layers: 24, C: 896, H: 14, KV: 2, D: 64, F: 4864, V: 151936, Eps: 1e-6, Theta: 1e6, Tied: true, MaxPositions: 32768,
		DType: "bfloat16", EOS: []int32{151645},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if n := c.Parameters(); n != 494_032_768 { // as its model card says
		t.Errorf("%d parameters", n)
	}
	c, err = ReadConfig(filepath.Join("..", "testdata", "models", "headdim"))
	if err != nil || c.D != 24 || c.Theta != 1e6 || c.DType != "float32" || c.H*c.D == c.C || c.EOS != nil {
		t.Errorf("%+v, error %v", c, err)
	}
}

func TestConfigRefused(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("..", "testdata", "models", "untied", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new, want string }{
		{"another architecture", `Qwen2ForCausalLM`, `MistralForCausalLM`, `the model is a "MistralForCausalLM"; Qwen2ForCausalLM`},
		{"sliding window", `"use_sliding_window": false`, `"use_sliding_window": true`, "use_sliding_window"},
		{"YaRN", `"rope_type": "default"`, `"rope_type": "yarn"`, `rotary type is "yarn"`},
		{"another activation", `"silu"`, `"gelu"`, `hidden_act is "gelu"`},
		{"heads", `"num_key_value_heads": 2`, `"num_key_value_heads": 3`, "num_attention_heads 4 is not a multiple"},
		{"negative", `"hidden_size": 64`, `"hidden_size": -64`, "hidden_size is missing or not a usable size (-64)"},
		{"missing", `"vocab_size"`, `"vocabulary"`, "vocab_size is missing"},
		{"text for a number", `"hidden_size": 64`, `"hidden_size": "64"`, "hidden_size"},
		{"quantized", `"use_cache": true`, `"quantization_config": {"quant_method": "gptq"}`, "quantization_config"},
		{"no JSON", `{`, ``, "config.json"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			text := strings.Replace(string(good), test.old, test.new, 1)
			if text == string(good) {
				t.Fatal("nothing was replaced")
			}
			os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o644)
			_, err := Load(context.Background(), dir, cpu.NewPlain(), Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v does not contain %q and the folder", err, test.want)
			}
		})
	}
	if _, err := Load(context.Background(), t.TempDir(), cpu.NewPlain(), Options{}); err == nil || !strings.Contains(err.Error(), "not a model folder") {
		t.Errorf("error %v does not say that it is no model folder", err)
	}
}

// TestWrongTensors: everything that is missing, unknown or of another shape is listed in one error.
func TestWrongTensors(t *testing.T) {
	from := filepath.Join("..", "testdata", "models", "untied")
	files := folder(t, from)
	dir := t.TempDir()
	var sources []safetensors.Source
	for _, tensor := range files.Tensors() {
		switch {
		case strings.HasSuffix(tensor.Name, "0.self_attn.k_proj.bias"), tensor.Name == headName:
			continue
		case strings.HasSuffix(tensor.Name, "1.mlp.down_proj.weight"):
			tensor.Shape = []int{64, 175}
		}
		sources = append(sources, safetensors.Float32s(tensor.Name, safetensors.F32, tensor.Shape, make([]float32, tensor.Len())))
	}
	sources = append(sources,
		safetensors.Float32s("model.layers.2.mlp.up_proj.weight", safetensors.F32, []int{1}, []float32{1}),
		safetensors.Float32s("model.layers.0.self_attn.rotary_emb.inv_freq", safetensors.F32, []int{1}, []float32{1}),
		safetensors.Int64s("model.norm.weight", []int{64}, make([]int64, 64)))
	for i, s := range sources {
		if s.Name == "model.norm.weight" && s.DType == safetensors.F32 {
			sources = append(sources[:i], sources[i+1:]...)
			break
		}
	}
	if err := safetensors.WriteDir(dir, sources, 0, nil); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(filepath.Join(from, "config.json"))
	os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644)
	_, err := Load(context.Background(), dir, cpu.NewPlain(), Options{})
	for _, want := range []string{
		dir, "model.layers.0.self_attn.k_proj.bias is missing", "lm_head.weight is missing",
		"model.layers.1.mlp.down_proj.weight has shape [64 175] where config.json needs [64 176]",
		"model.layers.2.mlp.up_proj.weight is not part of", "model.norm.weight has type I64",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "inv_freq") {
		t.Errorf("an old writer's rotary table is refused:\n%v", err)
	}
}

// Messages that differ in nothing but the layer are one.
func TestTogether(t *testing.T) {
	var wrong []error
	for i := range 28 {
		wrong = append(wrong, fmt.Errorf("tensor model.layers.%d.mlp.up_proj.weight is missing", i))
		if i == 3 || i == 7 || i == 8 {
			wrong = append(wrong, fmt.Errorf("tensor model.layers.%d.mlp.up_proj.weight has type I64", i))
		}
	}
	wrong = append(wrong, errors.New("tensor lm_head.weight is missing"), errors.New("tensor model.layers.5.input_layernorm.weight is missing"))
	want := "tensor model.layers.{0-27}.mlp.up_proj.weight is missing\n" +
		"tensor model.layers.{3,7-8}.mlp.up_proj.weight has type I64\n" +
		"tensor lm_head.weight is missing\n" +
		"tensor model.layers.5.input_layernorm.weight is missing"
	if got := together(wrong); got == nil || got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
	if together(nil) != nil {
		t.Error("an error of nothing")
	}
}

// The vocabulary is what the weights have, wherever a configuration is read: trimmed re-uploads leave config.json as it was.
func TestTrimmedVocabulary(t *testing.T) {
	from := filepath.Join("..", "testdata", "models", "untied")
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), `"vocab_size": 320`, `"vocab_size": 512`, 1)
		if name == "config.json" && changed == string(text) {
			t.Fatal("nothing was replaced")
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(changed), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := ReadConfig(dir); err != nil || c.V != 320 {
		t.Errorf("vocabulary %d, %v", c.V, err)
	}
	os.Remove(filepath.Join(dir, "model.safetensors"))
	if c, err := ReadConfig(dir); err != nil || c.V != 512 {
		t.Errorf("vocabulary %d of a shape, %v", c.V, err)
	}
}

// A folder with weights of an older form, or with half of a config.json, is told what is wrong with it.
func TestOtherFolders(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("..", "testdata", "models", "untied", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for want, files := range map[string]map[string]string{
		"has its weights in pytorch_model.bin, which is not read": {"config.json": string(whole), "pytorch_model.bin": "x"},
		"its weights are missing":                                 {"config.json": string(whole)},
		"line 3: unexpected end of JSON input":                    {"config.json": "{\n \"architectures\": [\"Qwen2ForCausalLM\"],\n"},
		"line 2: json: cannot unmarshal string":                   {"config.json": "{\n \"hidden_size\": \"64\"\n}"},
		"names neither architectures nor model_type":              {"config.json": "{}"},
	} {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Load(context.Background(), dir, cpu.NewPlain(), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "peft_dir", "adapter", "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "adapter_config.json"), text, 0o666)
	for _, want := range []string{"it has no adapter_model.safetensors", "adapter_model.bin, which is not read"} {
		if _, err := OpenAdapter(dir, Config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		os.WriteFile(filepath.Join(dir, "adapter_model.bin"), nil, 0o666)
	}
}

func TestBadBatches(t *testing.T) {
	m := load(t, filepath.Join("..", "testdata", "models", "untied"), cpu.NewPlain(), Options{Method: TrainFull})
	ids := []int32{1, 2, 3, 4}
	for want, b := range map[string]Batch{
		"token 1 of row 1 has the id 320": {B: 2, T: 2, IDs: []int32{1, 2, 3, 320}},
		"token 0 of row 0 has the id -1":  {B: 2, T: 2, IDs: []int32{-1, 2, 3, 4}},
		"the label 999":                   {B: 1, T: 4, IDs: ids, Labels: []int32{1, 2, 3, 999}},
		"has 3 labels, not 4":             {B: 1, T: 4, IDs: ids, Labels: ids[:3]},
		"has 4 ids, not 6":                {B: 2, T: 3, IDs: ids},
		"the position -1":                 {B: 1, T: 4, IDs: ids, Positions: []int32{0, 1, -1, 2}},
		"both must be at least 1":         {},
	} {
		if _, err := m.Step(b, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not contain %q", err, want)
		}
	}
	frozen := load(t, m.dir, cpu.NewPlain(), Options{})
	if _, err := frozen.Step(Batch{B: 1, T: 4, IDs: ids}, 1); err == nil || !strings.Contains(err.Error(), "not trained") {
		t.Errorf("error %v does not say that the model is not trained", err)
	}
	cache, err := frozen.NewCache(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	for want, feeds := range map[string][]Feed{
		"does not exist or stands twice": {{Slot: 2, IDs: ids[:1]}},
		"slot 1 of a cache of 2":         {{Slot: 1, IDs: ids[:1]}, {Slot: 1, IDs: ids[:1]}},
		"do not fit into 3":              {{Slot: 0, IDs: ids}},
		"no tokens":                      {{Slot: 0}},
		"nothing to decode":              {},
		"the id 777":                     {{Slot: 0, IDs: []int32{777}}},
	} {
		if _, err := frozen.Decode(cache, feeds); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not contain %q", err, want)
		}
	}
	if cache.Len(0)+cache.Len(1) != 0 {
		t.Error("a refused feed was appended")
	}
}

// TestPacking: documents in one row, padded in several rows, or each alone have the same losses and gradients.
func TestPacking(t *testing.T) {
	dir := filepath.Join("..", "testdata", "models", "tied")
	documents := [][]int32{{5, 9, 200, 31, 7, 7}, {1, 2}, {100, 50, 3, 4, 90}, {42}}
	items := 5 + 1 + 4
	l := LoRA{Rank: 4, Alpha: 8, Targets: []string{AllLinear}}
	run := func(batches ...Batch) (float64, []float32) {
		m := load(t, dir, cpu.New(cpu.Options{}), Options{Method: TrainLoRA, LoRA: l, Seed: 3})
		for _, p := range m.Parameters() { // B is zero at first, which would hide A's gradient
			m.dev.Write(p.Weights, ramp(p.Weights.Len))
		}
		sum := 0.0
		for _, b := range batches {
			loss, err := m.Step(b, items)
			if err != nil {
				t.Fatal(err)
			}
			sum += loss
		}
		return sum, read(m, m.Gradients())
	}
	var alone []Batch
	packed := Batch{B: 1}
	padded := Batch{B: 4, T: 7}
	restarts := Batch{B: 1}
	for i, ids := range documents {
		alone = append(alone, Batch{B: 1, T: len(ids), IDs: ids})
		packed.IDs = append(packed.IDs, ids...)
		restarts.IDs = append(restarts.IDs, ids...)
		for j := range 7 {
			if j < len(ids) {
				padded.IDs, padded.Sequence = append(padded.IDs, ids[j]), append(padded.Sequence, 0)
			} else {
				padded.IDs, padded.Sequence = append(padded.IDs, 0), append(padded.Sequence, Padding)
			}
			if j < len(ids) {
				packed.Sequence = append(packed.Sequence, int32(i))
				restarts.Positions = append(restarts.Positions, int32(j))
			}
		}
	}
	packed.T, restarts.T = len(packed.IDs), len(restarts.IDs)
	wantLoss, want := run(alone...)
	for name, b := range map[string]Batch{"packed": packed, "padded": padded, "by restarting positions": restarts} {
		if b.Targets() != items {
			t.Errorf("%s: %d targets, want %d", name, b.Targets(), items)
		}
		loss, got := run(b)
		nearNumber(t, name+": loss", loss, wantLoss, 1e-6)
		nearMax(t, name+": gradients", got, want, 2e-5)
	}
}

// ramp is n small numbers of both signs.
func ramp(n int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.Sin(float64(3*i+n))) / 8
	}
	return values
}

// TestDropout: masks differ by seed, the same seed gives the same gradients bit for bit, evaluation has none, and
// the gradient is that of the loss with this mask.
func TestDropout(t *testing.T) {
	dir := filepath.Join("..", "testdata", "models", "untied")
	ids := []int32{5, 9, 200, 31, 7, 7, 300, 12, 80, 3}
	b := Batch{B: 2, T: 5, IDs: ids, Seed: 7}
	m := load(t, dir, cpu.NewPlain(), Options{Method: TrainLoRA, LoRA: LoRA{Rank: 4, Alpha: 8, Dropout: 0.3, Targets: []string{"q_proj", "v_proj", "down_proj"}}, Seed: 3})
	for _, p := range m.Parameters() {
		m.dev.Write(p.Weights, ramp(p.Weights.Len))
	}
	step := func(seed uint64) (float64, []float32) {
		b.Seed = seed
		m.ZeroGrad()
		loss, err := m.Step(b, 8)
		if err != nil {
			t.Fatal(err)
		}
		return loss, read(m, m.Gradients())
	}
	loss, gradient := step(7)
	if again, other := step(7); again != loss || !reflect.DeepEqual(gradient, other) {
		t.Error("the same seed gives another loss or gradient")
	}
	if other, _ := step(8); other == loss {
		t.Error("another seed gives the same loss")
	}
	first, _ := m.Loss(b, 8)
	if _, err := m.Step(b, 8); err != nil {
		t.Fatal(err)
	}
	if second, _ := m.Loss(b, 8); second != first || first == loss {
		t.Errorf("without dropout the loss is %g, then %g; with it %g", first, second, loss)
	}
	// Along the gradient the loss must rise by its squared length, central difference.
	var square float64
	for _, v := range gradient {
		square += float64(v) * float64(v)
	}
	at := func(h float64) float64 {
		for _, p := range m.Parameters() {
			values, from := ramp(p.Weights.Len), p.Grad.Off-m.Gradients().Off
			for i := range values {
				values[i] += float32(h * float64(gradient[from+i]))
			}
			m.dev.Write(p.Weights, values)
		}
		loss, _ := step(7)
		return loss
	}
	const h = 2e-3
	if rise := (at(h) - at(-h)) / (2 * h); math.Abs(rise-square) > 2e-3*square {
		t.Errorf("along the gradient the loss rises by %g, want %g", rise, square)
	}
}

// TestNothingAllocated: once the largest batch has been seen, passes allocate nothing on the device.
func TestNothingAllocated(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	m := load(t, filepath.Join("..", "testdata", "models", "tied"), dev, Options{Method: TrainLoRA, LoRA: LoRA{Rank: 4, Alpha: 8, Targets: []string{AllLinear}}})
	ids := make([]int32, 64)
	step := func(B, T int) {
		if _, err := m.Step(Batch{B: B, T: T, IDs: ids[:B*T]}, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Loss(Batch{B: B, T: T, IDs: ids[:B*T]}, 1); err != nil {
			t.Fatal(err)
		}
	}
	step(4, 16)
	before := dev.Info().Bytes
	for _, size := range [][2]int{{1, 1}, {2, 13}, {8, 8}, {64, 1}} {
		step(size[0], size[1])
	}
	if after := dev.Info().Bytes; after != before {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	m.Free()
	if left := dev.Info().Bytes; left != 0 {
		t.Errorf("%d bytes are left after Free", left)
	}
}

// TestThreads: any number of threads gives the same bits.
func TestThreads(t *testing.T) {
	var want []float32
	for _, threads := range []int{1, 2, 3, 8} {
		m := load(t, filepath.Join("..", "testdata", "models", "untied"), cpu.New(cpu.Options{Threads: threads}), Options{Method: TrainFull})
		ids := make([]int32, 4*37)
		for i := range ids {
			ids[i] = int32(i * 7 % 320)
		}
		if _, err := m.Step(Batch{B: 4, T: 37, IDs: ids}, 4*36); err != nil {
			t.Fatal(err)
		}
		got := read(m, m.Gradients())
		if want == nil {
			want = got
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%d threads give other gradients than one", threads)
		}
	}
}

// TestLowestLayer: with adapters in the upper layers only, the gradients are those of the full backward pass.
func TestLowestLayer(t *testing.T) {
	dir := filepath.Join("..", "testdata", "models", "tied")
	dev := cpu.NewPlain()
	ids := []int32{5, 9, 200, 31, 7, 7, 30, 12, 80, 3}
	run := func(m *Model) map[string][]float32 {
		for _, p := range m.Parameters() {
			if strings.Contains(p.Name, "layers.1.") || strings.Contains(p.Name, "layers.2.") {
				m.dev.Write(p.Weights, ramp(p.Weights.Len))
			}
		}
		if _, err := m.Step(Batch{B: 1, T: 10, IDs: ids}, 9); err != nil {
			t.Fatal(err)
		}
		got := map[string][]float32{}
		for _, p := range m.Parameters() {
			got[p.Name] = read(m, p.Grad)
		}
		return got
	}
	l := LoRA{Rank: 2, Alpha: 4, Targets: []string{AllLinear}}
	all := load(t, dir, dev, Options{Method: TrainLoRA, LoRA: l})
	for _, target := range []string{"layers.[12].mlp.down_proj", "layers.[12].mlp.gate_proj", "layers.[12].self_attn.o_proj", "layers.[12].self_attn.k_proj"} {
		l.Targets = []string{target}
		some := load(t, dir, dev, Options{Method: TrainLoRA, LoRA: l})
		if some.lowest != 1 {
			t.Errorf("%s: backward ends at layer %d", target, some.lowest)
		}
		// The other adapters of all must not act: only those of some are not zero.
		for _, p := range all.Parameters() {
			all.dev.Zero(p.Weights)
		}
		got := run(some)
		want := onlyThese(t, all, some, ids)
		for name := range got {
			nearMax(t, fmt.Sprint(target, ": ", name), got[name], want[name], 1e-6)
		}
	}
}

// onlyThese runs all with the weights of some in its adapters, and zeros in the others.
func onlyThese(t *testing.T, all, some *Model, ids []int32) map[string][]float32 {
	t.Helper()
	has := map[string]bool{}
	for _, p := range some.Parameters() {
		has[p.Name] = true
	}
	for _, p := range all.Parameters() {
		if has[p.Name] {
			all.dev.Write(p.Weights, ramp(p.Weights.Len))
		}
	}
	all.ZeroGrad()
	if _, err := all.Step(Batch{B: 1, T: 10, IDs: ids}, 9); err != nil {
		t.Fatal(err)
	}
	got := map[string][]float32{}
	for _, p := range all.Parameters() {
		got[p.Name] = read(all, p.Grad)
	}
	return got
}

// TestHalfWeights: frozen weights in bfloat16 change the loss a little, not much.
func TestHalfWeights(t *testing.T) {
	dir := filepath.Join("..", "testdata", "models", "untied")
	b := Batch{B: 1, T: 10, IDs: []int32{5, 9, 200, 31, 7, 7, 30, 12, 80, 3}}
	full, err := load(t, dir, cpu.NewPlain(), Options{}).Loss(b, 9)
	if err != nil {
		t.Fatal(err)
	}
	half, err := load(t, dir, cpu.NewPlain(), Options{Weights: ops.BF16}).Loss(b, 9)
	if err != nil || half == full {
		t.Errorf("loss %g, with bfloat16 weights %g, error %v", full, half, err)
	}
	nearNumber(t, "loss with bfloat16 weights", half, full, 0.02)
}

// TestNew: a new model can be saved and loaded, and follows from its seed.
func TestNew(t *testing.T) {
	c := Config{Layers: 2, C: 24, H: 4, KV: 2, D: 6, F: 20, V: 33, Eps: 1e-6, Theta: 1e4, MaxPositions: 64, EOS: []int32{2}}
	b := Batch{B: 1, T: 5, IDs: []int32{1, 32, 5, 4, 9}}
	for _, c.Tied = range []bool{false, true} {
		m, err := New(c, Init{Seed: 5, Deviation: 0.2, Vary: 0.1}, cpu.NewPlain(), Options{Method: TrainFull})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := m.Save(context.Background(), dir, SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		again := load(t, dir, cpu.NewPlain(), Options{})
		want, err := m.Loss(b, 4)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Loss(b, 4); err != nil || got != want {
			t.Errorf("loss %g after loading, %g before, error %v", got, want, err)
		}
		again.Config.file, again.Config.DType = nil, ""
		if !reflect.DeepEqual(again.Config, m.Config) {
			t.Errorf("config %+v after loading, %+v before", again.Config, m.Config)
		}
		n := 0
		if err := m.Each(context.Background(), func(name string, shape []int, values []float32) error {
			n += len(values)
			return nil
		}); err != nil || int64(n) != c.Parameters() {
			t.Errorf("%d values, want %d, error %v", n, c.Parameters(), err)
		}
	}
	c.KV = 3
	if _, err := New(c, Init{}, cpu.NewPlain(), Options{}); err == nil || !strings.Contains(err.Error(), "multiple") {
		t.Errorf("error %v does not say that the heads do not divide", err)
	}
}
