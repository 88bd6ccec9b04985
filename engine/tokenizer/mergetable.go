package tokenizer

import "math/bits"

// noRank stands behind every rank: the pair does not merge.
const noRank = ^uint32(0)

// mergeTable maps a pair of ids to its rank, in one flat open-addressing table of words: 18
// bits for each id, 28 for the rank and one, so that no word of a pair is 0. A vocabulary with
// more ids than that has the upper bits beside, in high.
type mergeTable struct {
	slots []uint64
	high  []uint32 // by slot: left>>18<<16 | right>>18; nil where all are 0
	shift uint8
}

const (
	pairBits = 18
	rankBits = 28
	lowID    = 1<<pairBits - 1
)

func newMergeTable(n int, ids int) mergeTable {
	log := max(4, bits.Len(uint(n)*3/2))
	t := mergeTable{slots: largeWords(1 << log), shift: uint8(64 - log)}
	if ids > lowID+1 {
		t.high = make([]uint32, 1<<log)
	}
	return t
}

func pairKey(left, right int32) (key uint64, high uint32) {
	return (uint64(left&lowID)<<pairBits | uint64(right&lowID)) << rankBits, uint32(left>>pairBits)<<16 | uint32(right>>pairBits)
}

// home is the slot where a pair stands, or one before it.
func (t *mergeTable) home(key uint64, high uint32) int {
	return int((key | uint64(high)) * 0x9E3779B97F4A7C15 >> (t.shift & 63))
}

// add puts a pair in; a pair that stands already takes the new rank, as in
// Hugging Face's reader.
func (t *mergeTable) add(left, right int32, rank uint32) {
	key, high := pairKey(left, right)
	mask := len(t.slots) - 1
	i := t.home(key, high)
	for t.slots[i] != 0 && (t.slots[i]>>rankBits != key>>rankBits || t.high != nil && t.high[i] != high) {
		i = (i + 1) & mask
	}
	t.slots[i] = key | uint64(rank+1)
	if t.high != nil {
		t.high[i] = high
	}
}

// find returns the rank of a pair, or noRank.
func (t *mergeTable) find(left, right int32) (rank uint32) {
	key, high := pairKey(left, right)
	if t.high != nil {
		return t.findHigh(key, high)
	}
	i := t.home(key, 0)
	return t.findFrom(i, t.slots[i&(len(t.slots)-1)], key)
}

// findFrom goes on from slot i, whose word is s.
func (t *mergeTable) findFrom(i int, s, key uint64) (rank uint32) {
	for s^key >= 1<<rankBits && s != 0 {
		i++
		s = t.slots[i&(len(t.slots)-1)]
	}
	return uint32(s&(1<<rankBits-1)) - 1 // noRank in an empty slot
}

func (t *mergeTable) findHigh(key uint64, high uint32) (rank uint32) {
	mask := len(t.slots) - 1
	for i := t.home(key, high); ; i++ {
		s := t.slots[i&mask]
		if s == 0 || s^key < 1<<rankBits && t.high[i&mask] == high {
			return uint32(s&(1<<rankBits-1)) - 1
		}
	}
}

// findTwo returns the ranks of the pairs that an id makes with its neighbours. Both are asked
// for before one of them is looked at: the table is larger than the nearest caches.
func (t *mergeTable) findTwo(left, id, right int32) (behind, before uint32) {
	if t.high != nil {
		return t.find(left, id), t.find(id, right)
	}
	key1, _ := pairKey(left, id)
	key2, _ := pairKey(id, right)
	i1, i2, mask := t.home(key1, 0), t.home(key2, 0), len(t.slots)-1
	s1, s2 := t.slots[i1&mask], t.slots[i2&mask]
	return t.findFrom(i1, s1, key1), t.findFrom(i2, s2, key2)
}

// findAll sets ranks to those of the pairs of neighbours among ids, which has one more. All are
// asked for before one of them is looked at.
func (t *mergeTable) findAll(ranks []uint64, ids []int32) {
	if t.high != nil {
		for i := range ranks {
			ranks[i] = uint64(t.find(ids[i], ids[i+1]))
		}
		return
	}
	mask := len(t.slots) - 1
	for i := range ranks {
		key, _ := pairKey(ids[i], ids[i+1])
		ranks[i] = t.slots[t.home(key, 0)&mask]
	}
	for i, s := range ranks {
		key, _ := pairKey(ids[i], ids[i+1])
		ranks[i] = uint64(t.findFrom(t.home(key, 0), s, key))
	}
}
