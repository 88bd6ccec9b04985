package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"lpipe/engine/model"
	"lpipe/engine/ops"
	"lpipe/engine/tokenizer"
)

// Examples are rows with the answers that a model should give. *dataset.Tokens fits.
type Examples interface {
	Rows
	ID(i int) string
	Answer(i int) string // "" where there is none
}

// EvaluateOptions say what to measure.
type EvaluateOptions struct {
	Model   string // Hugging Face folder
	Adapter string // PEFT folder, or ""
	Data    Examples
	Limit   int // rows, evenly spread; 0: all
	// Generate says how answers are written; nil: only the loss is measured. Its Stop is set by Evaluate.
	Generate *GenerateOptions
	Samples  int // answers to each row; 0: 1
	Answer   AnswerKind

	SamplesOut string // JSON lines, one an answer; "": not written
	Log        io.Writer
	Report     func(Progress)
	Now        func() time.Time
}

// EvaluateResult are the numbers of an evaluation; they follow from its inputs and settings alone.
type EvaluateResult struct {
	Rows       int      `json:"rows"`
	Targets    int      `json:"targets"`
	Loss       float64  `json:"loss"`
	Perplexity float64  `json:"perplexity"`
	Accuracy   *float64 `json:"accuracy,omitempty"` // share of answers that are right
	// AnyRight is the share of rows with a right answer among several.
	AnyRight *float64       `json:"any_right,omitempty"`
	Answers  *AnswerNumbers `json:"answers,omitempty"`
}

// AnswerNumbers count what was written.
type AnswerNumbers struct {
	Right   int `json:"right"`
	Wrong   int `json:"wrong"`
	Missing int `json:"missing"` // no answer was found in the text
	CutOff  int `json:"cut_off"` // of all, texts that did not end within max_tokens
	Tokens  int `json:"tokens"`
}

// SampleLine is one line of the samples file.
type SampleLine struct {
	ID        string `json:"id"`
	Prompt    string `json:"prompt"`
	Output    string `json:"output"`
	Answer    string `json:"answer"`
	Reference string `json:"reference"`
	Right     bool   `json:"right"`
	CutOff    bool   `json:"cut_off,omitempty"`
	Step      *int   `json:"step,omitempty"` // of a training run that samples while it trains
}

// Evaluate measures a model on rows: the loss of their targets, and how often the answer that the model writes behind
// a row's prompt is the row's own. The prompt is what stands before the first target.
func Evaluate(ctx context.Context, dev ops.Device, o EvaluateOptions) (*EvaluateResult, error) {
	e, err := openEvaluation(ctx, dev, o)
	if err != nil {
		return nil, err
	}
	defer e.model.Free()
	picked := e.set.spread(o.Limit)
	packs, targets := e.set.measured(picked, 4096)
	loss, err := meanLoss(ctx, e.model, e.set, packs, targets)
	if err != nil {
		return nil, err
	}
	if !finite(loss) {
		return nil, fmt.Errorf("the loss is %v: %s", loss, cmp.Or(broken(ctx, o.Model, o.Adapter), "the model's weights or the adapter's are no usable numbers"))
	}
	result := &EvaluateResult{Rows: len(picked), Targets: targets, Loss: loss, Perplexity: perplexity(loss)}
	if o.Generate == nil {
		return result, nil
	}
	return result, e.answers(ctx, picked, result)
}

// evaluation is one call of Evaluate.
type evaluation struct {
	EvaluateOptions
	set       *rowSet
	model     *model.Model
	tokenizer *tokenizer.Tokenizer
}

func openEvaluation(ctx context.Context, dev ops.Device, o EvaluateOptions) (*evaluation, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &evaluation{EvaluateOptions: o}
	config, err := model.ReadConfig(o.Model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if e.set, err = newRowSet(o.Data, config.V); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if o.Generate != nil {
		if err := e.openAnswers(); err != nil {
			return nil, err
		}
	}
	if e.model, err = OpenModel(ctx, dev, o.Model, o.Adapter); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *evaluation) openAnswers() (err error) {
	if err := e.Answer.Check(); err != nil {
		return err
	}
	if e.tokenizer, err = loadTokenizer(e.Model); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if e.tokenizer == nil {
		return fmt.Errorf("model: %s has no tokenizer, which reading answers needs: add tokenizer.json, or vocab.json and merges.txt", e.Model)
	}
	return nil
}

// OpenModel loads a model to be run, with an adapter or without, so that no weight is rounded: bfloat16 weights are held
// as such, others as float32. Where there are tensor cores, products with bfloat16 ones are theirs. An adapter whose training quantised its base gets the same quantised base.
func OpenModel(ctx context.Context, dev ops.Device, dir, adapter string) (*model.Model, error) {
	config, err := model.ReadConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if adapter != "" {
		if err := CheckBase(dir, adapter); err != nil {
			return nil, err
		}
	}
	options := model.Options{Adapter: adapter}
	if adapter != "" {
		from, err := readOrigin(adapter)
		if err != nil {
			return nil, err
		}
		if from != nil && from.Quantize != "" {
			options.Weights, options.NF4, options.Double = storage(from.Precision), true, from.Quantize == "nf4"
			return model.Load(ctx, dir, dev, options)
		}
	}
	if config.DType == "bfloat16" {
		options.Weights = ops.BF16Exact
		if dev.Info().TensorCores {
			options.Weights = ops.BF16
		}
	}
	return model.Load(ctx, dir, dev, options)
}

// StopTokens are the tokens that end a model's answer: those of its configuration, and the ends of a turn and
// of a text.
func StopTokens(config model.Config, tok *tokenizer.Tokenizer) []int32 {
	stop := slices.Clone(config.EOS)
	if tok == nil {
		return stop
	}
	if id := tok.EOS(); id >= 0 {
		stop = append(stop, id)
	}
	for _, name := range []string{"<|im_end|>", "<|endoftext|>"} {
		if id, ok := tok.Token(name); ok {
			stop = append(stop, id)
		}
	}
	slices.Sort(stop)
	return slices.Compact(stop)
}

// question is a row to be answered.
type question struct {
	row       int // in the data set
	prompt    []int32
	reference string
}

// question is usable row k as a question; false if nothing stands before its first target.
func (e *evaluation) question(k int32) (question, bool) {
	row := int(e.set.rows[k])
	first := slices.Index(e.Data.Mask(row, nil), true)
	if first <= 0 {
		return question{}, false
	}
	return question{row, e.Data.IDs(row, nil)[:first], e.Answer.Reference(e.Data.Answer(row))}, true
}

// questions are the picked rows that have a prompt and a reference answer.
func (e *evaluation) questions(picked []int32) ([]question, error) {
	var list []question
	for _, k := range picked {
		if q, ok := e.question(k); ok && q.reference != "" {
			list = append(list, q)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("data: no row has a reference answer, so accuracy cannot be measured: give rows answers " +
			"(convert sets them), or switch generate off to measure only the loss")
	}
	return list, nil
}

// answers lets the model answer and counts.
func (e *evaluation) answers(ctx context.Context, picked []int32, result *EvaluateResult) error {
	questions, err := e.questions(picked)
	if err != nil {
		return err
	}
	samples := max(1, e.Samples)
	prompts := make([][]int32, 0, samples*len(questions))
	for _, q := range questions {
		for range samples {
			prompts = append(prompts, q.prompt)
		}
	}
	o := *e.Generate
	o.Stop = StopTokens(e.model.Config, e.tokenizer)
	lines := make([]SampleLine, len(prompts))
	numbers := &AnswerNumbers{}
	began := e.Now()
	done := 0
	err = Generate(ctx, e.model, prompts, o, func(i int, c Continuation) error {
		lines[i] = e.judge(questions[i/samples], c, numbers)
		if done++; e.Report != nil {
			e.Report(Progress{Step: done, Steps: len(prompts), Message: fmt.Sprintf("%d right  %s tokens/s",
				numbers.Right, perSecond(int64(numbers.Tokens), e.Now().Sub(began)))})
		}
		return nil
	})
	if err != nil {
		return err
	}
	result.count(lines, samples, numbers)
	if e.SamplesOut == "" {
		return nil
	}
	return writeSampleLines(e.SamplesOut, lines)
}

// judge reads a continuation and compares its answer.
func (e *evaluation) judge(q question, c Continuation, n *AnswerNumbers) SampleLine {
	line := SampleLine{
		ID: e.Data.ID(q.row), Reference: q.reference, CutOff: !c.Stopped,
		Prompt: string(e.tokenizer.Decode(nil, q.prompt, false)),
		Output: string(e.tokenizer.Decode(nil, c.IDs, true)),
	}
	answer, found := e.Answer.Extract(line.Output)
	line.Answer = answer
	line.Right = found && e.Answer.Same(answer, q.reference)
	n.Tokens += len(c.IDs)
	switch {
	case line.Right:
		n.Right++
	case found:
		n.Wrong++
	default:
		n.Missing++
	}
	if line.CutOff {
		n.CutOff++
	}
	return line
}

// count fills the shares. lines holds `samples` lines a question, one behind the other.
func (r *EvaluateResult) count(lines []SampleLine, samples int, n *AnswerNumbers) {
	accuracy := float64(n.Right) / float64(len(lines))
	r.Accuracy, r.Answers = &accuracy, n
	if samples < 2 {
		return
	}
	any := 0
	for group := range slices.Chunk(lines, samples) {
		if slices.ContainsFunc(group, func(l SampleLine) bool { return l.Right }) {
			any++
		}
	}
	share := float64(any) / float64(len(lines)/samples)
	r.AnyRight = &share
}

func writeSampleLines(path string, lines []SampleLine) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	if err := writeBytes(path, b.Bytes()); err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	return nil
}
