package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/engine/safetensors"
)

// The files of a PEFT adapter folder.
const (
	adapterConfig  = "adapter_config.json"
	adapterWeights = "adapter_model.safetensors"
)

// Adapter is an open PEFT folder whose tensors fit a model.
type Adapter struct {
	LoRA LoRA
	Base string // the model that it says it was made for
	file *safetensors.File
	rank map[string]int // by full module name
}

// Close closes its files.
func (a *Adapter) Close() error { return a.file.Close() }

// OpenAdapter reads adapter_config.json and the header of adapter_model.safetensors of a PEFT folder, and checks
// that they fit a model of shape c. The error lists everything that does not.
func OpenAdapter(dir string, c Config) (*Adapter, error) {
	path := filepath.Join(dir, adapterConfig)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not an adapter folder: it has no %s", dir, adapterConfig)
	} else if err != nil {
		return nil, fmt.Errorf("read adapter: %w", err)
	}
	a := &Adapter{rank: map[string]int{}}
	listed, err := a.parse(text)
	if err != nil {
		return nil, fmt.Errorf("adapter configuration %s: %w", path, atLine(text, err))
	}
	a.file, err = safetensors.Open(filepath.Join(dir, adapterWeights))
	if errors.Is(err, fs.ErrNotExist) {
		if _, old := os.Stat(filepath.Join(dir, "adapter_model.bin")); old == nil {
			return nil, fmt.Errorf("adapter %s holds its weights as adapter_model.bin, which is not read: save it as safetensors (PEFT's save_pretrained does)", dir)
		}
		return nil, fmt.Errorf("adapter %s is not whole: it has no %s", dir, adapterWeights)
	} else if err != nil {
		return nil, err
	}
	if err := a.check(c, listed); err != nil {
		a.file.Close()
		base := ""
		if a.Base != "" {
			base = fmt.Sprintf(" (made for %s)", a.Base)
		}
		return nil, fmt.Errorf("adapter %s%s does not fit the model; give the one that it was trained on:\n%w", dir, base, err)
	}
	return a, nil
}

// parse reads what adapter_config.json says and refuses every kind of adapter that forward.go does not compute.
// listed says whether target_modules is a plain list, so that each module that it names must have its tensors.
func (a *Adapter) parse(text []byte) (listed bool, err error) {
	f := struct {
		Type      string          `json:"peft_type"`
		Base      string          `json:"base_model_name_or_path"`
		R         int             `json:"r"`
		Alpha     float64         `json:"lora_alpha"`
		Dropout   float64         `json:"lora_dropout"`
		Targets   json.RawMessage `json:"target_modules"`
		RSLoRA    bool            `json:"use_rslora"`
		Ranks     Patterns        `json:"rank_pattern"`
		Alphas    Patterns        `json:"alpha_pattern"`
		Bias      string          `json:"bias"`
		Transpose bool            `json:"fan_in_fan_out"`
		DoRA      bool            `json:"use_dora"`
		Layers    json.RawMessage `json:"layers_to_transform"`
		Exclude   json.RawMessage `json:"exclude_modules"`
	}{R: 8, Alpha: 8, Bias: "none"} // PEFT's defaults
	if err := json.Unmarshal(text, &f); err != nil {
		return false, err
	}
	if f.Type != "LORA" {
		return false, fmt.Errorf("peft_type is %q; only LORA can be computed", f.Type)
	}
	var wrong []error
	if f.Bias != "none" {
		wrong = append(wrong, fmt.Errorf("bias is %q; only adapters that leave biases alone (none) can be computed", f.Bias))
	}
	if f.Transpose {
		wrong = append(wrong, errors.New("fan_in_fan_out is true, which no linear of these models needs"))
	}
	wrong = append(wrong, otherKinds(text)...)
	a.Base = f.Base
	a.LoRA = LoRA{Rank: f.R, Alpha: f.Alpha, Dropout: f.Dropout, RSLoRA: f.RSLoRA, DoRA: f.DoRA, RankPattern: f.Ranks, AlphaPattern: f.Alphas}
	wrong = append(wrong, a.LoRA.ranges()...)
	listed = unset(f.Layers) && unset(f.Exclude)
	if json.Unmarshal(f.Targets, &a.LoRA.Targets) != nil {
		var one string
		if err := json.Unmarshal(f.Targets, &one); err != nil {
			wrong = append(wrong, errors.New("target_modules is neither a list nor a name"))
		}
		a.LoRA.Targets, listed = []string{one}, listed && one == AllLinear
	}
	return listed, errors.Join(wrong...)
}

// otherKinds lists the settings of kinds of adapters that forward.go does not compute.
func otherKinds(text []byte) (wrong []error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return []error{err}
	}
	for _, key := range []string{
		"modules_to_save", "lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens", "target_parameters",
		"trainable_token_indices", "layer_replication", "arrow_config", "kasa_config", "velora_config", "monteclora_config",
	} {
		if v := string(all[key]); v != "" && v != "null" && v != "false" && v != "[]" && v != "{}" {
			wrong = append(wrong, fmt.Errorf("%s is %s; only LoRA, rsLoRA and DoRA can be computed", key, v))
		}
	}
	return wrong
}

func unset(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" || string(v) == "[]" }

// check pairs the tensors with the model's modules. The tensors say which modules are adapted: PEFT has
// several ways to choose them.
func (a *Adapter) check(c Config, listed bool) error {
	var wrong []error
	known := map[string]bool{}
	for _, m := range c.allModules() {
		want := a.wanted(m)
		some := false
		for _, t := range want {
			_, ok := a.file.Tensor(t.name)
			known[t.name], some = true, some || ok
		}
		if some {
			a.rank[m.fullName] = a.LoRA.rank(m.fullName)
			wrong = append(wrong, a.shapes(want)...)
		} else if listed && a.targets(m.fullName) {
			wrong = append(wrong, fmt.Errorf("tensor %s is missing", want[0].name))
		}
	}
	for _, t := range a.file.Tensors() {
		if !known[t.Name] {
			wrong = append(wrong, fmt.Errorf("tensor %s belongs to no linear of the model's %d layers", t.Name, c.Layers))
		}
	}
	if len(a.rank) == 0 && len(wrong) == 0 {
		wrong = append(wrong, errors.New("it holds no tensors"))
	}
	if err := together(wrong); err != nil {
		return err
	}
	if !listed {
		a.LoRA.Targets = a.modules(c)
	}
	return nil
}

// wanted are the tensors of one module's adapter.
func (a *Adapter) wanted(m module) []tensor {
	r := a.LoRA.rank(m.fullName)
	all := []tensor{{peftName(m.fullName, "A"), []int{r, m.in}}, {peftName(m.fullName, "B"), []int{m.out, r}}}
	if a.LoRA.DoRA {
		all = append(all, tensor{peftMagnitude(m.fullName), []int{m.out}})
	}
	return all
}

// shapes lists the tensors that are missing or have another shape.
func (a *Adapter) shapes(want []tensor) (wrong []error) {
	for _, w := range want {
		got, ok := a.file.Tensor(w.name)
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("tensor %s is missing", w.name))
		case !slices.Equal(got.Shape, w.shape):
			wrong = append(wrong, fmt.Errorf("tensor %s has shape %v where model and %s need %v", w.name, got.Shape, adapterConfig, w.shape))
		}
	}
	return wrong
}

// targets says whether the list of target modules names a module.
func (a *Adapter) targets(name string) bool {
	return slices.ContainsFunc(a.LoRA.Targets, func(target string) bool {
		return target == AllLinear || name == target || strings.HasSuffix(name, "."+target)
	})
}

// modules are the adapted modules' full names, in the model's order.
func (a *Adapter) modules(c Config) []string {
	var names []string
	for _, m := range c.allModules() {
		if a.rank[m.fullName] > 0 {
			names = append(names, m.fullName)
		}
	}
	return names
}

// loadAdapter gives the model the adapters of a PEFT folder.
func (m *Model) loadAdapter(dir string, train bool) error {
	a, err := OpenAdapter(dir, m.Config)
	if err != nil {
		return err
	}
	defer a.Close()
	m.attach(a.LoRA, a.rank, train)
	if err := m.dev.Err(); err != nil {
		return fmt.Errorf("load adapter %s: %w", dir, err)
	}
	for _, ad := range m.adapters {
		values := make([]float32, ad.rank*ad.in)
		if err := a.file.Float32(peftName(ad.fullName, "A"), values); err != nil {
			return err
		}
		m.dev.Write(ad.a, values)
		values = make([]float32, ad.out*ad.rank)
		if err := a.file.Float32(peftName(ad.fullName, "B"), values); err != nil {
			return err
		}
		m.dev.Write(ad.b, values)
		if !ad.m.Present() {
			continue
		}
		values = make([]float32, ad.out)
		if err := a.file.Float32(peftMagnitude(ad.fullName), values); err != nil {
			return err
		}
		m.dev.Write(ad.m, values)
	}
	m.gains()
	return nil
}

// SaveAdapter writes the model's adapters into dir as a PEFT folder, float32, for the base model as it is on disk. base is what
// base_model_name_or_path will say: a name by which others find the base model.
func (m *Model) SaveAdapter(dir, base string) error {
	if len(m.adapters) == 0 {
		return errors.New("the model has no adapter to save")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	var tensors []safetensors.Source
	for _, a := range m.adapters {
		valuesA, valuesB := make([]float32, a.rank*a.in), make([]float32, a.out*a.rank)
		m.dev.Read(valuesA, a.a)
		m.dev.Read(valuesB, a.b)
		rank := a.rank
		if a.first != nil {
			valuesA, valuesB = a.first.apart(valuesA, valuesB, rank)
			rank *= 2
		}
		tensors = append(tensors,
			safetensors.Float32s(peftName(a.fullName, "A"), safetensors.F32, []int{rank, a.in}, valuesA),
			safetensors.Float32s(peftName(a.fullName, "B"), safetensors.F32, []int{a.out, rank}, valuesB))
		if a.m.Present() {
			valuesM := make([]float32, a.out)
			m.dev.Read(valuesM, a.m)
			tensors = append(tensors, safetensors.Float32s(peftMagnitude(a.fullName), safetensors.F32, []int{a.out}, valuesM))
		}
	}
	if err := m.dev.Err(); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	text, err := m.encodeAdapter(base)
	if err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	if err := safetensors.Write(filepath.Join(dir, adapterWeights), tensors, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	return safetensors.WriteFile(filepath.Join(dir, adapterConfig), text)
}

// encodeAdapter is adapter_config.json: what PEFT's LoraConfig, vLLM and llama.cpp read, sorted by name.
func (m *Model) encodeAdapter(base string) ([]byte, error) {
	l := m.LoRA
	if l.Init == "pissa" {
		l = l.twice()
	}
	var init any = true // PEFT's name for kaiming
	if l.Init == "gaussian" {
		init = l.Init
	}
	none := Patterns{}
	f := struct {
		AlphaPattern Patterns `json:"alpha_pattern"`
		AutoMapping  *string  `json:"auto_mapping"`
		Base         string   `json:"base_model_name_or_path"`
		Bias         string   `json:"bias"`
		Transpose    bool     `json:"fan_in_fan_out"`
		Inference    bool     `json:"inference_mode"`
		Init         any      `json:"init_lora_weights"`
		LayersName   *string  `json:"layers_pattern"`
		Layers       *string  `json:"layers_to_transform"`
		Alpha        float64  `json:"lora_alpha"`
		Dropout      float64  `json:"lora_dropout"`
		ToSave       *string  `json:"modules_to_save"`
		Type         string   `json:"peft_type"`
		R            int      `json:"r"`
		RankPattern  Patterns `json:"rank_pattern"`
		Revision     *string  `json:"revision"`
		Targets      []string `json:"target_modules"`
		Task         string   `json:"task_type"`
		DoRA         bool     `json:"use_dora"`
		RSLoRA       bool     `json:"use_rslora"`
	}{
		AlphaPattern: append(none, l.AlphaPattern...), RankPattern: append(none, l.RankPattern...),
		Base: base, Bias: "none", Inference: true, Init: init, Alpha: l.Alpha, Dropout: l.Dropout, Type: "LORA", R: l.Rank,
		Targets: m.peftTargets(), Task: "CAUSAL_LM", DoRA: l.DoRA, RSLoRA: l.RSLoRA,
	}
	b := &bytes.Buffer{}
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(f)
	return b.Bytes(), err
}

// peftTargets are names that mean to PEFT, which takes the entries of a list literally, what Targets mean here:
// each module's own name where Targets hold expressions.
func (m *Model) peftTargets() []string {
	var targets []string
	for _, t := range m.LoRA.Targets {
		switch {
		case t == AllLinear:
			for _, mod := range m.Config.modules(0) {
				targets = append(targets, mod.name[strings.LastIndex(mod.name, ".")+1:])
			}
		case m.literal(t):
			targets = append(targets, t)
		default:
			for _, a := range m.adapters {
				if ok, _ := matches(t, a.fullName); ok { // attach has compiled it
					targets = append(targets, a.fullName)
				}
			}
		}
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

// literal says whether a target, taken as a name, chooses the same modules as when taken as an expression.
func (m *Model) literal(target string) bool {
	for _, mod := range m.Config.allModules() {
		name := mod.fullName
		ok, _ := matches(target, name)
		if ok != (name == target || strings.HasSuffix(name, "."+target)) {
			return false
		}
	}
	return true
}
