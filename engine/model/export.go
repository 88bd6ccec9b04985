package model

import (
	"encoding/json"

	"lpipe/engine/safetensors"
)

// Folder is an open model folder, with or without an adapter to be added, to be read tensor by tensor.
type Folder struct {
	Config  Config
	Adapter *Adapter // nil: none
	files   *safetensors.Folder
}

// OpenFolder opens a model folder; adapter is a PEFT folder or "".
func OpenFolder(dir, adapter string) (_ *Folder, err error) {
	f := &Folder{}
	if f.Config, err = ReadConfig(dir); err != nil {
		return nil, err
	}
	if f.files, err = safetensors.OpenDir(dir); err != nil {
		return nil, err
	}
	if err := f.Config.checkTensors(dir, f.files); err != nil {
		f.Close()
		return nil, err
	}
	if adapter == "" {
		return f, nil
	}
	if f.Adapter, err = OpenAdapter(adapter, f.Config); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close closes its files.
func (f *Folder) Close() {
	f.files.Close()
	if f.Adapter != nil {
		f.Adapter.Close()
	}
}

// Tensor is one tensor of a Folder.
type Tensor struct {
	Name  string // as in model.safetensors
	Shape []int
	// Values reads it as float32, the adapter's part added: W + scale·B A.
	Values func() ([]float32, error)
}

// Tensors lists all, in the model's order.
func (f *Folder) Tensors() []Tensor {
	var list []Tensor
	for _, t := range f.Config.tensors() {
		list = append(list, Tensor{t.name, t.shape, func() ([]float32, error) {
			values := make([]float32, t.len())
			if err := f.Config.values(f.files, t, values); err != nil {
				return nil, err
			}
			if f.Adapter == nil {
				return values, nil
			}
			return values, f.Adapter.addTo(values, t.name, f.Config)
		}})
	}
	return list
}

// BOS is the id that config.json names as the beginning of a text.
func (c Config) BOS() (int, bool) {
	var id *int
	if json.Unmarshal(c.file["bos_token_id"], &id) != nil || id == nil || *id < 0 || *id >= c.V {
		return 0, false
	}
	return *id, true
}

// Pair is the adapter of one module.
type Pair struct {
	Module  string // "model.layers.0.self_attn.q_proj"
	In, Out int
	Rank    int
	Scale   float64 // of B A
	// A [Rank, In] and B [Out, Rank], read when they are wanted.
	A, B func() ([]float32, error)
}

// Pairs lists the adapters of a model of shape c, in the model's order. DoRA's magnitudes are not among them.
func (a *Adapter) Pairs(c Config) []Pair {
	var list []Pair
	for _, m := range c.allModules() {
		r := a.rank[m.fullName]
		if r == 0 {
			continue
		}
		read := func(matrix string, n int) func() ([]float32, error) {
			return func() ([]float32, error) {
				values := make([]float32, n)
				return values, a.file.Float32(peftName(m.fullName, matrix), values)
			}
		}
		list = append(list, Pair{m.fullName, m.in, m.out, r, a.LoRA.scale(m.fullName, r), read("A", r*m.in), read("B", m.out*r)})
	}
	return list
}
