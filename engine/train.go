package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"lpipe/dataset"
	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// TrainOptions say what to train, on what and how. Paths are folders.
type TrainOptions struct {
	Model      string    // Hugging Face folder
	Train      string    // token folder
	Pairs      string    // file of preference pairs, instead of Train: see Beta
	Validation []DataSet // of the same kind; one without a name, or several with
	From       string    // adapter whose weights are the start, or ""
	Checkpoint string    // folder of a checkpoint to go on from, or ""

	Method    string     // "lora" or "full"; Pairs train an adapter
	LoRA      model.LoRA // of method lora
	Beta      float64    // above 0: preferences are trained on (DPO); how dear it is to go away from the base model
	Truncate  bool       // of Pairs: cut those longer than a pack, instead of leaving them out
	LoRAPlus  float64    // learning rate of B over that of A; 0: the same
	Precision string     // "bf16": frozen weights hold bf16 values, products with them round; "fp32"
	Quantize  string     // the base's linears in 4-bit NormalFloat: "nf4", doubly quantised, or "nf4-single"; "none" or "": as they are

	SequenceLength int     // tokens of one pack
	BatchTokens    int     // tokens of one optimiser step
	Epochs         float64 // how often each row is seen, unless
	Steps          int     // is above 0: optimiser steps

	Schedule  Schedule // its Warmup, Decay and Steps are set by Train
	Warmup    float64  // share of all steps, or a number of them
	Decay     float64  // the same, of the schedule "wsd"
	NEFTune   float64  // alpha of the noise on embeddings; 0: none
	Optimizer Optimizer

	EvalEvery   float64 // share of all steps, or a number of them; 0: only before the first step and at the end
	EvalLimit   int     // rows of each validation set; 0: all
	SampleEvery float64 // the same, for samples; 0: only at the end
	SelectBest  bool    // save the weights with the lowest validation loss, not the last
	SelectBy    string  // which loss that is; "": the one that EarlyStop names, or the only one, or the mean of all
	EarlyStop   *EarlyStop
	// DeviceMemory is how much a run may take, in bytes: what does not fit is computed again instead of kept, which changes no
	// bit. 0: what the machine has.
	DeviceMemory int64
	EMA          float64 // decay of an average of the trained weights, which is evaluated and saved instead of them; 0: none
	Seed         uint64

	CheckpointTime  time.Duration     // between checkpoints; 0: never by time
	CheckpointSteps int               // between checkpoints; 0: never by steps
	CheckpointKeep  int               // how many the folder keeps, the last ones; at least 2
	Scratch         string            // folder for checkpoints, "": none
	Saved           func(path string) // told of each checkpoint in Scratch when it is on disk, in a goroutine that it must not hold; nil: nobody is

	// What is written. The adapter's or model's folder must not exist; empty names are not written.
	Out           string
	CurveOut      string // grows while training runs
	SamplesOut    string
	CheckpointOut string

	Log    io.Writer      // messages, one a line; nil: none
	Report func(Progress) // nil: none
	Now    func() time.Time
}

// DataSet is a named token folder, or file of pairs.
type DataSet struct{ Name, Path string }

// EarlyStop ends training when a validation loss has not fallen by more than MinDelta for Patience evaluations.
type EarlyStop struct {
	Metric   string // "validation/loss" or "validation/<name>/loss"; "": the one that SelectBy names, or the only one, or the mean of all
	Patience int
	MinDelta float64
}

// Progress is what a run tells while it works.
type Progress struct {
	Step, Steps int
	Message     string
	Metrics     map[string]float64
}

// Train runs to its end, writes what options name and returns the numbers. The device is the caller's.
//
// When ctx is cancelled it saves a checkpoint and returns the context's error; the next call with the same
// options goes on from there and gives the same bits as an undisturbed one.
func Train(ctx context.Context, dev ops.Device, o TrainOptions) (*TrainResult, error) {
	r, err := prepare(ctx, dev, o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.resume(); err != nil {
		return nil, err
	}
	if err := r.announce(ctx); err != nil {
		return nil, r.interrupted(ctx, err)
	}
	if err := r.loop(ctx); err != nil {
		return nil, err
	}
	return r.finish(ctx)
}

// run is one training run.
type run struct {
	TrainOptions
	state
	dev         ops.Device
	model       *model.Model
	data        rows
	plan        *plan
	optimizer   *optimizer
	average     *average // nil: none
	memory      *Needs
	saver       saver
	validation  []*validationSet
	batch       batch             // reused by every pack
	next        *step             // laid out
	settings    map[string]string // what a checkpoint must share: see prepare.go
	evalEvery   int               // in steps; 0: only first and last
	sampleEvery int               // the same; 0: only last
	best        [][]float32       // weights of the lowest validation loss
	warned      int               // step of the last warning of a spike
	written     int               // points of the curve that its file holds; -1: it cannot be written
	clock       clock
}

// rows are what training and validation read: *dataset.Tokens, or *pairs.
type rows interface {
	Examples
	Manifest() dataset.Manifest
	Close() error
}

// state is what a checkpoint holds besides weights and moments.
type state struct {
	Step      int          `json:"step"`    // optimiser steps made
	Place     int64        `json:"place"`   // rows seen, in the endless order
	Tokens    int64        `json:"tokens"`  // tokens seen
	Trained   int64        `json:"trained"` // targets seen
	Curve     []point      `json:"curve"`
	Evaluated int          `json:"evaluated"` // step of the last evaluation, -1: none yet
	Best      *bestPoint   `json:"best,omitempty"`
	Mark      *float64     `json:"mark,omitempty"` // loss that early stopping compares with
	Stale     int          `json:"stale"`          // evaluations since it was set
	Stopped   bool         `json:"stopped,omitempty"`
	Skipped   int          `json:"skipped"`           // steps without a finite loss and gradient
	InARow    int          `json:"skipped_in_a_row"`  // the latest of them
	Samples   []SampleLine `json:"samples,omitempty"` // so far
	Sampled   int          `json:"sampled"`           // step of the last of them, -1: none yet
}

// bestPoint is the lowest validation loss so far; nil before the first.
type bestPoint struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
}

// loop makes the steps. Its order is: evaluate what stands, save it, make the next step.
func (r *run) loop(ctx context.Context) error {
	for {
		if err := r.evaluateIfDue(ctx); err != nil {
			return r.interrupted(ctx, err)
		}
		r.writeCurve()
		if err := r.sampleIfDue(ctx); err != nil {
			return r.interrupted(ctx, err)
		}
		if r.Step == r.plan.steps() || r.Stopped {
			return nil
		}
		if err := r.saveIfDue(); err != nil {
			return err
		}
		if err := r.trainStep(ctx); err != nil {
			return r.interrupted(ctx, err)
		}
	}
}

// trainStep makes one optimiser step: gradients of all its packs, clipping, AdamW. The loss of a step is the mean
// over the targets of all its packs, not a mean of means. All of it is queued before the host waits for what came of it,
// once; the next step's first pack is laid out meanwhile.
func (r *run) trainStep(ctx context.Context) error {
	n := r.Step + 1
	began := r.Now()
	s := r.begin(n)
	if err := r.gradients(ctx, s); err != nil {
		return err
	}
	rate := r.Schedule.At(n)
	r.optimizer.apply(rate)
	if n < r.plan.steps() {
		r.begin(n + 1)
	}
	settled, err := r.model.Settle()
	if err != nil {
		return fmt.Errorf("step %d: %w", n, err)
	}
	norm, made := r.optimizer.outcome(settled)
	loss := r.lossOf(s, settled)
	r.Step, r.Place = n, r.plan.place(n)
	r.Tokens += int64(s.tokens)
	if !made {
		return r.skip(ctx, s.packs, loss, norm, rate)
	}
	if r.average != nil {
		r.average.update()
	}
	r.InARow = 0
	r.Trained += int64(s.targets)
	p := point{Step: n, Tokens: r.Tokens, Loss: &loss, Norm: &norm, Rate: &rate, Memory: r.megabytes()}
	if r.Pairs != "" {
		p.Preference = s.prefers.metrics("train/")
	}
	r.stepDone(p, s.tokens, r.Now().Sub(began))
	r.warn(n, loss)
	return nil
}

// step is one optimiser step in the making.
type step struct {
	n       int
	packs   [][]int32
	targets int
	first   model.Batch // of the first pack
	tokens  int
	prefers preference
}

// begin finds the packs of step n and lays out the first, unless that was done while the step before ran.
func (r *run) begin(n int) *step {
	if r.next != nil && r.next.n == n {
		return r.next
	}
	s := &step{n: n}
	s.packs, s.targets = r.plan.step(n)
	s.first = r.batch.fill(r.plan.set, s.packs[0])
	r.next = s
	return s
}

// gradients queues the passes of a step, which leave theirs in the model. While the device computes one pack, the next is laid out.
func (r *run) gradients(ctx context.Context, s *step) error {
	whole := r.whole(s)
	r.model.ZeroGrad()
	for i, pack := range s.packs {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := s.first
		if i > 0 {
			b = r.batch.fill(r.plan.set, pack)
		}
		b.Seed = newRandom(r.Seed, forDropout, uint64(s.n)).at(uint64(i))
		if err := r.pass(b, pack, whole); err != nil {
			return fmt.Errorf("step %d: %w", s.n, err)
		}
		s.tokens += b.T
	}
	return nil
}

// pass queues one pack: its gradients, and its share of the step's loss.
func (r *run) pass(b model.Batch, pack []int32, whole int) error {
	if r.Pairs != "" {
		return r.model.QueuePairs(b, r.plan.set.ends(pack), r.Beta, whole)
	}
	return r.model.QueueStep(b, whole)
}

// whole is what the loss of a step is a mean over: the targets of all packs, or all pairs.
func (r *run) whole(s *step) int {
	if r.Pairs != "" {
		return int(r.plan.place(s.n) - r.plan.place(s.n-1))
	}
	return s.targets
}

// lossOf is a step's loss.
func (r *run) lossOf(s *step, settled model.Settled) (loss float64) {
	if r.Pairs != "" {
		return r.settlePairs(&s.prefers, s.packs, settled.Pairs, r.whole(s))
	}
	for _, share := range settled.Losses {
		loss += share
	}
	return loss
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// mostInARow is how many steps with a loss or gradient that is no finite number follow each other before training ends.
const mostInARow = 3

// skip passes over a step whose loss or gradient is no finite number: nothing has been changed by it. Training ends
// when several follow each other.
func (r *run) skip(ctx context.Context, packs [][]int32, loss, norm, rate float64) error {
	r.Skipped++
	r.InARow++
	what := fmt.Sprintf("step %d: the loss is %v and the gradient's norm %v, in %s", r.Step, loss, norm, r.named(packs))
	if r.InARow < mostInARow {
		r.logf("%s: the step is skipped", what)
		r.Curve = append(r.Curve, point{Step: r.Step, Tokens: r.Tokens, Rate: &rate, Memory: r.megabytes()})
		r.report(r.Curve[len(r.Curve)-1], fmt.Sprintf("step %d/%d  skipped", r.Step, r.plan.steps()))
		return nil
	}
	last := "no step had a finite one"
	for i := len(r.Curve) - 1; i >= 0; i-- {
		if p := r.Curve[i]; p.Loss != nil {
			last = fmt.Sprintf("the last finite loss was %.4g at step %d", *p.Loss, p.Step)
			break
		}
	}
	return r.diverged(ctx, fmt.Sprintf("%s, as in the %d steps before; %s", what, mostInARow-1, last),
		fmt.Sprintf("training diverged; lower lr (now %.3g), lengthen warmup, or look for broken rows", rate))
}

// named lists the rows of a step, the first few.
func (r *run) named(packs [][]int32) string {
	const most = 8
	var names []string
	all := slices.Concat(packs...)
	for _, k := range all[:min(most, len(all))] {
		row := int(r.plan.set.rows[k])
		names = append(names, fmt.Sprintf("%d (%s)", row, r.data.ID(row)))
	}
	if len(all) > most {
		names = append(names, fmt.Sprintf("%d more", len(all)-most))
	}
	return "rows " + strings.Join(names, ", ")
}

// interrupted saves what is finished when the cause is the context, and passes the error on.
func (r *run) interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	if r.Scratch == "" {
		return err
	}
	r.settleAside()
	if saveErr := r.saveNow(r.Scratch); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	r.logf("stopped after step %d; the next run goes on from there", r.Step)
	return err
}
