package nf4

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/safetensors"
)

// Bytes, absmax, tables and nested codes are those of bitsandbytes.
func TestAsBitsandbytes(t *testing.T) {
	f := openVectors(t)
	values := Values()
	if !slices.Equal(values[:], f.floats("quant_map")) {
		t.Error("the codebook differs")
	}
	if !slices.Equal(DynamicMap(), f.floats("nested_quant_map")) {
		t.Error("the dynamic map differs")
	}
	tried := 0
	for _, tensor := range f.Tensors() {
		name, found := strings.CutSuffix(tensor.Name, ".input")
		if !found {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) { f.compare(t, name) })
	}
	if tried < 5 {
		t.Fatalf("%d vectors found", tried)
	}
}

func (f vectors) compare(t *testing.T, name string) {
	input := f.floats(name + ".input")
	codes, absmax := make([]uint8, Bytes(len(input))), make([]float32, Blocks(len(input)))
	Quantise(codes, absmax, input)
	if !slices.Equal(codes, f.bytes(name+".plain.packed")) {
		t.Error("codes differ")
	}
	if !slices.Equal(absmax, f.floats(name+".plain.absmax")) {
		t.Error("absmax differs")
	}
	offset := f.floats(name + ".double.nested_offset")[0]
	if got := Double(absmax).Offset; !(math.Abs(float64(got-offset)) <= 1e-6*math.Abs(float64(offset))) {
		t.Errorf("nested offset %g, want %g", got, offset)
	}
	n := DoubleAround(offset, absmax)
	if !slices.Equal(n.Scales, f.floats(name+".double.nested_absmax")) {
		t.Error("nested absmax differs")
	}
	if n.Scales[0] > 0 && !slices.Equal(n.Codes, f.bytes(name+".double.absmax_midpoint")) {
		t.Error("nested codes differ")
	}
	n.Codes = f.bytes(name + ".double.absmax")
	n.Restore(absmax)
	if !slices.Equal(absmax, f.floats(name+".double.absmax_restored")) {
		t.Error("restored absmax differs")
	}
}

type vectors struct {
	t *testing.T
	*safetensors.File
}

func openVectors(t *testing.T) vectors {
	t.Helper()
	f, err := safetensors.Open(filepath.Join("..", "testdata", "nf4_vectors", "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return vectors{t, f}
}

func (f vectors) floats(name string) []float32 {
	f.t.Helper()
	tensor, _ := f.Tensor(name)
	dst := make([]float32, tensor.Len())
	if err := f.Float32(name, dst); err != nil {
		f.t.Fatal(err)
	}
	return dst
}

func (f vectors) bytes(name string) []uint8 {
	f.t.Helper()
	b, err := f.Bytes(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}
