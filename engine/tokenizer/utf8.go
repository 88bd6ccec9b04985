package tokenizer

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

const highBits = 0x8080808080808080

// inspect reads s once and says whether it is valid UTF-8 and whether it is NFC already,
// which nearly every text is.
func (t *classTables) inspect(s []byte) (valid, nfc bool) {
	last, starter := uint8(0), int32(-1) // the combining class of the last character
	for i := 0; i < len(s); {
		if n := 64 * t.settled(s[i:]); n > 0 {
			// The last character may go on behind that; all before it are starters.
			for i += n; !utf8.RuneStart(s[i-1]); i-- {
			}
			i--
			last, starter = 0, -1
			if before, size := utf8.DecodeLastRune(s[:i]); size > 0 {
				starter = before
			}
		}
		for end := min(i+64, len(s)); i < end; {
			if s[i] < utf8.RuneSelf {
				last, starter = 0, int32(s[i])
				i++
				continue
			}
			r, size := decodeAny(s[i:])
			if size == 0 {
				return false, false
			}
			i += size
			p := property(r)
			if p&(propMark|propMaybe) == 0 {
				last, starter = 0, r
				continue
			}
			class := combiningClass(r)
			if class < last && class != 0 || p&propMaybe != 0 && !staysComposed(starter, r, class) {
				return utf8.Valid(s[i:]), false
			}
			if last = class; class == 0 {
				starter = r
			}
		}
	}
	return true, true
}

// settledPlain is the number of blocks of 64 bytes at the beginning of s, which is the beginning
// of a character, that are ASCII: these are valid, and NFC.
func settledPlain(s []byte) int { return asciiLen(s) / 64 }

// staysComposed says whether a character that the quick check of NFC doubts is as NFC has it
// behind a starter (-1: none), whatever marks stand between.
func staysComposed(starter, r int32, class uint8) bool {
	decomposes := func(r int32) bool {
		_, found := slices.BinarySearch(decomposed[:], r)
		return found
	}
	if decomposes(r) || starter >= 0 && compose(starter, r) != 0 {
		return false
	}
	if class == 0 || starter < utf8.RuneSelf {
		return true
	}
	// A mark may belong before one that the starter is composed with.
	i, found := slices.BinarySearch(decomposed[:], starter)
	if !found {
		return true
	}
	last, _ := utf8.DecodeLastRuneInString(decompositions[decomposedAt[i]:decomposedAt[i+1]])
	return combiningClass(last) <= class
}

// decodeAny decodes the first character of s, which is not ASCII; size is 0 where it is ill formed.
func decodeAny(s []byte) (r int32, size int) {
	c := s[0]
	if c < 0xE0 && c >= 0xC2 && len(s) > 1 && s[1]&0xC0 == 0x80 {
		return int32(c&0x1F)<<6 | int32(s[1]&0x3F), 2
	}
	if c < 0xF0 && len(s) > 2 && s[1]&0xC0 == 0x80 && s[2]&0xC0 == 0x80 {
		r = int32(c&0x0F)<<12 | int32(s[1]&0x3F)<<6 | int32(s[2]&0x3F)
		if c >= 0xE0 && r >= 0x800 && (r < 0xD800 || r > 0xDFFF) {
			return r, 3
		}
		return 0, 0
	}
	r, size = utf8.DecodeRune(s)
	if r == utf8.RuneError && size == 1 {
		return 0, 0
	}
	return r, size
}

// asciiLen returns the length of the ASCII prefix of s.
func asciiLen(s []byte) int {
	i := 0
	for ; i+32 <= len(s); i += 32 {
		v := s[i : i+32 : i+32]
		if (binary.LittleEndian.Uint64(v)|binary.LittleEndian.Uint64(v[8:])|
			binary.LittleEndian.Uint64(v[16:])|binary.LittleEndian.Uint64(v[24:]))&highBits != 0 {
			break
		}
	}
	for i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// appendValid appends s with one U+FFFD for each maximal ill-formed part, as
// Python's and Rust's lossy decoders do, and returns how many there were.
func appendValid(dst, s []byte) ([]byte, int) {
	replaced, from := 0, 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i += asciiLen(s[i:])
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r != utf8.RuneError || size != 1 {
			i += size
			continue
		}
		dst = append(append(dst, s[from:i]...), "\uFFFD"...)
		replaced++
		i += illFormedLen(s[i:])
		from = i
	}
	return append(dst, s[from:]...), replaced
}

// illFormedLen returns the length of the maximal ill-formed part at the start
// of s (The Unicode Standard, 3.9, "U+FFFD Substitution of Maximal Subparts").
func illFormedLen(s []byte) int {
	lo, hi, size := byte(0x80), byte(0xBF), 0
	switch lead := s[0]; {
	case lead >= 0xC2 && lead <= 0xDF:
		size = 2
	case lead >= 0xE0 && lead <= 0xEF:
		size = 3
		if lead == 0xE0 {
			lo = 0xA0
		} else if lead == 0xED {
			hi = 0x9F
		}
	case lead >= 0xF0 && lead <= 0xF4:
		size = 4
		if lead == 0xF0 {
			lo = 0x90
		} else if lead == 0xF4 {
			hi = 0x8F
		}
	default:
		return 1
	}
	n := 1
	for n < size && n < len(s) && s[n] >= lo && s[n] <= hi {
		lo, hi = 0x80, 0xBF
		n++
	}
	return n
}
