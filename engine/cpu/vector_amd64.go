package cpu

import "golang.org/x/sys/cpu"

// The assembly of vector_amd64.s behind bounds checks.

func (v vector) add(out, a, b []float32) {
	n := len(out)
	if !v || n == 0 {
		addGo(out, a, b)
		return
	}
	_, _ = a[n-1], b[n-1]
	addAVX(&out[0], &a[0], &b[0], n)
}

func (v vector) scale(out, a []float32, s float32) {
	n := len(out)
	if !v || n == 0 {
		scaleGo(out, a, s)
		return
	}
	_ = a[n-1]
	scaleAVX(&out[0], &a[0], n, s)
}

func (v vector) norm(out, x, w []float32, r float32) {
	n := len(out)
	if !v || n == 0 {
		normGo(out, x, w, r)
		return
	}
	_, _ = x[n-1], w[n-1]
	normAVX(&out[0], &x[0], &w[0], n, r)
}

func (v vector) normBack(dx, dy, w, x []float32, r, s float32) {
	n := len(dx)
	if !v || n == 0 {
		normBackGo(dx, dy, w, x, r, s)
		return
	}
	_, _, _ = dy[n-1], w[n-1], x[n-1]
	normBackAVX(&dx[0], &dy[0], &w[0], &x[0], n, r, s)
}

func (v vector) mulAdd(out, a, b []float32, s float32) {
	n := len(out)
	if !v || n == 0 {
		mulAddGo(out, a, b, s)
		return
	}
	_, _ = a[n-1], b[n-1]
	mulAddAVX(&out[0], &a[0], &b[0], n, s)
}

func (v vector) softBack(ds, p, dp []float32, delta, s float32) {
	n := len(ds)
	if !v || n == 0 {
		softBackGo(ds, p, dp, delta, s)
		return
	}
	_, _ = p[n-1], dp[n-1]
	softBackAVX(&ds[0], &p[0], &dp[0], n, delta, s)
}

func (v vector) rotate(lo, hi, cos, sin []float32, sign float32) {
	n := len(lo)
	if !v || n == 0 {
		rotateGo(lo, hi, cos, sin, sign)
		return
	}
	_, _, _ = hi[n-1], cos[n-1], sin[n-1]
	rotateAVX(&lo[0], &hi[0], &cos[0], &sin[0], n, sign)
}

func (v vector) silu(h, g, u []float32) {
	n := len(h)
	if !v || n == 0 {
		siluGo(h, g, u)
		return
	}
	_, _ = g[n-1], u[n-1]
	siluAVX(&h[0], &g[0], &u[0], n)
}

func (v vector) siluBack(dg, du, dh, g, u []float32) {
	n := len(dg)
	if !v || n == 0 {
		siluBackGo(dg, du, dh, g, u)
		return
	}
	_, _, _, _ = du[n-1], dh[n-1], g[n-1], u[n-1]
	siluBackAVX(&dg[0], &du[0], &dh[0], &g[0], &u[0], n)
}

func (v vector) sumSquares(x []float32) float32 {
	n := len(x)
	if !v || n == 0 {
		return sumSquaresGo(x)
	}
	return sumSquaresAVX(&x[0], n)
}

func (v vector) dot(a, b []float32) float32 {
	n := len(a)
	if !v || n == 0 {
		return dotGo(a, b)
	}
	_ = b[n-1]
	return dotAVX(&a[0], &b[0], n)
}

func (v vector) dot3(a, b, c []float32) float32 {
	n := len(a)
	if !v || n == 0 {
		return dot3Go(a, b, c)
	}
	_, _ = b[n-1], c[n-1]
	return dot3AVX(&a[0], &b[0], &c[0], n)
}

func (v vector) max(x []float32) float32 {
	n := len(x)
	if !v || n == 0 {
		return maxGo(x)
	}
	return maxAVX(&x[0], n)
}

func (v vector) exp(out, x []float32, scale, shift float32) float32 {
	n := len(out)
	if !v || n == 0 {
		return expGo(out, x, scale, shift)
	}
	_ = x[n-1]
	return expAVX(&out[0], &x[0], n, scale, shift)
}

func (v vector) adamw(p, m, s, g []float32, a adam) {
	n := len(p)
	if !v || n == 0 {
		adamwPlain(p, m, s, g, a)
		return
	}
	_, _, _ = m[n-1], s[n-1], g[n-1]
	adamwAVX(&p[0], &m[0], &s[0], &g[0], n, a.keep, a.scale, a.b1, a.b2, a.beta2, a.step, a.rootBias2, a.eps)
}

// dots sets out[m] = q·rows[m] for rows that follow each other.
func (v vector) dots(out, q, rows []float32) {
	d := len(q)
	if !v || d%8 != 0 || len(out) == 0 {
		dotsGo(out, q, rows)
		return
	}
	_ = rows[len(out)*d-1]
	dotsAVX(&out[0], &q[0], &rows[0], len(out), d)
}

// dotsHalf is dots with rows of bfloat16, for q of a multiple of 8 values.
func (v vector) dotsHalf(out, q []float32, rows []uint16) {
	d := len(q)
	_ = rows[len(out)*d-1]
	dotsHalfAVX(&out[0], &q[0], &rows[0], len(out), d)
}

// mix sets out = Σ_m p[m]·rows[m].
func (v vector) mix(out, p, rows []float32) {
	d := len(out)
	if !v || d%8 != 0 || len(p) == 0 {
		mixGo(out, p, rows)
		return
	}
	_ = rows[len(p)*d-1]
	mixAVX(&out[0], &p[0], &rows[0], len(p), d)
}

// transpose sets dst[k*width+i] = src[i*stride+k] for n values k of rows i in [0, rows).
func (v vector) transpose(dst, src []float32, rows, n, stride, width int) {
	const near = 64 // values of k at a time: what is written stays in level-1 cache until its lines are full
	k := 0
	for v && n-k >= 8 {
		part, i := min(n-k, near)&^7, 0
		for ; i+8 <= rows; i += 8 {
			from, to := src[i*stride+k:], dst[k*width+i:]
			_, _ = from[7*stride+part-1], to[(part-1)*width+7]
			transposeAVX(&to[0], &from[0], part, stride, width)
		}
		if i < rows {
			transposeGo(dst[k*width+i:], src[i*stride+k:], rows-i, part, stride, width)
		}
		k += part
	}
	if k < n {
		transposeGo(dst[k*width:], src[k:], rows, n-k, stride, width)
	}
}

// copyPanel sets a panel of 32 columns to k rows of a float32 or bfloat16 matrix, if the panel is such a one and whole.
func (v vector) copyPanel(dst []float32, s *source, nr, k, first, cols int) bool {
	at, last := s.at+first, s.at+first+(k-1)*s.rs
	switch {
	case !bool(v) || nr != 32 || cols != 32:
		return false
	case s.m.f != nil:
		_, _ = dst[k*32-1], s.m.f[last+31]
		copyPanelAVX(&dst[0], &s.m.f[at], k, s.rs)
	case s.m.h != nil:
		_, _ = dst[k*32-1], s.m.h[last+31]
		widenPanelAVX(&dst[0], &s.m.h[at], k, s.rs)
	default:
		return false
	}
	return true
}

// gather copies tiles of farRows columns of a matrix whose rows are stride values apart, each as n rows that follow each other.
func (v vector) gather(dst, src []float32, n, stride, tiles int) {
	if !v {
		gatherGo(dst, src, n, stride, tiles)
		return
	}
	_, _ = dst[tiles*farRows*n-1], src[(n-1)*stride+tiles*farRows-1]
	gatherAVX(&dst[0], &src[0], n, stride, tiles)
}

// widenVector is widen in assembly; it returns how many values it did.
func widenVector(dst []float32, src []uint16) int {
	n := len(src) &^ 7
	if n == 0 || !cpu.X86.HasAVX2 {
		return 0
	}
	_ = dst[n-1]
	widenAVX(&dst[0], &src[0], n)
	return n
}

//go:noescape
func widenAVX(dst *float32, src *uint16, n int)

//go:noescape
func gatherAVX(dst, src *float32, n, stride, tiles int)

//go:noescape
func copyPanelAVX(dst, src *float32, n, stride int)

//go:noescape
func widenPanelAVX(dst *float32, src *uint16, n, stride int)

//go:noescape
func transposeAVX(dst, src *float32, n, stride, width int)

//go:noescape
func dotsAVX(out, q, rows *float32, n, d int)

//go:noescape
func dotsHalfAVX(out, q *float32, rows *uint16, n, d int)

//go:noescape
func mixAVX(out, p, rows *float32, n, d int)

//go:noescape
func addAVX(out, a, b *float32, n int)

//go:noescape
func scaleAVX(out, a *float32, n int, s float32)

//go:noescape
func normAVX(out, x, w *float32, n int, r float32)

//go:noescape
func normBackAVX(dx, dy, w, x *float32, n int, r, s float32)

//go:noescape
func mulAddAVX(out, a, b *float32, n int, s float32)

//go:noescape
func softBackAVX(ds, p, dp *float32, n int, delta, s float32)

//go:noescape
func rotateAVX(lo, hi, cos, sin *float32, n int, sign float32)

//go:noescape
func siluAVX(h, gate, u *float32, n int)

//go:noescape
func siluBackAVX(dg, du, dh, gate, u *float32, n int)

//go:noescape
func sumSquaresAVX(x *float32, n int) float32

//go:noescape
func dotAVX(a, b *float32, n int) float32

//go:noescape
func dot3AVX(a, b, c *float32, n int) float32

//go:noescape
func maxAVX(x *float32, n int) float32

//go:noescape
func expAVX(out, x *float32, n int, scale, shift float32) float32

//go:noescape
func adamwAVX(p, m, v, grad *float32, n int, keep, scale, b1, b2, beta2, step, root, eps float32)
