package tokenizer

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
)

// Tokenizer is a vocabulary with its merges, added tokens and chat template.
// It does not change after Load or Train and is safe for concurrent use.
type Tokenizer struct{}

// Load reads a model folder: tokenizer.json, or vocab.json and merges.txt, with
// added_tokens.json, tokenizer_config.json and chat_template.jinja as far as
// present. What they leave open is Qwen2.5's.
func Load(dir string) (*Tokenizer, error) { return nil, errors.New("tokenizer: not read yet") }

// WithTemplate returns the same tokenizer with another chat template; name is
// the file that it came from, for messages.
func (t *Tokenizer) WithTemplate(name, text string) (*Tokenizer, error) { return t, nil }

// Encode appends the ids of text. Control text such as "<|im_end|>" becomes a
// control token only with parseSpecial.
func (t *Tokenizer) Encode(dst []int32, text string, parseSpecial bool) []int32 { return dst }

// Decode appends the text of ids as valid UTF-8; bytes that are none become U+FFFD.
// Special tokens are left out with skipSpecial, ids outside the vocabulary always.
func (t *Tokenizer) Decode(dst []byte, ids []int32, skipSpecial bool) []byte { return dst }

// DecodeBytes is Decode without the repair: the exact bytes.
func (t *Tokenizer) DecodeBytes(dst []byte, ids []int32, skipSpecial bool) []byte { return dst }

// VocabSize is the largest id plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return 0 }

// Fingerprint is a hash of all that decides ids; equal for equal tokenizers
// whatever files they came from.
func (t *Tokenizer) Fingerprint() string { return "" }

// TemplateFingerprint is a hash of the chat template.
func (t *Tokenizer) TemplateFingerprint() string { return "" }

// EOS is the id that ends an answer, -1 when the vocabulary has none.
func (t *Tokenizer) EOS() int32 { return -1 }

// Pad is the id to fill up with, -1 when the vocabulary has none.
func (t *Tokenizer) Pad() int32 { return -1 }

// Token returns the id of an added token by its text.
func (t *Tokenizer) Token(name string) (int32, bool) { return 0, false }

// NewEncoder returns an encoder with a cache of its own.
func (t *Tokenizer) NewEncoder() *Encoder { return &Encoder{} }

// Render is Encoder.Render with a borrowed encoder.
func (t *Tokenizer) Render(chat Chat) (Rendered, error) { return Rendered{}, nil }

// Save writes the files that Hugging Face's libraries read.
func (t *Tokenizer) Save(dir string) error { return nil }

// Encoder encodes for one goroutine.
type Encoder struct{ replaced int64 }

// Encode is Tokenizer.Encode.
func (e *Encoder) Encode(dst []int32, text string, parseSpecial bool) []int32 { return dst }

// Replaced counts the ill-formed parts that became U+FFFD since the encoder was made.
func (e *Encoder) Replaced() int64 { return e.replaced }

// Render applies the chat template and encodes what it gives.
func (e *Encoder) Render(chat Chat) (Rendered, error) { return Rendered{}, nil }

// Message is one turn. ToolCalls is a JSON list, or empty.
type Message struct {
	Role      string          `json:"role"`
	Content   string          `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls,omitempty"`
}

// TrainOn says which tokens of a chat the mask marks.
type TrainOn int

// The choices of TrainOn.
const (
	TrainAssistant TrainOn = iota // every assistant turn
	TrainLast                     // the last assistant turn
	TrainAll                      // every token
)

// Chat is what a template renders.
type Chat struct {
	Messages            []Message         `json:"messages"`
	Tools               []json.RawMessage `json:"tools,omitempty"`
	AddGenerationPrompt bool              `json:"add_generation_prompt,omitempty"`
	ParseSpecial        bool              `json:"-"` // read control text in content as control tokens
	NoSystem            bool              `json:"-"` // no system turn at all, not even the default one
	TrainOn             TrainOn           `json:"-"`
	WholeTurn           bool              `json:"-"` // mask as TRL does: header's newline and the one behind the turn too
}

// Rendered is a chat as text and ids; Mask[i] says that IDs[i] is trained on, as a target.
type Rendered struct {
	Text     string
	IDs      []int32
	Mask     []bool
	Dropped  int   // messages of a role that the template does not know
	Replaced int64 // ill-formed UTF-8 parts that became U+FFFD
}

// TrainOptions are the settings of Train.
type TrainOptions struct {
	VocabSize int                      // added tokens included
	Texts     iter.Seq2[string, error] // the corpus, one whole text each; an error ends the training
	Added     []string                 // further special tokens; <|endoftext|>, <|im_start|>, <|im_end|> are always there
	System    string                   // default system text of the template; empty: Qwen2.5's
}

// Train learns a byte-level BPE vocabulary; equal input gives equal output.
func Train(ctx context.Context, opts TrainOptions) (*Tokenizer, error) { return nil, nil }
