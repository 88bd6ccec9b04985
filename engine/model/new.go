package model

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"lpipe/engine/ops"
)

// Init says how the weights of a new model are drawn. Each number depends on the seed, its tensor's name and its
// place only.
type Init struct {
	Seed uint64
	// Deviation is that of matrices, drawn normally around 0; transformers' own is 0.02.
	Deviation float64
	// Vary is the deviation of norms around 1 and of biases around 0. transformers' own is 0; a test that shall
	// notice a forgotten norm or bias needs more.
	Vary float64
	// OnDevice lets a Drawer draw the matrices itself: other numbers, in no time. It is for models that are only timed.
	OnDevice bool
}

// Drawer is a Device that can fill a weight with random numbers.
type Drawer interface {
	// RandomWeight draws every value around 0, with that deviation.
	RandomWeight(w ops.Weight, seed uint64, deviation float64)
}

// New makes a model of shape c with random weights, to be trained from nothing or to test with.
func New(c Config, init Init, dev ops.Device, o Options) (*Model, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("new model: %w", err)
	}
	m := &Model{Config: c, Method: o.Method, dev: dev}
	err := m.build(context.Background(), o, func() error {
		drawer, own := dev.(Drawer)
		drawn := map[ops.Weight]bool{}
		for _, t := range c.tensors() {
			w := m.places[t.name].weight
			switch {
			case !own || !init.OnDevice || !w.Present():
				m.store(t, init.draw(t))
			case !drawn[w]:
				drawer.RandomWeight(w, mix(init.Seed^mix(hash(t.name))), init.Deviation)
				drawn[w] = true
			}
		}
		return dev.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("new model: %w", err)
	}
	return m, nil
}

func (i Init) draw(t tensor) []float32 {
	values := make([]float32, t.len())
	key, mean, deviation := mix(i.Seed^mix(hash(t.name))), 0.0, i.Deviation
	if t.vector() {
		deviation = i.Vary
		if strings.HasSuffix(t.name, "norm.weight") {
			mean = 1
		}
	}
	for j := range values {
		values[j] = float32(mean)
		if deviation != 0 {
			values[j] = float32(mean + deviation*normal(key, j))
		}
	}
	return values
}

// unit is uniform in (0, 1).
func unit(key uint64, i int) float64 {
	return (float64(mix(key+uint64(i)*0x9e3779b97f4a7c15)>>11) + 0.5) / (1 << 53)
}

// normal is one half of Box and Muller's pair.
func normal(key uint64, i int) float64 {
	return math.Sqrt(-2*math.Log(unit(key, 2*i))) * math.Cos(2*math.Pi*unit(key, 2*i+1))
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Each visits every tensor of the base model under its name in the weight files; values are valid during the call.
func (m *Model) Each(ctx context.Context, visit func(name string, shape []int, values []float32) error) error {
	for _, t := range m.Config.tensors() {
		if err := ctx.Err(); err != nil {
			return err
		}
		values := make([]float32, t.len())
		m.fetch(t, values)
		if err := m.dev.Err(); err != nil {
			return err
		}
		if err := visit(t.name, t.shape, values); err != nil {
			return err
		}
	}
	return nil
}

// AdapterInfo describes the adapter of one module: y += Scale · B (A x).
type AdapterInfo struct {
	Module  string // "model.layers.0.self_attn.q_proj"
	A, B, M string // its tensors' names in adapter_model.safetensors; M: DoRA's magnitude, or ""
	In, Out int
	Rank    int
	Scale   float64
}

// Adapters lists the model's adapters, in the order of Parameters.
func (m *Model) Adapters() []AdapterInfo {
	var list []AdapterInfo
	for _, a := range m.adapters {
		info := AdapterInfo{Module: a.fullName, A: peftName(a.fullName, "A"), B: peftName(a.fullName, "B"), In: a.in, Out: a.out, Rank: a.rank, Scale: a.scale}
		if a.m.Present() {
			info.M = peftMagnitude(a.fullName)
		}
		list = append(list, info)
	}
	return list
}

// fraction is a number that is no int to Python, which transformers insists on in places.
func fraction(v float64) json.RawMessage {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return json.RawMessage(text)
}

// newFile is config.json of a model that was not read from a folder, as transformers 4 and 5 both read it.
func (c Config) newFile() (map[string]json.RawMessage, error) {
	dtype := c.DType
	if dtype == "" {
		dtype = "float32"
	}
	file := map[string]json.RawMessage{}
	fields := map[string]any{
		"architectures": []string{c.Family.traits().class}, "model_type": c.Family.traits().modelType, "hidden_act": "silu", "attention_dropout": 0,
		"hidden_size": c.C, "num_hidden_layers": c.Layers, "num_attention_heads": c.H, "num_key_value_heads": c.KV,
		"head_dim": c.D, "intermediate_size": c.F, "vocab_size": c.V, "rms_norm_eps": c.Eps, "rope_theta": c.Theta,
		"tie_word_embeddings": c.Tied, "max_position_embeddings": c.MaxPositions, "initializer_range": 0.02,
		"use_cache": true, "use_sliding_window": false, "torch_dtype": dtype, "eos_token_id": c.EOS,
	}
	if !c.Family.traits().biased {
		fields["attention_bias"], fields["mlp_bias"] = false, false
	}
	if s := c.Stretch; s != nil {
		fields["rope_scaling"] = map[string]any{
			"rope_type": "llama3", "factor": fraction(s.Factor), "low_freq_factor": fraction(s.Low), "high_freq_factor": fraction(s.High), "original_max_position_embeddings": s.Original,
		}
	}
	for key, value := range fields {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		file[key] = text
	}
	return file, nil
}
