package safetensors

import (
	"path/filepath"
	"testing"
)

// TestFloat32Part: a tensor read part by part, over the bounds of pages, is the tensor; parts outside it are errors.
func TestFloat32Part(t *testing.T) {
	const n = 40_000
	want := make([]float32, n)
	for i := range want {
		want[i] = float32(i) - 7.5
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := Write(path, []Source{Float32s("x", F32, []int{n}, want)}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range []int{n, 12_345, 999} {
		for from := 0; from < n; from += part {
			got := make([]float32, min(part, n-from))
			if err := f.Float32Part("x", from, got); err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if v != want[from+i] {
					t.Fatalf("number %d is %g, want %g", from+i, v, want[from+i])
				}
			}
		}
	}
	for _, at := range []int{-1, n - 3} {
		if err := f.Float32Part("x", at, make([]float32, 4)); err == nil {
			t.Errorf("4 numbers from %d on were read", at)
		}
	}
}
