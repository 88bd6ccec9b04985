package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"lpipe/engine"
	"lpipe/engine/tokenizer"
)

func (p *program) generateCommand() *cli.Command {
	return &cli.Command{
		Name: "generate", Category: categoryEngine, Usage: "let a model answer",
		Description: "--prompt is a user's turn in the model's chat template; with --raw it is text to go on from.\n" +
			"--ids FILE holds sequences of token ids, one a line: [1, 2], {\"ids\": [1, 2]}, or numbers; or is a safetensors file.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "model folder `DIR`", Required: true},
			&cli.StringFlag{Name: "adapter", Usage: "PEFT adapter folder `DIR`"},
			&cli.StringFlag{Name: "prompt", Usage: "`TEXT` to answer; - reads standard input"},
			&cli.StringFlag{Name: "ids", Usage: "`FILE` with token ids"},
			&cli.BoolFlag{Name: "raw", Usage: "no chat template: go on from the text itself"},
			&cli.StringFlag{Name: "system", Usage: "system `TEXT` instead of the template's"},
			&cli.BoolFlag{Name: "no-system", Usage: "no system turn at all"},
			&cli.IntFlag{Name: "max-tokens", Usage: "stop after `N` tokens", Value: 256},
			&cli.Float64Flag{Name: "temperature", Usage: "0 is greedy"},
			&cli.Float64Flag{Name: "top-p", Usage: "sample from the likeliest tokens that sum to `P`", Value: 1},
			&cli.IntFlag{Name: "top-k", Usage: "sample from the `K` likeliest tokens; 0: all"},
			&cli.Uint64Flag{Name: "seed", Value: 42},
			&cli.IntFlag{Name: "threads", Usage: "compute with `N` threads", DefaultText: "all"},
		},
		Action: p.generate,
	}
}

func (p *program) generate(c *cli.Context) error {
	if c.IsSet("prompt") == c.IsSet("ids") {
		return usagef("generate needs either --prompt TEXT or --ids FILE")
	}
	if c.Int("max-tokens") < 1 {
		return usagef("--max-tokens must be at least 1")
	}
	dir := p.path(c.String("model"))
	t, err := tokenizer.Load(dir)
	if err != nil && c.IsSet("prompt") {
		return err
	}
	prompts, err := p.prompts(c, t)
	if err != nil {
		return err
	}
	dev, err := p.openDevice(c.Int("threads"))
	if err != nil {
		return err
	}
	defer dev.Close()
	adapter := c.String("adapter")
	if adapter != "" {
		adapter = p.path(adapter)
	}
	m, err := engine.OpenModel(c.Context, dev, dir, adapter)
	if err != nil {
		return err
	}
	defer m.Free()
	o := engine.GenerateOptions{
		Sampling:  engine.Sampling{Temperature: c.Float64("temperature"), TopP: c.Float64("top-p"), TopK: c.Int("top-k")},
		MaxTokens: c.Int("max-tokens"), Stop: engine.StopTokens(m.Config, t), Seed: c.Uint64("seed"),
	}
	answers := make([]engine.Continuation, len(prompts))
	err = engine.Generate(c.Context, m, prompts, o, func(i int, one engine.Continuation) error {
		answers[i] = one
		return nil
	})
	if err != nil {
		return err
	}
	return p.printAnswers(c, t, answers)
}

// prompts are the ids to go on from.
func (p *program) prompts(c *cli.Context, t *tokenizer.Tokenizer) ([][]int32, error) {
	if c.IsSet("ids") {
		prompts, err := engine.ReadIDs(p.path(c.String("ids")))
		if err != nil {
			return nil, usageError{err}
		}
		return prompts, nil
	}
	text := c.String("prompt")
	if text == "-" {
		data, err := io.ReadAll(p.stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		text = string(data)
	}
	if c.Bool("raw") {
		ids := t.Encode(nil, text, true)
		if len(ids) == 0 {
			return nil, usagef("the prompt is empty; there is nothing to go on from")
		}
		return [][]int32{ids}, nil
	}
	chat := tokenizer.Chat{AddGenerationPrompt: true, NoSystem: c.Bool("no-system")}
	if c.IsSet("system") {
		chat.Messages = append(chat.Messages, tokenizer.Message{Role: "system", Content: c.String("system")})
	}
	chat.Messages = append(chat.Messages, tokenizer.Message{Role: "user", Content: text})
	rendered, err := t.Render(chat)
	return [][]int32{rendered.IDs}, err
}

func (p *program) printAnswers(c *cli.Context, t *tokenizer.Tokenizer, answers []engine.Continuation) error {
	for _, a := range answers {
		var text *string
		if t != nil {
			s := string(t.Decode(nil, a.IDs, true))
			text = &s
		}
		if p.json || c.IsSet("ids") {
			line := map[string]any{"ids": a.IDs, "stopped": a.Stopped}
			if text != nil {
				line["text"] = *text
			}
			if err := p.printJSONLine(line); err != nil {
				return err
			}
			continue
		}
		p.result("%s", *text)
	}
	return nil
}
