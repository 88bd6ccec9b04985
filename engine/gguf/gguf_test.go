package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden file anew")

// sample has every type of setting and tensor.
func sample() File {
	values := make([]float32, 64)
	for i := range values {
		values[i] = float32(math.Sin(float64(i)) * float64(i))
	}
	read := func(n int) func() ([]float32, error) { return func() ([]float32, error) { return values[:n], nil } }
	return File{
		Settings: []Setting{
			{"general.architecture", "qwen2"}, {"a.count", uint32(7)}, {"a.id", int32(-7)}, {"a.rate", float32(1e-6)}, {"a.flag", true},
			{"a.list", []string{"Ġa", "", "b"}}, {"a.kinds", []int32{1, -2, 3}},
		},
		Tensors: []Tensor{
			{"v", []int{3}, F32, read(3)}, {"half", []int{2, 5}, F16, read(10)}, {"brain", []int{5, 2}, BF16, read(10)}, {"blocks", []int{2, 32}, Q8_0, read(64)},
		},
	}
}

// TestGolden: the bytes are those that the gguf package has read (tools/parity/ggufs.py reads files of this writer).
func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := sample().Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "sample.gguf")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from the %d of %s", len(got), len(want), golden)
	}
	if len(got)%alignment != 0 || !bytes.HasPrefix(got, []byte("GGUF\x03\x00\x00\x00")) {
		t.Errorf("%d bytes, begin %q", len(got), got[:8])
	}
}

func TestQuantise(t *testing.T) {
	values := make([]float32, block)
	values[0], values[1], values[2], values[3] = -127, 0.5, -1.5, 63.49
	var b [2 + block]byte
	quantise(&b, values)
	if d := binary.LittleEndian.Uint16(b[:]); d != 0x3c00 { // 1 as a half
		t.Errorf("scale %#x", d)
	}
	for i, want := range []int8{-127, 1, -2, 63, 0} {
		if got := int8(b[2+i]); got != want {
			t.Errorf("%v is %d, want %d", values[i], got, want)
		}
	}
	quantise(&b, make([]float32, block))
	if b != [2 + block]byte{} {
		t.Errorf("zeros are %v", b)
	}
}

// TestRefused: no file is left of what cannot be written.
func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*File){
		"rows of 5 values": func(f *File) { f.Tensors[1].Type = Q8_0 },
		"type 2, which":    func(f *File) { f.Tensors[0].Type = 2 },
		"has type int,":    func(f *File) { f.Settings[0].Value = 3 },
		"9 values where":   func(f *File) { f.Tensors[1].Values = func() ([]float32, error) { return make([]float32, 9), nil } },
		"half: broken":     func(f *File) { f.Tensors[1].Values = func() ([]float32, error) { return nil, errors.New("broken") } },
	} {
		f, dir := sample(), t.TempDir()
		change(&f)
		if err := f.Write(filepath.Join(dir, "a.gguf")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: %v is left", want, left)
		}
	}
}

// TestOnlyFilesAreReplaced: a pipe or device is no place for a model, and whoever is root would lose it.
func TestOnlyFilesAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sample().Write(path); err == nil || !strings.Contains(err.Error(), path+": it is there, and is no regular file") {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("it is %v now, %v", info.Mode(), err)
	}
}
