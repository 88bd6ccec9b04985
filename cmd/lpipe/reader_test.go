package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lpipe/dataset"
)

// TestIndependentReader has a program that knows only doc/format*.md read a project and its remote: tools/reader.
func TestIndependentReader(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("LPIPE_TEST_REQUIRE") != "" {
			t.Fatal("LPIPE_TEST_REQUIRE is set, and there is no python3")
		}
		t.Skip("no python3")
	}
	reader, err := filepath.Abs(filepath.Join("..", "..", "tools", "reader", "reader.py"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFlips(t)
	write(t, f.at("a/.lpipe/journal"), string(f.read("journal")))
	read := func() ([]byte, error) {
		cmd := exec.Command(python, "-B", reader, f.at("a"), f.at("bucket"))
		return cmd.CombinedOutput()
	}
	out, err := read()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var counts map[string]any
	if err := json.Unmarshal(out, &counts); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, least := range map[string]float64{
		"objects": 9, "trees": 2, "results": 6, "stat": 9, "stages": 7, "sources": 2, "pins": 1, "journal": 3, "experiments": 2, "state": 5,
	} {
		if got, _ := counts[name].(float64); got < least {
			t.Errorf("%s: %v were read, at least %v are there: %s", name, got, least, out)
		}
	}
	// It would notice.
	back := f.flip("a/pipeline.lock", 4*len(f.read("a/pipeline.lock"))+1)
	defer back()
	if out, err := read(); err == nil {
		t.Errorf("a lock with a flipped bit was read: %s", out)
	}
}

// TestIndependentReaderOfTokens has it read a token folder that was packed to two lengths.
func TestIndependentReaderOfTokens(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	dir := t.TempDir()
	folder := filepath.Join(dir, "tokens")
	w, err := dataset.CreateTokens(folder, dataset.Manifest{VocabSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		s := dataset.Sequence{ID: "é", Row: i / 2}
		for k := range 1 + i*i%23 {
			s.IDs, s.Mask = append(s.IDs, int32(k)), append(s.Mask, k%3 == 1)
		}
		if err := w.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tokens, err := dataset.OpenTokens(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	for length, overlong := range map[int]dataset.Overlong{30: dataset.Drop, 8: dataset.Split} {
		path := filepath.Join(dir, string(overlong))
		counts, err := dataset.CreatePacks(path, tokens, length, overlong)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, "-B", "../../tools/reader/reader.py", "--tokens", folder, path).CombinedOutput()
		var got map[string]int
		if err != nil || json.Unmarshal(out, &got) != nil || got["sequences"] != 40 || got["packs"] != counts.Packs || got["pieces"] != counts.Pieces {
			t.Errorf("%v: %s, want %+v", err, out, counts)
		}
	}
}
