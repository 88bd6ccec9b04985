// Package nf4 is 4-bit NormalFloat (Dettmers et al. 2023, arXiv 2305.14314), byte for byte as bitsandbytes writes it
// into checkpoints: a matrix seen flat, row after row, in blocks of 64 values. A block is one absmax and 64 codes, each the
// index of the nearest of 16 Values to value/absmax.
//
// Double quantisation stores the absmax too in 8 bits: see Double.
package nf4

import "slices"

// Block is the number of values that share an absmax.
const Block = 64

// Values are what the codes stand for: quantiles of the normal distribution, and 0 (bitsandbytes'
// create_normal_map).
func Values() [16]float32 {
	return [16]float32{
		-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
		-0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
		0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
	}
}

// Blocks is the number of blocks of n values, Bytes that of their codes.
func Blocks(n int) int { return (n + Block - 1) / Block }

// Bytes is the number of bytes that the codes of n values take.
func Bytes(n int) int { return (n + 1) / 2 }

// smallest keeps the reciprocal of an absmax finite, as bitsandbytes does.
const smallest = 1e-38

// Quantise sets codes [Bytes(n)] and absmax [Blocks(n)] of n values: the even value of a byte in the high half. A value
// in the middle between two codes gets the lower one; the half of the last byte that holds no value is the code of 0.
func Quantise(codes []uint8, absmax, values []float32) {
	middles := middles()
	for b := range Blocks(len(values)) {
		block := values[b*Block : min((b+1)*Block, len(values))]
		var top float32
		for _, v := range block {
			top = max(top, v, -v)
		}
		absmax[b] = top
		inverse := 1 / max(top, smallest) // multiplied by the reciprocal, not divided: the last bit decides ties
		for i := 0; i < len(block); i += 2 {
			low := uint8(7)
			if i+1 < len(block) {
				low = nearest(&middles, block[i+1]*inverse)
			}
			codes[(b*Block+i)/2] = nearest(&middles, block[i]*inverse)<<4 | low
		}
	}
}

// middles are the thresholds between codes.
func middles() (m [15]float32) {
	values := Values()
	for i := range m {
		m[i] = (values[i] + values[i+1]) / 2
	}
	return m
}

func nearest(middles *[15]float32, v float32) (code uint8) {
	for code < 15 && v > middles[code] {
		code++
	}
	return code
}

// Nested is an absmax in 8 bits: blocks of 256 of (absmax - Offset) share a Scale, and a code is the index of the nearest
// of DynamicMap to their quotient.
type Nested struct {
	Codes  []uint8
	Scales []float32 // nested_absmax
	Offset float32   // nested_offset: the mean
}

// NestedBlock is the number of absmax that share a scale.
const NestedBlock = 256

// Double quantises absmax. The mean is taken in float64 and rounded once; torch's own float32 sum may differ in its
// last bits.
func Double(absmax []float32) Nested {
	sum := 0.0
	for _, v := range absmax {
		sum += float64(v)
	}
	return DoubleAround(float32(sum/float64(max(1, len(absmax)))), absmax)
}

// DoubleAround is Double with a given mean. A quotient in the middle between two codes gets the lower one.
func DoubleAround(offset float32, absmax []float32) Nested {
	n := Nested{Offset: offset, Codes: make([]uint8, len(absmax))}
	table := DynamicMap()
	middles := make([]float32, len(table)-1)
	for i := range middles {
		middles[i] = (table[i] + table[i+1]) / 2
	}
	for from := 0; from < len(absmax); from += NestedBlock {
		block := absmax[from:min(from+NestedBlock, len(absmax))]
		var top float32
		for _, v := range block {
			top = max(top, v-offset, offset-v)
		}
		n.Scales = append(n.Scales, top)
		inverse := 1 / max(top, smallest)
		for i, v := range block {
			code, _ := slices.BinarySearch(middles, (v-offset)*inverse)
			n.Codes[from+i] = uint8(code)
		}
	}
	return n
}

// Restore sets absmax to what n stands for: product and sum each rounded to float32.
func (n Nested) Restore(absmax []float32) {
	table := DynamicMap()
	for i, code := range n.Codes {
		absmax[i] = float32(table[code]*n.Scales[i/NestedBlock]) + n.Offset
	}
}

// DynamicMap is bitsandbytes' create_dynamic_map, signed and with 7 exponent bits: for each decade 10^-6 … 1 the middles of 2^i
// equal steps from 0.1 to 1, both signs, and 0 and 1. The roundings are those of torch.linspace and of float32
// arithmetic, so that the table has the bits of those in checkpoints.
func DynamicMap() []float32 {
	table := []float32{0, 1}
	decade := [7]float32{1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1}
	for i, scale := range decade {
		steps := 1 << i
		for k := range steps {
			middle := (linspace(k, steps) + linspace(k+1, steps)) / 2
			table = append(table, scale*middle, -scale*middle)
		}
	}
	slices.Sort(table)
	return table
}

// linspace is element k of torch.linspace(0.1, 1, steps+1): the first half from the beginning, the second from the end,
// with one rounding each.
func linspace(k, steps int) float32 {
	const from = float32(0.1)
	step := (1 - from) / float32(steps)
	if k < (steps+1)/2 {
		return float32(float64(from) + float64(float64(step)*float64(k)))
	}
	return float32(1 - float64(float64(step)*float64(steps-k)))
}
