package tokenizer

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// classify is classifyPlain, by the widest vectors there are.
func classify(masks []classMasks, s []byte) {
	switch {
	case len(masks) == 0:
	case cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512BW:
		_ = s[len(masks)*64-1]
		classify512(&masks[0], &s[0], len(masks), unsafe.StringData(classTable))
	default:
		classifyPlain(masks, s)
	}
}

// classify512 is classify with AVX-512 VBMI: a table of 128 bytes is one permutation.
//
//go:noescape
func classify512(masks *classMasks, s *byte, n int, table *byte)

// prepare is preparePlain; it also asks for the cache lines, so that they are there when
// emit comes.
func (t *cacheTable) prepare(wanted []wantedPiece, s []byte, bounds []uint32) {
	if len(wanted) == 0 {
		return
	}
	_, _ = bounds[len(wanted)], s[bounds[len(wanted)-1]+15]
	prepare(&wanted[0], len(wanted), &s[0], &bounds[0], &t.lines[0], uint64(len(t.lines)-1), &pieceMasks)
}

// emit is emitPlain.
func (t *cacheTable) emit(dst []int32, wanted []wantedPiece) ([]int32, int) {
	if len(wanted) == 0 {
		return dst, 0
	}
	n := len(dst)
	room := dst[n : n+4*len(wanted)]
	done, wrote := emit(&room[0], &wanted[0], len(wanted), &t.lines[0], uint64(len(t.lines)-1))
	return dst[:n+wrote], done
}

//go:noescape
func prepare(wanted *wantedPiece, n int, s *byte, bounds *uint32, lines *cacheLine, mask uint64, masks *[17][2]uint64)

// emit may run while another writes: a slot's hi is written last and read before the ids, and
// the processor keeps both orders.
//
//go:noescape
func emit(dst *int32, wanted *wantedPiece, n int, lines *cacheLine, mask uint64) (done, wrote int)

// classTable has a bit for each class of classMasks, in its order, by ASCII character.
const classTable = "" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x08\x04\x04\x08\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x14\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x00\x00\x00\x00\x00\x00" +
	"\x00\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01" +
	"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00" +
	"\x00\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01" +
	"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00"
