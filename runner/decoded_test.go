package runner

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// SamePipeline compares what two pipelines say, for tests.
func SamePipeline(a, b *Pipeline) bool {
	one, other := *a, *b
	one.HCL, one.reads, other.HCL, other.reads = nil, decodeReads{}, nil, decodeReads{}
	return reflect.DeepEqual(&one, &other)
}

// Unlooked names the stages that need no look, for tests.
func Unlooked(r *Runner, c Circumstances) []string {
	var names []string
	for i, unlooked := range r.unlooked(c) {
		if unlooked {
			names = append(names, r.Plan.Nodes[i].Step.Name)
		}
	}
	return names
}

// ExcerptLooks names the stages that an excerpt looks at, for tests.
func ExcerptLooks(e *Excerpt) (names []string) {
	for _, step := range e.Pipeline.Steps {
		if !e.Pipeline.left.still[step.Name] {
			names = append(names, step.Name)
		}
	}
	return names
}

// FuzzDecodedPipeline: whatever stands in the file is read without a panic, and what is read is written the same.
func FuzzDecodedPipeline(f *testing.F) {
	kind := &Kind{Name: "plain", Version: 1, New: func() Stage { return nil }}
	whole, err := encodePipeline(&Pipeline{Dir: "/w", Files: []string{"pipeline.hcl"}, Settings: Settings{Pools: map[string]int{"disk": 1}},
		Variables: []Variable{{Name: "rank", Value: "8"}}, Off: []string{"lora@8"}, Sources: []*Source{{Name: "raw", Path: "a", Range: hcl.Range{Filename: "x"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{255}, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePipeline(data, []*Kind{kind}, nil)
		if err != nil || len(p.Steps) > 0 {
			return
		}
		again, err := encodePipeline(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodePipeline(again, []*Kind{kind}, nil)
		if err != nil || !SamePipeline(p, back) {
			t.Errorf("%+v is read back as %+v (%v)", p, back, err)
		}
	})
}

// TestDecodedFormat holds the form of a pipeline with little in it.
func TestDecodedFormat(t *testing.T) {
	data, err := encodePipeline(&Pipeline{Dir: "/w", Files: []string{"pipeline.hcl"}, Profile: "prod", EnvNames: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "decoded.hex", hex.Dump(data))
}

// TestDecodedFilesAreParsedWhenShown: a mistake that is found after decoding shows its line.
func TestDecodedFilesAreParsedWhenShown(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte("# one\nlocals {\n  a = 1\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Pipeline{Dir: dir, Files: []string{"pipeline.hcl"}, reads: decodeReads{from: dir}}
	var shown bytes.Buffer
	at := hcl.Range{Filename: "pipeline.hcl", Start: hcl.Pos{Line: 3, Column: 3, Byte: 17}, End: hcl.Pos{Line: 3, Column: 4, Byte: 18}}
	diags := hcl.Diagnostics{mistake(at, "A mistake", "It is here.")}
	if err := FormatDiagnostics(&shown, diags, p.Parsed(), false); err != nil || !bytes.Contains(shown.Bytes(), []byte("a = 1")) || !bytes.Contains(shown.Bytes(), []byte("in locals")) {
		t.Errorf("%v: shown as\n%s", err, shown.Bytes())
	}
}
