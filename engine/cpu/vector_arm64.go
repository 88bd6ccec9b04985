package cpu

import "math"

// The assembly of vector_arm64.s behind bounds checks. Sums are taken in eight lanes, value i in lane i modulo 8, as by AVX2.

func (v vector) add(out, a, b []float32) {
	n := len(out)
	if !v || n == 0 {
		addGo(out, a, b)
		return
	}
	_, _ = a[n-1], b[n-1]
	addNEON(&out[0], &a[0], &b[0], n)
}

func (v vector) scale(out, a []float32, s float32) {
	n := len(out)
	if !v || n == 0 {
		scaleGo(out, a, s)
		return
	}
	_ = a[n-1]
	scaleNEON(&out[0], &a[0], n, s)
}

func (v vector) norm(out, x, w []float32, r float32) {
	n := len(out)
	if !v || n == 0 {
		normGo(out, x, w, r)
		return
	}
	_, _ = x[n-1], w[n-1]
	normNEON(&out[0], &x[0], &w[0], n, r)
}

func (v vector) normBack(dx, dy, w, x []float32, r, s float32) {
	n := len(dx)
	if !v || n == 0 {
		normBackGo(dx, dy, w, x, r, s)
		return
	}
	_, _, _ = dy[n-1], w[n-1], x[n-1]
	normBackNEON(&dx[0], &dy[0], &w[0], &x[0], n, r, s)
}

func (v vector) mulAdd(out, a, b []float32, s float32) {
	n := len(out)
	if !v || n == 0 {
		mulAddGo(out, a, b, s)
		return
	}
	_, _ = a[n-1], b[n-1]
	mulAddNEON(&out[0], &a[0], &b[0], n, s)
}

func (v vector) softBack(ds, p, dp []float32, delta, s float32) {
	n := len(ds)
	if !v || n == 0 {
		softBackGo(ds, p, dp, delta, s)
		return
	}
	_, _ = p[n-1], dp[n-1]
	softBackNEON(&ds[0], &p[0], &dp[0], n, delta, s)
}

func (v vector) rotate(lo, hi, cos, sin []float32, sign float32) {
	n := len(lo)
	if !v || n == 0 {
		rotateGo(lo, hi, cos, sin, sign)
		return
	}
	_, _, _ = hi[n-1], cos[n-1], sin[n-1]
	rotateNEON(&lo[0], &hi[0], &cos[0], &sin[0], n, sign)
}

func (v vector) silu(h, g, u []float32) {
	n := len(h)
	if !v || n == 0 {
		siluGo(h, g, u)
		return
	}
	_, _ = g[n-1], u[n-1]
	siluNEON(&h[0], &g[0], &u[0], n)
}

func (v vector) siluBack(dg, du, dh, g, u []float32) {
	n := len(dg)
	if !v || n == 0 {
		siluBackGo(dg, du, dh, g, u)
		return
	}
	_, _, _, _ = du[n-1], dh[n-1], g[n-1], u[n-1]
	siluBackNEON(&dg[0], &du[0], &dh[0], &g[0], &u[0], n)
}

// lanes are the sums of a function in assembly, which adds to them.
type lanes [8]float32

// sum adds the lanes up, in the order of vector_amd64.h.
func (s *lanes) sum() float32 {
	return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}

// rest is fewer than 8 values with zeros behind them.
func rest(x []float32) (all [8]float32) {
	copy(all[:], x)
	return all
}

func (v vector) sumSquares(x []float32) float32 {
	if !v {
		return sumSquaresGo(x)
	}
	var s lanes
	n := len(x) &^ 7
	if n > 0 {
		sumSquaresNEON(&s, &x[0], n)
	}
	if n < len(x) {
		end := rest(x[n:])
		sumSquaresNEON(&s, &end[0], 8)
	}
	return s.sum()
}

func (v vector) dot(a, b []float32) float32 {
	if !v {
		return dotGo(a, b)
	}
	var s lanes
	b = b[:len(a)]
	n := len(a) &^ 7
	if n > 0 {
		dotNEON(&s, &a[0], &b[0], n)
	}
	if n < len(a) {
		x, y := rest(a[n:]), rest(b[n:])
		dotNEON(&s, &x[0], &y[0], 8)
	}
	return s.sum()
}

func (v vector) dot3(a, b, c []float32) float32 {
	if !v {
		return dot3Go(a, b, c)
	}
	var s lanes
	b, c = b[:len(a)], c[:len(a)]
	n := len(a) &^ 7
	if n > 0 {
		dot3NEON(&s, &a[0], &b[0], &c[0], n)
	}
	if n < len(a) {
		x, y, z := rest(a[n:]), rest(b[n:]), rest(c[n:])
		dot3NEON(&s, &x[0], &y[0], &z[0], 8)
	}
	return s.sum()
}

func (v vector) max(x []float32) float32 {
	n := len(x) &^ 7
	if !v || n == 0 {
		return maxGo(x)
	}
	low := float32(math.Inf(-1))
	most := lanes{low, low, low, low, low, low, low, low}
	maxNEON(&most, &x[0], n)
	return max(maxGo(most[:]), maxGo(x[n:]))
}

func (v vector) exp(out, x []float32, scale, shift float32) float32 {
	if !v {
		return expGo(out, x, scale, shift)
	}
	var s lanes
	x = x[:len(out)]
	n := len(x) &^ 7
	if n > 0 {
		expNEON(&s, &out[0], &x[0], n, scale, shift)
	}
	if n < len(x) {
		var unused lanes
		end := rest(x[n:])
		expNEON(&unused, &end[0], &end[0], 8, scale, shift)
		for i := range copy(out[n:], end[:]) {
			s[i] += end[i]
		}
	}
	return s.sum()
}

func (v vector) adamw(p, m, s, g []float32, a adam) {
	n := len(p)
	if !v || n == 0 {
		adamwPlain(p, m, s, g, a)
		return
	}
	_, _, _ = m[n-1], s[n-1], g[n-1]
	adamwNEON(&p[0], &m[0], &s[0], &g[0], n, a.keep, a.scale, a.b1, a.b2, a.beta2, a.step, a.rootBias2, a.eps)
}

// dots sets out[m] = q·rows[m] for rows that follow each other.
func (v vector) dots(out, q, rows []float32) {
	d, n := len(q), len(out)&^3
	if !v || d == 0 || d%8 != 0 {
		dotsGo(out, q, rows)
		return
	}
	rows = rows[:len(out)*d]
	if n > 0 {
		dotsNEON(&out[0], &q[0], &rows[0], n, d)
	}
	for ; n < len(out); n++ {
		out[n] = v.dot(q, rows[n*d:])
	}
}

// dotsHalf is dots with rows of bfloat16, for q of a multiple of 8 values.
func (v vector) dotsHalf(out, q []float32, rows []uint16) {
	d, n := len(q), len(out)&^3
	rows = rows[:len(out)*d]
	if n > 0 {
		dotsHalfNEON(&out[0], &q[0], &rows[0], n, d)
	}
	for ; n < len(out); n++ {
		var s lanes
		dotHalfNEON(&s, &q[0], &rows[n*d], d)
		out[n] = s.sum()
	}
}

// mix sets out = Σ_m p[m]·rows[m].
func (v vector) mix(out, p, rows []float32) {
	d := len(out)
	if !v || d == 0 || d%8 != 0 || len(p) == 0 {
		mixGo(out, p, rows)
		return
	}
	_ = rows[len(p)*d-1]
	mixNEON(&out[0], &p[0], &rows[0], len(p), d)
}

// transpose sets dst[k*width+i] = src[i*stride+k] for n values k of rows i in [0, rows).
func (v vector) transpose(dst, src []float32, rows, n, stride, width int) {
	whole, i := n&^3, 0
	for ; bool(v) && whole > 0 && i+4 <= rows; i += 4 {
		from, to := src[i*stride:], dst[i:]
		_, _ = from[3*stride+whole-1], to[(whole-1)*width+3]
		transposeNEON(&to[0], &from[0], whole, stride, width)
		if whole < n {
			transposeGo(to[whole*width:], from[whole:], 4, n-whole, stride, width)
		}
	}
	if i < rows {
		transposeGo(dst[i:], src[i*stride:], rows-i, n, stride, width)
	}
}

// copyPanel is that of vector_amd64.go; rows of 16 values are copied and widened one by one.
func (v vector) copyPanel([]float32, *source, int, int, int, int) bool { return false }

// gather is for tiles of farRows rows, which NEON has not.
func (vector) gather(dst, src []float32, n, stride, tiles int) { gatherGo(dst, src, n, stride, tiles) }

// widenVector is widen in assembly; it returns how many values it did.
func widenVector(dst []float32, src []uint16) int {
	n := len(src) &^ 7
	if n > 0 {
		_ = dst[n-1]
		widenNEON(&dst[0], &src[0], n)
	}
	return n
}

//go:noescape
func addNEON(out, a, b *float32, n int)

//go:noescape
func scaleNEON(out, a *float32, n int, s float32)

//go:noescape
func normNEON(out, x, w *float32, n int, r float32)

//go:noescape
func normBackNEON(dx, dy, w, x *float32, n int, r, s float32)

//go:noescape
func mulAddNEON(out, a, b *float32, n int, s float32)

//go:noescape
func softBackNEON(ds, p, dp *float32, n int, delta, s float32)

//go:noescape
func rotateNEON(lo, hi, cos, sin *float32, n int, sign float32)

//go:noescape
func adamwNEON(p, m, v, grad *float32, n int, keep, scale, b1, b2, beta2, step, root, eps float32)

//go:noescape
func siluNEON(h, gate, u *float32, n int)

//go:noescape
func siluBackNEON(dg, du, dh, gate, u *float32, n int)

//go:noescape
func expNEON(sums *lanes, out, x *float32, n int, scale, shift float32)

//go:noescape
func sumSquaresNEON(sums *lanes, x *float32, n int)

//go:noescape
func dotNEON(sums *lanes, a, b *float32, n int)

//go:noescape
func dotHalfNEON(sums *lanes, a *float32, b *uint16, n int)

//go:noescape
func dot3NEON(sums *lanes, a, b, c *float32, n int)

//go:noescape
func maxNEON(most *lanes, x *float32, n int)

//go:noescape
func widenNEON(dst *float32, src *uint16, n int)

//go:noescape
func transposeNEON(dst, src *float32, n, stride, width int)

//go:noescape
func dotsNEON(out, q, rows *float32, n, d int)

//go:noescape
func dotsHalfNEON(out, q *float32, rows *uint16, n, d int)

//go:noescape
func mixNEON(out, p, rows *float32, n, d int)
