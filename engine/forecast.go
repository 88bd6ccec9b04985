package engine

import (
	"context"
	"fmt"
	"time"

	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// Forecast is what a training run will take.
type Forecast struct {
	Needs

	PackTokens int `json:"pack_tokens"` // of one pass: activations are as large as this
	// The rest of the data's numbers are 0 where no token folder is named.
	Rows    int   `json:"rows,omitempty"`
	Targets int64 `json:"targets,omitempty"` // of one epoch
	Steps   int   `json:"steps,omitempty"`
	Tokens  int64 `json:"tokens,omitempty"` // of all steps

	Notes []string `json:"notes,omitempty"` // what reading the data had to say

	TokensPerSecond float64 `json:"tokens_per_s"` // of training steps, from a model of one such layer; 0: for a GPU that is not here
	Seconds         float64 `json:"seconds,omitempty"`
	PiSSASeconds    float64 `json:"pissa_seconds,omitempty"` // before the first step
	Device          string  `json:"device"`

	longest  int     // row
	document float64 // tokens of the document that a token stands in, on average; without data that of a whole pack
}

// Plan says what Train would take with o: memory from the allocations that it would make, steps from the data (o.Train and
// o.Pairs may be empty), time from steps of a model that has one layer of the same shape. Weights are not read.
func Plan(ctx context.Context, dev ops.Device, o TrainOptions) (*Forecast, error) {
	config, err := model.ReadConfig(o.Model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Quantize = noneIfEmpty(o.Quantize)
	if err := o.check(); err != nil {
		return nil, err
	}
	f := &Forecast{PackTokens: min(o.SequenceLength, o.BatchTokens), Device: dev.Info().Name}
	f.longest, f.document = f.PackTokens, float64(f.PackTokens)
	if o.Train != "" || o.Pairs != "" {
		if err := f.readData(o, config); err != nil {
			return nil, err
		}
	}
	needs, err := o.needs(config, dev, f.PackTokens, f.longest)
	if err != nil {
		return nil, err
	}
	f.Needs = *needs
	f.documents(config, o.Method, f.document)
	if o.Method == "lora" && o.LoRA.Init == "pissa" {
		took, err := model.PiSSATime(config, o.LoRA, dev.Info().Threads, o.Now)
		if err != nil {
			return nil, err
		}
		f.PiSSASeconds = took.Seconds()
	}
	if dev.Info().Counts {
		return f, nil
	}
	return f, f.probe(ctx, dev, config, o)
}

// readData plans the steps, as training does.
func (f *Forecast) readData(o TrainOptions, config model.Config) error {
	data, plan, err := o.openTrain(config, func(format string, args ...any) {
		f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
	})
	if err != nil {
		return err
	}
	defer data.Close()
	set := plan.set
	f.PackTokens, f.Rows, f.Targets, f.Steps, f.longest = plan.capacity, len(set.rows), set.trained, plan.steps(), set.longest
	f.document = set.document()
	for n := range f.Steps {
		packs, _ := plan.step(n + 1)
		for _, pack := range packs {
			for _, row := range pack {
				f.Tokens += int64(set.length[row])
			}
		}
	}
	return nil
}

// probeTokens and probeVocabulary keep the probe short: what a token costs hardly depends on them.
const (
	probeTokens     = 1024
	probeVocabulary = 4096
)

// probe times steps of a model of one layer, and scales them by the operations that the whole model needs. Such a step
// also shows how much scratch memory the device takes, which depends on shapes, not on the number of layers.
func (f *Forecast) probe(ctx context.Context, dev ops.Device, config model.Config, o TrainOptions) error {
	c := config
	options, err := o.modelOptions()
	if err != nil {
		return err
	}
	c.Layers, c.V, c.Quantised = 1, min(c.V, probeVocabulary), nil
	options.NF4 = options.NF4 || config.Quantised != nil
	options.LoRA.Targets, options.LoRA.RankPattern, options.LoRA.AlphaPattern, options.LoRA.Init = []string{model.AllLinear}, nil, nil, "kaiming"
	m, err := model.New(c, model.Init{}, dev, options)
	if err != nil {
		return err
	}
	defer m.Free()
	b := model.Batch{B: 1, T: max(2, min(f.PackTokens, probeTokens))}
	b.IDs = make([]int32, b.T)
	if _, err := m.Step(b, b.T); err != nil { // the first pays for memory
		return err
	}
	began, steps := o.Now(), 0
	for steps < 2 || o.Now().Sub(began) < 500*time.Millisecond && steps < 100 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := m.Step(b, b.T); err != nil {
			return err
		}
		steps++
	}
	took := max(o.Now().Sub(began).Seconds(), 1e-9)
	if f.Scratch == 0 { // the device could not tell before
		f.Scratch = dev.Info().Scratch
		f.Total += f.Scratch
	}
	trained := 0
	for _, p := range m.Parameters() {
		trained += p.Weights.Len
	}
	rate := trainFlops(c, int64(trained), o.Method, float64(b.T)) * float64(b.T*steps) / took
	method := o.Method
	if o.Beta > 0 {
		method = "dpo"
	}
	f.TokensPerSecond = rate / (trainFlops(config, f.Trained, method, f.document) * (1 + f.Again))
	if f.Tokens > 0 {
		f.Seconds = float64(f.Tokens) / f.TokensPerSecond
	}
	return dev.Err()
}

// trainFlops is what the mathematics needs to train on a token of a document of T: two for each weight forward and two
// backward, two more for the gradient of those that are trained, six for an adapter's; attention over half of
// the document, two products forward and five backward.
func trainFlops(c model.Config, trained int64, method string, T float64) float64 {
	weights := float64(c.Layers*(c.C*c.QKV()+c.H*c.D*c.C+3*c.C*c.F) + c.V*c.C)
	attention := 7 * float64(c.Layers*c.H*c.D) * T
	switch method {
	case "full":
		return 6*weights + attention
	case "dpo": // once more forward, without the adapter
		return 6*weights + 6*float64(trained) + attention*9/7
	}
	return 4*weights + 6*float64(trained) + attention
}
