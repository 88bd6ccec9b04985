package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"lpipe/engine"
	"lpipe/engine/model"
)

func (p *program) quantizeCommand() *cli.Command {
	return &cli.Command{
		Name: "quantize", Category: categoryEngine, Usage: "store a model's linears in 4 bits (NF4), to train an adapter on",
		Description: "Writes what transformers saves for a model that bitsandbytes has quantised: blocks of 64 weights, 16 values.\n" +
			"Embeddings, head, norms and biases stay as they are. stage \"train\" with quantize = \"nf4\" does the same in memory.",
		Flags: []cli.Flag{
			modelFlag(),
			&cli.StringFlag{Name: "out", Usage: "folder `DIR` to write, which must not exist", Required: true},
			&cli.BoolFlag{Name: "double", Usage: "the blocks' scales in 8 bits too"},
		},
		Action: p.quantize,
	}
}

func (p *program) quantize(c *cli.Context) error {
	from, out := p.path(c.String("model")), p.path(c.String("out"))
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		return usagef("--out %s exists already: name a folder that does not", c.String("out"))
	}
	part := out + ".part" // what an earlier, interrupted run left there is of no use
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := model.Quantise(c.Context, from, part, model.QuantiseOptions{Double: c.Bool("double")}); err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	if err := os.Rename(part, out); err != nil {
		return err
	}
	before, err := engine.ReadInfo(from)
	if err != nil {
		return err
	}
	after, err := engine.ReadInfo(out)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "bytes_before": before.Bytes, "bytes": after.Bytes, "fingerprint": after.Fingerprint})
	}
	p.say("%s: %s, before %s", c.String("out"), bytesText(after.Bytes), bytesText(before.Bytes))
	return nil
}
