package tokenizer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copySmall copies testdata/small, changed: a nil content removes the file.
func copySmall(t *testing.T, change map[string]func(old string) string) string {
	t.Helper()
	dir := t.TempDir()
	names := []string{"tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json", "chat_template.jinja"}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join("testdata/small", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if f, ok := change[name]; ok {
			if f == nil {
				continue
			}
			text = f(text)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

type changes = map[string]func(string) string

func replaced(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("test replaces what is not there: " + old)
		}
		return strings.Replace(s, old, with, 1)
	}
}

func whole(with string) func(string) string { return func(string) string { return with } }

func TestLoadRefusesWithFileAndRemedy(t *testing.T) {
	const isolated = `"behavior": "Isolated"`
	for name, c := range map[string]struct {
		change changes
		want   []string
	}{
		"nothing there":        {changes{"tokenizer.json": nil, "vocab.json": nil, "merges.txt": nil}, []string{"neither tokenizer.json nor vocab.json", "give a Hugging Face model folder"}},
		"no merges":            {changes{"tokenizer.json": nil, "merges.txt": nil}, []string{"vocab.json but no merges.txt"}},
		"no vocabulary":        {changes{"tokenizer.json": nil, "vocab.json": nil}, []string{"merges.txt but no vocab.json"}},
		"empty tokenizer.json": {changes{"tokenizer.json": whole("")}, []string{"tokenizer.json", "ends at byte 0", "copy the file again"}},
		"a web page":           {changes{"tokenizer.json": whole("<html>")}, []string{"tokenizer.json", "byte 0 (line 1)", `'<'`}},
		"a pointer file":       {changes{"tokenizer.json": nil, "vocab.json": whole("version https://git-lfs.github.com/spec/v1\n")}, []string{"vocab.json", "damaged JSON"}},
		"trailing text":        {changes{"tokenizer.json": func(s string) string { return s + "x" }}, []string{"the end of the file"}},
		"no model":             {changes{"tokenizer.json": whole("{}")}, []string{`no "model"`}},
		"Unigram":              {changes{"tokenizer.json": whole(`{"model":{"type":"Unigram","vocab":[["a",-1.5]]}}`)}, []string{"a Unigram model", "lpipe reads byte-level BPE"}},
		"WordPiece":            {changes{"tokenizer.json": whole(`{"model":{"type":"WordPiece","vocab":{"[PAD]":0}}}`)}, []string{"a WordPiece model"}},
		"another pattern":      {changes{"tokenizer.json": replaced(`\\p{N}|`, `\\p{Han}|`)}, []string{"the Split pattern", `\p{Han}, which is no general category`, "lpipe reads byte-level BPE"}},
		"another behaviour":    {changes{"tokenizer.json": replaced(isolated, `"behavior": "Removed"`)}, []string{"behavior Removed"}},
		"Metaspace":            {changes{"tokenizer.json": replaced(`{"type": "ByteLevel", "add`, `{"type": "Metaspace", "add`)}, []string{"the pre-tokenizer Metaspace"}},
		"not byte-level":       {changes{"tokenizer.json": replaced(`{"type": "ByteLevel", "add`, `{"type": "Digits", "add`)}, []string{"not byte-level in its last step"}},
		"NFKC":                 {changes{"tokenizer.json": replaced(`"NFC"`, `"NFKC"`)}, []string{"normalizer NFKC"}},
		"a post-processor":     {changes{"tokenizer.json": replaced(`"post_processor": {"type": "ByteLevel"`, `"post_processor": {"type": "Other"`)}, []string{"post_processor Other"}},
		"a decoder":            {changes{"tokenizer.json": replaced(`"decoder": {"type": "ByteLevel"`, `"decoder": {"type": "Metaspace"`)}, []string{"decoder Metaspace"}},
		"no merges in it":      {changes{"tokenizer.json": func(s string) string { return s[:strings.Index(s, `"merges": [`)] + `"merges": []}}` }}, []string{"tokenizer.json", "are made by no merge"}},
		"a token twice":        {changes{"tokenizer.json": replaced(`"model": {`, `"model": {"vocab": {"a": 1, "b": 2, "a": 3}, "was": {`)}, []string{`token "a" stands twice, as 1 and 3`}},
		"dropout":              {changes{"tokenizer.json": replaced(`"dropout": null`, `"dropout": 0.1`)}, []string{"BPE with dropout"}},
		"byte_fallback":        {changes{"tokenizer.json": replaced(`"byte_fallback": false`, `"byte_fallback": true`)}, []string{"BPE with byte_fallback"}},
		"end of word":          {changes{"tokenizer.json": replaced(`"end_of_word_suffix": ""`, `"end_of_word_suffix": "</w>"`)}, []string{"end_of_word_suffix"}},
		"two with one id":      {changes{"tokenizer.json": replaced(`"id": 696`, `"id": 695`)}, []string{"same id 695"}},
		"id of the vocabulary": {changes{"tokenizer.json": replaced(`"id": 696`, `"id": 17`)}, []string{`"<|im_start|>" has id 17`}},
		"id beyond all":        {changes{"tokenizer.json": nil, "vocab.json": replaced(`"!":0`, `"!":16777216`)}, []string{"vocab.json", "id above"}},
		"id far above":         {changes{"tokenizer.json": nil, "vocab.json": replaced(`"!":0`, `"!":9999999`)}, []string{"vocab.json", "far above the number"}},
		"negative id":          {changes{"tokenizer.json": nil, "vocab.json": replaced(`"!":0`, `"!":-1`)}, []string{"a whole number"}},
		"one id twice":         {changes{"tokenizer.json": nil, "vocab.json": replaced(`"!":0`, `"!":1`)}, []string{"id 1 stands for both"}},
		"a byte is missing":    {changes{"tokenizer.json": nil, "vocab.json": replaced(`"!":0,`, ``)}, []string{"no token for byte 0x21"}},
		"merges of another":    {changes{"tokenizer.json": nil, "merges.txt": replaced("h e\n", "h e\nq qq\n")}, []string{"merges.txt", "line 40:", `no token "qq"`}},
		"the last merge":       {changes{"tokenizer.json": nil, "merges.txt": func(s string) string { return s + "h qq\n" }}, []string{"merges.txt", "line 441:", `no token "qq"`}},
		"a line without space": {changes{"tokenizer.json": nil, "merges.txt": replaced("h e\n", "he\n")}, []string{"merges.txt", "has no space"}},
		"merges cut short":     {changes{"tokenizer.json": nil, "merges.txt": func(s string) string { return s[:strings.Index(s[1000:], "\n")+1001] }}, []string{"merges.txt", "cut short"}},
		"added tokens damaged": {changes{"tokenizer.json": nil, "tokenizer_config.json": nil, "added_tokens.json": whole(`{"<|x|>": "y"}`)}, []string{"added_tokens.json"}},
		"one token, two ids":   {changes{"tokenizer.json": nil, "added_tokens.json": replaced("696", "796")}, []string{"added_tokens.json", `"<|im_start|>" has the ids 696 and 796`}},
		"config damaged":       {changes{"tokenizer_config.json": whole("{")}, []string{"tokenizer_config.json"}},
		"another class":        {changes{"tokenizer.json": nil, "tokenizer_config.json": replaced("Qwen2Tokenizer", "LlamaTokenizer")}, []string{"LlamaTokenizer", "only in tokenizer.json"}},
		"adds BOS":             {changes{"tokenizer.json": nil, "tokenizer_config.json": replaced(`"add_bos_token": false`, `"add_bos_token": true`)}, []string{"add_bos_token"}},
		"unknown EOS":          {changes{"tokenizer_config.json": replaced(`"eos_token": "<|im_end|>"`, `"eos_token": "</s>"`)}, []string{`eos_token is "</s>"`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copySmall(t, c.change)
			tok, err := Load(dir)
			if err == nil {
				t.Fatalf("loaded, with %d tokens", tok.VocabSize())
			}
			for _, want := range append(c.want, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nmust say %q", err, want)
				}
			}
		})
	}
}

func TestLoadOfNoFolder(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "give a Hugging Face model folder") {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokenizer.json"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Error(err)
	}
}

func TestCutFilesNeverLoad(t *testing.T) {
	for _, name := range []string{"tokenizer.json", "vocab.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join("testdata/small", name))
		if err != nil {
			t.Fatal(err)
		}
		change := changes{"tokenizer.json": nil}
		if name == "tokenizer.json" {
			change = changes{}
		}
		end := len(strings.TrimRight(string(data), "\n"))
		for n := 0; n < end; n += 1 + end/40 {
			change[name] = func(s string) string { return s[:n] }
			if _, err := Load(copySmall(t, change)); err == nil || !strings.Contains(err.Error(), name) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
		}
	}
}

func TestEveryFormGivesTheSameTokenizer(t *testing.T) {
	want := small(t)
	for name, change := range map[string]changes{
		"two files":             {"tokenizer.json": nil},
		"two files, no config":  {"tokenizer.json": nil, "tokenizer_config.json": nil},
		"Windows line ends":     {"tokenizer.json": nil, "merges.txt": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }},
		"no version line":       {"tokenizer.json": nil, "merges.txt": replaced("#version: 0.2\n", "")},
		"tokenizer.json alone":  {"vocab.json": nil, "merges.txt": nil, "added_tokens.json": nil, "tokenizer_config.json": nil, "chat_template.jinja": nil},
		"template in config":    {"chat_template.jinja": nil},
		"template, CRLF":        {"chat_template.jinja": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") + "\r\n" }},
		"escaped vocabulary":    {"tokenizer.json": replaced("\"\u0120a\": ", `"\u0120a": `)},
		"merges as pairs":       {"tokenizer.json": pairedMerges},
		"merges before vocab":   {"tokenizer.json": mergesFirst},
		"tokens as objects":     {"tokenizer_config.json": replaced(`"eos_token": "<|im_end|>"`, `"eos_token": {"content": "<|im_end|>"}`)},
		"several templates":     {"chat_template.jinja": nil, "tokenizer_config.json": namedTemplates},
		"template for no reply": {"chat_template.jinja": nil, "tokenizer_config.json": replaced(`"chat_template": `, `"chat_template": null, "was": `)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(copySmall(t, change))
			if err != nil {
				t.Fatal(err)
			}
			if got.Fingerprint() != want.Fingerprint() || got.EOS() != want.EOS() || got.Pad() != want.Pad() {
				t.Error("another tokenizer")
			}
			if got.TemplateError() != nil || got.TemplateFingerprint() != want.TemplateFingerprint() {
				t.Errorf("another template: %v", got.TemplateError())
			}
		})
	}
}

func pairedMerges(s string) string {
	at := strings.Index(s, `"merges"`)
	lines := strings.Split(s[at:], "\n")
	for i, line := range lines[1:] {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && strings.HasPrefix(left, `"`) {
			comma := ""
			if rest, ok := strings.CutSuffix(right, ","); ok {
				right, comma = rest, ","
			}
			lines[i+1] = "[" + left + `", "` + right + "]" + comma
		}
	}
	return s[:at] + strings.Join(lines, "\n")
}

func mergesFirst(s string) string {
	vocab, merges := strings.Index(s, `"vocab"`), strings.Index(s, `"merges"`)
	end := strings.LastIndex(s, "]") + 1
	return s[:vocab] + s[merges:end] + ", " + strings.TrimRight(s[vocab:merges], ", \n") + s[end:]
}

func namedTemplates(s string) string {
	at := strings.Index(s, `"chat_template": `) + len(`"chat_template": `)
	end := at + strings.Index(s[at:], ",\n  \"clean")
	return s[:at] + `[{"name":"tool_use","template":"x"},{"name":"default","template":` + s[at:end] + `}]` + s[end:]
}

func TestDefaultSystemTextIsTheTemplates(t *testing.T) {
	for _, text := range []string{"You are a helpful assistant.", "", `Within \\boxed{}, it\'s`} {
		tok, err := small(t).WithTemplate("t.jinja", strings.ReplaceAll(qwenJinja, qwenSystem, text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tok.Render(Chat{Messages: []Message{{Role: "user", Content: "x"}}})
		plain := strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(text)
		if want := imStart + "system\n" + plain + imEnd + "\n" + imStart + "user\nx" + imEnd + "\n"; err != nil || got.Text != want {
			t.Errorf("got %q, %v, want %q", got.Text, err, want)
		}
		if tok.TemplateFingerprint() == small(t).TemplateFingerprint() {
			t.Error("the fingerprint leaves out the default system text")
		}
	}
}

func TestWhatAFolderLeavesOpenIsQwens(t *testing.T) {
	want := qwen(t)
	dir := t.TempDir()
	for _, name := range []string{"vocab.json", "merges.txt"} {
		if err := os.Symlink(shared(t, "data/qwen2.5/"+name), filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	saved := t.TempDir()
	if err := want.Save(saved); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"vocabulary and merges alone": dir, "saved anew": saved} {
		got, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got.Fingerprint() != want.Fingerprint() || got.TemplateFingerprint() != want.TemplateFingerprint() {
			t.Errorf("%s: another tokenizer", name)
		}
		if got.VocabSize() != 151665 || got.EOS() != 151645 || got.Pad() != 151643 {
			t.Errorf("%s: %d tokens, EOS %d, pad %d", name, got.VocabSize(), got.EOS(), got.Pad())
		}
	}
}
