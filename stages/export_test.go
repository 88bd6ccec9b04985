package stages

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/dataset"
)

// exported is what a reader prints of a sequence.
type exported struct {
	IDs     []int32 `json:"ids"`
	Trained []int   `json:"trained"`
	ID      string  `json:"id"`
	Answer  string  `json:"answer"`
}

// tokenFolder makes a folder of n sequences of random ids.
func tokenFolder(t *testing.T, b *bench, n int) (path string, want []exported) {
	t.Helper()
	rng := rand.New(rand.NewPCG(9, 9))
	path = b.path("tokens")
	w, err := dataset.CreateTokens(path, dataset.Manifest{VocabSize: 151_665, MaxTokens: 64})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		s := dataset.Sequence{ID: fmt.Sprint("r", i), Answer: fmt.Sprint(i, "ü"), Row: i}
		one := exported{ID: s.ID, Answer: s.Answer}
		for k := range 1 + rng.IntN(63) {
			s.IDs, s.Mask = append(s.IDs, int32(rng.IntN(151_665))), append(s.Mask, k > 0 && rng.IntN(2) == 0)
			one.Trained = append(one.Trained, 0)
			if s.Mask[k] {
				one.Trained[k] = 1
			}
		}
		one.IDs = s.IDs
		want = append(want, one)
		if err := w.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path, want
}

// What export writes is read back by the libraries that the formats are for. LPIPE_TEST_PYTHON names a Python that has them.
func TestExportsAreReadByTheirLibraries(t *testing.T) {
	python := os.Getenv("LPIPE_TEST_PYTHON")
	if python == "" {
		t.Skip("LPIPE_TEST_PYTHON names no Python with datasets and pyarrow")
	}
	for _, format := range dataset.ExportFormats() {
		t.Run(format, func(t *testing.T) {
			b := newBench(t)
			path, want := tokenFolder(t, b, 2300)
			b.in["tokens"], b.out["data"] = []string{path}, b.path("out")
			b.must(&Export{Format: format})
			command := exec.Command(python, filepath.Join("testdata", "export", "read.py"), format, b.path("out"))
			command.Env = append(os.Environ(), "HF_HOME="+b.path("hf"), "HF_HUB_OFFLINE=1", "HF_DATASETS_DISABLE_PROGRESS_BARS=1")
			var complaint strings.Builder
			command.Stderr = &complaint
			out, err := command.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, complaint.String())
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if len(lines) != len(want) {
				t.Fatalf("%d sequences of %d", len(lines), len(want))
			}
			for i, line := range lines {
				var got exported
				if err := json.Unmarshal([]byte(line), &got); err != nil {
					t.Fatal(err)
				}
				same := slices.Equal(got.IDs, want[i].IDs) && slices.Equal(got.Trained, want[i].Trained)
				if named := format == "parquet" || format == "arrow"; !same || named && (got.ID != want[i].ID || got.Answer != want[i].Answer) {
					t.Fatalf("sequence %d: %+v, want %+v", i, got, want[i])
				}
			}
		})
	}
}

// The bytes of the two binary formats, for two sequences: ids 151644 872 198 (mask 0 0 1) and 1 2 (mask 0 1).
func TestExportBytes(t *testing.T) {
	b := newBench(t)
	w, err := dataset.CreateTokens(b.path("tokens"), dataset.Manifest{VocabSize: 151_665})
	for _, s := range []dataset.Sequence{{IDs: []int32{151644, 872, 198}, Mask: []bool{false, false, true}}, {IDs: []int32{1, 2}, Mask: []bool{false, true}, Row: 1}} {
		if err == nil {
			err = w.Append(s)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	words := func(v ...any) (raw []byte) {
		for _, one := range v {
			if text, ok := one.(string); ok {
				raw = append(raw, text...)
				continue
			}
			if raw, err = binary.Append(raw, binary.LittleEndian, one); err != nil {
				t.Fatal(err)
			}
		}
		return raw
	}
	ids := []int32{151644, 872, 198, 1, 2}
	idx := func(code uint8, size int64) []byte {
		return words("MMIDIDX\x00\x00", uint64(1), code, uint64(2), uint64(3), []int32{3, 2}, []int64{0, 3 * size}, []int64{0, 1, 2})
	}
	head := append(words("BIN.TOK\n", []int32{3, 4, 5, 151_665, 1, 1}), make([]byte, 1024-32)...)
	for format, files := range map[string]map[string][]byte{
		"megatron": {"tokens.bin": words(ids), "tokens.idx": idx(4, 4), "mask.bin": {0, 0, 1, 0, 1}, "mask.idx": idx(1, 1)},
		"bin.tok":  {"tokens-00000.bin": slices.Concat(head, words(ids, []int32{0, 1, 2, 0, 1}), []byte{0b01010})},
	} {
		b.in["tokens"], b.out["data"] = []string{b.path("tokens")}, b.path(format)
		b.must(&Export{Format: format})
		for name, want := range files {
			if got, err := os.ReadFile(filepath.Join(b.path(format), name)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %x %v\nwant %x", name, got, err, want)
			}
		}
	}
	if err := (&Export{Format: "mds"}).Check(); err == nil || !strings.HasPrefix(err.Error(), `format: "mds" is not one of megatron`) {
		t.Error(err)
	}
}
