//go:build !cuda

package graph

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
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
	wide := filepath.Join(t.TempDir(), "wide") // of more than a thousand values between gate and down a part is taken
	m, err := model.New(model.Config{Layers: 1, C: 16, H: 2, KV: 1, D: 8, F: 1100, V: 40, Eps: 1e-6, Theta: 1e4, MaxPositions: 64},
		model.Init{Seed: 1, Deviation: 0.1}, dev, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	if err := m.Save(context.Background(), wide, model.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	rows, err := CheckFolder(context.Background(), dev, wide, 1, nil)
	if err != nil || !rows[0].OK || !rows[1].OK || !strings.Contains(rows[0].Model, "1024 of 1100 between") {
		t.Errorf("%+v, %v", rows, err)
	}
	if _, err := CheckFolder(context.Background(), dev, t.TempDir(), 1, nil); err == nil || !strings.Contains(err.Error(), "not a model folder") {
		t.Errorf("an empty folder: %v", err)
	}
}
