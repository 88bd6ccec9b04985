//go:build !cuda

package graph

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/gorgonia"

	"lpipe/engine/model"
	"lpipe/engine/ops"
)

// Options of Check. The zero value is right for most.
type Options struct {
	Seed   uint64
	Models int // random models beside the fixed ones; 0: 8
}

// Row is what the witnesses of one model say. Differences of gradients are relative to the largest entry of
// their tensor, or to the length of its gradient for differences along a direction.
type Row struct {
	Model   string `json:"model"`   // its shape, method and batch
	Tensors int    `json:"tensors"` // trained ones, all compared

	Loss       float64 `json:"loss"`       // hand-written against graph, relative
	Gradient   float64 `json:"gradient"`   // hand-written against automatic
	Difference float64 `json:"difference"` // automatic against central differences
	Worst      string  `json:"worst"`      // the tensor with the largest Gradient
	OK         bool    `json:"ok"`
}

// What the witnesses may differ by. The hand-written passes are float32: torch's own differ from float64 by up to
// 5e-6 (testdata/README.md). The graph is float64, and central differences lose digits by subtraction.
const (
	LossTolerance       = 2e-6
	GradientTolerance   = 5e-5
	DifferenceTolerance = 1e-6
)

// Check compares hand-written gradients on dev, automatic ones of the graph, and central differences of the
// graph's loss, on models of every family and random shape: odd lengths, every ratio of query to key heads, tied and untied,
// packed and padded, LoRA, DoRA and full. report, if not nil, gets each row as it is finished.
func Check(ctx context.Context, dev ops.Device, o Options, report func(Row)) ([]Row, error) {
	if o.Models == 0 {
		o.Models = 8
	}
	var rows []Row
	for i := range o.Models {
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		row, err := checkOne(ctx, dev, draw(o.Seed, i))
		if err != nil {
			return rows, fmt.Errorf("check %s: %w", row.Model, err)
		}
		rows = append(rows, row)
		if report != nil {
			report(row)
		}
	}
	return rows, nil
}

// example is a random model with a random batch.
type example struct {
	config  model.Config
	options model.Options
	init    model.Init
	batch   model.Batch
	packed  string
	dir     string // a model folder whose weights are taken instead of random ones
}

// draw makes the i-th example of a seed. The first few walk through what must not be left to chance.
func draw(seed uint64, i int) example {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	pick := func(from ...int) int { return from[r.IntN(len(from))] }
	e := example{config: model.Config{
		Layers: 1 + i%3, KV: pick(1, 2, 3), D: pick(4, 6, 8, 14), C: pick(17, 24, 33, 40), F: pick(19, 32, 45), V: pick(31, 67, 101),
		Eps: float32(math.Pow(10, -float64(pick(5, 6)))), Theta: float64(pick(100, 10_000, 1_000_000)), Tied: i%2 == 0, MaxPositions: 64,
	}}
	e.config.H = e.config.KV * []int{1, 2, 3, 7}[i%4]
	e.config.Family = []model.Family{model.Qwen2, model.Qwen3, model.Llama}[(i+i/3)%3]
	if e.config.Family == model.Llama && i%4 == 2 {
		e.config.Stretch = &model.Stretch{Factor: 8, Low: 1, High: 4, Original: 32}
	}
	e.init = model.Init{Seed: r.Uint64(), Deviation: 1.2 / math.Sqrt(float64(e.config.C)), Vary: 0.3}
	e.options = model.Options{Method: model.TrainFull, Seed: r.Uint64()}
	if i%4 < 2 { // so that each method meets tied and untied
		e.options.Method = model.TrainLoRA
		rank := pick(1, 3, 8)
		if i == 0 { // one above the narrow side of keys and values
			rank = min(e.config.KV*e.config.D+1, e.config.C)
		}
		e.options.LoRA = model.LoRA{Rank: rank, Alpha: float64(pick(4, 16)), Targets: []string{model.AllLinear}, RSLoRA: i%8 == 4, DoRA: i%8 == 5}
		if i%3 == 2 {
			e.options.LoRA.Targets = []string{"k_proj", "o_proj", fmt.Sprintf("layers.%d.mlp.up_proj", e.config.Layers-1)}
			e.options.LoRA.RankPattern = model.Patterns{{Match: "o_proj", Value: 2}}
			e.options.LoRA.AlphaPattern = model.Patterns{{Match: "layers.0.self_attn.k_proj", Value: 3}}
		}
	}
	e.drawBatch(r, i)
	return e
}

// drawBatch fills rows with whole documents, with packed ones, or with padding.
func (e *example) drawBatch(r *rand.Rand, i int) {
	b := &e.batch
	b.B, b.T = 1+r.IntN(3), 5+2*r.IntN(7)
	n := b.B * b.T
	for range n {
		b.IDs = append(b.IDs, int32(r.IntN(e.config.V)))
	}
	b.Labels = slices.Clone(b.IDs)
	for j := range b.Labels {
		if r.IntN(4) == 0 {
			b.Labels[j] = model.Ignored
		}
	}
	// At least a target whose token sees another: with none the gradients of queries and keys are zero.
	b.Labels[1], b.Labels[2] = b.IDs[1], b.IDs[2]
	switch e.packed = []string{"whole", "packed", "padded"}[(i/2)%3]; e.packed {
	case "packed":
		position := int32(0)
		for j := range n {
			if j%b.T == 0 || j%b.T > 2 && r.IntN(4) == 0 {
				position = 0
			}
			b.Positions = append(b.Positions, position)
			position++
		}
	case "padded":
		for j := range n {
			b.Sequence = append(b.Sequence, int32(j/b.T))
			if j%b.T >= b.T-2 {
				b.Sequence[j] = model.Padding
			}
		}
	}
}

func (e example) String() string {
	c := e.config
	tied := "untied"
	if c.Tied {
		tied = "tied"
	}
	method := string(e.options.Method)
	if l := e.options.LoRA; l.RSLoRA {
		method = "rslora"
	} else if l.DoRA {
		method = "dora"
	}
	family := c.Family.String()
	if c.Stretch != nil {
		family += " (stretched)"
	}
	return fmt.Sprintf("%s %s %s layers %d hidden %d heads %d/%d x %d ffn %d vocab %d, %d x %d %s",
		family, method, tied, c.Layers, c.C, c.H, c.KV, c.D, c.F, c.V, e.batch.B, e.batch.T, e.packed)
}

func checkOne(ctx context.Context, dev ops.Device, e example) (Row, error) {
	row := Row{Model: e.String()}
	m, err := e.open(ctx, dev)
	if err != nil {
		return row, err
	}
	defer m.Free()
	names := e.prepare(m)
	row.Tensors = len(names)
	tokens := e.batch.Targets()
	loss, err := m.Step(e.batch, tokens)
	if err != nil {
		return row, err
	}
	w, err := Read(ctx, m)
	if err != nil {
		return row, err
	}
	g, err := New(w, e.batch, tokens)
	if err != nil {
		return row, err
	}
	want, gradients, err := g.Gradients(names)
	if err != nil {
		return row, err
	}
	row.Loss = math.Abs(loss-want) / math.Abs(want)
	for _, p := range m.Parameters() {
		got := make([]float32, p.Grad.Len)
		dev.Read(got, p.Grad)
		if d := distance(got, gradients[p.Name]); !(d <= row.Gradient) {
			row.Gradient, row.Worst = d, p.Name
		}
	}
	if e.dir != "" {
		names = spread(names, sampleSteps)
	}
	if row.Difference, err = differences(ctx, w, e, tokens, names, gradients); err != nil {
		return row, err
	}
	row.OK = row.Loss <= LossTolerance && row.Gradient <= GradientTolerance && row.Difference <= DifferenceTolerance
	return row, dev.Err()
}

func (e example) open(ctx context.Context, dev ops.Device) (*model.Model, error) {
	if e.dir != "" {
		return model.Load(ctx, e.dir, dev, e.options)
	}
	return model.New(e.config, e.init, dev, e.options)
}

// spread is at most n names, evenly taken.
func spread(names []string, n int) []string {
	if len(names) <= n {
		return names
	}
	var some []string
	for i := range n {
		some = append(some, names[i*len(names)/n])
	}
	return some
}

// prepare gives every B numbers that are not zero, since a zero B hides A's gradient, and names the trained
// tensors. The numbers are such that the adapter's part is about as large as the base's, whatever its scale: a much
// larger one would drown every other mistake in its rounding.
func (e example) prepare(m *model.Model) (names []string) {
	scale, size := map[string]float64{}, 1.0
	if e.dir != "" {
		size = 1 / math.Sqrt(float64(e.config.C)) // trained weights are smaller than those of Init
	}
	for _, a := range m.Adapters() {
		scale[a.B] = a.Scale
	}
	for _, p := range m.Parameters() {
		names = append(names, p.Name)
		if scale[p.Name] == 0 {
			continue
		}
		values := make([]float32, p.Weights.Len)
		for i := range values {
			values[i] = float32(size * math.Sin(float64(7*i+len(names))) / scale[p.Name])
		}
		m.Device().Write(p.Weights, values)
	}
	return names
}

// distance is the largest difference over the largest entry that is wanted.
func distance(got []float32, want []float64) float64 {
	far, largest := 0.0, 0.0
	for i, w := range want {
		far, largest = math.Max(far, math.Abs(float64(got[i])-w)), math.Max(largest, math.Abs(w))
	}
	if far == 0 {
		return 0
	}
	return far / largest
}

// differences compares each gradient with central differences of the loss along two directions: its own, and a
// random one. It returns the largest difference over the gradient's length.
func differences(ctx context.Context, w Weights, e example, tokens int, names []string, gradients map[string][]float64) (float64, error) {
	g, err := New(w, e.batch, tokens)
	if err != nil {
		return 0, err
	}
	machine := gorgonia.NewTapeMachine(g.graph)
	defer machine.Close()
	r := rand.New(rand.NewPCG(e.init.Seed, 1))
	worst := 0.0
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		values, gradient := w.Values[name], gradients[name]
		length := norm(gradient)
		if length == 0 {
			continue
		}
		random := make([]float64, len(values))
		for i := range random {
			random[i] = r.NormFloat64()
		}
		for _, direction := range [][]float64{gradient, random} {
			slope, err := g.slope(machine, values, direction)
			if err != nil {
				return 0, err
			}
			dot := 0.0
			for i, d := range direction {
				dot += d * gradient[i]
			}
			if d := math.Abs(slope-dot/norm(direction)) / length; !(d <= worst) {
				worst = d
			}
		}
	}
	return worst, nil
}

// slope is the loss's central difference when values move along a direction of length one.
func (g *Graph) slope(machine gorgonia.VM, values, direction []float64) (float64, error) {
	const h = 1e-4 // error h² from the third derivative, 1e-16/h from rounding
	kept, length := slices.Clone(values), norm(direction)
	defer copy(values, kept) // the graph's leaf is this slice
	at := func(h float64) (float64, error) {
		for i, d := range direction {
			values[i] = kept[i] + h*d/length
		}
		machine.Reset()
		return g.run(machine)
	}
	// Richardson's extrapolation of two steps leaves an error of h⁴.
	var loss [4]float64
	for i, step := range []float64{h, -h, 2 * h, -2 * h} {
		var err error
		if loss[i], err = at(step); err != nil {
			return 0, err
		}
	}
	return (8*(loss[0]-loss[1]) - (loss[2] - loss[3])) / (12 * h), nil
}

func norm(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}
