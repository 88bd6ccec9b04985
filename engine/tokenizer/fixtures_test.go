package tokenizer

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// The fixtures are what Hugging Face tokenizers and transformers gave; they quote
// data of others, so they lie beside the repository and not in it.

// shared returns a file or folder of the shared fixtures, or skips.
func shared(t testing.TB, path string) string {
	t.Helper()
	root := os.Getenv("LPIPE_SHARED")
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
		}
		root = filepath.Join(dir, "..", "shared")
	}
	path = filepath.Join(root, path)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no shared fixtures: %v (set LPIPE_SHARED to their folder)", err)
	}
	return path
}

var loadQwen = sync.OnceValues(func() (*Tokenizer, error) { return Load(qwenDir) })

var qwenDir string

// qwen returns the real Qwen2.5 tokenizer, or skips.
func qwen(t testing.TB) *Tokenizer {
	t.Helper()
	qwenDir = shared(t, "data/qwen2.5")
	tok, err := loadQwen()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// rows calls f for each JSON line of a shared file.
func rows[T any](t *testing.T, path string, f func(row T)) {
	t.Helper()
	file, err := os.Open(shared(t, path))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, n := bufio.NewScanner(file), 0
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var row T
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		f(row)
		n++
	}
	if err := lines.Err(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", path, n, err)
	}
}

type encodeRow struct {
	Kind, Text   string
	IDs          []int32
	SplitSpecial *[]int32 `json:"ids_split_special"`
	PlainIDs     *[]int32 `json:"ids_plain"`
	Newer        *[]int32 `json:"ids_1.0"`
}

// want returns the ids of a mode.
func (r encodeRow) want(mode Mode) []int32 {
	ids := r.IDs
	if r.Newer != nil {
		ids = *r.Newer
	}
	if mode == Plain && r.PlainIDs != nil {
		ids = *r.PlainIDs
	}
	if mode == KeepAdded && r.SplitSpecial != nil {
		ids = *r.SplitSpecial
	}
	return ids
}

func TestEncodeEqualsHuggingFace(t *testing.T) {
	tok := qwen(t)
	for _, name := range []string{"encode", "special", "nfc"} {
		t.Run(name, func(t *testing.T) {
			e := tok.NewEncoder()
			rows(t, "fixtures/tokenizer/"+name+".jsonl", func(r encodeRow) {
				for _, mode := range []Mode{Plain, KeepAdded, Parse} {
					for range 2 { // the second time from the cache
						got := e.EncodeMode(nil, r.Text, mode)
						if !slices.Equal(got, r.want(mode)) {
							t.Errorf("%s, mode %d: %q\n got %v\nwant %v", r.Kind, mode, r.Text, got, r.want(mode))
						}
					}
				}
			})
			if e.Replaced() != 0 {
				t.Errorf("%d parts replaced in valid texts", e.Replaced())
			}
		})
	}
}

func TestDecodeEqualsHuggingFace(t *testing.T) {
	tok := qwen(t)
	rows(t, "fixtures/tokenizer/decode.jsonl", func(r struct {
		Kind, Text, Hex string
		IDs             []int32
		Skip            string `json:"text_skip_special"`
	}) {
		if got := string(tok.Decode(nil, r.IDs, false)); got != r.Text {
			t.Errorf("%s %v: got %q, want %q", r.Kind, r.IDs, got, r.Text)
		}
		if got := string(tok.Decode(nil, r.IDs, true)); got != r.Skip {
			t.Errorf("%s %v without special: got %q, want %q", r.Kind, r.IDs, got, r.Skip)
		}
		if got := hex.EncodeToString(tok.DecodeBytes(nil, r.IDs, false)); got != r.Hex {
			t.Errorf("%s %v: got bytes %s, want %s", r.Kind, r.IDs, got, r.Hex)
		}
	})
}

type chatRow struct {
	Chat
	Kind, Text string
	IDs        []int32
	Safe       *[]int32 `json:"ids_safe"`
	Mask       string   `json:"assistant_mask"`
	MaskTRL    string   `json:"assistant_mask_trl"`
}

func maskText(mask []bool) string {
	b := make([]byte, len(mask))
	for i, m := range mask {
		b[i] = '0'
		if m {
			b[i] = '1'
		}
	}
	return string(b)
}

func TestRenderEqualsTransformers(t *testing.T) {
	tok := qwen(t)
	rows(t, "fixtures/chat/chat.jsonl", func(r chatRow) {
		render := func(change func(*Chat)) Rendered {
			chat := r.Chat
			change(&chat)
			got, err := tok.Render(chat)
			if err != nil {
				t.Fatalf("%s: %v", r.Kind, err)
			}
			if got.Text != r.Text {
				t.Errorf("%s:\n got %q\nwant %q", r.Kind, got.Text, r.Text)
			}
			return got
		}
		same := func(what string, got, want []int32) {
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %q\n got %v\nwant %v", r.Kind, what, r.Text, got, want)
			}
		}
		masked := func(what string, got []bool, want string) {
			if maskText(got) != want {
				t.Errorf("%s, %s: %q\n got %s\nwant %s", r.Kind, what, r.Text, maskText(got), want)
			}
		}
		parsed := render(func(c *Chat) { c.ParseSpecial = true })
		same("parsed", parsed.IDs, r.IDs)
		masked("parsed", parsed.Mask, r.Mask)
		masked("trl", render(func(c *Chat) { c.ParseSpecial, c.WholeTurn = true, true }).Mask, r.MaskTRL)
		safe, want := render(func(*Chat) {}), r.IDs
		if r.Safe != nil {
			want = *r.Safe
		} else {
			masked("safe", safe.Mask, r.Mask)
		}
		same("safe", safe.IDs, want)
	})
}

// The engine that the classes were asked of knows Unicode 16; tokenizers 1.0, which
// we follow, knows Unicode 17. They may differ only in what was unassigned.
func TestClassesAreThoseOfTheSplitEngine(t *testing.T) {
	data, err := os.ReadFile(shared(t, "fixtures/tokenizer/classes.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Letter, Number, Space [][2]int32 }
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	classes := make([]uint8, 0x110000)
	for class, ranges := range map[uint8][][2]int32{classLetter: want.Letter, classNumber: want.Number, classSpace: want.Space} {
		for _, r := range ranges {
			for c := r[0]; c <= r[1]; c++ {
				classes[c] = class
			}
		}
	}
	newer := map[uint8]int{}
	for c, class := range classes {
		got := property(int32(c)) & classMask
		if got != class && class == classOther && UnicodeVersion == "17.0.0" {
			newer[got]++
		} else if got != class {
			t.Errorf("U+%04X: class %d, want %d", c, got, class)
		}
	}
	if newer[classLetter] != 4644 || newer[classNumber] != 13 || newer[classSpace] != 0 {
		t.Errorf("new letters, numbers and spaces since Unicode 16: %v", newer)
	}
}
