// Package cpu is the device that every machine has: ops.Device on the processor.
//
// Each operation stands here twice. Plain (files *_plain.go) is the formula in loops, in the order in
// which ops.Device states it, with sums in float64: it is what the fast form is tested against. Device is
// the fast form: tiled products in assembly for AVX-512, AVX2 with FMA and NEON, of which the best is chosen when the device is made, for
// AMX where that is asked for, and the same tiles in Go elsewhere; a pool of threads takes tiles of work.
//
// The way work is cut depends on shapes only, and every value is summed by one task in one order, so the
// number of threads does not change a bit of any result. Nothing is allocated during a step: scratch grows to the
// largest that was needed and stays.
//
// Weights may be stored as float32, bfloat16 or 4-bit NormalFloat; packing makes float32 of them, a panel at a time.
//
// Read device.go, then gemm.go (how products are tiled), then attention.go.
package cpu
