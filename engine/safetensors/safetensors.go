// Package safetensors reads and writes the weight files of Hugging Face: one file, or a folder of shards
// with an index.
//
// A file is 8 bytes of header length (little endian), a JSON header that gives each tensor's type, shape and
// place, and then the tensors' bytes without holes
// (https://huggingface.co/docs/safetensors/index#format). Open maps the file and checks the whole header
// before anything is read, so that a truncated or lying file is one clear error and never a wrong weight.
// Write makes the same bytes for the same tensors, in any order of the arguments.
package safetensors

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// DType is a tensor's element type, as the header spells it.
type DType string

// The element types of the format.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	I16  DType = "I16"
	I8   DType = "I8"
	U64  DType = "U64"
	U32  DType = "U32"
	U16  DType = "U16"
	U8   DType = "U8"
	Bool DType = "BOOL"
)

// rank is a type's place in the order of the format's own enumeration. Files written by the reference
// implementation sort by it, descending, so that every tensor is aligned to its elements.
func (d DType) rank() int {
	return slices.Index([]DType{Bool, U8, I8, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64}, d)
}

// Size is the number of bytes of one element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case F64, I64, U64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	case I8, U8, Bool:
		return 1
	}
	return 0
}

// Tensor describes one tensor of a file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // no dimensions: one number

	begin, end int64 // in the data section
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes is the number of bytes that the elements take.
func (t Tensor) Bytes() int64 { return int64(t.Len()) * int64(t.DType.Size()) }

// check says whether a tensor's type, shape and offsets fit each other and a data section of size bytes.
func (t Tensor) check(size int64) error {
	width := int64(t.DType.Size())
	if width == 0 {
		return fmt.Errorf("tensor %q has type %q, which this version does not know", t.Name, t.DType)
	}
	want := width
	for _, d := range t.Shape {
		if d < 0 {
			return fmt.Errorf("tensor %q has a negative dimension in shape %v", t.Name, t.Shape)
		}
		if d > 0 && want > math.MaxInt64/int64(d) {
			return fmt.Errorf("tensor %q has shape %v, which is larger than any file", t.Name, t.Shape)
		}
		want *= int64(d)
	}
	if t.begin < 0 || t.end < t.begin || t.end > size {
		return fmt.Errorf("tensor %q lies at bytes %d..%d, but the file has %d bytes of data: it is truncated or damaged", t.Name, t.begin, t.end, size)
	}
	if t.end-t.begin != want {
		return fmt.Errorf("tensor %q of type %s and shape %v needs %d bytes, but its offsets %d..%d hold %d", t.Name, t.DType, t.Shape, want, t.begin, t.end, t.end-t.begin)
	}
	return nil
}

// byPlace sorts tensors as the reference implementation writes them: wide types first, then by name.
func byPlace(a, b Tensor) int {
	if d := b.DType.rank() - a.DType.rank(); d != 0 {
		return d
	}
	return strings.Compare(a.Name, b.Name)
}
