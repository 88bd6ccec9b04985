//go:build !cuda

package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"lpipe/engine/cpu"
	"lpipe/engine/graph"
	"lpipe/engine/ops"
)

func (p *program) engineCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "products of each kernel against plain loops; gradients against automatic ones and finite differences, on random models and a folder's",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "also on the weights of model folder `DIR`: two of its layers, in part, and some rows of its vocabulary"},
			&cli.Uint64Flag{Name: "seed", Value: 1},
			&cli.IntFlag{Name: "models", Usage: "`N` random models", Value: 8}, threadsFlag(),
		},
		Action: func(c *cli.Context) error {
			return p.onDevice(c, func(dev ops.Device) error { return p.engineCheck(c, dev) })
		},
	}
}

func (p *program) engineCheck(c *cli.Context, dev ops.Device) error {
	kernels, err := p.tryKernels(c, dev)
	if err != nil {
		return err
	}
	all, err := p.checkModels(c, dev)
	if err != nil {
		return err
	}
	rows := [][]string{{"model", "tensors", "loss", "gradient", "difference", "worst tensor", ""}}
	wrong := 0
	for _, r := range all {
		if !r.OK {
			wrong++
		}
		e := func(f float64) string { return strconv.FormatFloat(f, 'e', 1, 64) }
		rows = append(rows, []string{r.Model, strconv.Itoa(r.Tensors), e(r.Loss), e(r.Gradient), e(r.Difference), r.Worst, verdict(r.OK)})
	}
	for _, k := range kernels {
		if !k.OK && k.Missing == "" {
			wrong++
		}
	}
	if p.json {
		if err := p.printJSON(map[string]any{"schema": 1, "device": dev.Info(), "kernels": kernels, "models": all, "ok": wrong == 0}); err != nil {
			return err
		}
	} else {
		p.result("largest differences: hand-written against automatic loss and gradients (relative), automatic against finite differences")
		table(p.stdout, rows)
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d differ: this machine computes something wrong, do not train on it", wrong, len(all)+len(kernels))
	}
	return nil
}

// checkModels asks the witnesses on random models, and on the folder's.
func (p *program) checkModels(c *cli.Context, dev ops.Device) ([]graph.Row, error) {
	report := func(r graph.Row) { p.say("%s: %s", r.Model, verdict(r.OK)) }
	all, err := graph.Check(c.Context, dev, graph.Options{Seed: c.Uint64("seed"), Models: c.Int("models")}, report)
	if err != nil || !c.IsSet("model") {
		return all, err
	}
	p.say("%s: taking a part of it, in float64 twice; half a minute and some gigabytes for a large one", c.String("model"))
	more, err := graph.CheckFolder(c.Context, dev, p.path(c.String("model")), c.Uint64("seed"), report)
	return append(all, more...), err
}

// tryKernels runs all kernels of the processor, and says which of them the device takes.
func (p *program) tryKernels(c *cli.Context, dev ops.Device) ([]cpu.Trial, error) {
	trials, err := cpu.TryKernels(c.Int("threads"), c.Uint64("seed"))
	if err != nil || p.json {
		return trials, err
	}
	p.result("products of each kernel against plain loops, by the weight's type: the largest difference over the largest value")
	rows := [][]string{{"kernel", "float32", "bfloat16", "nf4", ""}}
	for _, t := range trials {
		if t.Missing != "" {
			rows = append(rows, []string{t.Kernel, "", "", "", "not here: " + t.Missing})
			continue
		}
		said := verdict(t.OK)
		if t.Kernel == dev.Info().Detail {
			said += ", in use"
		}
		e := func(f float64) string { return strconv.FormatFloat(f, 'e', 1, 64) }
		rows = append(rows, []string{t.Kernel, e(t.F32), e(t.BF16), e(t.NF4), said})
	}
	table(p.stdout, rows)
	p.result("")
	return trials, nil
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "DIFFERS"
}
