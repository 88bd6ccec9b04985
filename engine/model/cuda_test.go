//go:build cgo && (cudahost || cuda)

package model

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

// Logits of tokens that are decoded from a recording have the bits of those that are not, for one sequence and for two.
func TestCUDADecodesFromRecordings(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		for _, weights := range []ops.Type{ops.F32, ops.BF16} {
			run := func(now func() time.Time) (all []float32, said string) {
				dev := cuda.New(open(), cuda.Options{Now: now})
				defer dev.Close()
				m, err := Load(context.Background(), filepath.Join("..", "testdata", "models", "tied"), dev, Options{Weights: weights})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Free()
				cache, err := m.NewCache(2, 40)
				if err != nil {
					t.Fatal(err)
				}
				defer cache.Free()
				feeds := []Feed{{Slot: 0, IDs: []int32{3, 1, 4}}, {Slot: 1, IDs: []int32{1, 5}}}
				for token := range int32(34) {
					logits, err := m.Decode(cache, feeds)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, logits...)
					for i := range feeds {
						feeds[i].IDs = []int32{(7*token + int32(i)) % 50}
					}
				}
				return all, dev.Info().Repeats
			}
			want, said := run(nil)
			if said != "" {
				t.Errorf("without a clock: %s", said)
			}
			clock, faster := time.Unix(0, 0), time.Hour
			got, said := run(func() time.Time {
				faster -= time.Second
				clock = clock.Add(faster)
				return clock
			})
			if said == "" || !slices.Equal(got, want) {
				t.Errorf("%v: other logits from recordings (%q)", weights, said)
			}
		}
	})
}

// unrounded hides that a device takes activations rounded.
type unrounded struct{ ops.Device }

// Activations that only products see are kept rounded where these round them, with the same losses and gradients, also
// where they are computed again.
func TestCUDAKeepsRounded(t *testing.T) {
	cudaDevices(t, func(t *testing.T, dev ops.Device) {
		b := Batch{B: 2, T: 19, IDs: make([]int32, 38)}
		for i := range b.IDs {
			b.IDs[i] = int32(i * 37 % 250)
		}
		step := func(dev ops.Device, o Options, r Recompute) (float64, []float32, int64) {
			m := load(t, filepath.Join("..", "testdata", "models", "tied"), dev, o)
			defer m.Free()
			m.SetRecompute(r)
			for _, p := range m.Parameters() {
				dev.Write(p.Weights, ramp(p.Weights.Len))
			}
			loss, err := m.Step(b, 36)
			if err != nil {
				t.Fatal(err)
			}
			return loss, read(m, m.Gradients()), m.ActivationBytes(b.B*b.T, true)
		}
		for _, c := range []struct {
			o      Options
			r      Recompute
			rounds bool
		}{
			{Options{Weights: ops.BF16}, Recompute{}, true}, {Options{Weights: ops.BF16, NF4: true}, Recompute{}, true},
			{Options{Weights: ops.BF16}, Recompute{Light: 2, MLP: 1}, true}, {Options{Weights: ops.BF16}, Recompute{Light: 2, MLP: 2, Whole: 2}, true},
			{Options{Weights: ops.BF16, LoRA: LoRA{Dropout: 0.3}}, Recompute{}, true}, {Options{Weights: ops.BF16, LoRA: LoRA{DoRA: true}}, Recompute{}, true},
			{Options{Weights: ops.F32}, Recompute{}, false},
		} {
			c.o.Method, c.o.Seed = TrainLoRA, 1
			c.o.LoRA.Rank, c.o.LoRA.Alpha, c.o.LoRA.Targets = 3, 8, []string{AllLinear}
			loss, want, bytes := step(unrounded{dev}, c.o, c.r)
			got, gradients, other := step(dev, c.o, c.r)
			if got != loss || !slices.Equal(gradients, want) || loss != loss {
				t.Errorf("%+v, %+v: loss %v, from float32 activations %v; gradients equal: %t", c.o, c.r, got, loss, slices.Equal(gradients, want))
			}
			if (other != bytes) != c.rounds { // with rows this short the room for adapters is more than what is saved
				t.Errorf("%+v, %+v: %d bytes of activations, as float32 %d", c.o, c.r, other, bytes)
			}
		}
	})
}
