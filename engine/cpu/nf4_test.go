package cpu

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/nf4"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// What codes stand for are the values of bitsandbytes, in float32 and in bfloat16.
func TestNF4AsBitsandbytes(t *testing.T) {
	f, err := safetensors.Open(filepath.Join("..", "testdata", "nf4_vectors", "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(name string) []float32 {
		tensor, _ := f.Tensor(name)
		dst := make([]float32, tensor.Len())
		if err := f.Float32(name, dst); err != nil {
			t.Fatal(err)
		}
		return dst
	}
	for _, tensor := range f.Tensors() {
		name, found := strings.CutSuffix(tensor.Name, ".dequantised")
		if !found {
			continue
		}
		base, how, _ := strings.Cut(name, ".")
		input := read(base + ".input")
		n, typ := len(input), ops.NF4
		codes, absmax := make([]uint8, nf4.Bytes(n)), make([]float32, nf4.Blocks(n))
		switch how {
		case "bf16":
			typ = ops.NF4BF16
			for i, v := range input {
				input[i] = unbf16(bf16(v))
			}
			nf4.Quantise(codes, absmax, input)
		case "double":
			nf4.Quantise(codes, absmax, input)
			absmax = read(name + ".absmax_restored")
		default:
			nf4.Quantise(codes, absmax, input)
		}
		d := NewPlain()
		w, got := d.AllocWeight(typ, 1, n), make([]float32, n)
		d.WriteNF4(w, 0, codes, absmax)
		d.ReadWeight(got, w, 0)
		if !slices.Equal(got, read(tensor.Name)) {
			t.Errorf("%s: values differ", name)
		}
		for at := range 3 { // from the middle of a byte, too
			d.ReadWeight(got, w, 0)
			part := make([]float32, n-5)
			m := d.w(w, 1, n)
			m.decode(part, at)
			if !slices.Equal(part, got[at:][:n-5]) {
				t.Errorf("%s: values from %d on differ", name, at)
			}
		}
	}
}

// Quantising what was dequantised changes nothing, so that a quantised checkpoint goes through float32 without loss.
func TestNF4IsStable(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	d := New(Options{Threads: 1})
	defer d.Close()
	w := d.AllocWeight(ops.NF4, 30, 128)
	d.WriteWeight(w, 0, noise(rng, 30*128))
	first, second := make([]float32, 30*128), make([]float32, 30*128)
	d.ReadWeight(first, w, 0)
	d.WriteWeight(w, 0, first)
	d.ReadWeight(second, w, 0)
	if !slices.Equal(first, second) {
		t.Fatal("a second quantisation changed values")
	}
	d.LinearMerge(w, nil, 128, 30)
	if d.Err() == nil {
		t.Fatal("merging into an NF4 weight was not refused")
	}
}
