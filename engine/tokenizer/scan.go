package tokenizer

import "unicode/utf8"

// What follows is splitPattern by hand.

// pretokenEnd returns where the pretoken that starts at s[i] ends; up to so many digits
// make one. s must be valid UTF-8, and i < len(s).
func pretokenEnd(s []byte, i, digits int) int {
	class, next := classAt(s, i)
	switch class {
	case classLetter:
		return lettersEnd(s, next)
	case classNumber:
		for ; digits > 1 && next < len(s); digits-- {
			following, after := classAt(s, next)
			if following != classNumber {
				break
			}
			next = after
		}
		return next
	case classSpace:
		if c := s[i]; c == '\r' || c == '\n' {
			return spaceEnd(s, i)
		}
		if next == len(s) {
			return next
		}
		switch following, after := classAt(s, next); {
		case following == classLetter:
			return lettersEnd(s, after)
		case following == classOther && s[i] == ' ':
			return othersEnd(s, after)
		}
		return spaceEnd(s, i)
	}
	if s[i] == '\'' {
		if n := contractionLen(s[next:]); n > 0 {
			return next + n
		}
	}
	if next < len(s) {
		if following, after := classAt(s, next); following == classLetter {
			return lettersEnd(s, after)
		}
	}
	return othersEnd(s, next)
}

// classAt returns the class of the character at s[i] and where it ends.
func classAt(s []byte, i int) (class uint8, next int) {
	if c := s[i]; c < utf8.RuneSelf {
		return propBlocks[c] & classMask, i + 1
	}
	r, size := decodeValid(s[i:])
	return property(r) & classMask, i + size
}

// decodeValid decodes the first character of s, which is not ASCII and well formed.
func decodeValid(s []byte) (r int32, size int) {
	switch c := int32(s[0]); {
	case c < 0xE0:
		return c&0x1F<<6 | int32(s[1]&0x3F), 2
	case c < 0xF0:
		_ = s[2]
		return c&0x0F<<12 | int32(s[1]&0x3F)<<6 | int32(s[2]&0x3F), 3
	default:
		_ = s[3]
		return c&0x07<<18 | int32(s[1]&0x3F)<<12 | int32(s[2]&0x3F)<<6 | int32(s[3]&0x3F), 4
	}
}

// The loops below take ASCII first: most text is, and decoding is a call.

func lettersEnd(s []byte, i int) int {
	for i < len(s) {
		if c := s[i]; c < utf8.RuneSelf {
			if propBlocks[c]&classMask != classLetter {
				return i
			}
			i++
			continue
		}
		class, next := classAt(s, i)
		if class != classLetter {
			return i
		}
		i = next
	}
	return i
}

// othersEnd ends ` ?[^\s\p{L}\p{N}]+[\r\n]*`.
func othersEnd(s []byte, i int) int {
	for i < len(s) {
		if c := s[i]; c < utf8.RuneSelf {
			if propBlocks[c]&classMask != classOther {
				break
			}
			i++
			continue
		}
		class, next := classAt(s, i)
		if class != classOther {
			return i
		}
		i = next
	}
	for i < len(s) && (s[i] == '\r' || s[i] == '\n') {
		i++
	}
	return i
}

// spaceEnd ends `\s*[\r\n]+|\s+(?!\S)|\s+`: behind the last newline of the run;
// without one, the whole run at the end of the text, and else all but its last
// character, which then belongs to what follows.
func spaceEnd(s []byte, i int) int {
	newline, last, start := -1, i, i
	for i < len(s) {
		next := i + 1
		switch c := s[i]; {
		case c == '\r' || c == '\n':
			newline = next
		case c >= utf8.RuneSelf:
			var class uint8
			if class, next = classAt(s, i); class != classSpace {
				return spaceCut(start, last, i, newline)
			}
		case propBlocks[c]&classMask != classSpace:
			return spaceCut(start, last, i, newline)
		}
		last, i = i, next
	}
	if newline >= 0 {
		return newline
	}
	return i
}

// spaceCut is spaceEnd for a run that ends at end, before other text; its last
// character begins at last.
func spaceCut(start, last, end, newline int) int {
	switch {
	case newline >= 0:
		return newline
	case last == start:
		return end
	}
	return last
}

// contractionLen returns the length of what makes a contraction behind an
// apostrophe. U+017F folds to s, and no other character beyond ASCII counts.
func contractionLen(s []byte) int {
	if len(s) == 0 {
		return 0
	}
	switch s[0] | 0x20 {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		if len(s) > 1 && s[1]|0x20 == 'e' {
			return 2
		}
	case 'l':
		if len(s) > 1 && s[1]|0x20 == 'l' {
			return 2
		}
	}
	if len(s) > 1 && s[0] == 0xC5 && s[1] == 0xBF {
		return 2
	}
	return 0
}
