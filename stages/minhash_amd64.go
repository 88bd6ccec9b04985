package stages

import "golang.org/x/sys/cpu"

// leastByVectors is leastPlainly by the widest vectors of this processor; false if it has none.
func (m *minHasher) leastByVectors(least *[permutations]uint32, hashes []uint64) bool {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ:
		leastAVX512(least, &m.mul, &m.shift, &hashes[0], len(hashes))
	case cpu.X86.HasAVX2:
		m.leastByAVX2(least, hashes)
	default:
		return false
	}
	return true
}

func (m *minHasher) leastByAVX2(least *[permutations]uint32, hashes []uint64) {
	var wide [permutations]uint64
	leastAVX2(&wide, &m.mul, &m.shift, &hashes[0], len(hashes))
	for i, v := range wide {
		least[i] = uint32(v)
	}
}

// leastAVX512 sets least to the minima of (hash*mul + shift) >> 32 over n hashes, at least one.
//
//go:noescape
func leastAVX512(least *[permutations]uint32, mul, shift *[permutations]uint64, hashes *uint64, n int)

// leastAVX2 is the same, in numbers of 64 bits.
//
//go:noescape
func leastAVX2(least, mul, shift *[permutations]uint64, hashes *uint64, n int)
