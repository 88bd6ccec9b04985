package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example at the top of the repository runs as it stands.
func TestExample(t *testing.T) {
	if testing.Short() {
		t.Skip("trains two adapters")
	}
	top, dir := filepath.Join("..", ".."), t.TempDir()
	for _, name := range []string{"example", filepath.Join("cmd", "lpipe", "demo", "model")} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(top, name))); err != nil {
			t.Fatal(err)
		}
	}
	src, err := os.ReadFile(filepath.Join(top, "pipeline.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, "pipeline.hcl"), string(src))
	mustRun(t, "-C", dir, "fmt", "--check")
	mustRun(t, "-C", dir, "repro")
	table, err := os.ReadFile(filepath.Join(dir, "build", "table.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rank=4", "rank=16"} {
		if !strings.Contains(string(table), want) {
			t.Errorf("the table lacks %s:\n%s", want, table)
		}
	}
	if again := ran(t, dir); len(again) > 0 {
		t.Errorf("a second repro ran %v", again)
	}
	if graph := mustRun(t, "-C", dir, "graph"); !strings.Contains(graph, "tuned@rank=16") {
		t.Errorf("graph printed\n%s", graph)
	}
}
