package tokenizer

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wideVocabulary is a tokenizer whose tokens reach across whatever patterns cut.
func wideVocabulary(t *testing.T) *Tokenizer {
	corpus, err := os.ReadFile("testdata/wide.txt")
	if err != nil {
		t.Fatal(err)
	}
	twice := string(corpus) + string(corpus)
	tok, err := Train(t.Context(), TrainOptions{VocabSize: 1203, Texts: once(twice), Pattern: `\s*\S+|\s+`})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// testdata/variants holds one vocabulary, what makes it another kind of tokenizer, and the
// ids that Hugging Face tokenizers 0.23.3 then gives (tools/parity/tokenizer_variants.py).
func TestVariantsEqualHuggingFace(t *testing.T) {
	if *update {
		dir := t.TempDir()
		if err := wideVocabulary(t).Save(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "tokenizer.json"), "testdata/variants/tokenizer.json"); err != nil {
			t.Fatal(err)
		}
	}
	toks := variantTokenizers(t)
	encoders := map[string]*Encoder{}
	for name, tok := range toks {
		encoders[name] = tok.NewEncoder()
	}
	lines(t, "testdata/variants/ids.jsonl", func(row struct {
		Text string
		IDs  map[string][]int32
	}) {
		for name, want := range row.IDs {
			for range 2 { // the second time from the cache
				if got := encoders[name].EncodeMode(nil, row.Text, Parse); !slices.Equal(got, want) {
					t.Errorf("%s: %q\n got %v\nwant %v", name, row.Text, got, want)
				}
			}
		}
	})
	for name, tok := range toks {
		dir := t.TempDir()
		if err := tok.Save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil {
			t.Fatalf("%s, saved: %v", name, err)
		}
		if again.Fingerprint() != tok.Fingerprint() {
			t.Errorf("%s is another one once saved", name)
		}
	}
}

// variantTokenizers loads every variant, by name.
func variantTokenizers(t *testing.T) map[string]*Tokenizer {
	data, err := os.ReadFile("testdata/variants/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Tokenizer{}
	lines(t, "testdata/variants/variants.jsonl", func(row struct {
		Name           string
		Members, Model map[string]json.RawMessage
	}) {
		var file, model map[string]json.RawMessage
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(file["model"], &model); err != nil {
			t.Fatal(err)
		}
		for k, v := range row.Model {
			model[k] = v
		}
		for k, v := range row.Members {
			file[k] = v
		}
		file["model"] = encoded(t, model)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), encoded(t, file), 0o644); err != nil {
			t.Fatal(err)
		}
		tok, err := Load(dir)
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		out[row.Name] = tok
	})
	return out
}

func encoded(t *testing.T, v any) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lines calls f for each JSON line of a file.
func lines[T any](t testing.TB, path string, f func(row T)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var row T
		if err := json.Unmarshal(in.Bytes(), &row); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		f(row)
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestCutPartsGiveTheIdsOfTheWhole(t *testing.T) {
	corpus, err := os.ReadFile("testdata/wide.txt")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat(string(corpus)+"\n\nand\r\n\n1234", 3)
	for name, tok := range variantTokenizers(t) {
		want, parts := tok.Encode(nil, text, true), 0
		var got []int32
		for rest := text; rest != ""; parts++ {
			cut := tok.Cut(rest, 500)
			got = tok.Encode(got, rest[:cut], true)
			rest = rest[cut:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d parts give other ids", name, parts)
		}
		if name == "qwen2" && parts < 4 {
			t.Errorf("%d parts", parts)
		}
	}
}
