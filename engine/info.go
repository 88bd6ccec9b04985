package engine

import (
	"fmt"

	"lpipe/engine/model"
	"lpipe/engine/safetensors"
)

// Info is what `lpipe engine info` prints of a model folder.
type Info struct {
	Family       string `json:"family"` // qwen2, qwen3, llama
	Layers       int    `json:"layers"`
	Width        int    `json:"width"`
	Heads        int    `json:"heads"`
	KVHeads      int    `json:"kv_heads"`
	HeadWidth    int    `json:"head_width"`
	FeedForward  int    `json:"feed_forward"`
	Vocabulary   int    `json:"vocabulary"`
	Tied         bool   `json:"tied"`
	MaxPositions int    `json:"max_positions"`
	DType        string `json:"dtype"`
	Parameters   int64  `json:"parameters"`
	Bytes        int64  `json:"bytes"` // of the weights, as stored
	// Quantised says how the layers' linears are stored, "" if as DType like all else: nf4, or nf4-single.
	Quantised   string `json:"quantised,omitempty"`
	Fingerprint string `json:"fingerprint"`
	// Tokenizer is its fingerprint, "" if the folder has none; Tokens is its size.
	Tokenizer string `json:"tokenizer,omitempty"`
	Tokens    int    `json:"tokens,omitempty"`
}

// ReadInfo describes a model folder without loading its weights.
func ReadInfo(dir string) (*Info, error) {
	c, err := model.ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	info := &Info{
		Family: c.Family.String(), Layers: c.Layers, Width: c.C, Heads: c.H, KVHeads: c.KV, HeadWidth: c.D, FeedForward: c.F, Vocabulary: c.V,
		Tied: c.Tied, MaxPositions: c.MaxPositions, DType: c.DType, Parameters: c.Parameters(),
	}
	if q := c.Quantised; q != nil {
		if info.Quantised = "nf4-single"; q.Double {
			info.Quantised = "nf4"
		}
	}
	files, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	for _, t := range files.Tensors() {
		info.Bytes += t.Bytes()
	}
	if err := files.Close(); err != nil {
		return nil, err
	}
	if info.Fingerprint, err = modelFingerprint(dir); err != nil {
		return nil, err
	}
	tok, err := loadTokenizer(dir)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if tok != nil {
		info.Tokenizer, info.Tokens = tok.Fingerprint(), tok.VocabSize()
		if info.Tokens > c.V {
			return nil, fmt.Errorf("%s: the tokenizer has %d tokens, the model's vocabulary %d: they do not belong together", dir, info.Tokens, c.V)
		}
	}
	return info, nil
}
