//go:build !cuda

package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/engine/model"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// What of a large model is taken: all of it in float64, with a graph's copies, 130 bytes a weight, would not fit anywhere.
const (
	sampleRows  = 256        // of the vocabulary
	sampleWidth = 1024       // of what lies between gate, up and down
	sampleLayer = 16_000_000 // weights that are left; of larger layers only the first is taken
	sampleSteps = 4          // tensors that are compared with central differences, each a few passes
)

// CheckFolder compares the witnesses on the weights of a model folder: on its first and last layer, with a part of the width
// between gate, up and down, and the first rows of its vocabulary; with an adapter and with all weights trained.
func CheckFolder(ctx context.Context, dev ops.Device, dir string, seed uint64, report func(Row)) (rows []Row, err error) {
	part, err := os.MkdirTemp("", "lpipe-check-*")
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(part)) }()
	taken, err := sample(ctx, dir, part)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	config, err := model.ReadConfig(part)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	for _, options := range []model.Options{
		{Method: model.TrainLoRA, Seed: seed, LoRA: model.LoRA{Rank: min(8, config.C), Alpha: 16, Targets: []string{model.AllLinear}}},
		{Method: model.TrainFull},
	} {
		e := example{config: config, options: options, dir: part}
		e.drawBatch(rand.New(rand.NewPCG(seed, 0)), 0)
		row, err := checkOne(ctx, dev, e)
		if err != nil {
			return rows, fmt.Errorf("check %s: %w", dir, err)
		}
		row.Model = fmt.Sprintf("%s: %s, %s, %d tokens", filepath.Base(dir), options.Method, taken, e.batch.B*e.batch.T)
		rows = append(rows, row)
		if report != nil {
			report(row)
		}
	}
	return rows, nil
}

// sample writes the part of a model into out, as a model folder, and says what it is.
func sample(ctx context.Context, dir, out string) (string, error) {
	f, err := model.OpenFolder(dir, "")
	if err != nil {
		return "", err
	}
	defer f.Close()
	c := f.Config
	rows, width := min(sampleRows, c.V), min(sampleWidth, c.F)
	layers := map[int]int{0: 0} // to their new number
	if last := c.Layers - 1; last > 0 && c.C*c.QKV()+c.H*c.D*c.C+3*c.C*width <= sampleLayer {
		layers[last] = 1
	}
	var sources []safetensors.Source
	for _, t := range f.Tensors() {
		name, shape := t.Name, slices.Clone(t.Shape)
		if parts := strings.SplitN(name, ".", 4); len(parts) == 4 && parts[1] == "layers" {
			var old int
			if _, err := fmt.Sscan(parts[2], &old); err != nil {
				return "", err
			}
			number, ok := layers[old]
			if !ok {
				continue
			}
			name = fmt.Sprintf("model.layers.%d.%s", number, parts[3])
			switch parts[3] {
			case "mlp.gate_proj.weight", "mlp.up_proj.weight":
				shape[0] = width
			case "mlp.down_proj.weight":
				shape[1] = width
			}
		} else if len(shape) == 2 {
			shape[0] = rows
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
		values, err := t.Values()
		if err != nil {
			return "", err
		}
		sources = append(sources, safetensors.Float32s(name, safetensors.F32, shape, corner(values, t.Shape, shape)))
	}
	if err := safetensors.WriteDir(out, sources, 0, nil); err != nil {
		return "", err
	}
	taken := fmt.Sprintf("%d of %d layers, %d of %d rows of the vocabulary", len(layers), c.Layers, rows, c.V)
	if width < c.F {
		taken += fmt.Sprintf(", %d of %d between gate and down", width, c.F)
	}
	return taken, sampleConfig(dir, out, len(layers), rows, width)
}

// corner is the first rows and columns of a matrix, or a vector as it is.
func corner(values []float32, whole, part []int) []float32 {
	if slices.Equal(whole, part) {
		return values
	}
	out := make([]float32, 0, part[0]*part[1])
	for i := range part[0] {
		out = append(out, values[i*whole[1]:][:part[1]]...)
	}
	return out
}

// sampleConfig is the folder's config.json with the part's sizes.
func sampleConfig(dir, out string, layers, rows, width int) error {
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	fields["num_hidden_layers"], fields["vocab_size"], fields["intermediate_size"] = layers, rows, width
	delete(fields, "layer_types")
	delete(fields, "quantization_config") // 4-bit weights are written as what they stand for
	if text, err = json.Marshal(fields); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "config.json"), text, 0o666)
}
