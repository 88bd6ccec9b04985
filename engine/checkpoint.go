package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"
)

// A checkpoint is one file, step-<n>.ckpt, with all that a run needs to go on bit for bit:
//
//	8 bytes   "LPCKPT" and a version, little endian uint16: 1
//	8 bytes   length of the header, little endian uint64
//	header    JSON: settings of the run, its state, name and size of each tensor
//	tensors   float32, little endian, in the header's order
//	32 bytes  BLAKE3 of everything before
//
// It appears by rename when it is whole and on disk, and the one before stays until then. Files that do not match
// their hash are passed over.
type checkpoint struct {
	Settings map[string]string `json:"settings"` // of the run, by name: see run.settings
	Step     int               `json:"step"`
	State    json.RawMessage   `json:"state"`
	Tensors  []namedTensor     `json:"tensors"`
}

// namedTensor is a flat float32 array: a weight, a moment of the optimiser, a best weight.
type namedTensor struct {
	Name string    `json:"name"`
	Size int       `json:"size"`
	Data []float32 `json:"-"`
}

const (
	checkpointMagic   = "LPCKPT\x01\x00"
	checkpointEnding  = ".ckpt"
	maxCheckpointHead = 1 << 30
)

// errDamaged marks a checkpoint whose bytes are not what was written.
var errDamaged = errors.New("damaged checkpoint")

// tensor returns the data of a tensor that must be there with that size.
func (c *checkpoint) tensor(name string, size int) ([]float32, error) {
	for _, t := range c.Tensors {
		if t.Name == name {
			if t.Size != size {
				return nil, fmt.Errorf("checkpoint of step %d: %s has %d numbers, not %d", c.Step, name, t.Size, size)
			}
			return t.Data, nil
		}
	}
	return nil, fmt.Errorf("checkpoint of step %d: %s is missing", c.Step, name)
}

func (c *checkpoint) has(name string) bool {
	return slices.ContainsFunc(c.Tensors, func(t namedTensor) bool { return t.Name == name })
}

// save writes the checkpoint into dir and then removes all but the last keep.
func (c *checkpoint) save(dir string, keep int) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	removeLeftovers(dir)
	path := filepath.Join(dir, checkpointName(c.Step))
	err := writeFile(path, func(w io.Writer) error { return c.encode(w) })
	if err != nil {
		return fmt.Errorf("write checkpoint of step %d: %w", c.Step, err)
	}
	names, err := checkpointFiles(dir)
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-keep)] {
		os.Remove(filepath.Join(dir, name)) // one too many is no harm
	}
	return nil
}

// removeLeftovers removes what a killed run was writing.
func removeLeftovers(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, ".step-*"+checkpointEnding+".*"))
	for _, path := range left {
		os.Remove(path)
	}
}

func checkpointName(step int) string {
	return fmt.Sprintf("step-%09d%s", step, checkpointEnding)
}

func (c *checkpoint) encode(out io.Writer) error {
	sum := blake3.New()
	w := bufio.NewWriterSize(io.MultiWriter(out, sum), 1<<20)
	header, err := json.Marshal(c)
	if err != nil {
		return err
	}
	w.WriteString(checkpointMagic)
	binary.Write(w, binary.LittleEndian, uint64(len(header)))
	w.Write(header)
	var block [1 << 16]byte
	for _, t := range c.Tensors {
		for data := t.Data; len(data) > 0; {
			n := min(len(data), len(block)/4)
			for i, v := range data[:n] {
				binary.LittleEndian.PutUint32(block[4*i:], math.Float32bits(v))
			}
			if _, err := w.Write(block[:4*n]); err != nil {
				return err
			}
			data = data[n:]
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = out.Write(sum.Sum(nil))
	return err
}

// loadCheckpoint reads one file; errDamaged if it is not what was written.
func loadCheckpoint(path string) (*checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c, err := decodeCheckpoint(bufio.NewReaderSize(f, 1<<20), info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func decodeCheckpoint(in io.Reader, size int64) (*checkpoint, error) {
	r := &hashedReader{in, blake3.New(), size}
	start := make([]byte, 16)
	if err := r.full(start); err != nil {
		return nil, err
	}
	if !bytes.Equal(start[:6], []byte(checkpointMagic[:6])) {
		return nil, fmt.Errorf("%w: it does not begin as one", errDamaged)
	}
	if !bytes.Equal(start[:8], []byte(checkpointMagic)) {
		return nil, fmt.Errorf("a checkpoint of version %d, which this lpipe does not know",
			binary.LittleEndian.Uint16(start[6:]))
	}
	length := binary.LittleEndian.Uint64(start[8:])
	if length > maxCheckpointHead || int64(length) > r.left {
		return nil, fmt.Errorf("%w: a header of %d bytes", errDamaged, length)
	}
	header := make([]byte, length)
	if err := r.full(header); err != nil {
		return nil, err
	}
	c := new(checkpoint)
	if err := json.Unmarshal(header, c); err != nil {
		return nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	if err := c.readTensors(r); err != nil {
		return nil, err
	}
	want := r.sum.Sum(nil)
	got := make([]byte, len(want))
	if err := r.full(got); err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) || r.left != 0 {
		return nil, fmt.Errorf("%w: its bytes do not match its hash", errDamaged)
	}
	return c, nil
}

func (c *checkpoint) readTensors(r *hashedReader) error {
	var block [1 << 16]byte
	for i := range c.Tensors {
		t := &c.Tensors[i]
		if t.Size < 0 || int64(t.Size) > r.left/4 {
			return fmt.Errorf("%w: %s of %d numbers", errDamaged, t.Name, t.Size)
		}
		t.Data = make([]float32, t.Size)
		for at := 0; at < t.Size; {
			n := min(t.Size-at, len(block)/4)
			if err := r.full(block[:4*n]); err != nil {
				return err
			}
			for j := range n {
				t.Data[at+j] = math.Float32frombits(binary.LittleEndian.Uint32(block[4*j:]))
			}
			at += n
		}
	}
	return nil
}

// hashedReader reads what is left of a file and hashes it on the way.
type hashedReader struct {
	in   io.Reader
	sum  hash.Hash
	left int64
}

func (r *hashedReader) full(p []byte) error {
	n, err := io.ReadFull(r.in, p)
	r.left -= int64(n)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it ends early", errDamaged)
		}
		return err
	}
	r.sum.Write(p)
	return nil
}

// latestCheckpoint loads the newest good checkpoint of a folder, nil if there is none. note is told of every one
// that was passed over.
func latestCheckpoint(dir string, note func(string)) (*checkpoint, error) {
	names, err := checkpointFiles(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(names) {
		c, err := loadCheckpoint(filepath.Join(dir, name))
		if errors.Is(err, errDamaged) {
			note(fmt.Sprintf("passed over: %v", err))
			continue
		}
		return c, err
	}
	return nil, nil
}

// checkpointFiles lists a folder's checkpoints, oldest first.
func checkpointFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for checkpoints: %w", err)
	}
	var names []string
	for _, e := range entries {
		number, isOne := strings.CutSuffix(e.Name(), checkpointEnding)
		number, isOne2 := strings.CutPrefix(number, "step-")
		if _, err := strconv.Atoi(number); isOne && isOne2 && err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil // ReadDir sorts, and the numbers have leading zeros
}

// writeFile writes a file so that path holds either what it held or all of the new content: a temporary file
// beside it, sync, rename, sync of the folder.
func writeFile(path string, fill func(io.Writer) error) (err error) {
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
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
