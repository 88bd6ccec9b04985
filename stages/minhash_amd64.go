package stages

import "golang.org/x/sys/cpu"

// leastAVX2 sets least to the minima of (hash*mul + shift) >> 32 over n hashes, at least one.
//
//go:noescape
func leastAVX2(least, mul, shift *[permutations]uint64, hashes *uint64, n int)

func hasLeastAVX2() bool { return cpu.X86.HasAVX2 }
