//go:build !cuda

package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"lpipe/engine/graph"
	"lpipe/engine/ops"
)

func (p *program) engineCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "hand-written gradients against automatic ones and finite differences, on random models and a folder's",
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
	rows := [][]string{{"model", "tensors", "loss", "gradient", "difference", "worst tensor", ""}}
	all, err := graph.Check(c.Context, dev, graph.Options{Seed: c.Uint64("seed"), Models: c.Int("models")}, func(r graph.Row) {
		p.say("%s: %s", r.Model, verdict(r.OK))
	})
	if err != nil {
		return err
	}
	if c.IsSet("model") {
		p.say("%s: taking a part of it, in float64 twice; half a minute and some gigabytes for a large one", c.String("model"))
		more, err := graph.CheckFolder(c.Context, dev, p.path(c.String("model")), c.Uint64("seed"), func(r graph.Row) {
			p.say("%s: %s", r.Model, verdict(r.OK))
		})
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	wrong := 0
	for _, r := range all {
		if !r.OK {
			wrong++
		}
		e := func(f float64) string { return strconv.FormatFloat(f, 'e', 1, 64) }
		rows = append(rows, []string{r.Model, strconv.Itoa(r.Tensors), e(r.Loss), e(r.Gradient), e(r.Difference), r.Worst, verdict(r.OK)})
	}
	if p.json {
		if err := p.printJSON(map[string]any{"schema": 1, "models": all, "ok": wrong == 0}); err != nil {
			return err
		}
	} else {
		p.result("largest differences: hand-written against automatic loss and gradients (relative), automatic against finite differences")
		table(p.stdout, rows)
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d models differ: this machine computes something wrong, do not train on it", wrong, len(all))
	}
	return nil
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "DIFFERS"
}
