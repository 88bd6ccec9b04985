package engine

import (
	"context"
	"fmt"
	"slices"
)

// Samples of a training run: few and short, to be looked at.
const (
	sampleRows   = 8
	sampleTokens = 256
)

// sampleIfDue lets the model as it stands answer, before the first step and every samples_every steps; the last step's
// answers come with the result.
func (r *run) sampleIfDue(ctx context.Context) error {
	due := r.sampleEvery > 0 && r.Step%r.sampleEvery == 0 && r.Step < r.plan.steps() && !r.Stopped
	if r.SamplesOut == "" || !due || r.Sampled == r.Step {
		return nil
	}
	return r.averaged(func() error {
		lines, err := r.sample(ctx)
		if err != nil {
			return fmt.Errorf("samples after step %d: %w", r.Step, err)
		}
		r.Samples, r.Sampled = append(r.Samples, lines...), r.Step
		return nil
	})
}

// writeSamples adds the answers of the weights that are saved, and writes all of them.
func (r *run) writeSamples(ctx context.Context, step int) error {
	lines, err := r.sample(ctx)
	if err != nil {
		return err
	}
	if r.sampleEvery > 0 {
		for i := range lines {
			lines[i].Step = &step
		}
	}
	return writeSampleLines(r.SamplesOut, slices.Concat(r.Samples, lines))
}

// sample lets the model answer some validation rows, or training rows without a validation set, greedily. A model
// folder without tokenizer gives none.
func (r *run) sample(ctx context.Context) ([]SampleLine, error) {
	var data Examples = r.data
	set := r.plan.set
	if len(r.validation) > 0 {
		data, set = r.validation[0].data, r.validation[0].set
	}
	tok, err := loadTokenizer(r.Model)
	if err != nil || tok == nil {
		return nil, err
	}
	e := &evaluation{
		EvaluateOptions: EvaluateOptions{Data: data, Answer: Boxed}, set: set, model: r.model, tokenizer: tok,
	}
	var questions []question
	var prompts [][]int32
	for _, k := range set.spread(sampleRows) {
		q, ok := e.question(k)
		if !ok {
			continue
		}
		questions = append(questions, q)
		prompts = append(prompts, q.prompt)
	}
	o := GenerateOptions{MaxTokens: sampleTokens, Stop: StopTokens(r.model.Config, tok)}
	lines := make([]SampleLine, len(prompts))
	err = Generate(ctx, r.model, prompts, o, func(i int, c Continuation) error {
		lines[i] = e.judge(questions[i], c, &AnswerNumbers{})
		if r.sampleEvery > 0 {
			step := r.Step
			lines[i].Step = &step
		}
		return nil
	})
	return lines, err
}
