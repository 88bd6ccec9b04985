//go:build cuda

package driver

/*
#include "driver.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"lpipe/engine/cuda"
)

// Machine is one GPU: its primary context, one stream for everything but Fetch's copies, and the kernels.
type Machine struct {
	number  int
	dev     cu.Device
	ctx     cu.CUContext
	queue   cu.Stream
	modules []cu.Module
	kernels map[string]kernel
	staging staging
	fetch   fetching
	lt      multiplier
	about   cuda.Description
}

var _ cuda.Machine = (*Machine)(nil)

// kernel is a function and how much shared memory it may have so far.
type kernel struct {
	fn     cu.Function
	shared uint32
}

// oldestDriver is the CUDA version of driver 580: older ones load none of the kernels, which CUDA 13.0 compiled.
const oldestDriver = 13000

// smallShared is what every kernel may have; sharedOptIn asks for what a block can be allowed.
const (
	smallShared = 48 << 10
	sharedOptIn = cu.DeviceAttribute(97) // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
)

// Open takes a GPU, counted as CUDA_VISIBLE_DEVICES leaves them.
func Open(number int) (*Machine, error) {
	if err := Found(); err != nil {
		return nil, err
	}
	if v := cu.Version(); v < oldestDriver {
		return nil, fmt.Errorf("the NVIDIA driver knows CUDA up to %d.%d; 13.0 is needed, which driver 580 brought: install it or a newer one", v/1000, v%1000/10)
	}
	count, err := cu.NumDevices()
	if err != nil {
		return nil, said("cuDeviceGetCount", err)
	}
	if number >= count {
		return nil, fmt.Errorf("no GPU has the number %d; GPUs are counted from 0, and this machine has %d", number, count)
	}
	m := &Machine{number: number, kernels: map[string]kernel{}}
	defer m.lock()()
	if err := m.open(); err != nil {
		m.close()
		return nil, fmt.Errorf("open GPU %d: %w", number, err)
	}
	return m, nil
}

// lock keeps the goroutine on its thread, since contexts belong to threads, and returns what undoes it.
func (m *Machine) lock() func() { return lockTo(m.ctx) }

func lockTo(ctx cu.CUContext) func() {
	runtime.LockOSThread()
	if ctx != (cu.CUContext{}) {
		// An error shows in the call that follows: it has no context then.
		_ = cu.SetCurrentContext(ctx)
	}
	return runtime.UnlockOSThread
}

func (m *Machine) open() (err error) {
	if m.dev, err = cu.GetDevice(m.number); err != nil {
		return said("cuDeviceGet", err)
	}
	major, minor, err := m.dev.ComputeCapability()
	if err != nil {
		return said("cuDeviceGetAttribute", err)
	}
	if major < 8 {
		return fmt.Errorf("it has compute capability %d.%d; 8.0 or newer is needed", major, minor)
	}
	if m.ctx, err = m.dev.RetainPrimaryCtx(); err != nil {
		return said("cuDevicePrimaryCtxRetain", err)
	}
	if err := cu.SetCurrentContext(m.ctx); err != nil {
		return said("cuCtxSetCurrent", err)
	}
	if m.queue, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return said("cuStreamCreate", err)
	}
	for name, image := range images() {
		mod, err := cu.LoadData(image)
		if err != nil {
			return said("load kernels "+name, err)
		}
		m.modules = append(m.modules, mod)
	}
	if err := m.staging.open(); err != nil {
		return err
	}
	if err := m.fetch.open(); err != nil {
		return err
	}
	return m.describe(major, minor)
}

func (m *Machine) describe(major, minor int) error {
	name, err := m.dev.Name()
	if err != nil {
		return said("cuDeviceGetName", err)
	}
	total, err := m.dev.TotalMem()
	if err != nil {
		return said("cuDeviceTotalMem", err)
	}
	units, err := m.dev.Attribute(cu.MultiprocessorCount)
	if err != nil {
		return said("cuDeviceGetAttribute", err)
	}
	shared, err := m.dev.Attribute(sharedOptIn)
	if err != nil {
		return said("cuDeviceGetAttribute", err)
	}
	blas := m.lt.open(m)
	m.about = cuda.Description{
		Name: fmt.Sprintf("cuda:%d", m.number), Memory: total, Units: units, Shared: shared,
		Detail: fmt.Sprintf("%s, sm_%d%d, %d GB, driver CUDA %d.%d, %s", name, major, minor, total/1e9, cu.Version()/1000, cu.Version()%1000/10, blas),
	}
	return nil
}

// Describe says what the GPU is.
func (m *Machine) Describe() cuda.Description { return m.about }

// Alloc takes device memory.
func (m *Machine) Alloc(bytes int64) (cuda.Pointer, error) {
	defer m.lock()()
	p, err := cu.MemAlloc(bytes)
	if err == nil {
		return cuda.Pointer(p), nil
	}
	free, total, infoErr := cu.MemInfo()
	if infoErr != nil {
		return 0, said("cuMemAlloc", err)
	}
	return 0, fmt.Errorf("%w; %d of %d MB are free", said("cuMemAlloc", err), free>>20, total>>20)
}

// Free waits for what may still use the memory, and gives it back.
func (m *Machine) Free(p cuda.Pointer) error {
	defer m.lock()()
	if err := m.queue.Synchronize(); err != nil {
		return said("cuStreamSynchronize", err)
	}
	return said("cuMemFree", cu.MemFree(cu.DevicePtr(p)))
}

// Set sets bytes.
func (m *Machine) Set(p cuda.Pointer, value byte, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	defer m.lock()()
	return said("cuMemsetD8Async", cu.MemsetD8Async(cu.DevicePtr(p), value, bytes, m.queue))
}

// Copy copies on the device.
func (m *Machine) Copy(dst, src cuda.Pointer, bytes int64) error {
	defer m.lock()()
	return said("cuMemcpyDtoDAsync", cu.MemcpyDtoDAsync(cu.DevicePtr(dst), cu.DevicePtr(src), bytes, m.queue))
}

// Launch queues a kernel.
func (m *Machine) Launch(name string, grid [3]uint32, threads, shared uint32, p *cuda.Params) error {
	k, err := m.kernel(name, shared)
	if err != nil {
		return err
	}
	return result("cuLaunchKernel", C.driver_launch(context(m.ctx), function(k.fn), (*C.uint32_t)(unsafe.Pointer(&grid[0])), C.uint32_t(threads),
		C.uint32_t(shared), stream(m.queue), unsafe.Pointer(&p.Bytes[0]), C.int(p.Count)))
}

// kernel looks a function up when it is first launched, and lets it have the shared memory that it needs.
func (m *Machine) kernel(name string, shared uint32) (kernel, error) {
	k, ok := m.kernels[name]
	if ok && shared <= k.shared {
		return k, nil
	}
	defer m.lock()()
	for i := 0; !ok && i < len(m.modules); i++ {
		if fn, err := m.modules[i].Function(name); err == nil {
			k, ok = kernel{fn, smallShared}, true
		}
	}
	if !ok {
		return k, errors.New("no image has such a kernel")
	}
	if shared > k.shared {
		if err := allowShared(k.fn, shared); err != nil {
			return k, err
		}
		k.shared = shared
	}
	m.kernels[name] = k
	return k, nil
}

// Product goes through cuBLASLt where the machine has it.
func (m *Machine) Product(p *cuda.Product) (bool, error) { return m.lt.product(m, p) }

// Sync waits for everything.
func (m *Machine) Sync() error {
	defer m.lock()()
	return said("cuStreamSynchronize", m.queue.Synchronize())
}

// Close gives the GPU back. All memory that was not freed goes with the primary context.
func (m *Machine) Close() error {
	defer m.lock()()
	err := errors.Join(said("cuStreamSynchronize", m.queue.Synchronize()), m.fetch.wait())
	m.close()
	return err
}

func (m *Machine) close() {
	if m.ctx == (cu.CUContext{}) {
		return
	}
	// What cannot be given back now goes with the process.
	m.staging.close()
	m.fetch.close()
	for _, mod := range m.modules {
		_ = mod.Unload()
	}
	if m.queue != (cu.Stream{}) {
		_ = m.queue.Destroy()
	}
	_ = m.dev.ReleasePrimaryCtx()
	m.ctx = cu.CUContext{}
}
