package model

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/ops"
)

// bfloat16 weights, here with float32 sums, err at most twice as much as torch's own bfloat16 run; against torch in float32 on
// the same weights they are as near as float32 weights are, but on devices whose products are bfloat16.
func TestBF16(t *testing.T) {
	f := open(t, "bf16")
	var about struct {
		Measured struct {
			Logits struct {
				Max  float64 `json:"max_abs_error"`
				Mean float64 `json:"mean_abs_error"`
			}
			Gradients map[string]struct {
				L2 float64 `json:"relative_l2"`
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(f.dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &about); err != nil {
		t.Fatal(err)
	}
	dir := asBF16(t, f.Model)
	want, b := f.tensors(t, "expected.safetensors"), f.tensors(t, "inputs.safetensors").batch("")
	devices(t, func(t *testing.T, dev ops.Device) {
		logits := allLogits(t, load(t, dir, dev, Options{Weights: ops.BF16}), b)
		if !rounds(dev) {
			near(t, "logits", logits, want.floats("logits_f32"), 1e-5, 6e-5, b.real())
		}
		largest, mean := apart(logits, want.floats("logits_f32"), b.real())
		if torch := about.Measured.Logits; !(largest <= 2*torch.Max && mean <= 2*torch.Mean) || torch.Max == 0 {
			t.Errorf("logits err by %g, %g in the mean; torch by %g and %g", largest, mean, torch.Max, torch.Mean)
		}
		m := load(t, dir, dev, Options{Method: TrainLoRA, Adapter: filepath.Join(f.dir, "adapter"), Weights: ops.BF16})
		loss, err := m.Step(b, b.Targets())
		if err != nil {
			t.Fatal(err)
		}
		if !rounds(dev) {
			nearNumber(t, "loss", loss, float64(want.floats("lora_loss_f32")[0]), 2e-6)
		}
		for _, p := range m.Parameters() {
			got, exact := read(m, p.Grad), want.floats("grad_f32."+p.Name)
			if !rounds(dev) {
				nearMax(t, p.Name, got, exact, 5e-5)
			}
			var off, size float64
			for i, w := range exact {
				off, size = off+math.Pow(float64(got[i]-w), 2), size+float64(w)*float64(w)
			}
			if torch := about.Measured.Gradients["grad."+p.Name].L2; !(math.Sqrt(off/size) <= 2*torch) {
				t.Errorf("%s errs by %g, torch by %g", p.Name, math.Sqrt(off/size), torch)
			}
		}
	})
}

// rounds says whether a device rounds the other operand of a bfloat16 weight too.
func rounds(dev ops.Device) bool { return strings.HasPrefix(dev.Info().Name, "cuda") }

// apart is the largest and the mean difference of the rows that are on.
func apart(got, want []float32, on []bool) (largest, mean float64) {
	n, width := 0, len(got)/len(on)
	for i := range got {
		if on[i/width] {
			d := math.Abs(float64(got[i]) - float64(want[i]))
			largest, mean, n = max(largest, d), mean+d, n+1
		}
	}
	return largest, mean / float64(n)
}
