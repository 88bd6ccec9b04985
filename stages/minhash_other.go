//go:build !amd64

package stages

// leastByVectors says that there are no vectors here.
func (m *minHasher) leastByVectors(*[permutations]uint32, []uint64) bool { return false }
