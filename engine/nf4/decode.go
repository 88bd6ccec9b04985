package nf4

import "math"

// Decode sets dst to the values from number at on: code · absmax in float32, then rounded to bfloat16 where half is true.
func Decode(dst []float32, codes []uint8, absmax []float32, at int, half bool) {
	values := Values()
	for len(dst) > 0 {
		n := min(Block-at%Block, len(dst))
		table, scale := values, absmax[at/Block]
		for i := range table {
			table[i] *= scale
		}
		if half {
			for i, v := range table {
				table[i] = toBFloat16(v)
			}
		}
		unpack(dst[:n], codes[at/2:], at&1, &table)
		dst, at = dst[n:], at+n
	}
}

// toBFloat16 rounds to nearest, ties to even; NaN stays NaN.
func toBFloat16(v float32) float32 {
	b := math.Float32bits(v)
	if v != v {
		return v
	}
	return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
}

// unpack looks up codes, the first in the low half of its byte where odd is 1.
func unpack(dst []float32, codes []uint8, odd int, table *[16]float32) {
	if odd == 1 {
		dst[0] = table[codes[0]&15]
		dst, codes = dst[1:], codes[1:]
	}
	pairs := len(dst) / 2
	codes = codes[:(len(dst)+1)/2]
	for i, c := range codes[:pairs] {
		dst[2*i], dst[2*i+1] = table[c>>4], table[c&15]
	}
	if len(dst)%2 == 1 {
		dst[2*pairs] = table[codes[pairs]>>4]
	}
}

// Round rounds values to bfloat16.
func Round(values []float32) {
	for i, v := range values {
		values[i] = toBFloat16(v)
	}
}
