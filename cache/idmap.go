package cache

import (
	"hash/maphash"
	"iter"
)

// IDMap is a map for very many IDs. Where Go's own keeps up to two slots for each key, with room for key and value in
// either, this one keeps numbers of four bytes in the slots, and keys and values once, in the order in which they came. The zero value is
// empty. It forgets nothing.
type IDMap[V any] struct {
	seed  maphash.Seed // or whoever may name objects could choose names that fall into one slot
	slots []uint32     // a power of two of them, at most three quarters taken; 0: free, else 1 + a pair's number
	pages [][]idPair[V]
	count int
}

type idPair[V any] struct {
	id    ID
	value V
}

// pageSize is how many pairs grow together: a slice of all would be copied again and again.
const pageSize = 1 << 10

// Len is how many IDs there are.
func (m *IDMap[V]) Len() int { return m.count }

// Get is the value of id, if it is there.
func (m *IDMap[V]) Get(id ID) (V, bool) {
	if m.count > 0 {
		if n := m.slots[m.slot(&id)]; n > 0 {
			return m.pair(n).value, true
		}
	}
	var none V
	return none, false
}

// Has tells whether id is there.
func (m *IDMap[V]) Has(id ID) bool {
	_, ok := m.Get(id)
	return ok
}

// Put sets the value of id.
func (m *IDMap[V]) Put(id ID, value V) {
	if 4*(m.count+1) > 3*len(m.slots) {
		m.grow()
	}
	at := m.slot(&id)
	if n := m.slots[at]; n > 0 {
		m.pair(n).value = value
		return
	}
	if m.count%pageSize == 0 {
		m.pages = append(m.pages, make([]idPair[V], 0, min(m.count, pageSize))) // the first grows as it fills
	}
	last := &m.pages[len(m.pages)-1]
	*last = append(*last, idPair[V]{id, value})
	m.count++
	m.slots[at] = uint32(m.count)
}

// All gives all IDs with their values, in the order in which they came.
func (m *IDMap[V]) All() iter.Seq2[ID, V] {
	return func(yield func(ID, V) bool) {
		for _, page := range m.pages {
			for i := range page {
				if !yield(page[i].id, page[i].value) {
					return
				}
			}
		}
	}
}

func (m *IDMap[V]) pair(n uint32) *idPair[V] { return &m.pages[(n-1)/pageSize][(n-1)%pageSize] }

// slot is where id is, or where it would be: the first free one from its hash on.
func (m *IDMap[V]) slot(id *ID) int {
	mask := uint64(len(m.slots) - 1)
	for at := maphash.Bytes(m.seed, id[:]) & mask; ; at = (at + 1) & mask {
		if n := m.slots[at]; n == 0 || m.pair(n).id == *id {
			return int(at)
		}
	}
}

func (m *IDMap[V]) grow() {
	if m.slots == nil {
		m.seed = maphash.MakeSeed()
	}
	m.slots = make([]uint32, max(16, 2*len(m.slots)))
	for n := range m.count {
		id := m.pair(uint32(n + 1)).id
		m.slots[m.slot(&id)] = uint32(n + 1)
	}
}
