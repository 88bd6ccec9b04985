package cpu

import (
	"errors"

	"lpipe/engine/nf4"
	"lpipe/engine/ops"
)

// memory holds the allocations of a device. It is ops.Memory but for Info and Close.
type memory struct {
	floats []allocation[float32] // by ops.Buf.Block-1; empty: freed
	ints   []allocation[int32]   // by ops.Ints.Block-1
	halves []allocation[uint16]  // by ops.Weight.Block-1 for ops.BF16 and ops.BF16Exact
	nf4s   []normal4             // by ops.Weight.Block-1 for ops.NF4 and ops.NF4BF16
	bytes  int64
	err    error // the first one; see ops.Device
}

// maxValues keeps sizes far from where byte counts overflow; no machine holds as much.
const maxValues = 1 << 42

var errTooLarge = errors.New("allocate on cpu: size out of range")

func (m *memory) Alloc(n int) ops.Buf {
	if n < 0 || n > maxValues {
		m.fail(errTooLarge)
		return ops.Buf{}
	}
	b, err := allocate[float32](n)
	if err != nil {
		m.fail(err)
		return ops.Buf{}
	}
	m.floats = append(m.floats, b)
	m.bytes += 4 * int64(n)
	return ops.Buf{Block: int32(len(m.floats)), Len: n}
}

func (m *memory) AllocInts(n int) ops.Ints {
	if n < 0 || n > maxValues {
		m.fail(errTooLarge)
		return ops.Ints{}
	}
	b, err := allocate[int32](n)
	if err != nil {
		m.fail(err)
		return ops.Ints{}
	}
	m.ints = append(m.ints, b)
	m.bytes += 4 * int64(n)
	return ops.Ints{Block: int32(len(m.ints)), Len: n}
}

func (m *memory) AllocWeight(t ops.Type, rows, cols int) ops.Weight {
	if rows < 0 || cols < 0 || (cols > 0 && rows > maxValues/cols) {
		m.fail(errTooLarge)
		return ops.Weight{}
	}
	w := ops.Weight{Type: t, Rows: rows, Cols: cols}
	var err error
	switch t {
	case ops.F32:
		w.Values = m.Alloc(rows * cols)
		w.Block = w.Values.Block
	case ops.BF16, ops.BF16Exact:
		var b allocation[uint16]
		b, err = allocate[uint16](rows * cols)
		m.halves = append(m.halves, b)
		m.bytes += 2 * int64(len(b.values))
		w.Block = int32(len(m.halves))
	case ops.NF4, ops.NF4BF16:
		var q normal4
		q, err = newNormal4(rows*cols, t == ops.NF4BF16)
		m.nf4s = append(m.nf4s, q)
		m.bytes += q.bytes()
		w.Block = int32(len(m.nf4s))
	default:
		panic("cpu: unknown weight type")
	}
	if err != nil {
		m.fail(err)
		return ops.Weight{}
	}
	return w
}

func (m *memory) Free(b ops.Buf) {
	if b.Present() {
		m.bytes -= 4 * int64(len(m.floats[b.Block-1].values))
		m.floats[b.Block-1].free()
	}
}

func (m *memory) FreeInts(b ops.Ints) {
	if b.Present() {
		m.bytes -= 4 * int64(len(m.ints[b.Block-1].values))
		m.ints[b.Block-1].free()
	}
}

func (m *memory) FreeWeight(w ops.Weight) {
	switch {
	case !w.Present():
	case w.Type == ops.F32:
		m.Free(w.Values)
	case w.Type.Is4Bit():
		m.bytes -= m.nf4s[w.Block-1].bytes()
		m.nf4s[w.Block-1].free()
	default:
		m.bytes -= 2 * int64(len(m.halves[w.Block-1].values))
		m.halves[w.Block-1].free()
	}
}

// freeAll gives everything back.
func (m *memory) freeAll() {
	for i := range m.floats {
		m.floats[i].free()
	}
	for i := range m.ints {
		m.ints[i].free()
	}
	for i := range m.halves {
		m.halves[i].free()
	}
	for i := range m.nf4s {
		m.nf4s[i].free()
	}
	*m = memory{}
}

func (m *memory) Write(dst ops.Buf, src []float32) {
	if m.err == nil {
		copy(m.exact(dst, len(src)), src)
	}
}

func (m *memory) Read(dst []float32, src ops.Buf) {
	if m.err == nil {
		copy(dst, m.exact(src, len(dst)))
	}
}

func (m *memory) WriteInts(dst ops.Ints, src []int32) {
	if dst.Len != len(src) {
		panic("cpu: lengths differ")
	}
	if m.err == nil {
		copy(m.i(dst, len(src)), src)
	}
}

func (m *memory) ReadInts(dst []int32, src ops.Ints) {
	if src.Len != len(dst) {
		panic("cpu: lengths differ")
	}
	if m.err == nil {
		copy(dst, m.i(src, len(dst)))
	}
}

func (m *memory) WriteWeight(dst ops.Weight, row int, src []float32) {
	if m.err != nil || len(src) == 0 {
		return
	}
	from, to := rowRange(dst, row, len(src))
	switch dst.Type {
	case ops.F32:
		copy(m.f(dst.Values, to)[from:to], src)
	case ops.NF4, ops.NF4BF16:
		m.nf4s[dst.Block-1].encode(from, src)
	default:
		for i, v := range src {
			m.halves[dst.Block-1].values[from+i] = bf16(v)
		}
	}
}

func (m *memory) WriteNF4(dst ops.Weight, row int, codes []uint8, absmax []float32) {
	if !dst.Type.Is4Bit() || len(absmax) != nf4.Blocks(2*len(codes)) {
		panic("cpu: NF4 codes for another kind of weight, or of another length than their absmax")
	}
	if m.err != nil || len(codes) == 0 {
		return
	}
	n := min(2*len(codes), dst.Rows*dst.Cols-row*dst.Cols) // a last half byte may be empty
	from, _ := rowRange(dst, row, n)
	m.nf4s[dst.Block-1].write(from, codes, absmax)
}

func (m *memory) ReadWeight(dst []float32, src ops.Weight, row int) {
	if m.err != nil || len(dst) == 0 {
		return
	}
	from, _ := rowRange(src, row, len(dst))
	stored := m.w(src, src.Rows, src.Cols)
	stored.decode(dst, from)
}

func (m *memory) Copy(dst, src ops.Buf, n int) {
	if m.err == nil {
		copy(m.f(dst, n), m.f(src, n))
	}
}

func (m *memory) Zero(b ops.Buf) {
	if m.err == nil {
		clear(m.f(b, b.Len))
	}
}

func (m *memory) Err() error { return m.err }

// Failed is the same: nothing runs later.
func (m *memory) Failed() error { return m.err }

func (m *memory) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// f is the first n values of b.
func (m *memory) f(b ops.Buf, n int) []float32 {
	if !b.Present() || b.Len < n {
		panic("cpu: buffer absent or too small")
	}
	return m.floats[b.Block-1].values[b.Off : b.Off+n : b.Off+b.Len]
}

// opt is the first n values of b, or nil where b is absent.
func (m *memory) opt(b ops.Buf, n int) []float32 {
	if !b.Present() {
		return nil
	}
	return m.f(b, n)
}

func (m *memory) exact(b ops.Buf, n int) []float32 {
	if b.Len != n {
		panic("cpu: lengths differ")
	}
	if n == 0 {
		return nil
	}
	return m.f(b, n)
}

// i is the first n values of b.
func (m *memory) i(b ops.Ints, n int) []int32 {
	if !b.Present() || b.Len < n {
		panic("cpu: buffer absent or too small")
	}
	return m.ints[b.Block-1].values[b.Off : b.Off+n : b.Off+b.Len]
}

// w is the values of a weight that must be [rows, cols].
func (m *memory) w(w ops.Weight, rows, cols int) matrix {
	if !w.Present() || w.Rows != rows || w.Cols != cols {
		panic("cpu: weight absent or of another shape")
	}
	switch w.Type {
	case ops.F32:
		return matrix{f: m.f(w.Values, rows*cols), cols: cols}
	case ops.NF4, ops.NF4BF16:
		return matrix{q: m.nf4s[w.Block-1], cols: cols}
	}
	return matrix{h: m.halves[w.Block-1].values, cols: cols, rounds: w.Type == ops.BF16}
}

// rowRange is the range of values that n values from a row on take.
func rowRange(w ops.Weight, row, n int) (from, to int) {
	if row < 0 || w.Cols == 0 || n%w.Cols != 0 || row+n/w.Cols > w.Rows {
		panic("cpu: rows outside the weight")
	}
	return row * w.Cols, row*w.Cols + n
}

// matrix is a stored weight. One of f, h and q holds it.
type matrix struct {
	f    []float32
	h    []uint16 // bfloat16
	q    normal4
	cols int

	rounds bool // products round their other operand to bfloat16
}

// decode sets dst to the values from at on.
func (m *matrix) decode(dst []float32, at int) {
	switch {
	case m.f != nil:
		copy(dst, m.f[at:])
	case m.h != nil:
		widen(dst, m.h[at:at+len(dst)])
	default:
		m.q.decode(dst, at)
	}
}

// row sets dst to one row.
func (m *matrix) row(dst []float32, row int) { m.decode(dst[:m.cols], row*m.cols) }

// operand is what products with the matrix make of their other operand: v, or v rounded.
func (m matrix) operand(v []float32) []float32 {
	if !m.rounds {
		return v
	}
	out := make([]float32, len(v))
	roundGo(out, v, asFloats)
	return out
}

// all is the whole matrix as float32.
func (m matrix) all(rows int) []float32 {
	if m.f != nil {
		return m.f
	}
	out := make([]float32, rows*m.cols)
	m.decode(out, 0)
	return out
}
