package demo

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Seed and Count say which rows the demo project has.
const (
	Seed  = 1
	Count = 4000
)

//go:embed files
var files embed.FS

//go:embed model
var model embed.FS

// Write makes the demo project in dir, which must be empty or not exist yet.
func Write(dir string) error {
	rows, _ := Rows(Seed, Count)
	return WriteWith(dir, rows)
}

// WriteWith makes the demo project with the rows given.
func WriteWith(dir string, rows []Row) error {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o777); err != nil {
		return err
	}
	if err := copyTree(files, "files", dir); err != nil {
		return err
	}
	if err := copyTree(model, "model", filepath.Join(dir, "model")); err != nil {
		return err
	}
	var data bytes.Buffer
	if err := WriteRows(&data, rows); err != nil {
		return fmt.Errorf("make the demo's rows: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "data", "rows.jsonl"), data.Bytes(), 0o666)
}

func copyTree(from embed.FS, root, dir string) error {
	return fs.WalkDir(from, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.FromSlash(name))
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o777)
		}
		data, err := from.ReadFile(path.Clean(name))
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o666)
	})
}
