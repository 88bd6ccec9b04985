package spool

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lpipe/cache"
)

// FuzzSpool: whatever a spool's folder holds, it is read without a panic; and if it can be gone on with, what is added stands
// behind what was good before.
func FuzzSpool(f *testing.F) {
	golden, err := os.ReadFile("testdata/spool-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden, []byte(`{"schema": 1, "at": 20, "runs": {"": {"id": "1"}}}`), false)
	f.Add(golden[:len(golden)-7], []byte(`{"schema": 1, "at": -5, "runs": {"": null}}`), false)
	f.Add([]byte(fileHead), []byte{}, false)
	f.Add([]byte{}, []byte("{}"), false)
	var texts []byte
	for line := range bytes.Lines(golden[len(fileHead):]) {
		texts = append(texts, line[9:]...)
	}
	f.Add(texts, []byte("{}"), true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data, sent []byte, sums bool) {
		if sums { // records that say what they were meant to say
			data = summed(data)
		}
		for name, text := range map[string][]byte{dataFile: data, sentFile: sent} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		Read(dir)
		if _, err := Unsent(filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
		before := good(t, dir)
		w, err := Reopen(t.Context(), dir, clock(1))
		if err != nil {
			return
		}
		w.Append(Record{Run: "fuzz", End: "KILLED"})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		after := good(t, dir)
		if len(after) != len(before)+1 || after[len(before)].Run != "fuzz" {
			t.Fatalf("%d good records, %d after one more", len(before), len(after))
		}
	})
}

// summed is a spool of texts, a line each.
func summed(texts []byte) []byte {
	all := []byte(fileHead)
	for line := range bytes.Lines(texts) {
		all = fmt.Appendf(all, "%08x %s", crc32.Checksum(bytes.TrimSuffix(line, []byte("\n")), castagnoli()), line)
	}
	return all
}

// good are the records that are not damaged.
func good(t *testing.T, dir string) (all []Record) {
	t.Helper()
	data, err := os.Open(filepath.Join(dir, dataFile))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	r := newReader(data, 0)
	for {
		record, err := r.next()
		switch {
		case err == nil:
			all = append(all, record)
		case !errors.Is(err, cache.ErrDamaged) || r.at == 0:
			return slices.Clip(all)
		}
	}
}
