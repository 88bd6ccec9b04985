package tokenizer

import (
	"slices"

	"golang.org/x/sys/cpu"
)

// classify is classifyPlain, by the widest vectors there are.
func (t *classTables) classify(masks []classMasks, s []byte) {
	switch {
	case len(masks) == 0:
	case cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512BW:
		_ = s[len(masks)*64]
		classify512(&masks[0], &s[0], len(masks), t)
	default:
		t.classifyPlain(masks, s)
	}
}

// classify512 is classify with AVX-512 VBMI: looking up in a bitmap of 128 bytes is one permutation.
//
//go:noescape
func classify512(masks *classMasks, s *byte, n int, tables *classTables)

// appendPositions is positionsPlain.
func appendPositions(dst []uint32, masks []uint64, from uint32) []uint32 {
	if len(masks) == 0 || !cpu.X86.HasAVX512VBMI2 || !cpu.X86.HasAVX512BW {
		return positionsPlain(dst, masks, from)
	}
	n := len(dst)
	dst = slices.Grow(dst, 64*len(masks))
	return dst[:n+positions512(&dst[:n+1][n], &masks[0], len(masks), from)]
}

// positions512 is positionsPlain with AVX-512 VBMI2, which packs the numbers of a mask's bits. It may write 64 positions for
// each mask, and returns how many count.
//
//go:noescape
func positions512(dst *uint32, masks *uint64, n int, from uint32) int

// settled is settledPlain, or more: the number of blocks of 64 bytes at the beginning of s, which
// is the beginning of a character, that are valid and of which NFC needs no closer look. What
// the last character of the last one goes on with is not looked at.
func (t *classTables) settled(s []byte) int {
	if len(s) < 64 || !cpu.X86.HasAVX512VBMI || !cpu.X86.HasAVX512BW {
		return settledPlain(s)
	}
	return settled512(&s[0], len(s)/64, t)
}

// settled512 is settled with AVX-512 VBMI.
//
//go:noescape
func settled512(s *byte, n int, tables *classTables) int

// prepare is preparePlain; it also asks for the cache lines, so that they are there when
// emit comes.
func (t *cacheTable) prepare(wanted []wantedPiece, s []byte, bounds []uint32) {
	if len(wanted) == 0 {
		return
	}
	_, _ = bounds[len(wanted)], s[bounds[len(wanted)-1]+15]
	prepare(&wanted[0], len(wanted), &s[0], &bounds[0], &t.lines[0], t.offset(), &pieceMasks)
}

// emit is emitPlain.
func (t *cacheTable) emit(dst []int32, wanted []wantedPiece) ([]int32, int) {
	if len(wanted) == 0 {
		return dst, 0
	}
	n := len(dst)
	room := dst[n : n+4*len(wanted)]
	done, wrote := emit(&room[0], &wanted[0], len(wanted), &t.lines[0], t.offset())
	return dst[:n+wrote], done
}

//go:noescape
func prepare(wanted *wantedPiece, n int, s *byte, bounds *uint32, lines *cacheLine, offset uint64, masks *[shortMax + 1][4]uint64)

// emit may run while another writes: a slot's hi is written last and read before the ids, and
// the processor keeps both orders.
//
//go:noescape
func emit(dst *int32, wanted *wantedPiece, n int, lines *cacheLine, offset uint64) (done, wrote int)
