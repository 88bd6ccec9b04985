package cpu

// nf4 is a flat matrix in 4-bit NormalFloat (Dettmers et al. 2023, arXiv 2305.14314), byte for byte as bitsandbytes
// stores it: blocks of 64 values of the row-major matrix share one absmax; two values a byte, the even one in the high
// half.
type nf4 struct {
	codes  []uint8
	absmax []float32
}

const nf4Block = 64

// nf4Values are the 16 values of a code: quantiles of the normal distribution, and 0.
var nf4Values = [16]float32{
	-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
	-0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
	0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
}

func newNF4(n int) nf4 {
	q := nf4{make([]uint8, (n+1)/2), make([]float32, blocks(n, nf4Block))}
	for i := range q.codes {
		q.codes[i] = 0x77 // zeros
	}
	return q
}

func (q nf4) bytes() int64 { return int64(len(q.codes)) + 4*int64(len(q.absmax)) }

// encode stores values from a block's first on. Values that were decoded before give the same bytes again: a block's
// largest value is its absmax exactly.
func (q nf4) encode(at int, values []float32) {
	if at%nf4Block != 0 {
		panic("cpu: rows of an NF4 weight must be written in whole blocks of 64 values")
	}
	for i := 0; i < len(values); i += nf4Block {
		block := values[i:min(i+nf4Block, len(values))]
		var top float32
		for _, v := range block {
			top = max(top, max(v, -v))
		}
		q.absmax[(at+i)/nf4Block] = top
		inverse := 1 / max(top, 1e-38) // bitsandbytes multiplies by the reciprocal, clamped so
		for j, v := range block {
			e := at + i + j
			shift := uint(4 * (1 - e&1))
			q.codes[e/2] = q.codes[e/2]&^(15<<shift) | nearestNF4(v*inverse)<<shift
		}
	}
}

// nearestNF4 is the code nearest to v, the lower one in the middle between two.
func nearestNF4(v float32) uint8 {
	var code uint8
	for code < 15 && v > (nf4Values[code]+nf4Values[code+1])/2 {
		code++
	}
	return code
}

// decode sets dst to the values from at on.
func (q nf4) decode(dst []float32, at int) {
	for i := range dst {
		e := at + i
		dst[i] = nf4Values[q.codes[e/2]>>(4*(1-e&1))&15] * q.absmax[e/nf4Block]
	}
}
