package tokenizer

import "math/bits"

// manyIDs is where scanning for the lowest rank loses to the heap.
const manyIDs = 48

// merger holds the scratch of merging one pretoken.
type merger struct {
	ids  []int32
	keys [(manyIDs + 7) &^ 7]uint64 // of the pair that begins at each position: rank<<8 | position

	// Of mergeHeap.
	symbols    []symbol
	prev, next []int32
	heap       []uint64 // rank<<32 | position
}

// merge appends the ids of a pretoken: its units, or single bytes, joined lowest rank first,
// leftmost first among equals.
func (m *merger) merge(dst []int32, v *vocabulary, piece []byte) []int32 {
	m.ids = v.appendUnits(m.ids[:0], piece)
	switch n := len(m.ids); {
	case n < 2:
		return append(dst, m.ids...)
	case n > manyIDs:
		return m.mergeHeap(dst, v)
	}
	for left := m.mergeFew(v); left != 0; left &= left - 1 {
		dst = append(dst, m.ids[bits.TrailingZeros64(left)])
	}
	return dst
}

// noKey stands behind every key.
const noKey = uint64(noRank) << 8

// mergeFew merges in place and returns the positions of what is left, a bit each. Which pair
// comes first is found without a branch, since none could be foretold.
func (m *merger) mergeFew(v *vocabulary) (left uint64) {
	ids, n := m.ids, len(m.ids)
	keys := m.keys[:(n+7)&^7]
	v.merges.findAll(keys[:n-1], ids)
	for i := range n - 1 {
		keys[i] = keys[i]<<8 | uint64(i)
	}
	for i := n - 1; i < len(keys); i++ {
		keys[i] = noKey
	}
	left = 1<<n - 1
	for {
		first := lowest(keys)
		if first >= noKey {
			return left
		}
		at := int(first & 63)
		before, behind := left&(1<<at-1), left&^(2<<at-1)
		gone := bits.TrailingZeros64(behind) & 63
		left &^= 1 << gone
		behind &^= 1 << gone
		id := v.merged(uint32(first >> 8))
		ids[at], keys[gone] = id, noKey

		// Where there is no neighbour the id stands for one, and what it makes with itself does not count.
		prev, next := max(bits.Len64(before)-1, 0), bits.TrailingZeros64(behind)
		if behind == 0 {
			next = at
		}
		withPrev, withNext := v.merges.findTwo(ids[prev], id, ids[next])
		if behind == 0 {
			withNext = noRank
		}
		keys[prev] = uint64(withPrev)<<8 | uint64(prev) // the first id's is set below
		keys[at] = uint64(withNext)<<8 | uint64(at)
	}
}

// lowest returns the lowest of keys, of which there are a multiple of eight.
func lowest(keys []uint64) uint64 {
	first := noKey
	for ; len(keys) >= 8; keys = keys[8:] {
		k := (*[8]uint64)(keys)
		first = lesser(first, lesser(lesser(lesser(k[0], k[1]), lesser(k[2], k[3])), lesser(lesser(k[4], k[5]), lesser(k[6], k[7]))))
	}
	return first
}

// lesser is min without a branch, for numbers below 1<<63.
func lesser(a, b uint64) uint64 {
	d := int64(a - b)
	return b + uint64(d&(d>>63))
}

// symbol is a part of a long pretoken; rank is that of the pair that it makes with its
// right neighbour.
type symbol struct {
	id   int32
	rank uint32
}

// mergeHeap merges a long pretoken in O(n log n): a linked list, and a heap whose
// entries are stale when the rank at their position is another.
func (m *merger) mergeHeap(dst []int32, v *vocabulary) []int32 {
	n := len(m.ids)
	m.symbols, m.prev, m.next, m.heap = m.symbols[:0], m.prev[:0], m.next[:0], m.heap[:0]
	for i, id := range m.ids {
		s := symbol{id, noRank}
		if i+1 < n {
			s.rank = v.merges.find(id, m.ids[i+1])
		}
		m.symbols = append(m.symbols, s)
	}
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
