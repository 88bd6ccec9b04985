package stages

import (
	"strings"
	"unicode/utf8"
)

// repairMojibake undoes UTF-8 that was read as Windows-1252 (or Latin-1, where that has no character) and written as UTF-8
// again, run by run: characters whose bytes are a whole UTF-8 sequence stand for that character. It is done up to three times,
// for texts that went through it more than once.
func repairMojibake(s string) string {
	for range 3 {
		out := repairOnce(s)
		if out == s {
			break
		}
		s = out
	}
	return s
}

func repairOnce(s string) string {
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); {
		at := strings.IndexByte(s[i:], 0xc3) // begins U+00C0 to U+00FF, among them what the lead bytes C2 to F4 were read as
		if at < 0 {
			break
		}
		i += at
		r, size, ok := repaired(s[i:])
		if !ok {
			_, size = utf8.DecodeRuneInString(s[i:])
			i += size
			continue
		}
		b.WriteString(s[done:i])
		b.WriteRune(r)
		i += size
		done = i
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

// repaired is the character that the characters at the beginning of s stand for, and how many bytes of s these take.
func repaired(s string) (r rune, size int, ok bool) {
	var raw [utf8.UTFMax]byte
	lead, size := utf8.DecodeRuneInString(s)
	first, ok := windows1252Byte(lead)
	length := 0
	switch {
	case !ok:
	case first >= 0xc2 && first <= 0xdf:
		length = 2
	case first >= 0xe0 && first <= 0xef:
		length = 3
	case first >= 0xf0 && first <= 0xf4:
		length = 4
	}
	if length == 0 {
		return 0, 0, false
	}
	raw[0] = first
	for n := 1; n < length; n++ {
		next, width := utf8.DecodeRuneInString(s[size:])
		c, ok := windows1252Byte(next)
		if !ok || c < 0x80 || c > 0xbf {
			return 0, 0, false
		}
		raw[n] = c
		size += width
	}
	r, width := utf8.DecodeRune(raw[:length])
	return r, size, r != utf8.RuneError && width == length
}

// windows1252 are the characters of the bytes 80 to 9F (encoding.spec.whatwg.org, index windows-1252); 0 where it has none.
var windows1252 = [32]rune{
	'€', 0, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0, 'Ž', 0,
	0, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0, 'ž', 'Ÿ',
}

// windows1252Byte is the byte that a character was read from.
func windows1252Byte(r rune) (byte, bool) {
	if r >= 0x80 && r <= 0xff { // C1 controls too: Latin-1 has them
		return byte(r), true
	}
	for i, known := range windows1252 {
		if r == known && r != 0 {
			return byte(0x80 + i), true
		}
	}
	return 0, false
}
