//go:build !cuda

package graph

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
)

// TestCheckFolder: the witnesses agree on the weights of folders of every family; of three layers two are taken.
func TestCheckFolder(t *testing.T) {
	dev := cpu.New(cpu.Options{Threads: 2})
	defer dev.Close()
	for name, want := range map[string]string{"tied": "2 of 3 layers, 256 of 256 rows", "qwen3": "2 of 2 layers", "llama": "160 of 160 rows"} {
		rows, err := CheckFolder(context.Background(), dev, filepath.Join("..", "testdata", "models", name), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			t.Logf("%s: loss %.1e  gradient %.1e  difference %.1e  %s", row.Model, row.Loss, row.Gradient, row.Difference, row.Worst)
			if !row.OK || !strings.Contains(row.Model, want) {
				t.Errorf("%+v, want %q", row, want)
			}
		}
		if len(rows) != 2 {
			t.Errorf("%d rows", len(rows))
		}
	}
	if _, err := CheckFolder(context.Background(), dev, t.TempDir(), 1, nil); err == nil || !strings.Contains(err.Error(), "not a model folder") {
		t.Errorf("an empty folder: %v", err)
	}
}
