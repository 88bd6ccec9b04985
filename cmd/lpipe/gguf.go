package main

import (
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/engine"
)

func (p *program) ggufCommand() *cli.Command {
	return &cli.Command{
		Name: "gguf", Category: categoryEngine, Usage: "write a model, an adapter, or both in one as a file for llama.cpp",
		Description: "With --adapter the adapter is added to the model's weights; with --adapter and --alone it is a file of its own,\n" +
			"for llama.cpp's --lora. An existing FILE is replaced. stage \"merge\" writes the same as its output gguf.",
		Flags: []cli.Flag{
			modelFlag(),
			&cli.StringFlag{Name: "adapter", Usage: "PEFT adapter folder `DIR`"},
			&cli.BoolFlag{Name: "alone", Usage: "the adapter without the model"},
			&cli.StringFlag{Name: "type", Usage: "`TYPE` of matrices: " + strings.Join(engine.GGUFTypes(), ", "), Value: "f16"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write", Required: true},
		},
		Action: p.gguf,
	}
}

func (p *program) gguf(c *cli.Context) error {
	o := engine.GGUFOptions{Model: p.path(c.String("model")), Alone: c.Bool("alone"), Type: c.String("type"), Out: p.path(c.String("out"))}
	if c.IsSet("adapter") {
		o.Adapter = p.path(c.String("adapter"))
	}
	if o.Alone && o.Adapter == "" {
		return usagef("--alone is about an adapter: name it with --adapter")
	}
	if err := engine.WriteGGUF(c.Context, o); err != nil {
		return err
	}
	info, err := os.Stat(o.Out)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "bytes": info.Size()})
	}
	p.say("%s: %s", c.String("out"), bytesText(info.Size()))
	return nil
}
