package cpu

import (
	"testing"

	"lpipe/engine/ops"
	"lpipe/engine/ops/opstest"
)

func TestPlain(t *testing.T) {
	opstest.Run(t, func() ops.Device { return NewPlain() }, opstest.Options{Types: []ops.Type{ops.F32, ops.BF16, ops.NF4, ops.NF4BF16}})
}

// Every kernel that this processor has, with more threads than it has cores.
func TestDevice(t *testing.T) {
	for _, name := range Kernels() {
		t.Run(name, func(t *testing.T) {
			opstest.Run(t, func() ops.Device { return New(Options{Threads: 3, Kernel: name}) },
				opstest.Options{Types: []ops.Type{ops.F32, ops.BF16, ops.NF4, ops.NF4BF16}})
		})
	}
}

// Weights and logits too large for one piece take the same operations through blocks.
func TestDeviceInBlocks(t *testing.T) {
	opstest.Run(t, func() ops.Device {
		d := New(Options{Threads: 2})
		d.limits = limits{packed: 600, logits: 700, headRows: 3}
		return d
	}, opstest.Options{Types: []ops.Type{ops.F32, ops.BF16, ops.NF4, ops.NF4BF16}, Rounds: 20})
}
