package model

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
)

// TestFamilies: rotary frequencies, and greedy decoding with a cache whose prompt is fed in pieces. Gradients and logits are
// among TestLoRAGradients and TestFullGradients.
func TestFamilies(t *testing.T) {
	for _, family := range []Family{Qwen3, Llama} {
		t.Run(family.String(), func(t *testing.T) {
			f := open(t, "lora_grads_"+family.String())
			want := f.tensors(t, "expected.safetensors")
			b := f.tensors(t, "inputs.safetensors").batch("")
			tokens, _ := want.ints("tokens")
			devices(t, func(t *testing.T, dev ops.Device) {
				m := load(t, f.Model, dev, Options{})
				if m.Config.Family != family {
					t.Errorf("family %q", m.Config.Family)
				}
				near(t, "inv_freq", m.Config.frequencies(), want.floats("inv_freq"), 3e-7, 0, nil)
				prompt := b.IDs[b.T:]
				for len(prompt) > 0 && b.Sequence[b.T+len(prompt)-1] == Padding {
					prompt = prompt[:len(prompt)-1]
				}
				for _, chunk := range []int{1, 5, 100} {
					got, _ := greedy(t, m, [][]int32{prompt}, len(tokens), chunk)
					same(t, "tokens", got[0], tokens)
				}
			})
		})
	}
}

// TestFamilySaved: what is written of a family is read as it, with the same numbers.
func TestFamilySaved(t *testing.T) {
	for _, c := range []Config{
		{Family: Qwen3, Layers: 2, C: 24, H: 4, KV: 2, D: 8, F: 20, V: 31, Eps: 1e-6, Theta: 1e6, MaxPositions: 64, Tied: true},
		{Family: Llama, Layers: 2, C: 24, H: 4, KV: 2, D: 6, F: 20, V: 31, Eps: 1e-5, Theta: 5e5, MaxPositions: 64,
			Stretch: &Stretch{Factor: 8, Low: 1, High: 4, Original: 16}},
	} {
		dev := cpu.NewPlain()
		m, err := New(c, Init{Seed: 5, Deviation: 0.2, Vary: 0.3}, dev, Options{})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "model")
		if err := m.Save(context.Background(), dir, SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		b := Batch{B: 1, T: 20}
		for i := range b.T {
			b.IDs = append(b.IDs, int32(i))
		}
		again := load(t, dir, dev, Options{})
		near(t, c.Family.String(), allLogits(t, again, b), allLogits(t, m, b), 0, 0, nil)
	}
}

// TestFamilyRefused: what only looks like a family says what is missing.
func TestFamilyRefused(t *testing.T) {
	for _, test := range []struct{ family, old, new, want string }{
		{"qwen3", `"attention_bias": false`, `"attention_bias": true`, "attention_bias is true"},
		{"llama", `"mlp_bias": false`, `"mlp_bias": true`, "mlp_bias is true"},
		{"llama", `"llama3"`, `"yarn"`, `the rotary type is "yarn"; default and llama3`},
		{"llama", `"high_freq_factor": 4.0,`, ``, "high_freq_factor 0"},
		{"llama", `LlamaForCausalLM`, `Qwen3ForCausalLM`, "self_attn.q_norm.weight is missing"},
		{"qwen3", `Qwen3ForCausalLM`, `Qwen2ForCausalLM`, "self_attn.q_proj.bias is missing"},
		{"qwen3", `"head_dim": 16,`, ``, "where config.json needs [512 48]"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "testdata", "models", test.family))); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "config.json")
		text, _ := os.ReadFile(path)
		changed := strings.Replace(string(text), test.old, test.new, 1)
		if changed == string(text) {
			t.Fatalf("%s: nothing was replaced", test.want)
		}
		os.WriteFile(path, []byte(changed), 0o644)
		if _, err := Load(context.Background(), dir, cpu.NewPlain(), Options{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v", test.want, err)
		}
	}
}
