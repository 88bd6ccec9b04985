package cpu

import "math"

// This file rounds what is multiplied by a bfloat16 weight (ops.BF16). Both numbers of a product are bfloat16 then, products are
// exact in float32, and only sums round. The order of sums is that of the instruction VDPBF16PS: for each pair of k the
// product of its odd one is added first, then that of its even one, each as a fused multiply-add; what is smaller than 2^-126 is
// zero. Kernels without that instruction get the same numbers as float32, the two k of each pair changed over.

// form is how A and B of a term hold the values of k.
type form uint8

const (
	asFloats form = iota // float32 in order
	pairs                // two bfloat16 values of k, the lower one in the lower half; k counts pairs
	swapped              // float32, the two values of each pair changed over
)

// depth is at how many values, or pairs, of k a term is cut, so that all forms of a product are cut at the same places.
func (f form) depth() int {
	if f == swapped {
		return 2 * depth
	}
	return depth
}

// factor is B of a term.
type factor struct {
	source
	form   form
	values int // of k, for pairs: the last may be half of one
}

// from is the factor from its k-th value or pair on.
func (f factor) from(k int) factor {
	if f.form == pairs {
		k, f.values = 2*k, f.values-2*k
	}
	f.at += k * f.rs
	return f
}

// rounded begins a term of a, of which the first k of each lda values count, and b; it has no columns yet.
func (d *Device) rounded(a []float32, lda, rows, k int, b source) term {
	if !b.m.rounds {
		return term{a: view{a, lda, 1}, k: k, src: factor{source: b}}
	}
	t := term{k: k, form: swapped}
	if d.k.pairs != nil {
		t.k, t.form = blocks(k, 2), pairs
	}
	t.src = factor{b, t.form, k}
	t.a = view{d.round(a, lda, rows, k, t.form), t.k, 1}
	return t
}

// round is a's rows in form f, one behind the other; floats are rounded and stay where they are.
func (d *Device) round(a []float32, lda, rows, k int, f form) []float32 {
	n := k
	if f == pairs {
		n = blocks(k, 2)
	}
	out := d.mem.take(rows * n)
	d.rounding = roundJob{d.vec, f, out, a, lda, rows, k, n}
	d.pool.do(&d.rounding, blocks(rows, roundRows))
	return out
}

// roundJob rounds some rows a task.
type roundJob struct {
	vec         vector
	form        form
	out, in     []float32
	lda, rows   int
	k, outWidth int
}

const roundRows = 8

func (j *roundJob) task(_ *worker, i int) {
	for r := i * roundRows; r < min((i+1)*roundRows, j.rows); r++ {
		j.vec.round(j.out[r*j.outWidth:][:j.outWidth], j.in[r*j.lda:][:j.k], j.form)
	}
}

// roundGo sets out to x in form f.
func roundGo(out, x []float32, f form) {
	switch f {
	case asFloats:
		for i, v := range x {
			out[i] = unbf16(half(v))
		}
	case swapped:
		for i := 0; i+1 < len(x); i += 2 {
			out[i], out[i+1] = unbf16(half(x[i+1])), unbf16(half(x[i]))
		}
		if n := len(x); n%2 == 1 {
			out[n-1] = unbf16(half(x[n-1]))
		}
	case pairs:
		for i := range out {
			lo, hi := half(x[2*i]), uint16(0)
			if 2*i+1 < len(x) {
				hi = half(x[2*i+1])
			}
			out[i] = pair(lo, hi)
		}
	}
}

// half is bf16 as an operand has it: what is smaller than 2^-126 is zero.
func half(v float32) uint16 {
	if b := math.Float32bits(v); b&0x7f800000 == 0 {
		return uint16(b >> 16 & 0x8000)
	}
	return bf16(v)
}

func pair(lo, hi uint16) float32 { return math.Float32frombits(uint32(hi)<<16 | uint32(lo)) }

// pack fills one panel with columns of a term's B: packPanel for all forms.
func (v vector) pack(w *worker, dst []float32, f *factor, nr, n, first, cols int) {
	switch {
	case f.form == pairs:
		v.packPairs(w, dst, f, nr, n, first, cols)
	case f.form == swapped:
		v.packPanel(w, dst, &f.source, nr, n, first, cols)
		for i := 0; i+1 < n; i += 2 {
			lo, hi := dst[i*nr:][:nr], dst[(i+1)*nr:][:nr]
			for j, x := range lo {
				lo[j], hi[j] = hi[j], x
			}
		}
	default:
		v.packPanel(w, dst, &f.source, nr, n, first, cols)
	}
}

// packPairs fills one panel [n][nr] of pairs with columns first … first+nr-1 of B; those outside [0, cols) become zero.
func (v vector) packPairs(w *worker, dst []float32, f *factor, nr, n, first, cols int) {
	lo, hi := max(0, -first), min(nr, cols-first)
	if lo > 0 || hi < nr {
		clear(dst)
	}
	if lo >= hi {
		return
	}
	n = min(n, blocks(f.values, 2))
	at := f.at + (first+lo)*f.cs
	whole := min(n, f.values/2) // pairs with both halves
	done := 0
	switch {
	case f.rs == 1 && f.cs%2 == 0 && at%2 == 0:
		v.transpose(dst[lo:], asPairs(f.m.h)[at/2:], hi-lo, whole, f.cs/2, nr)
		done = whole
	case f.cs == 1:
		done = v.zipPanel(dst, f.m.h[at:], whole, f.rs, hi-lo)
	}
	for i := done; i < n; i++ {
		for j := range hi - lo {
			from, upper := at+2*i*f.rs+j*f.cs, uint16(0)
			if i < whole {
				upper = f.m.h[from+f.rs]
			}
			dst[i*nr+lo+j] = pair(f.m.h[from], upper)
		}
	}
}
