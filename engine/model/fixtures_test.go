package model

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// fixture is one case of engine/testdata: what torch, transformers and PEFT computed. Its README says how.
type fixture struct {
	dir   string
	Model string
	Items int   `json:"num_items_in_batch"`
	Stop  int32 `json:"stop_token"`
}

func open(t *testing.T, name string) fixture {
	t.Helper()
	f := fixture{dir: filepath.Join("..", "testdata", name)}
	text, err := os.ReadFile(filepath.Join(f.dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	f.Model = filepath.Join(f.dir, f.Model)
	return f
}

// devices are those that every case must pass on.
func devices(t *testing.T, run func(*testing.T, ops.Device)) {
	for name, dev := range map[string]ops.Device{"plain": cpu.NewPlain(), "cpu": cpu.New(cpu.Options{})} {
		t.Run(name, func(t *testing.T) { run(t, dev) })
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}
	cudaDevices(t, run)
}

func load(t *testing.T, dir string, dev ops.Device, o Options) *Model {
	t.Helper()
	m, err := Load(context.Background(), dir, dev, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (f fixture) has(name string) bool {
	_, err := os.Stat(filepath.Join(f.dir, name))
	return err == nil
}

// tensors opens one of a case's files.
func (f fixture) tensors(t *testing.T, name string) tensorFile {
	t.Helper()
	file, err := safetensors.Open(filepath.Join(f.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return tensorFile{t, file}
}

type tensorFile struct {
	t *testing.T
	*safetensors.File
}

func (f tensorFile) floats(name string) []float32 {
	f.t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		f.t.Fatalf("%s has no tensor %s", f.Path(), name)
	}
	dst := make([]float32, tensor.Len())
	if err := f.Float32(name, dst); err != nil {
		f.t.Fatal(err)
	}
	return dst
}

// ints is nil where there is no such tensor.
func (f tensorFile) ints(name string) (values []int32, shape []int) {
	f.t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		return nil, nil
	}
	wide := make([]int64, tensor.Len())
	if err := f.Int64(name, wide); err != nil {
		f.t.Fatal(err)
	}
	for _, v := range wide {
		values = append(values, int32(v))
	}
	return values, tensor.Shape
}

// batch is the inputs whose names end in suffix, with padding where the attention mask is 0.
func (f tensorFile) batch(suffix string) Batch {
	ids, shape := f.ints("input_ids" + suffix)
	b := Batch{B: shape[0], T: shape[1], IDs: ids}
	b.Labels, _ = f.ints("labels" + suffix)
	b.Positions, _ = f.ints("position_ids" + suffix)
	if mask, _ := f.ints("attention_mask" + suffix); mask != nil {
		b.Sequence = make([]int32, len(ids))
		for i, on := range mask {
			b.Sequence[i] = int32(i / b.T)
			if on == 0 {
				b.Sequence[i] = Padding
			}
		}
	}
	return b
}

// real says which tokens are not padding.
func (b Batch) real() []bool {
	on := make([]bool, len(b.IDs))
	for i := range on {
		on[i] = b.Sequence == nil || b.Sequence[i] != Padding
	}
	return on
}

// near compares per entry, |got-want| <= atol + rtol*|want|, only the rows that are on; nil means all.
func near(t *testing.T, what string, got, want []float32, rtol, atol float64, on []bool) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	worst, at := 0.0, 0
	for i := range got {
		if on != nil && !on[i/(len(got)/len(on))] {
			continue
		}
		g, w := float64(got[i]), float64(want[i])
		allowed := atol + rtol*math.Abs(w)
		if d := math.Abs(g - w); !(d <= allowed) && !(d/allowed <= worst) {
			worst, at = d/allowed, i
		}
	}
	if worst != 0 {
		t.Errorf("%s: value %d is %g, want %g: %.2g times the tolerance", what, at, got[at], want[at], worst)
	}
}

// nearMax compares a gradient: max|got-want| <= rtol * max|want|.
func nearMax(t *testing.T, what string, got, want []float32, rtol float64) {
	t.Helper()
	largest := 0.0
	for _, w := range want {
		largest = max(largest, math.Abs(float64(w)))
	}
	near(t, what, got, want, 0, rtol*largest, nil)
}

func nearNumber(t *testing.T, what string, got, want, rtol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= rtol*math.Abs(want)) {
		t.Errorf("%s is %.9g, want %.9g", what, got, want)
	}
}

func read(m *Model, b ops.Buf) []float32 {
	values := make([]float32, b.Len)
	m.dev.Read(values, b)
	return values
}

func allLogits(t *testing.T, m *Model, b Batch) []float32 {
	t.Helper()
	var all []float32
	if err := m.Logits(b, func(_ int, logits []float32) error {
		all = append(all, logits...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
