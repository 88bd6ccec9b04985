package model

import (
	"path/filepath"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
)

// allocations counts what a device is asked for.
type allocations struct {
	ops.Device
	floats, ints int
	values       []int // of each buffer
}

func (d *allocations) Alloc(n int) ops.Buf {
	d.floats++
	d.values = append(d.values, n)
	return d.Device.Alloc(n)
}

func (d *allocations) AllocInts(n int) ops.Ints {
	d.ints++
	return d.Device.AllocInts(n)
}

// TestActivationsAreOneAllocation: a pass of a new shape takes all its activations at once, as many bytes as ActivationBytes says,
// with one more allocation for its integers; a smaller one takes nothing, and neither does a pass of the same shape.
func TestActivationsAreOneAllocation(t *testing.T) {
	for name, o := range map[string]Options{
		"lora": {Method: TrainLoRA, LoRA: LoRA{Rank: 4, Alpha: 8, Targets: []string{AllLinear}}},
		"dora": {Method: TrainLoRA, LoRA: LoRA{Rank: 4, Alpha: 8, Targets: []string{AllLinear}, DoRA: true}},
		"full": {Method: TrainFull},
	} {
		dev := &allocations{Device: cpu.New(cpu.Options{Threads: 1})}
		m := load(t, filepath.Join("..", "testdata", "models", "tied"), dev, o)
		ids := make([]int32, 48)
		if err := m.Room(len(ids)); err != nil { // for losses that wait on the device, as a training run does before its first step
			t.Fatal(err)
		}
		for _, size := range []struct {
			tokens  int
			train   bool
			allowed int
		}{{24, true, 1}, {24, true, 0}, {9, true, 0}, {24, false, 0}, {48, true, 1}, {24, true, 0}, {48, false, 0}} {
			dev.floats, dev.ints, dev.values = 0, 0, nil
			b := Batch{B: 1, T: size.tokens, IDs: ids[:size.tokens]}
			var err error
			if size.train {
				_, err = m.Step(b, 1)
			} else {
				_, err = m.Loss(b, 1)
			}
			if err != nil {
				t.Fatal(err)
			}
			if dev.floats != size.allowed || dev.ints != size.allowed {
				t.Errorf("%s, %+v: %d allocations, and %d of integers", name, size, dev.floats, dev.ints)
			} else if size.allowed == 1 && 4*int64(dev.values[0]+5*size.tokens) != m.ActivationBytes(size.tokens, true) {
				t.Errorf("%s, %+v: %d values, ActivationBytes says %d", name, size, dev.values[0], m.ActivationBytes(size.tokens, true))
			}
		}
		m.Free()
		dev.Close()
	}
}
