//go:build cuda

package driver

/*
#cgo LDFLAGS: -Wl,--as-needed -L${SRCDIR} -ldl
#include "driver.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"gorgonia.org/cu"
)

// Found says why there is no NVIDIA driver that works, or nil.
func Found() error {
	if why := C.driver_open(); why != nil {
		return errors.New(C.GoString(why))
	}
	return nil
}

// result names a driver's error and adds its text.
func result(call string, r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	var name, text *C.char
	if C.cuGetErrorName(r, &name) != C.CUDA_SUCCESS || C.cuGetErrorString(r, &text) != C.CUDA_SUCCESS {
		return fmt.Errorf("%s: CUresult %d", call, r)
	}
	return fmt.Errorf("%s: %s (%s)", call, C.GoString(text), C.GoString(name))
}

// said is an error of cu with the driver's text: cu itself has names only, and those of before 2020.
func said(call string, err error) error {
	if err == nil {
		return nil
	}
	if v := reflect.ValueOf(err); v.CanInt() {
		return result(call, C.CUresult(v.Int()))
	}
	return fmt.Errorf("%s: %w", call, err)
}

// The structs of cu hold one C handle each, unexported.
func function(f cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func stream(s cu.Stream) C.CUstream       { return *(*C.CUstream)(unsafe.Pointer(&s)) }
func context(c cu.CUContext) C.CUcontext  { return *(*C.CUcontext)(unsafe.Pointer(&c)) }

// allowShared lets fn be launched with that much dynamic shared memory; without it the limit is 48 KiB.
func allowShared(fn cu.Function, bytes uint32) error {
	return result("cuFuncSetAttribute", C.cuFuncSetAttribute(function(fn), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)))
}

// pinned returns page-locked host memory, which alone is copied asynchronously.
func pinned(n int) ([]byte, error) {
	var p unsafe.Pointer
	if err := result("cuMemHostAlloc", C.cuMemHostAlloc(&p, C.size_t(n), 0)); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}

func freePinned(b []byte) error {
	return result("cuMemFreeHost", C.cuMemFreeHost(unsafe.Pointer(unsafe.SliceData(b))))
}
