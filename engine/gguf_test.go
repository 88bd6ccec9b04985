package engine

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/model"
)

// ggufData reads the shapes and float32 data of a file's tensors: a reader that shares nothing with the writer.
func ggufData(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := 8
	u := func(n int) (v int) {
		for i := range n {
			v |= int(b[at+i]) << (8 * i)
		}
		at += n
		return v
	}
	text := func() string {
		n := u(8)
		at += n
		return string(b[at-n : at])
	}
	var skip func(kind int)
	skip = func(kind int) {
		switch kind {
		case 7:
			at++
		case 8:
			text()
		case 9:
			kind, n := u(4), u(8)
			for range n {
				skip(kind)
			}
		default:
			at += 4
		}
	}
	tensors, settings := u(8), u(8)
	for range settings {
		text()
		skip(u(4))
	}
	type place struct {
		name  string
		n, at int
	}
	var places []place
	for range tensors {
		p := place{name: text(), n: 1}
		for range u(4) {
			p.n *= u(8)
		}
		if kind := u(4); kind != 0 {
			t.Fatalf("%s has type %d", p.name, kind)
		}
		p.at = u(8)
		places = append(places, p)
	}
	start := (at + 31) / 32 * 32
	all := map[string][]float32{}
	for _, p := range places {
		values := make([]float32, p.n)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[start+p.at+4*i:]))
		}
		all[p.name] = values
	}
	return all
}

// TestGGUFAlone: an adapter in its own file, with a pattern's scale multiplied into B.
func TestGGUFAlone(t *testing.T) {
	o := small(t)
	o.Steps, o.LoRA.AlphaPattern = 4, model.Patterns{{Match: "q_proj", Value: 24}}
	train(t, o, 0)
	out := filepath.Join(t.TempDir(), "a.gguf")
	if err := WriteGGUF(context.Background(), GGUFOptions{Model: o.Model, Adapter: o.Out, Alone: true, Type: "f32", Out: out}); err != nil {
		t.Fatal(err)
	}
	got := ggufData(t, out)
	f, err := model.OpenFolder(o.Model, o.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pairs := f.Adapter.Pairs(f.Config)
	if len(got) != 2*len(pairs) || len(pairs) != 21 {
		t.Errorf("%d tensors for %d modules", len(got), len(pairs))
	}
	b, err := pairs[0].B()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got["blk.0.attn_q.weight.lora_b"] {
		if v != 3*b[i] { // 24 in place of 8
			t.Fatalf("value %d is %v, want %v", i, v, 3*b[i])
		}
	}
	if b, err = pairs[6].B(); err != nil {
		t.Fatal(err)
	}
	for i, v := range got["blk.0.ffn_down.weight.lora_b"] {
		if v != b[i] {
			t.Fatalf("value %d is %v, want %v", i, v, b[i])
		}
	}
}

func TestGGUFRefused(t *testing.T) {
	o := small(t)
	o.Steps, o.LoRA.DoRA, o.LoRA.Dropout = 1, true, 0
	train(t, o, 0)
	for want, g := range map[string]GGUFOptions{
		"DoRA":               {Adapter: o.Out, Alone: true, Type: "f32"},
		"holds no tokenizer": {Type: "f32"},
		"q4_0":               {Type: "q4_0"},
		"none is given":      {Alone: true, Type: "f32"},
	} {
		g.Model, g.Out = o.Model, filepath.Join(t.TempDir(), "a.gguf")
		if err := WriteGGUF(context.Background(), g); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := os.Stat(g.Out); err == nil {
			t.Errorf("%s: a file was written", want)
		}
	}
}

// TestTurned: llama.cpp's Llama rotates neighbours, transformers' the halves of a head.
func TestTurned(t *testing.T) {
	values := []float32{0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5} // 8 rows of 2: 2 heads of 4
	got, err := turned(func() ([]float32, error) { return values, nil }, 8, 2)()
	if want := []float32{0, 0.5, 2, 2.5, 1, 1.5, 3, 3.5, 4, 4.5, 6, 6.5, 5, 5.5, 7, 7.5}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, want %v, %v", got, want, err)
	}
	c := model.Config{Family: model.Llama, H: 6, KV: 2}
	for name, want := range map[string]int{"model.layers.0.self_attn.q_proj.weight": 6, "model.layers.0.self_attn.k_proj.weight": 2, "model.layers.0.self_attn.v_proj.weight": 0} {
		if got := turnedHeads(c, name); got != want || turnedHeads(model.Config{H: 6}, name) != 0 {
			t.Errorf("%s: %d heads", name, got)
		}
	}
}
