package tokenizer

import "math/bits"

// noRank stands behind every rank: the pair does not merge.
const noRank = ^uint32(0)

// mergeTable maps a pair of ids to its rank and the id that it becomes, in one
// flat open-addressing table.
type mergeTable struct {
	slots []mergeSlot
	shift uint8
}

type mergeSlot struct {
	left, right int32 // left is -1 in an empty slot
	rank        uint32
	to          int32
}

func newMergeTable(n int) mergeTable {
	log := max(4, bits.Len(uint(n)*3/2))
	t := mergeTable{make([]mergeSlot, 1<<log), uint8(64 - log)}
	for i := range t.slots {
		t.slots[i].left = -1
	}
	return t
}

func (t *mergeTable) home(left, right int32) int {
	return int((uint64(uint32(left))<<32 | uint64(uint32(right))) * 0x9E3779B97F4A7C15 >> t.shift)
}

// add puts a pair in; a pair that stands already takes the new rank, as in
// Hugging Face's reader.
func (t *mergeTable) add(left, right int32, rank uint32, to int32) {
	mask := len(t.slots) - 1
	i := t.home(left, right)
	for t.slots[i].left >= 0 && (t.slots[i].left != left || t.slots[i].right != right) {
		i = (i + 1) & mask
	}
	t.slots[i] = mergeSlot{left, right, rank, to}
}

// find returns the rank of a pair and its id, or noRank.
func (t *mergeTable) find(left, right int32) (rank uint32, to int32) {
	mask := len(t.slots) - 1
	for i := t.home(left, right); ; i = (i + 1) & mask {
		s := &t.slots[i&mask]
		if s.left == left && s.right == right {
			return s.rank, s.to
		}
		if s.left < 0 {
			return noRank, 0
		}
	}
}

// manySymbols is where scanning for the lowest rank loses to the heap.
const manySymbols = 40

// merger holds the scratch of merging one pretoken.
type merger struct {
	ids        []int32
	ranks      []uint32 // ranks[i] is that of ids[i] with its right neighbour
	tos        []int32
	prev, next []int32
	heap       []uint64 // rank<<32 | position
}

// merge appends the ids of a pretoken: single bytes, joined lowest rank first,
// leftmost first among equals.
func (m *merger) merge(dst []int32, v *vocabulary, piece []byte) []int32 {
	n := len(piece)
	m.ids, m.ranks, m.tos = m.ids[:0], m.ranks[:0], m.tos[:0]
	for _, c := range piece {
		m.ids = append(m.ids, v.byteIDs[c])
	}
	for i := 0; i+1 < n; i++ {
		rank, to := v.merges.find(m.ids[i], m.ids[i+1])
		m.ranks, m.tos = append(m.ranks, rank), append(m.tos, to)
	}
	m.ranks, m.tos = append(m.ranks, noRank), append(m.tos, 0)
	if n > manySymbols {
		return m.mergeHeap(dst, v)
	}
	return append(dst, m.ids[:m.mergeScan(v)]...)
}

// mergeScan merges in place and returns how many ids are left.
func (m *merger) mergeScan(v *vocabulary) int {
	n := len(m.ids)
	ids, ranks, tos := m.ids[:n:n], m.ranks[:n:n], m.tos[:n:n]
	for {
		best, at := noRank, 0
		for i, r := range ranks[:n] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			return n
		}
		ids[at] = tos[at]
		copy(ids[at+1:], ids[at+2:n])
		copy(ranks[at+1:], ranks[at+2:n])
		copy(tos[at+1:], tos[at+2:n])
		n--
		ranks[at] = noRank
		if at+1 < n {
			ranks[at], tos[at] = v.merges.find(ids[at], ids[at+1])
		}
		if at > 0 {
			ranks[at-1], tos[at-1] = v.merges.find(ids[at-1], ids[at])
		}
	}
}

// mergeHeap merges a long pretoken in O(n log n): a linked list, and a heap whose
// entries are stale when the rank at their position is another.
func (m *merger) mergeHeap(dst []int32, v *vocabulary) []int32 {
	n := len(m.ids)
	m.prev, m.next, m.heap = m.prev[:0], m.next[:0], m.heap[:0]
	for i := range n {
		m.prev, m.next = append(m.prev, int32(i-1)), append(m.next, int32(i+1))
		if m.ranks[i] != noRank {
			m.heap = append(m.heap, uint64(m.ranks[i])<<32|uint64(i))
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sift(i)
	}
	for len(m.heap) > 0 {
		top := m.heap[0]
		at := int32(uint32(top))
		if m.ranks[at] != uint32(top>>32) {
			m.pop()
			continue
		}
		gone := m.next[at]
		m.ids[at], m.next[at] = m.tos[at], m.next[gone]
		m.ranks[gone], m.ranks[at] = noRank, noRank
		m.pop()
		if int(m.next[at]) < n {
			m.prev[m.next[at]] = at
			m.rerank(v, at, m.next[at])
		}
		if m.prev[at] >= 0 {
			m.rerank(v, m.prev[at], at)
		}
	}
	for i := int32(0); int(i) < n; i = m.next[i] {
		dst = append(dst, m.ids[i])
	}
	return dst
}

// rerank looks up the pair that now begins at position at.
func (m *merger) rerank(v *vocabulary, at, right int32) {
	m.ranks[at], m.tos[at] = v.merges.find(m.ids[at], m.ids[right])
	if m.ranks[at] == noRank {
		return
	}
	m.heap = append(m.heap, uint64(m.ranks[at])<<32|uint64(at))
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
