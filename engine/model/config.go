package model

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"lpipe/engine/safetensors"
)

// Config is a model's shape, as config.json gives it
// (https://huggingface.co/docs/transformers/model_doc/qwen2, Qwen2Config, and the same of Qwen3 and Llama).
type Config struct {
	Family Family
	Layers int
	C      int // hidden_size: width of the residual stream
	H, KV  int // query heads; key and value heads, a divisor of H
	D      int // width of one head, even
	F      int // intermediate_size
	V      int // vocab_size: rows of the embedding

	Eps          float32 // rms_norm_eps; base and Instruct models of one family differ in it
	Theta        float64 // rope_theta
	Stretch      *Stretch
	Tied         bool // the embedding is also the output head
	MaxPositions int
	DType        string  // the type that the weights were saved in: "bfloat16"
	EOS          []int32 // tokens that end a generation, from generation_config.json or else config.json

	// Quantised says that the linears of the layers are stored in 4-bit NormalFloat, as bitsandbytes does.
	Quantised *Quantisation

	file map[string]json.RawMessage // all of config.json, to be written beside merged weights
}

// ReadConfig reads config.json of a model folder. Everything that this package cannot compute exactly is
// refused, all of it in one error. The vocabulary's size is that of the weights where there are some.
func ReadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is not a model folder: it has no config.json", dir)
	} else if err != nil {
		return Config{}, fmt.Errorf("read model configuration: %w", err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("model configuration %s: %w", path, atLine(text, err))
	}
	if text, err := os.ReadFile(filepath.Join(dir, "generation_config.json")); err == nil {
		var g struct {
			EOS tokens `json:"eos_token_id"`
		}
		if err := json.Unmarshal(text, &g); err != nil {
			return Config{}, fmt.Errorf("generation configuration %s: %w", filepath.Join(dir, "generation_config.json"), err)
		}
		if len(g.EOS) > 0 {
			c.EOS = g.EOS
		}
	}
	if files, err := safetensors.OpenDir(dir); err == nil { // a folder without weights is a shape; broken ones are told of by who reads them
		c.rowsOf(files)
		files.Close()
	}
	return c, nil
}

// rowsOf sets the vocabulary's size to the embedding's, where the folder has one: trimmed re-uploads leave config.json as it was.
func (c *Config) rowsOf(files *safetensors.Folder) {
	if t, ok := files.Tensor(embedName); ok && len(t.Shape) == 2 && t.Shape[0] > 0 {
		c.V = t.Shape[0]
	}
}

// atLine names the line of text in which JSON is broken, or holds a value of another type.
func atLine(text []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	at := int64(-1)
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	}
	if at < 0 || at > int64(len(text)) {
		return err
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(text[:at], []byte{'\n'}), err)
}

// tokens is one token id or a list of them.
type tokens []int32

func (t *tokens) UnmarshalJSON(b []byte) error {
	var one *int32
	if json.Unmarshal(b, &one) == nil {
		if *t = nil; one != nil {
			*t = tokens{*one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]int32)(t))
}

// rope holds the rotary settings: transformers 5 writes rope_parameters, earlier ones rope_theta and rope_scaling.
type rope struct {
	Theta    *float64 `json:"rope_theta"`
	Type     string   `json:"rope_type"`
	Old      string   `json:"type"`
	Factor   float64  `json:"factor"`
	Low      float64  `json:"low_freq_factor"`
	High     float64  `json:"high_freq_factor"`
	Original int      `json:"original_max_position_embeddings"`
}

func (r *rope) kind() string { return cmp.Or(r.Type, r.Old, "default") }

// configFile is config.json as far as it matters here.
type configFile struct {
	Architectures []string        `json:"architectures"`
	ModelType     string          `json:"model_type"`
	Hidden        int             `json:"hidden_size"`
	Layers        int             `json:"num_hidden_layers"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       *int            `json:"num_key_value_heads"`
	HeadDim       *int            `json:"head_dim"`
	FFN           int             `json:"intermediate_size"`
	Vocab         int             `json:"vocab_size"`
	Act           string          `json:"hidden_act"`
	Eps           *float64        `json:"rms_norm_eps"`
	Theta         *float64        `json:"rope_theta"`
	Rope          *rope           `json:"rope_parameters"`
	Scaling       *rope           `json:"rope_scaling"`
	Tied          bool            `json:"tie_word_embeddings"`
	MaxPositions  int             `json:"max_position_embeddings"`
	Sliding       bool            `json:"use_sliding_window"`
	AttentionBias bool            `json:"attention_bias"`
	MLPBias       bool            `json:"mlp_bias"`
	LayerTypes    []string        `json:"layer_types"`
	Quantization  json.RawMessage `json:"quantization_config"`
	DType         string          `json:"dtype"`
	TorchDType    string          `json:"torch_dtype"`
	EOS           tokens          `json:"eos_token_id"`
}

func parseConfig(text []byte) (Config, error) {
	var f configFile
	if err := json.Unmarshal(text, &f); err != nil {
		return Config{}, err
	}
	family, err := f.familyOf()
	if err != nil {
		return Config{}, err
	}
	c := f.config(family)
	quantised, unknown := f.quantisation()
	c.Quantised = quantised
	if err := errors.Join(append(f.refusals(), unknown, c.Check())...); err != nil {
		return Config{}, err
	}
	return c, json.Unmarshal(text, &c.file)
}

// config fills in what a file may leave out.
func (f *configFile) config(family Family) Config {
	c := Config{
		Family: family, Layers: f.Layers, C: f.Hidden, H: f.Heads, KV: f.Heads, F: f.FFN, V: f.Vocab,
		Tied: f.Tied, MaxPositions: f.MaxPositions, DType: f.DType, EOS: f.EOS,
	}
	if c.DType == "" {
		c.DType = f.TorchDType
	}
	if f.KVHeads != nil {
		c.KV = *f.KVHeads
	}
	if f.HeadDim != nil {
		c.D = *f.HeadDim
	} else if c.D = family.traits().headDim; c.D == 0 && c.H > 0 {
		c.D = c.C / c.H
	}
	if f.Eps != nil {
		c.Eps = float32(*f.Eps)
	}
	if f.Rope != nil && f.Rope.Theta != nil {
		c.Theta = *f.Rope.Theta
	} else if f.Theta != nil {
		c.Theta = *f.Theta
	}
	for _, r := range []*rope{f.Rope, f.Scaling} {
		if r != nil && r.kind() == "llama3" {
			c.Stretch = &Stretch{r.Factor, r.Low, r.High, r.Original}
		}
	}
	return c
}

// refusals lists the settings that forward.go does not compute.
func (f *configFile) refusals() (wrong []error) {
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	refuse(f.Act != "" && f.Act != "silu", "hidden_act is %q; only silu can be computed", f.Act)
	refuse(f.Sliding, "use_sliding_window is true; sliding attention cannot be computed")
	if i := slices.IndexFunc(f.LayerTypes, func(kind string) bool { return kind != "full_attention" }); i >= 0 {
		refuse(true, "layer_types names %q; only full_attention can be computed", f.LayerTypes[i])
	}
	for _, r := range []*rope{f.Rope, f.Scaling} {
		if r != nil {
			refuse(r.kind() != "default" && r.kind() != "llama3", "the rotary type is %q; default and llama3 can be computed", r.kind())
		}
	}
	refuse(f.AttentionBias, "attention_bias is true; only Qwen2's biases can be computed")
	refuse(f.MLPBias, "mlp_bias is true; a feed-forward with biases cannot be computed")
	return wrong
}

// Check says what is wrong with a model's shape, all at once.
func (c Config) Check() error {
	var wrong []error
	for _, size := range []struct {
		name  string
		value int
	}{
		{"hidden_size", c.C}, {"num_hidden_layers", c.Layers}, {"num_attention_heads", c.H}, {"num_key_value_heads", c.KV},
		{"head_dim", c.D}, {"intermediate_size", c.F}, {"vocab_size", c.V},
	} {
		if size.value <= 0 || size.value > math.MaxInt32 {
			wrong = append(wrong, fmt.Errorf("%s is missing or not a usable size (%d)", size.name, size.value))
		}
	}
	if len(wrong) == 0 {
		if c.H%c.KV != 0 {
			wrong = append(wrong, fmt.Errorf("num_attention_heads %d is not a multiple of num_key_value_heads %d", c.H, c.KV))
		}
		if c.D%2 != 0 {
			wrong = append(wrong, fmt.Errorf("head_dim %d is odd; rotary positions need pairs", c.D))
		}
	}
	if !(c.Eps > 0 && c.Eps < 1) {
		wrong = append(wrong, fmt.Errorf("rms_norm_eps is missing or not between 0 and 1 (%g)", c.Eps))
	}
	if !(c.Theta >= 1) || math.IsInf(c.Theta, 1) {
		wrong = append(wrong, fmt.Errorf("rope_theta is missing or not a usable base (%g)", c.Theta))
	}
	if _, ok := families[c.Family]; !ok {
		wrong = append(wrong, fmt.Errorf("there is no family %q", string(c.Family)))
	}
	return errors.Join(append(wrong, c.Stretch.check())...)
}

// QKV is the width of a token's queries, keys and values together.
func (c Config) QKV() int { return (c.H + 2*c.KV) * c.D }

// Parameters is the number of weights.
func (c Config) Parameters() int64 {
	n := int64(0)
	for _, t := range c.tensors() {
		n += int64(t.len())
	}
	return n
}

// frequencies are the angles that a token's position is multiplied by, theta^(-2j/D), perhaps stretched, with the
// roundings to float32 that torch makes.
func (c Config) frequencies() []float32 {
	freq := make([]float32, c.D/2)
	for j := range freq {
		e := float32(2*j) / float32(c.D)
		freq[j] = 1 / float32(math.Pow(c.Theta, float64(e)))
		if c.Stretch != nil {
			freq[j] = c.Stretch.scale(freq[j])
		}
	}
	return freq
}

// encode is config.json for weights saved as dtype ("" leaves the type as it was read).
func (c Config) encode(dtype string) ([]byte, error) {
	file := maps.Clone(c.file)
	if file == nil {
		var err error
		if file, err = c.newFile(); err != nil {
			return nil, err
		}
	}
	vocab, err := json.Marshal(c.V)
	if err != nil {
		return nil, err
	}
	file["vocab_size"] = vocab
	delete(file, quantisationKey)
	if c.Quantised != nil {
		if file[quantisationKey], err = c.Quantised.encode(); err != nil {
			return nil, err
		}
	}
	if dtype != "" {
		key := "torch_dtype"
		if _, ok := file["dtype"]; ok {
			key = "dtype"
		}
		if file[key], err = json.Marshal(dtype); err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	return append(text, '\n'), err
}
