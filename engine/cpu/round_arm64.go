package cpu

// NEON has no products of pairs that round as VDPBF16PS does (BFDOT adds the two products of a pair first): no kernel has pairs here.

func asPairs([]uint16) []float32 { panic("cpu: no pairs on this processor") }

func (vector) zipPanel([]float32, []uint16, int, int, int) int { return 0 }

// round sets out to x in form f.
func (v vector) round(out, x []float32, f form) {
	n := len(x) &^ 3
	if !v || n == 0 || f == pairs {
		roundGo(out, x, f)
		return
	}
	_ = out[n-1]
	if f == swapped {
		roundSwappedNEON(&out[0], &x[0], n)
	} else {
		roundNEON(&out[0], &x[0], n)
	}
	roundGo(out[n:], x[n:], f)
}

//go:noescape
func roundNEON(out, x *float32, n int)

//go:noescape
func roundSwappedNEON(out, x *float32, n int)
