package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// PairWeights sets how much a loss of preferences grows with that of each token.
func (d *Plain) PairWeights(weight, nll, reference ops.Buf, ends ops.Ints, beta float64, pairs, N, K int) {
	if d.err == nil {
		pairWeights(d.f(weight, N), d.f(nll, N), d.f(reference, N), d.i(ends, 2*K), beta, float64(pairs))
	}
}

// PairWeights is nothing to share among threads: a token costs two additions.
func (d *Device) PairWeights(weight, nll, reference ops.Buf, ends ops.Ints, beta float64, pairs, N, K int) {
	if d.err == nil {
		pairWeights(d.f(weight, N), d.f(nll, N), d.f(reference, N), d.i(ends, 2*K), beta, float64(pairs))
	}
}

func pairWeights(weight, nll, reference []float32, ends []int32, beta, pairs float64) {
	from := int32(0)
	for ; len(ends) > 0; ends = ends[2:] {
		mid, to := ends[0], ends[1]
		chosen := float64(beta * (sumWide(reference[from:mid]) - sumWide(nll[from:mid])))
		rejected := float64(beta * (sumWide(reference[mid:to]) - sumWide(nll[mid:to])))
		w := float32(beta / (1 + math.Exp(chosen-rejected)) / pairs)
		fill(weight[from:mid], w)
		fill(weight[mid:to], -w)
		from = to
	}
	clear(weight[from:])
}

func sumWide(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x)
	}
	return sum
}

func fill(v []float32, x float32) {
	for i := range v {
		v[i] = x
	}
}
