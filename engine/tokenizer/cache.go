package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

const (
	shortMax = 15  // bytes of a pretoken that fit a key of two words, its length beside them
	longMax  = 256 // longer pretokens hardly come twice

	firstLines = 1 << 8  // 16 KB: what a short text needs
	mostLines  = 1 << 19 // 32 MB: a million pretokens

	midMax    = 31 // bytes of a pretoken that fit a key of four words
	midIDs    = 7
	firstMids = 1 << 6
	mostMids  = 1 << 18 // 16 MB

	firstSlots = 1 << 8
	mostSlots  = 1 << 18
	longBytes  = 1 << 23
)

// shortCache remembers pretokens of up to 15 bytes with up to 4 ids: two slots of
// 32 bytes share a cache line. A full line shares the one beside it; when that is full
// too, the oldest slot makes room.
type shortCache struct {
	lines []shortLine
	used  int
	most  int // lines
}

type shortLine [2]shortSlot

// shortSlot: the length stands in hi's upper byte, so no key is all zero; the
// number of ids stands in the upper byte of the first.
type shortSlot struct {
	lo, hi uint64
	ids    [4]int32
}

func newShortCache() shortCache {
	return shortCache{lines: make([]shortLine, firstLines), most: mostLines}
}

func shortHash(lo, hi uint64) uint64 {
	a, b := bits.Mul64(lo^0x9E3779B97F4A7C15, hi^0xD1B54A32D192ED03)
	return a ^ b
}

// wantedPiece is a pretoken to be looked up: its key and the hash of it. A long pretoken has
// a length that no key in the cache has.
type wantedPiece struct{ lo, hi, hash uint64 }

// pieceMasks keep as many bytes of two words as a pretoken has.
var pieceMasks = [17][2]uint64{
	{0, 0}, {0xFF, 0}, {0xFFFF, 0}, {0xFFFFFF, 0}, {0xFFFFFFFF, 0}, {0xFFFFFFFFFF, 0}, {0xFFFFFFFFFFFF, 0}, {0xFFFFFFFFFFFFFF, 0},
	{1<<64 - 1, 0}, {1<<64 - 1, 0xFF}, {1<<64 - 1, 0xFFFF}, {1<<64 - 1, 0xFFFFFF}, {1<<64 - 1, 0xFFFFFFFF}, {1<<64 - 1, 0xFFFFFFFFFF},
	{1<<64 - 1, 0xFFFFFFFFFFFF}, {1<<64 - 1, 0xFFFFFFFFFFFFFF}, {0, 0},
}

// wantedAt makes a key of the first bytes of s, which has 16 at least.
func wantedAt(s []byte, size int) wantedPiece {
	size = min(size, shortMax+1)
	lo := binary.LittleEndian.Uint64(s) & pieceMasks[size][0]
	hi := binary.LittleEndian.Uint64(s[8:])&pieceMasks[size][1] | uint64(size)<<56
	return wantedPiece{lo, hi, shortHash(lo, hi)}
}

// preparePlain makes the keys of the pretokens between bounds, each of which 16 bytes of text
// follow.
func preparePlain(wanted []wantedPiece, s []byte, bounds []uint32) {
	for k := range wanted {
		wanted[k] = wantedAt(s[bounds[k]:], int(bounds[k+1]-bounds[k]))
	}
}

// emitPlain appends the ids of pretokens up to the first one that is not in its own line, and
// returns how many it found. dst has room for four ids a pretoken.
func (c *shortCache) emitPlain(dst []int32, wanted []wantedPiece) ([]int32, int) {
	for k := range wanted {
		w := &wanted[k]
		line := &c.lines[w.hash&uint64(len(c.lines)-1)]
		slot := &line[0]
		if slot.lo != w.lo || slot.hi != w.hi {
			if slot = &line[1]; slot.lo != w.lo || slot.hi != w.hi {
				return dst, k
			}
		}
		n := len(dst)
		ids := (*[4]int32)(dst[n : n+4])
		*ids = slot.ids
		dst = dst[:n+int(uint32(ids[0])>>24)]
		ids[0] &= maxID
	}
	return dst, len(wanted)
}

// beside returns the slot of a key in the line beside its own, nil if it is not there.
func (c *shortCache) beside(lo, hi uint64) *shortSlot {
	line := &c.lines[(shortHash(lo, hi)&uint64(len(c.lines)-1))^1]
	for i := range line {
		if line[i].lo == lo && line[i].hi == hi {
			return &line[i]
		}
	}
	return nil
}

// add puts a key in that is not there yet. The cache grows while half of it fills.
func (c *shortCache) add(s shortSlot) {
	if c.used > len(c.lines) && len(c.lines) < c.most {
		old := c.lines
		c.lines, c.used = make([]shortLine, min(4*len(old), c.most)), 0
		for i := range old {
			for _, o := range old[i] {
				if o.hi != 0 {
					c.put(o)
				}
			}
		}
	}
	c.put(s)
}

func (c *shortCache) put(s shortSlot) {
	at := shortHash(s.lo, s.hi) & uint64(len(c.lines)-1)
	line, beside := &c.lines[at], &c.lines[at^1]
	c.used++
	switch {
	case line[1].hi == 0:
		line[1] = line[0]
		line[0] = s
	case beside[1].hi == 0:
		beside[1] = beside[0]
		beside[0] = s
	default:
		line[1] = line[0]
		line[0] = s
	}
}

// midCache remembers pretokens of 16 to 31 bytes and those with more than 4 ids, one in a
// cache line. A key has three lines beside each other to stand in.
type midCache struct {
	slots []midSlot
	used  int
	most  int // slots
}

// midSlot: the length stands in the upper byte of the key, the number of ids in n.
type midSlot struct {
	key [4]uint64
	ids [midIDs]int32
	n   int32
}

func midKey(piece []byte) (key [4]uint64, hash uint64) {
	var text [32]byte
	copy(text[:], piece)
	text[31] = byte(len(piece))
	for i := range key {
		key[i] = binary.LittleEndian.Uint64(text[8*i:])
	}
	return key, midHash(&key)
}

func midHash(key *[4]uint64) uint64 {
	return shortHash(key[0]^bits.RotateLeft64(key[2], 32), key[1]^bits.RotateLeft64(key[3], 17))
}

func (c *midCache) find(key *[4]uint64, hash uint64) *midSlot {
	if c.used == 0 {
		return nil
	}
	for i := range uint64(3) {
		if s := &c.slots[(hash+i)&uint64(len(c.slots)-1)]; s.key == *key {
			return s
		}
	}
	return nil
}

func (c *midCache) add(key *[4]uint64, hash uint64, ids []int32) {
	if 2*c.used >= len(c.slots) && len(c.slots) < c.most {
		old := c.slots
		c.slots, c.used = make([]midSlot, min(max(firstMids, 4*len(old)), c.most)), 0
		for i := range old {
			if s := &old[i]; s.n != 0 {
				c.put(s, midHash(&s.key))
			}
		}
	}
	s := midSlot{key: *key, n: int32(len(ids))}
	copy(s.ids[:], ids)
	c.put(&s, hash)
}

func (c *midCache) put(s *midSlot, hash uint64) {
	mask := uint64(len(c.slots) - 1)
	at := hash & mask
	for i := range uint64(3) {
		if c.slots[(hash+i)&mask].n == 0 {
			at = (hash + i) & mask
			c.used++
			break
		}
	}
	c.slots[at] = *s
}

// longCache remembers longer pretokens; when it is full it starts again.
type longCache struct {
	slots []longSlot
	text  []byte
	ids   []int32
	used  int
}

type longSlot struct {
	hash uint64
	text uint32 // where it begins
	ids  uint32
	size uint16 // bytes; 0 in an empty slot
	n    uint16
}

// find returns the ids of piece; they are good until the next add.
func (c *longCache) find(hash uint64, piece []byte) ([]int32, bool) {
	if c.used == 0 {
		return nil, false
	}
	mask := uint64(len(c.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &c.slots[i]
		if s.size == 0 {
			return nil, false
		}
		if s.hash == hash && string(c.text[s.text:s.text+uint32(s.size)]) == string(piece) {
			return c.ids[s.ids : s.ids+uint32(s.n)], true
		}
	}
}

func (c *longCache) add(hash uint64, piece []byte, ids []int32) {
	switch full := 2*c.used >= len(c.slots); {
	case full && len(c.slots) < mostSlots:
		old := c.slots
		c.slots = make([]longSlot, max(firstSlots, 4*len(old)))
		for _, s := range old {
			if s.size != 0 {
				c.slots[c.free(s.hash)] = s
			}
		}
	case full || len(c.text) > longBytes:
		clear(c.slots)
		c.text, c.ids, c.used = c.text[:0], c.ids[:0], 0
	}
	c.slots[c.free(hash)] = longSlot{hash, uint32(len(c.text)), uint32(len(c.ids)), uint16(len(piece)), uint16(len(ids))}
	c.text = append(c.text, piece...)
	c.ids = append(c.ids, ids...)
	c.used++
}

// free returns the index where a hash that is not there belongs.
func (c *longCache) free(hash uint64) uint64 {
	mask := uint64(len(c.slots) - 1)
	i := hash & mask
	for c.slots[i].size != 0 {
		i = (i + 1) & mask
	}
	return i
}

// hashBytes hashes a pretoken of more than 8 bytes.
func hashBytes(s []byte) uint64 {
	h := uint64(len(s))
	for ; len(s) > 8; s = s[8:] {
		h = shortHash(h, binary.LittleEndian.Uint64(s))
	}
	var v [8]byte
	copy(v[:], s)
	return shortHash(h, binary.LittleEndian.Uint64(v[:]))
}
