package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lpipe/engine/nf4"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// Quantisation is how bitsandbytes has stored a checkpoint's linears: NF4 in blocks of 64
// (https://huggingface.co/docs/transformers/quantization/bitsandbytes).
type Quantisation struct {
	Double bool              // the blocks' scales are in 8 bits
	DType  safetensors.DType // F32 or BF16: what a code stands for is rounded to it
}

// quantisationKey stands in config.json.
const quantisationKey = "quantization_config"

// quantisation reads it, and refuses every other kind.
func (f *configFile) quantisation() (*Quantisation, error) {
	if len(f.Quantization) == 0 || string(f.Quantization) == "null" {
		return nil, nil
	}
	var q struct {
		Method  string `json:"quant_method"`
		Four    bool   `json:"load_in_4bit"`
		Kind    string `json:"bnb_4bit_quant_type"`
		Storage string `json:"bnb_4bit_quant_storage"`
		Double  bool   `json:"bnb_4bit_use_double_quant"`
	}
	if err := json.Unmarshal(f.Quantization, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", quantisationKey, err)
	}
	if q.Method != "bitsandbytes" || !q.Four || q.Kind != "nf4" || (q.Storage != "" && q.Storage != "uint8") {
		return nil, fmt.Errorf("%s is %s: only bitsandbytes' nf4, stored as uint8, can be read; take the original model", quantisationKey, f.Quantization)
	}
	return &Quantisation{Double: q.Double}, nil
}

// encode is quantization_config as transformers writes it.
func (q Quantisation) encode() (json.RawMessage, error) {
	return json.Marshal(map[string]any{
		"_load_in_4bit": true, "_load_in_8bit": false, "load_in_4bit": true, "load_in_8bit": false,
		"bnb_4bit_compute_dtype": q.torchName(), "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": "nf4",
		"bnb_4bit_use_double_quant": q.Double, "llm_int8_enable_fp32_cpu_offload": false, "llm_int8_has_fp16_weight": false,
		"llm_int8_skip_modules": nil, "llm_int8_threshold": fraction(6), "quant_method": "bitsandbytes",
	})
}

func (q Quantisation) torchName() string {
	if q.DType == safetensors.F32 {
		return "float32"
	}
	return "bfloat16"
}

// The tensors that stand beside X.weight in a checkpoint, and the state's text.
const (
	absmaxName       = ".absmax"
	mapName          = ".quant_map"
	nestedAbsmaxName = ".nested_absmax"
	nestedMapName    = ".nested_quant_map"
	stateName        = ".quant_state.bitsandbytes__nf4"
)

// names are all tensors of a quantised weight.
func (q Quantisation) names(weight string) []string {
	all := []string{weight, weight + absmaxName, weight + mapName, weight + stateName}
	if q.Double {
		all = append(all, weight+nestedAbsmaxName, weight+nestedMapName)
	}
	return all
}

// quantState is bitsandbytes' QuantState.as_dict, as far as it is text.
type quantState struct {
	Type        string  `json:"quant_type"`
	Block       int     `json:"blocksize"`
	DType       string  `json:"dtype"`
	Shape       []int   `json:"shape"`
	NestedBlock int     `json:"nested_blocksize"`
	Offset      float64 `json:"nested_offset"`
}

// text is the state as Python writes JSON.
func (s quantState) text(double bool) string {
	b := fmt.Sprintf(`{"quant_type": "nf4", "blocksize": %d, "dtype": %q, "shape": [%d, %d]`, s.Block, s.DType, s.Shape[0], s.Shape[1])
	if double {
		offset := strconv.FormatFloat(s.Offset, 'g', -1, 64)
		if !strings.ContainsAny(offset, ".e") {
			offset += ".0"
		}
		b += fmt.Sprintf(`, "nested_blocksize": %d, "nested_dtype": "float32", "nested_offset": %s`, s.NestedBlock, offset)
	}
	return b + "}"
}

// check lists what is wrong with a quantised weight's tensors, and takes the type from its state. names are those that
// belong to it.
func (q *Quantisation) check(files *safetensors.Folder, t tensor) (names []string, wrong []error) {
	type size struct {
		d safetensors.DType
		n int
	}
	n := t.len()
	want := map[string]size{
		t.name: {safetensors.U8, nf4.Bytes(n)}, t.name + absmaxName: {safetensors.F32, nf4.Blocks(n)}, t.name + mapName: {safetensors.F32, 16},
	}
	if q.Double {
		want[t.name+absmaxName] = size{safetensors.U8, nf4.Blocks(n)}
		want[t.name+nestedAbsmaxName] = size{safetensors.F32, (nf4.Blocks(n) + nf4.NestedBlock - 1) / nf4.NestedBlock}
		want[t.name+nestedMapName] = size{safetensors.F32, 256}
	}
	names = q.names(t.name)
	for _, name := range names {
		got, ok := files.Tensor(name)
		w, sized := want[name]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("tensor %s is missing", name))
		case sized && (got.DType != w.d || got.Len() != w.n):
			wrong = append(wrong, fmt.Errorf("tensor %s is %s %v where a 4-bit weight of shape %v needs %d of type %s", name, got.DType, got.Shape, t.shape, w.n, w.d))
		}
	}
	if len(wrong) > 0 {
		return names, wrong
	}
	return names, q.checkState(files, t)
}

// checkState refuses everything but blocks of 64 in NF4 with the usual tables.
func (q *Quantisation) checkState(files *safetensors.Folder, t tensor) (wrong []error) {
	s, err := q.state(files, t)
	if err != nil {
		return []error{err}
	}
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf("tensor %s: "+format, append([]any{t.name}, args...)...))
		}
	}
	refuse(s.Type != "nf4", "its quant_type is %q; only nf4 can be computed", s.Type)
	refuse(s.Block != nf4.Block, "its blocks have %d values; only %d can be computed: quantise the original model with lpipe quantize", s.Block, nf4.Block)
	refuse(!slices.Equal(s.Shape, t.shape), "its state says shape %v where config.json needs %v", s.Shape, t.shape)
	refuse(q.Double && s.NestedBlock != nf4.NestedBlock, "its nested blocks have %d values; only %d can be computed", s.NestedBlock, nf4.NestedBlock)
	var d safetensors.DType
	switch s.DType {
	case "float32":
		d = safetensors.F32
	case "bfloat16":
		d = safetensors.BF16
	default:
		refuse(true, "it stands for %s values; float32 and bfloat16 can be computed", s.DType)
		return wrong
	}
	refuse(q.DType != "" && q.DType != d, "it stands for %s values, other weights for %s", d, q.DType)
	q.DType = d
	return append(wrong, q.checkTables(files, t)...)
}

func (q *Quantisation) checkTables(files *safetensors.Folder, t tensor) (wrong []error) {
	values := nf4.Values()
	tables := map[string][]float32{mapName: values[:]}
	if q.Double {
		tables[nestedMapName] = nf4.DynamicMap()
	}
	for name, want := range tables {
		got := make([]float32, len(want))
		if err := files.Float32(t.name+name, got); err != nil {
			wrong = append(wrong, err)
		} else if !slices.Equal(got, want) {
			wrong = append(wrong, fmt.Errorf("tensor %s is another table than bitsandbytes' own", t.name+name))
		}
	}
	return wrong
}

func (q *Quantisation) state(files *safetensors.Folder, t tensor) (s quantState, err error) {
	text, err := files.Bytes(t.name + stateName)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("tensor %s: %w", t.name+stateName, err)
	}
	return s, nil
}

// quantised is one weight: codes and the scales of its blocks.
type quantised struct {
	codes  []uint8
	absmax []float32
}

// read gives codes and restored scales of a weight that check has accepted.
func (q *Quantisation) read(files *safetensors.Folder, t tensor) (quantised, error) {
	w := quantised{absmax: make([]float32, nf4.Blocks(t.len()))}
	var err error
	if w.codes, err = files.Bytes(t.name); err != nil {
		return w, err
	}
	if !q.Double {
		return w, files.Float32(t.name+absmaxName, w.absmax)
	}
	s, err := q.state(files, t)
	if err != nil {
		return w, err
	}
	n := nf4.Nested{Offset: float32(s.Offset), Scales: make([]float32, (len(w.absmax)+nf4.NestedBlock-1)/nf4.NestedBlock)}
	if n.Codes, err = files.Bytes(t.name + absmaxName); err != nil {
		return w, err
	}
	if err := files.Float32(t.name+nestedAbsmaxName, n.Scales); err != nil {
		return w, err
	}
	n.Restore(w.absmax)
	return w, nil
}

// values sets dst to a tensor's values, whether it is quantised or not.
func (c Config) values(files *safetensors.Folder, t tensor, dst []float32) error {
	if c.Quantised == nil || !t.linear() {
		return files.Float32(t.name, dst)
	}
	w, err := c.Quantised.read(files, t)
	if err != nil {
		return err
	}
	nf4.Decode(dst, w.codes, w.absmax, 0, c.Quantised.DType == safetensors.BF16)
	return nil
}

// dequantised is the configuration of a model written in plain numbers; in types it notes what those of the linears are.
func (c Config) dequantised(types map[string]safetensors.DType) Config {
	if c.Quantised != nil {
		for _, m := range c.allModules() {
			types[m.fullName+".weight"] = c.Quantised.DType
		}
		c.Quantised = nil
	}
	return c
}

// quantise makes 4-bit weights of values, rounded to bfloat16 first where half is true.
func quantise(values []float32, half, double bool) quantised {
	if half {
		nf4.Round(values)
	}
	w := quantised{make([]uint8, nf4.Bytes(len(values))), make([]float32, nf4.Blocks(len(values)))}
	nf4.Quantise(w.codes, w.absmax, values)
	if double {
		nf4.Double(w.absmax).Restore(w.absmax)
	}
	return w
}

// linearType is how the layers' linears are stored.
func (m *Model) linearType(o Options) (ops.Type, error) {
	c := m.Config
	t := o.Weights
	switch {
	case c.Quantised != nil && c.Quantised.DType == safetensors.BF16, c.Quantised == nil && o.NF4 && o.Weights != ops.F32:
		t = ops.NF4BF16
	case c.Quantised != nil, o.NF4:
		t = ops.NF4
	default:
		return t, nil
	}
	for _, mod := range c.modules(0) {
		if mod.from*mod.in%nf4.Block != 0 {
			return t, errors.New("4-bit weights: a block of 64 values would begin in one projection and end in the next, which are " +
				"computed as one: train with quantize = \"none\"")
		}
	}
	return t, nil
}

// storeNF4 copies a quantised tensor to the device.
func (m *Model) storeNF4(t tensor, w quantised) {
	p := m.places[t.name]
	m.dev.WriteNF4(p.weight, p.row, w.codes, w.absmax)
}
