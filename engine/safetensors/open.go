package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
)

// File is one open file, mapped into memory.
type File struct {
	path   string
	bytes  []byte // the whole file
	header *header
	byName map[string]int
}

// Open maps the file at path and checks its header against its size. The error names the file and what is
// wrong with it.
func Open(path string) (*File, error) {
	b, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	f := &File{path: path, bytes: b, byName: map[string]int{}}
	if f.header, err = parseHeader(b, int64(len(b))); err != nil {
		unmapFile(b)
		return nil, fmt.Errorf("read weights %s: %w", path, err)
	}
	for i, t := range f.header.tensors {
		f.byName[t.Name] = i
	}
	return f, nil
}

// Close unmaps the file. Slices that Bytes returned are invalid from then on.
func (f *File) Close() error {
	b := f.bytes
	f.bytes = nil
	return unmapFile(b)
}

// Path is the name that the file was opened by.
func (f *File) Path() string { return f.path }

// Metadata is the header's free text: {"format": "pt"} in files written for PyTorch.
func (f *File) Metadata() map[string]string { return f.header.metadata }

// Tensors lists what the file holds, in the order of its bytes.
func (f *File) Tensors() []Tensor { return slices.Clone(f.header.tensors) }

// Tensor describes the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.header.tensors[i], true
}

// Bytes returns the mapped bytes of a tensor, read-only and valid until Close.
func (f *File) Bytes(name string) ([]byte, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("weights %s: there is no tensor %q", f.path, name)
	}
	return f.bytes[f.header.data+t.begin : f.header.data+t.end], nil
}

// Float32 reads a tensor of type F32, BF16, F16 or F64 into dst, which must have its length.
func (f *File) Float32(name string, dst []float32) error {
	return f.read(name, len(dst), func(t Tensor, b []byte) error { return toFloat32(dst, b, t.DType) })
}

// Float32Part reads the numbers of a tensor from number from on, as many as dst has, and tells the system that their pages are
// not needed again soon: a model that is read part by part is never in memory twice.
func (f *File) Float32Part(name string, from int, dst []float32) error {
	t, ok := f.Tensor(name)
	if ok && (from < 0 || from+len(dst) > t.Len()) {
		return fmt.Errorf("weights %s: tensor %q has %d numbers, not %d from %d on", f.path, name, t.Len(), len(dst), from)
	}
	return f.read(name, t.Len(), func(t Tensor, b []byte) error {
		if t.Len() == 0 {
			return nil
		}
		size := len(b) / t.Len()
		part := b[from*size : (from+len(dst))*size]
		defer forget(part)
		return toFloat32(dst, part, t.DType)
	})
}

// Float64 is Float32 into float64.
func (f *File) Float64(name string, dst []float64) error {
	return f.read(name, len(dst), func(t Tensor, b []byte) error {
		if t.DType == F64 {
			for i := range dst {
				dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
			}
			return nil
		}
		narrow := make([]float32, len(dst))
		if err := toFloat32(narrow, b, t.DType); err != nil {
			return err
		}
		for i, v := range narrow {
			dst[i] = float64(v)
		}
		return nil
	})
}

// Int64 reads a tensor of type I64, I32, U8 or BOOL into dst, which must have its length.
func (f *File) Int64(name string, dst []int64) error {
	return f.read(name, len(dst), func(t Tensor, b []byte) error {
		switch t.DType {
		case I64:
			for i := range dst {
				dst[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
			}
		case I32:
			for i := range dst {
				dst[i] = int64(int32(binary.LittleEndian.Uint32(b[4*i:])))
			}
		case U8, Bool:
			for i := range dst {
				dst[i] = int64(b[i])
			}
		default:
			return fmt.Errorf("it has type %s where whole numbers are needed (I64, I32, U8 or BOOL)", t.DType)
		}
		return nil
	})
}

// read hands a tensor's bytes to convert. A mapped file that another process truncates raises a fault on
// access; it comes back as an error.
func (f *File) read(name string, n int, convert func(Tensor, []byte) error) (err error) {
	b, err := f.Bytes(name)
	if err != nil {
		return err
	}
	t, _ := f.Tensor(name)
	if t.Len() != n {
		return fmt.Errorf("weights %s: tensor %q has shape %v, %d numbers, where %d are needed", f.path, name, t.Shape, t.Len(), n)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = fmt.Errorf("weights %s: tensor %q could not be read: the file became shorter while it was in use, or its disk failed", f.path, name)
		}
	}()
	if err := convert(t, b); err != nil {
		return fmt.Errorf("weights %s: tensor %q: %w", f.path, name, err)
	}
	return nil
}

// toFloat32 converts the little-endian elements b to dst.
func toFloat32(dst []float32, b []byte, d DType) error {
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	case F16:
		for i := range dst {
			dst[i] = float16(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:])))
		}
	default:
		return fmt.Errorf("it has type %s where floating point is needed (F32, BF16, F16 or F64)", d)
	}
	return nil
}

// float16 widens an IEEE 754 half, which is exact.
func float16(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero and subnormals: fraction * 2^-24
		f := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// Folder is a model's weights: one file, or the shards that an index names.
type Folder struct {
	dir    string
	files  []*File
	byName map[string]*File
}

// Index is the name of the file that lists the shards of a folder.
const Index = "model.safetensors.index.json"

// Single is the name of the only weight file of a folder without an index.
const Single = "model.safetensors"

// OpenDir opens the weights of a Hugging Face model folder: the shards of model.safetensors.index.json where
// that exists, else model.safetensors. Every tensor of the index must stand in the shard that it names.
func OpenDir(dir string) (*Folder, error) {
	text, err := os.ReadFile(filepath.Join(dir, Index))
	if errors.Is(err, fs.ErrNotExist) {
		f, err := Open(filepath.Join(dir, Single))
		if errors.Is(err, fs.ErrNotExist) {
			for _, old := range []string{"pytorch_model.bin", "pytorch_model.bin.index.json"} {
				if _, found := os.Stat(filepath.Join(dir, old)); found == nil {
					return nil, fmt.Errorf("model folder %s has its weights in %s, which is not read, and no %s: save it as safetensors (transformers' save_pretrained does)", dir, old, Single)
				}
			}
			return nil, fmt.Errorf("model folder %s has neither %s nor %s: its weights are missing", dir, Single, Index)
		} else if err != nil {
			return nil, err
		}
		d := &Folder{dir: dir, files: []*File{f}, byName: map[string]*File{}}
		for _, t := range f.header.tensors {
			d.byName[t.Name] = f
		}
		return d, nil
	} else if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	d := &Folder{dir: dir, byName: map[string]*File{}}
	if err := d.openShards(text); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Folder) openShards(index []byte) error {
	var list struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	path := filepath.Join(d.dir, Index)
	if err := json.Unmarshal(index, &list); err != nil {
		return fmt.Errorf("read weights' index %s: %w", path, err)
	}
	if len(list.WeightMap) == 0 {
		return fmt.Errorf("read weights' index %s: its weight_map is empty", path)
	}
	shards := map[string]*File{}
	for _, tensor := range sortedKeys(list.WeightMap) {
		name := list.WeightMap[tensor]
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
			return fmt.Errorf("read weights' index %s: tensor %q is said to lie in %q, which is not a file of this folder", path, tensor, name)
		}
		shard := shards[name]
		if shard == nil {
			var err error
			if shard, err = Open(filepath.Join(d.dir, name)); err != nil {
				return fmt.Errorf("%w (named by %s)", err, Index)
			}
			shards[name] = shard
			d.files = append(d.files, shard)
		}
		if _, ok := shard.Tensor(tensor); !ok {
			return fmt.Errorf("read weights' index %s: tensor %q is not in %s", path, tensor, name)
		}
		d.byName[tensor] = shard
	}
	return nil
}

// Close closes every file.
func (d *Folder) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Tensors lists all tensors, sorted by name.
func (d *Folder) Tensors() []Tensor {
	var all []Tensor
	for _, name := range sortedKeys(d.byName) {
		t, _ := d.byName[name].Tensor(name)
		all = append(all, t)
	}
	return all
}

// Tensor describes the tensor of that name.
func (d *Folder) Tensor(name string) (Tensor, bool) {
	f := d.byName[name]
	if f == nil {
		return Tensor{}, false
	}
	return f.Tensor(name)
}

// Float32 reads a tensor into dst, which must have its length.
func (d *Folder) Float32(name string, dst []float32) error {
	f := d.byName[name]
	if f == nil {
		return fmt.Errorf("weights %s: there is no tensor %q", d.dir, name)
	}
	return f.Float32(name, dst)
}

// Float32Part reads part of a tensor: see File.Float32Part.
func (d *Folder) Float32Part(name string, from int, dst []float32) error {
	f := d.byName[name]
	if f == nil {
		return fmt.Errorf("weights %s: there is no tensor %q", d.dir, name)
	}
	return f.Float32Part(name, from, dst)
}

// Bytes returns a tensor's mapped bytes, read-only and valid until Close.
func (d *Folder) Bytes(name string) ([]byte, error) {
	f := d.byName[name]
	if f == nil {
		return nil, fmt.Errorf("weights %s: there is no tensor %q", d.dir, name)
	}
	return f.Bytes(name)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
