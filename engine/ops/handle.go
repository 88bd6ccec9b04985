package ops

// Buf is a handle to float32 values in a device's memory: a range of one allocation. The zero Buf is
// absent. Handles are plain values; slicing one copies nothing.
type Buf struct {
	Block int32 // the device's number for the allocation, from 1; 0 is absent
	Off   int   // first value
	Len   int   // number of values
	Half  bool  // holds rounded values instead, in a layout of the device's own: see Rounder
}

// Present says whether b is a buffer at all.
func (b Buf) Present() bool { return b.Block != 0 }

// Slice is the part [from, to) of b.
func (b Buf) Slice(from, to int) Buf {
	if from < 0 || to < from || to > b.Len {
		panic("ops: slice outside its buffer")
	}
	return Buf{b.Block, b.Off + from, to - from, b.Half}
}

// Ints is a handle to int32 values (token ids, positions, document starts) in a device's memory.
type Ints struct {
	Block int32
	Off   int
	Len   int
}

// Present says whether b is a buffer at all.
func (b Ints) Present() bool { return b.Block != 0 }

// Slice is the part [from, to) of b.
func (b Ints) Slice(from, to int) Ints {
	if from < 0 || to < from || to > b.Len {
		panic("ops: slice outside its buffer")
	}
	return Ints{b.Block, b.Off + from, to - from}
}

// Type is how a weight's values are stored. Sums are float32 whatever the storage.
type Type uint8

// The storage types of weights.
const (
	F32       Type = iota // 4 bytes a value
	BF16                  // 2 bytes a value, rounded to nearest even; products round their other operand too
	NF4                   // half a byte a value and 4 bytes for 64: bitsandbytes' NormalFloat; rows are written in whole blocks of 64 values
	NF4BF16               // the same; what a code stands for is rounded to bfloat16, as bitsandbytes does for a bfloat16 model
	BF16Exact             // stored as BF16, but a product is that of the same values in float32
)

// Is4Bit says whether t is one of the NormalFloat types.
func (t Type) Is4Bit() bool { return t == NF4 || t == NF4BF16 }

// Weight is a handle to a matrix [Rows, Cols], row-major, in one of several storages. Only an F32
// weight can be trained: Values is then its memory, which AdamW and Read take like any other buffer.
// For other types Values is absent and the device keeps the storage under Block.
type Weight struct {
	Block      int32
	Type       Type
	Rows, Cols int
	Values     Buf
}

// Present says whether w is a weight at all.
func (w Weight) Present() bool { return w.Block != 0 }

// LoRA is one low-rank adapter on some of a linear's output columns:
//
//	y[:, Col:Col+F] += Scale · (dropout(x) Aᵀ) Bᵀ
//
// (Hu et al. 2021, arXiv 2106.09685, section 4.1). A linear over stacked weights has one adapter a
// projection; a projection without one has no entry. DA and DB are absent when no gradient is wanted.
type LoRA struct {
	A, B   Buf     // [R, C], [F, R]
	DA, DB Buf     // their gradients, added to by LinearBackward
	M, DM  Buf     // DoRA: the length of each output row [F], and its gradient; absent: plain LoRA. Only the DoRA operations use them
	Col, F int     // the output columns that it adds to
	R      int     // rank
	Scale  float32 // alpha/R, or alpha/√R (rsLoRA)
	Drop   float32 // probability that an input element is dropped before A; 0: none
	Seed   uint64  // names the mask: must differ for every adapter, step and micro-batch
}

// AdamW holds the numbers of one optimiser step. See Device.AdamW.
type AdamW struct {
	LR, Beta1, Beta2, Eps, Decay float64
	GradScale                    float64 // multiplies the gradient first; 1: as it is
	Factor                       Buf     // [1], may be absent: so does this (see Device.ClipFactor); where it is NaN nothing is changed
	Step                         int     // counts from 1
}

// Lion holds the numbers of one optimiser step. See Device.Lion.
type Lion struct {
	LR, Beta1, Beta2, Decay float64
	GradScale               float64 // multiplies the gradient first; 1: as it is
	Factor                  Buf     // as in AdamW
}

// Info describes a device, for messages and records.
type Info struct {
	Name    string // "cpu", "cuda:0"
	Detail  string // processor and chosen kernels
	Threads int    // of the processor; 0: another one computes
	Bytes   int64  // of allocations that were not freed; the scratch of operations is not among them
	Scratch int64  // bytes that operations keep for their own use, so far
	Memory  int64  // bytes that the device has, if it has a memory of its own; 0: the process's, or not known
	Repeats string // what Repeat found out last: how long a pass takes as a recording and without; "": nothing yet
	Counts  bool   // nothing is computed, only memory is counted: see Outliner
	// TensorCores make products of bfloat16 numbers some ten times as fast as those of float32 ones: where nobody asked for float32,
	// BF16 is to be taken instead of BF16Exact.
	TensorCores bool
}

// Snapshotter is a Device that copies buffers to the host while it goes on computing.
type Snapshotter interface {
	// Snapshot begins to copy src as they are after everything before it. arrived waits for that and may be called by another
	// goroutine; what it returns may only be read, and is valid until the next Snapshot or Close. What changes src in the meantime
	// waits its turn on the device: Write, Copy, Zero, Add, Scale, AdamW and Lion. Nothing else may change it.
	Snapshot(src []Buf) (arrived func() ([][]float32, error))
}

// Rounder is a Device whose products with some weights begin by rounding the other operand. Those that make it can hand it on
// rounded: they take half the memory, and no bit of what the products make of them changes.
type Rounder interface {
	// Rounded is the length of a Buf, with Half set, for N rows of C values that only products with w see; 0 where those take them
	// as they are. It may be out of RMSNorm, h of SwiGLU and x of Linear and LinearBackward, whose adapters then have no dropout; or
	// dgateUp of SwiGLUBackward and dy of LinearBackward.
	Rounded(w Weight, N, C int) int
}

// Repeater is a Device that can do a list of operations again without being told each of them.
type Repeater interface {
	// Repeat does what work does: operations alone, nothing that allocates, writes or reads. key names them, and is comparable: with the
	// same key work would call the same operations with the same arguments, as long as nothing was allocated or freed in between.
	// Then it need not be called.
	Repeat(key any, work func())
}

// Outliner is a Device whose memory is no place to try in what would fit.
type Outliner interface {
	// Outline is a twin that has no memory and computes nothing: allocations are counted in its Info, and cost nothing.
	Outline() Device
}

// Rehearser is a Device that can say what scratch memory operations take before it computes them.
type Rehearser interface {
	// Rehearse runs pass, whose operations then plan their work and do none. It returns the bytes of Info's Scratch that there
	// would be after it. What buffers hold afterwards is undefined.
	Rehearse(pass func()) int64
}
