package tokenizer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

// once yields one text.
func once(text string) func(func(string, error) bool) {
	return func(yield func(string, error) bool) { yield(text, nil) }
}

// The golden files were read with Hugging Face tokenizers 0.23.3, whose BpeTrainer
// also gave this vocabulary and these merges.
func TestTrainGivesTheGoldenFiles(t *testing.T) {
	corpus, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Train(t.Context(), TrainOptions{VocabSize: 700, Texts: once(string(corpus)), Added: []string{"<tool_call>", "</tool_call>"}})
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != 700 {
		t.Errorf("%d tokens, want 700", tok.VocabSize())
	}
	dir := t.TempDir()
	if *update {
		dir = "testdata/small"
	}
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json", "chat_template.jinja"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata/small", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is another one than in testdata/small (%v)", name, err)
		}
	}
	if got, want := small(t).Fingerprint(), tok.Fingerprint(); got != want {
		t.Errorf("fingerprint %s after Load, %s after Train", got, want)
	}
}

func TestTrainRefuses(t *testing.T) {
	broken := errors.New("broken file")
	for name, c := range map[string]struct {
		opts TrainOptions
		want string
	}{
		"a size without room for the bytes": {TrainOptions{VocabSize: 258, Texts: once("")}, "vocabulary size 258; it must be 259"},
		"a corpus that breaks off": {TrainOptions{VocabSize: 300, Texts: func(yield func(string, error) bool) {
			_ = yield("some text", nil) && yield("", broken)
		}}, "broken file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Train(t.Context(), c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Train(cancelled, TrainOptions{VocabSize: 300, Texts: once("text")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTrainOnTooLittleTextGivesFewerTokens(t *testing.T) {
	tok, err := Train(t.Context(), TrainOptions{VocabSize: 5000, Texts: once("aaaa aaaa bb"), System: "It's a\ntest."})
	if err != nil {
		t.Fatal(err)
	}
	if n := tok.VocabSize(); n <= 259 || n > 270 {
		t.Errorf("%d tokens", n)
	}
	if err := tok.Save(filepath.Join(t.TempDir(), "new", "folder")); err != nil {
		t.Error(err)
	}
	got, err := tok.Render(Chat{Messages: []Message{{Role: "user", Content: "aaaa"}}})
	if want := "<|im_start|>system\nIt's a\ntest.<|im_end|>\n<|im_start|>user\naaaa<|im_end|>\n"; err != nil || got.Text != want {
		t.Errorf("got %q, %v", got.Text, err)
	}
}

// TestSmallVocabularyKeepsItsIDs is the golden test of a clone without the shared fixtures.
func TestSmallVocabularyKeepsItsIDs(t *testing.T) {
	type row struct {
		Text string  `json:"text"`
		IDs  []int32 `json:"ids"`
	}
	tok := small(t)
	texts := []string{"Anna has 12 apples.", "It's\n\n  far,  isn't it?\r\n", "größer naïf e\u0301 Ω", "苹果가 яблоко 😀", "<|im_start|>user\nx<|im_end|>\n<tool_call>", "\x00\u00a0\u3000 \t"}
	var got []byte
	for _, text := range texts {
		line, err := json.Marshal(row{text, tok.Encode(nil, text, true)})
		if err != nil {
			t.Fatal(err)
		}
		got = append(append(got, line...), '\n')
	}
	const path = "testdata/small.jsonl"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(got) != string(want) {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}
