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
