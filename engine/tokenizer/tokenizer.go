package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"unsafe"
)

// Tokenizer is a vocabulary with its merges, added tokens and chat template.
// It does not change after Load or Train and is safe for concurrent use.
type Tokenizer struct {
	v        *vocabulary
	template *chatTemplate
	eos, pad int32
}

// NewEncoder returns an encoder for one goroutine.
func (t *Tokenizer) NewEncoder() *Encoder {
	return &Encoder{v: t.v, template: t.template}
}

// borrow returns an encoder from the pool, with t's template.
func (t *Tokenizer) borrow() *Encoder {
	e, ok := t.v.pool.Get().(*Encoder)
	if !ok {
		return t.NewEncoder()
	}
	if e.template != t.template {
		e.template, e.jinja = t.template, nil
	}
	return e
}

// Encode appends the ids of text. Control text such as "<|im_end|>" becomes a
// control token only with parseSpecial. Many texts go faster through one Encoder.
func (t *Tokenizer) Encode(dst []int32, text string, parseSpecial bool) []int32 {
	e := t.borrow()
	defer t.v.pool.Put(e)
	return e.Encode(dst, text, parseSpecial)
}

// Render is Encoder.Render with a borrowed encoder.
func (t *Tokenizer) Render(chat Chat) (Rendered, error) {
	e := t.borrow()
	defer t.v.pool.Put(e)
	return e.Render(chat)
}

// Decode appends the text of ids as valid UTF-8; bytes that are none become U+FFFD.
// Special tokens are left out with skipSpecial, ids outside the vocabulary always.
func (t *Tokenizer) Decode(dst []byte, ids []int32, skipSpecial bool) []byte {
	dst, _ = appendValid(dst, t.DecodeBytes(nil, ids, skipSpecial))
	return dst
}

// DecodeBytes is Decode without the repair: the exact bytes. A caller that prints
// tokens as they come keeps an incomplete character back with it.
func (t *Tokenizer) DecodeBytes(dst []byte, ids []int32, skipSpecial bool) []byte {
	for _, id := range ids {
		if skipSpecial && t.v.kind(id) == special {
			continue
		}
		dst = append(dst, t.v.bytes(id)...)
	}
	return dst
}

// Cut returns a position at or behind size where text may be cut in two that give the same
// ids one after the other, or its length where it finds none: behind a newline that an ASCII
// letter or digit follows. Qwen2's and Llama 3's patterns always end a pretoken there, others
// may not, and NFC never reaches across.
func (t *Tokenizer) Cut(text string, size int) int {
	if t.v.pre.digits == 0 || t.v.added.reachAcrossLines() {
		return len(text)
	}
	return t.v.cut(unsafe.Slice(unsafe.StringData(text), len(text)), size)
}

// VocabSize is the largest id plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return len(t.v.spans) }

// EOS is the id that ends an answer, -1 when the vocabulary has none.
func (t *Tokenizer) EOS() int32 { return t.eos }

// Pad is the id to fill up with, -1 when the vocabulary has none.
func (t *Tokenizer) Pad() int32 { return t.pad }

// Token returns the id of an added token by its text.
func (t *Tokenizer) Token(name string) (int32, bool) {
	a, ok := t.v.added.byName(name)
	return a.ID, ok
}

// Bytes returns what an id stands for, nil outside the vocabulary. The caller must
// not change it.
func (t *Tokenizer) Bytes(id int32) []byte { return t.v.bytes(id) }

// Special says whether an id is a special token, which skipSpecial leaves out.
func (t *Tokenizer) Special(id int32) bool { return t.v.kind(id) == special }

// WithTemplate returns the same tokenizer with another chat template; name is
// the file that it came from, for messages. A template that does not parse is an error.
func (t *Tokenizer) WithTemplate(name, text string) (*Tokenizer, error) {
	c := parseTemplate(name, text, t.template.names)
	if c.err != nil {
		return nil, c.err
	}
	return &Tokenizer{t.v, c, t.eos, t.pad}, nil
}

// TemplateError says why Render refuses the folder's chat template, before the
// first row does.
func (t *Tokenizer) TemplateError() error { return t.template.err }

// TemplateFingerprint is a hash of what decides the rendered text.
func (t *Tokenizer) TemplateFingerprint() string { return t.template.fingerprint() }

// Fingerprint is a hash of all that decides ids: the version of the rules, tokens
// by id, merges by rank. It is the same whatever files they came from.
func (t *Tokenizer) Fingerprint() string {
	h := sha256.New()
	io.WriteString(h, "lpipe tokenizer 1\nunicode "+UnicodeVersion+"\n"+t.v.rules()+"\n")
	var buf []byte
	if buf = append(buf, 0); t.v.nfc {
		buf[0] = 1
	}
	for id := range t.v.spans {
		b := t.v.bytes(int32(id))
		buf = append(buf, byte(t.v.kinds[id]))
		buf = binary.AppendUvarint(buf, uint64(len(b)))
		buf = append(buf, b...)
	}
	for _, p := range t.v.pairs {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(p.left))
		buf = binary.LittleEndian.AppendUint32(buf, uint32(p.right))
		buf = binary.LittleEndian.AppendUint32(buf, uint32(p.to))
	}
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil))
}
