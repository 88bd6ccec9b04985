package cpu

import "math"

// bf16 rounds to the nearest bfloat16, ties to even; NaN stays NaN.
func bf16(v float32) uint16 {
	b := math.Float32bits(v)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func unbf16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// widen makes bfloat16 float32.
func widen(dst []float32, src []uint16) {
	for i := widenVector(dst, src); i < len(src); i++ {
		dst[i] = unbf16(src[i])
	}
}
