package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Family is an architecture, under the model_type of its config.json. All of them are one network: RMSNorm, rotary attention
// with shared key heads, SwiGLU. What differs is in families, in config.json, and nowhere else.
type Family string

// The families. The zero value is Qwen2, which Qwen2.5 is too.
const (
	Qwen2 Family = ""
	Qwen3 Family = "qwen3"
	Llama Family = "llama"
)

// traits are what sets a family apart.
type traits struct {
	class     string // in config.json's architectures
	modelType string
	biased    bool // queries, keys and values have biases
	qkNorm    bool // each query and key head is normalised before it is rotated
	headDim   int  // where config.json leaves head_dim out; 0: hidden_size/num_attention_heads
}

// families follow transformers' modeling_qwen2.py, modeling_qwen3.py and modeling_llama.py.
var families = map[Family]traits{
	Qwen2: {class: "Qwen2ForCausalLM", modelType: "qwen2", biased: true},
	Qwen3: {class: "Qwen3ForCausalLM", modelType: "qwen3", qkNorm: true, headDim: 128},
	Llama: {class: "LlamaForCausalLM", modelType: "llama"},
}

func (f Family) traits() traits { return families[f] }

// String is the family's model_type.
func (f Family) String() string { return f.traits().modelType }

// familyOf finds the family of a configuration.
func (f *configFile) familyOf() (Family, error) {
	for family, t := range families {
		if slices.Contains(f.Architectures, t.class) || len(f.Architectures) == 0 && f.ModelType == t.modelType {
			return family, nil
		}
	}
	found := strings.Join(f.Architectures, ", ")
	if found == "" {
		found = f.ModelType
	}
	if found == "" {
		return "", errors.New("it names neither architectures nor model_type, so that what the model is cannot be known: take the config.json that belongs to the weights")
	}
	return "", fmt.Errorf("the model is a %q; Qwen2ForCausalLM (Qwen2, Qwen2.5), Qwen3ForCausalLM and LlamaForCausalLM (Llama 3, and "+
		"models of that shape) can be computed", found)
}

// Stretch lengthens the waves of the rotary embedding for texts longer than those of the first training, as Llama 3.1 does
// (transformers' _compute_llama3_parameters): frequencies whose wave is longer than Original/Low tokens are divided by
// Factor, those shorter than Original/High stay, and between the two runs a line.
type Stretch struct {
	Factor    float64
	Low, High float64 // low_freq_factor, high_freq_factor
	Original  int     // original_max_position_embeddings
}

// check says which number is not usable.
func (s *Stretch) check() error {
	if s != nil && !(s.Factor >= 1 && s.Low > 0 && s.High > s.Low && s.Original > 0) {
		return fmt.Errorf("rope_scaling: factor %g, low_freq_factor %g, high_freq_factor %g and original_max_position_embeddings %d are no "+
			"usable numbers of type llama3", s.Factor, s.Low, s.High, s.Original)
	}
	return nil
}

// StretchFactors are what each rotary frequency is divided by; Stretch must be there.
func (c Config) StretchFactors() []float32 {
	plain := c
	plain.Stretch = nil
	factors := plain.frequencies()
	for j, f := range c.frequencies() {
		factors[j] /= f
	}
	return factors
}

// scale is what a frequency becomes, with torch's roundings to float32.
func (s *Stretch) scale(freq float32) float32 {
	original, factor := float32(s.Original), float32(s.Factor)
	wave := float32(2*math.Pi) / freq
	switch {
	case wave > float32(float64(s.Original)/s.Low):
		return freq / factor
	case wave < float32(float64(s.Original)/s.High):
		return freq
	}
	smooth := (original/wave - float32(s.Low)) / float32(s.High-s.Low)
	return (1-smooth)*freq/factor + smooth*freq
}
