package cuda

import (
	"encoding/binary"
	"math"
)

// Pointer is an address in a machine's memory; 0 is none.
type Pointer uint64

// Machine has memory and runs kernels, in the order in which they are given; it may return before they have run. It is used
// by one goroutine at a time.
type Machine interface {
	// Alloc returns bytes, aligned to 256, whose content is undefined.
	Alloc(bytes int64) (Pointer, error)
	Free(p Pointer) error
	// Set sets every byte.
	Set(p Pointer, value byte, bytes int64) error
	// Upload may return before src has arrived, but src may be changed then. Download waits for everything before it.
	Upload(dst Pointer, src []byte) error
	Download(dst []byte, src Pointer) error
	Copy(dst, src Pointer, bytes int64) error
	// Fetch begins to copy regions to the host as they are after everything before, beside what comes later, which must not change
	// them before AfterFetch. arrived waits for them and returns them one behind the other, valid until the next Fetch; any
	// goroutine may call it, before Close.
	Fetch(parts []Part) (arrived func() ([]byte, error), err error)
	// AfterFetch makes what comes later wait until the latest Fetch has been copied. It does not wait itself.
	AfterFetch() error
	// Launch starts a kernel: grid blocks of so many threads, a multiple of 32, with so many bytes of shared memory.
	Launch(kernel string, grid [3]uint32, threads, shared uint32, p *Params) error
	// Product computes like the kernels gemm, gemm_nt, gemm_nn and gemm_tn; false: it has no faster way.
	Product(p *Product) (bool, error)
	// Record keeps what work launches, sets, copies and multiplies, without doing it. errors.ErrUnsupported: it cannot.
	Record(work func()) (Recording, error)
	// Sync waits for everything and returns what went wrong in it.
	Sync() error
	Describe() Description
	Close() error
}

// Recording is a list of work that a machine does at once.
type Recording interface {
	Run() error
	Forget()
}

// Part is a region of a machine's memory.
type Part struct {
	From  Pointer
	Bytes int
}

// Description is what a Machine says of itself.
type Description struct {
	Name   string // "cuda:0"
	Detail string // the GPU, its driver, cuBLASLt
	Memory int64  // bytes in all; 0: not known
	Units  int    // multiprocessors
	Shared int    // bytes of shared memory that a block can have; 0: not known
}

// Product is C [M,N] = Alpha·op(A) op(B) + Bias, or added to C. A is [M,K], or [K,M] where TransA; B is [N,K] where TransB, or
// [K,N]. Lines of the matrices as stored are LDA, LDB and LDC values apart.
type Product struct {
	C, A, B, Bias  Pointer // Bias [N] may be none
	Half           bool    // A and B hold bfloat16; else float32. C and Bias are float32
	TransA, TransB bool
	Alpha          float32
	Add            bool
	M, N, K        int
	LDC, LDA, LDB  int
}

// maxParams is the largest number of parameters of a kernel, each of at most 8 bytes.
const maxParams = 24

// Params are a kernel's parameters, each of the size that the kernel declares.
type Params struct {
	Bytes [8 * maxParams]byte // parameter i lies at 8·i
	Sizes [maxParams]uint32
	Count int
}

func (p *Params) next(size uint32) []byte {
	i := p.Count
	p.Sizes[i] = size
	p.Count++
	return p.Bytes[8*i : 8*i+8]
}

func (p *Params) reset() *Params { p.Count = 0; return p }

func (p *Params) ptr(v Pointer) *Params { return p.u64(uint64(v)) }

func (p *Params) u64(v uint64) *Params {
	binary.LittleEndian.PutUint64(p.next(8), v)
	return p
}

func (p *Params) i64(v int) *Params { return p.u64(uint64(v)) }

func (p *Params) f64(v float64) *Params { return p.u64(math.Float64bits(v)) }

func (p *Params) u32(v uint32) *Params {
	binary.LittleEndian.PutUint32(p.next(4), v)
	return p
}

// ints are several int parameters.
func (p *Params) ints(v ...int) *Params {
	for _, n := range v {
		p.u32(uint32(int32(n)))
	}
	return p
}

func (p *Params) f32(v ...float32) *Params {
	for _, x := range v {
		p.u32(math.Float32bits(x))
	}
	return p
}

// ptrs are several pointers.
func (p *Params) ptrs(v ...Pointer) *Params {
	for _, x := range v {
		p.ptr(x)
	}
	return p
}

// AddBias launches what is left of a product that a machine made without its bias: C += Bias, where LDC is N.
func AddBias(m Machine, p *Product) error {
	var params Params
	params.ptrs(p.C, p.Bias).i64(p.M).i64(p.N)
	grid := [3]uint32{uint32(min(blocks(p.M*p.N, eachThreads), eachBlocks)), 1, 1}
	return m.Launch("add_bias", grid, eachThreads, 0, &params)
}
