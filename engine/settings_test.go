package engine

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestEverySettingCounts: each option changes what a run gives: its weights, losses, numbers or samples. A new option fails here
// until it is in one of the lists.
func TestEverySettingCounts(t *testing.T) {
	base := small(t)
	base.Steps, base.Epochs = 8, 0
	base.Schedule = Schedule{Kind: "wsd", Rate: 5e-3, Min: 1e-4}
	base.Decay, base.SelectBest = 0.5, true
	base.Validation = []DataSet{{Name: "a", Path: tokenFolder(t, 12, 2)}, {Name: "b", Path: tokenFolder(t, 12, 3)}}
	trained := func(change func(*TrainOptions)) string {
		o := base
		o.Out, o.CurveOut = filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "curve.jsonl")
		change(&o)
		var kept []string // not the files that repeat the settings
		for line := range strings.Lines(snapshot(t, o, train(t, o, 1))) {
			if !strings.HasPrefix(line, "adapter_config.json ") && !strings.HasPrefix(line, "lpipe_origin.json ") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	want := trained(func(*TrainOptions) {})
	if again := trained(func(*TrainOptions) {}); again != want {
		t.Fatal("the same options give something else")
	}
	adapter := filepath.Join(t.TempDir(), "adapter")
	trained(func(o *TrainOptions) { o.Out = adapter })
	changes := changedSettings(t, adapter)
	seen := map[string]string{}
	for name, change := range changes {
		got := trained(change)
		if got == want {
			t.Errorf("%s changes nothing", name)
		}
		if other := seen[got]; other != "" {
			t.Errorf("%s gives what %s gives", name, other)
		}
		seen[got] = name
	}
	elsewhere := "Pairs Beta Truncate " + // preference_test.go
		"SelectBest Checkpoint CheckpointTime CheckpointSteps CheckpointKeep Scratch Saved CheckpointOut " + // train_test.go, checkpoint_test.go
		"SampleEvery SamplesOut " + // stages, TestTrainSamples
		"DeviceMemory Out CurveOut Log Report Now "
	for f := range reflect.TypeFor[TrainOptions]().Fields() {
		if changes[f.Name] == nil && !strings.Contains(elsewhere, f.Name+" ") && f.Name != "LoRA" && f.Name != "Schedule" && f.Name != "Optimizer" {
			t.Errorf("nothing shows that %s counts", f.Name)
		}
	}
}

// changedSettings are options that each differ in one setting from those of TestEverySettingCounts; adapter is one to begin with.
func changedSettings(t *testing.T, adapter string) map[string]func(*TrainOptions) {
	return map[string]func(*TrainOptions){
		"Model":           func(o *TrainOptions) { o.Model = untied },
		"Train":           func(o *TrainOptions) { o.Train = tokenFolder(t, 40, 9) },
		"Validation":      func(o *TrainOptions) { o.Validation = o.Validation[:1] },
		"From":            func(o *TrainOptions) { o.From = adapter },
		"Method":          func(o *TrainOptions) { o.Method, o.LoRA = "full", model.LoRA{} },
		"LoRA.Rank":       func(o *TrainOptions) { o.LoRA.Rank = 5 },
		"LoRA.Alpha":      func(o *TrainOptions) { o.LoRA.Alpha = 7 },
		"LoRA.Dropout":    func(o *TrainOptions) { o.LoRA.Dropout = 0.2 },
		"LoRA.Targets":    func(o *TrainOptions) { o.LoRA.Targets = []string{"q_proj"} },
		"LoRA.RSLoRA":     func(o *TrainOptions) { o.LoRA.RSLoRA = true },
		"LoRA.DoRA":       func(o *TrainOptions) { o.LoRA.DoRA, o.LoRA.Dropout = true, 0 },
		"LoRA.Init":       func(o *TrainOptions) { o.LoRA.Init = "gaussian" },
		"LoRA.Init pissa": func(o *TrainOptions) { o.LoRA.Init = "pissa" },
		"LoRA.RankPattern": func(o *TrainOptions) {
			o.LoRA.RankPattern = model.NewPatterns(map[string]float64{"q_proj": 2})
		},
		"LoRA.AlphaPattern": func(o *TrainOptions) {
			o.LoRA.AlphaPattern = model.NewPatterns(map[string]float64{"q_proj": 2})
		},
		"LoRAPlus":        func(o *TrainOptions) { o.LoRAPlus = 4 },
		"Precision":       func(o *TrainOptions) { o.Precision = "bf16" },
		"Quantize":        func(o *TrainOptions) { o.Quantize = "nf4" },
		"Quantize single": func(o *TrainOptions) { o.Quantize = "nf4-single" },
		"SequenceLength":  func(o *TrainOptions) { o.SequenceLength = 24 },
		"BatchTokens":     func(o *TrainOptions) { o.BatchTokens = 200 },
		"Epochs":          func(o *TrainOptions) { o.Steps, o.Epochs = 0, 0.5 },
		"Epochs more":     func(o *TrainOptions) { o.Steps, o.Epochs = 0, 1.5 },
		"Steps":           func(o *TrainOptions) { o.Steps = 9 },
		"Schedule.Kind":   func(o *TrainOptions) { o.Schedule.Kind = "linear" },
		"Schedule.Rate":   func(o *TrainOptions) { o.Schedule.Rate = 4e-3 },
		"Schedule.Min":    func(o *TrainOptions) { o.Schedule.Min = 0 },
		"Warmup":          func(o *TrainOptions) { o.Warmup = 3 },
		"Decay":           func(o *TrainOptions) { o.Decay = 3 },
		"NEFTune":         func(o *TrainOptions) { o.NEFTune = 5 },
		"Optimizer.Kind":  func(o *TrainOptions) { o.Optimizer.Kind = "lion" },
		"Lion's beta1":    func(o *TrainOptions) { o.Optimizer.Kind, o.Optimizer.Beta1 = "lion", 0.8 },
		"Lion's beta2":    func(o *TrainOptions) { o.Optimizer.Kind, o.Optimizer.Beta2 = "lion", 0.9 },
		"Optimizer.Beta1": func(o *TrainOptions) { o.Optimizer.Beta1 = 0.8 },
		"Optimizer.Beta2": func(o *TrainOptions) { o.Optimizer.Beta2 = 0.9 },
		"Optimizer.Eps":   func(o *TrainOptions) { o.Optimizer.Eps = 1e-3 },
		"Optimizer.Decay": func(o *TrainOptions) { o.Optimizer.Decay = 0.1 },
		"Optimizer.Clip":  func(o *TrainOptions) { o.Optimizer.Clip = 0.1 },
		"EvalEvery":       func(o *TrainOptions) { o.EvalEvery = 3 },
		"EvalLimit":       func(o *TrainOptions) { o.EvalLimit = 3 },
		"SelectBy":        func(o *TrainOptions) { o.SelectBy = "validation/b/loss" },
		"EarlyStop":       func(o *TrainOptions) { o.EarlyStop, o.EvalEvery = &EarlyStop{Patience: 1, MinDelta: 10}, 2 },
		"EMA":             func(o *TrainOptions) { o.EMA = 0.3 },
		"Seed":            func(o *TrainOptions) { o.Seed = 8 },
		"Seed of full":    func(o *TrainOptions) { o.Method, o.LoRA, o.Seed = "full", model.LoRA{}, 8 },
	}
}

// TestCheckpointIsOfItsSettings: a checkpoint is refused by a run with any other setting, but for how long it goes on and when it
// measures.
func TestCheckpointIsOfItsSettings(t *testing.T) {
	base := small(t)
	base.Schedule, base.Decay, base.SelectBest = Schedule{Kind: "wsd", Rate: 5e-3, Min: 1e-4}, 0.5, true
	base.Validation = []DataSet{{Name: "a", Path: tokenFolder(t, 12, 2)}, {Name: "b", Path: tokenFolder(t, 12, 3)}}
	base.Out, base.CurveOut = "", ""
	dev := cpu.New(cpu.Options{Threads: 1})
	defer dev.Close()
	identity := func(change func(*TrainOptions)) map[string]string {
		o := base
		change(&o)
		r, err := prepare(t.Context(), dev, o)
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		return r.settings
	}
	adapter := filepath.Join(t.TempDir(), "adapter")
	begin := base
	begin.Steps, begin.Out = 1, adapter
	train(t, begin, 1)
	want := identity(func(*TrainOptions) {})
	free := "Epochs Epochs more Steps EvalEvery EarlyStop"
	for name, change := range changedSettings(t, adapter) {
		differs := differences(want, identity(change))
		if (len(differs) == 0) != strings.Contains(free, name) {
			t.Errorf("%s: the settings of a checkpoint differ in %v", name, differs)
		}
	}
	from := identity(func(o *TrainOptions) { o.From = adapter })
	if differs := differences(from, want); len(differs) > 0 {
		t.Errorf("without the adapter that the checkpoint began with: %v", differs)
	}
}

// TestEarlyStopSettings on losses that are given: patience, the smallest gain that counts, and which set's loss it is.
func TestEarlyStopSettings(t *testing.T) {
	losses := [][2]float64{{5, 1}, {4, 1}, {3.9, 1}, {3.8, 1}, {3.7, 1}, {3.6, 1}, {3.5, 1}}
	for _, c := range []struct {
		stop EarlyStop
		by   string
		want int // evaluation that ends training, counted from 0; -1: none does
	}{
		{EarlyStop{Metric: "validation/a/loss", Patience: 1}, "", -1},
		{EarlyStop{Metric: "validation/b/loss", Patience: 1}, "", 1},
		{EarlyStop{Metric: "validation/b/loss", Patience: 3}, "", 3},
		{EarlyStop{Metric: "validation/b/loss"}, "", 1}, // a patience of 0 is one evaluation
		{EarlyStop{Metric: "validation/a/loss", Patience: 2, MinDelta: 0.5}, "", 3},
		{EarlyStop{Metric: "validation/a/loss", Patience: 2, MinDelta: 0.15}, "", -1}, // against 4 and then 3.8, 3.8 and 3.6 count
		{EarlyStop{Patience: 1}, "validation/b/loss", 1},
		{EarlyStop{Metric: "validation/a/loss", Patience: 1}, "validation/b/loss", -1}, // its own comes first
		{EarlyStop{Metric: "validation/b/loss", Patience: 1}, "validation/a/loss", 1},
		{EarlyStop{Patience: 1}, "", -1}, // the mean falls
	} {
		r := &run{TrainOptions: TrainOptions{EarlyStop: &c.stop, SelectBy: c.by}}
		for _, name := range []string{"a", "b"} {
			r.validation = append(r.validation, &validationSet{DataSet: DataSet{Name: name}})
		}
		r.Log = new(strings.Builder)
		got := -1
		for i, l := range losses {
			r.judge(map[string]float64{"validation/a/loss": l[0], "validation/b/loss": l[1]})
			if r.Stopped {
				got = i
				break
			}
		}
		if got != c.want {
			t.Errorf("%+v by %q: stopped at evaluation %d, want %d", c.stop, c.by, got, c.want)
		}
	}
}

// TestLoRAPlusRates: B and the magnitudes learn faster by the ratio, A does not; all weights of method full learn alike.
func TestLoRAPlusRates(t *testing.T) {
	dev := cpu.New(cpu.Options{Threads: 1})
	defer dev.Close()
	m, err := model.Load(t.Context(), tied, dev, model.Options{Method: model.TrainLoRA, LoRA: model.LoRA{Rank: 2, Alpha: 2, Targets: []string{"q_proj"}, DoRA: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	kinds := map[string]float64{"lora_A.weight": 1, "lora_B.weight": 16, "lora_magnitude_vector": 16}
	o := newOptimizer(m, Optimizer{}, 16)
	defer o.free()
	for i, p := range o.params {
		for kind, want := range kinds {
			if strings.Contains(p.Name, kind) && o.rates[i] != want {
				t.Errorf("%s learns at %g times the rate, want %g", p.Name, o.rates[i], want)
			}
		}
	}
	plain := newOptimizer(m, Optimizer{}, 0)
	defer plain.free()
	for i, rate := range plain.rates {
		if rate != 1 {
			t.Errorf("%s learns at %g times the rate without lora_plus", plain.params[i].Name, rate)
		}
	}
}

// TestCheckpointSettings: how many checkpoints the folder keeps, and how often they come, by steps and by the clock.
func TestCheckpointSettings(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*TrainOptions)
		want   []int // steps of the files that are left
	}{
		"every step, the usual two":  {func(o *TrainOptions) { o.CheckpointSteps = 1 }, []int{6, 7}},
		"every step, four":           {func(o *TrainOptions) { o.CheckpointSteps, o.CheckpointKeep = 1, 4 }, []int{4, 5, 6, 7}},
		"every third step":           {func(o *TrainOptions) { o.CheckpointSteps = 3 }, []int{3, 6}},
		"often enough by the clock":  {func(o *TrainOptions) { o.CheckpointTime = time.Nanosecond }, []int{6, 7}},
		"every nine seconds":         {func(o *TrainOptions) { o.CheckpointTime, o.CheckpointKeep = 9*time.Second, 9 }, []int{3, 6}}, // a step takes three
		"more seldom than it lasts":  {func(o *TrainOptions) { o.CheckpointTime = 24 * time.Hour }, nil},
		"neither by steps nor clock": {func(*TrainOptions) {}, nil},
	} {
		o := small(t)
		o.Steps, o.Validation, o.Scratch = 8, nil, filepath.Join(t.TempDir(), "scratch")
		clock := time.Unix(0, 0)
		o.Now = func() time.Time { clock = clock.Add(time.Second); return clock }
		c.change(&o)
		o.CheckpointOut = filepath.Join(t.TempDir(), "checkpoint")
		o.Saved = func(path string) {
			if filepath.Dir(path) != o.Scratch {
				t.Errorf("%s: told of %s, which is no checkpoint of the run's own", name, path)
			}
		}
		train(t, o, 1)
		names, err := checkpointFiles(o.Scratch)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, step := range c.want {
			want = append(want, checkpointName(step))
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v are left, want %v", name, names, want)
		}
	}
}
