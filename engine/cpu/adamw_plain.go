package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// adam holds one step's numbers as float32, with the bias corrections worked out in float64 as torch does.
type adam struct {
	keep      float32 // 1 - LR·Decay
	scale     float32 // of the gradient
	b1, b2    float32 // 1-Beta1, 1-Beta2
	beta2     float32
	step      float32 // LR / (1-Beta1^Step)
	rootBias2 float32 // √(1-Beta2^Step)
	eps       float32
}

func newAdam(o ops.AdamW) adam {
	t := float64(o.Step)
	return adam{
		keep: float32(1 - float64(o.LR*o.Decay)), scale: float32(o.GradScale),
		b1: float32(1 - o.Beta1), b2: float32(1 - o.Beta2), beta2: float32(o.Beta2),
		step: float32(o.LR / (1 - math.Pow(o.Beta1, t))), rootBias2: float32(math.Sqrt(1 - math.Pow(o.Beta2, t))),
		eps: float32(o.Eps),
	}
}

// clipFactor is ops.Device.ClipFactor.
func clipFactor(loss, squares float32, limit float64) float32 {
	if loss-loss != 0 || squares-squares != 0 { // infinite, or no number
		return float32(math.NaN())
	}
	if limit <= 0 {
		return 1
	}
	return float32(min(1, limit/(math.Sqrt(float64(squares))+1e-6)))
}

// factored multiplies scale by factor[0], where there is a factor, and says whether that is a number.
func factored(scale *float32, factor []float32) bool {
	if factor == nil {
		return true
	}
	*scale *= factor[0]
	return factor[0] == factor[0]
}

func adamwPlain(p, m, v, grad []float32, a adam) {
	for i, g := range grad {
		g *= a.scale
		m[i] += a.b1 * (g - m[i])
		v[i] = a.beta2*v[i] + a.b2*g*g
		root := float32(math.Sqrt(float64(v[i])))
		p[i] = p[i]*a.keep - a.step*m[i]/(root/a.rootBias2+a.eps)
	}
}
