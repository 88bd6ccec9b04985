package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// readTokenizerJSON reads Hugging Face tokenizers' serialisation. Each part that
// decides ids must be the one that Qwen2 and Qwen2.5 have; the error says which
// is not.
func readTokenizerJSON(data []byte) (*vocabulary, error) {
	b := newBuilder()
	r := &jsonReader{data: data}
	parts := map[string]json.RawMessage{}
	model := false
	err := r.object(func(key []byte) error {
		name := string(key)
		if name == "model" {
			model = true
			return readModel(r, b)
		}
		raw, err := r.raw()
		parts[name] = raw
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	if !model {
		return nil, errors.New(`no "model" in it`)
	}
	if b.v.nfc, err = checkNormalizer(parts["normalizer"]); err != nil {
		return nil, err
	}
	if err := checkPreTokenizer(parts["pre_tokenizer"]); err != nil {
		return nil, err
	}
	if err := checkByteLevel("post_processor", parts["post_processor"]); err != nil {
		return nil, err
	}
	if err := checkByteLevel("decoder", parts["decoder"]); err != nil {
		return nil, err
	}
	added, err := readAdded(parts["added_tokens"])
	if err != nil {
		return nil, err
	}
	if err := b.add(added); err != nil {
		return nil, err
	}
	return b.finish(), nil
}

// readModel reads "model": its type and settings, vocabulary and merges.
func readModel(r *jsonReader, b *builder) error {
	rest := map[string]json.RawMessage{}
	vocab, late := false, json.RawMessage(nil)
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "vocab":
			if r.peek() != '{' {
				_, err := r.raw() // a list: Unigram; the type says so below
				return err
			}
			vocab = true
			if err := readVocab(r, b); err != nil {
				return err
			}
			return b.finishTokens()
		case "merges":
			if vocab {
				return readMergeList(r, b)
			}
			var err error
			late, err = r.raw()
			return err
		}
		name := string(key)
		raw, err := r.raw()
		rest[name] = raw
		return err
	})
	if kindErr := checkModel(rest); kindErr != nil && (err == nil || rest["type"] != nil) {
		return kindErr
	}
	if err != nil {
		return err
	}
	if !vocab {
		return errors.New(`"model" has no "vocab"`)
	}
	if late != nil {
		return readMergeList(&jsonReader{data: late}, b)
	}
	return nil
}

// readMergeList reads merges as "a b" or, since tokenizers 0.20, as ["a", "b"].
func readMergeList(r *jsonReader, b *builder) error {
	b.guess = 256
	n := 0
	var left []byte
	return r.array(func() error {
		n++
		if r.peek() == '"' {
			line, err := r.string()
			if err == nil {
				err = b.mergeLine(line)
			}
			return inMerge(n, err)
		}
		parts := 0
		err := r.array(func() error {
			s, err := r.string()
			if parts++; parts == 1 {
				left = append(left[:0], s...)
			} else if err == nil && parts == 2 {
				err = b.merge(left, s)
			}
			return err
		})
		if err == nil && parts != 2 {
			err = fmt.Errorf("%d tokens instead of two", parts)
		}
		return inMerge(n, err)
	})
}

func inMerge(n int, err error) error {
	if err == nil || errors.Is(err, errJSON) {
		return err
	}
	return fmt.Errorf("merge %d: %w", n, err)
}

// checkModel refuses settings that Qwen2.5's BPE does not have.
func checkModel(rest map[string]json.RawMessage) error {
	var m struct {
		Type         string   `json:"type"`
		Dropout      *float64 `json:"dropout"`
		Unknown      *string  `json:"unk_token"`
		Prefix       *string  `json:"continuing_subword_prefix"`
		Suffix       *string  `json:"end_of_word_suffix"`
		ByteFallback bool     `json:"byte_fallback"`
		IgnoreMerges bool     `json:"ignore_merges"`
	}
	raw, err := json.Marshal(rest)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	filled := func(s *string) bool { return s != nil && *s != "" }
	switch {
	case err != nil:
		return fmt.Errorf(`"model": %w`, err)
	case m.Type != "" && m.Type != "BPE":
		return unsupported("a %s model", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return unsupported("BPE with dropout")
	case filled(m.Unknown), filled(m.Prefix), filled(m.Suffix), m.ByteFallback, m.IgnoreMerges:
		return unsupported("BPE with unk_token, continuing_subword_prefix, end_of_word_suffix, byte_fallback or ignore_merges")
	}
	return nil
}

// component is one normalizer, pre-tokenizer, post-processor or decoder.
type component struct {
	Type          string
	Normalizers   []component
	Pretokenizers []component
	Processors    []component
	Decoders      []component
	Pattern       struct{ Regex, String string }
	Behavior      string
	Invert        bool
	AddSpace      *bool `json:"add_prefix_space"`
	UseRegex      *bool `json:"use_regex"`
}

// flat resolves sequences.
func (c component) flat() []component {
	if c.Type != "Sequence" {
		return []component{c}
	}
	var out []component
	for _, list := range [][]component{c.Normalizers, c.Pretokenizers, c.Processors, c.Decoders} {
		for _, x := range list {
			out = append(out, x.flat()...)
		}
	}
	return out
}

func components(name string, raw json.RawMessage) ([]component, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var c component
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return c.flat(), nil
}

// checkNormalizer accepts NFC and none.
func checkNormalizer(raw json.RawMessage) (nfc bool, err error) {
	list, err := components("normalizer", raw)
	if err != nil {
		return false, err
	}
	for _, c := range list {
		if c.Type != "NFC" {
			return false, unsupported("normalizer %s", c.Type)
		}
	}
	return len(list) > 0, nil
}

// checkPreTokenizer accepts Split with Qwen2's pattern, then ByteLevel.
func checkPreTokenizer(raw json.RawMessage) error {
	list, err := components("pre_tokenizer", raw)
	if err != nil {
		return err
	}
	if len(list) != 2 || list[0].Type != "Split" || list[1].Type != "ByteLevel" {
		return unsupported("the pre-tokenizer is not a Split by pattern and then ByteLevel")
	}
	split, bytes := list[0], list[1]
	if split.Pattern.Regex != splitPattern {
		return unsupported("the pre-tokenizer's pattern is %q", split.Pattern.Regex+split.Pattern.String)
	}
	// The pattern matches every text as a whole, so what happens to text between
	// matches (Isolated, Removed with invert) makes no difference.
	if split.Behavior != "Isolated" && !(split.Behavior == "Removed" && split.Invert) {
		return unsupported("the pre-tokenizer's behaviour is %s", split.Behavior)
	}
	if bytes.AddSpace == nil || *bytes.AddSpace || bytes.UseRegex == nil || *bytes.UseRegex {
		return unsupported("ByteLevel with add_prefix_space or use_regex")
	}
	return nil
}

// checkByteLevel accepts ByteLevel and none: neither adds tokens.
func checkByteLevel(name string, raw json.RawMessage) error {
	list, err := components(name, raw)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Type != "ByteLevel" {
			return unsupported("%s %s", name, c.Type)
		}
	}
	return nil
}

func readAdded(raw json.RawMessage) ([]addedToken, error) {
	var list []addedJSON
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf(`"added_tokens": %w`, err)
		}
	}
	var out []addedToken
	for _, a := range list {
		t, err := a.token()
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}
