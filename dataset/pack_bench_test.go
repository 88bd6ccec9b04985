package dataset

import (
	"math"
	"math/rand/v2"
	"testing"
)

// r1Lengths are lengths as those of R1-Distill-SFT: a lognormal distribution with median 1100 and mean about 1900 tokens, cut at
// the capacity as the stage tokenize does.
func r1Lengths(n, capacity int) []int {
	rng := rand.New(rand.NewPCG(11, 12))
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = min(max(int(1100*math.Exp(1.05*rng.NormFloat64())), 40), capacity)
	}
	return lengths
}

// BenchmarkPack packs as many sequences as R1-Distill-SFT v1 has, and tells how full the packs are.
func BenchmarkPack(b *testing.B) {
	const capacity = 8192
	lengths := r1Lengths(1_700_000, capacity)
	total := 0
	for _, n := range lengths {
		total += n
	}
	var packs [][]int
	for b.Loop() {
		packs = Pack(lengths, capacity)
	}
	b.ReportMetric(100*float64(total)/float64(len(packs)*capacity), "%full")
}

// Packs of usual lengths are at least 99.5 % full, for another length as well: lengths are all that packing needs.
func TestPacksAreFull(t *testing.T) {
	for _, capacity := range []int{8192, 16384} {
		lengths := r1Lengths(50_000, capacity)
		total := 0
		for _, n := range lengths {
			total += n
		}
		packs := Pack(lengths, capacity)
		if full := float64(total) / float64(len(packs)*capacity); full < 0.995 {
			t.Errorf("packs of %d are %.3f full", capacity, full)
		}
	}
}
