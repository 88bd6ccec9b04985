package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"lpipe/engine/safetensors"
)

// SaveOptions say how whole models are written. The zero value: one file, each tensor of the type that it had.
type SaveOptions struct {
	DType string       // "float32", "bfloat16", "float16"; "" keeps what the base model has
	Shard int64        // bytes of a file; 0: no limit
	Note  func(string) // is told what is out of the ordinary; nil: nobody
}

// dtypes are the types that weights can be written as, under torch's names.
var dtypes = map[string]safetensors.DType{
	"float32": safetensors.F32, "bfloat16": safetensors.BF16, "float16": safetensors.F16,
}

func (o SaveOptions) check() error {
	if _, ok := dtypes[o.DType]; !ok && o.DType != "" {
		return fmt.Errorf("dtype %q is not known; there are float32, bfloat16 and float16", o.DType)
	}
	if o.Shard < 0 {
		return fmt.Errorf("shard size %d is negative", o.Shard)
	}
	return nil
}

// companions are the files that belong to a model beside its weights and config.json.
var companions = []string{
	"generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
	"added_tokens.json", "special_tokens_map.json", "chat_template.jinja",
}

// Merge writes into out the model of folder base with the adapter's part added to its weights,
// W + scale·B A in float32, rounded once: a model folder that needs no adapter any more. It holds one tensor in
// memory at a time.
func Merge(ctx context.Context, base, adapter, out string, o SaveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	config, err := ReadConfig(base)
	if err != nil {
		return err
	}
	files, err := safetensors.OpenDir(base)
	if err != nil {
		return err
	}
	defer files.Close()
	if err := config.checkTensors(base, files); err != nil {
		return err
	}
	a, err := OpenAdapter(adapter, config)
	if err != nil {
		return err
	}
	defer a.Close()
	read := func(t tensor, dst []float32) error {
		if err := config.values(files, t, dst); err != nil {
			return err
		}
		return a.addTo(dst, t.name, config)
	}
	old := map[string]safetensors.DType{}
	for _, t := range files.Tensors() {
		old[t.Name] = t.DType
	}
	plain := config.dequantised(old)
	if q := config.Quantised; q != nil && o.Note != nil {
		o.Note(fmt.Sprintf("the base model's weights are 4-bit: they are written as %s, with what they stand for and the adapter added",
			cmp.Or(o.DType, q.torchName())))
	}
	return plain.save(ctx, base, out, old, read, o)
}

// addTo adds scale·B A to the weight w of that name, if its module has an adapter; with DoRA it then gives each row its
// magnitude.
func (a *Adapter) addTo(w []float32, name string, c Config) error {
	modules := c.allModules()
	i := slices.IndexFunc(modules, func(m module) bool { return m.fullName+".weight" == name && a.rank[m.fullName] > 0 })
	if i < 0 {
		return nil
	}
	m := modules[i]
	r := a.rank[m.fullName]
	matrixA, matrixB := make([]float32, r*m.in), make([]float32, m.out*r)
	if err := a.file.Float32(peftName(m.fullName, "A"), matrixA); err != nil {
		return err
	}
	if err := a.file.Float32(peftName(m.fullName, "B"), matrixB); err != nil {
		return err
	}
	var magnitude []float32
	if a.LoRA.DoRA {
		magnitude = make([]float32, m.out)
		if err := a.file.Float32(peftMagnitude(m.fullName), magnitude); err != nil {
			return err
		}
	}
	scale := float32(a.LoRA.scale(m.fullName, r))
	rows := (m.out + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	var group sync.WaitGroup
	for from := 0; from < m.out; from += rows {
		group.Go(func() {
			delta := make([]float32, m.in)
			for i := from; i < min(from+rows, m.out); i++ {
				row := w[i*m.in : (i+1)*m.in]
				addRow(row, delta, matrixA, matrixB[i*r:(i+1)*r], scale)
				if magnitude != nil {
					stretch(row, magnitude[i])
				}
			}
		})
	}
	group.Wait()
	return nil
}

// addRow adds scale·b A to row; delta is scratch.
func addRow(row, delta, matrixA, b []float32, scale float32) {
	clear(delta)
	for k, v := range b {
		for j, a := range matrixA[k*len(row) : (k+1)*len(row)] {
			delta[j] += v * a
		}
	}
	for j, v := range delta {
		row[j] += scale * v
	}
}

// stretch gives row a length, as DoRA does.
func stretch(row []float32, length float32) {
	sum := 0.0
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	gain := length / float32(math.Sqrt(sum))
	for j := range row {
		row[j] *= gain
	}
}

// Save writes the whole model, as it is now, into out as a model folder; adapters are left out. Tokenizer and
// other companion files come from the folder that the model was loaded from, if it was.
func (m *Model) Save(ctx context.Context, out string, o SaveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	old := map[string]safetensors.DType{} // none: a new model is saved as float32
	if m.dir != "" {
		files, err := safetensors.OpenDir(m.dir)
		if err != nil {
			return err
		}
		for _, t := range files.Tensors() {
			old[t.Name] = t.DType
		}
		files.Close()
	}
	read := func(t tensor, dst []float32) error {
		m.fetch(t, dst)
		return m.dev.Err()
	}
	return m.Config.dequantised(old).save(ctx, m.dir, out, old, read, o)
}

// save writes config.json, companions and the weights that read gives. The types are the old ones unless o
// names one.
func (c Config) save(ctx context.Context, base, out string, old map[string]safetensors.DType, read func(tensor, []float32) error, o SaveOptions) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	var sources []safetensors.Source
	for _, t := range c.tensors() {
		d, ok := dtypes[o.DType]
		if !ok {
			if d, ok = old[t.name]; !ok {
				d = safetensors.F32
			}
		}
		sources = append(sources, safetensors.Source{Name: t.name, DType: d, Shape: t.shape, Write: func(w io.Writer) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			values := make([]float32, t.len())
			if err := read(t, values); err != nil {
				return err
			}
			return safetensors.WriteFloat32(w, d, values)
		}})
	}
	if err := safetensors.WriteDir(out, sources, o.Shard, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	text, err := c.encode(o.DType)
	if err != nil {
		return fmt.Errorf("save model %s: %w", out, err)
	}
	if err := safetensors.WriteFile(filepath.Join(out, "config.json"), text); err != nil {
		return err
	}
	if base == "" {
		return nil
	}
	return CopyCompanions(base, out)
}

// CopyCompanions copies the tokenizer, chat template and generation settings of a model folder into another, as far
// as they exist.
func CopyCompanions(from, to string) error {
	for _, name := range companions {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("copy model files: %w", err)
		}
		if err := safetensors.WriteFile(filepath.Join(to, name), text); err != nil {
			return err
		}
	}
	return nil
}
