package stages

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"lpipe/runner"
)

// TestEverySettingReachesTheEngine: each setting of a train stage changes what the engine is told. A new setting fails here until it
// is in the list.
func TestEverySettingReachesTheEngine(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	steps := 7
	changes := map[string]func(*Train){
		"method":           func(s *Train) { s.Method = "dora" },
		"beta":             func(s *Train) { s.Beta = number(0.5) },
		"overlong":         func(s *Train) { s.Overlong = "truncate" },
		"rank":             func(s *Train) { s.Rank = 3 },
		"alpha":            func(s *Train) { s.Alpha = 3 },
		"dropout":          func(s *Train) { s.Dropout = 0.3 },
		"targets":          func(s *Train) { s.Targets = Targets{"q_proj"} },
		"init":             func(s *Train) { s.Init = "gaussian" },
		"rslora":           func(s *Train) { s.RSLoRA = true },
		"lora_plus":        func(s *Train) { s.LoRAPlus = number(3) },
		"rank_pattern":     func(s *Train) { s.RankPattern = map[string]float64{"q_proj": 3} },
		"alpha_pattern":    func(s *Train) { s.AlphaPattern = map[string]float64{"q_proj": 3} },
		"quantize":         func(s *Train) { s.Quantize = "nf4-single" },
		"sequence_length":  func(s *Train) { s.SequenceLength = 3 },
		"batch_tokens":     func(s *Train) { s.BatchTokens = 3 },
		"epochs":           func(s *Train) { s.Epochs = number(3) },
		"steps":            func(s *Train) { s.Steps = &steps },
		"lr":               func(s *Train) { s.LR = number(3) },
		"schedule":         func(s *Train) { s.Schedule = "wsd" },
		"decay":            func(s *Train) { s.Decay = 3 },
		"warmup":           func(s *Train) { s.Warmup = 3 },
		"lr_min":           func(s *Train) { s.LRMin = 3 },
		"neftune":          func(s *Train) { s.NEFTune = 3 },
		"optimizer":        func(s *Train) { s.Optimizer.Name = "lion" },
		"optimizer.beta1":  func(s *Train) { s.Optimizer.Beta1 = 0.3 },
		"optimizer.beta2":  func(s *Train) { s.Optimizer.Beta2 = 0.3 },
		"optimizer.eps":    func(s *Train) { s.Optimizer.Eps = 0.3 },
		"weight_decay":     func(s *Train) { s.WeightDecay = 3 },
		"clip":             func(s *Train) { s.Clip = 3 },
		"precision":        func(s *Train) { s.Precision = "fp32" },
		"eval_every":       func(s *Train) { s.EvalEvery = 3 },
		"eval_limit":       func(s *Train) { s.EvalLimit = 3 },
		"samples_every":    func(s *Train) { s.SamplesEvery = 3 },
		"select":           func(s *Train) { s.Select = "best" },
		"select by name":   func(s *Train) { s.Select = "validation/x/loss" },
		"early_stop":       func(s *Train) { s.EarlyStop = &TrainStopping{} },
		"checkpoint_every": func(s *Train) { s.CheckpointEvery = Interval{Time: time.Second} },
		"checkpoint steps": func(s *Train) { s.CheckpointEvery = Interval{Time: 15 * time.Minute, Steps: 3} },
		"checkpoint_keep":  func(s *Train) { s.CheckpointKeep = 3 },
		"device_memory":    func(s *Train) { s.DeviceMemory = 3 },
		"ema":              func(s *Train) { s.EMA = 0.3 },
		"seed":             func(s *Train) { s.Seed = 3 },
	}
	env := &runner.Env{In: map[string][]runner.Input{"pairs": {{Path: "p"}}}}
	for name, change := range changes {
		plain, changed := newTrain(), newTrain()
		if name == "beta" || name == "overlong" {
			plain.Method, changed.Method = "dpo", "dpo"
		}
		change(changed)
		if reflect.DeepEqual(plain.options(env), changed.options(env)) {
			t.Errorf("%s changes nothing", name)
		}
	}
	stopping := func(e TrainStopping) any { return (&Train{EarlyStop: &e}).options(env).EarlyStop }
	for _, e := range []TrainStopping{{Metric: "x"}, {Patience: 3}, {MinDelta: 3}} {
		if reflect.DeepEqual(stopping(e), stopping(TrainStopping{})) {
			t.Errorf("early_stop %+v changes nothing", e)
		}
	}
	elsewhere := map[string]string{"micro_batch": "may only be 1", "checkpoint_push": "share_checkpoint.txtar"}
	for f := range reflect.TypeFor[Train]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("hcl"), ",")
		if changes[name] == nil && elsewhere[name] == "" {
			t.Errorf("nothing shows that %s reaches the engine", name)
		}
	}
}
