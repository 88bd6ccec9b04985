package cache

import (
	"os"
	"path/filepath"
	"testing"
)

// What mayClone says no to refuses a reflink, too, and the file that is asked about stays as it is.
func TestMayClone(t *testing.T) {
	dir := t.TempDir()
	var files [2]*os.File
	for i, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	if !mayClone(files[0]) && clone(files[1], files[0]) == nil {
		t.Error("reflinks work here, and mayClone denies it")
	}
	if data, err := os.ReadFile(files[0].Name()); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
}
