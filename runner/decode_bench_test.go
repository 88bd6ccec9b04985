package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkDecode decodes a thousand shell stages, each of which reads the one before.
func BenchmarkDecode(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(chainOf(1000)), 0o644); err != nil {
		b.Fatal(err)
	}
	opts := DecodeOptions{Dir: dir, Kinds: fakeKinds()}
	b.ReportAllocs()
	for b.Loop() {
		p, diags := Decode(opts)
		if diags.HasErrors() || len(p.Steps) != 1000 {
			b.Fatal(diags)
		}
	}
}

func chainOf(n int) string {
	var text strings.Builder
	text.WriteString("variable \"size\" { default = 3 }\n")
	for i := range n {
		from := `"data/raw.txt"`
		if i > 0 {
			from = fmt.Sprintf("stage.s%d.data", i-1)
		}
		fmt.Fprintf(&text, "stage \"shell\" \"s%d\" {\n  in      = { raw = %s }\n  out     = { data = \"build/s%d.txt\" }\n"+
			"  command = \"head -n ${var.size} ${%s} > ${self.out.data}\"\n}\n", i, from, i, from)
	}
	return text.String()
}
