package engine

import "context"

// Samples of a training run: few and short, to be looked at.
const (
	sampleRows   = 8
	sampleTokens = 256
)

// writeSamples lets the trained model answer some validation rows, or training rows without a validation set,
// greedily. A model folder without tokenizer gives none.
func (r *run) writeSamples(ctx context.Context) error {
	var data Examples = r.data
	set := r.plan.set
	if len(r.validation) > 0 {
		data, set = r.validation[0].data, r.validation[0].set
	}
	tok, err := loadTokenizer(r.Model)
	if err != nil {
		return err
	}
	if tok == nil {
		return writeSampleLines(r.SamplesOut, nil)
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
		return nil
	})
	if err != nil {
		return err
	}
	return writeSampleLines(r.SamplesOut, lines)
}
