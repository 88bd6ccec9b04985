// Command demo-model makes the demo's base model anew, with nothing but this project's own code: it trains a
// tokenizer on plain word problems, then a small Qwen2-architecture model on the same texts. The same program
// gives the same bytes on the same kind of processor.
//
//	demo-model -out cmd/lpipe/demo/model
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"lpipe/cmd/lpipe/demo"
	"lpipe/dataset"
	"lpipe/engine"
	"lpipe/engine/cpu"
	"lpipe/engine/safetensors"
	"lpipe/engine/tokenizer"
)

// The size of the model and of its training.
const (
	hidden, layers, heads, kvHeads, ffn = 128, 4, 4, 2, 352

	vocabulary  = 512
	texts       = 66_000
	corpusSeed  = 7
	batchTokens = 2048
	steps       = 1000
	rate        = 2e-3
)

func main() {
	out := flag.String("out", "", "folder to write; it must not exist")
	stepCount := flag.Int("steps", steps, "optimiser steps")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := makeModel(context.Background(), *out, *stepCount); err != nil {
		fmt.Fprintln(os.Stderr, "demo-model:", err)
		os.Exit(1)
	}
}

// makeModel works in a temporary folder beside out and renames the result.
func makeModel(ctx context.Context, out string, steps int) error {
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists already; remove it first", out)
	}
	work, err := os.MkdirTemp(filepath.Dir(out), ".demo-model-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	corpus := demo.Corpus(corpusSeed, texts)
	start := filepath.Join(work, "start")
	t, err := newModel(ctx, start, corpus)
	if err != nil {
		return err
	}
	if err := writeTokens(filepath.Join(work, "tokens"), t, corpus); err != nil {
		return err
	}
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	began := time.Now()
	trained := filepath.Join(work, "trained")
	result, err := engine.Train(ctx, dev, engine.TrainOptions{
		Model: start, Train: filepath.Join(work, "tokens"), Method: "full", Precision: "fp32",
		SequenceLength: batchTokens, BatchTokens: batchTokens, Steps: steps,
		Schedule: engine.Schedule{Kind: "cosine", Rate: rate, Min: rate / 50}, Warmup: 50,
		Optimizer: engine.Optimizer{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Clip: 1}, Seed: 1,
		Scratch: filepath.Join(work, "scratch"), Out: trained, Log: os.Stderr,
		Report: func(p engine.Progress) {
			if p.Step%50 == 0 {
				fmt.Fprintf(os.Stderr, "%s  %s\n", time.Since(began).Round(time.Second), p.Message)
			}
		},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "trained in %s: %+v\n", time.Since(began).Round(time.Second), result)
	return os.Rename(trained, out)
}

// newModel writes a tokenizer trained on the corpus and random weights: the standard deviation is 0.02, that
// of what writes into the residual stream smaller with depth, as GPT-2 does it.
func newModel(ctx context.Context, dir string, corpus []string) (*tokenizer.Tokenizer, error) {
	t, err := tokenizer.Train(ctx, tokenizer.TrainOptions{VocabSize: vocabulary, Texts: func(yield func(string, error) bool) {
		for _, text := range corpus[:4000] {
			if !yield(text, nil) {
				return
			}
		}
		for range 50 { // the words of chats and answers, which the corpus does not have
			if !yield("<think>\n</think>\n\nThe answer is \\boxed{}.\nuser\nassistant\nsystem\n", nil) {
				return
			}
		}
	}})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if err := t.Save(dir); err != nil {
		return nil, err
	}
	config, err := json.MarshalIndent(configuration(t), "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(config, '\n'), 0o666); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(1, 2))
	var tensors []safetensors.Source
	add := func(name string, deviation float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		data := make([]float32, n)
		for i := range data {
			if data[i] = 1; deviation >= 0 {
				data[i] = float32(r.NormFloat64() * deviation)
			}
		}
		tensors = append(tensors, safetensors.Float32s(name, safetensors.F32, shape, data))
	}
	weights(add, t.VocabSize())
	return t, safetensors.Write(filepath.Join(dir, "model.safetensors"), tensors, map[string]string{"format": "pt"})
}

// weights names every tensor with its deviation and shape; a negative deviation means ones.
func weights(add func(name string, deviation float64, shape ...int), vocab int) {
	const d, std, ones = hidden / heads, 0.02, -1
	into := std / math.Sqrt(2*layers)
	add("model.embed_tokens.weight", std, vocab, hidden)
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"input_layernorm.weight", ones, hidden)
		for _, proj := range []struct {
			name string
			rows int
		}{{"q", heads * d}, {"k", kvHeads * d}, {"v", kvHeads * d}} {
			add(p+"self_attn."+proj.name+"_proj.weight", std, proj.rows, hidden)
			add(p+"self_attn."+proj.name+"_proj.bias", 0, proj.rows)
		}
		add(p+"self_attn.o_proj.weight", into, hidden, heads*d)
		add(p+"post_attention_layernorm.weight", ones, hidden)
		add(p+"mlp.gate_proj.weight", std, ffn, hidden)
		add(p+"mlp.up_proj.weight", std, ffn, hidden)
		add(p+"mlp.down_proj.weight", into, hidden, ffn)
	}
	add("model.norm.weight", ones, hidden)
}

func configuration(t *tokenizer.Tokenizer) map[string]any {
	return map[string]any{
		"architectures": []string{"Qwen2ForCausalLM"}, "model_type": "qwen2", "hidden_act": "silu",
		"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kvHeads,
		"intermediate_size": ffn, "vocab_size": t.VocabSize(), "max_position_embeddings": 512,
		"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true, "use_sliding_window": false,
		"attention_dropout": 0.0, "initializer_range": 0.02, "torch_dtype": "float32",
		"bos_token_id": nil, "eos_token_id": t.EOS(),
	}
}

// writeTokens writes each text as a sequence of which every token is trained on, the end of text included.
func writeTokens(dir string, t *tokenizer.Tokenizer, corpus []string) error {
	end, ok := t.Token("<|endoftext|>")
	if !ok {
		return errors.New("the tokenizer has no <|endoftext|>")
	}
	w, err := dataset.CreateTokens(dir, dataset.Manifest{
		Tokenizer: t.Fingerprint(), Template: t.TemplateFingerprint(), VocabSize: t.VocabSize(), TrainOn: "all",
	})
	if err != nil {
		return err
	}
	e := t.NewEncoder()
	for i, text := range corpus {
		ids := append(e.Encode(nil, text, false), end)
		mask := make([]bool, len(ids))
		for j := range mask {
			mask[j] = j > 0
		}
		if err := w.Append(dataset.Sequence{IDs: ids, Mask: mask, Row: i}); err != nil {
			w.Abandon()
			return err
		}
	}
	return w.Close()
}
