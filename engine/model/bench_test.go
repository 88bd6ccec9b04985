package model

import (
	"testing"

	"lpipe/engine/cpu"
)

// demo is the shape of the demo's model, about 0.9 million parameters.
var demo = Config{Layers: 4, C: 128, H: 4, KV: 2, D: 32, F: 352, V: 512, Eps: 1e-6, Theta: 1e6, Tied: true, MaxPositions: 512}

func benchModel(b *testing.B, method Method) *Model {
	dev := cpu.New(cpu.Options{})
	b.Cleanup(func() { dev.Close() })
	m, err := New(demo, Init{Deviation: 0.02}, dev, Options{Method: method, LoRA: LoRA{Rank: 16, Alpha: 32, Targets: []string{AllLinear}}})
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// benchBatch is 64 rows of 64 tokens.
func benchBatch() Batch {
	batch := Batch{B: 64, T: 64}
	for i := range 64 * 64 {
		batch.IDs = append(batch.IDs, int32(i*31%demo.V))
	}
	return batch
}

func BenchmarkStep(b *testing.B) {
	for _, method := range []Method{TrainLoRA, TrainFull} {
		b.Run(string(method), func(b *testing.B) {
			m, batch := benchModel(b, method), benchBatch()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Step(batch, 64*63); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*64*64)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkDecode makes 64 tokens for each of 128 prompts of 32.
func BenchmarkDecode(b *testing.B) {
	m := benchModel(b, Frozen)
	cache, err := m.NewCache(128, 96)
	if err != nil {
		b.Fatal(err)
	}
	prompt, next := make([]int32, 32), []int32{7}
	b.ReportAllocs()
	for b.Loop() {
		feeds := make([]Feed, 128)
		for i := range feeds {
			cache.Reset(i)
			feeds[i] = Feed{i, prompt}
		}
		for range 64 {
			if _, err := m.Decode(cache, feeds); err != nil {
				b.Fatal(err)
			}
			for i := range feeds {
				feeds[i].IDs = next
			}
		}
	}
	b.ReportMetric(float64(b.N*128*64)/b.Elapsed().Seconds(), "tokens/s")
}
