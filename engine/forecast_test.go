package engine

import (
	"context"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

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
