package model

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"lpipe/engine/ops"
)

// Products of bfloat16 numbers err at most twice as much as torch's own bfloat16 run. Weights that are only held as bfloat16 give
// what torch in float32 gives on the same values, as near as float32 weights do.
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
	bothStorages(t, func(t *testing.T, dev ops.Device, stored ops.Type) {
		logits := allLogits(t, load(t, dir, dev, Options{Weights: stored}), b)
		exact := stored == ops.BF16Exact
		if exact {
			near(t, "logits", logits, want.floats("logits_f32"), 1e-5, 6e-5, b.real())
		}
		largest, mean := apart(logits, want.floats("logits_f32"), b.real())
		if torch := about.Measured.Logits; !(largest <= 2*torch.Max && mean <= 2*torch.Mean) || torch.Max == 0 {
			t.Errorf("logits err by %g, %g in the mean; torch by %g and %g", largest, mean, torch.Max, torch.Mean)
		} else {
			t.Logf("logits err by %.2g, %.2g in the mean; torch by %.2g and %.2g", largest, mean, torch.Max, torch.Mean)
		}
		m := load(t, dir, dev, Options{Method: TrainLoRA, Adapter: filepath.Join(f.dir, "adapter"), Weights: stored})
		loss, err := m.Step(b, b.Targets())
		if err != nil {
			t.Fatal(err)
		}
		if exact {
			nearNumber(t, "loss", loss, float64(want.floats("lora_loss_f32")[0]), 2e-6)
		}
		worst, theirs := 0.0, 0.0
		for _, p := range m.Parameters() {
			got, right := read(m, p.Grad), want.floats("grad_f32."+p.Name)
			if exact {
				nearMax(t, p.Name, got, right, 5e-5)
			}
			var off, size float64
			for i, w := range right {
				off, size = off+math.Pow(float64(got[i]-w), 2), size+float64(w)*float64(w)
			}
			torch := about.Measured.Gradients["grad."+p.Name].L2
			if !(math.Sqrt(off/size) <= 2*torch) {
				t.Errorf("%s errs by %g, torch by %g", p.Name, math.Sqrt(off/size), torch)
			}
			worst, theirs = max(worst, math.Sqrt(off/size)), max(theirs, torch)
		}
		t.Logf("gradients err by up to %.2g (relative L2), torch by %.2g", worst, theirs)
	})
}

// bothStorages runs on every device with weights that round what they are multiplied with, and with those that do not.
func bothStorages(t *testing.T, run func(*testing.T, ops.Device, ops.Type)) {
	devices(t, func(t *testing.T, dev ops.Device) {
		for name, stored := range map[string]ops.Type{"rounded": ops.BF16, "exact": ops.BF16Exact} {
			t.Run(name, func(t *testing.T) { run(t, dev, stored) })
		}
	})
}

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
