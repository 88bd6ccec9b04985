package cuda

import (
	"errors"
	"fmt"
	"unsafe"

	"lpipe/engine/nf4"
	"lpipe/engine/ops"
)

// memory holds the allocations of a device. It is ops.Memory but for Info, Err and Close.
type memory struct {
	m      Machine
	floats []Pointer  // by ops.Buf.Block-1; 0: freed
	sizes  []int      // their lengths
	ints   []integers // by ops.Ints.Block-1
	stored []stored   // by ops.Weight.Block-1, but for ops.F32
	halves int        // weights there are whose products are bfloat16
	border int
	bytes  int64
	where  *call
	err    error          // the first one
	epoch  int            // counts allocations and what is given back
	read   map[int32]bool // blocks that a snapshot copies, until something waits for it
}

// integers have a copy on the host: only WriteInts changes them, and the head must know how many tokens are trained.
type integers struct {
	p    Pointer
	host []int32
}

// stored is a weight in bfloat16 or NF4. Rows of bfloat16 are ld values apart; with ops.BF16, columns from round8(cols) and rows
// from round8(rows) on are the border, which products without adapters do not see.
type stored struct {
	p, absmax Pointer
	typ       ops.Type
	rows      int
	cols, ld  int
	bytes     int64
}

// maxValues keeps sizes far from where byte counts overflow; no machine holds as much.
const maxValues = 1 << 42

var (
	errTooLarge = errors.New("size out of range")
	errClosed   = errors.New("cuda: the device is closed")
)

// fail keeps the first error and says in which operation it was met.
func (m *memory) fail(err error) {
	if err == nil || m.err != nil {
		return
	}
	m.err = fmt.Errorf("cuda: %v: %w", m.where, err)
}

// take allocates bytes, zero where zero is true; 0 after an error.
func (m *memory) take(bytes int64, zero bool) Pointer {
	if m.err != nil {
		return 0
	}
	m.epoch++
	p, err := m.m.Alloc(max(bytes, 1))
	if err != nil {
		m.fail(fmt.Errorf("allocate %d MB beside %d MB that are in use: %w", bytes>>20, m.bytes>>20, err))
		return 0
	}
	if zero {
		m.fail(m.m.Set(p, 0, bytes))
	}
	m.bytes += bytes
	return p
}

func (m *memory) give(p Pointer, bytes int64) {
	m.bytes -= bytes
	m.epoch++
	if m.err == nil && p != 0 {
		m.fail(m.m.Free(p))
	}
}

// note names an operation on memory for messages.
func (m *memory) note(name string, n int) {
	m.where.name, m.where.names = name, "n"
	m.where.sizes[0] = n
}

func (m *memory) Alloc(n int) ops.Buf {
	m.note("Alloc", n)
	if n < 0 || n > maxValues {
		m.fail(errTooLarge)
		return ops.Buf{}
	}
	p := m.take(4*int64(n), true)
	if m.err != nil {
		return ops.Buf{}
	}
	m.floats, m.sizes = append(m.floats, p), append(m.sizes, n)
	return ops.Buf{Block: int32(len(m.floats)), Len: n}
}

func (m *memory) AllocInts(n int) ops.Ints {
	m.note("AllocInts", n)
	if n < 0 || n > maxValues {
		m.fail(errTooLarge)
		return ops.Ints{}
	}
	p := m.take(4*int64(n), true)
	if m.err != nil {
		return ops.Ints{}
	}
	m.ints = append(m.ints, integers{p, make([]int32, n)})
	return ops.Ints{Block: int32(len(m.ints)), Len: n}
}

func (m *memory) AllocWeight(t ops.Type, rows, cols int) ops.Weight {
	m.note("AllocWeight", rows)
	if rows < 0 || cols < 0 || (cols > 0 && rows > maxValues/cols) {
		m.fail(errTooLarge)
		return ops.Weight{}
	}
	w := ops.Weight{Type: t, Rows: rows, Cols: cols}
	if t == ops.F32 {
		w.Values = m.Alloc(rows * cols)
		w.Block = w.Values.Block
		return w
	}
	s := stored{typ: t, rows: rows, cols: cols, ld: cols}
	switch {
	case t == ops.BF16Exact: // adapters are products of their own: no border
		s.ld = round8(cols)
		s.bytes = 2 * int64(rows) * int64(s.ld)
		s.p = m.take(s.bytes, true)
	case t == ops.BF16:
		s.ld = round8(cols) + m.border
		s.bytes = 2 * int64(round8(rows)+m.border) * int64(s.ld)
		s.p = m.take(s.bytes, true)
	case t.Is4Bit():
		codes, scales := int64(nf4.Bytes(rows*cols)), 4*int64(nf4.Blocks(rows*cols))
		s.bytes = codes + scales
		s.p, s.absmax = m.take(codes, false), m.take(scales, true)
		if m.err == nil {
			m.fail(m.m.Set(s.p, 0x77, codes)) // zeros
		}
	default:
		panic("cuda: unknown weight type")
	}
	if m.err != nil {
		return ops.Weight{}
	}
	if isHalf(t) {
		m.halves++
	}
	m.stored = append(m.stored, s)
	w.Block = int32(len(m.stored))
	return w
}

func (m *memory) Free(b ops.Buf) {
	if b.Present() {
		m.give(m.floats[b.Block-1], 4*int64(m.sizes[b.Block-1]))
		m.floats[b.Block-1], m.sizes[b.Block-1] = 0, 0
	}
}

func (m *memory) FreeInts(b ops.Ints) {
	if b.Present() {
		i := &m.ints[b.Block-1]
		m.give(i.p, 4*int64(len(i.host)))
		*i = integers{}
	}
}

func (m *memory) FreeWeight(w ops.Weight) {
	switch {
	case !w.Present():
	case w.Type == ops.F32:
		m.Free(w.Values)
	default:
		s := &m.stored[w.Block-1]
		m.give(s.p, s.bytes)
		m.give(s.absmax, 0)
		if isHalf(w.Type) {
			m.halves--
		}
		*s = stored{}
	}
}

func (m *memory) Write(dst ops.Buf, src []float32) {
	m.note("Write", len(src))
	if m.err == nil {
		if dst.Len != len(src) {
			panic("cuda: lengths differ")
		}
		m.fail(m.m.Upload(m.changes(dst, len(src)), raw(src)))
	}
}

func (m *memory) Read(dst []float32, src ops.Buf) {
	m.note("Read", len(dst))
	if m.err == nil {
		m.fail(m.m.Download(raw(dst), m.exact(src, len(dst))))
	}
}

func (m *memory) WriteInts(dst ops.Ints, src []int32) {
	m.note("WriteInts", len(src))
	if dst.Len != len(src) {
		panic("cuda: lengths differ")
	}
	if m.err == nil && len(src) > 0 {
		copy(m.host(dst, len(src)), src)
		m.fail(m.m.Upload(m.i(dst, len(src)), raw(src)))
	}
}

func (m *memory) ReadInts(dst []int32, src ops.Ints) {
	if src.Len != len(dst) {
		panic("cuda: lengths differ")
	}
	if m.err == nil && len(dst) > 0 {
		copy(dst, m.host(src, len(dst)))
	}
}

// stage is how many bytes of a weight are converted at a time.
const stage = 16 << 20

func (m *memory) WriteWeight(dst ops.Weight, row int, src []float32) {
	m.note("WriteWeight", len(src))
	if m.err != nil || len(src) == 0 {
		return
	}
	from, _ := rowRange(dst, row, len(src))
	switch {
	case dst.Type == ops.F32:
		m.fail(m.m.Upload(m.f(dst.Values.Slice(from, from+len(src)), len(src)), raw(src)))
	case dst.Type.Is4Bit():
		checkBlock(from)
		codes, absmax := make([]uint8, nf4.Bytes(len(src))), make([]float32, nf4.Blocks(len(src)))
		nf4.Quantise(codes, absmax, src)
		m.WriteNF4(dst, row, codes, absmax)
	default:
		m.writeHalf(m.stored[dst.Block-1], row, src)
	}
}

// writeHalf rounds rows on the host and sends them some at a time.
func (m *memory) writeHalf(s stored, row int, src []float32) {
	rows := max(stage/(2*s.ld), 1)
	buf := make([]uint16, min(rows, len(src)/s.cols)*s.ld)
	for len(src) > 0 && m.err == nil {
		n := min(rows, len(src)/s.cols)
		for r := range n {
			narrow(buf[r*s.ld:][:s.cols], src[r*s.cols:])
		}
		m.fail(m.m.Upload(s.p+Pointer(2*row*s.ld), raw(buf[:n*s.ld])))
		src, row = src[n*s.cols:], row+n
	}
}

func (m *memory) WriteNF4(dst ops.Weight, row int, codes []uint8, absmax []float32) {
	m.note("WriteNF4", 2*len(codes))
	if !dst.Type.Is4Bit() || len(absmax) != nf4.Blocks(2*len(codes)) {
		panic("cuda: NF4 codes for another kind of weight, or of another length than their absmax")
	}
	if m.err != nil || len(codes) == 0 {
		return
	}
	n := min(2*len(codes), dst.Rows*dst.Cols-row*dst.Cols) // a last half byte may be empty
	from, _ := rowRange(dst, row, n)
	checkBlock(from)
	s := m.stored[dst.Block-1]
	m.fail(m.m.Upload(s.p+Pointer(from/2), codes))
	m.fail(m.m.Upload(s.absmax+Pointer(4*(from/nf4.Block)), raw(absmax)))
}

func checkBlock(at int) {
	if at%nf4.Block != 0 {
		panic("cuda: rows of an NF4 weight must be written in whole blocks of 64 values")
	}
}

func (m *memory) ReadWeight(dst []float32, src ops.Weight, row int) {
	m.note("ReadWeight", len(dst))
	if m.err != nil || len(dst) == 0 {
		return
	}
	from, to := rowRange(src, row, len(dst))
	switch {
	case src.Type == ops.F32:
		m.fail(m.m.Download(raw(dst), m.f(src.Values.Slice(from, to), len(dst))))
	case src.Type.Is4Bit():
		s := m.stored[src.Block-1]
		lo, hi := from/nf4.Block, nf4.Blocks(to)
		codes, absmax := make([]uint8, nf4.Bytes(to)-lo*nf4.Block/2), make([]float32, hi-lo)
		m.fail(m.m.Download(codes, s.p+Pointer(lo*nf4.Block/2)))
		if m.err == nil {
			m.fail(m.m.Download(raw(absmax), s.absmax+Pointer(4*lo)))
		}
		nf4.Decode(dst, codes, absmax, from-lo*nf4.Block, src.Type == ops.NF4BF16)
	default:
		m.readHalf(dst, m.stored[src.Block-1], row)
	}
}

func (m *memory) readHalf(dst []float32, s stored, row int) {
	rows := max(stage/(2*s.ld), 1)
	buf := make([]uint16, min(rows, len(dst)/s.cols)*s.ld)
	for len(dst) > 0 && m.err == nil {
		n := min(rows, len(dst)/s.cols)
		m.fail(m.m.Download(raw(buf[:n*s.ld]), s.p+Pointer(2*row*s.ld)))
		for r := range n {
			widen(dst[r*s.cols:][:s.cols], buf[r*s.ld:])
		}
		dst, row = dst[n*s.cols:], row+n
	}
}

func (m *memory) Copy(dst, src ops.Buf, n int) {
	m.note("Copy", n)
	if m.err == nil && n > 0 {
		m.fail(m.m.Copy(m.changes(dst, n), m.f(src, n), 4*int64(n)))
	}
}

func (m *memory) Zero(b ops.Buf) {
	m.note("Zero", b.Len)
	if m.err == nil && b.Len > 0 {
		m.fail(m.m.Set(m.changes(b, b.Len), 0, 4*int64(b.Len)))
	}
}

// f is the address of b, which must hold n values.
func (m *memory) f(b ops.Buf, n int) Pointer {
	if b.Half {
		panic("cuda: rounded values in the place of float32 ones")
	}
	return m.address(b, n)
}

// address is the same for values of any kind.
func (m *memory) address(b ops.Buf, n int) Pointer {
	if !b.Present() || b.Len < n {
		panic("cuda: buffer absent or too small")
	}
	return m.floats[b.Block-1] + Pointer(4*b.Off)
}

// opt is the same, or 0 where b is absent.
func (m *memory) opt(b ops.Buf, n int) Pointer {
	if !b.Present() {
		return 0
	}
	return m.f(b, n)
}

func (m *memory) exact(b ops.Buf, n int) Pointer {
	if b.Len != n {
		panic("cuda: lengths differ")
	}
	return m.f(b, n)
}

func (m *memory) i(b ops.Ints, n int) Pointer {
	if !b.Present() || b.Len < n {
		panic("cuda: buffer absent or too small")
	}
	return m.ints[b.Block-1].p + Pointer(4*b.Off)
}

// host is the host's copy of b.
func (m *memory) host(b ops.Ints, n int) []int32 {
	if !b.Present() || b.Len < n {
		panic("cuda: buffer absent or too small")
	}
	return m.ints[b.Block-1].host[b.Off : b.Off+n]
}

// rowRange is the range of values that n values from a row on take.
func rowRange(w ops.Weight, row, n int) (from, to int) {
	if row < 0 || w.Cols == 0 || n%w.Cols != 0 || row+n/w.Cols > w.Rows {
		panic("cuda: rows outside the weight")
	}
	return row * w.Cols, row*w.Cols + n
}

// raw is the memory of values.
func raw[T float32 | int32 | uint16](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}
