package runner

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzDecode: whatever stands in a pipeline file, decoding ends, and every mistake can be printed and has a remedy.
func FuzzDecode(f *testing.F) {
	sample, err := os.ReadFile("testdata/contract.hcl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample), "3")
	paths, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(archive.Files[0].Data), "[1, \"a\"]")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > 1<<14 {
			return
		}
		d := newDecoder(DecodeOptions{Dir: dir, Kinds: fakeKinds(), Profile: "prod", Vars: []string{"rank=" + value}})
		if body, ok := d.parseSource("pipeline.hcl", []byte(text)); ok {
			d.decode([]pipelineFile{{name: "pipeline.hcl", body: body}})
		}
		p, diags := d.finish()
		printed(p, diags)
		for _, diag := range diags {
			if diag.Summary == "" || diag.Detail == "" {
				t.Errorf("a mistake without remedy: %s", printed(p, diags))
			}
		}
		for _, step := range p.Steps {
			if !diags.HasErrors() && step.Stage == nil {
				t.Errorf("step %s has no stage", step.Name)
			}
		}
	})
}
