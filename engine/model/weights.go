package model

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// checkTensors lists every tensor that is missing, has another shape than config.json says, or is unknown. The
// vocabulary's size is taken from the embedding: trimmed re-uploads leave config.json as it was.
func (c *Config) checkTensors(dir string, files *safetensors.Folder) error {
	c.rowsOf(files)
	var wrong []error
	known := map[string]bool{}
	for _, want := range c.tensors() {
		known[want.name] = true
		if c.Quantised != nil && want.linear() {
			names, errs := c.Quantised.check(files, want)
			wrong = append(wrong, errs...)
			for _, name := range names {
				known[name] = true
			}
			continue
		}
		got, ok := files.Tensor(want.name)
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("tensor %s is missing", want.name))
		case !slices.Equal(got.Shape, want.shape):
			wrong = append(wrong, fmt.Errorf("tensor %s has shape %v where config.json needs %v", want.name, got.Shape, want.shape))
		case got.DType != safetensors.F32 && got.DType != safetensors.BF16 && got.DType != safetensors.F16:
			wrong = append(wrong, fmt.Errorf("tensor %s has type %s; float32, bfloat16 and float16 can be read", want.name, got.DType))
		}
	}
	for _, t := range files.Tensors() {
		if !known[t.Name] && !c.superfluous(t.Name) {
			wrong = append(wrong, fmt.Errorf("tensor %s is not part of %s", t.Name, c.Family.traits().class))
		}
	}
	if err := together(wrong); err != nil {
		return fmt.Errorf("the weights of model %s do not fit its config.json (both must come from one model, whole):\n%w", dir, err)
	}
	return nil
}

// layerNumber finds the layer in a message about one of its tensors.
var layerNumber = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\.layers\.(\d+)\.`) })

// together joins messages, those that differ only in the layer as one: "model.layers.{0-27}.mlp.up_proj.weight is missing".
func together(wrong []error) error {
	layers := map[string][]int{} // by the message around the layer's number
	var order []string
	for _, err := range wrong {
		text := err.Error()
		at := layerNumber().FindStringSubmatchIndex(text)
		if at == nil {
			order = append(order, text)
			continue
		}
		n, _ := strconv.Atoi(text[at[2]:at[3]])
		around := text[:at[2]] + "\x00" + text[at[3]:]
		if layers[around] == nil {
			order = append(order, around)
		}
		layers[around] = append(layers[around], n)
	}
	var joined []error
	for _, text := range order {
		joined = append(joined, errors.New(strings.Replace(text, "\x00", spans(layers[text]), 1)))
	}
	return errors.Join(joined...)
}

// spans writes numbers, in any order, as "3" or "{0-3,7}".
func spans(numbers []int) string {
	slices.Sort(numbers)
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}
		parts, i = append(parts, part), j+1
	}
	if len(numbers) == 1 {
		return parts[0]
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// place is where a tensor of the weight files lies on the device: a vector, or rows of a weight.
type place struct {
	vector    ops.Buf
	weight    ops.Weight
	row, rows int
	grad      ops.Buf
}

// values is the memory of a tensor that can be trained.
func (p place) values() ops.Buf {
	if p.vector.Present() {
		return p.vector
	}
	cols := p.weight.Cols
	return p.weight.Values.Slice(p.row*cols, (p.row+p.rows)*cols)
}

// allocate makes all weights, those of the layers' linears stored as narrow, the others as t, and, when all are trained,
// their gradients.
func (m *Model) allocate(t, narrow ops.Type) {
	c, d := m.Config, m.dev
	if t == ops.BF16 && narrow.Is4Bit() && !d.Info().TensorCores {
		t = ops.BF16Exact // products with 4-bit weights are float32 there, so is the head's
	}
	size, vectors := 0, 0
	for _, t := range c.tensors() {
		size += t.len()
		if t.vector() {
			vectors += t.len()
		}
	}
	if m.Method == TrainFull {
		m.gradients = d.Alloc(size)
	}
	m.vectors = d.Alloc(vectors)
	m.freq = d.Alloc(c.D / 2)
	m.embed = d.AllocWeight(t, c.V, c.C)
	m.head = m.embed
	if !c.Tied {
		m.head = d.AllocWeight(t, c.V, c.C)
	}
	m.layers = make([]layer, c.Layers)
	for i := range m.layers {
		m.layers[i].linears = [linears]linear{
			linQKV:    {C: c.C, F: c.QKV()},
			linO:      {C: c.H * c.D, F: c.C},
			linGateUp: {C: c.C, F: 2 * c.F},
			linDown:   {C: c.F, F: c.C},
		}
		for j := range m.layers[i].linears {
			lin := &m.layers[i].linears[j]
			lin.w = d.AllocWeight(narrow, lin.F, lin.C)
		}
	}
	if d.Err() == nil {
		m.lay()
		d.Write(m.freq, c.frequencies())
	}
}

// lay cuts vectors and gradients into pieces and notes the place of every tensor.
func (m *Model) lay() {
	c := m.Config
	vectors, gradients := cutter{m.vectors, 0}, cutter{m.gradients, 0}
	m.places = map[string]place{}
	add := func(name string, p place) { m.places[name] = p }

	m.dembed = gradients.cut(c.V * c.C)
	add(embedName, place{weight: m.embed, rows: c.V, grad: m.dembed})
	for i := range m.layers {
		l := &m.layers[i]
		for j := range l.linears {
			lin := &l.linears[j]
			lin.dw = gradients.cut(lin.F * lin.C)
			if j == linQKV && c.Family.traits().biased {
				lin.bias, lin.db = vectors.cut(lin.F), gradients.cut(lin.F)
			}
		}
		for _, mod := range c.modules(i) {
			lin := &l.linears[mod.linear]
			add(mod.fullName+".weight", place{
				weight: lin.w, row: mod.from, rows: mod.out,
				grad: part(lin.dw, mod.from*lin.C, mod.out*lin.C),
			})
			if mod.biased {
				add(mod.fullName+".bias", place{vector: part(lin.bias, mod.from, mod.out), grad: part(lin.db, mod.from, mod.out)})
			}
		}
		if c.Family.traits().qkNorm {
			l.normQ, l.dnormQ = vectors.cut(c.D), gradients.cut(c.D)
			l.normK, l.dnormK = vectors.cut(c.D), gradients.cut(c.D)
			add(fmt.Sprintf("model.layers.%d.self_attn.q_norm.weight", i), place{vector: l.normQ, grad: l.dnormQ})
			add(fmt.Sprintf("model.layers.%d.self_attn.k_norm.weight", i), place{vector: l.normK, grad: l.dnormK})
		}
		l.norm1, l.dnorm1 = vectors.cut(c.C), gradients.cut(c.C)
		l.norm2, l.dnorm2 = vectors.cut(c.C), gradients.cut(c.C)
		add(fmt.Sprintf("model.layers.%d.input_layernorm.weight", i), place{vector: l.norm1, grad: l.dnorm1})
		add(fmt.Sprintf("model.layers.%d.post_attention_layernorm.weight", i), place{vector: l.norm2, grad: l.dnorm2})
	}
	m.norm, m.dnorm = vectors.cut(c.C), gradients.cut(c.C)
	add(normName, place{vector: m.norm, grad: m.dnorm})
	m.dhead = m.dembed
	if !c.Tied {
		m.dhead = gradients.cut(c.V * c.C)
		add(headName, place{weight: m.head, rows: c.V, grad: m.dhead})
	}
}

// cutter cuts one allocation into pieces; of an absent one every piece is absent.
type cutter struct {
	from ops.Buf
	at   int
}

func (c *cutter) cut(n int) ops.Buf {
	b := part(c.from, c.at, n)
	c.at += n
	return b
}

// part is n values of b from at on, or absent if b is.
func part(b ops.Buf, at, n int) ops.Buf {
	if !b.Present() {
		return ops.Buf{}
	}
	return b.Slice(at, at+n)
}

// readValues is how many values of a tensor are read at a time.
const readValues = 1 << 20

// read copies the weights to the device, part by part. Only what is quantised on the way is read a whole tensor at a time.
func (m *Model) read(ctx context.Context, files *safetensors.Folder) error {
	var buf []float32
	for _, t := range m.Config.tensors() {
		if err := errors.Join(ctx.Err(), m.dev.Err()); err != nil {
			return err
		}
		if c := m.Config.Quantised; c != nil && t.linear() {
			q, err := c.read(files, t)
			if err != nil {
				return err
			}
			m.storeNF4(t, q)
			continue
		}
		part := min(t.len(), max(1, readValues/t.cols())*t.cols())
		if p := m.places[t.name]; p.vector.Present() || p.weight.Type.Is4Bit() {
			part = t.len()
		}
		if cap(buf) < part {
			buf = make([]float32, part)
		}
		for from := 0; from < t.len(); from += part {
			values := buf[:min(part, t.len()-from)]
			if err := files.Float32Part(t.name, from, values); err != nil {
				return err
			}
			m.storeRows(t, from/t.cols(), values)
		}
	}
	return nil
}

// storeRows copies whole rows of a tensor to the device, from one of its rows on.
func (m *Model) storeRows(t tensor, row int, values []float32) {
	if p := m.places[t.name]; row > 0 || len(values) < t.len() {
		m.dev.WriteWeight(p.weight, p.row+row, values)
		return
	}
	m.store(t, values)
}

// store copies a tensor's values to the device, fetch back.
func (m *Model) store(t tensor, values []float32) {
	p := m.places[t.name]
	if p.vector.Present() {
		m.dev.Write(p.vector, values)
	} else if p.weight.Type.Is4Bit() {
		m.storeNF4(t, quantise(values, p.weight.Type == ops.NF4BF16, m.double))
	} else {
		m.dev.WriteWeight(p.weight, p.row, values)
	}
}

func (m *Model) fetch(t tensor, values []float32) {
	p := m.places[t.name]
	if p.vector.Present() {
		m.dev.Read(values, p.vector)
	} else {
		m.dev.ReadWeight(values, p.weight, p.row)
	}
}
