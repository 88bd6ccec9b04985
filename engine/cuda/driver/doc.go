// Package driver runs the kernels of engine/cuda on an NVIDIA GPU: a cuda.Machine on gorgonia.org/cu. It is empty without the
// build tag cuda.
//
// A program with it starts everywhere: libcuda.c stands in for NVIDIA's library at link time, and opens the real one when it is
// first needed. driver.c has what cu lacks, blaslt.c calls cuBLASLt where the machine has it. The kernels are embedded as
// fatbins, which tools/cuda/kernels.sh compiles.
package driver
