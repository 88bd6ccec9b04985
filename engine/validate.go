package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"lpipe/engine/model"
)

// validationSet is a data set whose loss is measured during training.
type validationSet struct {
	DataSet
	data      rows
	set       *rowSet
	packs     [][]int32
	targets   int
	reference [][]logps // of pairs: by pack, once they were measured
}

// lossName is the name of the set's loss in curve, metrics and early_stop.
func (d DataSet) lossName() string {
	if d.Name == "" {
		return "validation/loss"
	}
	return "validation/" + d.Name + "/loss"
}

// prefix is what the set's numbers begin with in curve and metrics.
func (d DataSet) prefix() string { return strings.TrimSuffix(d.lossName(), "loss") }

func newValidation(d DataSet, data rows, config model.Config, capacity, limit int) (*validationSet, error) {
	set, err := newRowSet(data, config.V)
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("%s: %w", d.Path, err)
	}
	v := &validationSet{DataSet: d, data: data, set: set}
	v.packs, v.targets = set.measured(set.spread(limit), capacity)
	return v, nil
}

// measured packs rows for a pass without training; a row longer than capacity gets a pack of its own size.
func (s *rowSet) measured(rows []int32, capacity int) (packs [][]int32, targets int) {
	for _, k := range rows {
		targets += int(s.targets[k])
		capacity = max(capacity, int(s.length[k]))
	}
	return s.pack(rows, capacity), targets
}

// meanLoss is the mean over all targets of packs of -log p(target).
func meanLoss(ctx context.Context, m *model.Model, s *rowSet, packs [][]int32, targets int) (float64, error) {
	var b batch
	total := 0.0
	for _, pack := range packs {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		share, err := m.Loss(b.fill(s, pack), targets)
		if err != nil {
			return 0, err
		}
		total += share
	}
	return total, nil
}

// evaluateIfDue measures all validation sets before the first step, every eval_every steps and after the last.
func (r *run) evaluateIfDue(ctx context.Context) error {
	due := r.Step == 0 || r.Step == r.plan.steps() || r.evalEvery > 0 && r.Step%r.evalEvery == 0
	if !due || r.Evaluated == r.Step || len(r.validation) == 0 {
		return nil
	}
	return r.averaged(func() error { return r.evaluate(ctx) })
}

// evaluate measures the weights in place.
func (r *run) evaluate(ctx context.Context) error {
	losses := map[string]float64{}
	text := ""
	for _, v := range r.validation {
		loss, more, err := r.measure(ctx, v)
		if err != nil {
			return fmt.Errorf("%s after step %d: %w", v.lossName(), r.Step, err)
		}
		if !finite(loss) {
			return r.diverged(ctx, fmt.Sprintf("%s after step %d is %v", v.lossName(), r.Step, loss), "training diverged; lower lr, or lengthen warmup")
		}
		losses[v.lossName()] = loss
		maps.Copy(losses, more)
		text += fmt.Sprintf("%s %.4f  ", v.lossName(), loss)
	}
	r.addLosses(losses)
	r.judge(losses)
	r.Evaluated = r.Step
	r.report(point{Step: r.Step, Validation: losses}, strings.TrimSpace(text))
	return nil
}

// measure is the loss of a validation set, and with pairs what rewards they get.
func (r *run) measure(ctx context.Context, v *validationSet) (loss float64, more map[string]float64, err error) {
	if r.Pairs == "" {
		loss, err = meanLoss(ctx, r.model, v.set, v.packs, v.targets)
		return loss, nil, err
	}
	sums, err := r.preferences(ctx, v)
	if err != nil {
		return 0, nil, err
	}
	return sums.loss / float64(sums.pairs), sums.metrics(v.prefix()), nil
}

// addLosses puts validation losses into the step's line of the curve; step 0 has no other numbers.
func (r *run) addLosses(losses map[string]float64) {
	if r.Step == 0 {
		r.Curve = append(r.Curve, point{Memory: r.megabytes()})
	}
	r.Curve[len(r.Curve)-1].Validation = losses
}

// judge keeps the best weights and decides whether to stop early.
func (r *run) judge(losses map[string]float64) {
	loss := r.judged(losses, r.selectBy())
	if r.Best == nil || loss < r.Best.Loss {
		r.Best = &bestPoint{r.Step, loss}
		if r.SelectBest {
			r.best = r.optimizer.weights()
		}
	}
	if r.EarlyStop == nil {
		return
	}
	loss = r.judged(losses, cmp.Or(r.EarlyStop.Metric, r.SelectBy))
	if r.Mark == nil || loss < *r.Mark-r.EarlyStop.MinDelta {
		r.Mark, r.Stale = &loss, 0
		return
	}
	if r.Stale++; r.Stale >= max(1, r.EarlyStop.Patience) {
		r.Stopped = true
		r.logf("stopped early after step %d: no better loss in %d evaluations", r.Step, r.Stale)
	}
}

// selectBy names the loss that decides which weights are the best, "" for the mean of all sets.
func (r *run) selectBy() string {
	if r.EarlyStop != nil {
		return cmp.Or(r.SelectBy, r.EarlyStop.Metric)
	}
	return r.SelectBy
}

// judged is the named loss, or the mean of all sets.
func (r *run) judged(losses map[string]float64, metric string) float64 {
	if metric != "" {
		return losses[metric]
	}
	sum := 0.0
	for _, v := range r.validation { // in the order of names: the sum does not depend on a map's
		sum += losses[v.lossName()]
	}
	return sum / float64(len(r.validation))
}

// lastLosses returns the newest validation losses and their step.
func (r *run) lastLosses() (map[string]float64, int) {
	for _, p := range slices.Backward(r.Curve) {
		if len(p.Validation) > 0 {
			return p.Validation, p.Step
		}
	}
	return nil, 0
}

// perplexity is exp(loss), at most the largest number that JSON readers take.
func perplexity(loss float64) float64 { return math.Min(math.Exp(loss), math.MaxFloat64) }
