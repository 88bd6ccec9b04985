package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

const (
	shortMax = 15  // bytes of a pretoken that fit a key of two words, its length beside them
	longMax  = 256 // longer pretokens hardly come twice

	firstLines = 1 << 8  // 16 KB: what a short text needs
	mostLines  = 1 << 18 // 16 MB: half a million pretokens

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
}

type shortLine [2]shortSlot

// shortSlot: the length stands in hi's upper byte, so no key is all zero; the
// number of ids stands in the upper byte of the first.
type shortSlot struct {
	lo, hi uint64
	ids    [4]int32
}

func newShortCache() shortCache { return shortCache{lines: make([]shortLine, firstLines)} }

func shortHash(lo, hi uint64) uint64 {
	a, b := bits.Mul64(lo^0x9E3779B97F4A7C15, hi^0xD1B54A32D192ED03)
	return a ^ b
}

// line returns the line where a key stands, if it does.
func (c *shortCache) line(lo, hi uint64) *shortLine {
	return &c.lines[shortHash(lo, hi)&uint64(len(c.lines)-1)]
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
	if c.used > len(c.lines) && len(c.lines) < mostLines {
		old := c.lines
		c.lines, c.used = make([]shortLine, 4*len(old)), 0
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
