package model

import (
	"context"
	"errors"
	"fmt"

	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// Method says what is trained.
type Method string

// The methods.
const (
	Frozen    Method = ""     // nothing: evaluation and generation
	TrainLoRA Method = "lora" // adapters; the base model has no gradients
	TrainFull Method = "full" // every weight
)

// Options say how a model is loaded. The zero value loads the base model to be run, not trained.
type Options struct {
	Method Method
	// LoRA describes new adapters for TrainLoRA without Adapter; they are drawn from Seed.
	LoRA LoRA
	Seed uint64
	// Adapter is a PEFT folder: its adapters are run, or trained further with TrainLoRA.
	Adapter string
	// Weights is how frozen matrices are stored. Trained ones are always float32.
	Weights ops.Type
	// NF4 quantises the layers' linears on load, rounded to Weights before and after, as bitsandbytes does; with Double their
	// scales too. A checkpoint that is quantised stays as it is, whatever these say.
	NF4, Double bool
}

// Model is a model of one of the families on a device. It is used by one goroutine at a time.
type Model struct {
	Config Config
	LoRA   LoRA // of its adapters, if it has any
	Method Method
	// NEFTune is the alpha of noise on the embeddings of a Step: uniform, within alpha/√(tokens of the document · C).
	NEFTune float64

	dir    string
	dev    ops.Device
	double bool // new 4-bit weights are doubly quantised

	embed, head   ops.Weight // the same if tied
	dembed        ops.Buf    // gradients here and below: absent unless all weights are trained
	dhead         ops.Buf    // the same as dembed if tied
	norm, dnorm   ops.Buf    // of the final norm
	layers        []layer
	adapters      []adapter
	freq          ops.Buf // rotary frequencies [D/2]
	vectors       ops.Buf // one allocation: all norms and biases
	lowest        int     // the lowest layer with something trained, and its lowest linear: backward ends there
	lowestLinear  int
	places        map[string]place
	trained       []Parameter
	gradients     ops.Buf // one allocation: all gradients
	adapterMemory ops.Buf // one allocation: all adapters
	gainMemory    ops.Buf // one allocation: gains and norms of DoRA

	recompute Recompute
	plan      plan
	host      host
	queued    queued
	bare      bool // passes leave the adapters out
	noisy     bool // the pass in progress adds noise to the embeddings
	noiseSeed uint64
}

// layer is one decoder layer: two norms and four linears.
type layer struct {
	norm1, norm2   ops.Buf
	dnorm1, dnorm2 ops.Buf
	normQ, normK   ops.Buf // [D] of the heads; absent in families without
	dnormQ, dnormK ops.Buf
	linears        [linears]linear
}

// linear is one or several modules of a layer whose weights are stacked.
type linear struct {
	C, F   int // inputs, outputs
	w      ops.Weight
	bias   ops.Buf
	dw, db ops.Buf // absent unless all weights are trained
	lora   []ops.LoRA
	ranks  int // their sum
	// DoRA: what multiplies each output, and the length of its row; absent otherwise.
	gain, norms ops.Buf // [F]
}

// Parameter is one trained tensor.
type Parameter struct {
	// Name is that of adapter_model.safetensors or, for TrainFull, of model.safetensors.
	Name          string
	Shape         []int
	Weights, Grad ops.Buf
	// Decay says whether weight decay applies: to all but biases and norms, as transformers' Trainer does.
	Decay bool
}

// Load reads a Hugging Face model folder into dev. The error lists every tensor that is missing, unknown or
// of another shape than config.json says. The caller closes dev after the model.
func Load(ctx context.Context, dir string, dev ops.Device, o Options) (*Model, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	files, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	if err := config.checkTensors(dir, files); err != nil {
		return nil, err
	}
	m := &Model{Config: config, Method: o.Method, dir: dir, dev: dev}
	if err := m.build(ctx, o, func() error { return m.read(ctx, files) }); err != nil {
		return nil, fmt.Errorf("load model %s: %w", dir, err)
	}
	return m, nil
}

// Compact holds frozen matrices as bfloat16 where the files of folder dir do, if o asks for float32: no value changes by it, and
// no result. PiSSA takes its part out of the weights, which then are no bfloat16 values any more.
func (o Options) Compact(dir string) (Options, error) {
	if o.Weights != ops.F32 || o.Method == TrainFull || o.NF4 || o.LoRA.Init == "pissa" {
		return o, nil
	}
	files, err := safetensors.OpenDir(dir)
	if err != nil {
		return o, err
	}
	defer files.Close()
	for _, t := range files.Tensors() {
		if len(t.Shape) == 2 && t.DType != safetensors.BF16 {
			return o, nil
		}
	}
	o.Weights = ops.BF16Exact
	return o, nil
}

func (o Options) check() error {
	switch o.Method {
	case Frozen, TrainLoRA, TrainFull:
	default:
		return fmt.Errorf("method %q is not known; there are %q and %q", o.Method, TrainLoRA, TrainFull)
	}
	if o.Method == TrainFull && o.Adapter != "" {
		return errors.New("method full trains no adapter: merge the adapter first and train the merged model")
	}
	if o.Method == TrainFull && o.NF4 {
		return errors.New("method full trains float32 weights, not 4-bit ones: train an adapter, or leave the quantisation out")
	}
	return nil
}

// fits refuses, before anything is allocated or read, what a model of shape c cannot be trained as, and adapters of another shape.
func (o Options) fits(c Config) error {
	switch {
	case c.Quantised != nil && o.Method == TrainFull:
		return errors.New("method: full trains all weights, which the model's 4-bit ones cannot be: train an adapter, or take the original model")
	case o.Adapter != "":
		a, err := OpenAdapter(o.Adapter, c)
		if err != nil {
			return err
		}
		return a.Close()
	case o.Method != TrainLoRA:
		return nil
	}
	rank, err := o.LoRA.ranks(c)
	if err != nil || o.LoRA.Init != "pissa" {
		return err
	}
	return c.checkPiSSA(rank, o.NF4)
}

// build allocates the model, lets fill set its weights, and adds adapters. After an error nothing is left of it.
func (m *Model) build(ctx context.Context, o Options, fill func() error) error {
	if err := o.fits(m.Config); err != nil {
		return err
	}
	if o.Method == TrainFull {
		o.Weights = ops.F32
	}
	linear, err := m.linearType(o)
	if err != nil {
		return err
	}
	m.double = o.Double
	m.allocate(o.Weights, linear)
	for _, step := range []func() error{m.dev.Err, fill, func() error { return m.adapt(ctx, o) }, m.dev.Err} {
		if err := step(); err != nil {
			m.Free()
			return err
		}
	}
	m.list()
	return nil
}

// adapt gives the model new adapters, or those of a folder.
func (m *Model) adapt(ctx context.Context, o Options) error {
	train := o.Method == TrainLoRA
	if o.Adapter != "" {
		return m.loadAdapter(o.Adapter, train)
	}
	if !train {
		return nil
	}
	rank, err := o.LoRA.ranks(m.Config)
	if err != nil {
		return err
	}
	m.attach(o.LoRA, rank, true)
	if err := m.dev.Err(); err != nil {
		return err
	}
	return m.initialise(ctx, o.Seed)
}

// list names the trained tensors and finds the layer where backward may end.
func (m *Model) list() {
	switch m.Method {
	case TrainLoRA:
		m.lowest = len(m.layers)
		for _, a := range m.adapters {
			if a.layer < m.lowest { // adapters come in the order of layers, and of linears
				m.lowest, m.lowestLinear = a.layer, a.linear
			}
			m.trained = append(m.trained,
				Parameter{peftName(a.fullName, "A"), []int{a.rank, a.in}, a.a, a.da, true},
				Parameter{peftName(a.fullName, "B"), []int{a.out, a.rank}, a.b, a.db, true})
			if a.m.Present() {
				m.trained = append(m.trained, Parameter{peftMagnitude(a.fullName), []int{a.out}, a.m, a.dm, true})
			}
		}
	case TrainFull:
		for _, t := range m.Config.tensors() {
			p := m.places[t.name]
			m.trained = append(m.trained, Parameter{t.name, t.shape, p.values(), p.grad, !t.vector()})
		}
	}
}

// Parameters are the trained tensors, in a fixed order.
func (m *Model) Parameters() []Parameter { return m.trained }

// Gradients is the allocation that holds the gradient of every parameter and nothing else: for its norm, and
// to scale all of it at once.
func (m *Model) Gradients() ops.Buf { return m.gradients }

// ZeroGrad clears the gradients, before the first Step of an optimiser step.
func (m *Model) ZeroGrad() {
	if m.gradients.Present() {
		m.dev.Zero(m.gradients)
	}
	if m.queued.buf.Present() {
		m.dev.Zero(m.queued.buf.Slice(0, stepSums))
	}
}

// Device is where the model lives.
func (m *Model) Device() ops.Device { return m.dev }

// Step runs a batch forward and backward and adds to the gradients. It returns the loss
//
//	Σ over targets of -log p(target) / tokens
//
// where tokens counts the targets of all micro-batches of the optimiser step, so that the losses and
// gradients of its micro-batches sum up to the mean over all of its targets.
func (m *Model) Step(b Batch, tokens int) (float64, error) {
	if err := m.forwardTrained(b); err != nil {
		return 0, err
	}
	m.loss(m.plan.nll, 1/float32(tokens), true)
	m.backward()
	return m.meanLoss(tokens)
}

// forwardTrained is the forward pass of a training step, with dropout and noise.
func (m *Model) forwardTrained(b Batch) error {
	if m.Method == Frozen {
		return errors.New("the model was loaded to be run, not trained")
	}
	if m.LoRA.DoRA && m.LoRA.Dropout > 0 {
		return errors.New("DoRA is computed without dropout only")
	}
	if err := m.begin(b, true); err != nil {
		return err
	}
	m.dropout(m.LoRA.Dropout, b.Seed)
	m.noisy = m.NEFTune > 0
	if m.noisy {
		m.setNoise(b)
	}
	m.forward(nil)
	m.noisy = false
	return nil
}

// WithoutAdapters runs passes of the base model alone, without any adapter.
func (m *Model) WithoutAdapters(passes func() error) error {
	m.bare = true
	defer func() { m.bare = false }()
	return passes()
}

// Loss is Step without backward pass, gradients and dropout.
func (m *Model) Loss(b Batch, tokens int) (float64, error) {
	if err := m.forwardOnly(b); err != nil {
		return 0, err
	}
	m.loss(m.plan.nll, 1/float32(tokens), false)
	return m.meanLoss(tokens)
}

// forwardOnly is the forward pass of a model that is run.
func (m *Model) forwardOnly(b Batch) error {
	if err := m.begin(b, false); err != nil {
		return err
	}
	m.dropout(0, 0)
	m.forward(nil)
	return nil
}

// TokenLosses are the -log p(target) of the last Step or Loss, one for each token of its batch, at the place of the token
// that predicts; 0 where there is no target. The slice is valid until the next call.
func (m *Model) TokenLosses() []float32 { return m.host.nll }

// meanLoss reads the losses of single tokens.
func (m *Model) meanLoss(tokens int) (float64, error) {
	m.host.nll = m.host.nllMemory[:m.plan.N]
	m.dev.Read(m.host.nll, m.plan.nll)
	if err := m.dev.Failed(); err != nil {
		return 0, err
	}
	return sumOf(m.host.nll) / float64(tokens), nil
}

// Logits runs a batch forward and hands each token's logits [V] to yield, in order; the slice is valid
// during the call.
func (m *Model) Logits(b Batch, yield func(token int, logits []float32) error) error {
	if err := m.forwardOnly(b); err != nil {
		return err
	}
	return m.eachLogits(yield)
}

// Free gives the model's memory back to the device.
func (m *Model) Free() {
	for _, l := range m.layers {
		for _, lin := range l.linears {
			m.dev.FreeWeight(lin.w)
		}
	}
	if m.head != m.embed {
		m.dev.FreeWeight(m.head)
	}
	m.dev.FreeWeight(m.embed)
	for _, b := range []ops.Buf{m.freq, m.vectors, m.gradients, m.adapterMemory, m.gainMemory, m.queued.buf} {
		m.dev.Free(b)
	}
	m.release()
	*m = Model{Config: m.Config, dev: m.dev}
}
