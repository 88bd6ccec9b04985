//go:build cgo && cudahost && !cuda

package cudatest

import (
	"testing"

	"lpipe/engine/cuda"
)

func gpu(t *testing.T, _ func(t *testing.T, open func() cuda.Machine)) {
	t.Skip("built without the tag cuda")
}
