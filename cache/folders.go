package cache

import "iter"

// Folders gives the tree of every folder that was scanned, the scanned one's own among them, by its ID: what the cache
// would hold if the folder were added.
func (s *Scan) Folders() iter.Seq2[ID, *Tree] {
	return func(yield func(ID, *Tree) bool) { s.root.folders(yield) }
}

func (n *node) folders(yield func(ID, *Tree) bool) bool {
	if n.typ != Dir {
		return true
	}
	for i := range n.kids {
		if !n.kids[i].folders(yield) {
			return false
		}
	}
	return yield(n.sum.ID, n.tree())
}
