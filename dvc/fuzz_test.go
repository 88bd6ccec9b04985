package dvc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// FuzzConvert: whatever stands in a DVC project, it is refused, or becomes a text that HCL reads.
func FuzzConvert(f *testing.F) {
	f.Add("stages:\n  a:\n    foreach: ${m}\n    do:\n      cmd: echo ${item.x} ${train}\n      deps: [b.py, \"${p}/c\"]\n      outs: [{x: {cache: false}}]\n", "m: [{x: 1}]\ntrain: {lr: 0.1, f: true, l: [1]}\np: q\n", "outs: [{path: d, md5: 1}]")
	f.Add("vars: [{a: \"x\\n\\\"${\"}]\nstages:\n  s: {matrix: {k: [1, two]}, cmd: [\"cd ${a}\", 'x \\${Y} $Z'], params: [a, {o.json: [b]}], wdir: w, desc: '%{'}\nmetrics: [m.json]\nplots: [{t: {y: {f: g}}}]\n", "", "deps: [{path: 's3://b/k'}]\nouts: [{path: '../x'}]\ncmd: y")
	f.Add("stages: {a: {cmd: &c echo, outs: [*c]}, <<: {b: {cmd: x}}}", "- 1", "x")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, pipeline, params, tracked string) {
		for name, text := range map[string]string{"dvc.yaml": pipeline, "params.yaml": params, "d.dvc": tracked} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		made, err := Convert(dir)
		if err != nil {
			return
		}
		if _, diags := hclsyntax.ParseConfig([]byte(made.HCL), "pipeline.hcl", hcl.InitialPos); diags.HasErrors() {
			t.Errorf("%v\n%s", diags, made.HCL)
		}
	})
}
