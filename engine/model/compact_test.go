package model

import (
	"path/filepath"
	"reflect"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/cuda"
	"lpipe/engine/ops"
)

// TestCompact: weights whose files hold bfloat16 are held so where float32 is asked for, and loss and gradients have the same bits;
// others, and those that PiSSA or training changes, stay float32.
func TestCompact(t *testing.T) {
	devices(t, testCompact)
}

// Tensor cores are taken where nobody asked for float32: by the head beside 4-bit weights of a bfloat16 model.
func TestHeadBeside4Bit(t *testing.T) {
	for name, c := range map[string]struct {
		dev  ops.Device
		asks ops.Type
		want ops.Type
	}{
		"cpu, bf16": {cpu.NewPlain(), ops.BF16, ops.BF16Exact}, "gpu, bf16": {cuda.NewOutline(cuda.Description{}, cuda.Options{}), ops.BF16, ops.BF16},
		"gpu, fp32": {cuda.NewOutline(cuda.Description{}, cuda.Options{}), ops.F32, ops.F32},
	} {
		m := load(t, filepath.Join("..", "testdata", "models", "tied"), c.dev, Options{NF4: true, Weights: c.asks})
		if m.head.Type != c.want {
			t.Errorf("%s: the head is held as %v", name, m.head.Type)
		}
		m.Free()
		c.dev.Close()
	}
}

func testCompact(t *testing.T, dev ops.Device) {
	from := load(t, filepath.Join("..", "testdata", "models", "tied"), dev, Options{})
	dir := filepath.Join(t.TempDir(), "half")
	if err := from.Save(t.Context(), dir, SaveOptions{DType: "bfloat16"}); err != nil {
		t.Fatal(err)
	}
	asked := Options{Method: TrainLoRA, LoRA: LoRA{Rank: 3, Alpha: 8, Targets: []string{AllLinear}}, Seed: 1}
	compact, err := asked.Compact(dir)
	if err != nil || compact.Weights != ops.BF16Exact {
		t.Fatalf("held as %v, %v", compact.Weights, err)
	}
	b := Batch{B: 2, T: 19, IDs: make([]int32, 38)}
	for i := range b.IDs {
		b.IDs[i] = int32(i * 37 % 250)
	}
	step := func(o Options) (float64, []float32) {
		m := load(t, dir, dev, o)
		defer m.Free()
		for _, p := range m.Parameters() {
			dev.Write(p.Weights, ramp(p.Weights.Len))
		}
		loss, err := m.Step(b, 36)
		if err != nil {
			t.Fatal(err)
		}
		return loss, read(m, m.Gradients())
	}
	loss, want := step(asked)
	if got, gradients := step(compact); got != loss || !reflect.DeepEqual(gradients, want) {
		t.Errorf("loss %v, as float32 %v; gradients equal: %t", got, loss, reflect.DeepEqual(gradients, want))
	}
	pissa := asked
	pissa.LoRA.Init = "pissa"
	for name, o := range map[string]Options{"pissa": pissa, "full": {Method: TrainFull}} {
		if o, err := o.Compact(dir); err != nil || o.Weights != ops.F32 {
			t.Errorf("%s: held as %v, %v", name, o.Weights, err)
		}
	}
	if o, err := asked.Compact(filepath.Join("..", "testdata", "models", "tied")); err != nil || o.Weights != ops.F32 {
		t.Errorf("a float32 file is held as %v, %v", o.Weights, err)
	}
}
