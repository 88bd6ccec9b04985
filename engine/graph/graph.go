//go:build !cuda

package graph

import (
	"context"
	"errors"
	"fmt"
	"math"

	// Gorgonia looks at addresses of Go values; this pin says that it may under this version of Go.
	_ "go4.org/unsafe/assume-no-moving-gc"
	"gorgonia.org/gorgonia"

	"lpipe/engine/model"
)

// Weights are a model's numbers in float64.
type Weights struct {
	Config   model.Config
	Values   map[string][]float64 // by name in model.safetensors, or adapter_model.safetensors
	Adapters []model.AdapterInfo
}

// Read copies the weights and adapters of a model.
func Read(ctx context.Context, m *model.Model) (Weights, error) {
	w := Weights{Config: m.Config, Values: map[string][]float64{}, Adapters: m.Adapters()}
	err := m.Each(ctx, func(name string, _ []int, values []float32) error {
		w.Values[name] = wide(values)
		return nil
	})
	for _, p := range m.Parameters() {
		values := make([]float32, p.Weights.Len)
		m.Device().Read(values, p.Weights)
		w.Values[p.Name] = wide(values)
	}
	return w, errors.Join(err, m.Device().Err())
}

func wide(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// Graph is the loss of one batch as a Gorgonia graph.
type Graph struct {
	nodes
	w      Weights
	b      model.Batch
	N      int                       // tokens, B·T
	leaves map[string]*gorgonia.Node // every weight, by name
	cos    *gorgonia.Node            // [N, D]
	sin    *gorgonia.Node            // [N, D]
	half   *gorgonia.Node            // [D, D]: x·half is rotate_half(x)
	sees   *gorgonia.Node            // [N, N]: 1 where the row's token attends to the column's
	loss   *gorgonia.Node
}

// New builds the graph of a batch's loss: the sum over its targets divided by tokens, as model.Step has it.
func New(w Weights, b model.Batch, tokens int) (*Graph, error) {
	g := &Graph{nodes: nodes{graph: gorgonia.NewGraph()}, w: w, b: b, N: b.B * b.T, leaves: map[string]*gorgonia.Node{}}
	g.constants()
	x := g.embedding()
	for i := range w.Config.Layers {
		prefix := fmt.Sprintf("model.layers.%d.", i)
		x = g.add(x, g.attention(prefix, g.norm(x, prefix+"input_layernorm.weight")))
		x = g.add(x, g.mlp(prefix, g.norm(x, prefix+"post_attention_layernorm.weight")))
	}
	g.loss = g.crossEntropy(g.norm(x, "model.norm.weight"), tokens)
	if g.err != nil {
		return nil, fmt.Errorf("build graph: %w", g.err)
	}
	return g, nil
}

// leaf is the weight of that name, one node however often it is used.
func (g *Graph) leaf(name string, rows, columns int) *gorgonia.Node {
	if g.leaves[name] == nil {
		g.leaves[name] = g.matrix(name, rows, columns, g.w.Values[name])
	}
	return g.leaves[name]
}

// document numbers the documents of the batch: tokens that may see each other have one number.
func (g *Graph) documents() []int {
	b, n := g.b, 0
	numbers := make([]int, g.N)
	for i := range numbers {
		t := i % b.T
		switch {
		case t == 0:
			n++
		case b.Sequence != nil && (b.Sequence[i] == model.Padding || b.Sequence[i] != b.Sequence[i-1]):
			n++
		case b.Sequence == nil && b.Positions != nil && b.Positions[i]-b.Positions[i-1] != 1:
			n++
		}
		numbers[i] = n
	}
	return numbers
}

// constants are what follows from the batch alone: rotations and who sees whom.
func (g *Graph) constants() {
	D := g.w.Config.D
	angle := func(i, j int) float64 {
		position := i % g.b.T
		if g.b.Positions != nil {
			position = int(g.b.Positions[i])
		}
		return float64(position) * frequency(g.w.Config, j%(D/2))
	}
	g.cos = g.fill(g.N, D, func(i, j int) float64 { return math.Cos(angle(i, j)) })
	g.sin = g.fill(g.N, D, func(i, j int) float64 { return math.Sin(angle(i, j)) })
	g.half = g.fill(D, D, func(i, j int) float64 {
		switch {
		case j < D/2 && i == j+D/2:
			return -1
		case j >= D/2 && i == j-D/2:
			return 1
		}
		return 0
	})
	document := g.documents()
	g.sees = g.fill(g.N, g.N, func(i, j int) float64 {
		if j <= i && document[i] == document[j] {
			return 1
		}
		return 0
	})
}

// frequency is the j-th of a head's rotary frequencies. Llama 3's long waves are stretched, here written as a blend
// of both speeds, by how many waves the original length has.
func frequency(c model.Config, j int) float64 {
	f := math.Pow(c.Theta, -float64(2*j)/float64(c.D))
	if s := c.Stretch; s != nil {
		waves := float64(s.Original) * f / (2 * math.Pi)
		kept := min(1, max(0, (waves-s.Low)/(s.High-s.Low)))
		f *= kept + (1-kept)/s.Factor
	}
	return f
}

// embedding multiplies by a matrix that picks each token's row.
func (g *Graph) embedding() *gorgonia.Node {
	c := g.w.Config
	choose := g.fill(g.N, c.V, func(i, j int) float64 {
		if int(g.b.IDs[i]) == j {
			return 1
		}
		return 0
	})
	return g.mul(choose, g.leaf("model.embed_tokens.weight", c.V, c.C))
}

// norm is RMSNorm: x / √(mean x² + eps) · weight.
func (g *Graph) norm(x *gorgonia.Node, name string) *gorgonia.Node {
	return g.normalised(x, name, g.w.Config.C)
}

// normalised is RMSNorm over rows of C values.
func (g *Graph) normalised(x *gorgonia.Node, name string, C int) *gorgonia.Node {
	mean := g.scale(g.sums(g.times(x, x), C), g.N, 1, 1/float64(C))
	root := g.one(gorgonia.Sqrt, g.add(mean, g.all(g.N, 1, float64(g.w.Config.Eps))))
	return g.times(g.over(x, g.columns(root, C)), g.rows(g.leaf(name, 1, C), g.N))
}

// linear is x Wᵀ + bias, and the adapter's part if the module has one. DoRA multiplies each output by its magnitude over the
// norm of its row, which is a constant of the graph: PEFT does not differentiate it.
func (g *Graph) linear(module string, x *gorgonia.Node, in, out int, biased bool) *gorgonia.Node {
	y := g.mul(x, g.transpose(g.leaf(module+".weight", out, in)))
	for _, a := range g.w.Adapters {
		if a.Module != module {
			continue
		}
		low := g.mul(x, g.transpose(g.leaf(a.A, a.Rank, in)))
		y = g.add(y, g.scale(g.mul(low, g.transpose(g.leaf(a.B, out, a.Rank))), g.N, out, a.Scale))
		if a.M != "" {
			inverse := g.fill(1, out, func(_, f int) float64 { return 1 / g.w.rowNorm(a, f) })
			y = g.times(y, g.rows(g.times(g.leaf(a.M, 1, out), inverse), g.N))
		}
	}
	if biased {
		y = g.add(y, g.rows(g.leaf(module+".bias", 1, out), g.N))
	}
	return y
}

// rowNorm is the length of row f of a module's weight with its adapter.
func (w Weights) rowNorm(a model.AdapterInfo, f int) float64 {
	row := append([]float64(nil), w.Values[a.Module+".weight"][f*a.In:][:a.In]...)
	for r := range a.Rank {
		b := a.Scale * w.Values[a.B][f*a.Rank+r]
		for c := range row {
			row[c] += b * w.Values[a.A][r*a.In+c]
		}
	}
	return norm(row)
}

func (g *Graph) attention(prefix string, x *gorgonia.Node) *gorgonia.Node {
	c := g.w.Config
	biased := c.Family == model.Qwen2
	q := g.linear(prefix+"self_attn.q_proj", x, c.C, c.H*c.D, biased)
	k := g.linear(prefix+"self_attn.k_proj", x, c.C, c.KV*c.D, biased)
	v := g.linear(prefix+"self_attn.v_proj", x, c.C, c.KV*c.D, biased)
	head := func(x *gorgonia.Node, width, h int, norm string) *gorgonia.Node {
		one := g.mul(x, g.pick(width, h*c.D, c.D))
		if c.Family == model.Qwen3 {
			one = g.normalised(one, prefix+"self_attn."+norm+".weight", c.D)
		}
		return g.rotate(one)
	}
	var out *gorgonia.Node
	for h := range c.H {
		group := h / (c.H / c.KV)
		query, key := head(q, c.H*c.D, h, "q_norm"), head(k, c.KV*c.D, group, "k_norm")
		value := g.mul(v, g.pick(c.KV*c.D, group*c.D, c.D))
		scores := g.scale(g.mul(query, g.transpose(key)), g.N, g.N, 1/math.Sqrt(float64(c.D)))
		seen := g.times(g.one(gorgonia.Exp, scores), g.sees)
		sum := g.over(g.mul(seen, value), g.columns(g.sums(seen, g.N), c.D))
		wide := g.mul(sum, g.fill(c.D, c.H*c.D, func(i, j int) float64 {
			if j == h*c.D+i {
				return 1
			}
			return 0
		}))
		if out == nil {
			out = wide
		} else {
			out = g.add(out, wide)
		}
	}
	return g.linear(prefix+"self_attn.o_proj", out, c.H*c.D, c.C, false)
}

// rotate is the rotary embedding of one head.
func (g *Graph) rotate(x *gorgonia.Node) *gorgonia.Node {
	return g.add(g.times(x, g.cos), g.times(g.mul(x, g.half), g.sin))
}

func (g *Graph) mlp(prefix string, x *gorgonia.Node) *gorgonia.Node {
	c := g.w.Config
	gate := g.linear(prefix+"mlp.gate_proj", x, c.C, c.F, false)
	up := g.linear(prefix+"mlp.up_proj", x, c.C, c.F, false)
	silu := g.times(gate, g.one(gorgonia.Sigmoid, gate))
	return g.linear(prefix+"mlp.down_proj", g.times(silu, up), c.F, c.C, false)
}

// crossEntropy is Σ over targets of log Σ exp(logits) - logit of the target, divided by tokens.
func (g *Graph) crossEntropy(x *gorgonia.Node, tokens int) *gorgonia.Node {
	c := g.w.Config
	head := "lm_head.weight"
	if c.Tied {
		head = "model.embed_tokens.weight"
	}
	logits := g.mul(x, g.transpose(g.leaf(head, c.V, c.C)))
	document := g.documents()
	target := func(i int) int {
		if i+1 >= g.N || document[i+1] != document[i] {
			return -1
		}
		if g.b.Labels != nil {
			return int(g.b.Labels[i+1])
		}
		return int(g.b.IDs[i+1])
	}
	counts := g.fill(g.N, 1, func(i, _ int) float64 {
		if target(i) < 0 {
			return 0
		}
		return 1 / float64(tokens)
	})
	hit := g.fill(g.N, c.V, func(i, j int) float64 {
		if target(i) == j {
			return 1
		}
		return 0
	})
	all := g.one(gorgonia.Log, g.sums(g.one(gorgonia.Exp, logits), c.V))
	each := g.times(g.minus(all, g.sums(g.times(logits, hit), c.V)), counts)
	return g.one(func(a *gorgonia.Node) (*gorgonia.Node, error) { return gorgonia.Sum(a) }, each)
}

// Loss runs the graph with the present values of its weights.
func (g *Graph) Loss() (float64, error) {
	machine := gorgonia.NewTapeMachine(g.graph)
	defer machine.Close()
	return g.run(machine)
}

func (g *Graph) run(machine gorgonia.VM) (float64, error) {
	if err := machine.RunAll(); err != nil {
		return 0, fmt.Errorf("run graph: %w", err)
	}
	loss, ok := g.loss.Value().Data().(float64)
	if !ok {
		return 0, fmt.Errorf("run graph: the loss is a %T", g.loss.Value().Data())
	}
	return loss, nil
}

// Gradients are the loss and its automatic gradient by each of the named weights.
func (g *Graph) Gradients(names []string) (float64, map[string][]float64, error) {
	var by gorgonia.Nodes
	for _, name := range names {
		leaf := g.leaves[name]
		if leaf == nil {
			return 0, nil, fmt.Errorf("graph: there is no weight %s", name)
		}
		by = append(by, leaf)
	}
	gradients, err := gorgonia.Grad(g.loss, by...)
	if err != nil {
		return 0, nil, fmt.Errorf("differentiate graph: %w", err)
	}
	machine := gorgonia.NewTapeMachine(g.graph, gorgonia.BindDualValues(by...))
	defer machine.Close()
	loss, err := g.run(machine)
	if err != nil {
		return 0, nil, err
	}
	out := map[string][]float64{}
	for i, name := range names {
		values, ok := gradients[i].Value().Data().([]float64)
		if !ok || len(values) != len(g.w.Values[name]) {
			return 0, nil, fmt.Errorf("differentiate graph: the gradient of %s is a %T of another size", name, gradients[i].Value().Data())
		}
		out[name] = append([]float64(nil), values...)
	}
	return loss, out, nil
}
