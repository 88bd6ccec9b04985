package tokenizer

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	shortMax = 15  // bytes of a pretoken that fit a key of two words, its length beside them
	longMax  = 256 // longer pretokens hardly come twice

	firstLines = 1 << 8  // 16 KB: what a short text needs
	mostLines  = 1 << 19 // 32 MB: half a million pretokens
	mostProbes = 32      // lines that a key may stand in

	chunkWords = 1 << 16
	mostChunks = 64 // 16 MB
)

// pieceCache remembers the ids of pretokens, for all encoders of a vocabulary.
//
// Readers take no lock. A slot of a table is written once, its word hi last; where half of a table is
// full, one of twice the size takes its place, and an empty one when it may not grow any more.
// Who writes while another does goes without: it is a cache.
type pieceCache struct {
	table atomic.Pointer[cacheTable]
	most  int        // lines
	mu    sync.Mutex // held by who writes: table, and used, words of the one that it points to
}

// cacheTable is one open-addressing table, of cache lines with two slots.
type cacheTable struct {
	lines  []cacheLine
	used   int
	chunks [mostChunks]*[chunkWords]int32 // what slots have no room for
	words  int                            // used of chunks
}

type cacheLine [2]cacheSlot

const lineSize = 64 // bytes

// cacheSlot has up to four ids, and their number in the upper byte of the first. Where hi has the
// bit spilled, ids[0] is their number, and ids[1] says where in the chunks they stand: emit, which
// compares whole words, goes past such a slot without asking.
type cacheSlot struct {
	lo, hi uint64
	ids    [4]int32
}

const spilled = 1 << 63

func newPieceCache() *pieceCache {
	c := &pieceCache{most: mostLines}
	c.table.Store(&cacheTable{lines: make([]cacheLine, firstLines)})
	return c
}

// wantedPiece is a pretoken to be looked up: its key and the hash of it. The key of up to 15
// bytes is these and their number in hi's upper byte, so that no key is all zero. That of a
// longer one has a hash, and 16 as number; its text stands behind its ids.
type wantedPiece struct{ lo, hi, hash uint64 }

func (w *wantedPiece) long() bool { return w.hi>>56 > shortMax }

// pieceMasks keep as many bytes of two words as a pretoken has, and add that number; the fourth word is room.
var pieceMasks = newPieceMasks()

func newPieceMasks() (masks [shortMax + 1][4]uint64) {
	for size := range uint64(shortMax + 1) {
		masks[size] = [4]uint64{1<<(8*min(size, 8)) - 1, 1<<(8*max(size, 8)-64) - 1, size << 56}
	}
	return masks
}

// wantedAt makes a key of the first bytes of s, which has 16 at least.
func wantedAt(s []byte, size int) wantedPiece {
	if size > shortMax {
		return wantedLong(s[:size])
	}
	m := &pieceMasks[size]
	lo, hi := binary.LittleEndian.Uint64(s)&m[0], binary.LittleEndian.Uint64(s[8:])&m[1]|m[2]
	return wantedPiece{lo, hi, mix(lo, hi)}
}

// wantedLong makes the key of a pretoken of more than 15 bytes; beyond longMax none is kept,
// and the first bytes do.
func wantedLong(piece []byte) wantedPiece {
	lo, hi := uint64(0), uint64(16)<<56|uint64(len(piece))
	piece = piece[:min(len(piece), longMax)]
	last := binary.LittleEndian.Uint64(piece[len(piece)-8:])
	for ; len(piece) > 8; piece = piece[8:] {
		lo = mix(lo, binary.LittleEndian.Uint64(piece))
	}
	lo = mix(lo, last)
	return wantedPiece{lo, hi, mix(lo, hi)}
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9E3779B97F4A7C15, b^0xD1B54A32D192ED03)
	return hi ^ lo
}

// preparePlain makes the keys of the pretokens between bounds, each of which 16 bytes of text
// follow.
func preparePlain(wanted []wantedPiece, s []byte, bounds []uint32) {
	for k := range wanted {
		wanted[k] = wantedAt(s[bounds[k]:], int(bounds[k+1]-bounds[k]))
	}
}

// has says whether a slot has a key and ids beside it. They may be read then, since hi was written last.
func (s *cacheSlot) has(w *wantedPiece) bool { return atomic.LoadUint64(&s.hi) == w.hi && s.lo == w.lo }

// line returns the number of the line where a key belongs; offset tells the assembly the same by one operation.
func (t *cacheTable) line(w *wantedPiece) uint64 { return w.hash / lineSize & uint64(len(t.lines)-1) }

// offset is the mask for a hash that leaves where its line begins, in bytes.
func (t *cacheTable) offset() uint64 { return uint64(len(t.lines)-1) * lineSize }

// emitPlain appends the ids of pretokens up to the first one that has none in a slot of its own
// line, and returns how many it found. dst has room for four ids a pretoken.
func (t *cacheTable) emitPlain(dst []int32, wanted []wantedPiece) ([]int32, int) {
	for k := range wanted {
		w := &wanted[k]
		line := &t.lines[t.line(w)]
		slot := &line[0]
		if !slot.has(w) {
			if slot = &line[1]; !slot.has(w) {
				return dst, k
			}
		}
		count, n := int(uint32(slot.ids[0])>>24), len(dst)
		ids := (*[4]int32)(dst[n : n+4])
		*ids = slot.ids
		dst = dst[:n+count]
		ids[0] &= maxID
	}
	return dst, len(wanted)
}

// find appends the ids of a pretoken, wherever in the table they are.
func (t *cacheTable) find(dst []int32, w *wantedPiece, piece []byte) (out []int32, found bool) {
	for i := range uint64(mostProbes) {
		line := &t.lines[(t.line(w)+i)&uint64(len(t.lines)-1)]
		for k := range line {
			slot := &line[k]
			hi := atomic.LoadUint64(&slot.hi)
			if hi&^spilled != w.hi || slot.lo != w.lo {
				continue
			}
			if hi&spilled == 0 {
				n := len(dst)
				dst = append(dst, slot.ids[:uint32(slot.ids[0])>>24]...)
				dst[n] &= maxID
				return dst, true
			}
			n, words := int(slot.ids[0]), t.at(int(slot.ids[1]))
			if !w.long() || string(textOf(words[n:], len(piece))) == string(piece) {
				return append(dst, words[:n]...), true
			}
		}
		if atomic.LoadUint64(&line[1].hi) == 0 {
			break
		}
	}
	return dst, false
}

func (t *cacheTable) at(word int) []int32 { return t.chunks[word/chunkWords][word%chunkWords:] }

// textOf is the first bytes of words.
func textOf(words []int32, size int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), 4*len(words))[:size]
}

// add remembers the ids of a pretoken of up to longMax bytes.
func (c *pieceCache) add(w *wantedPiece, piece []byte, ids []int32) {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	t := c.table.Load()
	if t.used > len(t.lines) || t.words > (mostChunks-1)*chunkWords {
		t = t.next(c.most)
		c.table.Store(t)
	}
	slot := t.free(w)
	if slot == nil {
		return
	}
	hi := w.hi
	if len(ids) <= len(slot.ids) && !w.long() {
		copy(slot.ids[:], ids)
		slot.ids[0] |= int32(len(ids) << 24)
	} else {
		slot.ids[0], slot.ids[1] = int32(len(ids)), int32(t.spill(w, piece, ids))
		hi |= spilled
	}
	slot.lo = w.lo
	atomic.StoreUint64(&slot.hi, hi)
	t.used++
}

// free returns the slot where a key that is not there belongs, nil if there is none or the key
// is there. A line fills from its first slot.
func (t *cacheTable) free(w *wantedPiece) *cacheSlot {
	for i := range uint64(mostProbes) {
		line := &t.lines[(t.line(w)+i)&uint64(len(t.lines)-1)]
		for k := range line {
			switch slot := &line[k]; {
			case slot.hi == 0:
				return slot
			case slot.hi&^spilled == w.hi && slot.lo == w.lo:
				return nil
			}
		}
	}
	return nil
}

// spill puts ids into a chunk, and the text of a long pretoken behind them.
func (t *cacheTable) spill(w *wantedPiece, piece []byte, ids []int32) (word int) {
	size := len(ids)
	if w.long() {
		size += (len(piece) + 3) / 4
	}
	if rest := chunkWords - t.words%chunkWords; rest < size {
		t.words += rest
	}
	word = t.words
	t.words += size
	if t.chunks[word/chunkWords] == nil {
		t.chunks[word/chunkWords] = new([chunkWords]int32)
	}
	words := t.at(word)
	copy(words, ids)
	if w.long() {
		copy(textOf(words[len(ids):], len(piece)), piece)
	}
	return word
}

// next returns the table that takes the place of a full one: of twice the size with all that
// it has, or an empty one where it would have more than most lines.
func (t *cacheTable) next(most int) *cacheTable {
	size := 2 * len(t.lines)
	if size > most || t.words > (mostChunks-1)*chunkWords {
		return &cacheTable{lines: make([]cacheLine, firstLines)}
	}
	n := &cacheTable{lines: make([]cacheLine, size), chunks: t.chunks, words: t.words}
	hugePages(unsafe.Pointer(&n.lines[0]), size*int(unsafe.Sizeof(cacheLine{})))
	for i := range t.lines {
		for k := range t.lines[i] {
			old := &t.lines[i][k]
			if old.hi == 0 {
				break
			}
			hi := old.hi &^ spilled
			if slot := n.free(&wantedPiece{old.lo, hi, mix(old.lo, hi)}); slot != nil {
				*slot = *old
				n.used++
			}
		}
	}
	return n
}

const largePage = 2 << 20

// largeWords makes words that fill whole large pages, if they are so many; the rest of what is
// made is never touched.
func largeWords(n int) []uint64 {
	if n*8 < largePage {
		return make([]uint64, n)
	}
	all := make([]uint64, n+largePage/8)
	skip := -uintptr(unsafe.Pointer(&all[0])) & (largePage - 1) / 8
	words := all[skip:][:n:n]
	hugePages(unsafe.Pointer(&words[0]), 8*n)
	return words
}

// hashBytes hashes a token.
func hashBytes(s []byte) uint64 {
	h := uint64(len(s))
	for ; len(s) > 8; s = s[8:] {
		h = mix(h, binary.LittleEndian.Uint64(s))
	}
	var v [8]byte
	copy(v[:], s)
	return mix(h, binary.LittleEndian.Uint64(v[:]))
}
