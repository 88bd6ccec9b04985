package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// BenchOptions say what to time: LoRA on all linears, every token trained, forward, backward and AdamW on the same ids
// every step; or greedy decoding.
type BenchOptions struct {
	Model   string  // a folder; one without weights, with config.json alone, gets random ones
	B, T    int     // rows and tokens of a batch; 0: 4 and 256
	Rank    int     // 0: 16
	Seconds float64 // how long to go on; 0: 10, unless
	Steps   int     // is above 0
	LR      float64 // 0: 1e-4
	IDs     []int32 // B·T of them; nil: random, from a fixed seed
	BF16    bool    // frozen weights, and what is multiplied with them, are bfloat16
	NF4     bool    // the linears are quantised on load
	Again   bool    // all activations are computed again; else only what would not fit in a device's own memory
	Decode  bool
	Now     func() time.Time
}

// BenchResult is what `lpipe engine bench --json` prints.
type BenchResult struct {
	TokensPerSecond float64 `json:"tokens_per_s"`
	Seconds         float64 `json:"seconds"`
	Tokens          int     `json:"tokens"`
	// Targets are the tokens among them that are trained on: all but each row's first. Rows are full, so that the packing density is 1.
	Targets int `json:"targets,omitempty"`
	// Losses holds the loss of every step, the warm-up's first: that of the untouched model.
	Losses []float64 `json:"losses"`
	Peak   float64   `json:"peak_rss_mb"`
	// GFLOPS counts what the mathematics needs, GEMMGFLOPS is what the device reaches on the model's largest product.
	GFLOPS     float64 `json:"gflops"`
	GEMMGFLOPS float64 `json:"gemm_gflops"`
	// PeakGFLOPS, PeakBF16GFLOPS and ReadGB are what bare loops reach in the same run, with multiply-adds of float32 numbers and of
	// bfloat16 pairs and with reading memory: 0 where the device has none. GEMMShare is how much of the peak for its numbers the
	// largest product reaches; of decoding ReadShare is how much of ReadGB reading each weight once a token amounts to. ReadGB is then the mean
	// of loops in turns with the tokens, over the same memory: how fast that is read changes from one second to the next.
	PeakGFLOPS     float64 `json:"peak_gflops,omitempty"`
	PeakBF16GFLOPS float64 `json:"peak_bf16_gflops,omitempty"`
	ReadGB         float64 `json:"read_gb_per_s,omitempty"`
	GEMMShare      float64 `json:"gemm_share,omitempty"`
	ReadShare      float64 `json:"read_share,omitempty"`
	// Repeated says what recording passes would save, and whether it does (see ops.Repeater).
	Repeated string `json:"repeated,omitempty"`
	Device   string `json:"device"`
	Detail   string `json:"detail"`
	// DeviceBytes is what the device holds for the model, the pass and its operations; Recompute what the pass did twice.
	DeviceBytes int64           `json:"device_bytes"`
	Recompute   model.Recompute `json:"recompute"`
	Threads     int             `json:"threads"`
}

// Bench times training or decoding. One step is made before the clock starts.
func Bench(ctx context.Context, dev ops.Device, o BenchOptions) (*BenchResult, error) {
	config, err := model.ReadConfig(o.Model)
	if err != nil {
		return nil, err
	}
	if err := o.fill(config); err != nil {
		return nil, err
	}
	m, options, err := o.load(ctx, config, dev)
	if err != nil {
		return nil, err
	}
	defer m.Free()
	b := &bench{BenchOptions: o, model: m, dev: dev, weights: dev.Info().Bytes, stored: options.Weights}
	if err := b.prepare(config, options); err != nil {
		return nil, err
	}
	if o.Decode {
		err = b.decode(ctx)
	} else {
		err = b.train(ctx)
	}
	if err != nil {
		return nil, err
	}
	info := dev.Info()
	r := &b.result
	r.TokensPerSecond = float64(r.Tokens) / r.Seconds
	r.GFLOPS = b.flops() * r.TokensPerSecond / 1e9
	r.Peak, r.Device, r.Detail, r.Threads = PeakRSS()/1e6, info.Name, info.Detail, info.Threads
	r.DeviceBytes, r.Repeated = info.Bytes+info.Scratch, info.Repeats
	b.limits() // takes memory of its own
	return r, dev.Err()
}

// load reads the model, or makes one of its shape, and says with which options.
func (o *BenchOptions) load(ctx context.Context, config model.Config, dev ops.Device) (*model.Model, model.Options, error) {
	options := model.Options{
		Method: model.TrainLoRA, LoRA: model.LoRA{Rank: o.Rank, Alpha: 2 * float64(o.Rank), Targets: []string{model.AllLinear}}, Seed: 1,
	}
	if o.Decode {
		options = model.Options{}
	}
	if o.BF16 {
		options.Weights = ops.BF16
	}
	options.NF4 = o.NF4
	weights, err := filepath.Glob(filepath.Join(o.Model, "*.safetensors"))
	if err != nil {
		return nil, options, err
	}
	var m *model.Model
	if len(weights) == 0 {
		m, err = model.New(config, model.Init{Seed: 1, Deviation: 0.02, OnDevice: true}, dev, options)
	} else if options, err = options.Compact(o.Model); err == nil {
		m, err = model.Load(ctx, o.Model, dev, options)
	}
	return m, options, err
}

// prepare chooses what a pass computes again, so that it fits in the device's own memory, and makes room for it and for the losses of
// steps that are queued.
func (b *bench) prepare(config model.Config, options model.Options) error {
	if b.Decode {
		return nil
	}
	n := b.B * b.T
	if err := b.model.Room(benchQueue * n); err != nil {
		return err
	}
	r := model.Recompute{}
	if memory, light := usable(b.dev.Info().Memory), sparing(b.dev); b.Again || light || memory > 0 {
		room := int64(0)
		switch {
		case b.Again:
		case memory == 0:
			room = 1 << 62
		default:
			_, scratch, err := model.Rehearse(config, options, b.dev, n)
			if err != nil {
				return err
			}
			moments := 8 * int64(b.model.Gradients().Len)
			room = memory - b.dev.Info().Bytes - scratch - moments
		}
		r, _ = b.model.Fit(n, room, light)
	}
	b.model.SetRecompute(r)
	b.result.Recompute = r
	_, err := b.model.Prepare(n)
	return err
}

func (o *BenchOptions) fill(c model.Config) error {
	if o.B <= 0 {
		o.B = 4
	}
	if o.T <= 0 {
		o.T = 256
	}
	if o.Rank <= 0 {
		o.Rank = 16
	}
	if o.LR == 0 {
		o.LR = 1e-4
	}
	if o.Seconds <= 0 && o.Steps <= 0 {
		o.Seconds = 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IDs == nil {
		r := newRandom(1, forBench)
		for i := range uint64(o.B * o.T) {
			o.IDs = append(o.IDs, int32(r.below(i, uint64(c.V))))
		}
	}
	if len(o.IDs) < o.B*o.T {
		return fmt.Errorf("ids: there are %d, a batch of %d rows of %d tokens needs %d", len(o.IDs), o.B, o.T, o.B*o.T)
	}
	o.IDs = o.IDs[:o.B*o.T]
	return nil
}

// bench is one call of Bench.
type bench struct {
	BenchOptions
	model   *model.Model
	dev     ops.Device
	weights int64    // bytes
	stored  ops.Type // of the frozen weights
	reading reading
	result  BenchResult
}

// reading is what bare loops that took turns with decoding read.
type reading struct {
	next    time.Time // when the next one is due
	bytes   int64
	seconds float64
}

// readEvery is how much time decoding has between two of them, which take about a tenth of that.
const readEvery = 250 * time.Millisecond

// timed calls step until the time or the number of steps is up; step returns how many tokens it made.
func (b *bench) timed(ctx context.Context, step func() (int, error)) error {
	if _, err := step(); err != nil {
		return err
	}
	began, aside := b.Now(), b.reading.seconds
	for n := 0; b.Steps > 0 && n < b.Steps || b.Steps <= 0 && b.Now().Sub(began).Seconds() < b.Seconds; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		tokens, err := step()
		if err != nil {
			return err
		}
		b.result.Tokens += tokens
	}
	if err := b.dev.Err(); err != nil {
		return err
	}
	b.result.Seconds = max(b.Now().Sub(began).Seconds()-(b.reading.seconds-aside), 1e-9)
	return nil
}

func (b *bench) train(ctx context.Context) error {
	opt := newOptimizer(b.model, Optimizer{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, 0)
	defer opt.free()
	batch := model.Batch{B: b.B, T: b.T, IDs: b.IDs}
	targets := batch.Targets()
	if targets == 0 {
		return errors.New("length: a row of one token has no target")
	}
	settle := func() error {
		settled, err := b.model.Settle()
		b.result.Losses = append(b.result.Losses, settled.Losses...)
		return err
	}
	err := b.timed(ctx, func() (int, error) {
		b.model.ZeroGrad()
		if err := b.model.QueueStep(batch, targets); err != nil {
			return 0, err
		}
		opt.apply(b.LR)
		if opt.step%benchQueue != 1 { // the first, which is not timed, is waited for
			return len(b.IDs), nil
		}
		return len(b.IDs), settle()
	})
	if err != nil {
		return err
	}
	b.result.Targets = b.result.Tokens / len(b.IDs) * targets
	return settle()
}

// benchQueue is how many steps are queued before the host waits for their losses.
const benchQueue = 4

// decode continues B prompts of T tokens; a step is one token of each. The cache is emptied when it is full.
func (b *bench) decode(ctx context.Context) error {
	const room = 256
	cache, err := b.model.NewCache(b.B, b.T+room)
	if err != nil {
		return err
	}
	defer cache.Free()
	feeds := make([]model.Feed, b.B)
	begin := func() error {
		for i := range feeds {
			cache.Reset(i)
			feeds[i] = model.Feed{Slot: i, IDs: b.IDs[i*b.T : (i+1)*b.T]}
		}
		return b.next(cache, feeds)
	}
	if err := begin(); err != nil {
		return err
	}
	return b.timed(ctx, func() (int, error) {
		if cache.Len(0) == cache.Length {
			for i := range feeds {
				cache.Keep(i, b.T)
			}
		}
		b.read()
		return b.B, b.next(cache, feeds)
	})
}

// read takes a turn of the bare loop where one is due.
func (b *bench) read() {
	dev, ok := b.dev.(interface {
		ReadHeld(now func() time.Time) (bytes int64, seconds float64)
	})
	if r := &b.reading; ok && !b.Now().Before(r.next) {
		bytes, seconds := dev.ReadHeld(b.Now)
		r.bytes, r.seconds, r.next = r.bytes+bytes, r.seconds+seconds, b.Now().Add(readEvery)
	}
}

// next feeds the cache and chooses each sequence's next token.
func (b *bench) next(cache *model.Cache, feeds []model.Feed) error {
	logits, err := b.model.Decode(cache, feeds)
	if err != nil {
		return err
	}
	V := b.model.Config.V
	for i := range feeds {
		feeds[i].IDs = []int32{argmax(logits[i*V : (i+1)*V])}
	}
	return nil
}

// flops is what the mathematics needs for a token.
func (b *bench) flops() float64 {
	c := b.model.Config
	if b.Decode {
		weights := float64(c.Layers*(c.C*c.QKV()+c.H*c.D*c.C+3*c.C*c.F) + c.V*c.C)
		return 2*weights + 4*float64(c.Layers*c.H*c.D*b.T)
	}
	trained := 0
	for _, p := range b.model.Parameters() {
		trained += p.Weights.Len
	}
	return trainFlops(c, int64(trained), "lora", float64(b.T))
}

// limits measures what there is to reach, in turns with the largest product: what else the machine does disturbs both.
func (b *bench) limits() {
	r := &b.result
	measured, _ := b.dev.(interface {
		Measure(now func() time.Time) cpu.Limits
	})
	for range 5 {
		if measured != nil {
			l := measured.Measure(b.Now)
			r.PeakGFLOPS, r.ReadGB = max(r.PeakGFLOPS, l.GFLOPS), max(r.ReadGB, l.ReadGB)
			r.PeakBF16GFLOPS = max(r.PeakBF16GFLOPS, l.BF16GFLOPS)
		}
		r.GEMMGFLOPS = max(r.GEMMGFLOPS, b.product())
	}
	if peak := r.peak(b.stored == ops.BF16 && !b.Decode); peak > 0 {
		r.GEMMShare = r.GEMMGFLOPS / peak
	}
	if b.Decode && b.reading.seconds > 0 {
		r.ReadGB = float64(b.reading.bytes) / b.reading.seconds / 1e9
		r.ReadShare = r.TokensPerSecond / float64(b.B) * float64(b.weights) / (r.ReadGB * 1e9)
	}
}

// peak is that of the numbers that a product multiplies; pairs of bfloat16 are widened where the processor has nothing for them.
func (r *BenchResult) peak(pairs bool) float64 {
	if pairs && r.PeakBF16GFLOPS > 0 {
		return r.PeakBF16GFLOPS
	}
	return r.PeakGFLOPS
}

// product times the model's largest linear alone.
func (b *bench) product() float64 {
	c, n := b.model.Config, b.B*b.T
	if b.Decode {
		n = b.B
	}
	x, y := b.dev.Alloc(n*c.C), b.dev.Alloc(n*2*c.F)
	w := b.dev.AllocWeight(b.stored, 2*c.F, c.C)
	defer b.dev.Free(x)
	defer b.dev.Free(y)
	defer b.dev.FreeWeight(w)
	pass := func() {
		b.dev.Linear(y, ops.Buf{}, x, w, ops.Buf{}, nil, n, c.C, 2*c.F)
	}
	pass()
	if b.dev.Err() != nil {
		return 0
	}
	began, times := b.Now(), 0
	for b.Now().Sub(began) < 100*time.Millisecond || times < 3 {
		pass()
		if b.dev.Err() != nil {
			return 0
		}
		times++
	}
	took := max(b.Now().Sub(began).Seconds(), 1e-9)
	return 2 * float64(n) * float64(c.C) * float64(2*c.F) * float64(times) / took / 1e9
}
