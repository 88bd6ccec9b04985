package model

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/engine/ops"
)

func TestForward(t *testing.T) {
	for _, name := range []string{"forward_padded", "forward_padded_tied", "forward_headdim", "forward_packed"} {
		t.Run(name, func(t *testing.T) {
			f := open(t, name)
			want := f.tensors(t, "expected.safetensors")
			b := f.tensors(t, "inputs.safetensors").batch("")
			on := b.real()
			devices(t, func(t *testing.T, dev ops.Device) {
				m := load(t, f.Model, dev, Options{})
				logits := allLogits(t, m, b)
				near(t, "logits", logits, want.floats("logits"), 1e-5, 4e-5, on)
				if f.has("reference64.safetensors") {
					near(t, "logits against float64", logits, f.tensors(t, "reference64.safetensors").floats("logits"), 1e-5, 4e-5, on)
				}
				hidden(t, m, b, want, on)
			})
		})
	}
}

// hidden compares what stands between the layers, and in them where the case has it.
func hidden(t *testing.T, m *Model, b Batch, want tensorFile, on []bool) {
	if err := m.begin(b, true); err != nil {
		t.Fatal(err)
	}
	m.forward(nil)
	p, c := &m.plan, m.Config
	stream := func(i int) []float32 {
		if i < len(m.layers) {
			return read(m, p.layers[i].x)
		}
		return read(m, p.x)
	}
	for i := range m.layers {
		near(t, fmt.Sprintf("hidden.%d", i), stream(i), want.floats(fmt.Sprintf("hidden.%d", i)), 1e-5, 4e-5, on)
	}
	last := len(m.layers)
	near(t, "last hidden", read(m, p.out), want.floats(fmt.Sprintf("hidden.%d", last)), 1e-5, 4e-5, on)
	if _, ok := want.Tensor("layers.0.q_proj"); !ok {
		return
	}
	for i := range m.layers {
		a := &p.layers[i]
		m.dev.RoPEBackward(a.qkv, p.cos, p.sin, p.N, c.H, c.KV, c.D) // the case has them before the rotation
		qkv, gateUp := read(m, a.qkv), read(m, a.gateUp)
		mid := read(m, a.mid)
		for name, got := range map[string][]float32{
			"input_layernorm":          read(m, a.norm1),
			"q_proj":                   columns(qkv, c.QKV(), 0, c.H*c.D),
			"k_proj":                   columns(qkv, c.QKV(), c.H*c.D, c.KV*c.D),
			"v_proj":                   columns(qkv, c.QKV(), (c.H+c.KV)*c.D, c.KV*c.D),
			"attention":                read(m, a.attention),
			"o_proj":                   minus(mid, stream(i)),
			"post_attention_layernorm": read(m, a.norm2),
			"gate_proj":                columns(gateUp, 2*c.F, 0, c.F),
			"up_proj":                  columns(gateUp, 2*c.F, c.F, c.F),
			"swiglu":                   read(m, a.h),
			"down_proj":                minus(stream(i+1), mid),
		} {
			full := fmt.Sprintf("layers.%d.%s", i, name)
			near(t, full, got, want.floats(full), 1e-5, 4e-5, on)
		}
	}
}

func columns(x []float32, width, from, n int) []float32 {
	var out []float32
	for at := 0; at < len(x); at += width {
		out = append(out, x[at+from:at+from+n]...)
	}
	return out
}

func minus(a, b []float32) []float32 {
	out := make([]float32, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

func TestRoPE(t *testing.T) {
	f := open(t, "rope")
	want := f.tensors(t, "expected.safetensors")
	positions, _ := want.ints("positions")
	devices(t, func(t *testing.T, dev ops.Device) {
		for _, D := range []int{16, 64, 128} {
			freq := Config{D: D, Theta: 1e6}.frequencies()
			near(t, fmt.Sprint("inv_freq.", D), freq, want.floats(fmt.Sprint("inv_freq.", D)), 2e-7, 0, nil)
			n := len(positions)
			table, at := dev.Alloc(D/2), dev.AllocInts(n)
			cos, sin := dev.Alloc(n*D/2), dev.Alloc(n*D/2)
			dev.Write(table, freq)
			dev.WriteInts(at, positions)
			dev.RoPETable(cos, sin, table, at, n, D)
			for name, buf := range map[string]ops.Buf{"cos": cos, "sin": sin} {
				got := make([]float32, n*D/2)
				dev.Read(got, buf)
				full := want.floats(fmt.Sprint(name, ".", D))
				near(t, fmt.Sprint(name, ".", D), got, columns(full, D, 0, D/2), 0, 2e-6, nil)
			}
		}
	})
}

func TestLoss(t *testing.T) {
	f := open(t, "loss")
	inputs, want := f.tensors(t, "inputs.safetensors"), f.tensors(t, "expected.safetensors")
	batches := []Batch{inputs.batch(".0"), inputs.batch(".1")}
	if n := batches[0].Targets() + batches[1].Targets(); n != f.Items {
		t.Errorf("%d targets, want %d", n, f.Items)
	}
	devices(t, func(t *testing.T, dev ops.Device) {
		m := load(t, f.Model, dev, Options{})
		trained := load(t, f.Model, dev, Options{Method: TrainFull})
		sum := 0.0
		for i, b := range batches {
			loss, err := m.Loss(b, f.Items)
			if err != nil {
				t.Fatal(err)
			}
			nearNumber(t, fmt.Sprint("loss.", i), loss, float64(want.floats(fmt.Sprint("loss.", i))[0]), 2e-6)
			near(t, fmt.Sprint("token_loss.", i), m.TokenLosses(), want.floats(fmt.Sprint("token_loss.", i)), 1e-5, 1e-5, nil)
			sum += loss
			again, err := trained.Step(b, f.Items)
			if err != nil || again != loss {
				t.Errorf("Step gives loss %g, Loss %g, error %v", again, loss, err)
			}
			// The gradient of the logits never exists; that of what the head saw is dlogits W.
			near(t, fmt.Sprint("head gradient of batch ", i), headGradient(t, f, trained, b),
				times(want.floats(fmt.Sprint("dlogits.", i)), read(trained, trained.head.Values), m.Config.V, m.Config.C), 1e-4, 1e-7, b.real())
		}
		nearNumber(t, "loss", sum, float64(want.floats("loss")[0]), 2e-6)
	})
}

// headGradient runs the head alone.
func headGradient(t *testing.T, f fixture, m *Model, b Batch) []float32 {
	t.Helper()
	if err := m.begin(b, true); err != nil {
		t.Fatal(err)
	}
	m.forward(nil)
	m.loss(m.plan.nll, 1/float32(f.Items), true)
	return read(m, m.plan.dnorm)
}

// times is a [n, k] times b [k, width], in float64.
func times(a, b []float32, k, width int) []float32 {
	out := make([]float32, len(a)/k*width)
	for i := range len(a) / k {
		row := make([]float64, width)
		for j := range k {
			for c := range width {
				row[c] += float64(a[i*k+j]) * float64(b[j*width+c])
			}
		}
		for c, v := range row {
			out[i*width+c] = float32(v)
		}
	}
	return out
}

func TestLoRAGradients(t *testing.T) {
	for _, name := range []string{"lora_grads", "lora_grads_packed", "lora_grads_patterns", "lora_grads_rslora", "lora_grads_subset", "lora_grads_dora", "lora_grads_qwen3", "lora_grads_llama"} {
		t.Run(name, func(t *testing.T) {
			f := open(t, name)
			want := f.tensors(t, "expected.safetensors")
			b := f.tensors(t, "inputs.safetensors").batch("")
			devices(t, func(t *testing.T, dev ops.Device) {
				m := load(t, f.Model, dev, Options{Method: TrainLoRA, Adapter: filepath.Join(f.dir, "adapter")})
				gradients(t, m, b, f.Items, want)
				near(t, "logits", allLogits(t, m, b), want.floats("logits"), 1e-5, 6e-5, b.real())
				if !f.has("reference64.safetensors") {
					return
				}
				want64 := f.tensors(t, "reference64.safetensors")
				for _, p := range m.Parameters() {
					nearMax(t, p.Name+" against float64", read(m, p.Grad), want64.floats("grad."+p.Name), 5e-5)
				}
			})
		})
	}
}

func TestFullGradients(t *testing.T) {
	for _, name := range []string{"full_grads", "full_grads_tied", "full_grads_qwen3", "full_grads_llama"} {
		t.Run(name, func(t *testing.T) {
			f := open(t, name)
			want := f.tensors(t, "expected.safetensors")
			b := f.tensors(t, "inputs.safetensors").batch("")
			devices(t, func(t *testing.T, dev ops.Device) {
				m := load(t, f.Model, dev, Options{Method: TrainFull})
				gradients(t, m, b, f.Items, want)
				sum := dev.Alloc(1)
				dev.SumSquares(sum, m.Gradients(), m.Gradients().Len)
				nearNumber(t, "grad_norm", math.Sqrt(float64(read(m, sum)[0])), float64(want.floats("grad_norm")[0]), 1e-5)
			})
		})
	}
}

// gradients compares the loss and the gradients of all trained tensors, of which there must be as many as in
// the case; then two half steps must give what one gave.
func gradients(t *testing.T, m *Model, b Batch, items int, want tensorFile) {
	t.Helper()
	if n := b.Targets(); n != items {
		t.Errorf("%d targets, want %d", n, items)
	}
	loss, err := m.Step(b, items)
	if err != nil {
		t.Fatal(err)
	}
	nearNumber(t, "loss", loss, float64(want.floats("loss")[0]), 2e-6)
	n := 0
	for _, tensor := range want.Tensors() {
		if strings.HasPrefix(tensor.Name, "grad.") {
			n++
		}
	}
	if n != len(m.Parameters()) {
		t.Errorf("%d tensors are trained, want %d", len(m.Parameters()), n)
	}
	check := func(what string) {
		for _, p := range m.Parameters() {
			nearMax(t, p.Name+what, read(m, p.Grad), want.floats("grad."+p.Name), 5e-5)
		}
	}
	check("")
	m.ZeroGrad()
	for range 2 {
		if _, err := m.Step(b, 2*items); err != nil {
			t.Fatal(err)
		}
	}
	check(" after two half steps")
}

func TestGreedy(t *testing.T) {
	f := open(t, "generate_greedy")
	inputs, want := f.tensors(t, "inputs.safetensors"), f.tensors(t, "expected.safetensors")
	devices(t, func(t *testing.T, dev ops.Device) {
		m := load(t, f.Model, dev, Options{})
		var prompts [][]int32
		for i := range 3 {
			prompt, _ := inputs.ints(fmt.Sprint("prompt.", i))
			prompts = append(prompts, prompt)
			tokens, logits := greedy(t, m, [][]int32{prompt}, 32, 1)
			expected, _ := want.ints(fmt.Sprint("tokens.", i))
			same(t, fmt.Sprint("tokens.", i), tokens[0], expected)
			if i == 0 {
				near(t, "step_logits.0", logits, want.floats("step_logits.0"), 1e-5, 5e-5, nil)
			}
		}
		for _, chunk := range []int{1, 3, 100} { // tokens of a prompt that are fed at once
			tokens, _ := greedy(t, m, prompts, 32, chunk)
			batch, _ := want.ints("batch_tokens")
			for i := range prompts {
				same(t, fmt.Sprintf("tokens of row %d, prompts in pieces of %d", i, chunk), tokens[i], batch[32*i:32*(i+1)])
			}
		}
	})
}

// TestLeftPadding: padding in front of a prompt changes nothing.
func TestLeftPadding(t *testing.T) {
	f := open(t, "generate_greedy")
	inputs, want := f.tensors(t, "inputs.safetensors"), f.tensors(t, "expected.safetensors")
	ids, shape := inputs.ints("batch_input_ids")
	mask, _ := inputs.ints("batch_attention_mask")
	tokens, _ := want.ints("batch_tokens")
	b := Batch{B: shape[0], T: shape[1], IDs: ids, Positions: make([]int32, len(ids)), Sequence: make([]int32, len(ids))}
	for i, on := range mask {
		if on == 0 {
			b.Sequence[i] = Padding
		} else if i%b.T > 0 && mask[i-1] == 1 {
			b.Positions[i] = b.Positions[i-1] + 1
		}
	}
	devices(t, func(t *testing.T, dev ops.Device) {
		m := load(t, f.Model, dev, Options{})
		logits := allLogits(t, m, b)
		for row := range b.B {
			last := (row+1)*b.T - 1
			if got := best(logits[last*m.Config.V : (last+1)*m.Config.V]); got != tokens[row*32] {
				t.Errorf("row %d goes on with %d, want %d", row, got, tokens[row*32])
			}
		}
		V, last := m.Config.V, b.T-1
		if mask[0] == 0 { // the case has the logits of the first prompt
			near(t, "logits of row 0", logits[last*V:(last+1)*V], want.floats("step_logits.0")[:V], 1e-5, 5e-5, nil)
		}
	})
}

func best(logits []float32) int32 {
	best := 0
	for id := range logits {
		if logits[id] > logits[best] {
			best = id
		}
	}
	return int32(best)
}

// greedy decodes prompts of different length together, and returns the logits of the first one.
func greedy(t *testing.T, m *Model, prompts [][]int32, n, chunk int) (tokens [][]int32, logits []float32) {
	t.Helper()
	cache, err := m.NewCache(len(prompts), 64)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Free()
	tokens = make([][]int32, len(prompts))
	rest := append([][]int32{}, prompts...)
	for len(tokens[0]) < n || len(tokens[len(tokens)-1]) < n {
		var feeds []Feed
		for i := range rest {
			if k := min(chunk, len(rest[i])); k > 0 && len(tokens[i]) < n {
				feeds = append(feeds, Feed{i, rest[i][:k]})
				rest[i] = rest[i][k:]
			}
		}
		out, err := m.Decode(cache, feeds)
		if err != nil {
			t.Fatal(err)
		}
		V := m.Config.V
		for k, f := range feeds {
			if len(rest[f.Slot]) > 0 {
				continue
			}
			row := out[k*V : (k+1)*V]
			if f.Slot == 0 {
				logits = append(logits, row...)
			}
			next := best(row)
			tokens[f.Slot] = append(tokens[f.Slot], next)
			rest[f.Slot] = []int32{next}
		}
	}
	return tokens, logits
}

func same(t *testing.T, what string, got, want []int32) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s:\ngot  %v\nwant %v", what, got, want)
	}
}
