package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Load reads a model folder: tokenizer.json, or vocab.json and merges.txt, with
// added_tokens.json, tokenizer_config.json and chat_template.jinja as far as
// present. What they leave open is Qwen2.5's. Tokenizers of another kind are
// refused, never approximated; the error names the file and what to do.
//
// A folder whose chat template does not parse loads, for its ids are good; it is
// Render that refuses.
func Load(dir string) (*Tokenizer, error) {
	f := folder{dir}
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	v, err := f.vocabulary(config)
	if err != nil {
		return nil, err
	}
	text, from, err := f.template(config)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{v: v, template: qwenTemplate(), eos: -1, pad: -1}
	if from != "" {
		t.template = parseTemplate(from, text, config.names())
	}
	if t.eos, err = f.named(v, config.EOS, "eos_token", "<|im_end|>"); err != nil {
		return nil, err
	}
	if t.pad, err = f.named(v, config.Pad, "pad_token", "<|endoftext|>"); err != nil {
		return nil, err
	}
	return t, nil
}

// folder reads the files of a model folder.
type folder struct{ dir string }

// largestFile keeps a wrong folder from filling memory; the largest tokenizers
// known have 40 MB.
const largestFile = 512 << 20

// read returns a file's content, nil if there is no such file.
func (f folder) read(name string) ([]byte, error) {
	path := filepath.Join(f.dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > largestFile {
		return nil, fmt.Errorf("read tokenizer: %s has %d bytes: that is no tokenizer file; give a Hugging Face model folder", path, info.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("read tokenizer: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer: %w", err)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// wrong says what is wrong with a file, and what helps.
func (f folder) wrong(name string, err error) error {
	remedy := "copy the file again from the model's page"
	var kindErr *unsupportedError
	if errors.As(err, &kindErr) {
		remedy = "lpipe reads byte-level BPE tokenizers, such as those of Qwen, Llama 3, GPT-2 and SmolLM; doc/tokenizer.md says what they may have"
	}
	return fmt.Errorf("read tokenizer: %s: %w; %s", filepath.Join(f.dir, name), err, remedy)
}

// unsupportedError is a whole file of another kind of tokenizer.
type unsupportedError struct{ what string }

func (e *unsupportedError) Error() string { return e.what }

func unsupported(format string, args ...any) error {
	return &unsupportedError{fmt.Sprintf(format, args...)}
}

// vocabulary reads whichever form of it the folder has.
func (f folder) vocabulary(config *tokenizerConfig) (*vocabulary, error) {
	whole, err := f.read("tokenizer.json")
	if err != nil {
		return nil, err
	}
	if whole != nil {
		v, err := readTokenizerJSON(whole)
		if err != nil {
			return nil, f.wrong("tokenizer.json", err)
		}
		return v, nil
	}
	vocab, err := f.read("vocab.json")
	if err != nil {
		return nil, err
	}
	merges, err := f.read("merges.txt")
	if err != nil {
		return nil, err
	}
	if vocab == nil || merges == nil {
		return nil, f.missing(vocab != nil, merges != nil)
	}
	if c := config.Class; c != "" && !bytes.HasPrefix([]byte(c), []byte("Qwen2Tokenizer")) {
		return nil, f.wrong("tokenizer_config.json", unsupported("tokenizer class %s: how it splits text stands only in tokenizer.json, which is not there", c))
	}
	if config.Adds {
		return nil, f.wrong("tokenizer_config.json", unsupported("add_bos_token, add_eos_token or add_prefix_space is set, which Qwen2.5 does not do"))
	}
	return f.twoFiles(config, vocab, merges)
}

func (f folder) missing(vocab, merges bool) error {
	if _, err := os.Stat(f.dir); err != nil {
		return fmt.Errorf("read tokenizer: %w; give a Hugging Face model folder", err)
	}
	has := "neither tokenizer.json nor vocab.json and merges.txt"
	if vocab {
		has = "vocab.json but no merges.txt"
	} else if merges {
		has = "merges.txt but no vocab.json"
	}
	return fmt.Errorf("read tokenizer: %s has %s: %w; give a Hugging Face model folder with tokenizer.json, or with vocab.json and merges.txt", f.dir, has, fs.ErrNotExist)
}

// twoFiles reads vocab.json and merges.txt.
func (f folder) twoFiles(config *tokenizerConfig, vocab, merges []byte) (*vocabulary, error) {
	b := newBuilder()
	pre, err := pretokenizerOf(splitPattern)
	if err != nil {
		return nil, err
	}
	b.v.pre = pre
	r := &jsonReader{data: vocab}
	err = readVocab(r, b)
	if err == nil {
		err = r.end()
	}
	if err == nil {
		err = b.finishTokens()
	}
	if err != nil {
		return nil, f.wrong("vocab.json", err)
	}
	if err := readMerges(merges, b); err != nil {
		return nil, f.wrong("merges.txt", err)
	}
	added, from, err := f.addedTokens(config, b)
	if err != nil {
		return nil, err
	}
	if err := b.add(added); err != nil {
		return nil, f.wrong(from, err)
	}
	if n := b.unmade(); n > len(b.v.spans)/1000+16 {
		return nil, f.wrong("merges.txt", fmt.Errorf("%d tokens of vocab.json are made by no merge: it is cut short, or of another model", n))
	}
	return b.finish(), nil
}

// readVocab reads an object of spelled tokens and ids.
func readVocab(r *jsonReader, b *builder) error {
	// Qwen2.5's entries have 18 bytes in the file and 6.3 in the arena.
	b.v.arena = make([]byte, 0, len(r.data)/4)
	b.v.spans = make([]span, 0, len(r.data)/16)
	b.v.kinds = make([]kind, 0, len(r.data)/16)
	return r.object(func(key []byte) error {
		from := r.pos
		id, err := r.int()
		if err != nil {
			return err
		}
		if int(id) > len(r.data) {
			return fmt.Errorf("byte %d: id %d is far above the number of tokens", from, id)
		}
		if err := b.token(key, id); err != nil {
			return fmt.Errorf("byte %d: %w", from, err)
		}
		return nil
	})
}

// addedTokens collects the added tokens where there is no tokenizer.json, and
// says which file to blame for them.
func (f folder) addedTokens(config *tokenizerConfig, b *builder) ([]addedToken, string, error) {
	data, err := f.read("added_tokens.json")
	if err != nil {
		return nil, "", err
	}
	if data == nil && len(config.Added) == 0 {
		return b.qwenTokens(), "vocab.json", nil
	}
	if data == nil {
		return config.Added, "tokenizer_config.json", nil
	}
	var ids map[string]int32
	if err := json.Unmarshal(data, &ids); err != nil {
		return nil, "", f.wrong("added_tokens.json", err)
	}
	list := slices.Clone(config.Added)
	for content, id := range ids {
		t := addedToken{Content: content, ID: id, Special: config.special(content)}
		same := func(c addedToken) bool { return c.Content == content && c.ID == id }
		if !slices.ContainsFunc(config.Added, same) {
			list = append(list, t)
		}
	}
	return list, "added_tokens.json", nil
}

// qwenTokens are Qwen2.5's added tokens where no file names any: those that the
// vocabulary holds itself, or, behind Qwen2.5's own vocabulary, all 22.
func (b *builder) qwenTokens() []addedToken {
	var list []addedToken
	for i, name := range qwenAdded {
		if id, found := b.index.find([]byte(name)); found {
			list = append(list, addedToken{Content: name, ID: id, Special: i < qwenSpecial})
		} else if len(b.v.spans) == qwenVocabulary {
			list = append(list, addedToken{Content: name, ID: int32(qwenVocabulary + i), Special: i < qwenSpecial})
		}
	}
	return list
}

// Qwen2.5's added tokens, in the order of their ids; the first 14 are special.
const (
	qwenVocabulary = 151643
	qwenSpecial    = 14
)

var qwenAdded = [...]string{
	"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
	"<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
	"<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
	"<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
	"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }
