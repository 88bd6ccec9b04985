//go:build !cgo || !(cudahost || cuda)

package model

import (
	"testing"

	"lpipe/engine/ops"
)

// cudaDevices has none: they come with the build tags cudahost and cuda.
func cudaDevices(*testing.T, func(*testing.T, ops.Device)) {}
