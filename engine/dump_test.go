package engine

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestDump compares dumped numbers with the fixtures: padded and packed batches, gradients of adapters and of all weights.
func TestDump(t *testing.T) {
	for _, c := range []struct {
		name      string
		gradients bool
		adapter   bool
	}{
		{"forward_padded_tied", false, false}, {"forward_packed", false, false}, {"forward_headdim", false, false},
		{"lora_grads", true, true}, {"lora_grads_packed", true, true}, {"full_grads_tied", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join("testdata", c.name)
			var fixture struct{ Model string }
			readCase(t, c.name, &fixture)
			o := DumpOptions{
				Model: filepath.Join(dir, fixture.Model), Batch: filepath.Join(dir, "inputs.safetensors"),
				Out: filepath.Join(t.TempDir(), "out.safetensors"), Gradients: c.gradients,
			}
			if c.adapter {
				o.Adapter = filepath.Join(dir, "adapter")
			}
			dev := cpu.New(cpu.Options{})
			defer dev.Close()
			if err := Dump(context.Background(), dev, o); err != nil {
				t.Fatal(err)
			}
			compareDump(t, o, filepath.Join(dir, "expected.safetensors"))
		})
	}
}

func compareDump(t *testing.T, o DumpOptions, expected string) {
	got, want := openTensors(t, o.Out), openTensors(t, expected)
	b, err := ReadBatch(o.Batch)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, tensor := range got.Tensors() {
		name := tensor.Name
		if _, ok := want.Tensor(name); !ok {
			name = "grad." + name
		}
		if _, ok := want.Tensor(name); !ok {
			continue
		}
		compared++
		g, w := floats(t, got, tensor.Name, tensor.Len()), floats(t, want, name, tensor.Len())
		high, worst := 0.0, 0.0
		for i := range g {
			high = max(high, math.Abs(float64(w[i])))
			if name != "logits" || b.Sequence == nil || b.Sequence[i/tensor.Shape[2]] >= 0 {
				worst = max(worst, math.Abs(float64(g[i]-w[i])))
			}
		}
		limit := 5e-5 * high
		if name == "logits" {
			limit = 6e-5
		}
		if worst > limit {
			t.Errorf("%s differs by %g, allowed %g", name, worst, limit)
		}
	}
	if compared < 1 || o.Gradients && compared < 10 {
		t.Errorf("only %d tensors were compared", compared)
	}
}

func TestDumpErrors(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	batch := "testdata/lora_grads/inputs.safetensors"
	for want, o := range map[string]DumpOptions{
		"needs --adapter":  {Model: untied, Batch: batch, Gradients: true, Method: "lora"},
		"method":           {Model: untied, Batch: batch, Method: "dora"},
		"needs input_ids":  {Model: untied, Batch: "testdata/models/untied/model.safetensors"},
		"no such file":     {Model: untied, Batch: "testdata/none"},
		"vocabulary has 2": {Model: tied, Batch: batch},
	} {
		o.Out = filepath.Join(t.TempDir(), "out")
		if err := Dump(context.Background(), dev, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestBench(t *testing.T) {
	for _, c := range []struct{ decode, bf16 bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		decode := c.decode
		dev := cpu.New(cpu.Options{Threads: 1})
		r, err := Bench(context.Background(), dev, BenchOptions{Model: untied, B: 2, T: 24, Rank: 4, Steps: 3, LR: 1e-2, Decode: decode, BF16: c.bf16})
		dev.Close()
		if err != nil {
			t.Fatal(err)
		}
		tokens, losses := 2*24*3, 4
		if decode {
			tokens, losses = 2*3, 0
		}
		if r.Tokens != tokens || len(r.Losses) != losses || r.TokensPerSecond <= 0 || r.GFLOPS <= 0 || r.GEMMGFLOPS <= 0 || r.Threads != 1 {
			t.Errorf("decode %t: %+v", decode, r)
		}
		if !decode && r.Losses[3] >= r.Losses[0] {
			t.Errorf("losses %v", r.Losses)
		}
		if r.PeakGFLOPS > 0 && (r.ReadGB <= 0 || (r.ReadShare > 0) != decode) {
			t.Errorf("%+v: weights read: %+v", c, r)
		}
		peak := r.PeakGFLOPS
		if c.bf16 && !decode && r.PeakBF16GFLOPS > 0 { // decoding widens bfloat16 numbers
			peak = r.PeakBF16GFLOPS
		}
		if want := r.GEMMGFLOPS / peak; peak > 0 && r.GEMMShare != want {
			t.Errorf("%+v: share %v of the peak, want %v: %+v", c, r.GEMMShare, want, r)
		}
	}
}

func TestReadIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ids")
	os.WriteFile(path, []byte("{\"ids\": [1, 2]}\n\n[3]\n4 5 6\n[[7], [8, 9]]\n"), 0o666)
	ids, err := ReadIDs(path)
	if err != nil || len(ids) != 5 || ids[4][1] != 9 || ids[0][1] != 2 || ids[1][0] != 3 || ids[2][2] != 6 {
		t.Errorf("%v, %v", ids, err)
	}
	os.WriteFile(path, []byte("1 2\nx\n"), 0o666)
	if _, err := ReadIDs(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

func TestReadInfo(t *testing.T) {
	info, err := ReadInfo(untied)
	if err != nil || info.Layers != 2 || info.Vocabulary != 320 || info.Bytes != 4*info.Parameters || info.Fingerprint == "" {
		t.Errorf("%+v, %v", info, err)
	}
	for want, double := range map[string]bool{"nf4": true, "nf4-single": false} {
		dir := filepath.Join(t.TempDir(), "stored")
		if err := model.Quantise(t.Context(), untied, dir, model.QuantiseOptions{Double: double}); err != nil {
			t.Fatal(err)
		}
		if info, err := ReadInfo(dir); err != nil || info.Quantised != want || info.DType != "float32" {
			t.Errorf("%+v, %v", info, err)
		}
	}
}
