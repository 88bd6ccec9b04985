package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/engine/gguf"
	"lpipe/engine/model"
	"lpipe/engine/tokenizer"
)

// GGUFOptions say what WriteGGUF writes.
type GGUFOptions struct {
	Model   string // Hugging Face folder
	Adapter string // PEFT folder, or ""
	// Alone writes the adapter without the model, for llama.cpp's --lora; otherwise it is added to the weights.
	Alone bool
	Type  string // of matrices: "f32", "f16", "bf16", "q8_0"
	Out   string // file
}

// ggufTypes are the types of matrices, with ggml's number for a file that has mostly that type.
var ggufTypes = map[string]struct {
	tensor gguf.Type
	file   uint32
}{"f32": {gguf.F32, 0}, "f16": {gguf.F16, 1}, "q8_0": {gguf.Q8_0, 7}, "bf16": {gguf.BF16, 32}}

// GGUFTypes are the values of GGUFOptions.Type.
func GGUFTypes() []string { return []string{"f32", "f16", "bf16", "q8_0"} }

// WriteGGUF writes a model, an adapter, or a model with an adapter added as a file for llama.cpp, under the names and
// with the settings that its converter gives Qwen2, Qwen3 and Llama models. doc/format-gguf.md says what is in it.
func WriteGGUF(ctx context.Context, o GGUFOptions) error {
	if !slices.Contains(GGUFTypes(), o.Type) {
		return fmt.Errorf("gguf: type %q is none of %s", o.Type, strings.Join(GGUFTypes(), ", "))
	}
	if o.Alone && o.Adapter == "" {
		return errors.New("gguf: an adapter alone is wanted, and none is given")
	}
	if o.Adapter != "" {
		if err := CheckBase(o.Model, o.Adapter); err != nil {
			return err
		}
	}
	folder, err := model.OpenFolder(o.Model, o.Adapter)
	if err != nil {
		return err
	}
	defer folder.Close()
	var file gguf.File
	if o.Alone {
		file, err = adapterGGUF(folder, o)
	} else {
		file, err = modelGGUF(folder, o)
	}
	if err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	for i, t := range file.Tensors {
		file.Tensors[i].Values = func() ([]float32, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return t.Values()
		}
	}
	return file.Write(o.Out)
}

// modelGGUF describes a whole model.
func modelGGUF(f *model.Folder, o GGUFOptions) (file gguf.File, err error) {
	c := f.Config
	tok, err := loadTokenizer(o.Model)
	if err != nil {
		return file, err
	}
	if tok == nil {
		return file, fmt.Errorf("%s holds no tokenizer, which is part of the file", o.Model)
	}
	key := func(name string) string { return c.Family.String() + "." + name }
	file.Settings = []gguf.Setting{
		{Name: "general.architecture", Value: c.Family.String()},
		{Name: "general.type", Value: "model"},
		{Name: "general.name", Value: filepath.Base(o.Model)},
		{Name: key("block_count"), Value: uint32(c.Layers)},
		{Name: key("context_length"), Value: uint32(c.MaxPositions)},
		{Name: key("embedding_length"), Value: uint32(c.C)},
		{Name: key("feed_forward_length"), Value: uint32(c.F)},
		{Name: key("attention.head_count"), Value: uint32(c.H)},
		{Name: key("attention.head_count_kv"), Value: uint32(c.KV)},
		{Name: key("rope.freq_base"), Value: float32(c.Theta)},
		{Name: key("attention.layer_norm_rms_epsilon"), Value: c.Eps},
	}
	widths := []string{"attention.key_length", "attention.value_length", "rope.dimension_count"}
	if c.D*c.H == c.C {
		widths = nil
		if c.Family == model.Llama { // its converter says these in any case
			widths = []string{"rope.dimension_count"}
			file.Settings = append(file.Settings, gguf.Setting{Name: key("vocab_size"), Value: uint32(c.V)})
		}
	}
	for _, name := range widths {
		file.Settings = append(file.Settings, gguf.Setting{Name: key(name), Value: uint32(c.D)})
	}
	file.Settings = append(file.Settings,
		gguf.Setting{Name: "general.file_type", Value: ggufTypes[o.Type].file},
		gguf.Setting{Name: "general.quantization_version", Value: uint32(2)})
	vocabulary, err := vocabularyGGUF(c, tok)
	if err != nil {
		return file, err
	}
	file.Settings = append(file.Settings, vocabulary...)
	file.Tensors, err = tensorsGGUF(f, o)
	return file, err
}

// tensorsGGUF are a model's tensors, as llama.cpp wants them.
func tensorsGGUF(f *model.Folder, o GGUFOptions) (list []gguf.Tensor, err error) {
	c := f.Config
	if c.Stretch != nil {
		list = append(list, gguf.Tensor{Name: "rope_freqs.weight", Shape: []int{c.D / 2}, Type: gguf.F32,
			Values: func() ([]float32, error) { return c.StretchFactors(), nil }})
	}
	for _, t := range f.Tensors() {
		name, err := ggufName(t.Name)
		if err != nil {
			return nil, err
		}
		values := t.Values
		if heads := turnedHeads(c, t.Name); heads > 0 {
			values = turned(values, t.Shape[0], heads)
		}
		list = append(list, gguf.Tensor{Name: name, Shape: t.Shape, Type: ggufType(o.Type, t.Shape), Values: values})
	}
	return list, nil
}

// turnedHeads is the number of heads whose rows llama.cpp wants in another order, 0 for most tensors: its Llama rotates
// neighbouring values, transformers' the two halves of a head. Its Qwen2 and Qwen3 do as transformers'.
func turnedHeads(c model.Config, name string) int {
	switch {
	case c.Family != model.Llama:
		return 0
	case strings.Contains(name, ".q_proj."):
		return c.H
	case strings.Contains(name, ".k_proj."):
		return c.KV
	}
	return 0
}

// turned puts row i of the first half of each head at 2i, and that of the second at 2i+1 (permute of llama.cpp's
// conversion).
func turned(read func() ([]float32, error), rows, heads int) func() ([]float32, error) {
	return func() ([]float32, error) {
		values, err := read()
		if err != nil {
			return nil, err
		}
		out, row := make([]float32, 0, len(values)), len(values)/rows
		for head := range slices.Chunk(values, len(values)/heads) {
			first, second := head[:len(head)/2], head[len(head)/2:]
			for at := 0; at < len(first); at += row {
				out = append(append(out, first[at:at+row]...), second[at:at+row]...)
			}
		}
		return out, nil
	}
}

// ggufType is how a tensor is stored: vectors always as float32; rows that Q8_0 cannot hold as halves.
func ggufType(want string, shape []int) gguf.Type {
	t := ggufTypes[want].tensor
	switch {
	case len(shape) == 1:
		return gguf.F32
	case t == gguf.Q8_0 && shape[len(shape)-1]%32 != 0:
		return gguf.F16
	}
	return t
}

// The kinds of tokens in a GGUF file.
const (
	tokenNormal  = 1
	tokenControl = 3
	tokenUser    = 4
	tokenUnused  = 5
)

// vocabularyGGUF are the settings of the tokenizer.
func vocabularyGGUF(c model.Config, tok *tokenizer.Tokenizer) ([]gguf.Setting, error) {
	list := tok.List()
	cut, ok := map[string]string{"qwen2": "qwen2", "llama3": "llama-bpe"}[list.Pattern]
	if !ok {
		return nil, errors.New("the tokenizer cuts text in a way that has no name in llama.cpp; Qwen2's and Llama 3's have")
	}
	tokens, kinds := make([]string, c.V), make([]int32, c.V)
	for id := range tokens {
		var t tokenizer.Listed
		if id < len(list.Tokens) {
			t = list.Tokens[id]
		}
		switch tokens[id] = t.Text; {
		case t.Text == "":
			tokens[id], kinds[id] = fmt.Sprintf("[PAD%d]", id), tokenUnused
		case t.Special, t.Added && strings.HasPrefix(t.Text, "<|") && strings.HasSuffix(t.Text, "|>"):
			kinds[id] = tokenControl
		case t.Added:
			kinds[id] = tokenUser
		default:
			kinds[id] = tokenNormal
		}
	}
	settings := []gguf.Setting{
		{Name: "tokenizer.ggml.model", Value: "gpt2"}, {Name: "tokenizer.ggml.pre", Value: cut},
		{Name: "tokenizer.ggml.tokens", Value: tokens}, {Name: "tokenizer.ggml.token_type", Value: kinds},
		{Name: "tokenizer.ggml.merges", Value: list.Merges},
	}
	add := func(name string, id int) {
		if id >= 0 && id < c.V {
			settings = append(settings, gguf.Setting{Name: "tokenizer.ggml." + name, Value: uint32(id)})
		}
	}
	add("eos_token_id", int(tok.EOS()))
	add("padding_token_id", int(tok.Pad()))
	id, begins := c.BOS()
	if begins {
		add("bos_token_id", id)
	}
	// Llama 3's tokenizer.json puts the token before every text; chat templates write it themselves.
	begins = begins && c.Family == model.Llama && list.Pattern == "llama3"
	settings = append(settings, gguf.Setting{Name: "tokenizer.ggml.add_bos_token", Value: begins})
	if text := tok.Template(); text != "" {
		settings = append(settings, gguf.Setting{Name: "tokenizer.chat_template", Value: text})
	}
	return settings, nil
}

// adapterGGUF describes an adapter alone. Its only scale is alpha/rank: what rsLoRA or a pattern changes of it is
// multiplied into B.
func adapterGGUF(f *model.Folder, o GGUFOptions) (file gguf.File, err error) {
	lora := f.Adapter.LoRA
	if lora.DoRA {
		return file, errors.New("GGUF has no place for DoRA's magnitudes: write the model with the adapter added")
	}
	file.Settings = []gguf.Setting{
		{Name: "general.architecture", Value: f.Config.Family.String()},
		{Name: "general.type", Value: "adapter"},
		{Name: "adapter.type", Value: "lora"},
		{Name: "general.name", Value: filepath.Base(o.Adapter)},
		{Name: "adapter.lora.alpha", Value: float32(lora.Alpha)},
		{Name: "general.file_type", Value: ggufTypes[o.Type].file},
		{Name: "general.quantization_version", Value: uint32(2)},
	}
	for _, p := range f.Adapter.Pairs(f.Config) {
		weight := p.Module + ".weight"
		name, err := ggufName(weight)
		if err != nil {
			return file, err
		}
		readB := p.B
		if heads := turnedHeads(f.Config, weight); heads > 0 {
			readB = turned(readB, p.Out, heads)
		}
		factor := float32(p.Scale * float64(p.Rank) / lora.Alpha)
		shapeA, shapeB := []int{p.Rank, p.In}, []int{p.Out, p.Rank}
		file.Tensors = append(file.Tensors,
			gguf.Tensor{Name: name + ".lora_a", Shape: shapeA, Type: ggufType(o.Type, shapeA), Values: p.A},
			gguf.Tensor{Name: name + ".lora_b", Shape: shapeB, Type: ggufType(o.Type, shapeB), Values: func() ([]float32, error) {
				values, err := readB()
				for i := range values {
					values[i] *= factor
				}
				return values, err
			}})
	}
	return file, nil
}

// ggufName is llama.cpp's name for a tensor, the same in all families.
func ggufName(name string) (string, error) {
	parts := strings.Split(name, ".")
	if len(parts) > 4 && parts[0] == "model" && parts[1] == "layers" {
		kind := parts[len(parts)-1] // weight or bias
		if own, ok := map[string]string{
			"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
			"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
			"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
			"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
		}[strings.Join(parts[3:len(parts)-1], ".")]; ok {
			return "blk." + parts[2] + "." + own + "." + kind, nil
		}
	}
	if own, ok := map[string]string{
		"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
	}[name]; ok {
		return own, nil
	}
	return "", fmt.Errorf("tensor %s has no name in llama.cpp", name)
}
