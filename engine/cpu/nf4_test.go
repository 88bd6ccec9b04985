package cpu

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// Bytes, absmax and values are those of bitsandbytes.
func TestNF4AsBitsandbytes(t *testing.T) {
	f := openVectors(t)
	defer f.Close()
	tried := 0
	for _, tensor := range f.Tensors() {
		name, found := strings.CutSuffix(tensor.Name, ".input")
		if !found || name == "bf16" {
			continue
		}
		input, n := make([]float32, tensor.Len()), tensor.Len()
		absmax, values := make([]float32, blocks(n, nf4Block)), make([]float32, n)
		packed, err := f.Bytes(name + ".plain.packed")
		for _, e := range []error{err, f.Float32(tensor.Name, input), f.Float32(name+".plain.absmax", absmax), f.Float32(name+".plain.dequantised", values)} {
			if e != nil {
				t.Fatal(e)
			}
		}
		q, got := newNF4(n), make([]float32, n)
		q.encode(0, input)
		q.decode(got, 0)
		if !slices.Equal(q.absmax, absmax) {
			t.Errorf("%s: absmax differs", name)
		}
		if !slices.Equal(q.codes, packed) {
			t.Errorf("%s: codes differ", name)
		}
		if !slices.Equal(got, values) {
			t.Errorf("%s: values differ", name)
		}
		tried++
	}
	if tried == 0 {
		t.Fatal("no vectors found")
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

// openVectors opens the shared fixtures of bitsandbytes, which stand beside the repository.
func openVectors(t *testing.T) *safetensors.File {
	t.Helper()
	root := os.Getenv("LPIPE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	f, err := safetensors.Open(filepath.Join(root, "fixtures", "engine", "nf4_vectors", "expected.safetensors"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs ../shared beside the repository, or LPIPE_SHARED")
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}
