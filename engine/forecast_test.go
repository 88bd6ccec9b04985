package engine

import (
	"context"
	"math"
	"testing"
	"time"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestForecastOfShortRows: rows attend to themselves, not to the pack that they lie in, so that longer packs do not slow training down.
func TestForecastOfShortRows(t *testing.T) {
	o := small(t)
	dev := cpu.New(cpu.Options{Threads: 1})
	defer dev.Close()
	seconds := map[int]float64{}
	for _, length := range []int{probeTokens, 16 * probeTokens} { // both are probed by packs of one length
		now := time.Unix(0, 0)
		o.Now = func() time.Time { now = now.Add(time.Second); return now }
		o.SequenceLength, o.BatchTokens = length, 16*probeTokens
		f, err := Plan(t.Context(), dev, o)
		if err != nil {
			t.Fatal(err)
		}
		if f.document < 8 || f.document > 14 {
			t.Errorf("a token's document has %g tokens on average; rows have 7 to 15", f.document)
		}
		seconds[length] = f.Seconds
	}
	if short, long := seconds[probeTokens], seconds[16*probeTokens]; short <= 0 || math.Abs(long/short-1) > 0.01 {
		t.Errorf("%g s in long packs, %g s in short ones", long, short)
	}
}

// TestForecast: what is foretold is what a step takes, to the byte, on the device that has no scratch memory; steps and tokens are
// those of the run.
func TestForecast(t *testing.T) {
	for name, change := range map[string]func(*TrainOptions){
		"lora": func(*TrainOptions) {},
		"dora": func(o *TrainOptions) { o.LoRA.DoRA, o.LoRA.Dropout = true, 0 },
		"full": func(o *TrainOptions) { o.Method, o.LoRA = "full", model.LoRA{} },
		"bf16": func(o *TrainOptions) { o.Precision, o.LoRA.Targets = "bf16", []string{"q_proj", "down_proj"} },
		"nf4":  func(o *TrainOptions) { o.Quantize, o.Optimizer.Kind = "nf4", "lion" },
	} {
		t.Run(name, func(t *testing.T) {
			o := small(t)
			change(&o)
			probed := cpu.New(cpu.Options{Threads: 1})
			defer probed.Close()
			f, err := Plan(context.Background(), probed, o)
			if err != nil {
				t.Fatal(err)
			}
			if f.Scratch == 0 || f.TokensPerSecond <= 0 || f.Seconds <= 0 {
				t.Errorf("scratch %d, %g tokens/s, %g s", f.Scratch, f.TokensPerSecond, f.Seconds)
			}

			dev := cpu.NewPlain()
			r, err := prepare(context.Background(), dev, o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			b := model.Batch{B: 1, T: r.plan.capacity, IDs: make([]int32, r.plan.capacity)}
			if _, err := r.model.Step(b, 1); err != nil {
				t.Fatal(err)
			}
			if got, want := f.Total-f.Scratch-f.Host-f.Process, dev.Info().Bytes; got != want {
				t.Errorf("%d bytes foretold, %d taken", got, want)
			}
			result := train(t, o, 0)
			if f.Steps != result.Steps || f.Tokens != result.Tokens {
				t.Errorf("%d steps, %d tokens foretold; there were %d, %d", f.Steps, f.Tokens, result.Steps, result.Tokens)
			}
		})
	}
}
