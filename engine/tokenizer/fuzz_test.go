package tokenizer

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad: whatever tokenizer.json and its companions hold, loading ends, and what loads can encode and decode.
func FuzzLoad(f *testing.F) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "small", name))
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	f.Add(read("tokenizer.json"), read("tokenizer_config.json"))
	f.Add([]byte(`{"version":"1.0","added_tokens":[{"id":2,"content":"<x>","special":true}],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},`+
		`"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":3},"merges":["a b"]}}`), []byte(`{"chat_template":"{{ messages }}"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, main, config []byte) {
		for name, data := range map[string][]byte{"tokenizer.json": main, "tokenizer_config.json": config} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		tok, err := Load(dir)
		if err != nil {
			return
		}
		tok.Encode(nil, "a text, ab <x> é\n", true)
	})
}
