//go:build cgo

package host

import (
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/cuda"
	"lpipe/engine/ops"
	"lpipe/engine/ops/opstest"
)

// small makes every chunk of the head a few rows.
func small() cuda.Options { return cuda.Options{LogitBytes: 3000} }

// Every kernel, with float weights: as exact as the processor's own device.
func TestFloat(t *testing.T) {
	opstest.Run(t, func() ops.Device { return cuda.New(&Machine{}, small()) }, opstest.Options{Types: []ops.Type{ops.F32, ops.NF4}})
}

// The same with bfloat16 weights: tensor cores. Products err at most twice as much as the plain computation in bfloat16.
func TestHalf(t *testing.T) {
	half(t, &Machine{}, opstest.Options{})
	half(t, &Machine{}, opstest.Options{Rounds: 24, Only: []string{"Attention"}})
}

// Results do not depend on the order in which threads and blocks run: a barrier that is missing would be seen.
func TestOrder(t *testing.T) {
	for _, order := range []uint32{1, 77} {
		opstest.Run(t, func() ops.Device { return cuda.New(&Machine{Order: order}, small()) }, opstest.Options{Types: []ops.Type{ops.F32}, Rounds: 2})
		half(t, &Machine{Order: order}, opstest.Options{Rounds: 3, Only: []string{"Linear", "LinearLoRA", "Attention", "HeadLoss"}})
	}
}

func half(t *testing.T, m *Machine, o opstest.Options) {
	o.Types = []ops.Type{ops.BF16, ops.NF4BF16}
	o.Yardstick = func() ops.Device { return opstest.Rounded(cpu.NewPlain()) }
	opstest.Run(t, func() ops.Device {
		d := cuda.New(m, small())
		d.AllocWeight(ops.BF16, 1, 1) // from now on attention is in bfloat16 too
		return d
	}, o)
}
