package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/model"
)

// What doc/gpu.md foretells of memory is what the plan says: 7B keeps everything, 72B fits in 80 GB and in 141 GB.
func TestGPUPlansAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "doc", "gpu.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		row, shape, quantize string
		memory, length       int // GB, tokens
	}{
		{"7B, bf16, 4,096", "qwen2.5-7b", "none", 80, 4096}, {"7B, NF4, 4,096", "qwen2.5-7b", "nf4", 80, 4096},
		{"0.5B, bf16, 16,384", "qwen2.5-0.5b", "none", 80, 16384}, {"72B, NF4, 2,048", "qwen2.5-72b", "nf4", 80, 2048},
		{"72B, NF4, 6,144", "qwen2.5-72b", "nf4", 141, 6144},
	} {
		dir := t.TempDir()
		text, err := os.ReadFile(filepath.Join("..", "tools", "gpu", "shapes", c.shape+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666); err != nil {
			t.Fatal(err)
		}
		config, err := model.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		o := TrainOptions{
			Method: "lora", Precision: "bf16", Quantize: c.quantize, SequenceLength: c.length, BatchTokens: c.length,
			LoRA: model.LoRA{Rank: 16, Alpha: 32, Targets: []string{model.AllLinear}},
		}
		r, err := o.needs(config, OutlineGPU(int64(c.memory)*1e9), c.length, c.length)
		if err != nil {
			t.Errorf("%s: %v", c.row, err)
			continue
		}
		gb := func(parts ...int64) string {
			sum := int64(0)
			for _, p := range parts {
				sum += p
			}
			return fmt.Sprintf("%.1f", float64(sum)/1e9)
		}
		again := "nothing"
		if k := r.Recompute; k.Light > 0 {
			again = fmt.Sprintf("norms, gate and up of %d layers, norms and products of %d: %.0f %% more time", k.MLP, k.Light-k.MLP, 100*r.Again)
		}
		want := fmt.Sprintf("| %s | %d GB | %s GB | %s | %s | %s | %s | %s |", c.row, c.memory, gb(r.Total), gb(r.Weights),
			gb(r.Adapter, r.Gradients, r.Optimizer), gb(r.Activations), gb(r.Scratch), again)
		if !strings.Contains(string(page), want) {
			t.Errorf("doc/gpu.md lacks this row:\n%s", want)
		}
	}
}
