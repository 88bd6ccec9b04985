package tokenizer

import (
	"unicode/utf8"
)

// Byte-level vocabularies spell each byte as one printable character: GPT-2's
// bytes_to_unicode (openai/gpt-2, src/encoder.py). Printable Latin-1 stands for
// itself, the other 68 bytes for U+0100 and on, in order.

// byteChar returns the character that spells a byte.
func byteChar(b byte) rune {
	if c := rune(b); printable(c) {
		return c
	}
	switch {
	case b <= 0x20:
		return 0x100 + rune(b)
	case b < 0xA1:
		return 0x121 + rune(b-0x7F)
	}
	return 0x143 // U+00AD
}

func printable(c rune) bool {
	return c >= '!' && c <= '~' || c >= 0xA1 && c <= 0xFF && c != 0xAD
}

// charByte is the inverse; ok is false for a character that spells no byte.
func charByte(c rune) (b byte, ok bool) {
	switch {
	case printable(c):
		return byte(c), true
	case c >= 0x100 && c <= 0x120:
		return byte(c - 0x100), true
	case c >= 0x121 && c <= 0x142:
		return byte(c-0x121) + 0x7F, true
	case c == 0x143:
		return 0xAD, true
	}
	return 0, false
}

// appendSpelled appends the bytes that s spells; ok is false when s is no spelling.
func appendSpelled(dst, s []byte) (out []byte, ok bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if c > ' ' && c < 0x7F {
			dst = append(dst, c)
			i++
			continue
		}
		r, size := rune(c), 1
		if c >= 0xC2 && c < 0xE0 && i+1 < len(s) && s[i+1]&0xC0 == 0x80 { // of two bytes, as all others that spell one
			r, size = rune(c&0x1F)<<6|rune(s[i+1]&0x3F), 2
		} else if c >= utf8.RuneSelf {
			return dst, false
		}
		b, ok := charByte(r)
		if !ok {
			return dst, false
		}
		dst = append(dst, b)
		i += size
	}
	return dst, true
}

// spell writes bytes as a vocabulary file has them.
func spell(b []byte) string {
	out := make([]byte, 0, len(b)+8)
	for _, c := range b {
		out = utf8.AppendRune(out, byteChar(c))
	}
	return string(out)
}
