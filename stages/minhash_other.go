//go:build !amd64

package stages

func leastAVX2(_, _, _ *[permutations]uint64, _ *uint64, _ int) { panic("stages: no AVX2 here") }

func hasLeastAVX2() bool { return false }
