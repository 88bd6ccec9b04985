package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/engine"
	"lpipe/engine/model"
	"lpipe/engine/ops"
	"lpipe/stages"
)

func (p *program) enginePlanCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "what a training run would take: parameters, memory, tokens, time",
		Description: "Memory is counted from the allocations that training would make, without reading the weights. What does not fit into\n" +
			"--device-memory is computed again in the backward pass instead of kept. Steps need --train, or --pairs; time comes from\n" +
			"steps of a model with one such layer on this machine. Flags and defaults are those of stage \"train\".",
		Flags: []cli.Flag{
			modelFlag(),
			&cli.StringFlag{Name: "train", Usage: "token folder `DIR`, for steps and time"},
			&cli.StringFlag{Name: "pairs", Usage: "`FILE` of preferences, for steps and time of method dpo"},
			&cli.StringFlag{Name: "method", Usage: "lora, dora, full or dpo", Value: "lora"},
			&cli.IntFlag{Name: "rank", Value: 16},
			&cli.StringSliceFlag{Name: "targets", Usage: "linears with an adapter (repeat, or separate by commas)", Value: cli.NewStringSlice(model.AllLinear)},
			&cli.StringFlag{Name: "quantize", Usage: "none, nf4 or nf4-single", Value: "none"},
			&cli.StringFlag{Name: "init", Usage: "kaiming, gaussian or pissa", Value: "kaiming"},
			&cli.StringFlag{Name: "precision", Usage: "bf16 or fp32", Value: "bf16"},
			&cli.StringFlag{Name: "optimizer", Usage: "adamw or lion", Value: "adamw"},
			&cli.Float64Flag{Name: "ema", Usage: "decay of a moving average of the weights; 0: none"},
			&cli.BoolFlag{Name: "samples", Usage: "let the model write samples while it trains"},

			&cli.StringFlag{Name: "device-memory", Usage: "how much memory there is: `SIZE` like 24GiB", DefaultText: "the machine's"},
			&cli.BoolFlag{Name: "gpu", Usage: "plan for a GPU with --device-memory, of which training takes 95 %; none need be here, and no time is given"},
			&cli.IntFlag{Name: "sequence-length", Usage: "`N` tokens of a pack", Value: 4096},
			&cli.IntFlag{Name: "batch-tokens", Usage: "`N` tokens of a step", Value: 65536},
			&cli.Float64Flag{Name: "epochs", Value: 1},
			&cli.IntFlag{Name: "steps", Usage: "`N` steps instead of epochs"},
			threadsFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("gpu") {
				return p.enginePlanGPU(c)
			}
			return p.onDevice(c, func(dev ops.Device) error { return p.enginePlan(c, dev) })
		},
	}
}

// planOptions are the training options that the flags describe.
func (p *program) planOptions(c *cli.Context) (engine.TrainOptions, error) {
	o := engine.TrainOptions{
		Model: p.path(c.String("model")), Method: c.String("method"), Precision: c.String("precision"), Quantize: c.String("quantize"),
		SequenceLength: c.Int("sequence-length"), BatchTokens: c.Int("batch-tokens"), Epochs: c.Float64("epochs"), Steps: c.Int("steps"),
		Schedule:  engine.Schedule{Kind: "constant", Rate: 1e-4}, // changes nothing that is planned
		Optimizer: engine.Optimizer{Kind: c.String("optimizer"), Beta1: 0.9, Beta2: 0.999, Eps: 1e-8},
		Seed:      42, EMA: c.Float64("ema"),
		Scratch: "checkpoints", // its copies count; nothing is written
	}
	if c.Bool("samples") {
		o.SamplesOut = "samples"
	}
	if c.IsSet("device-memory") {
		var size stages.Size
		if err := size.UnmarshalJSON([]byte(strconv.Quote(c.String("device-memory")))); err != nil {
			return o, usagef("--device-memory %s: %v", c.String("device-memory"), err)
		}
		o.DeviceMemory = int64(size)
	}
	if c.IsSet("train") {
		o.Train = p.path(c.String("train"))
	}
	if dpo := o.Method == "dpo"; c.IsSet("pairs") && !dpo || c.IsSet("train") && dpo {
		return o, usagef("--pairs goes with --method dpo, --train with the others")
	}
	if c.IsSet("pairs") {
		o.Pairs = p.path(c.String("pairs"))
	}
	if o.SequenceLength < 2 || o.BatchTokens < 2 {
		return o, usagef("--sequence-length and --batch-tokens must be at least 2")
	}
	switch o.Method {
	case "full":
	case "lora", "dora", "dpo":
		if o.Method == "dpo" {
			o.Beta = 0.1 // changes nothing that is planned
		}
		o.LoRA = model.LoRA{Rank: c.Int("rank"), Alpha: 32, Targets: c.StringSlice("targets"), DoRA: o.Method == "dora", Init: c.String("init")}
		o.Method = "lora"
	default:
		return o, usagef("--method %s: there are lora, dora, full and dpo", o.Method)
	}
	return o, nil
}

// memoryText says what the memory is for.
func memoryText(f *engine.Forecast) string {
	text := bytesText(f.Total)
	if f.Limit > 0 {
		text += " of " + bytesText(f.Limit)
	}
	return text + ": " + f.Parts()
}

// enginePlanGPU plans for a GPU of the memory that is named.
func (p *program) enginePlanGPU(c *cli.Context) error {
	o, err := p.planOptions(c)
	if err != nil {
		return err
	}
	if o.DeviceMemory == 0 {
		return usagef("--gpu needs --device-memory: how much the GPU has")
	}
	dev := engine.OutlineGPU(o.DeviceMemory)
	o.DeviceMemory = 0 // all but what the driver keeps
	return p.printPlan(c, dev, o)
}

func (p *program) enginePlan(c *cli.Context, dev ops.Device) error {
	o, err := p.planOptions(c)
	if err != nil {
		return err
	}
	return p.printPlan(c, dev, o)
}

func (p *program) printPlan(c *cli.Context, dev ops.Device, o engine.TrainOptions) error {
	f, err := engine.Plan(c.Context, dev, o)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(struct {
			Schema int `json:"schema"`
			*engine.Forecast
		}{1, f})
	}
	for _, note := range f.Notes {
		p.say("%s", note)
	}
	rows := [][]string{
		{"parameters", fmt.Sprintf("%d of the model; %d are trained", f.Parameters, f.Trained)},
		{"memory", memoryText(f)},
		{"kept", f.Choice()},
		{"pack", strconv.Itoa(f.PackTokens) + " tokens at once"},
	}
	if f.Steps > 0 {
		rows = append(rows, []string{"data", fmt.Sprintf("%d rows, %d targets; %d steps, %d tokens", f.Rows, f.Targets, f.Steps, f.Tokens)})
	}
	if dev.Info().Counts {
		table(p.stdout, append(rows, []string{"time", "not known: nothing was computed"}))
		return nil
	}
	speed := fmt.Sprintf("about %.0f tokens/s", f.TokensPerSecond)
	if f.Seconds > 0 {
		speed += ", " + durationText(time.Duration(f.Seconds*float64(time.Second)))
	}
	if f.PiSSASeconds > 0 {
		speed += "; before that pissa's beginning, " + durationText(time.Duration(f.PiSSASeconds*float64(time.Second)))
	}
	table(p.stdout, append(rows, []string{"time", speed + " on " + deviceText(dev.Info())}))
	return nil
}
