package engine

import (
	"fmt"
	"strings"

	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// Needs is the memory that a training run takes at most, in bytes: the device's, and on a device that has no memory of its own the
// process's too.
type Needs struct {
	model.Memory
	Optimizer   int64 `json:"optimizer_bytes"`
	EMA         int64 `json:"ema_bytes,omitempty"`
	Activations int64 `json:"activations_bytes"` // of one pass, with Recompute
	Samples     int64 `json:"samples_bytes,omitempty"`
	Scratch     int64 `json:"scratch_bytes"`        // of the device's operations
	Host        int64 `json:"host_bytes,omitempty"` // copies for checkpoints, of the best weights, of what PiSSA took out
	Process     int64 `json:"process_bytes,omitempty"`
	Total       int64 `json:"total_bytes"` // of all above
	Limit       int64 `json:"limit_bytes"` // what there is; 0: not known

	Layers    int             `json:"layers"`
	Recompute model.Recompute `json:"recompute"`
	// Again is the share of a step's operations that is done twice.
	Again float64 `json:"recomputed_share"`
}

// programGrowth is what the program itself takes more while it trains: its threads' small buffers, slack of the collector.
const programGrowth = 8 << 20

// needs counts what training takes in packs of n tokens whose longest row has so many, and chooses what is computed again so
// that it fits. It says in its error what would fit when nothing does.
func (o *TrainOptions) needs(config model.Config, dev ops.Device, n, longest int) (*Needs, error) {
	limit := o.DeviceMemory
	own := onProcessor(dev) // the process's memory is the device's
	process := int64(0)
	if own {
		process = presentRSS() + programGrowth
		if _, available := MachineMemory(); limit == 0 && available > 0 {
			limit = process + available
		}
	}
	if limit == 0 {
		limit = usable(dev.Info().Memory)
	}
	r, err := o.fit(config, dev, n, longest, limit, process)
	if err != nil || limit == 0 || r.Total <= limit {
		return r, err
	}
	return nil, fmt.Errorf("device_memory: training takes %s even when all of every layer is computed again (%s), and there are %s%s",
		sizeText(r.Total), r.Parts(), sizeText(limit), o.wouldFit(config, dev, n, longest, limit, process))
}

// usable is what of a device's own memory training may take: the driver keeps some, and its allocations are whole pages.
func usable(memory int64) int64 { return memory / 100 * 95 }

// fit is the cheapest choice within limit, or the smallest there is.
func (o *TrainOptions) fit(config model.Config, dev ops.Device, n, longest int, limit, process int64) (*Needs, error) {
	options, err := o.modelOptions()
	if err != nil {
		return nil, err
	}
	m, memory, err := model.Outline(config, options, dev)
	if err != nil {
		return nil, err
	}
	r := &Needs{Memory: memory, Layers: config.Layers, Limit: limit, Process: process}
	r.Optimizer = 4*o.Optimizer.moments()*r.Trained + model.RoomBytes(o.queuedLosses())
	if o.EMA > 0 {
		r.EMA = 4 * (r.Trained + int64(m.Largest()))
	}
	if o.SamplesOut != "" {
		r.Samples = sampleBytes(config, longest)
	}
	if onProcessor(dev) {
		r.Host = o.hostBytes(r.Trained)
	}
	stored, scratch, err := model.Rehearse(config, options, dev, n)
	if err != nil {
		return nil, err
	}
	if r.Scratch = scratch; stored > 0 { // with the borders that the device gives weights
		r.Weights = stored - r.Adapter - r.Gradients
	}
	fixed := r.Weights + r.Adapter + r.Gradients + r.Optimizer + r.EMA + r.Samples + r.Scratch + r.Host + r.Process
	room := limit - fixed
	if limit == 0 {
		room = 1 << 62
	}
	r.Recompute, r.Activations = m.Fit(n, room, sparing(dev))
	r.Total = fixed + r.Activations
	r.documents(config, o.Method, float64(n))
	return r, nil
}

// documents sets Again for packs of documents of so many tokens: what attention takes depends on their length, not on the pack's.
func (r *Needs) documents(config model.Config, method string, tokens float64) {
	r.Again = r.Recompute.Flops(config) / trainFlops(config, r.Trained, method, tokens)
}

// queuedLosses is how many losses of tokens a step leaves on the device. Pairs have one more of the reference.
func (o *TrainOptions) queuedLosses() int {
	if o.Beta > 0 {
		return 2 * o.BatchTokens
	}
	return o.BatchTokens
}

// sparing says whether training computes norms and SwiGLU's products again even where they would fit: on the CPU that takes 1 % of
// the time and saves a third of the activations, which other programs may use.
func sparing(dev ops.Device) bool { return onProcessor(dev) }

func onProcessor(dev ops.Device) bool { return dev.Info().Threads > 0 }

// moments is how many values the optimiser keeps for each that is trained.
func (o Optimizer) moments() int64 {
	if o.Kind == "lion" {
		return 1
	}
	return 2
}

// hostBytes is what copies of the trained weights take beside the device's own.
func (o *TrainOptions) hostBytes(trained int64) int64 {
	copies := int64(0)
	if o.Scratch != "" || o.CheckpointOut != "" {
		copies += 1 + o.Optimizer.moments()
		if o.EMA > 0 {
			copies++
		}
	}
	if o.SelectBest {
		copies++
	}
	if o.LoRA.Init == "pissa" {
		copies++
	}
	return 4 * copies * trained
}

// wouldFit names the changes that alone would be enough, behind a colon.
func (o *TrainOptions) wouldFit(config model.Config, dev ops.Device, n, longest int, limit, process int64) string {
	var ways []string
	try := func(way string, change func(*TrainOptions), n int) bool {
		changed := *o
		change(&changed)
		r, err := changed.fit(config, dev, n, longest, limit, process)
		if err == nil && r.Total <= limit && way != "" {
			ways = append(ways, fmt.Sprintf("%s (%s)", way, sizeText(r.Total)))
		}
		return err == nil && r.Total <= limit
	}
	none := func(*TrainOptions) {}
	for shorter := n / 2; shorter >= max(longest, 64); shorter /= 2 {
		if try(fmt.Sprintf("sequence_length = %d", shorter), none, shorter) {
			break
		}
	}
	if o.Precision == "fp32" && o.Method == "lora" {
		try(`precision = "bf16"`, func(o *TrainOptions) { o.Precision = "bf16" }, n)
	}
	if o.Method == "lora" && o.Quantize == "none" && config.Quantised == nil && o.LoRA.Init != "pissa" {
		try(`quantize = "nf4"`, func(o *TrainOptions) { o.Precision, o.Quantize = "bf16", "nf4" }, n)
	}
	if o.Method == "full" {
		try(`method = "lora"`, func(o *TrainOptions) {
			o.Method, o.Precision, o.LoRA = "lora", "bf16", model.LoRA{Rank: 16, Alpha: 32, Targets: []string{model.AllLinear}}
		}, n)
	}
	if len(ways) == 0 {
		return ": a smaller model, shorter rows or more memory are needed"
	}
	return "; what would fit: " + strings.Join(ways, ", or ")
}

// sampleBytes is what the samples of a training run take at once: keys and values, and the logits of each sequence, twice.
func sampleBytes(c model.Config, longest int) int64 {
	length := longest + sampleTokens
	if c.MaxPositions > 0 {
		length = min(length, c.MaxPositions)
	}
	one := int64(c.Layers) * int64(ops.CacheSize(length, c.KV, c.D)) * 4
	return one*max(1, min(sampleRows, maxCache/one)) + 2*4*sampleRows*int64(c.V)
}

// Parts names what the memory is for.
func (r *Needs) Parts() string {
	var list []string
	for _, p := range []struct {
		name  string
		bytes int64
	}{
		{"weights", r.Weights}, {"adapter", r.Adapter}, {"gradients", r.Gradients}, {"optimizer", r.Optimizer}, {"moving average", r.EMA},
		{"activations", r.Activations}, {"samples", r.Samples}, {"scratch", r.Scratch}, {"copies", r.Host}, {"program", r.Process},
	} {
		if p.bytes > 0 {
			list = append(list, p.name+" "+sizeText(p.bytes))
		}
	}
	return strings.Join(list, ", ")
}

// Choice says what is kept and what is computed again.
func (r *Needs) Choice() string {
	c := r.Recompute
	switch {
	case c.Light == 0:
		return "everything that the backward pass needs is kept"
	case c.Light == r.Layers && c.MLP == 0:
		return "all that takes time is kept for the backward pass"
	}
	var again []string
	if c.Whole > 0 {
		again = append(again, fmt.Sprintf("everything of %d", c.Whole))
	}
	if c.MLP > c.Whole {
		again = append(again, fmt.Sprintf("norms, gate and up of %d", c.MLP-c.Whole))
	}
	if c.Light > c.MLP {
		again = append(again, fmt.Sprintf("norms and products of %d", c.Light-c.MLP))
	}
	return fmt.Sprintf("of %d layers %d are kept; computed again: %s, about %.0f %% more time", r.Layers, r.Layers-c.Light,
		strings.Join(again, ", "), 100*r.Again)
}

// sizeText is a number of bytes as people read it.
func sizeText(n int64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
