package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lpipe/engine"
	"lpipe/engine/model"
	"lpipe/runner"
)

// trainKind describes `stage "train"`.
func trainKind() *runner.Kind {
	return &runner.Kind{
		Name:    "train",
		Doc:     "Fine-tunes a model on a token folder, or on pairs of preferences: a LoRA adapter in PEFT's format, or all weights.",
		Version: 2, // 2: products with bf16 weights round both numbers
		In: []runner.Port{
			{Name: "model", Doc: "Hugging Face folder of the base model"},
			{Name: "train", Doc: "token folder to train on (lora, dora, full)"},
			{Name: "pairs", Doc: "rows with prompt, chosen and rejected to train on (dpo): all three lists of messages, which the chat template renders, or texts, which stay as they are"},
			{Name: "validation", Doc: "token folder, or a map of them, to measure the loss on; files of pairs (dpo)", Optional: true, Map: true},
			{Name: "from", Doc: "adapter whose weights are the start; the optimiser is fresh", Optional: true},
			{Name: "checkpoint", Doc: "checkpoint of an earlier train stage, to go on exactly", Optional: true},
		},
		Out: []runner.Port{
			{Name: "adapter", Doc: "PEFT folder with tokenizer, template and card (lora, dora, dpo)", Folder: true},
			{Name: "model", Doc: "Hugging Face folder (full)", Folder: true},
			{Name: "metrics", Doc: "losses, steps and tokens", Ext: ".json", Metrics: true},
			{Name: "curve", Doc: "one line a step", Ext: ".jsonl", Optional: true, Plots: true},
			{Name: "samples", Doc: "what the trained model writes for some validation rows", Ext: ".jsonl", Optional: true},
			{Name: "checkpoint", Doc: "the state after the last step, to go on from", Optional: true, Folder: true},
		},
		Resources: func(runner.Stage) runner.Resources { return runner.Resources{CPU: -1} },
		Ports:     trainPorts,
		New:       func() runner.Stage { return newTrain() },
	}
}

// trainPorts leaves out the output that the method does not make, and the input that it cannot take.
func trainPorts(s runner.Stage, _ map[string]bool) (ins, outs []runner.Port) {
	k := trainKind()
	without := "model"
	if s.(*Train).Method == "full" {
		without = "adapter"
		k.In = slices.DeleteFunc(k.In, func(p runner.Port) bool { return p.Name == "from" })
	}
	other := "pairs"
	if s.(*Train).Method == "dpo" {
		other = "train"
	}
	k.In = slices.DeleteFunc(k.In, func(p runner.Port) bool { return p.Name == other })
	k.Out = slices.DeleteFunc(k.Out, func(p runner.Port) bool { return p.Name == without })
	if t := s.(*Train); t.Select != "last" || t.EarlyStop != nil { // what they measure: said with the file's other mistakes
		v := slices.IndexFunc(k.In, func(p runner.Port) bool { return p.Name == "validation" })
		k.In[v].Optional = false
		k.In[v].Doc += ": select and early_stop go by that loss"
	}
	return k.In, k.Out
}

// Train are the settings of a train stage.
type Train struct {
	Method       string             `hcl:"method,optional" doc:"lora: a low-rank adapter beside frozen weights; dora: the same, and the length of each output row is trained by itself (dropout must be 0); full: all weights; dpo: an adapter that prefers the chosen answers of pairs (direct preference optimisation; the reference is the base without the adapter)"`
	Beta         *float64           `hcl:"beta,optional" doc:"of dpo, 0.1 if left out: how dear it is to go away from the base model"`
	Overlong     string             `hcl:"overlong,optional" doc:"of dpo: a pair whose two texts together are longer than a pack: drop it, or truncate both texts to half a pack"`
	Rank         int                `hcl:"rank,optional" doc:"rank of the adapter"`
	Alpha        float64            `hcl:"alpha,optional" doc:"the adapter's output is multiplied by alpha/rank; a number of its own, not a multiple of rank"`
	Dropout      float64            `hcl:"dropout,optional" doc:"share of the adapter's inputs dropped in training"`
	Targets      Targets            `hcl:"targets,optional" type:"string or list of string" doc:"linear layers that get an adapter: all-linear, or a list of names and patterns"`
	Init         string             `hcl:"init,optional" doc:"how the adapter begins: kaiming or gaussian: A is drawn and B is 0; pissa: with the largest singular values of the weight, which loses them while it trains (some minutes of preparation for a model of 0.5B). What is saved then has twice the rank and fits the unchanged base"`
	RSLoRA       bool               `hcl:"rslora,optional" doc:"multiply by alpha/sqrt(rank) instead"`
	LoRAPlus     *float64           `hcl:"lora_plus,optional" doc:"learning rate of B, and of dora's lengths, over that of A; left out: the same"`
	RankPattern  map[string]float64 `hcl:"rank_pattern,optional" doc:"rank of the modules whose name ends in a pattern"`
	AlphaPattern map[string]float64 `hcl:"alpha_pattern,optional" doc:"alpha of the modules whose name ends in a pattern"`
	Quantize     string             `hcl:"quantize,optional" doc:"how the frozen linears are stored: none; nf4: 4 bits, in blocks of 64 whose scales have 8 bits, as bitsandbytes does with double quantisation (QLoRA); nf4-single: scales of 32 bits. A model that is quantised stays as it is"`

	SequenceLength int      `hcl:"sequence_length,optional" unit:"tokens" doc:"size of one pack of rows; no row may be longer"`
	BatchTokens    int      `hcl:"batch_tokens,optional" unit:"tokens" doc:"size of one optimiser step, over all its packs"`
	MicroBatch     int      `hcl:"micro_batch,optional" unit:"packs" doc:"packs computed at once"`
	Epochs         *float64 `hcl:"epochs,optional" doc:"how often each row is seen; 1 if steps is left out too"`
	Steps          *int     `hcl:"steps,optional" doc:"optimiser steps, instead of epochs"`

	LR          *float64  `hcl:"lr,optional" doc:"highest learning rate; lora, dora: 2e-4, dpo: 1e-5, full must state it"`
	Schedule    string    `hcl:"schedule,optional" doc:"after the warm-up: constant; linear or cosine to lr_min; wsd: constant, then cosine to lr_min over the last steps (decay); inverse_sqrt"`
	Decay       float64   `hcl:"decay,optional" unit:"share or steps" doc:"length of the fall that ends schedule wsd"`
	Warmup      float64   `hcl:"warmup,optional" unit:"share or steps" doc:"length of the rise from 0"`
	LRMin       float64   `hcl:"lr_min,optional" doc:"rate at the end of linear, cosine and wsd"`
	NEFTune     float64   `hcl:"neftune,optional" doc:"noise on the embeddings in training: uniform within neftune/sqrt(tokens of the row x hidden size); 0: none, 5 is usual"`
	Optimizer   Optimizer `hcl:"optimizer,optional" type:"string or object" doc:"\"adamw\" or \"lion\" (which wants a third to a tenth of the rate), or an object with name, beta1, beta2, eps"`
	WeightDecay float64   `hcl:"weight_decay,optional" doc:"decoupled decay"`
	Clip        float64   `hcl:"clip,optional" doc:"largest global norm of the gradient; 0: no clipping"`
	Precision   string    `hcl:"precision,optional" doc:"bf16: frozen weights hold bf16 values, and what is multiplied with them is rounded to bf16; what is trained, the optimiser and every sum are float32. fp32: everything float32"`

	EvalEvery    float64        `hcl:"eval_every,optional" unit:"share or steps" doc:"how often validation is measured, besides step 0 and the end; 0: never between"`
	EvalLimit    int            `hcl:"eval_limit,optional" unit:"rows" doc:"rows of each validation set used, evenly spread; 0: all"`
	SamplesEvery float64        `hcl:"samples_every,optional" unit:"share or steps" doc:"how often the samples output gets answers of the model as it stands; 0: only at the end"`
	Select       string         `hcl:"select,optional" doc:"weights that are saved: of the last step, or best: of the lowest validation loss (with several sets their mean, or what early_stop names), or of the loss that is named here: validation/<name>/loss"`
	EarlyStop    *TrainStopping `hcl:"early_stop,optional" doc:"stop when a validation loss no longer falls: metric, patience, min_delta"`

	CheckpointEvery Interval `hcl:"checkpoint_every,optional" type:"duration or whole number" key:"-" doc:"time between checkpoints (\"15m\"), or a number of steps"`                                                                                                         // when it is saved changes no result
	CheckpointKeep  int      `hcl:"checkpoint_keep,optional" key:"-" doc:"checkpoints that scratch keeps, the last ones; at least 2, so that a damaged one has one before it"`                                                                                                // the same
	CheckpointPush  bool     `hcl:"checkpoint_push,optional" key:"-" doc:"send each checkpoint to the default remote, beside training, and go on from there where another machine was stopped"`                                                                               // the same
	DeviceMemory    Size     `hcl:"device_memory,optional" type:"size" unit:"bytes" key:"-" doc:"how much memory training may take, like \"24GiB\"; 0: what the machine has. What does not fit is computed again instead of kept, and what that is is said before the start"` // changes no bit of a result
	EMA             float64  `hcl:"ema,optional" doc:"decay of a moving average of the trained weights, 0.999 for example, with a warm-up; validation, samples and what is saved are then the average's. 0: none"`
	Seed            int64    `hcl:"seed,optional" doc:"decides the order of rows, the adapter's start and dropout"`
}

// TrainStopping says when training ends early.
type TrainStopping struct {
	Metric   string  `hcl:"metric,optional" doc:"validation/loss, or validation/<name>/loss"`
	Patience int     `hcl:"patience,optional" doc:"evaluations without a better value"`
	MinDelta float64 `hcl:"min_delta,optional" doc:"how much lower counts as better"`
}

func newTrain() *Train {
	return &Train{
		Method: "lora", Rank: 16, Alpha: 32, Targets: Targets{"all-linear"}, Init: "kaiming", Quantize: "none",
		SequenceLength: 4096, BatchTokens: 65536, MicroBatch: 1,
		Schedule: "cosine", Warmup: 0.03, Decay: 0.2,
		Optimizer: Optimizer{Name: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, Clip: 1, Precision: "bf16",
		EvalEvery: 0.1, EvalLimit: 512, Select: "last",
		CheckpointEvery: Interval{Time: 15 * time.Minute}, CheckpointKeep: 2, Seed: 42,
	}
}

// Check refuses settings that make no sense, and those whose work is not in this version.
func (t *Train) Check() error {
	switch t.Method {
	case "lora", "dora", "full", "dpo":
	default:
		return fmt.Errorf("method: %q is none of lora, dora, full, dpo", t.Method)
	}
	if err := t.checkPreferences(); err != nil {
		return err
	}
	switch t.Quantize {
	case "none":
	case "nf4", "nf4-single":
		if t.Method == "full" {
			return fmt.Errorf("quantize: method full trains all weights, which 4-bit ones cannot be; leave quantize out, or train an adapter")
		}
	default:
		return fmt.Errorf("quantize: %q is not a way to store weights; use none, nf4 or nf4-single", t.Quantize)
	}
	switch t.Precision {
	case "bf16", "fp32":
	default:
		return fmt.Errorf("precision: %q is neither bf16 nor fp32", t.Precision)
	}
	if t.Method == "full" && t.LR == nil {
		return fmt.Errorf("lr: method full must state it; 1e-5 is a usual start for a trained model, 1e-3 for a small new one")
	}
	if err := t.checkAdapter(); err != nil {
		return err
	}
	return t.checkLength()
}

func (t *Train) checkPreferences() error {
	dpo := t.Method == "dpo"
	switch {
	case !dpo && t.Beta != nil:
		return fmt.Errorf("beta: is a setting of method dpo, not of %s", t.Method)
	case !dpo && t.Overlong != "":
		return fmt.Errorf("overlong: is a setting of method dpo, not of %s; tokenize has one for rows", t.Method)
	case !dpo:
		return nil
	case t.Overlong != "" && t.Overlong != "drop" && t.Overlong != "truncate":
		return fmt.Errorf("overlong: %q is neither drop nor truncate", t.Overlong)
	case !(t.beta() > 0):
		return fmt.Errorf("beta: must be above 0, not %v", t.beta())
	case t.Init == "pissa":
		return fmt.Errorf("init: pissa takes the adapter out of the weights, and method dpo needs the base model as it is beside the adapter; use kaiming")
	case t.NEFTune > 0:
		return fmt.Errorf("neftune: has no place in method dpo, whose reference has no noise; leave it out")
	}
	return nil
}

// beta is the setting, or TRL's default.
func (t *Train) beta() float64 {
	if t.Beta == nil {
		return 0.1
	}
	return *t.Beta
}

func (t *Train) checkAdapter() error {
	if t.Method == "full" {
		return nil
	}
	switch {
	case t.Method == "dora" && t.Dropout > 0:
		return fmt.Errorf("dropout: must be 0 with method dora, not %v", t.Dropout)
	case t.Rank < 1:
		return fmt.Errorf("rank: must be at least 1, not %d", t.Rank)
	case !(t.Alpha > 0):
		return fmt.Errorf("alpha: must be above 0, not %v", t.Alpha)
	case !(t.Dropout >= 0 && t.Dropout < 1):
		return fmt.Errorf("dropout: must be from 0 to below 1, not %v", t.Dropout)
	case t.Init != "kaiming" && t.Init != "gaussian" && t.Init != "pissa":
		return fmt.Errorf("init: %q is none of kaiming, gaussian, pissa", t.Init)
	case t.Init == "pissa" && t.Quantize != "none":
		return fmt.Errorf("init: pissa changes the weights, which 4-bit ones cannot be: use kaiming, or leave quantize out")
	case len(t.Targets) == 0:
		return fmt.Errorf(`targets: names no layer; use "all-linear" or a list like ["q_proj", "v_proj"]`)
	case t.LoRAPlus != nil && !(*t.LoRAPlus > 0):
		return fmt.Errorf("lora_plus: must be above 0, not %v", *t.LoRAPlus)
	}
	for pattern, alpha := range t.AlphaPattern {
		if !(alpha > 0) {
			return fmt.Errorf("alpha_pattern: the alpha of %q must be above 0, not %v", pattern, alpha)
		}
	}
	for pattern, rank := range t.RankPattern {
		if rank < 1 || rank != float64(int(rank)) {
			return fmt.Errorf("rank_pattern: the rank of %q must be a whole number from 1, not %v", pattern, rank)
		}
	}
	return nil
}

func (t *Train) checkLength() error {
	switch {
	case t.SequenceLength < 2:
		return fmt.Errorf("sequence_length: must be at least 2, not %d", t.SequenceLength)
	case t.BatchTokens < 2:
		return fmt.Errorf("batch_tokens: must be at least 2, not %d", t.BatchTokens)
	case t.MicroBatch != 1:
		return fmt.Errorf("micro_batch: must be 1: packs of a step are computed one after the other")
	case t.Epochs != nil && t.Steps != nil:
		return fmt.Errorf("steps: stands beside epochs; keep one of the two")
	case t.Epochs != nil && !(*t.Epochs > 0 && *t.Epochs < 1e6):
		return fmt.Errorf("epochs: must be above 0, not %v", *t.Epochs)
	case t.Steps != nil && *t.Steps < 1:
		return fmt.Errorf("steps: must be at least 1, not %d", *t.Steps)
	case !(t.Warmup >= 0):
		return fmt.Errorf("warmup: must not be negative")
	case !(t.Decay >= 0):
		return fmt.Errorf("decay: must not be negative")
	case !(t.NEFTune >= 0):
		return fmt.Errorf("neftune: must be 0 or above, not %v", t.NEFTune)
	case !(t.EvalEvery >= 0):
		return fmt.Errorf("eval_every: must not be negative")
	case !(t.SamplesEvery >= 0):
		return fmt.Errorf("samples_every: must not be negative")
	case t.EvalLimit < 0:
		return fmt.Errorf("eval_limit: must not be negative")
	case t.Select != "last" && t.Select != "best" && t.selectBy() == "":
		return fmt.Errorf("select: %q is neither last nor best, nor a loss like validation/<name>/loss", t.Select)
	case t.EarlyStop != nil && t.EarlyStop.Patience < 0:
		return fmt.Errorf("early_stop: patience must not be negative")
	case t.Clip < 0:
		return fmt.Errorf("clip: must not be negative; 0 switches it off")
	case t.WeightDecay < 0:
		return fmt.Errorf("weight_decay: must not be negative")
	case !(t.EMA >= 0 && t.EMA < 1):
		return fmt.Errorf("ema: must be from 0 to below 1, not %v", t.EMA)
	case t.DeviceMemory < 0:
		return fmt.Errorf("device_memory: must not be negative")
	case t.CheckpointKeep < 2:
		return fmt.Errorf("checkpoint_keep: must be at least 2, not %d: of one alone nothing is left when it is damaged", t.CheckpointKeep)
	}
	if err := t.Optimizer.check(); err != nil {
		return err
	}
	return t.schedule().Check()
}

// selectBy is the loss that select names, "" if it names none.
func (t *Train) selectBy() string {
	if strings.HasPrefix(t.Select, "validation/") && strings.HasSuffix(t.Select, "/loss") || t.Select == "validation/loss" {
		return t.Select
	}
	return ""
}

func (t *Train) schedule() engine.Schedule {
	s := engine.Schedule{Kind: t.Schedule, Rate: 2e-4, Min: t.LRMin}
	if t.Method == "dpo" {
		s.Rate = 1e-5
	}
	if t.LR != nil {
		s.Rate = *t.LR
	}
	return s
}

// Run trains.
func (t *Train) Run(ctx context.Context, env *runner.Env) error {
	dev, err := openDevice(env)
	if err != nil {
		return err
	}
	defer dev.Close()
	options := t.options(env)
	if t.CheckpointPush {
		if err := bringCheckpoint(ctx, env); err != nil {
			return err
		}
		if sender := startSending(ctx, env); sender != nil {
			defer sender.close()
			options.Saved = sender.saved
		}
	}
	result, err := engine.Train(ctx, dev, options)
	if err != nil {
		return err
	}
	if err := t.writeModelCard(env, result); err != nil {
		return err
	}
	return writeMetrics(env, result)
}

// options puts settings and paths together.
func (t *Train) options(env *runner.Env) engine.TrainOptions {
	o := engine.TrainOptions{
		Model: one(env, "model"), Train: one(env, "train"), From: one(env, "from"), Checkpoint: one(env, "checkpoint"),
		Method: "lora", Precision: t.Precision, Quantize: t.Quantize,
		SequenceLength: t.SequenceLength, BatchTokens: t.BatchTokens, Epochs: 1,
		Schedule: t.schedule(), Warmup: t.Warmup, Decay: t.Decay, NEFTune: t.NEFTune,
		Optimizer: engine.Optimizer{
			Kind: t.Optimizer.Name, Beta1: t.Optimizer.Beta1, Beta2: t.Optimizer.Beta2, Eps: t.Optimizer.Eps, Decay: t.WeightDecay, Clip: t.Clip,
		},
		EvalEvery: t.EvalEvery, SampleEvery: t.SamplesEvery, EvalLimit: t.EvalLimit, SelectBest: t.Select != "last", SelectBy: t.selectBy(), Seed: uint64(t.Seed),
		CheckpointTime: t.CheckpointEvery.Time, CheckpointSteps: t.CheckpointEvery.Steps, CheckpointKeep: t.CheckpointKeep, EMA: t.EMA, Scratch: env.Scratch,
		Out:      env.Out["adapter"] + env.Out["model"], // one of the two is declared
		CurveOut: env.Out["curve"], SamplesOut: env.Out["samples"], CheckpointOut: env.Out["checkpoint"],
		DeviceMemory: int64(t.DeviceMemory),
		Log:          env.Log, Report: reportSteps(env, "steps"),
	}
	for _, in := range env.In["validation"] {
		o.Validation = append(o.Validation, engine.DataSet{Name: in.Name, Path: in.Path})
	}
	if t.Method == "full" {
		o.Method = "full"
	} else { // dora is lora of another kind
		o.LoRA = model.LoRA{
			Rank: t.Rank, Alpha: t.Alpha, Dropout: t.Dropout, Targets: t.Targets, RSLoRA: t.RSLoRA, DoRA: t.Method == "dora", Init: t.Init,
			RankPattern: model.NewPatterns(t.RankPattern), AlphaPattern: model.NewPatterns(t.AlphaPattern),
		}
	}
	if t.Method == "dpo" {
		o.Pairs, o.Beta, o.Truncate = one(env, "pairs"), t.beta(), t.Overlong == "truncate"
	}
	if t.LoRAPlus != nil {
		o.LoRAPlus = *t.LoRAPlus
	}
	if t.Epochs != nil {
		o.Epochs = *t.Epochs
	}
	if t.Steps != nil {
		o.Steps = *t.Steps
	}
	if e := t.EarlyStop; e != nil {
		o.EarlyStop = &engine.EarlyStop{Metric: e.Metric, Patience: e.Patience, MinDelta: e.MinDelta}
	}
	return o
}
