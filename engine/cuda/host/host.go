//go:build cgo && (cudahost || cuda)

package host

/*
#cgo CXXFLAGS: -std=c++17 -O2 -Wall -Wno-unknown-pragmas
#include <stdlib.h>
const char *shim_launch(const char *name, const unsigned grid[3], unsigned threads, unsigned shared, const void *params,
                        const unsigned *at, const unsigned *sizes, int count, unsigned order);
*/
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"unsafe"

	"lpipe/engine/cuda"
)

// Machine is the processor. Its zero value is ready. One machine at a time may run kernels in a process.
type Machine struct {
	// Order is that of threads and blocks: 0 rising, 1 falling, any other a shuffled one.
	Order uint32
	// Shared is how much shared memory a block can have. 0: that of sm_90.
	Shared int
	// Limit is how many bytes may be allocated; 0: all that there are.
	Limit int64

	list   *recording // what Record collects; nil: all is done at once
	names  map[string]*C.char
	blocks map[cuda.Pointer]block
	used   int64
}

var _ cuda.Machine = (*Machine)(nil)

// block is an allocation: what malloc gave, and the bytes that may be used.
type block struct {
	raw   unsafe.Pointer
	bytes int64
}

// An allocation lies between guards, which must stay as they are.
const (
	guard     = 256
	guardByte = 0xa5
	unset     = 0xff // NaN, as float or bfloat16
)

// Alloc returns memory full of NaN between guards.
func (m *Machine) Alloc(bytes int64) (cuda.Pointer, error) {
	if m.Limit > 0 && m.used+bytes > m.Limit {
		return 0, errors.New("out of memory")
	}
	raw := C.malloc(C.size_t(bytes + 3*guard))
	if raw == nil {
		return 0, errors.New("out of memory")
	}
	p := cuda.Pointer((uintptr(raw) + guard + 255) &^ 255)
	set(p-guard, guardByte, bytes+2*guard)
	set(p, unset, bytes)
	if m.blocks == nil {
		m.blocks, m.names = map[cuda.Pointer]block{}, map[string]*C.char{}
	}
	m.blocks[p] = block{raw, bytes}
	m.used += bytes
	return p, nil
}

// Free gives memory back, after a look at its guards.
func (m *Machine) Free(p cuda.Pointer) error {
	b, ok := m.blocks[p]
	if !ok {
		return errors.New("freed twice, or never allocated")
	}
	err := look(p, b.bytes)
	set(p, unset, b.bytes)
	C.free(b.raw)
	m.used -= b.bytes
	delete(m.blocks, p)
	return err
}

// Set sets every byte.
func (m *Machine) Set(p cuda.Pointer, value byte, bytes int64) error {
	return m.do(func() error { set(p, value, bytes); return nil })
}

// Upload copies src to p.
func (m *Machine) Upload(p cuda.Pointer, src []byte) error {
	copy(memory(p, int64(len(src))), src)
	return nil
}

// Download copies from p.
func (m *Machine) Download(dst []byte, p cuda.Pointer) error {
	copy(dst, memory(p, int64(len(dst))))
	return nil
}

// Copy copies within the machine.
func (m *Machine) Copy(dst, src cuda.Pointer, bytes int64) error {
	return m.do(func() error { copy(memory(dst, bytes), memory(src, bytes)); return nil })
}

// Fetch copies regions.
func (m *Machine) Fetch(parts []cuda.Part) (func() ([]byte, error), error) {
	var all []byte
	for _, p := range parts {
		all = append(all, memory(p.From, int64(p.Bytes))...)
	}
	return func() ([]byte, error) { return all, nil }, nil
}

// AfterFetch has nothing to wait for.
func (m *Machine) AfterFetch() error { return nil }

// Launch runs a kernel to its end.
func (m *Machine) Launch(kernel string, grid [3]uint32, threads, shared uint32, p *cuda.Params) error {
	name, ok := m.names[kernel]
	if !ok {
		name = C.CString(kernel)
		m.names[kernel] = name
	}
	if limit := m.Describe().Shared; int(shared) > limit {
		return fmt.Errorf("%d bytes of shared memory; a block can have %d", shared, limit)
	}
	params := *p
	return m.do(func() error { return m.run(name, grid, threads, shared, &params) })
}

// run runs a kernel.
func (m *Machine) run(name *C.char, grid [3]uint32, threads, shared uint32, p *cuda.Params) error {
	var places [len(p.Sizes)]C.uint
	for i := range places {
		places[i] = C.uint(8 * i)
	}
	why := C.shim_launch(name, (*C.uint)(unsafe.Pointer(&grid[0])), C.uint(threads), C.uint(shared), unsafe.Pointer(&p.Bytes[0]),
		&places[0], (*C.uint)(unsafe.Pointer(&p.Sizes[0])), C.int(p.Count), C.uint(m.Order))
	if why != nil {
		return errors.New(C.GoString(why))
	}
	return nil
}

// recording is a list of work.
type recording []func() error

// do does work, or keeps it for later.
func (m *Machine) do(work func() error) error {
	if m.list != nil {
		*m.list = append(*m.list, work)
		return nil
	}
	return work()
}

// Record keeps what work launches.
func (m *Machine) Record(work func()) (cuda.Recording, error) {
	m.list = &recording{}
	defer func() { m.list = nil }()
	work()
	return m.list, nil
}

// Run does all of it.
func (r *recording) Run() error {
	for _, work := range *r {
		if err := work(); err != nil {
			return err
		}
	}
	return nil
}

// Forget lets it go.
func (r *recording) Forget() { *r = nil }

// Product has no faster way.
func (m *Machine) Product(*cuda.Product) (bool, error) { return false, nil }

// Sync looks at the guards of all allocations.
func (m *Machine) Sync() error {
	for p, b := range m.blocks {
		if err := look(p, b.bytes); err != nil {
			return err
		}
	}
	return nil
}

// Describe says that this is no GPU.
func (m *Machine) Describe() cuda.Description {
	return cuda.Description{Name: "cuda:host", Detail: "kernels on the processor", Units: 1, Shared: cmp.Or(m.Shared, 227<<10)}
}

// Close frees everything.
func (m *Machine) Close() error {
	err := m.Sync()
	for _, b := range m.blocks {
		C.free(b.raw)
	}
	for _, n := range m.names {
		C.free(unsafe.Pointer(n))
	}
	*m = Machine{Order: m.Order, Limit: m.Limit, Shared: m.Shared}
	return err
}

func look(p cuda.Pointer, bytes int64) error {
	for _, side := range [][]byte{memory(p-guard, guard), memory(p+cuda.Pointer(bytes), guard)} {
		for _, b := range side {
			if b != guardByte {
				return fmt.Errorf("a value beside an allocation of %d bytes was written", bytes)
			}
		}
	}
	return nil
}

func set(p cuda.Pointer, value byte, bytes int64) {
	b := memory(p, bytes)
	for i := range b {
		b[i] = value
	}
}

// memory is bytes of the C heap.
func memory(p cuda.Pointer, bytes int64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), bytes)
}
