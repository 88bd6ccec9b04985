//go:build cgo && (cudahost || cuda)

package model

import (
	"testing"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/cudatest"
	"lpipe/engine/ops"
)

// cudaDevices runs a case on the CUDA devices that there are.
func cudaDevices(t *testing.T, run func(*testing.T, ops.Device)) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		dev := cuda.New(open(), cuda.Options{})
		run(t, dev)
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}
