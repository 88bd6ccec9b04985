package engine

import "math/bits"

// random is a counter-based generator: its n-th number depends on the key and n alone, so that a run that starts
// in the middle draws what an undisturbed one would have drawn, and nothing of it needs to be in a checkpoint.
//
// It is two rounds of splitmix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
// 2014) over key and counter.
type random struct{ key uint64 }

// newRandom derives an independent stream from a seed and the numbers that say what it is for.
func newRandom(seed uint64, purpose ...uint64) random {
	key := mix64(seed + 0x9e3779b97f4a7c15)
	for _, p := range purpose {
		key = mix64(key ^ mix64(p+0x9e3779b97f4a7c15))
	}
	return random{key}
}

// What streams are for. The numbers are part of what a seed means: they must never change.
const (
	forOrder    = 1
	forSampling = 2
	forBench    = 3
	forDropout  = 4
)

func (r random) at(n uint64) uint64 {
	return mix64(r.key + mix64(n*0x9e3779b97f4a7c15+0x632be59bd9b4e019))
}

// below returns the n-th number as one of 0..limit-1 (Lemire's multiplication; the bias is below limit/2^64).
func (r random) below(n, limit uint64) uint64 {
	hi, _ := bits.Mul64(r.at(n), limit)
	return hi
}

// unit returns the n-th number as one of [0, 1), with 53 bits.
func (r random) unit(n uint64) float64 {
	return float64(r.at(n)>>11) * 0x1p-53
}

func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// permutation returns 0..n-1 in the order that the stream gives them (Fisher and Yates).
func (r random) permutation(n int) []int32 {
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	for i := n - 1; i > 0; i-- {
		j := r.below(uint64(i), uint64(i+1))
		order[i], order[j] = order[j], order[i]
	}
	return order
}
