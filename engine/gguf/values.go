package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"lpipe/engine/safetensors"
)

// The types of settings, under the format's numbers.
const (
	kindU32    = 4
	kindI32    = 5
	kindF32    = 6
	kindBool   = 7
	kindString = 8
	kindArray  = 9
)

// value writes a setting's type and value.
func (e *encoder) value(s Setting) {
	switch v := s.Value.(type) {
	case uint32:
		e.u32(kindU32)
		e.u32(v)
	case int32:
		e.u32(kindI32)
		e.u32(uint32(v))
	case float32:
		e.u32(kindF32)
		e.u32(math.Float32bits(v))
	case bool:
		e.u32(kindBool)
		e.raw([]byte{map[bool]byte{true: 1}[v]})
	case string:
		e.u32(kindString)
		e.text(v)
	case []string:
		e.array(kindString, len(v))
		for _, one := range v {
			e.text(one)
		}
	case []int32:
		e.array(kindI32, len(v))
		for _, one := range v {
			e.u32(uint32(one))
		}
	default:
		e.err = fmt.Errorf("setting %s has type %T, which is not written here", s.Name, v)
	}
}

func (e *encoder) array(kind uint32, n int) {
	e.u32(kindArray)
	e.u32(kind)
	e.u64(uint64(n))
}

// tensor writes values as t, rounded to nearest even; Q8_0: see quantise.
func (e *encoder) tensor(t Type, values []float32) {
	switch t {
	case Q8_0:
		var b [2 + block]byte
		for ; len(values) > 0; values = values[block:] {
			quantise(&b, values[:block])
			e.raw(b[:])
		}
	default:
		d := map[Type]safetensors.DType{F32: safetensors.F32, F16: safetensors.F16, BF16: safetensors.BF16}[t]
		if e.err == nil {
			e.err = safetensors.WriteFloat32(e, d, values)
		}
	}
}

// Write lets others write through the encoder.
func (e *encoder) Write(b []byte) (int, error) {
	e.raw(b)
	return len(b), e.err
}

// block is how many values share a scale in Q8_0.
const block = 32

// quantise stores 32 values as ggml's quantize_row_q8_0 does: d = max|v|/127 as a half, and v/d rounded to the nearest
// whole number, halves away from zero. The division is by d before its rounding to a half.
func quantise(b *[2 + block]byte, values []float32) {
	largest := float32(0)
	for _, v := range values {
		largest = max(largest, float32(math.Abs(float64(v))))
	}
	d := largest / 127
	inverse := float32(0)
	if d != 0 {
		inverse = 1 / d
	}
	binary.LittleEndian.PutUint16(b[:], safetensors.Float16(d))
	for i, v := range values {
		b[2+i] = byte(int8(math.Round(float64(v * inverse))))
	}
}
