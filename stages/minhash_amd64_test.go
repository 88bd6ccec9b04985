package stages

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/cpu"
)

// The narrower vectors give the same minima where the wider ones are taken.
func TestMinimaAreTheSameByAVX2(t *testing.T) {
	if !cpu.X86.HasAVX2 {
		t.Skip("this processor has no AVX2")
	}
	rng := rand.New(rand.NewPCG(4, 4))
	m := newMinHasher(defaultNear())
	for n := 1; n < 200; n += 1 + n/7 {
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = rng.Uint64()
		}
		var narrow [permutations]uint32
		m.leastByAVX2(&narrow, hashes)
		if m.least(hashes) != narrow {
			t.Fatalf("%d hashes: other minima", n)
		}
	}
}
