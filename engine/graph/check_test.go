//go:build !cuda

package graph

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// TestCheck: on random models the three witnesses agree, on the plain device and on the fast one.
func TestCheck(t *testing.T) {
	models := 6
	if testing.Short() {
		models = 2
	}
	for name, dev := range map[string]ops.Device{"plain": cpu.NewPlain(), "cpu": cpu.New(cpu.Options{})} {
		rows, err := Check(context.Background(), dev, Options{Seed: 1, Models: models}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			t.Logf("%s: %-90s loss %.1e  gradient %.1e  difference %.1e  %s", name, row.Model, row.Loss, row.Gradient, row.Difference, row.Worst)
			if !row.OK {
				t.Errorf("%s: %s: the witnesses differ", name, row.Model)
			}
		}
		if len(rows) != models {
			t.Errorf("%d rows, want %d", len(rows), models)
		}
		dev.Close()
	}
}

// forgetful is a device whose backward pass forgets one thing.
type forgetful struct{ ops.Device }

func (forgetful) RoPEBackward(dqkv, cos, sin ops.Buf, N, H, KV, D int) {}

// TestCheckNotices: a mistake in one operation shows.
func TestCheckNotices(t *testing.T) {
	rows, err := Check(context.Background(), forgetful{cpu.NewPlain()}, Options{Models: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].OK || rows[0].Gradient < 1e-3 || rows[0].Loss > LossTolerance {
		t.Errorf("a backward pass without rotation is not noticed: %+v", rows[0])
	}
}

// TestTorch: the graph gives the loss and gradients that PEFT gave in float64.
func TestTorch(t *testing.T) {
	for _, name := range []string{"lora_grads_packed", "lora_grads_patterns", "lora_grads_dora"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("..", "testdata", name)
			var about struct {
				Model string
				Items int `json:"num_items_in_batch"`
			}
			text, err := os.ReadFile(filepath.Join(dir, "case.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &about); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			m, err := model.Load(ctx, filepath.Join(dir, about.Model), cpu.NewPlain(), model.Options{Method: model.TrainLoRA, Adapter: filepath.Join(dir, "adapter")})
			if err != nil {
				t.Fatal(err)
			}
			w, err := Read(ctx, m)
			if err != nil {
				t.Fatal(err)
			}
			g, err := New(w, batch(t, filepath.Join(dir, "inputs.safetensors")), about.Items)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range m.Parameters() {
				names = append(names, p.Name)
			}
			loss, gradients, err := g.Gradients(names)
			if err != nil {
				t.Fatal(err)
			}
			want, err := safetensors.Open(filepath.Join(dir, "reference64.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			compare(t, want, "loss", []float64{loss})
			for _, name := range names {
				compare(t, want, "grad."+name, gradients[name])
			}
		})
	}
}

// compare allows 1e-9 of the largest value, as the fixtures' README asks of float64.
func compare(t *testing.T, want *safetensors.File, name string, got []float64) {
	t.Helper()
	values := make([]float64, len(got))
	if err := want.Float64(name, values); err != nil {
		t.Fatal(err)
	}
	far, largest := 0.0, 0.0
	for i, v := range values {
		far, largest = math.Max(far, math.Abs(got[i]-v)), math.Max(largest, math.Abs(v))
	}
	if !(far <= 1e-9*largest) {
		t.Errorf("%s: the largest difference is %g of the largest value", name, far/largest)
	}
}

func batch(t *testing.T, path string) model.Batch {
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ints := func(name string) []int32 {
		tensor, ok := f.Tensor(name)
		if !ok {
			return nil
		}
		wide, narrow := make([]int64, tensor.Len()), make([]int32, tensor.Len())
		if err := f.Int64(name, wide); err != nil {
			t.Fatal(err)
		}
		for i, v := range wide {
			narrow[i] = int32(v)
		}
		return narrow
	}
	ids, _ := f.Tensor("input_ids")
	b := model.Batch{B: ids.Shape[0], T: ids.Shape[1], IDs: ints("input_ids"), Labels: ints("labels"), Positions: ints("position_ids")}
	for i, on := range ints("attention_mask") {
		b.Sequence = append(b.Sequence, int32(i/b.T))
		if on == 0 {
			b.Sequence[i] = model.Padding
		}
	}
	return b
}
