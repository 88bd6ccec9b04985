package model

import (
	"context"
	"path/filepath"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
)

// A DoRA adapter of PEFT is written as it was read, and merging it gives a model with its logits.
func TestDoRAFolders(t *testing.T) {
	f := open(t, "lora_grads_dora")
	adapter, b := filepath.Join(f.dir, "adapter"), f.tensors(t, "inputs.safetensors").batch("")
	merged := filepath.Join(t.TempDir(), "merged")
	if err := Merge(context.Background(), f.Model, adapter, merged, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	devices(t, func(t *testing.T, dev ops.Device) {
		m := load(t, f.Model, dev, Options{Adapter: adapter})
		near(t, "merged logits", allLogits(t, load(t, merged, dev, Options{}), b), allLogits(t, m, b), 1e-5, 6e-5, b.real())

		out := filepath.Join(t.TempDir(), "out")
		if err := m.SaveAdapter(out, "models/untied"); err != nil {
			t.Fatal(err)
		}
		sameFile(t, filepath.Join(out, adapterWeights), filepath.Join(adapter, adapterWeights))
		sameSettings(t, filepath.Join(out, adapterConfig), filepath.Join(adapter, adapterConfig))
	})
}

// A new DoRA adapter changes nothing, whatever the weights are stored as; a step of its magnitudes does, and dropout is refused.
func TestDoRABeginsAtTheBase(t *testing.T) {
	f := open(t, "lora_grads_dora")
	b := f.tensors(t, "inputs.safetensors").batch("")
	for _, o := range []Options{{}, {Weights: ops.BF16}, {NF4: true}} {
		dev := cpu.New(cpu.Options{})
		defer dev.Close()
		base := allLogits(t, load(t, f.Model, dev, o), b)
		o.Method, o.LoRA = TrainLoRA, LoRA{Rank: 4, Alpha: 8, Targets: []string{"q_proj", "down_proj", "up_proj"}, DoRA: true}
		m := load(t, f.Model, dev, o)
		near(t, "logits", allLogits(t, m, b), base, 1e-5, 6e-5, b.real())
		for _, p := range m.Parameters() {
			if len(p.Shape) == 1 {
				dev.Scale(p.Weights, 1.1, p.Weights.Len)
			}
		}
		if largest, _ := apart(allLogits(t, m, b), base, b.real()); largest < 1e-3 {
			t.Errorf("other magnitudes change logits by %g only", largest)
		}
		m.LoRA.Dropout = 0.1
		if _, err := m.Step(b, f.Items); err == nil {
			t.Error("dropout was not refused")
		}
	}
}
