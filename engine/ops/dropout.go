package ops

// Keep says whether dropout with probability p keeps element i of the mask that seed names. It is the
// definition that every device follows: the same seed gives the same mask on each of them, forward and
// backward, without storing it. Kept elements are then multiplied by 1/(1-p).
//
// The mixing function is SplitMix64's (Steele, Lea, Flood 2014), whose 64 bits give two elements.
func Keep(seed uint64, i int, p float32) bool {
	return MaskBits(seed, i) >= Threshold(p)
}

// MaskBits is the uniform 32-bit number behind element i.
func MaskBits(seed uint64, i int) uint32 {
	z := seed + (uint64(i)>>1+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return uint32(z >> (32 * (uint(i) & 1)))
}

// Threshold is the smallest MaskBits that is kept.
func Threshold(p float32) uint32 {
	if p <= 0 {
		return 0
	}
	t := float64(p) * (1 << 32)
	if t >= 1<<32-1 {
		return 1<<32 - 1
	}
	return uint32(t)
}
