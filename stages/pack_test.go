package stages

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"lpipe/dataset"
)

// packed is a row of packs.
type packed struct {
	IDs       []int32 `parquet:"input_ids,list" json:"input_ids"`
	Labels    []int32 `parquet:"labels,list" json:"labels"`
	Positions []int32 `parquet:"position_ids,list" json:"position_ids"`
	Lengths   []int32 `parquet:"seq_lengths,list" json:"seq_lengths"`
}

// Tokens are packed to two lengths without being made anew; what export writes of them is those sequences, and pyarrow reads
// the same where there is one.
func TestPacksOfTwoLengths(t *testing.T) {
	b := newBench(t)
	path, want := tokenFolder(t, b, 500)
	for _, length := range []string{"64", "200"} {
		pack := stageOf[*Pack](t, "pack")
		pack.Length = map[string]int{"64": 64, "200": 200}[length]
		b.in, b.out = map[string][]string{"tokens": {path}}, map[string]string{"packs": b.path("pack.idx" + length)}
		b.must(pack)
		b.in["packs"], b.out["data"] = []string{b.path("pack.idx" + length)}, b.path("out"+length)
		b.must(&Export{Format: "parquet"})
		file := filepath.Join(b.path("out"+length), "tokens-00000.parquet")
		rows, err := parquet.ReadFile[packed](file)
		if err != nil {
			t.Fatal(err)
		}
		checkPacked(t, rows, want, pack.Length)
		if python := os.Getenv("LPIPE_TEST_PYTHON"); python != "" {
			out, err := exec.Command(python, "-c", "import json, sys, pyarrow.parquet as p\nprint(json.dumps(p.read_table(sys.argv[1]).to_pylist()))", file).Output()
			var read []packed
			if err != nil || json.Unmarshal(out, &read) != nil {
				t.Fatalf("%v: %s", err, out)
			}
			checkPacked(t, read, want, pack.Length)
		}
	}
	b.out["data"] = b.path("other")
	if err := b.run(&Export{Format: "arrow"}); err == nil || !strings.Contains(err.Error(), "export them as parquet") {
		t.Error(err)
	}
}

// checkPacked finds each sequence once, whole, with its positions and targets.
func checkPacked(t *testing.T, rows []packed, want []exported, length int) {
	t.Helper()
	left := map[string]int{}
	for _, w := range want {
		raw, _ := json.Marshal(w.IDs)
		left[string(raw)]++
	}
	trained := 0
	for _, row := range rows {
		if len(row.IDs) > length || len(row.Labels) != len(row.IDs) || len(row.Positions) != len(row.IDs) {
			t.Fatalf("a row of %d tokens in a pack of %d", len(row.IDs), length)
		}
		at := 0
		for _, n := range row.Lengths {
			raw, _ := json.Marshal(row.IDs[at : at+int(n)])
			left[string(raw)]--
			for k := range int(n) {
				if row.Positions[at+k] != int32(k) || row.Labels[at+k] != -100 && row.Labels[at+k] != row.IDs[at+k] {
					t.Fatalf("position %d and label %d of token %d", row.Positions[at+k], row.Labels[at+k], row.IDs[at+k])
				}
				if row.Labels[at+k] != -100 {
					trained++
				}
			}
			at += int(n)
		}
		if at != len(row.IDs) {
			t.Fatalf("lengths %d of %d tokens", row.Lengths, len(row.IDs))
		}
	}
	for ids, n := range left {
		if n != 0 {
			t.Fatalf("%d times too few: %s", n, ids)
		}
	}
	wantTrained := 0
	for _, w := range want {
		wantTrained += len(slices.DeleteFunc(slices.Clone(w.Trained), func(on int) bool { return on == 0 }))
	}
	if trained != wantTrained {
		t.Errorf("%d targets, want %d", trained, wantTrained)
	}
}

func TestPackSaysWhatDoesNotFit(t *testing.T) {
	b := newBench(t)
	path, _ := tokenFolder(t, b, 20)
	b.in, b.out = map[string][]string{"tokens": {path}}, map[string]string{"packs": b.path("pack.idx")}
	pack := &Pack{Length: 2, Overlong: string(dataset.Split)}
	b.must(pack)
	if err := (&Pack{Length: 1, Overlong: "drop"}).Check(); err == nil || !strings.HasPrefix(err.Error(), "length:") {
		t.Error(err)
	}
	if err := (&Pack{Length: 8, Overlong: "cut"}).Check(); err == nil || !strings.HasPrefix(err.Error(), "overlong:") {
		t.Error(err)
	}
}
