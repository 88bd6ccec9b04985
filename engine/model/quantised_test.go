package model

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/nf4"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// A checkpoint of bitsandbytes, and the same model quantised on load, give the loss and gradients of PEFT on the dequantised
// values.
func TestQLoRAGradients(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
	}{
		{"qlora_grads", Options{NF4: true}},
		{"qlora_grads_double_bf16", Options{NF4: true, Double: true, Weights: ops.BF16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, c.name)
			want := f.tensors(t, "expected.safetensors")
			b := f.tensors(t, "inputs.safetensors").batch("")
			plain := filepath.Join(t.TempDir(), "plain")
			if c.options.Double {
				plain = asBF16(t, f.Model)
			} else {
				dequantise(t, filepath.Join(f.dir, "model_nf4"), plain)
			}
			devices(t, func(t *testing.T, dev ops.Device) {
				o := Options{Method: TrainLoRA, Adapter: filepath.Join(f.dir, "adapter"), Weights: c.options.Weights}
				m := load(t, filepath.Join(f.dir, "model_nf4"), dev, o)
				if c.options.Weights == ops.BF16 && dev.Info().TensorCores {
					roughly(t, m, b, f.Items, want)
					return
				}
				gradients(t, m, b, f.Items, want)
				if _, ok := want.Tensor("logits"); ok {
					near(t, "logits", allLogits(t, m, b), want.floats("logits"), 1e-5, 6e-5, b.real())
				}
				o.NF4, o.Double = true, c.options.Double
				gradients(t, load(t, plain, dev, o), b, f.Items, want)
			})
		})
	}
}

// roughly holds gradients of bfloat16 products against exact ones: torch's own bfloat16 run errs by 2 to 4 % (doc/numerics.md).
func roughly(t *testing.T, m *Model, b Batch, items int, want tensorFile) {
	t.Helper()
	m.ZeroGrad()
	if _, err := m.Step(b, items); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parameters() {
		var off, size float64
		exact := want.floats("grad." + p.Name)
		for i, v := range read(m, p.Grad) {
			off, size = off+math.Pow(float64(v-exact[i]), 2), size+float64(exact[i])*float64(exact[i])
		}
		if !(off <= 0.04*0.04*size) {
			t.Errorf("%s errs by %.2g", p.Name, math.Sqrt(off/size))
		}
	}
}

// asBF16 writes a model folder as bfloat16.
func asBF16(t *testing.T, dir string) string {
	t.Helper()
	dev := cpu.NewPlain()
	m := load(t, dir, dev, Options{})
	out := filepath.Join(t.TempDir(), "bf16")
	if err := m.Save(context.Background(), out, SaveOptions{DType: "bfloat16"}); err != nil {
		t.Fatal(err)
	}
	return out
}

// dequantise writes a 4-bit model as plain numbers.
func dequantise(t *testing.T, dir, out string) {
	t.Helper()
	m := load(t, dir, cpu.NewPlain(), Options{})
	if err := m.Save(context.Background(), out, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	config, err := ReadConfig(out)
	if err != nil || config.Quantised != nil {
		t.Fatalf("the saved configuration is still quantised, or cannot be read: %v", err)
	}
}

// What Quantise writes are the tensors and settings that save_pretrained wrote for bitsandbytes' model.
func TestQuantiseAsBitsandbytes(t *testing.T) {
	for _, name := range []string{"qlora_grads", "qlora_grads_double_bf16"} {
		t.Run(name, func(t *testing.T) {
			f := open(t, name)
			double := strings.Contains(name, "double")
			theirs, source := filepath.Join(f.dir, "model_nf4"), filepath.Join(t.TempDir(), "plain")
			if double {
				source = asBF16(t, f.Model)
			} else {
				dequantise(t, theirs, source)
			}
			out := filepath.Join(t.TempDir(), "out")
			if err := Quantise(context.Background(), source, out, QuantiseOptions{Double: double}); err != nil {
				t.Fatal(err)
			}
			if got, want := setting(t, out), setting(t, theirs); !reflect.DeepEqual(got, want) {
				t.Errorf("quantization_config is %v, want %v", got, want)
			}
			sameTensors(t, out, theirs)
			if err := Quantise(context.Background(), out, filepath.Join(t.TempDir(), "again"), QuantiseOptions{}); err == nil {
				t.Error("a quantised model was quantised again")
			}
		})
	}
}

// sameTensors compares bytes. The library's own search misses the nearest code of an absmax by some 1e-5 now and then,
// which near zero is several codes.
func sameTensors(t *testing.T, got, want string) {
	t.Helper()
	a, err := safetensors.OpenDir(got)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := safetensors.OpenDir(want)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(a.Tensors()) != len(b.Tensors()) {
		t.Errorf("%d tensors, want %d", len(a.Tensors()), len(b.Tensors()))
	}
	for _, tensor := range b.Tensors() {
		mine, ok := a.Tensor(tensor.Name)
		if !ok || mine.DType != tensor.DType || fmt.Sprint(mine.Shape) != fmt.Sprint(tensor.Shape) {
			t.Errorf("tensor %s is %v, want %v", tensor.Name, mine, tensor)
			continue
		}
		x, _ := a.Bytes(tensor.Name)
		y, _ := b.Bytes(tensor.Name)
		if strings.HasSuffix(tensor.Name, absmaxName) && tensor.DType == safetensors.U8 {
			table := nf4.DynamicMap()
			for i := range x {
				if d := table[x[i]] - table[y[i]]; (d > 5e-5 || d < -5e-5) && max(x[i], y[i])-min(x[i], y[i]) > 1 {
					t.Errorf("tensor %s: code %d is %d, want %d", tensor.Name, i, x[i], y[i])
				}
			}
		} else if !bytes.Equal(x, y) {
			t.Errorf("tensor %s differs: %.80q, want %.80q", tensor.Name, x, y)
		}
	}
}

func setting(t *testing.T, dir string) any {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dec := json.NewDecoder(file)
	dec.UseNumber() // transformers takes 6.0 for llm_int8_threshold, and refuses 6
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all[quantisationKey]
}

// Merging into a 4-bit base gives a plain model that computes what base and adapter do together.
func TestMergeIntoNF4(t *testing.T) {
	f := open(t, "qlora_grads")
	base, adapter := filepath.Join(f.dir, "model_nf4"), filepath.Join(f.dir, "adapter")
	out, said := filepath.Join(t.TempDir(), "merged"), ""
	if err := Merge(context.Background(), base, adapter, out, SaveOptions{Note: func(s string) { said += s }}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, "float32") {
		t.Errorf("the note is %q", said)
	}
	b := f.tensors(t, "inputs.safetensors").batch("")
	devices(t, func(t *testing.T, dev ops.Device) {
		want := f.tensors(t, "expected.safetensors")
		near(t, "logits", allLogits(t, load(t, out, dev, Options{}), b), want.floats("logits"), 1e-5, 6e-5, b.real())
	})
}

// Each damage to a 4-bit checkpoint is named before anything is loaded.
func TestQuantisedRefusals(t *testing.T) {
	f := open(t, "qlora_grads")
	base := filepath.Join(f.dir, "model_nf4")
	files, err := safetensors.OpenDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	const weight = "model.layers.1.mlp.up_proj.weight"
	for want, change := range map[string]func(name string, b []byte) []byte{
		"blocks have 128 values": func(name string, b []byte) []byte {
			if name == weight+stateName {
				return bytes.Replace(b, []byte(`"blocksize": 64`), []byte(`"blocksize": 128`), 1)
			}
			return b
		},
		"stands for float16": func(name string, b []byte) []byte {
			if name == weight+stateName {
				return bytes.Replace(b, []byte(`float32`), []byte(`float16`), 1)
			}
			return b
		},
		weight + absmaxName + " is missing": func(name string, b []byte) []byte {
			if name == weight+absmaxName {
				return nil
			}
			return b
		},
		"another table": func(name string, b []byte) []byte {
			if name == weight+mapName {
				b = bytes.Clone(b)
				b[5]++
			}
			return b
		},
	} {
		dir := t.TempDir()
		writeChanged(t, files, base, dir, change)
		_, err := Load(context.Background(), dir, cpu.NewPlain(), Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := Load(context.Background(), base, cpu.NewPlain(), Options{Method: TrainFull}); err == nil || !strings.Contains(err.Error(), "train an adapter") {
		t.Errorf("method full took 4-bit weights: %v", err)
	}
}

func writeChanged(t *testing.T, files *safetensors.Folder, base, dir string, change func(string, []byte) []byte) {
	t.Helper()
	var sources []safetensors.Source
	w := quantiser{files: files}
	for _, tensor := range files.Tensors() {
		b, err := files.Bytes(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		changed := change(tensor.Name, b)
		switch {
		case changed == nil:
		case bytes.Equal(changed, b):
			sources = append(sources, w.copied(tensor))
		case tensor.DType == safetensors.U8:
			shape := []int{len(changed)}
			s := w.copied(tensor)
			s.Shape, s.Write = shape, writeBytes(changed)
			sources = append(sources, s)
		default:
			s := w.copied(tensor)
			s.Write = writeBytes(changed)
			sources = append(sources, s)
		}
	}
	if err := safetensors.WriteDir(dir, sources, 0, nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(base, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Weights take half a byte and a sixteenth each.
func TestNF4Memory(t *testing.T) {
	f := open(t, "qlora_grads")
	dev := cpu.New(cpu.Options{Threads: 1})
	defer dev.Close()
	m := load(t, filepath.Join(f.dir, "model_nf4"), dev, Options{})
	n := 0
	for _, mod := range m.Config.allModules() {
		n += mod.in * mod.out
	}
	rest := m.Config.Parameters() - int64(n)
	if got, want := dev.Info().Bytes, 4*rest+int64(nf4.Bytes(n)+4*nf4.Blocks(n))+4*int64(m.Config.D/2); got != want {
		t.Errorf("the model takes %d bytes, want %d", got, want)
	}
}

func writeBytes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}
