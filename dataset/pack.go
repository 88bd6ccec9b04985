package dataset

import (
	"cmp"
	"math/bits"
	"slices"
)

// Pack puts sequences of the given lengths into packs of capacity tokens, best fit decreasing: the longest
// sequence first, each into the fullest pack that still takes it. The result lists, for each pack, the
// indexes of its sequences. It is the same for the same lengths on every machine. A sequence longer than the
// capacity gets a pack of its own, and the caller cuts it.
//
// Time is O(n + capacity): lengths are sorted by counting, and a tree of 64 branches over the free space, whose nodes are
// words, tells the tightest fit. See arXiv 2404.10830.
func Pack(lengths []int, capacity int) [][]int {
	if capacity < 1 {
		panic("dataset: pack capacity below 1")
	}
	if int64(len(lengths)) > 1<<31-2 {
		panic("dataset: more sequences to pack than 32 bits count")
	}
	p := &packer{packOf: make([]int32, len(lengths)), head: make([]int32, capacity+1), free: newSpaceTree(capacity)}
	order := byLength(lengths, capacity)
	for _, i := range order {
		p.place(i, min(lengths[i], capacity), capacity)
	}
	return p.list(order)
}

// byLength sorts the indexes by falling length, equal ones in their order, what is beyond the capacity first and by its own
// length.
func byLength(lengths []int, capacity int) []int32 {
	start := make([]int32, capacity+3) // of each length, behind the longer ones
	for _, n := range lengths {
		start[capacity+2-min(max(n, 0), capacity+1)]++
	}
	sum := int32(0)
	for i := range start {
		start[i], sum = sum, sum+start[i]
	}
	order := make([]int32, len(lengths))
	for i, n := range lengths {
		at := capacity + 2 - min(max(n, 0), capacity+1)
		order[start[at]] = int32(i)
		start[at]++
	}
	sortLonger(order[:start[1]], lengths)
	return order
}

// packer is the state of packing. Packs with the same free space are a stack: head and below hold a pack's number plus one.
type packer struct {
	packOf []int32 // of each sequence
	head   []int32 // by free space
	below  []int32 // by pack
	count  []int32 // of sequences, by pack
	free   *spaceTree
}

// place puts sequence i of n tokens into a pack.
func (p *packer) place(i int32, n, capacity int) {
	space := p.free.atLeast(n)
	var pack int32
	if space < 0 {
		pack, space = int32(len(p.below)), capacity
		p.below, p.count = append(p.below, 0), append(p.count, 0)
	} else {
		pack = p.head[space] - 1
		if p.head[space] = p.below[pack]; p.head[space] == 0 {
			p.free.clear(space)
		}
	}
	p.packOf[i] = pack
	p.count[pack]++
	left := space - n
	if p.head[left] == 0 {
		p.free.set(left)
	}
	p.below[pack], p.head[left] = p.head[left], pack+1
}

// list is the packs, each with its sequences in the order in which they came. All lie in one array.
func (p *packer) list(order []int32) [][]int {
	if len(order) == 0 {
		return nil
	}
	all, packs := make([]int, len(order)), make([][]int, len(p.count))
	at := 0
	for i, n := range p.count {
		packs[i] = all[at:at:(at + int(n))]
		at += int(n)
	}
	for _, i := range order {
		pack := p.packOf[i]
		packs[pack] = append(packs[pack], int(i))
	}
	return packs
}

// spaceTree is a set of ints 0..n that finds the smallest member at or above a value: bit i of a word of one level says that
// word i of the level below has a bit.
type spaceTree struct{ levels [][]uint64 }

func newSpaceTree(n int) *spaceTree {
	t := &spaceTree{}
	for size := n + 1; ; {
		size = (size + 63) / 64
		t.levels = append(t.levels, make([]uint64, size))
		if size == 1 {
			return t
		}
	}
}

func (t *spaceTree) set(v int) {
	for _, level := range t.levels {
		level[v/64] |= 1 << (v % 64)
		v /= 64
	}
}

func (t *spaceTree) clear(v int) {
	for _, level := range t.levels {
		if level[v/64] &^= 1 << (v % 64); level[v/64] != 0 {
			return
		}
		v /= 64
	}
}

// atLeast is -1 if there is none.
func (t *spaceTree) atLeast(v int) int {
	for depth, level := range t.levels {
		if v/64 >= len(level) {
			return -1
		}
		if rest := level[v/64] >> (v % 64); rest != 0 {
			v += bits.TrailingZeros64(rest)
			for depth > 0 {
				depth--
				v = v*64 + bits.TrailingZeros64(t.levels[depth][v])
			}
			return v
		}
		v = v/64 + 1
	}
	return -1
}

// sortLonger sorts indexes by falling length, equal ones in their order: of sequences beyond the capacity, which are few.
func sortLonger(order []int32, lengths []int) {
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(lengths[b], lengths[a]) })
}
