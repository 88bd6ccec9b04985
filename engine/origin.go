package engine

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/zeebo/blake3"

	"lpipe/engine/safetensors"
)

// originFile stands beside adapter_model.safetensors and says what the adapter was trained on. Other programs
// pass over it; adapters of other programs do without.
const originFile = "lpipe_origin.json"

type origin struct {
	Version int    `json:"version"`
	Base    string `json:"base"`  // modelFingerprint
	Train   string `json:"train"` // fingerprint of the token folder's manifest
	// Quantize and Precision are the settings of a training that quantised its base on load.
	Quantize  string `json:"quantize,omitempty"`
	Precision string `json:"precision,omitempty"`
}

func writeOrigin(dir string, o origin) error {
	o.Version = 1
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return writeBytes(filepath.Join(dir, originFile), append(text, '\n'))
}

// CheckBase refuses an adapter that says it was trained on another model than that in modelDir. On a model of the
// same shape such an adapter would load, and give wrong answers.
func CheckBase(modelDir, adapterDir string) error {
	o, err := readOrigin(adapterDir)
	if err != nil || o == nil {
		return err
	}
	have, err := modelFingerprint(modelDir)
	if err != nil {
		return err
	}
	if o.Base != have {
		return fmt.Errorf("adapter %s was trained on another model than %s (fingerprint %s, not %s): give the model that it was trained on",
			adapterDir, modelDir, o.Base, have)
	}
	return nil
}

// readOrigin is nil where an adapter says nothing of its origin.
func readOrigin(adapterDir string) (*origin, error) {
	text, err := os.ReadFile(filepath.Join(adapterDir, originFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read adapter: %w", err)
	}
	o := &origin{}
	if err := json.Unmarshal(text, o); err != nil {
		return nil, fmt.Errorf("read adapter %s: %s: %w", adapterDir, originFile, err)
	}
	return o, nil
}

// modelFingerprint tells models apart without reading all of them: BLAKE3 of the names and shapes, and of the first
// and last values of every tensor, rounded to bfloat16. Neither files nor storage type matter, so that a model and
// its bfloat16 copy are one.
func modelFingerprint(dir string) (string, error) {
	files, err := safetensors.OpenDir(dir)
	if err != nil {
		return "", fmt.Errorf("model: %w", err)
	}
	defer files.Close()
	h := blake3.New()
	tensors := files.Tensors()
	slices.SortFunc(tensors, func(a, b safetensors.Tensor) int { return cmp.Compare(a.Name, b.Name) })
	const end = 1024 // values
	for _, t := range tensors {
		data, err := files.Bytes(t.Name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %v\n", t.Name, t.Shape)
		n := end * t.DType.Size()
		h.Write(halves(data[:min(n, len(data))], t.DType))
		h.Write(halves(data[max(0, len(data)-n):], t.DType))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// adapterFingerprint tells the weights of adapters apart.
func adapterFingerprint(dir string) (string, error) {
	weights, err := os.ReadFile(filepath.Join(dir, "adapter_model.safetensors"))
	if err != nil {
		return "", fmt.Errorf("from: %w", err)
	}
	return fingerprint(weights), nil
}

// halves rounds float32 to bfloat16, nearest even; other types stay as they are.
func halves(data []byte, t safetensors.DType) []byte {
	if t != safetensors.F32 {
		return data
	}
	var out []byte
	for ; len(data) >= 4; data = data[4:] {
		bits := binary.LittleEndian.Uint32(data)
		if v := math.Float32frombits(bits); v == v {
			bits += 0x7fff + bits>>16&1
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(bits>>16))
	}
	return out
}

func fingerprint(b []byte) string {
	sum := blake3.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
