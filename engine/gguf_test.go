package engine

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
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
