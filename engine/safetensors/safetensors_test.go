package safetensors

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGolden is the format byte by byte; TestRewrite shows that it is what the reference implementation writes.
func TestGolden(t *testing.T) {
	header := `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"half":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}}`
	for len(header)%8 != 0 {
		header += " "
	}
	var want []byte
	want = binary.LittleEndian.AppendUint64(want, uint64(len(header)))
	want = append(want, header...)
	want = append(want, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f, 0x49, 0x40)

	path := filepath.Join(t.TempDir(), "x.safetensors")
	err := Write(path, []Source{
		Float32s("half", BF16, []int{1}, []float32{3.14159265}),
		Float32s("b", F32, nil, []float32{0.5}),
		Float32s("a", F32, []int{2, 1}, []float32{1, -2}),
	}, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestRewrite reads a file that PEFT wrote and writes the same bytes.
func TestRewrite(t *testing.T) {
	path := "../testdata/peft_dir/adapter/adapter_model.safetensors"
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var sources []Source
	for _, tensor := range f.Tensors() {
		b, err := f.Bytes(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, Source{Name: tensor.Name, DType: tensor.DType, Shape: tensor.Shape, Write: func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		}})
	}
	again := filepath.Join(t.TempDir(), "again.safetensors")
	if err := Write(again, sources, f.Metadata()); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(path)
	got, _ := os.ReadFile(again)
	if !bytes.Equal(got, want) {
		t.Error("the file that was read and written again differs")
	}
}

// file puts a header and n bytes of data together.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestLies(t *testing.T) {
	good := `{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	long := binary.LittleEndian.AppendUint64(nil, 1<<40)
	tests := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"empty", nil, "too few"},
		{"not one at all", []byte("<!DOCTYPE html><html>"), "more than the format allows"},
		{"a pointer of Git LFS", []byte("version https://git-lfs.github.com/spec/v1"), "more than the format allows"},
		{"header longer than allowed", append(long, good...), "more than the format allows"},
		{"header longer than file", file(good, 8)[:20], "truncated"},
		{"data truncated", file(good, 5), "truncated or damaged"},
		{"data left over", file(good, 9), "take 8 bytes, but the file has 9"},
		{"no JSON", file(`hello`, 0), "not valid"},
		{"a list", file(`[]`, 0), "does not begin with an object"},
		{"cut JSON", file(good[:30], 8), "not valid"},
		{"two objects", file(good+good, 8), "follows"},
		{"duplicate name", file(`{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `"x" stands twice`},
		{"unknown type", file(`{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}`, 8), `type "F4"`},
		{"no shape", file(`{"x":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "lacks a shape"},
		{"one offset", file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[8]}}`, 8), "lacks a shape or its two offsets"},
		{"shape that is no list", file(`{"x":{"dtype":"F32","shape":"2","data_offsets":[0,8]}}`, 8), `tensor "x"`},
		{"negative dimension", file(`{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8), "negative"},
		{"dimensions that overflow", file(`{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), "larger than any file"},
		{"shape larger than place", file(`{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "needs 12 bytes"},
		{"place beyond the end", file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 8), "lies at bytes 8..16"},
		{"place backwards", file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "lies at bytes 8..0"},
		{"negative place", file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`, 8), "lies at bytes -8..0"},
		{"overlap", file(`{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, 6), `tensors "y" and "x" overlap`},
		{"hole", file(`{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}}`, 10), "belong to no tensor"},
		{"offset that is no whole number", file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8.5]}}`, 8), `tensor "x"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad.safetensors")
			if err := os.WriteFile(path, test.bytes, 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not contain %q and the path", err, test.want)
			}
		})
	}
}

// FuzzHeader looks for headers that make the reader panic or hand out bytes beyond the file.
func FuzzHeader(f *testing.F) {
	f.Add(file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{"__metadata__":{"a":"b"},"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b, int64(len(b)))
		if err != nil {
			return
		}
		for _, tensor := range h.tensors {
			_ = b[h.data+tensor.begin : h.data+tensor.end]
		}
	})
}

func TestTruncatedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	n := 1 << 16
	if err := Write(path, []Source{Float32s("x", F32, []int{n}, make([]float32, n))}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Float32("x", make([]float32, n)); err == nil || !strings.Contains(err.Error(), "became shorter") {
		t.Errorf("error %v does not say that the file became shorter", err)
	}
}

// TestHalves converts every half there is to float32 and back.
func TestHalves(t *testing.T) {
	for h := range 1 << 16 {
		if v := float16(uint16(h)); v == v && Float16(v) != uint16(h) {
			t.Fatalf("half %04x became %g and then %04x", h, v, Float16(v))
		}
		if v := math.Float32frombits(uint32(h) << 16); v == v && toBFloat16(v) != uint16(h) {
			t.Fatalf("bfloat16 %04x became %g and then %04x", h, v, toBFloat16(v))
		}
	}
	rounds := []struct {
		v        float32
		f16, b16 uint16
	}{
		{1 + 1.0/2048, 0x3c00, 0x3f80}, // halfway to the next half, to even
		{1 + 3.0/2048, 0x3c02, 0x3f80}, // halfway, to even, upwards
		{65519, 0x7bff, 0x4780},        // the largest half
		{65520, 0x7c00, 0x4780},        // the smallest number that becomes infinity
		{1.0 / (1 << 25), 0, 0x3300},   // halfway to the smallest subnormal
		{1.5 / (1 << 25), 1, 0x3340},   // beyond halfway
		{float32(math.Inf(-1)), 0xfc00, 0xff80},
		{1 + 1.0/256, 0x3c04, 0x3f80}, // halfway between bfloat16s
		{1 + 3.0/256, 0x3c0c, 0x3f82},
	}
	for _, r := range rounds {
		if got := Float16(r.v); got != r.f16 {
			t.Errorf("%g as a half is %04x, want %04x", r.v, got, r.f16)
		}
		if got := toBFloat16(r.v); got != r.b16 {
			t.Errorf("%g as bfloat16 is %04x, want %04x", r.v, got, r.b16)
		}
	}
	nan := float32(math.NaN())
	if v := float16(Float16(nan)); v == v {
		t.Error("NaN did not survive as a half")
	}
	if b := toBFloat16(math.Float32frombits(0x7f800001)); b&0x7f == 0 {
		t.Error("a NaN became infinity as bfloat16")
	}
}

func TestReadTypes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	data := []float32{0, -1.5, 2, 65504}
	var sources []Source
	for _, d := range []DType{F32, BF16, F16} {
		sources = append(sources, Float32s(string(d), d, []int{2, 2}, data))
	}
	sources = append(sources, Int64s("ids", []int{2}, []int64{-100, 7}))
	if err := Write(path, sources, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]float32, 4)
	for _, d := range []DType{F32, F16} {
		if err := f.Float32(string(d), got); err != nil || got[1] != -1.5 || got[3] != 65504 {
			t.Errorf("%s: %v %v", d, got, err)
		}
	}
	if err := f.Float32("BF16", got); err != nil || got[1] != -1.5 || got[3] != 65536 {
		t.Errorf("BF16: %v %v", got, err)
	}
	ids := make([]int64, 2)
	if err := f.Int64("ids", ids); err != nil || ids[0] != -100 || ids[1] != 7 {
		t.Errorf("ids: %v %v", ids, err)
	}
	for what, err := range map[string]error{
		"where floating point is needed": f.Float32("ids", got[:2]),
		"where whole numbers are needed": f.Int64("F32", make([]int64, 4)),
		"there is no tensor":             f.Float32("lm_head.weight", got),
		"where 3 are needed":             f.Float32("F32", got[:3]),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v does not contain %q", err, what)
		}
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	var sources []Source
	for i, n := range []int{10, 3, 3, 5, 1} {
		sources = append(sources, Float32s(string(rune('e'-i)), F32, []int{n}, make([]float32, n)))
	}
	if err := WriteDir(dir, sources, 24, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if len(d.files) != 3 || len(d.Tensors()) != 5 {
		t.Errorf("%d files with %d tensors, want 3 with 5", len(d.files), len(d.Tensors()))
	}
	if err := d.Float32("d", make([]float32, 3)); err != nil {
		t.Error(err)
	}
}

func TestBadFolders(t *testing.T) {
	write := func(t *testing.T, dir, index string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, Index), []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Write(filepath.Join(dir, "a.safetensors"), []Source{Float32s("x", F32, []int{1}, []float32{1})}, nil); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ name, index, want string }{
		{"no JSON", `{`, Index},
		{"empty", `{}`, "weight_map is empty"},
		{"missing shard", `{"weight_map":{"x":"b.safetensors"}}`, "b.safetensors"},
		{"missing tensor", `{"weight_map":{"y":"a.safetensors"}}`, `tensor "y" is not in a.safetensors`},
		{"outside of the folder", `{"weight_map":{"x":"../a.safetensors"}}`, "not a file of this folder"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, test.index)
			if _, err := OpenDir(dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not contain %q", err, test.want)
			}
		})
	}
	if _, err := OpenDir(t.TempDir()); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("error %v does not say which files were looked for", err)
	}
}

// TestWriteFails leaves the old file where the new one cannot be finished.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	short := Source{Name: "x", DType: F32, Shape: []int{2}, Write: func(w io.Writer) error {
		return WriteFloat32(w, F32, []float32{1})
	}}
	if err := Write(path, []Source{short}, nil); err == nil || !strings.Contains(err.Error(), "4 bytes were written") {
		t.Errorf("error %v does not say how many bytes were written", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if b, _ := os.ReadFile(path); string(b) != "old" || len(entries) != 1 {
		t.Errorf("the folder holds %v and the file %q", entries, b)
	}
}
