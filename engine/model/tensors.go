package model

import (
	"fmt"
	"strings"
)

// tensor is one entry of a model's weight files: name and shape.
type tensor struct {
	name  string
	shape []int
}

func (t tensor) len() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// cols is the length of a row; a vector is one row.
func (t tensor) cols() int { return t.shape[len(t.shape)-1] }

// vector says whether t is a bias or a norm's weight.
func (t tensor) vector() bool { return len(t.shape) == 1 }

// linear says whether t is the weight of one of the layers' linears, which are what 4-bit checkpoints quantise.
func (t tensor) linear() bool { return len(t.shape) == 2 && t.name != embedName && t.name != headName }

const (
	embedName = "model.embed_tokens.weight"
	normName  = "model.norm.weight"
	headName  = "lm_head.weight"
)

// module is a linear of a layer, under its name in the architecture.
type module struct {
	name     string // "self_attn.q_proj", after "model.layers.N."
	in, out  int
	biased   bool
	linear   int // which of a layer's linears (qkv, o, gateUp, down) computes it
	from     int // its first output column there
	fullName string
}

// The linears of a layer: each computes one module or several whose weights are stacked.
const (
	linQKV = iota
	linO
	linGateUp
	linDown
	linears
)

// modules lists the linears of layer i in the order in which transformers declares them.
func (c Config) modules(i int) []module {
	q, kv, biased := c.H*c.D, c.KV*c.D, c.Family.traits().biased
	list := []module{
		{name: "self_attn.q_proj", in: c.C, out: q, biased: biased, linear: linQKV},
		{name: "self_attn.k_proj", in: c.C, out: kv, biased: biased, linear: linQKV, from: q},
		{name: "self_attn.v_proj", in: c.C, out: kv, biased: biased, linear: linQKV, from: q + kv},
		{name: "self_attn.o_proj", in: q, out: c.C, linear: linO},
		{name: "mlp.gate_proj", in: c.C, out: c.F, linear: linGateUp},
		{name: "mlp.up_proj", in: c.C, out: c.F, linear: linGateUp, from: c.F},
		{name: "mlp.down_proj", in: c.F, out: c.C, linear: linDown},
	}
	for j := range list {
		list[j].fullName = fmt.Sprintf("model.layers.%d.%s", i, list[j].name)
	}
	return list
}

// allModules lists the linears of every layer.
func (c Config) allModules() []module {
	var list []module
	for i := range c.Layers {
		list = append(list, c.modules(i)...)
	}
	return list
}

// tensors lists what the weight files hold, in the order of transformers' state_dict.
func (c Config) tensors() []tensor {
	list := []tensor{{embedName, []int{c.V, c.C}}}
	for i := range c.Layers {
		for _, m := range c.modules(i) {
			list = append(list, tensor{m.fullName + ".weight", []int{m.out, m.in}})
			if m.biased {
				list = append(list, tensor{m.fullName + ".bias", []int{m.out}})
			}
			if m.linear == linO && c.Family.traits().qkNorm {
				list = append(list,
					tensor{fmt.Sprintf("model.layers.%d.self_attn.q_norm.weight", i), []int{c.D}},
					tensor{fmt.Sprintf("model.layers.%d.self_attn.k_norm.weight", i), []int{c.D}})
			}
		}
		list = append(list,
			tensor{fmt.Sprintf("model.layers.%d.input_layernorm.weight", i), []int{c.C}},
			tensor{fmt.Sprintf("model.layers.%d.post_attention_layernorm.weight", i), []int{c.C}})
	}
	list = append(list, tensor{normName, []int{c.C}})
	if !c.Tied {
		list = append(list, tensor{headName, []int{c.V, c.C}})
	}
	return list
}

// superfluous says whether a weight file may hold a tensor that the architecture does not need: the head of
// a tied model, which is the embedding again, and rotary tables of old writers.
func (c Config) superfluous(name string) bool {
	return c.Tied && name == headName || strings.HasSuffix(name, ".rotary_emb.inv_freq")
}
