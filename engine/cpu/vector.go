package cpu

import "math"

// vector applies element-wise functions to slices of equal length, in assembly where its value is true. The
// functions of this file are the same formulas in Go.
type vector bool

// expGo sets out = exp(x·scale - shift) and returns the sum.
func expGo(out, x []float32, scale, shift float32) float32 {
	var sum float32
	for i, v := range x {
		e := float32(math.Exp(float64(v*scale - shift)))
		out[i] = e
		sum += e
	}
	return sum
}

func maxGo(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		top = max(top, v)
	}
	return top
}

// siluGo sets h = g/(1+exp(-g))·u.
func siluGo(h, g, u []float32) {
	for i, v := range g {
		h[i] = v / (1 + float32(math.Exp(float64(-v)))) * u[i]
	}
}

// siluBackGo sets dg = dh·u·s·(1+g·(1-s)) and du = dh·g·s with s = 1/(1+exp(-g)).
func siluBackGo(dg, du, dh, g, u []float32) {
	for i, v := range g {
		s := 1 / (1 + float32(math.Exp(float64(-v))))
		a, b := dh[i]*s, u[i]
		dg[i], du[i] = a*b*(1+v*(1-s)), a*v
	}
}

func addGo(out, a, b []float32) {
	for i, v := range a {
		out[i] = v + b[i]
	}
}

func scaleGo(out, a []float32, s float32) {
	for i, v := range a {
		out[i] = v * s
	}
}

// dotsGo sets out[m] = q·rows[m].
func dotsGo(out, q, rows []float32) {
	for m := range out {
		out[m] = dotGo(q, rows[m*len(q):])
	}
}

// mixGo sets out = Σ_m p[m]·rows[m].
func mixGo(out, p, rows []float32) {
	clear(out)
	for m, w := range p {
		for i, v := range rows[m*len(out):][:len(out)] {
			out[i] += w * v
		}
	}
}

// normGo sets out = x·r·w.
func normGo(out, x, w []float32, r float32) {
	for i, v := range x {
		out[i] = v * r * w[i]
	}
}

// normBackGo adds dy·w·r - x·s to dx.
func normBackGo(dx, dy, w, x []float32, r, s float32) {
	for i, v := range dy {
		dx[i] += v*w[i]*r - x[i]*s
	}
}

// mulAddGo adds a·b·s to out.
func mulAddGo(out, a, b []float32, s float32) {
	for i, v := range a {
		out[i] += v * s * b[i]
	}
}

// softBackGo sets ds = p·s·(dp-delta).
func softBackGo(ds, p, dp []float32, delta, s float32) {
	for i, v := range p {
		ds[i] = v * s * (dp[i] - delta)
	}
}

// rotateGo turns the pairs (lo, hi) by the angle of cos and sin, the other way round where sign is -1.
func rotateGo(lo, hi, cos, sin []float32, sign float32) {
	for i, a := range lo {
		b, c, s := hi[i], cos[i], sin[i]*sign
		lo[i], hi[i] = a*c-b*s, b*c+a*s
	}
}

func sumSquaresGo(x []float32) float32 {
	var sum float32
	for _, v := range x {
		sum += v * v
	}
	return sum
}

func dotGo(a, b []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// dot3Go is Σ a·b·c.
func dot3Go(a, b, c []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += v * b[i] * c[i]
	}
	return sum
}

// transposeGo sets dst[k*width+i] = src[i*stride+k] for n values k of rows i in [0, rows).
func transposeGo(dst, src []float32, rows, n, stride, width int) {
	if n == 0 {
		return
	}
	for i := range rows {
		for k, v := range src[i*stride:][:n] {
			dst[k*width+i] = v
		}
	}
}

// gatherGo copies tiles of farRows columns of a matrix whose rows are stride values apart, each as n rows that follow each other.
func gatherGo(dst, src []float32, n, stride, tiles int) {
	for t := range tiles {
		for k := range n {
			copy(dst[(t*n+k)*farRows:][:farRows], src[k*stride+t*farRows:])
		}
	}
}
