package stages

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/dataset"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Files that pyarrow wrote (testdata/pyarrow/make.py): both schemas of R1-Distill-SFT, of any codec, page version, encoding
// and naming of lists, give the same rows.
func TestFilesOfPyarrow(t *testing.T) {
	for pattern, golden := range map[string]string{"v1-*.parquet": "v1.jsonl", "v0-zstd.parquet": "v0.jsonl", "v0.csv": "v0.jsonl"} {
		files, err := filepath.Glob(filepath.Join("testdata", "pyarrow", pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			b := newBench(t)
			b.in["raw"], b.out["data"] = []string{file}, b.path("qa.jsonl")
			convert := stageOf[*Convert](t, "convert")
			convert.Format = "r1-distill-sft"
			b.must(convert)
			sameAsGolden(t, file, b.path("qa.jsonl"), filepath.Join("testdata", "pyarrow", golden))
		}
	}
}

func sameAsGolden(t *testing.T, name, path, golden string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: not as in %s:\n%s", name, golden, got)
	}
}

// Columns of every type are kept as a person would write them.
func TestTypesOfPyarrow(t *testing.T) {
	for file, keep := range map[string][]string{
		"kinds.parquet": {"bool", "int8", "uint32", "uint64", "half", "float", "double", "date", "seconds", "micros", "nanos", "time", "decimal", "wide", "binary", "map", "nested", "struct"},
		"int96.parquet": {"seconds"},
	} {
		b := newBench(t)
		b.in["raw"], b.out["data"] = []string{filepath.Join("testdata", "pyarrow", file)}, b.path("qa.jsonl")
		convert := stageOf[*Convert](t, "convert")
		convert.Format, convert.Columns, convert.Keep = "columns", map[string]string{"prompt": "prompt", "response": "response"}, keep
		b.must(convert)
		sameAsGolden(t, file, b.path("qa.jsonl"), filepath.Join("testdata", "pyarrow", strings.TrimSuffix(file, ".parquet")+".jsonl"))
	}
}

// What the statistics of a Parquet file say is of no account: writers get them wrong.
func TestParquetWithWrongStatistics(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "pyarrow", "v0-zstd.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(raw, []byte("PAR1"))
	size := int(raw[at-4]) | int(raw[at-3])<<8
	footer := raw[at-4-size : at-4]
	if n := bytes.Count(footer, []byte("id-5")); n < 1 {
		t.Fatalf("the footer has %d greatest ids: another file?", n)
	}
	copy(footer, bytes.ReplaceAll(footer, []byte("id-5"), []byte("aa-0"))) // the greatest is the least
	copy(footer, bytes.ReplaceAll(footer, []byte("id-1"), []byte("zz-9")))
	b := newBench(t)
	b.in["raw"], b.out["data"] = []string{b.file("x.parquet", string(raw))}, b.path("qa.jsonl")
	convert := stageOf[*Convert](t, "convert")
	convert.Format = "r1-distill-sft"
	b.must(convert)
	sameAsGolden(t, "wrong statistics", b.path("qa.jsonl"), filepath.Join("testdata", "pyarrow", "v0.jsonl"))
}

// Which of two columns of one name is meant nobody knows: in any format one clear error says so.
func TestColumnsThatStandTwice(t *testing.T) {
	twice, err := os.ReadFile(filepath.Join("testdata", "pyarrow", "twice.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a.parquet": string(twice), "b.csv": "prompt,prompt,response\na,b,c\n", "c.tsv": "prompt\tresponse\tprompt\na\tb\tc\n"} {
		b := newBench(t)
		b.in["raw"], b.out["data"] = []string{b.file(name, text)}, b.path("qa.jsonl")
		convert := stageOf[*Convert](t, "convert")
		convert.Format, convert.Columns = "columns", map[string]string{"prompt": "prompt", "response": "response"}
		if err := b.run(convert); err == nil || !strings.Contains(err.Error(), name+" has two columns \"prompt\"") {
			t.Errorf("%s: %v", name, err)
		}
		convert.Columns["prompt"] = "response" // where it is not asked for it does no harm
		if err := b.run(convert); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file without rows is told as that, not as one without its columns.
func TestParquetWithoutRows(t *testing.T) {
	r, err := dataset.Open(filepath.Join("testdata", "pyarrow", "v0-norows.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); err == nil {
		t.Error("a row")
	}
	b := newBench(t)
	b.in["raw"], b.out["data"] = []string{filepath.Join("testdata", "pyarrow", "v0-norows.parquet")}, b.path("qa.jsonl")
	convert := stageOf[*Convert](t, "convert")
	convert.Format = "r1-distill-sft"
	if err := b.run(convert); err == nil || !strings.Contains(err.Error(), "no rows in it") {
		t.Error(err)
	}
}
