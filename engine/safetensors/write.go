package safetensors

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Source is a tensor to be written: its description, and a function that writes its bytes, which are as
// many as type and shape say.
type Source struct {
	Name  string
	DType DType
	Shape []int
	Write func(w io.Writer) error
}

// Bytes is the number of bytes that the tensor takes.
func (s Source) Bytes() int64 {
	return Tensor{DType: s.DType, Shape: s.Shape}.Bytes()
}

// Float32s is a tensor of the given numbers, converted to d (F32, BF16 or F16; round to nearest even).
func Float32s(name string, d DType, shape []int, data []float32) Source {
	return Source{Name: name, DType: d, Shape: shape, Write: func(w io.Writer) error {
		return WriteFloat32(w, d, data)
	}}
}

// Int64s is a tensor of whole numbers.
func Int64s(name string, shape []int, data []int64) Source {
	return Source{Name: name, DType: I64, Shape: shape, Write: func(w io.Writer) error {
		return binary.Write(w, binary.LittleEndian, data)
	}}
}

// WriteFloat32 writes data as elements of type d (F32, BF16 or F16; round to nearest even).
func WriteFloat32(w io.Writer, d DType, data []float32) error {
	const chunk = 16 << 10
	buf := make([]byte, 0, 4*min(chunk, len(data)))
	for part := range slices.Chunk(data, chunk) {
		buf = buf[:0]
		for _, v := range part {
			switch d {
			case F32:
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
			case BF16:
				buf = binary.LittleEndian.AppendUint16(buf, toBFloat16(v))
			case F16:
				buf = binary.LittleEndian.AppendUint16(buf, Float16(v))
			default:
				return fmt.Errorf("weights of type %s cannot be written: use F32, BF16 or F16", d)
			}
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// toBFloat16 rounds to nearest even; a NaN stays one.
func toBFloat16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// Float16 is the half-precision number for v: it rounds to nearest even; beyond 65504 lies infinity.
func Float16(v float32) uint16 {
	b := math.Float32bits(v)
	sign, magnitude := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00
	case magnitude >= 0x47800000: // 65536: above every half; 65520..65535 round up below
		return sign | 0x7c00
	case magnitude < 0x38800000: // below 2^-14: subnormal, in units of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*(1<<24)))
	}
	rounded := magnitude - 112<<23 + 0xfff + magnitude>>13&1
	return sign | uint16(rounded>>13)
}

// Write makes the file at path from tensors: wide types first, then by name, as the reference
// implementation does, so that the same tensors give the same bytes. The file appears whole or not at all.
func Write(path string, tensors []Source, metadata map[string]string) error {
	if err := writeFile(path, func(w io.Writer) error { return encode(w, tensors, metadata) }); err != nil {
		return fmt.Errorf("write weights %s: %w", path, err)
	}
	return nil
}

// encode writes header and data.
func encode(w io.Writer, sources []Source, metadata map[string]string) error {
	list := make([]Tensor, len(sources))
	write := map[string]func(io.Writer) error{}
	for i, s := range sources {
		if s.Name == metadataKey || write[s.Name] != nil {
			return fmt.Errorf("the name %q stands twice or is reserved", s.Name)
		}
		list[i], write[s.Name] = Tensor{Name: s.Name, DType: s.DType, Shape: s.Shape}, s.Write
	}
	slices.SortFunc(list, byPlace)
	at := int64(0)
	for i := range list {
		list[i].begin = at
		at += list[i].Bytes()
		list[i].end = at
		if err := list[i].check(at); err != nil {
			return err
		}
	}
	head, err := encodeHeader(list, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, t := range list {
		n := &counter{w: w}
		if err := write[t.Name](n); err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if n.n != t.Bytes() {
			return fmt.Errorf("tensor %q: %d bytes were written where type %s and shape %v need %d", t.Name, n.n, t.DType, t.Shape, t.Bytes())
		}
	}
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// WriteDir writes tensors, in the given order, into dir: as model.safetensors where they fit into shard
// bytes (0: no limit), else as shards of at most that size with an index, split and named as transformers'
// save_pretrained does. A tensor larger than shard has a shard of its own.
func WriteDir(dir string, tensors []Source, shard int64, metadata map[string]string) error {
	groups := split(tensors, shard)
	if len(groups) == 1 {
		return Write(filepath.Join(dir, Single), tensors, metadata)
	}
	weightMap := map[string]string{}
	var total, parameters int64
	for i, group := range groups {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(groups))
		if err := Write(filepath.Join(dir, name), group, metadata); err != nil {
			return err
		}
		for _, s := range group {
			weightMap[s.Name] = name
			total += s.Bytes()
			parameters += s.Bytes() / int64(s.DType.Size())
		}
	}
	index := struct {
		Metadata  map[string]int64  `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{map[string]int64{"total_parameters": parameters, "total_size": total}, weightMap}
	text, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, Index), append(text, '\n'))
}

// WriteFile makes a small file that belongs to weights, such as config.json, as Write does: it appears whole
// or not at all.
func WriteFile(path string, content []byte) error {
	err := writeFile(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// split fills shards in order, beginning a new one where the next tensor does not fit.
func split(tensors []Source, shard int64) [][]Source {
	var groups [][]Source
	room := int64(0)
	for _, s := range tensors {
		if len(groups) == 0 || shard > 0 && s.Bytes() > room {
			groups, room = append(groups, nil), shard
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], s)
		room -= s.Bytes()
	}
	if len(groups) == 0 {
		return [][]Source{nil}
	}
	return groups
}

// writeFile makes the file at path by temporary file, sync and rename, so that path never holds half of it.
func writeFile(path string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // root could rename over a device
		return fmt.Errorf("write %s: it is there, and is no regular file: name another", path)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err := write(buffered); err != nil {
		return err
	}
	// CreateTemp makes files that only their owner can read; weights are as readable as other outputs.
	if err := errors.Join(buffered.Flush(), f.Chmod(0o644), f.Sync()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
