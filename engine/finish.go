package engine

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"lpipe/dataset"
	"lpipe/engine/model"
)

// TrainResult are the numbers of a finished run. They follow from settings, data and device alone: no time, no
// speed.
type TrainResult struct {
	Steps   int     `json:"steps"`
	Epochs  float64 `json:"epochs"`
	Tokens  int64   `json:"tokens"`  // seen, over all epochs
	Trained int64   `json:"targets"` // of them trained on
	Rows    int     `json:"rows"`
	Unused  int     `json:"rows_without_targets"`
	// Train holds the mean loss of the last tenth of the steps, and the last step's.
	Train TrainNumbers `json:"train"`
	// Data describes what was trained on.
	Data dataset.Manifest `json:"-"`
	// Validation holds "loss" and "perplexity" (of pairs "rewards" and "logps"), or one such object a named set, of the last evaluation.
	Validation map[string]any `json:"validation,omitempty"`
	// Last and Best name the loss that decides, and its step. Selected is the step whose weights were saved.
	Last     *bestPoint `json:"last,omitempty"`
	Best     *bestPoint `json:"best,omitempty"`
	Selected int        `json:"selected_step"`
	Stopped  bool       `json:"stopped_early"`
	// Skipped counts the steps whose loss or gradient was no finite number.
	Skipped int `json:"skipped_steps"`
}

// TrainNumbers are the training losses of a finished run.
type TrainNumbers struct {
	Loss float64 `json:"loss"`
	Last float64 `json:"last_loss"`
	// Rewards and Logps, of preference pairs only, are means of the same steps, by the names that TRL gives them.
	Rewards map[string]float64 `json:"rewards,omitempty"`
	Logps   map[string]float64 `json:"logps,omitempty"`
}

// finish chooses the weights and writes what the options name.
func (r *run) finish(ctx context.Context) (*TrainResult, error) {
	r.settleAside()
	result := r.result()
	if r.CheckpointOut != "" {
		// Before the best weights are put in place: a run that goes on does so from the last.
		if err := r.saveNow(r.CheckpointOut); err != nil {
			return nil, err
		}
	}
	if r.SelectBest && r.Best != nil {
		r.optimizer.writeWeights(r.best)
		result.Selected = r.Best.Step
	} else if r.average != nil {
		r.average.swap()
	}
	r.warnDead()
	if r.Out != "" {
		if err := r.saveWeights(ctx); err != nil {
			return nil, err
		}
	}
	if r.CurveOut != "" {
		lines, err := curveLines(r.Curve)
		if err != nil {
			return nil, err
		}
		if err := writeBytes(r.CurveOut, lines); err != nil {
			return nil, fmt.Errorf("write curve: %w", err)
		}
	}
	if r.SamplesOut != "" {
		if err := r.writeSamples(ctx, result.Selected); err != nil {
			return nil, fmt.Errorf("samples: %w", err)
		}
	}
	return result, r.dev.Err()
}

func (r *run) result() *TrainResult {
	res := &TrainResult{
		Steps: r.Step, Epochs: r.plan.set.epochs(r.Place), Tokens: r.Tokens, Trained: r.Trained,
		Data: r.data.Manifest(), Rows: len(r.plan.set.rows), Unused: r.plan.set.unused,
		Best: r.Best, Selected: r.Step, Stopped: r.Stopped, Skipped: r.Skipped,
	}
	res.Train = trainNumbers(r.Curve)
	if last, step := r.lastLosses(); last != nil {
		res.Last = &bestPoint{step, r.judged(last, r.selectBy())}
		res.Validation = map[string]any{}
		for _, v := range r.validation {
			numbers := v.numbers(last)
			if v.Name == "" {
				res.Validation = numbers
			} else {
				res.Validation[v.Name] = numbers
			}
		}
	}
	return res
}

// trainNumbers are the means of the last tenth of the steps.
func trainNumbers(curve []point) (n TrainNumbers) {
	var steps []point
	for _, p := range curve {
		if p.Loss != nil {
			steps = append(steps, p)
		}
	}
	if len(steps) == 0 {
		return n
	}
	tail := steps[len(steps)-max(1, len(steps)/10):]
	for _, p := range tail {
		n.Loss += *p.Loss / float64(len(tail))
		for name, v := range p.Preference {
			group, short, _ := strings.Cut(strings.TrimPrefix(name, "train/"), "/")
			into := &n.Rewards
			if group == "logps" {
				into = &n.Logps
			}
			put(into, short, (*into)[short]+v/float64(len(tail)))
		}
	}
	n.Last = *steps[len(steps)-1].Loss
	return n
}

// numbers are the set's among those of an evaluation.
func (v *validationSet) numbers(all map[string]float64) map[string]any {
	loss := all[v.lossName()]
	if v.set.halves == nil {
		return map[string]any{"loss": loss, "perplexity": perplexity(loss)}
	}
	rewards, logps := map[string]float64{}, map[string]float64{}
	for name, value := range all {
		if short, ok := strings.CutPrefix(name, v.prefix()+"rewards/"); ok {
			rewards[short] = value
		} else if short, ok := strings.CutPrefix(name, v.prefix()+"logps/"); ok {
			logps[short] = value
		}
	}
	return map[string]any{"loss": loss, "rewards": rewards, "logps": logps}
}

// saveWeights writes the adapter or the model, with the tokenizer and template that belong to it.
func (r *run) saveWeights(ctx context.Context) error {
	if r.Method == "full" {
		return r.model.Save(ctx, r.Out, model.SaveOptions{})
	}
	// The folder's name, not its path: equal runs in two workspaces give equal adapters.
	if err := r.model.SaveAdapter(r.Out, filepath.Base(r.Model)); err != nil {
		return err
	}
	from := origin{Base: r.settings["model"], Train: r.settings["train"]}
	if r.Quantize != "none" && r.model.Config.Quantised == nil {
		from.Quantize, from.Precision = r.Quantize, r.Precision
	}
	if err := writeOrigin(r.Out, from); err != nil {
		return err
	}
	return model.CopyCompanions(r.Model, r.Out)
}

func writeBytes(path string, b []byte) error {
	return writeFile(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}
