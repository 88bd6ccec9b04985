package cpu

import "unsafe"

// asPairs is bfloat16 values as pairs, as this processor reads them: the lower one first.
func asPairs(h []uint16) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(h))), len(h)/2)
}

// round sets out to x in form f; pairs only where the kernel has them.
func (v vector) round(out, x []float32, f form) {
	n := 0
	switch {
	case !bool(v):
	case f == pairs:
		if n = len(x) &^ 31; n > 0 {
			_ = out[n/2-1]
			roundPairsAVX512(&out[0], &x[0], n)
			out = out[n/2:]
		}
	case f == swapped:
		if n = len(x) &^ 7; n > 0 {
			_ = out[n-1]
			roundSwappedAVX(&out[0], &x[0], n)
			out = out[n:]
		}
	default:
		if n = len(x) &^ 7; n > 0 {
			_ = out[n-1]
			roundAVX(&out[0], &x[0], n)
			out = out[n:]
		}
	}
	roundGo(out, x[n:], f)
}

// zipPanel sets a panel of 32 columns to n pairs of rows, if it is such a one and whole, and returns how many pairs it did.
func (v vector) zipPanel(dst []float32, src []uint16, n, stride, cols int) int {
	if !bool(v) || cols != 32 || n == 0 {
		return 0
	}
	_, _ = dst[n*32-1], src[(2*n-1)*stride+31]
	zipPanelAVX512(&dst[0], &src[0], n, stride)
	return n
}

//go:noescape
func roundPairsAVX512(out, x *float32, n int)

//go:noescape
func roundSwappedAVX(out, x *float32, n int)

//go:noescape
func roundAVX(out, x *float32, n int)

//go:noescape
func zipPanelAVX512(dst *float32, src *uint16, n, stride int)
