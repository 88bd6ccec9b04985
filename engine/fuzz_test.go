package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzCheckpoint: a file that is no whole checkpoint is an error, whatever it announces.
func FuzzCheckpoint(f *testing.F) {
	dir := f.TempDir()
	c := &checkpoint{Settings: map[string]string{"seed": "1"}, Step: 1, State: []byte(`{}`), Tensors: []namedTensor{{"w", 2, []float32{1, 2}}}}
	if err := c.save(dir, 2); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, checkpointName(1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		decodeCheckpoint(bytes.NewReader(data), int64(len(data)))
	})
}
