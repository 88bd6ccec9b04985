package model

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"lpipe/engine/nf4"
	"lpipe/engine/safetensors"
)

// QuantiseOptions say how a 4-bit checkpoint is written.
type QuantiseOptions struct {
	Double bool  // the blocks' scales in 8 bits: 0.37 bits a weight less
	Shard  int64 // bytes of a file; 0: no limit
}

// Quantise writes into out the model of folder dir with the layers' linears in 4-bit NormalFloat, as transformers saves a model
// that bitsandbytes has quantised. Embeddings, head, norms and biases stay as they are. It holds the blocks' scales
// (4 bytes for 64 weights) and one tensor in memory at a time.
func Quantise(ctx context.Context, dir, out string, o QuantiseOptions) error {
	config, err := ReadConfig(dir)
	if err != nil {
		return err
	}
	if config.Quantised != nil {
		return fmt.Errorf("quantise %s: its weights are 4-bit already", dir)
	}
	files, err := safetensors.OpenDir(dir)
	if err != nil {
		return err
	}
	defer files.Close()
	if err := config.checkTensors(dir, files); err != nil {
		return err
	}
	w := quantiser{files: files, double: o.Double}
	if err := w.plan(ctx, config); err != nil {
		return fmt.Errorf("quantise %s: %w", dir, err)
	}
	config.Quantised = &Quantisation{Double: o.Double, DType: w.dtype}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if err := safetensors.WriteDir(out, w.sources, o.Shard, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	text, err := config.encode("")
	if err != nil {
		return fmt.Errorf("save model %s: %w", out, err)
	}
	if err := safetensors.WriteFile(filepath.Join(out, "config.json"), text); err != nil {
		return err
	}
	return CopyCompanions(dir, out)
}

// quantiser plans the tensors of a 4-bit checkpoint.
type quantiser struct {
	files   *safetensors.Folder
	double  bool
	dtype   safetensors.DType // of the linears before
	sources []safetensors.Source
}

func (w *quantiser) plan(ctx context.Context, c Config) error {
	for _, t := range c.tensors() {
		if err := ctx.Err(); err != nil {
			return err
		}
		stored, _ := w.files.Tensor(t.name)
		if !t.linear() {
			w.sources = append(w.sources, w.copied(stored))
			continue
		}
		switch {
		case stored.DType == safetensors.F16:
			return fmt.Errorf("tensor %s is float16, whose 4-bit form this program does not read: convert the model to bfloat16 first", t.name)
		case w.dtype != "" && w.dtype != stored.DType:
			return fmt.Errorf("tensor %s is %s, other linears are %s", t.name, stored.DType, w.dtype)
		}
		w.dtype = stored.DType
		if err := w.quantised(t); err != nil {
			return err
		}
	}
	return nil
}

// copied is a tensor as it was.
func (w *quantiser) copied(t safetensors.Tensor) safetensors.Source {
	return safetensors.Source{Name: t.Name, DType: t.DType, Shape: t.Shape, Write: func(to io.Writer) error {
		b, err := w.files.Bytes(t.Name)
		if err != nil {
			return err
		}
		_, err = to.Write(b)
		return err
	}}
}

// quantised plans the tensors of one weight. Its scales are computed now, since its state's text depends on them; its
// codes again when they are written, so that those of all weights are never in memory.
func (w *quantiser) quantised(t tensor) error {
	state := quantState{Block: nf4.Block, DType: Quantisation{DType: w.dtype}.torchName(), Shape: t.shape, NestedBlock: nf4.NestedBlock}
	q, err := w.compute(t)
	if err != nil {
		return err
	}
	values := nf4.Values()
	add := func(suffix string, d safetensors.DType, shape []int, write func(io.Writer) error) {
		w.sources = append(w.sources, safetensors.Source{Name: t.name + suffix, DType: d, Shape: shape, Write: write})
	}
	floats := func(suffix string, v []float32) {
		w.sources = append(w.sources, safetensors.Float32s(t.name+suffix, safetensors.F32, []int{len(v)}, v))
	}
	raw := func(suffix string, b []byte) {
		add(suffix, safetensors.U8, []int{len(b)}, func(to io.Writer) error {
			_, err := to.Write(b)
			return err
		})
	}
	add("", safetensors.U8, []int{len(q.codes), 1}, func(to io.Writer) error {
		q, err := w.compute(t)
		if err != nil {
			return err
		}
		_, err = to.Write(q.codes)
		return err
	})
	floats(mapName, values[:])
	if w.double {
		n := nf4.Double(q.absmax)
		state.Offset = float64(n.Offset)
		raw(absmaxName, n.Codes)
		floats(nestedAbsmaxName, n.Scales)
		floats(nestedMapName, nf4.DynamicMap())
	} else {
		floats(absmaxName, q.absmax)
	}
	raw(stateName, []byte(state.text(w.double)))
	return nil
}

func (w *quantiser) compute(t tensor) (quantised, error) {
	values := make([]float32, t.len())
	if err := w.files.Float32(t.name, values); err != nil {
		return quantised{}, err
	}
	return quantise(values, false, false), nil
}
