package opstest

import (
	"math"

	"lpipe/engine/ops"
)

func dora(r *trial) {
	N, C, F := r.linearSizes()
	C = max(C, 16) // rows of few values may all but vanish, and their norm with them
	w, v := r.weight(r.noise(F*C, 1), F, C)
	gain, norms, wantGain, wantNorm := r.out("gain", F), r.out("norms", F), zeros(F), zeros(F)
	for f := range F {
		wantGain[f], wantNorm[f] = 1, 1
	}
	var list []ops.LoRA
	var before [][]float32
	for i, a := range r.adapters(1, C, F) {
		size, dm := r.noise(a.l.F, 1), r.noise(a.l.F, 1)
		if i != 1 { // the second is a plain one
			a.l.M, a.l.DM = r.buf("M", size), r.buf("dM", dm)
			whole := matmul(wide(a.b), turned(wide(a.a), a.l.R, C), a.l.F, C, a.l.R)
			for f := range a.l.F {
				sum := 0.0
				for c := range C {
					sum += math.Pow(float64(v[(a.l.Col+f)*C+c])+float64(a.l.Scale)*whole[f*C+c], 2)
				}
				wantNorm[a.l.Col+f] = math.Sqrt(sum)
				wantGain[a.l.Col+f] = float64(size[f]) / math.Sqrt(sum)
			}
		}
		list, before = append(list, a.l), append(before, dm)
	}
	r.d.DoRAGain(gain, norms, w, list, C, F)
	r.check("norms", norms, wantNorm)
	r.check("gain", gain, wantGain)

	z, dy, bias := r.noise(N*F, 1), r.noise(N*F, 1), r.noise(F, 1)
	y, dz, zb, dyb, b := r.out("y", N*F), r.out("dz", N*F), r.buf("z", z), r.buf("dy", dy), r.buf("bias", bias)
	if r.rng.IntN(2) == 0 {
		b, bias = ops.Buf{}, make([]float32, F)
	}
	r.d.DoRABackward(dz, dyb, zb, gain, norms, list, N, F)
	r.d.DoRA(y, zb, gain, b, N, F)
	r.d.DoRA(zb, zb, gain, b, N, F)
	wantY, wantZ := zeros(N*F), zeros(N*F)
	for i := range wantY {
		wantY[i] = wantGain[i%F]*float64(z[i]) + float64(bias[i%F])
		wantZ[i] = wantGain[i%F] * float64(dy[i])
	}
	r.check("y", y, wantY)
	r.check("y in place", zb, wantY)
	r.check("dz", dz, wantZ)
	for i, l := range list {
		if !l.DM.Present() {
			continue
		}
		want := wide(before[i])
		for f := range l.F {
			for n := range N {
				at := n*F + l.Col + f
				want[f] += float64(dy[at]) * float64(z[at]) / wantNorm[l.Col+f]
			}
		}
		r.check("dM", l.DM, want)
	}
}
