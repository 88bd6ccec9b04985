// Package host runs the kernels of engine/cuda on the processor: a cuda.Machine for tests, on machines without a GPU.
//
// shim.h and shim.cpp stand in for CUDA; g++ compiles the kernel files as they are. Threads of a block are fibers, and the
// tensor-core instructions are computed lane by lane as the PTX ISA defines them. The machine checks what a GPU would not:
// the number and size of each launch's parameters against the kernel's own, values written beside an allocation or
// beyond a block's shared memory, threads that wait for each other in vain, reads of asynchronous copies before they
// were waited for (shared memory begins as NaN), and, by Order, whether results depend on the order of threads.
//
// The package is empty without cgo and one of the build tags cudahost and cuda: it needs g++.
package host
