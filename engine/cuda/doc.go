// Package cuda is the device that computes on an NVIDIA GPU: ops.Device over kernels in CUDA C++.
//
// Device knows operations, shapes and launches; a Machine knows memory and how a kernel is started. There are two:
// package driver, on gorgonia.org/cu, which needs the build tag cuda and a GPU at run time, and package host, which runs the
// same kernels, compiled by g++, on the processor: slow, strict, and what the tests on every machine use.
//
// Each operation stands three times under one name with arguments in one order: the kernel (kernels/*.cu), its launcher
// (here), and the plain twin (engine/cpu/*_plain.go).
//
// # Precision
//
// Activations, gradients and sums are float32. Products with a bfloat16 weight (ops.BF16, ops.NF4BF16) round their other
// operand to bfloat16 and run on tensor cores; as long as the device holds such a weight, attention does too, where a head
// is 64 or 128 wide. With ops.F32 and ops.NF4 weights all is float32.
//
// # Adapters
//
// A bfloat16 weight has a border of zero columns and rows, into which Linear writes its adapters' B and A: x Wᵀ and the
// adapters' part are then one product, over C + ΣR, and so are the two parts of dx. Adapters with dropout, or of more ranks
// than the border holds, are products of their own.
//
// Results depend on shapes only: no sum is taken by atomic additions. Nothing is allocated during a step but scratch, which
// grows to the largest that an operation needed and stays. Operations are queued; Read, ReadWeight, Err and giving memory back wait.
// Snapshot copies beside them, and what Outline makes has no memory at all.
//
// Read device.go, linear.go (where the time goes), attention.go, then kernels/gemm.cu and kernels/attention_mma.cu.
package cuda
