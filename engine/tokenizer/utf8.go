package tokenizer

import (
	"encoding/binary"
	"unicode/utf8"
)

const highBits = 0x8080808080808080

// inspect reads s once and says whether it is valid UTF-8 and whether it is
// certainly NFC already, which nearly every text is.
func inspect(s []byte) (valid, nfc bool) {
	last := uint8(0)
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i += asciiLen(s[i:])
			last = 0
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			return false, false
		}
		i += size
		p := property(r)
		if p&(propMark|propMaybe) == 0 {
			last = 0
			continue
		}
		class := combiningClass(r)
		if p&propMaybe != 0 || class < last {
			return utf8.Valid(s[i:]), false
		}
		last = class
	}
	return true, true
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
