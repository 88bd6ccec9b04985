package cuda

import (
	"math"

	"lpipe/engine/ops"
)

// narrow rounds values to bfloat16, to nearest, ties to even.
func narrow(dst []uint16, src []float32) {
	for i := range dst {
		b := math.Float32bits(src[i])
		if b&0x7fffffff > 0x7f800000 {
			dst[i] = uint16(b>>16) | 0x40 // NaN stays NaN
			continue
		}
		dst[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
	}
}

// widen makes float32 values of bfloat16.
func widen(dst []float32, src []uint16) {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(src[i]) << 16)
	}
}

// matrix is one operand of a product: rows of ld values, bfloat16 where half, else float32.
type matrix struct {
	p    Pointer
	ld   int
	half bool
}

// at is the same matrix from another row and column on.
func (a matrix) at(row, col int) matrix {
	size := 4
	if a.half {
		size = 2
	}
	a.p += Pointer(size * (row*a.ld + col))
	return a
}

// half makes a bfloat16 copy, times scale, of x [n, cols], whose rows are xld values apart: rows of ld values, the rest
// zero. rows, where there are any, name the rows of x to take.
func (d *Device) half(x, rows Pointer, scale float32, n, xld, cols, ld int) matrix {
	m := matrix{d.scratch.take(2 * n * ld), ld, true}
	p := d.p().ptrs(m.p, x, rows)
	p.f32(scale).i64(n).ints(xld, cols, ld)
	d.each("to_half", n*ld/8)
	return m
}

// operand is x [n, cols] as a product with a weight of that kind wants it.
func (d *Device) operand(x Pointer, half bool, n, cols int) matrix {
	if half {
		return d.half(x, 0, 1, n, cols, cols, round8(cols))
	}
	return matrix{x, cols, false}
}

// weight is a stored weight ready for products, [rows, cols]. With ranks > 0 it has a border for so many: bfloat16 only.
func (d *Device) weight(w ops.Weight, rows, cols, ranks int) matrix {
	d.shape(w, rows, cols)
	if w.Type == ops.F32 {
		return matrix{d.f(w.Values, rows*cols), cols, false}
	}
	s := d.stored[w.Block-1]
	switch w.Type {
	case ops.BF16:
		return matrix{s.p, s.ld, true}
	case ops.BF16Exact:
		m := matrix{d.scratch.take(4 * rows * cols), cols, false}
		d.p().ptrs(m.p, s.p).i64(rows).ints(cols, s.ld)
		d.each("weight_wide", rows*cols)
		return m
	case ops.NF4:
		m := matrix{d.scratch.take(4 * rows * cols), cols, false}
		d.p().ptrs(m.p, s.p, s.absmax).ints(0).i64(rows * cols)
		d.each("weight_float", rows*cols)
		return m
	}
	m := matrix{ld: round8(cols) + round8(ranks), half: true}
	m.p = d.scratch.take(2 * (round8(rows) + round8(ranks)) * m.ld)
	d.p().ptrs(m.p, s.p, s.absmax).i64(rows).ints(cols, m.ld)
	d.each("weight_half", rows*round8(cols)/8)
	return m
}

// shape panics where a weight is absent or not [rows, cols].
func (d *Device) shape(w ops.Weight, rows, cols int) {
	if !w.Present() || w.Rows != rows || w.Cols != cols {
		panic("cuda: weight absent or of another shape")
	}
}

// parts are a weight's storage as kernels that read any type take it. They compute in float32 whatever it is, so that one number
// does for both kinds of bfloat16.
func (d *Device) parts(w ops.Weight) (p, absmax Pointer, typ, ld int) {
	if w.Type == ops.F32 {
		return d.f(w.Values, w.Rows*w.Cols), 0, int(ops.F32), w.Cols
	}
	s := d.stored[w.Block-1]
	if s.typ == ops.BF16Exact {
		return s.p, 0, int(ops.BF16), s.ld
	}
	return s.p, s.absmax, int(s.typ), s.ld
}

// isHalf says whether products with weights of type t are bfloat16.
func isHalf(t ops.Type) bool { return t == ops.BF16 || t == ops.NF4BF16 }
