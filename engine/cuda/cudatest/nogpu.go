//go:build cgo && cudahost && !cuda

package cudatest

import (
	"testing"

	"lpipe/engine/cuda"
)

// gpu has none: its driver comes with the tag cuda.
func gpu(*testing.T, func(t *testing.T, open func() cuda.Machine)) {}
