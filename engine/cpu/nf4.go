package cpu

import "lpipe/engine/nf4"

// normal4 is a flat matrix in 4-bit NormalFloat: see package nf4.
type normal4 struct {
	codes  []uint8
	absmax []float32
	half   bool // values are rounded to bfloat16: ops.NF4BF16
}

func newNormal4(n int, half bool) normal4 {
	q := normal4{make([]uint8, nf4.Bytes(n)), make([]float32, nf4.Blocks(n)), half}
	for i := range q.codes {
		q.codes[i] = 0x77 // zeros
	}
	return q
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
