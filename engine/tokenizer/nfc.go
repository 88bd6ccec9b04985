package tokenizer

import (
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// NFC as UAX #15 has it, without the stream-safe limit of golang.org/x/text:
// Hugging Face's has none either, and a joiner inserted behind 30 marks would
// change ids. Text is cut into chunks that start at a boundary: a character of
// class 0 that composes with nothing before it. Only chunks that the quick check
// doubts are decomposed.

// Hangul syllables compose by arithmetic (The Unicode Standard, 3.12).
const (
	hangulBase              = 0xAC00
	jamoL, jamoV, jamoT     = 0x1100, 0x1161, 0x11A7
	jamoLs, jamoVs, jamoT28 = 19, 21, 28
	hangulCount             = jamoLs * jamoVs * jamoT28
)

// mark is a code point with its canonical combining class.
type mark struct {
	r     int32
	class uint8
}

// normalizer holds the scratch of one chunk.
type normalizer struct {
	chunk []mark
}

// NFC returns the canonical composition of s by this package's tables (see UnicodeVersion), which are newer than
// Go's own: what it returns is what encoding would make of s anyway. s that is NFC already is returned as it is.
// Ill-formed UTF-8 becomes U+FFFD.
func NFC(s string) string {
	b := []byte(strings.ToValidUTF8(s, "\ufffd"))
	if from, _ := doubtful(b); from == len(b) {
		return string(b)
	}
	var n normalizer
	return string(n.appendNFC(nil, b))
}

// appendNFC appends the NFC of s, which must be valid UTF-8.
func (n *normalizer) appendNFC(dst, s []byte) []byte {
	for {
		from, to := doubtful(s)
		dst = append(dst, s[:from]...)
		if from == len(s) {
			return dst
		}
		dst = n.appendChunk(dst, s[from:to])
		s = s[to:]
	}
}

// doubtful returns the first chunk that may not be NFC; from is len(s) when all
// is. s must be valid UTF-8.
func doubtful(s []byte) (from, to int) {
	boundary, last, starter := 0, uint8(0), int32(-1)
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i += asciiLen(s[i:])
			boundary, last, starter = i-1, 0, int32(s[i-1])
			continue
		}
		r, size := decodeValid(s[i:])
		if p := property(r); p&(propMark|propMaybe) == 0 {
			boundary, last, starter = i, 0, r
		} else {
			class := combiningClass(r)
			if class < last && class != 0 || p&propMaybe != 0 && !staysComposed(starter, r, class) {
				return boundary, nextBoundary(s, i+size)
			}
			if last = class; class == 0 {
				starter = r
			}
		}
		i += size
	}
	return len(s), len(s)
}

// nextBoundary returns where the chunk that holds s[i-1] ends.
func nextBoundary(s []byte, i int) int {
	for i < len(s) {
		r, size := utf8.DecodeRune(s[i:])
		if property(r)&(propMark|propMaybe) == 0 {
			return i
		}
		i += size
	}
	return i
}

// appendChunk decomposes, orders and composes one chunk.
func (n *normalizer) appendChunk(dst, s []byte) []byte {
	n.chunk = n.chunk[:0]
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRune(s[i:])
		n.decompose(r)
		i += size
	}
	n.order()
	for _, m := range n.compose() {
		dst = utf8.AppendRune(dst, m.r)
	}
	return dst
}

func (n *normalizer) decompose(r int32) {
	if r >= hangulBase && r < hangulBase+hangulCount {
		s := r - hangulBase
		n.chunk = append(n.chunk, mark{jamoL + s/(jamoVs*jamoT28), 0},
			mark{jamoV + s/jamoT28%jamoVs, 0})
		if t := s % jamoT28; t != 0 {
			n.chunk = append(n.chunk, mark{jamoT + t, 0})
		}
		return
	}
	i, ok := slices.BinarySearch(decomposed[:], r)
	if !ok {
		n.chunk = append(n.chunk, mark{r, combiningClass(r)})
		return
	}
	for _, d := range decompositions[decomposedAt[i]:decomposedAt[i+1]] {
		n.chunk = append(n.chunk, mark{d, combiningClass(d)})
	}
}

// order sorts each run of marks by class; marks of one class keep their order.
func (n *normalizer) order() {
	for i := 0; i < len(n.chunk); {
		if n.chunk[i].class == 0 {
			i++
			continue
		}
		j := i
		for j < len(n.chunk) && n.chunk[j].class != 0 {
			j++
		}
		run := n.chunk[i:j]
		slices.SortStableFunc(run, func(a, b mark) int { return int(a.class) - int(b.class) })
		i = j
	}
}

// compose joins each character with the last starter unless one between them
// blocks it: a starter, or a mark of the same or a higher class.
func (n *normalizer) compose() []mark {
	out, starter, last := n.chunk[:0], -1, uint8(0)
	for _, m := range n.chunk {
		if starter >= 0 && (len(out)-1 == starter || last < m.class) {
			if r := compose(out[starter].r, m.r); r != 0 {
				out[starter].r = r
				continue
			}
		}
		if m.class == 0 {
			starter = len(out)
		}
		last = m.class
		out = append(out, m)
	}
	return out
}

// compose returns the primary composite of two characters, 0 if there is none.
func compose(a, b int32) int32 {
	switch {
	case a >= jamoL && a < jamoL+jamoLs && b >= jamoV && b < jamoV+jamoVs:
		return hangulBase + ((a-jamoL)*jamoVs+b-jamoV)*jamoT28
	case a >= hangulBase && a < hangulBase+hangulCount && (a-hangulBase)%jamoT28 == 0 && b > jamoT && b < jamoT+jamoT28:
		return a + b - jamoT
	}
	pair := uint64(a)<<32 | uint64(b)
	i := sort.Search(len(composites), func(i int) bool { return composites[i].pair >= pair })
	if i < len(composites) && composites[i].pair == pair {
		return composites[i].to
	}
	return 0
}

// combiningClass returns the canonical combining class of r.
func combiningClass(r int32) uint8 {
	if property(r)&propMark == 0 {
		return 0
	}
	i := sort.Search(len(combining), func(i int) bool { return combining[i].hi >= r })
	return combining[i].class
}
