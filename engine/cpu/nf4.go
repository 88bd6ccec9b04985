package cpu

import (
	"unsafe"

	"lpipe/engine/nf4"
)

// normal4 is a flat matrix in 4-bit NormalFloat: see package nf4.
type normal4 struct {
	codes  []uint8
	absmax []float32
	half   bool                // values are rounded to bfloat16: ops.NF4BF16
	memory allocation[float32] // of both
}

// newNormal4 makes n zeros: every absmax is 0, whatever the codes.
func newNormal4(n int, half bool) (normal4, error) {
	scales := nf4.Blocks(n)
	memory, err := allocate[float32](scales + (nf4.Bytes(n)+3)/4)
	if err != nil || n == 0 {
		return normal4{half: half}, err
	}
	codes := unsafe.Slice((*uint8)(unsafe.Pointer(&memory.values[scales])), nf4.Bytes(n))
	return normal4{codes, memory.values[:scales], half, memory}, nil
}

func (q *normal4) free() {
	q.memory.free()
	*q = normal4{}
}

func (q normal4) bytes() int64 { return int64(len(q.codes)) + 4*int64(len(q.absmax)) }

// encode stores values from a block's first on.
func (q normal4) encode(at int, values []float32) {
	checkBlock(at)
	nf4.Quantise(q.codes[at/2:], q.absmax[at/nf4.Block:], values)
}

// write stores codes and absmax from a block's first on.
func (q normal4) write(at int, codes []uint8, absmax []float32) {
	checkBlock(at)
	copy(q.codes[at/2:], codes)
	copy(q.absmax[at/nf4.Block:], absmax)
}

func checkBlock(at int) {
	if at%nf4.Block != 0 {
		panic("cpu: rows of an NF4 weight must be written in whole blocks of 64 values")
	}
}

// decode sets dst to the values from at on.
func (q normal4) decode(dst []float32, at int) { nf4.Decode(dst, q.codes, q.absmax, at, q.half) }
