package stages

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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

// BenchmarkStages gives MB/s of the input on one processor.
func BenchmarkStages(b *testing.B) {
	data := benchRows(b, 64)
	raw := filepath.Join(sharedDir(b), "data/gsm8k/r1-sample.jsonl")
	var many []string
	for range 12 {
		many = append(many, raw)
	}
	near := stageOf[*Validate](b, "validate")
	near.NearDuplicates.On = true
	plain := stageOf[*Preprocess](b, "preprocess")
	plain.Dedupe = "none"
	for _, c := range []struct {
		name  string
		port  string
		files []string
		run   func(w *bench) error
	}{
		{"convert", "raw", many, func(w *bench) error {
			return w.run(&Convert{Format: "r1-distill-sft", InvalidUTF8: "fail", BadRows: "fail"})
		}},
		{"preprocess", "data", []string{data}, func(w *bench) error { return w.run(stageOf[*Preprocess](b, "preprocess")) }},
		{"preprocess-nodedupe", "data", []string{data}, func(w *bench) error { return w.run(plain) }},
		{"validate", "data", []string{data}, func(w *bench) error { return w.run(stageOf[*Validate](b, "validate")) }},
		{"validate-near", "data", []string{data}, func(w *bench) error { return w.run(near) }},
		{"split", "data", []string{data}, func(w *bench) error { return w.run(stageOf[*Split](b, "split")) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var size int64
			for _, f := range c.files {
				info, err := os.Stat(f)
				if err != nil {
					b.Fatal(err)
				}
				size += info.Size()
			}
			b.SetBytes(size)
			before, passes := userSeconds(b), 0
			for b.Loop() {
				passes++
				w := newBench(b)
				w.cpu = 1
				w.in[c.port] = c.files
				for _, name := range []string{"data", "train", "validation", "test"} {
					w.out[name] = w.path("out-" + name + ".jsonl")
				}
				if err := c.run(w); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(size)*float64(passes)/1e6/(userSeconds(b)-before), "MB/user-s")
		})
	}
}

// BenchmarkTwoMillionRows gives the peak memory of the stages over two million rows, half a gigabyte and more.
func BenchmarkTwoMillionRows(b *testing.B) {
	if testing.Short() {
		b.Skip("takes minutes")
	}
	w := newBench(b)
	rows := w.path("rows.jsonl")
	out, err := dataset.CreateRows(rows)
	if err != nil {
		b.Fatal(err)
	}
	base := problems(5000)
	for i := range 2_000_000 {
		row := base[i%len(base)]
		row.ID = fmt.Sprint("r", i)
		row.Messages = []dataset.Message{{Role: dataset.User, Content: fmt.Sprintf("%x %s %d", i*7919, row.Messages[0].Content, i)}, row.Messages[1]}
		if err := out.Write(&row); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	near := stageOf[*Validate](b, "validate")
	near.NearDuplicates.On = true
	for name, s := range map[string]runner.Stage{
		"convert":    &Convert{Format: "messages", InvalidUTF8: "fail", BadRows: "fail"},
		"preprocess": stageOf[*Preprocess](b, "preprocess"),
		"validate":   near,
		"split":      stageOf[*Split](b, "split"),
	} {
		b.Run(name, func(b *testing.B) {
			w.in = map[string][]string{"data": {rows}, "raw": {rows}}
			for _, port := range []string{"data", "train", "validation", "test"} {
				w.out[port] = w.path("out-" + port + ".jsonl")
			}
			if name == "split" {
				delete(w.in, "raw")
			}
			// Forgets the peak so far (proc(5)).
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
				b.Skip("the peak is told by Linux only")
			}
			for b.Loop() {
				w.must(s)
			}
			b.ReportMetric(peakMB(b), "peak-MB")
		})
	}
}

func peakMB(b *testing.B) float64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kB float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kB); n == 1 {
			return kB / 1024
		}
	}
	return 0
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
