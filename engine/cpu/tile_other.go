//go:build !amd64 && !arm64

package cpu

// kernels are those that this processor can run, best first.
func kernels() []*kernel { return []*kernel{goKernel()} }
