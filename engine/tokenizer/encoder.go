package tokenizer

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
	"unsafe"
)

// Mode says which added tokens are recognised in a text.
type Mode int

// The modes. Hugging Face's default is Parse; its split_special_tokens=True is
// KeepAdded.
const (
	Plain     Mode = iota // none: the safe mode for what users wrote
	KeepAdded             // only those that are not special, such as <tool_call>
	Parse                 // all
)

// Encoder encodes with a cache of its own; it belongs to one goroutine at a time.
// Its memory is bounded whatever it reads: 16 KB at first, about 10 MB at most.
type Encoder struct {
	v          *vocabulary
	template   *chatTemplate
	jinja      *jinjaTemplate // the template, parsed, once it was needed
	short      shortCache
	long       longCache
	merger     merger
	cutter     pieceCutter
	normalizer normalizer
	valid, nfc []byte // scratch
	replaced   int64
}

// Replaced counts the ill-formed parts that became U+FFFD since the encoder was made.
func (e *Encoder) Replaced() int64 { return e.replaced }

// Encode appends the ids of text; control text becomes control tokens only with
// parseSpecial.
func (e *Encoder) Encode(dst []int32, text string, parseSpecial bool) []int32 {
	if parseSpecial {
		return e.EncodeMode(dst, text, Parse)
	}
	return e.EncodeMode(dst, text, Plain)
}

// EncodeMode is Encode with all three modes.
func (e *Encoder) EncodeMode(dst []int32, text string, mode Mode) []int32 {
	s := unsafe.Slice(unsafe.StringData(text), len(text)) // read only
	for i := 0; i < len(s); {
		at, end, token := e.v.added.raw.find(s, i, mode)
		dst = e.encodeText(dst, s[i:at], mode)
		i = end
		if token != nil {
			dst = append(dst, token.ID)
		}
	}
	return dst
}

// keepScratch is the size of a scratch buffer that is worth keeping.
const keepScratch = 1 << 20

// encodeText encodes text in which no added token is looked for as it stands.
func (e *Encoder) encodeText(dst []int32, s []byte, mode Mode) []int32 {
	valid, nfc := inspect(s)
	if !valid {
		n := 0
		e.valid, n = appendValid(e.valid[:0], s)
		e.replaced += int64(n)
		s = e.valid
		_, nfc = inspect(s)
	}
	if !nfc && e.v.nfc {
		e.nfc = e.normalizer.appendNFC(e.nfc[:0], s)
		s = e.nfc
	}
	for i := 0; i < len(s); {
		at, end, token := e.v.added.later.find(s, i, mode)
		dst = e.encodeNormal(dst, s[i:at])
		i = end
		if token != nil {
			dst = append(dst, token.ID)
		}
	}
	if cap(e.valid) > keepScratch {
		e.valid = nil
	}
	if cap(e.nfc) > keepScratch {
		e.nfc, e.normalizer.chunk = nil, nil
	}
	if cap(e.merger.symbols) > keepScratch/16 {
		e.merger = merger{}
	}
	return dst
}

// encodeNormal encodes valid, normalised text. The loop is for what most text is:
// ASCII words with at most one character before them, cut eight bytes at a time
// and found in the cache. pretokenEnd and slowPiece do the rest.
func (e *Encoder) encodeNormal(dst []int32, s []byte) []int32 {
	digits := e.v.pre.digits
	if digits == 0 {
		e.cutter.cut(e.v.pre, s, func(piece []byte) { dst = e.piece(dst, piece) })
		return dst
	}
	i := 0
	for i+24 <= len(s) {
		if cap(dst)-len(dst) < 4 {
			dst = slices.Grow(dst, 64)
		}
		x := binary.LittleEndian.Uint64(s[i:])
		end := i + wordLen(x)
		switch {
		case end == i:
			end = pretokenEnd(s, i, digits)
		case end == i+8:
			end = asciiWordEnd(s, end)
		case s[end] >= utf8.RuneSelf:
			end = lettersEnd(s, end)
		}
		size := end - i
		if size == 1 {
			dst = append(dst, e.v.byteIDs[s[i]])
			i = end
			continue
		}
		if size > shortMax {
			dst = e.slowPiece(dst, s[i:end])
			i = end
			continue
		}
		lo, hi := x, uint64(size)<<56
		if size < 8 {
			lo &= 1<<(uint(size)*8) - 1
		} else {
			hi |= binary.LittleEndian.Uint64(s[i+8:]) & (1<<(uint(size-8)*8) - 1)
		}
		i = end
		line := e.short.line(lo, hi)
		slot := &line[0]
		if slot.lo != lo || slot.hi != hi {
			if slot = &line[1]; slot.lo != lo || slot.hi != hi {
				dst = e.missShort(dst, s[end-size:end], lo, hi)
				continue
			}
		}
		n := len(dst)
		ids := (*[4]int32)(dst[n : n+4])
		*ids = slot.ids
		dst = dst[:n+int(uint32(ids[0])>>24)]
		ids[0] &= maxID
	}
	for i < len(s) {
		end := pretokenEnd(s, i, digits)
		dst = e.slowPiece(dst, s[i:end])
		i = end
	}
	return dst
}

// wordLen returns the length of the ASCII word at the start of eight bytes, with
// the character before it: 8 where it may go on, 0 where there is none.
func wordLen(x uint64) int {
	other := nonLetters(x)
	if other&0x80 != 0 {
		if other&0x8000 != 0 || !joinsWord[byte(x)] {
			return 0
		}
		other ^= 0x80
	}
	return bits.TrailingZeros64(other) >> 3
}

// nonLetters sets the upper bit of each byte of x that is no ASCII letter.
func nonLetters(x uint64) uint64 {
	t := (x | 0x2020202020202020) & ^uint64(highBits)
	fromA := t + (0x80-'a')*0x0101010101010101
	pastZ := t + (0x80-'z'-1)*0x0101010101010101
	return ^(fromA &^ pastZ &^ x) & highBits
}

// joinsWord holds the ASCII characters that may begin `[^\r\n\p{L}\p{N}]?\p{L}+`;
// the apostrophe is left out, for it may begin a contraction.
var joinsWord = [256]bool{
	0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true, 8: true, '\t': true,
	11: true, 12: true, 14: true, 15: true, 16: true, 17: true, 18: true, 19: true, 20: true,
	21: true, 22: true, 23: true, 24: true, 25: true, 26: true, 27: true, 28: true, 29: true,
	30: true, 31: true, ' ': true, '!': true, '"': true, '#': true, '$': true, '%': true,
	'&': true, '(': true, ')': true, '*': true, '+': true, ',': true, '-': true, '.': true,
	'/': true, ':': true, ';': true, '<': true, '=': true, '>': true, '?': true, '@': true,
	'[': true, '\\': true, ']': true, '^': true, '_': true, '`': true, '{': true, '|': true,
	'}': true, '~': true, 127: true,
}

// asciiWordEnd returns where the word that holds s[i-1] ends, eight ASCII letters
// at a time.
func asciiWordEnd(s []byte, i int) int {
	for i+8 <= len(s) {
		other := nonLetters(binary.LittleEndian.Uint64(s[i:]))
		if i += bits.TrailingZeros64(other) >> 3; other != 0 {
			break
		}
	}
	return lettersEnd(s, i)
}

// slowPiece appends the ids of a pretoken at the end of the text or of more than
// 15 bytes.
func (e *Encoder) slowPiece(dst []int32, piece []byte) []int32 {
	if len(piece) == 1 {
		return append(dst, e.v.byteIDs[piece[0]])
	}
	if len(piece) > longMax {
		return e.merge(dst, piece)
	}
	hash := hashBytes(piece)
	if ids, ok := e.long.find(hash, piece); ok {
		return append(dst, ids...)
	}
	from := len(dst)
	dst = e.merge(dst, piece)
	e.long.add(hash, piece, dst[from:])
	return dst
}

// piece appends the ids of a pretoken of any length.
func (e *Encoder) piece(dst []int32, piece []byte) []int32 {
	if len(piece) == 1 || len(piece) > shortMax {
		return e.slowPiece(dst, piece)
	}
	var key [16]byte
	copy(key[:], piece)
	lo, hi := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])|uint64(len(piece))<<56
	for _, slot := range e.short.line(lo, hi) {
		if slot.lo == lo && slot.hi == hi {
			n := len(dst)
			dst = append(dst, slot.ids[:slot.ids[0]>>24]...)
			dst[n] &= maxID
			return dst
		}
	}
	return e.missShort(dst, piece, lo, hi)
}

// merge appends the ids of a pretoken that no cache has.
func (e *Encoder) merge(dst []int32, piece []byte) []int32 {
	if e.v.whole != nil {
		if id, found := e.v.whole.find(piece); found {
			return append(dst, id)
		}
	}
	return e.merger.merge(dst, e.v, piece)
}

// missShort merges a short pretoken and remembers it: with the long ones if it has
// many ids.
func (e *Encoder) missShort(dst []int32, piece []byte, lo, hi uint64) []int32 {
	hash := hashBytes(piece)
	if ids, ok := e.long.find(hash, piece); ok {
		return append(dst, ids...)
	}
	from := len(dst)
	dst = e.merge(dst, piece)
	n := len(dst) - from
	if n > 4 {
		e.long.add(hash, piece, dst[from:])
		return dst
	}
	var ids [4]int32
	copy(ids[:], dst[from:])
	ids[0] |= int32(n << 24)
	e.short.add(shortSlot{lo, hi, ids})
	return dst
}
