//go:build cuda

package driver

/*
#include "driver.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"lpipe/engine/cuda"
)

// multiplier makes products by cuBLASLt. The algorithm of a shape is the first that the library's heuristic names: timing
// several would choose another one from run to run, and with it other bits.
type multiplier struct {
	on     bool
	work   cuda.Pointer
	shapes map[C.lt_shape]unsafe.Pointer // nil: the library knows no way
}

const workBytes = 64 << 20

// open says in words what there is.
func (l *multiplier) open(m *Machine) string {
	if why := C.lt_open(); why != nil {
		return "own products: " + C.GoString(why)
	}
	work, err := m.Alloc(workBytes)
	if err != nil {
		return fmt.Sprintf("own products: no workspace for cuBLASLt: %v", err)
	}
	l.on, l.work, l.shapes = true, work, map[C.lt_shape]unsafe.Pointer{}
	v := int(C.lt_version())
	return fmt.Sprintf("cuBLASLt %d.%d.%d", v/10000, v/100%100, v%100)
}

// product tells cuBLASLt, which counts by columns, to make Cᵀ = op(B)ᵀ op(A)ᵀ.
func (l *multiplier) product(m *Machine, p *cuda.Product) (bool, error) {
	if !l.on {
		return false, nil
	}
	s := C.lt_shape{
		half: flag(p.Half), transa: flag(p.TransB), transb: flag(p.TransA), add: flag(p.Add), bias: flag(p.Bias != 0),
		m: C.int(p.N), n: C.int(p.M), k: C.int(p.K), lda: C.int64_t(p.LDB), ldb: C.int64_t(p.LDA), ldd: C.int64_t(p.LDC),
		aligna: aligned(p.B), alignb: aligned(p.A), alignd: aligned(p.C),
	}
	prepared, known := l.shapes[s]
	if !known {
		prepared = C.lt_prepare(&s, workBytes)
		l.shapes[s] = prepared
	}
	if prepared == nil {
		if p.Bias == 0 {
			return false, nil
		}
		return l.apart(m, p)
	}
	beta := C.float(0)
	if p.Add {
		beta = 1
	}
	d := func(p cuda.Pointer) C.CUdeviceptr { return C.CUdeviceptr(p) }
	status := C.lt_multiply(context(m.ctx), prepared, d(p.C), d(p.B), d(p.A), d(p.Bias), C.float(p.Alpha), beta, d(l.work), workBytes, stream(m.queue))
	if status != 0 {
		return false, fmt.Errorf("cublasLtMatmul of [%d,%d] by [%d,%d]: status %d", p.M, p.K, p.K, p.N, status)
	}
	return true, nil
}

// apart makes a product whose bias cuBLASLt cannot add, and adds it afterwards.
func (l *multiplier) apart(m *Machine, p *cuda.Product) (bool, error) {
	if p.LDC != p.N {
		return false, nil
	}
	without := *p
	without.Bias = 0
	if done, err := l.product(m, &without); !done || err != nil {
		return done, err
	}
	return true, cuda.AddBias(m, p)
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// aligned is what an address is a multiple of, up to 256.
func aligned(p cuda.Pointer) C.uint32_t {
	return C.uint32_t(min(p&-p, 256))
}
