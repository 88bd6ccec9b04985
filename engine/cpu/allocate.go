package cpu

import "unsafe"

// allocation is memory that begins as zeros. A large one is mapped for itself: beside Go's heap, so that the collector's target does
// not grow with the model, in huge pages where the system has them, and given back to the system as soon as it is freed.
type allocation[T float32 | int32 | uint16 | uint8] struct {
	values  []T
	mapping mapping // what to unmap; absent for a small one
}

// mapping is a range of pages that the system gave.
type mapping struct {
	at   unsafe.Pointer
	size uintptr
}

// smallest is from how many bytes on an allocation is mapped.
const smallest = 256 << 10

// allocate makes n zeros.
func allocate[T float32 | int32 | uint16 | uint8](n int) (allocation[T], error) {
	var one T
	size := uintptr(n) * unsafe.Sizeof(one)
	if size < smallest {
		return allocation[T]{values: make([]T, n)}, nil
	}
	m, values, err := mapPages(size)
	if err != nil {
		return allocation[T]{}, err
	}
	if values == nil {
		return allocation[T]{values: make([]T, n)}, nil // no such system call here
	}
	return allocation[T]{unsafe.Slice((*T)(values), n), m}, nil
}

// free gives the memory back; no slice of it is valid afterwards.
func (b *allocation[T]) free() {
	if b.mapping.at != nil {
		unmapPages(b.mapping)
	}
	*b = allocation[T]{}
}
