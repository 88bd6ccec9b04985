package dataset

import "sort"

// Pack puts sequences of the given lengths into packs of capacity tokens, best fit decreasing: the longest
// sequence first, each into the fullest pack that still takes it. The result lists, for each pack, the
// indexes of its sequences. It is the same for the same lengths on every machine. A sequence longer than the
// capacity gets a pack of its own, and the caller cuts it.
//
// Time is O(n + n log capacity): a tree over the free space tells the tightest fit. See arXiv 2404.10830.
func Pack(lengths []int, capacity int) [][]int {
	if capacity < 1 {
		panic("dataset: pack capacity below 1")
	}
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return lengths[order[a]] > lengths[order[b]] })

	var packs [][]int
	open := make([][]int, capacity+1) // free space -> packs with just that much, a stack
	free := newSpaceTree(capacity)
	for _, i := range order {
		n := min(lengths[i], capacity)
		space := free.atLeast(n)
		var pack int
		if space < 0 {
			pack, space = len(packs), capacity
			packs = append(packs, nil)
		} else {
			last := len(open[space]) - 1
			pack = open[space][last]
			open[space] = open[space][:last]
			if last == 0 {
				free.clear(space)
			}
		}
		packs[pack] = append(packs[pack], i)
		left := space - n
		open[left] = append(open[left], pack)
		free.set(left)
	}
	return packs
}

// spaceTree is a set of ints 0..n that finds the smallest member at or above a value in O(log n).
type spaceTree struct {
	size int    // leaves, a power of two
	full []bool // full[i]: a member lies under node i; root at 1
}

func newSpaceTree(n int) *spaceTree {
	size := 1
	for size < n+1 {
		size *= 2
	}
	return &spaceTree{size: size, full: make([]bool, 2*size)}
}

func (t *spaceTree) set(v int) {
	for i := t.size + v; i >= 1 && !t.full[i]; i /= 2 {
		t.full[i] = true
	}
}

func (t *spaceTree) clear(v int) {
	i := t.size + v
	t.full[i] = false
	for i /= 2; i >= 1; i /= 2 {
		t.full[i] = t.full[2*i] || t.full[2*i+1]
	}
}

func (t *spaceTree) atLeast(v int) int {
	i := t.size + v
	if t.full[i] {
		return v
	}
	for i > 1 {
		if i%2 == 0 && t.full[i+1] {
			for i++; i < t.size; {
				if i *= 2; !t.full[i] {
					i++
				}
			}
			return i - t.size
		}
		i /= 2
	}
	return -1
}
