package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Save writes the files that Hugging Face's libraries read: tokenizer.json,
// vocab.json, merges.txt, added_tokens.json, tokenizer_config.json and
// chat_template.jinja. Each appears whole or not at all. The folder is made where
// it is missing; other files in it stay.
func (t *Tokenizer) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("save tokenizer: %w", err)
	}
	files := []struct {
		name string
		data []byte
	}{
		{"vocab.json", t.vocabJSON("")},
		{"merges.txt", t.mergesText()},
		{"added_tokens.json", t.addedJSON()},
		{"chat_template.jinja", []byte(t.template.text)},
		{"tokenizer_config.json", t.configJSON()},
		{"tokenizer.json", t.tokenizerJSON()},
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), f.data); err != nil {
			return fmt.Errorf("save tokenizer: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("save tokenizer: %w", err)
	}
	return nil
}

// writeFile replaces a file by rename.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// quote writes a JSON string without escaping what HTML would.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("tokenizer: a string that JSON cannot hold")
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}))
}

// regularTokens calls f for each entry of the vocabulary proper.
func (t *Tokenizer) regularTokens(f func(id int32, spelled string)) {
	for id := range t.v.spans {
		if t.v.kinds[id] == regular || t.v.both[int32(id)] {
			f(int32(id), spell(t.v.bytes(int32(id))))
		}
	}
}

// vocabJSON writes the vocabulary by id, one entry a line behind indent, or all in
// one line where indent is empty, as Hugging Face writes vocab.json.
func (t *Tokenizer) vocabJSON(indent string) []byte {
	var b bytes.Buffer
	first, separator, colon := "", ",", ":"
	if indent != "" {
		first, separator, colon = "\n"+indent, ",\n"+indent, ": "
	}
	b.WriteString("{" + first)
	n := 0
	t.regularTokens(func(id int32, spelled string) {
		if n++; n > 1 {
			b.WriteString(separator)
		}
		b.WriteString(quote(spelled) + colon + strconv.Itoa(int(id)))
	})
	if indent != "" {
		b.WriteString("\n" + indent[2:])
	}
	b.WriteString("}")
	return b.Bytes()
}

func (t *Tokenizer) mergesText() []byte {
	var b bytes.Buffer
	b.WriteString("#version: 0.2\n")
	for _, p := range t.v.pairs {
		b.WriteString(spell(t.v.bytes(p.left)) + " " + spell(t.v.bytes(p.right)) + "\n")
	}
	return b.Bytes()
}

func (t *Tokenizer) addedJSON() []byte {
	var b bytes.Buffer
	b.WriteString("{")
	for i, a := range t.v.added.list {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n  %s: %d", quote(a.Content), a.ID)
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}

func (t *Tokenizer) configJSON() []byte {
	var b bytes.Buffer
	b.WriteString("{\n  \"add_bos_token\": false,\n  \"add_prefix_space\": false,\n  \"added_tokens_decoder\": {")
	for i, a := range t.v.added.list {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n    \"%d\": {\"content\": %s, \"lstrip\": %t, \"normalized\": %t, \"rstrip\": %t, \"single_word\": %t, \"special\": %t}",
			a.ID, quote(a.Content), a.LStrip, a.Normalized, a.RStrip, a.SingleWord, a.Special)
	}
	b.WriteString("\n  },\n  \"bos_token\": null,\n  \"chat_template\": " + quote(t.template.text))
	b.WriteString(",\n  \"clean_up_tokenization_spaces\": false,\n  \"eos_token\": " + t.nameJSON(t.eos))
	b.WriteString(",\n  \"errors\": \"replace\",\n  \"model_max_length\": 131072,\n  \"pad_token\": " + t.nameJSON(t.pad))
	b.WriteString(",\n  \"split_special_tokens\": false,\n  \"tokenizer_class\": \"Qwen2Tokenizer\",\n  \"unk_token\": null\n}\n")
	return b.Bytes()
}

func (t *Tokenizer) nameJSON(id int32) string {
	if id < 0 {
		return "null"
	}
	return quote(string(t.v.bytes(id)))
}

func (t *Tokenizer) tokenizerJSON() []byte {
	var b bytes.Buffer
	b.WriteString("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [")
	for i, a := range t.v.added.list {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n    {\"id\": %d, \"content\": %s, \"single_word\": %t, \"lstrip\": %t, \"rstrip\": %t, \"normalized\": %t, \"special\": %t}",
			a.ID, quote(a.Content), a.SingleWord, a.LStrip, a.RStrip, a.Normalized, a.Special)
	}
	const byteLevel = `{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}`
	normalizer := "null"
	if t.v.nfc {
		normalizer = `{"type": "NFC"}`
	}
	b.WriteString("\n  ],\n  \"normalizer\": " + normalizer + ",\n  \"pre_tokenizer\": " + string(t.v.pre.source) + ",\n" +
		"  \"post_processor\": " + byteLevel + ",\n  \"decoder\": " + byteLevel + ",\n" +
		"  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    \"continuing_subword_prefix\": \"\",\n" +
		"    \"end_of_word_suffix\": \"\",\n    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": " + strconv.FormatBool(t.v.whole != nil) + ",\n    \"vocab\": ")
	b.Write(t.vocabJSON("      "))
	b.WriteString(",\n    \"merges\": [")
	for i, p := range t.v.pairs {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n      " + quote(spell(t.v.bytes(p.left))+" "+spell(t.v.bytes(p.right))))
	}
	b.WriteString("\n    ]\n  }\n}\n")
	return b.Bytes()
}
