package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"lpipe/engine"
	"lpipe/engine/model"
	"lpipe/runner"
)

// mergeKind describes `stage "merge"`.
func mergeKind() *runner.Kind {
	return &runner.Kind{
		Name:    "merge",
		Doc:     "Adds an adapter to the weights of its base model: a model folder that needs no adapter.",
		Version: 1,
		In: []runner.Port{
			{Name: "model", Doc: "Hugging Face folder of the base model"},
			{Name: "adapter", Doc: "PEFT folder of the adapter"},
		},
		Out: []runner.Port{
			{Name: "model", Doc: "Hugging Face folder", Folder: true},
			{Name: "gguf", Doc: "the same in one file for llama.cpp", Ext: ".gguf", Optional: true},
		},
		New: func() runner.Stage { return &Merge{DType: "base", ShardSize: 5e9, GGUFType: "f16"} },
	}
}

// Merge are the settings of a merge stage.
type Merge struct {
	DType     string `hcl:"dtype,optional" doc:"type of the weights: base (as they were; of a 4-bit base, what its codes stand for), float32, bfloat16, float16"`
	ShardSize Size   `hcl:"shard_size,optional" type:"size" unit:"bytes" doc:"largest weight file, like \"5GB\"; 0: one file"`
	GGUFType  string `hcl:"gguf_type,optional" doc:"type of the matrices in the output gguf: f32, f16, bf16, q8_0"`
}

// Check refuses unknown types.
func (m *Merge) Check() error {
	if _, ok := m.dtype(); !ok {
		return fmt.Errorf("dtype: %q is none of base, float32, bfloat16, float16", m.DType)
	}
	if !slices.Contains(engine.GGUFTypes(), m.GGUFType) {
		return fmt.Errorf("gguf_type: %q is none of %s", m.GGUFType, strings.Join(engine.GGUFTypes(), ", "))
	}
	return nil
}

func (m *Merge) dtype() (string, bool) {
	switch m.DType {
	case "base", "":
		return "", true
	case "float32", "fp32":
		return "float32", true
	case "bfloat16", "bf16":
		return "bfloat16", true
	case "float16", "fp16":
		return "float16", true
	}
	return "", false
}

// Run merges.
func (m *Merge) Run(ctx context.Context, env *runner.Env) error {
	base, adapter := one(env, "model"), one(env, "adapter")
	if err := engine.CheckBase(base, adapter); err != nil {
		return err
	}
	dtype, _ := m.dtype()
	err := model.Merge(ctx, base, adapter, env.Out["model"], model.SaveOptions{
		DType: dtype, Shard: int64(m.ShardSize), Note: func(text string) { fmt.Fprintln(env.Log, text) },
	})
	if err != nil || env.Out["gguf"] == "" {
		return err
	}
	return engine.WriteGGUF(ctx, engine.GGUFOptions{Model: base, Adapter: adapter, Type: m.GGUFType, Out: env.Out["gguf"]})
}

// Size is a number of bytes: 5000000000, "5GB" or "5GiB".
type Size int64

// UnmarshalJSON reads a number or a text with a unit.
func (s *Size) UnmarshalJSON(b []byte) error {
	wrong := fmt.Errorf(`must be a number of bytes, or a size like "5GB" or "512MiB"`)
	var text string
	if json.Unmarshal(b, &text) != nil {
		text = string(b)
	}
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "kKMGTiB ")
	value, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(value >= 0) {
		return wrong
	}
	factor, ok := map[string]float64{
		"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[strings.TrimSpace(text[len(digits):])]
	if !ok || value*factor >= math.MaxInt64 {
		return wrong
	}
	*s = Size(value * factor)
	return nil
}
