package engine

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestAdamW repeats transformers' and torch's steps: accumulation over micro-batches, clipping, schedule, decay.
func TestAdamW(t *testing.T) {
	for _, name := range []string{"adamw_lora", "adamw_lora_linear"} {
		t.Run(name, func(t *testing.T) { testAdamW(t, name) })
	}
}

type adamwCase struct {
	Model    string
	Settings struct {
		Steps, Accumulate, Rows, Warmup int
		LR, Eps, Clip                   float64
		Decay                           float64 `json:"weight_decay"`
		Betas                           [2]float64
		Schedule                        string
	}
	Files map[string]map[string][2]any
	Steps []struct {
		Loss, LR float64
		Norm     float64 `json:"grad_norm"`
		Targets  int     `json:"num_items_in_batch"`
	}
}

func testAdamW(t *testing.T, name string) {
	var c adamwCase
	readCase(t, name, &c)
	s := c.Settings
	dir := filepath.Join("testdata", name)
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	m, err := model.Load(context.Background(), filepath.Join(dir, c.Model), dev,
		model.Options{Method: model.TrainLoRA, Adapter: filepath.Join(dir, "adapter_start")})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	schedule := Schedule{Kind: s.Schedule, Rate: s.LR, Warmup: s.Warmup, Steps: s.Steps}
	if schedule.Kind == "" {
		schedule.Kind = "cosine"
	}
	opt := newOptimizer(m, Optimizer{Beta1: s.Betas[0], Beta2: s.Betas[1], Eps: s.Eps, Decay: s.Decay, Clip: s.Clip}, 0)
	for step, want := range c.Steps {
		m.ZeroGrad()
		loss := 0.0
		for i := range s.Accumulate {
			part, err := m.Step(c.batch(t, dir, step*s.Accumulate+i), want.Targets)
			if err != nil {
				t.Fatal(err)
			}
			loss += part
		}
		rate := schedule.At(step + 1)
		opt.apply(rate)
		settled, err := m.Settle()
		if err != nil {
			t.Fatal(err)
		}
		norm, _ := opt.outcome(settled)
		near(t, fmt.Sprintf("step %d: lr", step+1), rate, want.LR, 1e-12)
		near(t, fmt.Sprintf("step %d: loss", step+1), loss, want.Loss, 2e-5)
		near(t, fmt.Sprintf("step %d: norm", step+1), norm, want.Norm, 1e-4)
	}
	want := openTensors(t, filepath.Join(dir, "reference64.safetensors"))
	for i, p := range m.Parameters() {
		ref := make([]float64, p.Weights.Len)
		if err := want.Float64("final."+p.Name, ref); err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for j, v := range opt.weights()[i] {
			worst = max(worst, math.Abs(float64(v)-ref[j]))
		}
		if worst > 2e-5 {
			t.Errorf("%s differs by %g", p.Name, worst)
		}
	}
}

// TestDecaySparesBiases and norms, as transformers' Trainer does: without a gradient all that moves shrinks by rate times decay.
func TestDecaySparesBiases(t *testing.T) {
	for _, kind := range []string{"adamw", "lion"} {
		m := loadTied(t, model.Options{Method: model.TrainFull})
		o := newOptimizer(m, Optimizer{Kind: kind, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.5}, 0)
		defer o.free()
		before := o.weights()
		m.ZeroGrad()
		o.apply(0.5)
		if _, err := m.Settle(); err != nil {
			t.Fatal(err)
		}
		for i, after := range o.weights() {
			p := o.params[i]
			factor := float32(0.75)
			if len(p.Shape) == 1 {
				factor = 1
			}
			for j, v := range after {
				if want := factor * before[i][j]; math.Abs(float64(v-want)) > 1e-7 {
					t.Fatalf("%s: %s[%d] of %v is %v, want %v", kind, p.Name, j, before[i][j], v, want)
				}
			}
		}
	}
}

// TestStepWithoutLoss: gradients that are finite do not count where the loss is not.
func TestStepWithoutLoss(t *testing.T) {
	m := loadTied(t, model.Options{Method: model.TrainFull})
	o := newOptimizer(m, Optimizer{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.5, Clip: 1}, 0)
	defer o.free()
	before := o.weights()
	for _, loss := range []float64{math.NaN(), math.Inf(1)} {
		m.ZeroGrad()
		m.Device().Write(m.StepSums().Loss, []float32{float32(loss)})
		o.apply(0.5)
		settled, err := m.Settle()
		if err != nil {
			t.Fatal(err)
		}
		if _, made := o.outcome(settled); made || o.step != 0 || !reflect.DeepEqual(o.weights(), before) {
			t.Errorf("a loss of %v made a step", loss)
		}
	}
}

// batch is micro-batch i, whose padding is no document.
func (c *adamwCase) batch(t *testing.T, dir string, i int) model.Batch {
	f := openTensors(t, filepath.Join(dir, "inputs.safetensors"))
	name := fmt.Sprintf("input_ids.%d", i)
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	n := tensor.Len()
	b := model.Batch{
		B: tensor.Shape[0], T: tensor.Shape[1], IDs: ints(t, f, name, n),
		Labels: ints(t, f, fmt.Sprintf("labels.%d", i), n), Sequence: ints(t, f, fmt.Sprintf("attention_mask.%d", i), n),
	}
	for j := range b.Sequence {
		b.Sequence[j]-- // 1 becomes the document 0, 0 becomes padding
	}
	return b
}

func near(t *testing.T, what string, got, want, rtol float64) {
	t.Helper()
	if math.Abs(got-want) > rtol*math.Abs(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
