package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lpipe/dataset"
	"lpipe/engine/model"
	"lpipe/engine/ops"
	"lpipe/engine/tokenizer"
)

// prepare opens everything and refuses what cannot work, the cheap checks first: nothing long is done before an
// error that could have been known.
func prepare(ctx context.Context, dev ops.Device, o TrainOptions) (_ *run, err error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Quantize = noneIfEmpty(o.Quantize)
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Validation = slices.Clone(o.Validation) // to be sorted
	r := &run{TrainOptions: o, dev: dev, state: state{Evaluated: -1, Sampled: -1}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	config, err := model.ReadConfig(o.Model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := r.openData(config); err != nil {
		return nil, err
	}
	if r.memory, err = r.needs(config, dev, r.plan.capacity, r.plan.set.longest); err != nil {
		return nil, err
	}
	r.memory.documents(config, r.Method, r.plan.set.document())
	if err := r.openModel(ctx, config); err != nil {
		return nil, err
	}
	r.optimizer = newOptimizer(r.model, o.Optimizer, o.LoRAPlus)
	if o.EMA > 0 {
		r.average = newAverage(r.optimizer, o.EMA)
	}
	if r.settings, err = r.identity(); err != nil {
		return nil, err
	}
	r.setSchedule()
	r.clock.saved = o.Now()
	return r, dev.Err()
}

func (o *TrainOptions) check() error {
	switch {
	case o.Pairs != "" && (o.Train != "" || o.Method != "lora"):
		return errors.New("pairs: preferences train an adapter, and stand instead of train")
	case o.Pairs != "" && (!(o.Beta > 0) || math.IsInf(o.Beta, 1)):
		return fmt.Errorf("beta: must be above 0, not %v", o.Beta)
	case o.Pairs != "" && o.LoRA.Init == "pissa":
		return errors.New("init: pissa takes the adapter out of the weights, so that without it they are not the base model, which preferences are measured against; use kaiming")
	case o.Pairs != "" && o.NEFTune > 0:
		return errors.New("neftune: the reference of preferences has no noise; leave it out")
	case o.Method != "lora" && o.Method != "full":
		return fmt.Errorf("method: %q is neither lora nor full", o.Method)
	case o.Precision != "bf16" && o.Precision != "fp32":
		return fmt.Errorf("precision: %q is neither bf16 nor fp32", o.Precision)
	case o.Quantize != "none" && o.Quantize != "nf4" && o.Quantize != "nf4-single":
		return fmt.Errorf("quantize: %q is none of none, nf4, nf4-single", o.Quantize)
	case o.Quantize != "none" && o.Method == "full":
		return fmt.Errorf("quantize: method full trains all weights, which 4-bit ones cannot be; leave quantize out, or train an adapter")
	case o.LoRA.DoRA && o.LoRA.Dropout > 0:
		return fmt.Errorf("dropout: must be 0 with DoRA, not %g", o.LoRA.Dropout)
	case o.Steps <= 0 && !(o.Epochs > 0):
		return errors.New("epochs: must be above 0 unless steps is given")
	case o.Method == "full" && o.From != "":
		return errors.New("from: method full trains no adapter; merge it into the model first")
	case o.SelectBest && len(o.Validation) == 0:
		return errors.New("select: best needs a validation set; give one, or select last")
	case o.EarlyStop != nil && len(o.Validation) == 0:
		return errors.New("early_stop: needs a validation set")
	}
	if o.EarlyStop != nil {
		if err := o.checkLoss("early_stop", o.EarlyStop.Metric); err != nil {
			return err
		}
	}
	if err := o.checkLoss("select", o.SelectBy); err != nil {
		return err
	}
	if !(o.NEFTune >= 0) || math.IsInf(o.NEFTune, 1) {
		return fmt.Errorf("neftune: must be 0 or above, not %v", o.NEFTune)
	}
	if !(o.EMA >= 0 && o.EMA < 1) {
		return fmt.Errorf("ema: must be from 0 to below 1, not %v", o.EMA)
	}
	return errors.Join(o.Optimizer.check(), o.Schedule.Check())
}

// openData opens token folders and plans the steps.
func (r *run) openData(config model.Config) (err error) {
	if r.data, r.plan, err = r.openTrain(config, r.logf); err != nil {
		return err
	}
	set := r.plan.set
	if limit := config.MaxPositions; limit > 0 && set.longest > limit {
		r.logf("rows of up to %d tokens are longer than any the model was made for (%d)", set.longest, limit)
	}
	if err := r.compareTemplates(); err != nil {
		return err
	}
	slices.SortFunc(r.Validation, func(a, b DataSet) int { return cmp.Compare(a.Name, b.Name) })
	for _, d := range r.Validation {
		data, err := r.openRows(d.Path, config, r.logf)
		if err != nil {
			return fmt.Errorf("validation: %w", err)
		}
		v, err := newValidation(d, data, config, r.plan.capacity, r.EvalLimit)
		if err != nil {
			return fmt.Errorf("validation: %w", err)
		}
		r.validation = append(r.validation, v)
	}
	return nil
}

// checkLoss refuses the name of a loss that no validation set has.
func (o *TrainOptions) checkLoss(setting, metric string) error {
	if metric == "" || slices.ContainsFunc(o.Validation, func(d DataSet) bool { return d.lossName() == metric }) {
		return nil
	}
	var known []string
	for _, d := range o.Validation {
		known = append(known, fmt.Sprintf("%q", d.lossName()))
	}
	return fmt.Errorf("%s: there is no metric %q; with these inputs it may be %s", setting, metric, cmp.Or(strings.Join(known, ", "), "none"))
}

// openTrain opens what is trained on and plans the steps.
func (o *TrainOptions) openTrain(config model.Config, logf func(string, ...any)) (rows, *plan, error) {
	port, path := "train", o.Train
	if o.Pairs != "" {
		port, path = "pairs", o.Pairs
	}
	data, err := o.openRows(path, config, logf)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", port, err)
	}
	set, err := newRowSet(data, config.V)
	if err != nil {
		data.Close()
		return nil, nil, fmt.Errorf("%s: %s: %w", port, path, err)
	}
	p, err := newPlan(set, planOptions{
		Seed: o.Seed, SequenceLength: o.SequenceLength, BatchTokens: o.BatchTokens, Epochs: o.Epochs, Steps: o.Steps,
	})
	if err != nil {
		data.Close()
		return nil, nil, err
	}
	return data, p, nil
}

// openRows opens a token folder, or a file of pairs where those are trained on.
func (o *TrainOptions) openRows(path string, config model.Config, logf func(string, ...any)) (rows, error) {
	if o.Pairs != "" {
		p, err := readPairs(path, o.Model, min(o.SequenceLength, o.BatchTokens), o.Truncate, logf)
		if err != nil {
			return nil, err // not a nil *pairs in an interface
		}
		return p, nil
	}
	t, err := openTokens(path, o.Model, config)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// compareTemplates warns when the data was rendered by another chat template than the one that will lie beside the
// trained weights: whoever serves them by that one gives them prompts of a form they have not seen.
func (r *run) compareTemplates() error {
	tok, err := loadTokenizer(r.Model)
	if err != nil || tok == nil {
		return err
	}
	if made := r.data.Manifest().Template; made != "" && made != tok.TemplateFingerprint() {
		r.logf("the rows were rendered with another chat template than the model's; what is saved carries the model's")
	}
	return nil
}

// openModel loads the model, with new adapters or those to start from.
func (r *run) openModel(ctx context.Context, config model.Config) (err error) {
	options, err := r.modelOptions()
	if err != nil {
		return err
	}
	options.Adapter = r.From
	if r.From != "" {
		if err := r.checkFrom(config); err != nil {
			return fmt.Errorf("from: %w", err)
		}
	}
	if r.Method == "lora" && r.LoRA.Init == "pissa" && r.From == "" {
		took, err := model.PiSSATime(config, r.LoRA, r.dev.Info().Threads, r.Now)
		if err != nil {
			return err
		}
		r.logf("pissa: taking the largest singular values out of the adapted weights, about %s", clockText(took))
	}
	if r.model, err = model.Load(ctx, r.Model, r.dev, options); err != nil {
		return err
	}
	r.model.NEFTune = r.NEFTune
	r.model.SetRecompute(r.memory.Recompute)
	if err := r.model.Room(r.queuedLosses()); err != nil {
		return err
	}
	if _, err := r.model.Prepare(r.plan.capacity); err != nil {
		return err
	}
	if r.From != "" {
		r.model.LoRA.Dropout = r.LoRA.Dropout
	}
	return nil
}

// modelOptions say how the model is loaded, but for the adapter to start from.
func (o *TrainOptions) modelOptions() (model.Options, error) {
	options := model.Options{
		Method: model.Method(o.Method), LoRA: o.LoRA, Seed: o.Seed, Weights: storage(o.Precision),
		NF4: o.Quantize != "none", Double: o.Quantize == "nf4",
	}
	return options.Compact(o.Model)
}

func noneIfEmpty(quantize string) string { return cmp.Or(quantize, "none") }

// storage is how frozen weights are held. Trained ones, and every sum, are float32 with either.
func storage(precision string) ops.Type {
	if precision == "bf16" {
		return ops.BF16
	}
	return ops.F32
}

// checkFrom refuses an adapter to start from that was made for another model, or is not what the settings describe: the saved
// one would be neither.
func (r *run) checkFrom(config model.Config) error {
	if err := CheckBase(r.Model, r.From); err != nil {
		return err
	}
	a, err := model.OpenAdapter(r.From, config)
	if err != nil {
		return err
	}
	defer a.Close()
	want, have := r.LoRA, a.LoRA
	if want.Rank != have.Rank || want.Alpha != have.Alpha || want.RSLoRA != have.RSLoRA || want.DoRA != have.DoRA {
		return fmt.Errorf("the adapter has rank %d, alpha %g, rslora %t, dora %t, the settings say %d, %g, %t, %t: set them to the adapter's",
			have.Rank, have.Alpha, have.RSLoRA, have.DoRA, want.Rank, want.Alpha, want.RSLoRA, want.DoRA)
	}
	wanted, err := want.Modules(config)
	if err != nil {
		return err
	}
	had, err := have.Modules(config)
	if err != nil {
		return err
	}
	if !slices.Equal(wanted, had) {
		return fmt.Errorf("the adapter is on %s, the settings' targets are %s: set targets to the adapter's",
			strings.Join(have.Targets, ", "), strings.Join(want.Targets, ", "))
	}
	return nil
}

// OpenTokens opens a token folder and makes sure that this model's tokenizer made it.
func OpenTokens(path, modelDir string) (*dataset.Tokens, error) {
	config, err := model.ReadConfig(modelDir)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return openTokens(path, modelDir, config)
}

func openTokens(path, modelDir string, config model.Config) (*dataset.Tokens, error) {
	tokens, err := dataset.OpenTokens(path)
	if err != nil {
		return nil, err
	}
	m := tokens.Manifest()
	if m.VocabSize > config.V {
		tokens.Close()
		return nil, fmt.Errorf("%s was made by a tokenizer of %d tokens, the model's vocabulary has %d: tokenize with the "+
			"tokenizer of %s", path, m.VocabSize, config.V, modelDir)
	}
	tok, err := loadTokenizer(modelDir)
	if err != nil {
		tokens.Close()
		return nil, err
	}
	if tok != nil && m.Tokenizer != "" && m.Tokenizer != tok.Fingerprint() {
		tokens.Close()
		return nil, fmt.Errorf("%s was made by another tokenizer than the model's: give the tokenize stage %s as its tokenizer", path, modelDir)
	}
	return tokens, nil
}

// loadTokenizer loads a model folder's tokenizer; nil if the folder has none.
func loadTokenizer(dir string) (*tokenizer.Tokenizer, error) {
	for _, name := range []string{"tokenizer.json", "vocab.json"} {
		_, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			return tokenizer.Load(dir)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

// identity is what runs must share so that one may go on from the other's checkpoint. How long they are and what
// they measure is not in it.
func (r *run) identity() (map[string]string, error) {
	base, err := modelFingerprint(r.Model)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(r.data.Manifest())
	if err != nil {
		return nil, err
	}
	train := fingerprint(data)
	data = nil
	for _, v := range r.validation {
		set, err := json.Marshal(v.data.Manifest())
		if err != nil {
			return nil, err
		}
		data = append(append(data, v.Name...), set...)
	}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	id := map[string]string{
		"model": base, "train": train, "validation": fingerprint(data), "eval_limit": strconv.Itoa(r.EvalLimit), "samples_every": number(r.SampleEvery),
		"method": r.Method, "precision": r.Precision, "quantize": r.Quantize,
		"sequence_length": strconv.Itoa(r.SequenceLength), "batch_tokens": strconv.Itoa(r.BatchTokens),
		"schedule": r.Schedule.Kind, "lr": number(r.Schedule.Rate), "lr_min": number(r.Schedule.Min), "warmup": number(r.Warmup),
		"beta1": number(r.Optimizer.Beta1), "beta2": number(r.Optimizer.Beta2), "eps": number(r.Optimizer.Eps),
		"weight_decay": number(r.Optimizer.Decay), "clip": number(r.Optimizer.Clip), "lora_plus": number(r.LoRAPlus),
		"optimizer": cmp.Or(r.Optimizer.Kind, "adamw"), "decay": number(r.Decay), "neftune": number(r.NEFTune),
		"seed": strconv.FormatUint(r.Seed, 10),
	}
	if _, kernel, own := strings.Cut(r.dev.Info().Name, "cpu:"); own {
		id["kernel"] = kernel // its sums have an order of their own
	}
	if r.Pairs != "" {
		id["method"], id["beta"] = "dpo", number(r.Beta)
	}
	if r.SelectBy != "" {
		id["select"] = r.SelectBy
	}
	if r.From != "" { // who leaves it out when going on loses nothing: the checkpoint has all weights
		if id["from"], err = adapterFingerprint(r.From); err != nil {
			return nil, err
		}
	}
	if r.EMA > 0 {
		id["ema"] = number(r.EMA)
	}
	if r.Method == "lora" {
		adapter, err := json.Marshal(r.LoRA)
		if err != nil {
			return nil, err
		}
		id["adapter"] = string(adapter)
	}
	return id, nil
}

// setSchedule fixes what depends on the number of steps.
func (r *run) setSchedule() {
	steps := r.plan.steps()
	r.Schedule.Steps = steps
	r.Schedule.Warmup = Amount(r.Warmup, steps)
	r.Schedule.Decay = Amount(r.Decay, steps)
	r.evalEvery = Amount(r.EvalEvery, steps)
	r.sampleEvery = Amount(r.SampleEvery, steps)
}

func (r *run) close() {
	r.settle() // whoever failed has said why; the goroutine must end before its memory goes
	if r.average != nil {
		r.average.free()
	}
	if r.optimizer != nil {
		r.optimizer.free()
	}
	if r.model != nil {
		r.model.Free()
	}
	if r.data != nil {
		r.data.Close()
	}
	for _, v := range r.validation {
		v.data.Close()
	}
}
