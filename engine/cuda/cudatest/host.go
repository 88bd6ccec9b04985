//go:build cgo && (cudahost || cuda)

package cudatest

import (
	"testing"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/host"
)

// Each runs a test as "host", on a machine of the processor, and with the tag cuda as "gpu", which is skipped with its reason
// where there is none. open makes a new machine; the device made of it closes it.
func Each(t *testing.T, run func(t *testing.T, open func() cuda.Machine)) {
	t.Helper()
	t.Run("host", func(t *testing.T) { run(t, func() cuda.Machine { return &host.Machine{} }) })
	gpu(t, run)
}
