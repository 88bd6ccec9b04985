package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"lpipe/dataset"
	"lpipe/engine"
	"lpipe/engine/tokenizer"
	"lpipe/runner"
)

// evaluateKind describes `stage "evaluate"`.
func evaluateKind() *runner.Kind {
	return &runner.Kind{
		Name:    "evaluate",
		Doc:     "Measures a model, with an adapter or without: loss, perplexity, and how often its answer is the row's.",
		Version: 2, // 2: the loss is summed in blocks of the vocabulary, which may change its last bits
		In: []runner.Port{
			{Name: "model", Doc: "Hugging Face folder"},
			{Name: "adapter", Doc: "PEFT folder of an adapter for it", Optional: true},
			{Name: "data", Doc: "token folder, or a file of rows, with reference answers"},
		},
		Out: []runner.Port{
			{Name: "metrics", Doc: "loss, perplexity, accuracy", Ext: ".json", Metrics: true},
			{Name: "samples", Doc: "each prompt with the model's text, its answer and the reference", Ext: ".jsonl", Optional: true},
		},
		Resources: func(runner.Stage) runner.Resources { return runner.Resources{CPU: -1} },
		New: func() runner.Stage {
			return &Evaluate{Generate: Generation{Greedy: true, MaxTokens: 2048, Temperature: 1, N: 1, Seed: 42}, Answer: "boxed"}
		},
	}
}

// Evaluate are the settings of an evaluate stage.
type Evaluate struct {
	Generate Generation `hcl:"generate,optional" doc:"how answers are written"`
	Answer   string     `hcl:"answer,optional" doc:"how the answer is found in the text and compared: boxed, number, exact; none: only the loss is measured"`
	Limit    int        `hcl:"limit,optional" unit:"rows" doc:"rows used, evenly spread over the data; 0: all"`
}

// Generation says how answers are written.
type Generation struct {
	Greedy            bool    `hcl:"greedy,optional" doc:"always the likeliest token; false draws one"`
	MaxTokens         int     `hcl:"max_tokens,optional" unit:"tokens" doc:"longest answer"`
	Temperature       float64 `hcl:"temperature,optional" doc:"of drawing: below 1 closer to greedy"`
	TopK              int     `hcl:"top_k,optional" doc:"draw among the k likeliest; 0: all"`
	TopP              float64 `hcl:"top_p,optional" doc:"draw among the likeliest that make up this share; 0: all"`
	MinP              float64 `hcl:"min_p,optional" doc:"draw among those at least this likely, relative to the likeliest; 0: all"`
	RepetitionPenalty float64 `hcl:"repetition_penalty,optional" doc:"divides the scores of tokens already there; 0: off"`
	N                 int     `hcl:"n,optional" doc:"answers to each row"`
	Seed              int64   `hcl:"seed,optional" doc:"decides what is drawn"`
}

// Check refuses what makes no sense.
func (e *Evaluate) Check() error {
	g := e.Generate
	switch {
	case e.Limit < 0:
		return errors.New("limit: must not be negative")
	case e.Answer == "none":
		return nil
	case g.MaxTokens < 1:
		return fmt.Errorf("generate: max_tokens must be at least 1, not %d", g.MaxTokens)
	case g.N < 1:
		return fmt.Errorf("generate: n must be at least 1, not %d", g.N)
	case g.N > 1 && g.Greedy:
		return fmt.Errorf("generate: n = %d greedy answers would all be the same; set greedy = false", g.N)
	case !g.Greedy && !(g.Temperature > 0):
		return fmt.Errorf("generate: temperature must be above 0 when greedy is false, not %v", g.Temperature)
	}
	if err := g.sampling().Check(); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	return engine.AnswerKind(e.Answer).Check()
}

func (g Generation) sampling() engine.Sampling {
	s := engine.Sampling{RepetitionPenalty: g.RepetitionPenalty}
	if !g.Greedy {
		s.Temperature, s.TopK, s.TopP, s.MinP = g.Temperature, g.TopK, g.TopP, g.MinP
	}
	return s
}

// Run measures.
func (e *Evaluate) Run(ctx context.Context, env *runner.Env) error {
	dev, err := openDevice(env)
	if err != nil {
		return err
	}
	defer dev.Close()
	o := engine.EvaluateOptions{
		Model: one(env, "model"), Adapter: one(env, "adapter"), Limit: e.Limit, Samples: e.Generate.N,
		Answer: engine.AnswerKind(e.Answer), SamplesOut: env.Out["samples"], Log: env.Log, Report: reportSteps(env, "answers"),
	}
	if e.Answer != "none" {
		o.Generate = &engine.GenerateOptions{Sampling: e.Generate.sampling(), MaxTokens: e.Generate.MaxTokens, Seed: uint64(e.Generate.Seed)}
	}
	data, closeData, err := e.openData(o.Model, one(env, "data"))
	if err != nil {
		return err
	}
	defer closeData()
	o.Data = data
	result, err := engine.Evaluate(ctx, dev, o)
	if err != nil {
		return err
	}
	return writeMetrics(env, result)
}

// openData opens a token folder, or renders rows with the model's own template.
func (e *Evaluate) openData(model, path string) (engine.Examples, func() error, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("data: %s does not exist", path)
	} else if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	if info.IsDir() {
		tokens, err := engine.OpenTokens(path, model)
		if err != nil {
			return nil, nil, fmt.Errorf("data: %w", err)
		}
		return tokens, tokens.Close, nil
	}
	rows, err := readExamples(model, path, e.Limit)
	if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	return rows, func() error { return nil }, nil
}

// examples are rendered rows in memory.
type examples []rendered

type rendered struct {
	id, answer string
	ids        []int32
	mask       []bool
}

func (e examples) Len() int                       { return len(e) }
func (e examples) IDs(i int, dst []int32) []int32 { return append(dst, e[i].ids...) }
func (e examples) Mask(i int, dst []bool) []bool  { return append(dst, e[i].mask...) }
func (e examples) ID(i int) string                { return e[i].id }
func (e examples) Answer(i int) string            { return e[i].answer }

// readExamples renders at most limit rows (all with 0), evenly spread over the file. It reads the file twice so as
// not to hold all of it.
func readExamples(model, path string, limit int) (examples, error) {
	tok, err := tokenizer.Load(model)
	if err != nil {
		return nil, fmt.Errorf("tokenizer of %s: %w", model, err)
	}
	n := 0
	if err := eachRow(path, func(int, *dataset.Row) error { n++; return nil }); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > n {
		limit = n
	}
	var all examples
	encoder := tok.NewEncoder()
	err = eachRow(path, func(i int, row *dataset.Row) error {
		if len(all) == limit || i != len(all)*n/limit {
			return nil
		}
		one, err := render(encoder, row)
		all = append(all, one)
		return err
	})
	return all, err
}

func eachRow(path string, yield func(i int, row *dataset.Row) error) error {
	rows, err := dataset.OpenRows(path)
	if err != nil {
		return err
	}
	defer rows.Close()
	for i := 0; ; i++ {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := yield(i, row); err != nil {
			return fmt.Errorf("%s: %w", rows.Where(), err)
		}
	}
}

// render applies the chat template; the last assistant turn is what the model should write.
func render(encoder *tokenizer.Encoder, row *dataset.Row) (rendered, error) {
	chat := tokenizer.Chat{TrainOn: tokenizer.TrainLast}
	if len(row.Tools) > 0 {
		if err := json.Unmarshal(row.Tools, &chat.Tools); err != nil {
			return rendered{}, fmt.Errorf("tools: %w", err)
		}
	}
	for _, m := range row.Messages {
		chat.Messages = append(chat.Messages, tokenizer.Message{Role: m.Role, Content: m.Content, ToolCalls: m.ToolCalls})
	}
	out, err := encoder.Render(chat)
	if err != nil {
		return rendered{}, err
	}
	return rendered{row.ID, row.Answer, slices.Clone(out.IDs), slices.Clone(out.Mask)}, nil
}
