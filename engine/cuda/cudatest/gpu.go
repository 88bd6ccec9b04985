//go:build cgo && cuda

package cudatest

import (
	"testing"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/driver"
)

func gpu(t *testing.T, run func(t *testing.T, open func() cuda.Machine)) {
	t.Run("gpu", func(t *testing.T) {
		if err := driver.Found(); err != nil {
			t.Skip(err)
		}
		run(t, func() cuda.Machine {
			m, err := driver.Open(0)
			if err != nil {
				t.Fatal(err)
			}
			return m
		})
	})
}
