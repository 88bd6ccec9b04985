package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/engine"
	"lpipe/engine/ops"
)

func (p *program) engineCommand() *cli.Command {
	return &cli.Command{
		Name: "engine", Category: categoryEngine, Usage: "look into the training engine",
		Subcommands: []*cli.Command{
			p.engineCheckCommand(), p.engineInfoCommand(), p.enginePlanCommand(), p.engineDumpCommand(), p.engineBenchCommand(),
		},
	}
}

func threadsFlag() cli.Flag {
	return &cli.IntFlag{Name: "threads", Usage: "compute with `N` threads", DefaultText: "all"}
}

func modelFlag() cli.Flag {
	return &cli.StringFlag{Name: "model", Usage: "model folder `DIR`", Required: true}
}

// onDevice opens the device for one command.
func (p *program) onDevice(c *cli.Context, run func(ops.Device) error) error {
	dev, err := p.openDevice(c.Int("threads"))
	if err != nil {
		return err
	}
	defer dev.Close()
	return run(dev)
}

func (p *program) engineInfoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "what a model folder holds, and what would compute it",
		Flags: []cli.Flag{&cli.StringFlag{Name: "model", Usage: "model folder `DIR`; without it only the device"}, threadsFlag()},
		Action: func(c *cli.Context) error {
			return p.onDevice(c, func(dev ops.Device) error { return p.engineInfo(c, dev) })
		},
	}
}

func (p *program) engineInfo(c *cli.Context, dev ops.Device) error {
	var info *engine.Info
	if c.IsSet("model") {
		var err error
		if info, err = engine.ReadInfo(p.path(c.String("model"))); err != nil {
			return err
		}
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "device": dev.Info(), "model": info})
	}
	rows := [][]string{{"device", deviceText(dev.Info())}}
	if info != nil {
		stored := info.DType
		if info.Quantised != "" {
			stored += ", the layers' linears in 4 bits (" + info.Quantised + "),"
		}
		rows = append(rows,
			[]string{"family", info.Family},
			[]string{"layers", fmt.Sprintf("%d of width %d, feed-forward %d", info.Layers, info.Width, info.FeedForward)},
			[]string{"heads", fmt.Sprintf("%d for queries, %d for keys and values, %d wide", info.Heads, info.KVHeads, info.HeadWidth)},
			[]string{"vocabulary", fmt.Sprintf("%d rows, head tied to the embedding: %v; tokenizer: %d tokens", info.Vocabulary, info.Tied, info.Tokens)},
			[]string{"positions", strconv.Itoa(info.MaxPositions)},
			[]string{"parameters", fmt.Sprintf("%d, stored as %s in %s", info.Parameters, stored, bytesText(info.Bytes))},
			[]string{"fingerprint", info.Fingerprint})
	}
	table(p.stdout, rows)
	return nil
}

func (p *program) engineDumpCommand() *cli.Command {
	return &cli.Command{
		Name: "dump", Usage: "logits, loss and gradients of a batch, to compare with other software",
		Description: "The batch is a safetensors file with input_ids and labels [B, T] int64, optionally attention_mask,\n" +
			"position_ids, sequence_ids. The output holds logits, loss, tokens and the gradient of each trained tensor.",
		Flags: []cli.Flag{
			modelFlag(),
			&cli.StringFlag{Name: "adapter", Usage: "PEFT adapter folder `DIR`"},
			&cli.StringFlag{Name: "batch", Usage: "safetensors `FILE` to read", Required: true},
			&cli.StringFlag{Name: "out", Usage: "safetensors `FILE` to write", Required: true},
			&cli.BoolFlag{Name: "gradients", Usage: "gradients too"},
			&cli.StringFlag{Name: "method", Usage: "lora or full (default: lora with an adapter)"},
			precisionFlag(), threadsFlag(),
		},
		Action: func(c *cli.Context) error {
			return p.onDevice(c, func(dev ops.Device) error { return p.engineDump(c, dev) })
		},
	}
}

func precisionFlag() cli.Flag {
	return &cli.StringFlag{Name: "precision", Usage: "fp32, or bf16: frozen weights, and what is multiplied with them, are bfloat16", Value: "fp32"}
}

func (p *program) engineDump(c *cli.Context, dev ops.Device) error {
	if c.String("precision") != "fp32" {
		return usagef("engine dump computes in fp32 only")
	}
	if m := c.String("method"); m != "" && m != "lora" && m != "full" {
		return usagef("--method %s: there are lora and full", m)
	}
	o := engine.DumpOptions{Model: p.path(c.String("model")), Batch: p.path(c.String("batch")), Out: p.path(c.String("out")),
		Gradients: c.Bool("gradients"), Method: c.String("method")}
	if c.IsSet("adapter") {
		o.Adapter = p.path(c.String("adapter"))
	}
	return engine.Dump(c.Context, dev, o)
}

func (p *program) engineBenchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "time LoRA training steps, or greedy decoding",
		Description: "LoRA on all linears, every token trained: forward, backward and AdamW on the same ids every step.\n" +
			"A model folder that holds config.json alone gets random weights.",
		Flags: []cli.Flag{
			modelFlag(),
			&cli.IntFlag{Name: "batch", Usage: "`B` rows", Value: 4},
			&cli.IntFlag{Name: "length", Usage: "`T` tokens a row", Value: 256},
			&cli.IntFlag{Name: "rank", Value: 16},
			&cli.Float64Flag{Name: "seconds", Usage: "go on for `S` seconds", Value: 10},
			&cli.IntFlag{Name: "steps", Usage: "make `N` steps instead"},
			&cli.Float64Flag{Name: "lr", Value: 1e-4},
			&cli.StringFlag{Name: "ids", Usage: "token ids from `FILE` instead of random ones"},
			&cli.BoolFlag{Name: "decode", Usage: "time greedy decoding instead"},
			&cli.StringFlag{Name: "quantize", Usage: "none, or nf4: the linears in 4-bit NormalFloat", Value: "none"},
			&cli.BoolFlag{Name: "recompute", Usage: "keep no activations of the layers, as if there were no room"},
			precisionFlag(), threadsFlag(),
		},
		Action: func(c *cli.Context) error {
			return p.onDevice(c, func(dev ops.Device) error { return p.engineBench(c, dev) })
		},
	}
}

func (p *program) engineBench(c *cli.Context, dev ops.Device) error {
	if pr := c.String("precision"); pr != "fp32" && pr != "bf16" {
		return usagef("--precision %s: there are fp32 and bf16", pr)
	}
	o := engine.BenchOptions{
		Model: p.path(c.String("model")), B: c.Int("batch"), T: c.Int("length"), Rank: c.Int("rank"), Seconds: c.Float64("seconds"),
		Steps: c.Int("steps"), LR: c.Float64("lr"), BF16: c.String("precision") == "bf16", Decode: c.Bool("decode"), Now: time.Now,
		NF4: c.String("quantize") == "nf4", Again: c.Bool("recompute"),
	}
	if q := c.String("quantize"); q != "none" && q != "nf4" {
		return usagef("--quantize %s: there are none and nf4", q)
	}
	if c.IsSet("ids") {
		sequences, err := engine.ReadIDs(p.path(c.String("ids")))
		if err != nil {
			return usageError{err}
		}
		for _, ids := range sequences {
			o.IDs = append(o.IDs, ids...)
		}
	}
	result, err := engine.Bench(c.Context, dev, o)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSONLine(result)
	}
	rows := [][]string{
		{"tokens/s", fmt.Sprintf("%.0f", result.TokensPerSecond)},
		{"time", fmt.Sprintf("%d tokens in %.2f s", result.Tokens, result.Seconds)},
		{"GFLOP/s", fmt.Sprintf("%.1f, and %.1f in the largest product alone", result.GFLOPS, result.GEMMGFLOPS)},
		{"peak memory", fmt.Sprintf("%.0f MB; %s on the device", result.Peak, bytesText(result.DeviceBytes))},
		{"device", deviceText(ops.Info{Name: result.Device, Detail: result.Detail, Threads: result.Threads})},
	}
	if result.PeakGFLOPS > 0 {
		pairs := ""
		if result.PeakBF16GFLOPS > 0 {
			pairs = fmt.Sprintf(", %.0f of bfloat16 pairs", result.PeakBF16GFLOPS)
		}
		rows = append(rows, []string{"bare loops", fmt.Sprintf("%.0f GFLOP/s of float32 multiply-adds%s; the largest product has %.2f of that for its numbers; %.1f GB/s read",
			result.PeakGFLOPS, pairs, result.GEMMShare, result.ReadGB)})
	}
	if result.ReadShare > 0 {
		rows = append(rows, []string{"weights read", fmt.Sprintf("once a token: %.2f of what the memory gives", result.ReadShare)})
	}
	table(p.stdout, rows)
	return nil
}
