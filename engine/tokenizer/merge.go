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

func (t *mergeTable) home(key uint64, high uint32) int {
	return int((key | uint64(high)) * 0x9E3779B97F4A7C15 >> t.shift)
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
	key := (uint64(left&lowID)<<pairBits | uint64(right&lowID)) << rankBits
	if t.high != nil {
		return t.findHigh(left, right)
	}
	mask := len(t.slots) - 1
	for i := int(key * 0x9E3779B97F4A7C15 >> t.shift); ; i++ {
		s := t.slots[i&mask]
		if d := s ^ key; d < 1<<rankBits || s == 0 {
			return uint32(s&(1<<rankBits-1)) - 1 // noRank in an empty slot
		}
	}
}

// findTwo returns the ranks of the pairs that an id makes with its neighbours. Both are asked
// for before one of them is looked at: the table is larger than the nearest caches.
func (t *mergeTable) findTwo(left, id, right int32) (behind, before uint32) {
	if t.high != nil {
		return t.find(left, id), t.find(id, right)
	}
	key1 := (uint64(left&lowID)<<pairBits | uint64(id&lowID)) << rankBits
	key2 := (uint64(id&lowID)<<pairBits | uint64(right&lowID)) << rankBits
	mask := len(t.slots) - 1
	i1, i2 := int(key1*0x9E3779B97F4A7C15>>t.shift), int(key2*0x9E3779B97F4A7C15>>t.shift)
	s1, s2 := t.slots[i1&mask], t.slots[i2&mask]
	for s1^key1 >= 1<<rankBits && s1 != 0 {
		i1++
		s1 = t.slots[i1&mask]
	}
	for s2^key2 >= 1<<rankBits && s2 != 0 {
		i2++
		s2 = t.slots[i2&mask]
	}
	return uint32(s1&(1<<rankBits-1)) - 1, uint32(s2&(1<<rankBits-1)) - 1
}

func (t *mergeTable) findHigh(left, right int32) (rank uint32) {
	key, high := pairKey(left, right)
	mask := len(t.slots) - 1
	for i := t.home(key, high); ; i++ {
		s := t.slots[i&mask]
		if s == 0 || (s^key) < 1<<rankBits && t.high[i&mask] == high {
			return uint32(s&(1<<rankBits-1)) - 1
		}
	}
}

// manySymbols is where scanning for the lowest rank loses to the heap.
const manySymbols = 40

// merger holds the scratch of merging one pretoken.
type merger struct {
	symbols    []symbol
	prev, next []int32
	heap       []uint64 // rank<<32 | position
}

// symbol is a part of a pretoken; rank is that of the pair that it makes with its
// right neighbour.
type symbol struct {
	id   int32
	rank uint32
}

// merge appends the ids of a pretoken: single bytes, joined lowest rank first,
// leftmost first among equals.
func (m *merger) merge(dst []int32, v *vocabulary, piece []byte) []int32 {
	m.symbols = m.symbols[:0]
	for i, c := range piece {
		s := symbol{v.byteIDs[c], noRank}
		if i+1 < len(piece) {
			s.rank = v.bytePairs[int(c)<<8|int(piece[i+1])] - 1
		}
		m.symbols = append(m.symbols, s)
	}
	if len(piece) > manySymbols {
		return m.mergeHeap(dst, v)
	}
	for _, s := range m.symbols[:m.mergeScan(v)] {
		dst = append(dst, s.id)
	}
	return dst
}

// mergeScan merges in place and returns how many symbols are left. Which pair comes first is
// found without a branch, since none could be foretold.
func (m *merger) mergeScan(v *vocabulary) int {
	symbols := m.symbols
	for {
		first := uint64(noRank) << 32
		for i := range symbols {
			first = min(first, uint64(symbols[i].rank)<<32|uint64(i))
		}
		if first>>32 == uint64(noRank) {
			return len(symbols)
		}
		at, last := int(uint32(first)), len(symbols)-2
		s := &symbols[at]
		s.id, s.rank = v.merged(uint32(first>>32)), noRank
		for i := at + 1; i <= last; i++ {
			symbols[i] = symbols[i+1]
		}
		symbols = symbols[:last+1]
		switch {
		case at > 0 && at < last:
			left := &symbols[at-1]
			left.rank, s.rank = v.merges.findTwo(left.id, s.id, symbols[at+1].id)
		case at < last:
			s.rank = v.merges.find(s.id, symbols[at+1].id)
		case at > 0:
			left := &symbols[at-1]
			left.rank = v.merges.find(left.id, s.id)
		}
	}
}

// mergeHeap merges a long pretoken in O(n log n): a linked list, and a heap whose
// entries are stale when the rank at their position is another.
func (m *merger) mergeHeap(dst []int32, v *vocabulary) []int32 {
	n := len(m.symbols)
	m.prev, m.next, m.heap = m.prev[:0], m.next[:0], m.heap[:0]
	for i, s := range m.symbols {
		m.prev, m.next = append(m.prev, int32(i-1)), append(m.next, int32(i+1))
		if s.rank != noRank {
			m.heap = append(m.heap, uint64(s.rank)<<32|uint64(i))
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sift(i)
	}
	for len(m.heap) > 0 {
		at := int32(uint32(m.heap[0]))
		s, stale := &m.symbols[at], m.symbols[at].rank != uint32(m.heap[0]>>32)
		m.pop()
		if stale {
			continue
		}
		gone := m.next[at]
		m.next[at] = m.next[gone]
		s.id, s.rank, m.symbols[gone].rank = v.merged(s.rank), noRank, noRank
		if right := m.next[at]; int(right) < n {
			m.prev[right] = at
			m.rerank(v, at, right)
		}
		if left := m.prev[at]; left >= 0 {
			m.rerank(v, left, at)
		}
	}
	for i := int32(0); int(i) < n; i = m.next[i] {
		dst = append(dst, m.symbols[i].id)
	}
	return dst
}

// rerank looks up the pair that now begins at position at.
func (m *merger) rerank(v *vocabulary, at, right int32) {
	s := &m.symbols[at]
	s.rank = v.merges.find(s.id, m.symbols[right].id)
	if s.rank == noRank {
		return
	}
	m.heap = append(m.heap, uint64(s.rank)<<32|uint64(at))
	for i := len(m.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if m.heap[up] <= m.heap[i] {
			return
		}
		m.heap[up], m.heap[i] = m.heap[i], m.heap[up]
		i = up
	}
}

func (m *merger) pop() {
	last := len(m.heap) - 1
	m.heap[0] = m.heap[last]
	m.heap = m.heap[:last]
	m.sift(0)
}

// sift moves heap[i] down to its place.
func (m *merger) sift(i int) {
	h := m.heap
	for {
		down := 2*i + 1
		if down >= len(h) {
			return
		}
		if down+1 < len(h) && h[down+1] < h[down] {
			down++
		}
		if h[i] <= h[down] {
			return
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
}
