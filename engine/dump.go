package engine

import (
	"context"
	"errors"
	"fmt"

	"lpipe/engine/model"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// DumpOptions say what to compute from a batch file, so that other software's numbers can be laid beside ours.
type DumpOptions struct {
	Model, Adapter string
	Batch          string // safetensors: input_ids, and as far as present labels, attention_mask, position_ids, sequence_ids
	Out            string // safetensors: logits, loss, tokens, and gradients under their tensors' names
	Gradients      bool
	Method         string // "lora" or "full"; "": lora with an adapter, full without
}

// Dump writes logits, loss and the number of targets of a batch, and the gradient of the loss for each trained
// tensor. Everything is float32, dropout is off.
func Dump(ctx context.Context, dev ops.Device, o DumpOptions) error {
	batch, err := ReadBatch(o.Batch)
	if err != nil {
		return err
	}
	method, err := o.method()
	if err != nil {
		return err
	}
	m, err := model.Load(ctx, o.Model, dev, model.Options{Method: method, Adapter: o.Adapter})
	if err != nil {
		return err
	}
	defer m.Free()
	m.LoRA.Dropout = 0
	V := m.Config.V
	logits := make([]float32, len(batch.IDs)*V)
	err = m.Logits(batch, func(token int, row []float32) error {
		copy(logits[token*V:], row)
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("batch %s: %w", o.Batch, err)
	}
	tokens := batch.Targets()
	out := []safetensors.Source{
		safetensors.Float32s("logits", safetensors.F32, []int{batch.B, batch.T, V}, logits),
		safetensors.Float32s("tokens", safetensors.F32, nil, []float32{float32(tokens)}),
	}
	more, err := dumpLoss(m, batch, tokens)
	if err != nil {
		return err
	}
	return safetensors.Write(o.Out, append(out, more...), map[string]string{"format": "pt"})
}

func (o DumpOptions) method() (model.Method, error) {
	method := model.Method(o.Method)
	if method == model.Frozen {
		if method = model.TrainFull; o.Adapter != "" {
			method = model.TrainLoRA
		}
	}
	switch {
	case method != model.TrainLoRA && method != model.TrainFull:
		return "", fmt.Errorf("method %q is not known; there are lora and full", o.Method)
	case !o.Gradients:
		return model.Frozen, nil
	case method == model.TrainLoRA && o.Adapter == "":
		return "", errors.New("method lora needs --adapter: the gradients are those of its tensors")
	}
	return method, nil
}

// dumpLoss computes the loss, and with a trained method the gradients. A batch without targets has a loss of 0.
func dumpLoss(m *model.Model, batch model.Batch, tokens int) ([]safetensors.Source, error) {
	m.ZeroGrad()
	pass := m.Step
	if m.Method == model.Frozen {
		pass = m.Loss
	}
	loss := 0.0
	if tokens > 0 {
		var err error
		if loss, err = pass(batch, tokens); err != nil {
			return nil, err
		}
	}
	out := []safetensors.Source{safetensors.Float32s("loss", safetensors.F32, nil, []float32{float32(loss)})}
	for _, p := range m.Parameters() {
		grad := make([]float32, p.Grad.Len)
		m.Device().Read(grad, p.Grad)
		out = append(out, safetensors.Float32s(p.Name, safetensors.F32, p.Shape, grad))
	}
	return out, m.Device().Err()
}

// ReadBatch reads a batch file. Padding (attention_mask 0) belongs to no document; with sequence_ids a document is
// a run of equal numbers; without both, one begins where positions restart.
func ReadBatch(path string) (model.Batch, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return model.Batch{}, err
	}
	defer f.Close()
	r := batchReader{file: f}
	var b model.Batch
	t, ok := f.Tensor("input_ids")
	if !ok || len(t.Shape) != 2 {
		return b, fmt.Errorf("batch %s: needs input_ids of two dimensions, rows and tokens", path)
	}
	r.shape = t.Shape
	b.B, b.T = t.Shape[0], t.Shape[1]
	b.IDs = r.read("input_ids")
	b.Labels, b.Positions, b.Sequence = r.read("labels"), r.read("position_ids"), r.read("sequence_ids")
	mask := r.read("attention_mask")
	if r.err != nil {
		return b, fmt.Errorf("batch %s: %w", path, r.err)
	}
	if mask != nil && b.Sequence == nil {
		b.Sequence = make([]int32, len(mask))
		number := int32(-1)
		for i := range mask {
			if i%b.T == 0 || b.Positions != nil && b.Positions[i] != b.Positions[i-1]+1 {
				number++
			}
			b.Sequence[i] = number
		}
	}
	for i, m := range mask {
		if m == 0 {
			b.Sequence[i] = model.Padding
		}
	}
	return b, nil
}

// batchReader reads the tensors of a batch file and keeps the first error.
type batchReader struct {
	file  *safetensors.File
	shape []int
	err   error
}

// read returns nil for a tensor that is not there.
func (r *batchReader) read(name string) []int32 {
	t, ok := r.file.Tensor(name)
	if !ok || r.err != nil {
		return nil
	}
	if len(t.Shape) != 2 || t.Shape[0] != r.shape[0] || t.Shape[1] != r.shape[1] {
		r.err = fmt.Errorf("%s has shape %v, input_ids %v", name, t.Shape, r.shape)
		return nil
	}
	wide := make([]int64, t.Len())
	if r.err = r.file.Int64(name, wide); r.err != nil {
		return nil
	}
	ids := make([]int32, len(wide))
	for i, v := range wide {
		if ids[i] = int32(v); int64(ids[i]) != v {
			r.err = fmt.Errorf("%s holds %d, which is no token, position or number of a document", name, v)
			return nil
		}
	}
	return ids
}
