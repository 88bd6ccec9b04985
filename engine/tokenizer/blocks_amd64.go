package tokenizer

import "golang.org/x/sys/cpu"

// classify is classifyPlain, by the widest vectors there are.
func classify(masks []classMasks, s []byte) int {
	if !cpu.X86.HasAVX512VBMI || !cpu.X86.HasAVX512BW {
		return classifyPlain(masks, s)
	}
	if len(masks) == 0 {
		return 0
	}
	_ = s[len(masks)*64-1]
	return classify512(&masks[0], &s[0], len(masks), &classTable)
}

// classTable has a bit for each class of classMasks, in its order, by ASCII character.
var classTable = makeClassTable()

func makeClassTable() (t [128]byte) {
	for c := range t {
		switch propBlocks[c] & classMask {
		case classLetter:
			t[c] = 1
		case classNumber:
			t[c] = 2
		case classSpace:
			t[c] = 4
		}
		switch c {
		case '\r', '\n':
			t[c] = 8
		case ' ':
			t[c] |= 16
		case '\'':
			t[c] |= 32
		}
	}
	return t
}

// classify512 is classify with AVX-512 VBMI: a table of 128 bytes is one permutation.
//
//go:noescape
func classify512(masks *classMasks, s *byte, n int, table *[128]byte) int
