package model

import (
	"path/filepath"
	"reflect"
	"testing"

	"lpipe/engine/cpu"
)

// TestRecompute: whatever is computed again instead of kept, loss and gradients have the same bits, and a pass takes the
// memory that was planned for it.
func TestRecompute(t *testing.T) {
	lora := LoRA{Rank: 3, Alpha: 8, Targets: []string{AllLinear}}
	dropping, dora, upper := lora, lora, lora
	dropping.Dropout, dora.DoRA = 0.3, true
	upper.Targets = []string{"layers.[12].self_attn.v_proj", "layers.[12].mlp.down_proj"}
	for name, o := range map[string]Options{
		"normed heads": {Method: TrainFull},
		"lora":         {Method: TrainLoRA, LoRA: dropping, Seed: 1},
		"dora":         {Method: TrainLoRA, LoRA: dora, Seed: 1},
		"upper":        {Method: TrainLoRA, LoRA: upper, Seed: 1},
		"full":         {Method: TrainFull},
	} {
		t.Run(name, func(t *testing.T) {
			dev := cpu.New(cpu.Options{Threads: 2})
			defer dev.Close()
			dir := "tied"
			if name == "normed heads" {
				dir = "qwen3"
			}
			m := load(t, filepath.Join("..", "testdata", "models", dir), dev, o)
			for _, p := range m.Parameters() {
				if o.Method == TrainLoRA {
					dev.Write(p.Weights, ramp(p.Weights.Len))
				}
			}
			m.NEFTune = 3
			b := Batch{B: 2, T: 19, IDs: make([]int32, 38), Seed: 5}
			for i := range b.IDs {
				b.IDs[i] = int32(i * 37 % 150)
			}
			var loss float64
			var want []float32
			var most int64
			for _, r := range []Recompute{{}, {Light: 1}, {Light: 3}, {Light: 2, MLP: 1}, {Light: 3, MLP: 3}, {Light: 3, MLP: 2, Whole: 1}, {Light: 3, MLP: 3, Whole: 3}, {}} {
				m.SetRecompute(r)
				m.ZeroGrad()
				got, err := m.Step(b, 36)
				if err != nil {
					t.Fatal(err)
				}
				gradients := read(m, m.Gradients())
				if want == nil {
					loss, want, most = got, gradients, m.ActivationBytes(38, true)
				}
				if got != loss || !reflect.DeepEqual(gradients, want) {
					t.Errorf("%+v: loss %v, without it %v; gradients equal: %t", r, got, loss, reflect.DeepEqual(gradients, want))
				}
				if bytes := m.ActivationBytes(38, true); (bytes < most) != (r.Light > 1) {
					t.Errorf("%+v takes %d bytes, nothing recomputed %d", r, bytes, most)
				}
			}
		})
	}
}

// TestFit: a choice is the cheapest that fits, and as small as it gets where nothing fits.
func TestFit(t *testing.T) {
	m := load(t, filepath.Join("..", "testdata", "models", "tied"), cpu.NewPlain(), Options{Method: TrainFull})
	all := m.ActivationBytes(64, true)
	limit, last := all, Recompute{}
	for {
		r, bytes := m.Fit(64, limit, false)
		if bytes > limit {
			if r != (Recompute{3, 3, 3}) {
				t.Errorf("%d bytes are too few for %d at %+v, which is not all", limit, bytes, r)
			}
			break
		}
		if r.Light < last.Light || r.MLP < last.MLP || r.Whole < last.Whole || r.MLP > r.Light || r.Whole > r.MLP || r.Whole > 0 && r.MLP < 3 || r.MLP > 0 && r.Light < 3 {
			t.Errorf("%d bytes: %+v, with more of them %+v", limit, r, last)
		}
		m.SetRecompute(r)
		if got := m.ActivationBytes(64, true); got != bytes {
			t.Errorf("%+v: %d bytes were foretold, it takes %d", r, bytes, got)
		}
		limit, last = bytes-1, r
	}
	if last == (Recompute{}) {
		t.Error("nothing was computed again")
	}
	if r, bytes := m.Fit(64, all, true); r != (Recompute{Light: 3}) || bytes >= all {
		t.Errorf("with what is light left out: %+v, %d bytes of %d", r, bytes, all)
	}
}
