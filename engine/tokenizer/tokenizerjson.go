package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// readTokenizerJSON reads Hugging Face tokenizers' serialisation of a byte-level BPE
// tokenizer. A part that decides ids and is not known is an error that names it.
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
	if b.v.pre, err = readPretokenizer(parts["pre_tokenizer"]); err != nil {
		return nil, err
	}
	if err := checkTypes("post_processor", parts["post_processor"], "ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"); err != nil {
		return nil, err
	}
	if err := checkTypes("decoder", parts["decoder"], "ByteLevel"); err != nil {
		return nil, err
	}
	added, err := readAdded(parts["added_tokens"])
	if err != nil {
		return nil, err
	}
	if err := b.add(added); err != nil {
		return nil, err
	}
	// Some models have a few hundred tokens that no merge makes; merges that are missing
	// leave most.
	if n := b.unmade(); n > len(b.v.spans)/10+16 && !b.ignoreMerges {
		return nil, fmt.Errorf("%d of %d tokens are made by no merge: its merges are cut short, or of another vocabulary", n, len(b.v.spans))
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
	if kindErr := b.model(rest); kindErr != nil && (err == nil || rest["type"] != nil) {
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
	merges, n := newMergeReader(b, len(b.v.spans)), 0
	var left []byte
	err := r.array(func() error {
		n++
		if r.peek() == '"' {
			line, err := r.string()
			if err == nil {
				err = merges.spaced(line)
			}
			return inMerge(n, err)
		}
		parts := 0
		err := r.array(func() error {
			s, err := r.string()
			if parts++; parts == 1 {
				left = append(left[:0], s...)
			} else if err == nil && parts == 2 {
				err = merges.merge(left, s)
			}
			return err
		})
		if err == nil && parts != 2 {
			err = fmt.Errorf("%d tokens instead of two", parts)
		}
		return inMerge(n, err)
	})
	b.v.pairs = merges.pairs
	return err
}

func inMerge(n int, err error) error {
	if err == nil || errors.Is(err, errJSON) {
		return err
	}
	return fmt.Errorf("merge %d: %w", n, err)
}

// model reads the settings of the model. What matters only where a byte has no token
// (unk_token, fuse_unk) makes no difference: finishTokens demands all 256.
func (b *builder) model(rest map[string]json.RawMessage) error {
	var m struct {
		Type         string   `json:"type"`
		Dropout      *float64 `json:"dropout"`
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
		return unsupported("BPE with dropout, which gives other ids each time")
	case filled(m.Prefix), filled(m.Suffix):
		return unsupported("BPE with continuing_subword_prefix or end_of_word_suffix")
	case m.ByteFallback:
		return unsupported("BPE with byte_fallback, which is not byte-level")
	}
	b.ignoreMerges = m.IgnoreMerges
	return nil
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

// checkTypes accepts some types and none. A post-processor puts tokens around a text,
// which this package leaves to the caller, as add_special_tokens=False does.
func checkTypes(name string, raw json.RawMessage, known ...string) error {
	list, err := components(name, raw)
	if err != nil {
		return err
	}
	for _, c := range list {
		if !slices.Contains(known, c.Type) {
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
		out = append(out, a.token())
	}
	return out, nil
}
