//go:build !amd64 && !arm64

package cpu

func (vector) add(out, a, b []float32) { addGo(out, a, b) }

func (vector) scale(out, a []float32, s float32) { scaleGo(out, a, s) }

func (vector) norm(out, x, w []float32, r float32) { normGo(out, x, w, r) }

func (vector) normBack(dx, dy, w, x []float32, r, s float32) { normBackGo(dx, dy, w, x, r, s) }

func (vector) mulAdd(out, a, b []float32, s float32) { mulAddGo(out, a, b, s) }

func (vector) softBack(ds, p, dp []float32, delta, s float32) { softBackGo(ds, p, dp, delta, s) }

func (vector) rotate(lo, hi, cos, sin []float32, sign float32) { rotateGo(lo, hi, cos, sin, sign) }

func (vector) silu(h, g, u []float32) { siluGo(h, g, u) }

func (vector) siluBack(dg, du, dh, g, u []float32) { siluBackGo(dg, du, dh, g, u) }

func (vector) sumSquares(x []float32) float32 { return sumSquaresGo(x) }

func (vector) dot(a, b []float32) float32 { return dotGo(a, b) }

func (vector) dot3(a, b, c []float32) float32 { return dot3Go(a, b, c) }

func (vector) max(x []float32) float32 { return maxGo(x) }

func (vector) exp(out, x []float32, scale, shift float32) float32 { return expGo(out, x, scale, shift) }

func (vector) adamw(p, m, s, g []float32, a adam) { adamwPlain(p, m, s, g, a) }

func (vector) transpose(dst, src []float32, rows, n, stride, width int) {
	transposeGo(dst, src, rows, n, stride, width)
}

func (vector) gather(dst, src []float32, n, stride, tiles int) {
	gatherGo(dst, src, n, stride, tiles)
}

func (vector) dots(out, q, rows []float32) { dotsGo(out, q, rows) }

func (vector) mix(out, p, rows []float32) { mixGo(out, p, rows) }

func widenVector([]float32, []uint16) int { return 0 }

// copyPanel is that of vector_amd64.go; here there is none.
func (v vector) copyPanel([]float32, *source, int, int, int, int) bool { return false }

// dotsHalf is not called where there are no vectors.
func (v vector) dotsHalf(out, q []float32, rows []uint16) {}
