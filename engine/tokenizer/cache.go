package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

const (
	shortMax = 15  // bytes of a pretoken that fit a key of two words, its length beside them
	longMax  = 256 // longer pretokens hardly come twice

	firstSlots = 1 << 10 // 32 KB: what a short text needs
	mostSlots  = 1 << 17 // 4 MB

	longSlots = 1 << 14
	longBytes = 1 << 20
)

// shortCache remembers pretokens of up to 15 bytes with up to 4 ids: two slots of
// 32 bytes share a cache line, and the older one of a full line makes room.
type shortCache struct {
	slots []shortSlot
	used  int
}

// shortSlot: the length stands in hi's upper byte, so no key is all zero; the
// number of ids stands in the upper byte of the first.
type shortSlot struct {
	lo, hi uint64
	ids    [4]int32
}

func newShortCache() shortCache { return shortCache{slots: make([]shortSlot, firstSlots)} }

// shortKey packs s[i:end], at most 15 bytes, and its length.
func shortKey(s []byte, i, end int) (lo, hi uint64) {
	n := end - i
	if i+16 <= len(s) {
		v := s[i : i+16 : i+16]
		lo, hi = binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:])
		if n <= 8 {
			return lo & (1<<(uint(n)*8) - 1), uint64(n) << 56
		}
		return lo, hi&(1<<(uint(n)*8-64)-1) | uint64(n)<<56
	}
	var v [16]byte
	copy(v[:], s[i:end])
	return binary.LittleEndian.Uint64(v[:]), binary.LittleEndian.Uint64(v[8:]) | uint64(n)<<56
}

func shortHash(lo, hi uint64) uint64 {
	a, b := bits.Mul64(lo^0x9E3779B97F4A7C15, hi^0xD1B54A32D192ED03)
	return a ^ b
}

func (c *shortCache) find(lo, hi uint64) *shortSlot {
	slots := c.slots
	i := shortHash(lo, hi) & uint64(len(slots)-2) // even: the first slot of a line
	if i+1 >= uint64(len(slots)) {
		return nil
	}
	if s := &slots[i]; s.lo == lo && s.hi == hi {
		return s
	}
	if s := &slots[i+1]; s.lo == lo && s.hi == hi {
		return s
	}
	return nil
}

func (c *shortCache) add(s shortSlot) {
	if c.used > len(c.slots)/2 && len(c.slots) < mostSlots {
		old := c.slots
		c.slots, c.used = make([]shortSlot, 4*len(old)), 0
		for _, o := range old {
			if o.hi != 0 {
				c.put(o)
			}
		}
	}
	c.put(s)
}

func (c *shortCache) put(s shortSlot) {
	i := shortHash(s.lo, s.hi) & uint64(len(c.slots)-2)
	if c.slots[i].hi != 0 {
		c.slots[i+1] = c.slots[i]
	}
	c.slots[i] = s
	c.used++
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
	for i := hash & (longSlots - 1); ; i = (i + 1) & (longSlots - 1) {
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
	switch {
	case c.slots == nil:
		c.slots = make([]longSlot, longSlots)
	case c.used > longSlots/2 || len(c.text) > longBytes:
		clear(c.slots)
		c.text, c.ids, c.used = c.text[:0], c.ids[:0], 0
	}
	i := hash & (longSlots - 1)
	for c.slots[i].size != 0 {
		i = (i + 1) & (longSlots - 1)
	}
	c.slots[i] = longSlot{hash, uint32(len(c.text)), uint32(len(c.ids)), uint16(len(piece)), uint16(len(ids))}
	c.text = append(c.text, piece...)
	c.ids = append(c.ids, ids...)
	c.used++
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
