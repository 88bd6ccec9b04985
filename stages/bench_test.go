package stages

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/parquet-go/parquet-go"

	"lpipe/dataset"
	"lpipe/runner"
)

// benchRows is a file of copies of the sample, each with its own prompts, about mb MB.
func benchRows(b *testing.B, mb int) string {
	w := newBench(b)
	w.in["raw"] = []string{filepath.Join(sharedDir(b), "data/gsm8k/r1-sample.parquet")}
	w.out["data"] = w.path("qa.jsonl")
	c := stageOf[*Convert](b, "convert")
	c.Format = "r1-distill-sft"
	w.must(c)
	rows := readRows(b, w.path("qa.jsonl"))
	out, err := dataset.CreateRows(w.path("many.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	for size, copies := 0, 0; size < mb<<20; copies++ {
		for i := range rows {
			row := rows[i]
			row.ID = fmt.Sprintf("%s-%d", row.ID, copies)
			row.Messages = append([]dataset.Message(nil), row.Messages...)
			row.Messages[0].Content = fmt.Sprintf("%d %s", copies, row.Messages[0].Content)
			size += row.Bytes()
			if err := out.Write(&row); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	return w.path("many.jsonl")
}

// BenchmarkStages gives MB/s of the input on one processor; of Parquet MB of the columns that are read, unpacked.
func BenchmarkStages(b *testing.B) {
	data := benchRows(b, 64)
	shared := filepath.Join(sharedDir(b), "data")
	times := func(file string) (many []string) {
		for range 12 {
			many = append(many, filepath.Join(shared, "gsm8k", file))
		}
		return many
	}
	convert := &Convert{Format: "r1-distill-sft", InvalidUTF8: "fail", BadRows: "fail"}
	near := stageOf[*Validate](b, "validate")
	near.NearDuplicates.On = true
	plain := stageOf[*Preprocess](b, "preprocess")
	plain.Dedupe = "none"
	for _, c := range []struct {
		name  string
		port  string
		files []string
		stage runner.Stage
	}{
		{"convert-parquet", "raw", times("r1-sample.parquet"), convert},
		{"convert-jsonl", "raw", times("r1-sample.jsonl"), convert},
		{"preprocess", "data", []string{data}, stageOf[*Preprocess](b, "preprocess")},
		{"preprocess-nodedupe", "data", []string{data}, plain},
		{"validate", "data", []string{data}, stageOf[*Validate](b, "validate")},
		{"validate-tokens", "data", []string{data}, stageOf[*Validate](b, "validate")},
		{"validate-near", "data", []string{data}, near},
		{"split", "data", []string{data}, stageOf[*Split](b, "split")},
	} {
		b.Run(c.name, func(b *testing.B) {
			var size int64
			before, passes := userSeconds(b), 0
			for b.Loop() {
				passes++
				w := newBench(b)
				w.cpu = 1
				w.in[c.port] = c.files
				if c.name == "validate-tokens" {
					w.in["tokenizer"] = []string{filepath.Join(shared, "qwen2.5")}
				}
				for _, name := range []string{"data", "train", "validation", "test"} {
					w.out[name] = w.path("out-" + name + ".jsonl")
				}
				w.must(c.stage)
				if size = totalSize(b, c.files); c.name == "convert-parquet" {
					size = projectedSize(b, c.files, convert.formatOf().columns())
				}
			}
			b.SetBytes(size)
			b.ReportMetric(float64(size)*float64(passes)/1e6/(userSeconds(b)-before), "MB/user-s")
		})
	}
}

// projectedSize is how many bytes the columns of Parquet files have, before compression.
func projectedSize(b *testing.B, files, columns []string) (size int64) {
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			b.Fatal(err)
		}
		parts, err := parquet.OpenFile(file, info.Size())
		if err != nil {
			b.Fatal(err)
		}
		for _, group := range parts.Metadata().RowGroups {
			for _, column := range group.Columns {
				if slices.Contains(columns, column.MetaData.PathInSchema[0]) {
					size += column.MetaData.TotalUncompressedSize
				}
			}
		}
	}
	return size
}

func totalSize(b *testing.B, files []string) (size int64) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// userSeconds is the processor time that this program has used, without that of the system.
func userSeconds(b *testing.B) float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return float64(used.Utime.Sec) + float64(used.Utime.Usec)/1e6
}

// BenchmarkMinHash signs prompts, without reading and grouping them.
func BenchmarkMinHash(b *testing.B) {
	var prompts []string
	size := 0
	for _, row := range problems(2000) {
		prompts = append(prompts, row.Prompt())
		size += len(row.Prompt())
	}
	hasher := newMinHasher(defaultNear())
	before, passes := userSeconds(b), 0
	b.SetBytes(int64(size))
	for b.Loop() {
		passes++
		for i, prompt := range prompts {
			if _, ok := hasher.sign(prompt, int64(i)); !ok {
				b.Fatal("no words")
			}
		}
	}
	b.ReportMetric(float64(size)*float64(passes)/1e6/(userSeconds(b)-before), "MB/user-s")
}
