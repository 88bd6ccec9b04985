// Package cudatest gives tests the CUDA devices that there are: the kernels on the processor, with either of the build tags
// cudahost and cuda, and a GPU with the tag cuda where the machine has one.
package cudatest
