package engine

import (
	"bytes"
	"strings"
	"testing"

	"lpipe/engine/cpu"
)

// A loss far above those before it is told, once, and adapters that never moved are told at the end.
func TestWarnings(t *testing.T) {
	var log bytes.Buffer
	r := &run{TrainOptions: TrainOptions{Log: &log}}
	for step := 1; step <= 100; step++ {
		loss := 2 + 0.1*float64(step%3)
		switch step {
		case 10, 41:
			loss = 9
		case 43:
			loss = 30 // far above that too, and told of a moment ago
		case 63:
			loss = 6 // not above the highest of those before
		case 90:
			loss = 3 // not twice the usual
		}
		r.Curve = append(r.Curve, point{Step: step, Loss: &loss})
		r.warn(step, loss)
	}
	if got := log.String(); strings.Count(got, "jumped") != 1 || !strings.Contains(got, "step 41:") {
		t.Errorf("log:\n%s", got)
	}

	o := small(t)
	o.Log, o.Steps, o.Warmup = &log, 1, 2 // the first step of a warm-up has the rate 0
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	train(t, o, 1)
	for _, want := range []string{"21 of 21 adapters are as they began", "the warm-up takes all 1 steps", "lora of a model"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log without %q:\n%s", want, &log)
		}
	}
}

// The method is announced as the settings name it, and that the base is held in 4 bits.
func TestMethodIsAnnounced(t *testing.T) {
	var log bytes.Buffer
	o := small(t)
	o.Log, o.Steps, o.Quantize, o.LoRA.DoRA, o.LoRA.Dropout = &log, 1, "nf4", true, 0
	train(t, o, 1)
	if !strings.Contains(log.String(), "dora with 4-bit weights (nf4) of a model of 3 layers") {
		t.Errorf("log:\n%s", &log)
	}
}
