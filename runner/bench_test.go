package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/stages"
)

// copies is a pipeline of n stages that each copy a file.
func copies(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "stage \"shell\" \"s%d\" {\n  in = { a = \"in/%d\" }\n  out = { b = \"out/%d\" }\n  command = [\"cp\", \"in/%d\", self.out.b]\n}\n", i, i, i, i)
	}
	return b.String()
}

func benchRepro(b *testing.B, dir string) (runner.Summary, time.Duration) {
	b.Helper()
	began := time.Now()
	p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: shellOnly()})
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	decoded := time.Since(began)
	return benchPipeline(b, p), decoded
}

func benchPipeline(b *testing.B, p *runner.Pipeline) runner.Summary {
	b.Helper()
	c, err := cache.Open(b.Context(), cache.Options{Dir: filepath.Join(p.Dir, ".lpipe", "cache")})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	state, err := cache.OpenState(filepath.Join(p.Dir, ".lpipe", "state"))
	if err != nil {
		b.Fatal(err)
	}
	r, diags, err := runner.New(runner.Options{Pipeline: p, Cache: c, State: state, Environ: os.Environ()})
	if err != nil || diags.HasErrors() {
		b.Fatal(err, diags)
	}
	summary, err := r.Repro(b.Context(), runner.ReproOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return summary
}

// BenchmarkLook is what the runner alone adds to such a run: from the decoded pipeline to the end.
func BenchmarkLook(b *testing.B) {
	dir := copyWorkspace(b, 1000)
	benchRepro(b, dir)
	p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: shellOnly()})
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	b.ResetTimer()
	for range b.N {
		benchPipeline(b, p)
	}
}

func shellOnly() []*runner.Kind { return []*runner.Kind{stages.Shell()} }

func copyWorkspace(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	os.Mkdir(filepath.Join(dir, "in"), 0o777)
	for i := range n {
		os.WriteFile(filepath.Join(dir, "in", fmt.Sprint(i)), []byte(fmt.Sprint("content ", i)), 0o644)
	}
	os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(copies(n)), 0o644)
	return dir
}

// BenchmarkFirstRun is 1,000 stages of cp, each run, stored, recorded and journalled.
func BenchmarkFirstRun(b *testing.B) {
	for range b.N {
		b.StopTimer()
		dir := copyWorkspace(b, 1000)
		b.StartTimer()
		if s, _ := benchRepro(b, dir); s.Ran != 1000 {
			b.Fatal(s)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/stage")
}

// BenchmarkNothingToDo is a repro of 1,000 stages that are up to date, from reading the file to the end.
func BenchmarkNothingToDo(b *testing.B) {
	dir := copyWorkspace(b, 1000)
	benchRepro(b, dir)
	var decode time.Duration
	b.ResetTimer()
	for range b.N {
		s, decoded := benchRepro(b, dir)
		if s.Reused != 1000 {
			b.Fatal(s)
		}
		decode += decoded
	}
	b.ReportMetric(float64(decode.Microseconds())/float64(b.N)/1000, "decode-ms")
}

// BenchmarkReadDecoded is what replaces decoding while no pipeline file changes.
func BenchmarkReadDecoded(b *testing.B) {
	dir := copyWorkspace(b, 1000)
	if err := os.MkdirAll(filepath.Join(dir, ".lpipe"), 0o777); err != nil {
		b.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	c := runner.Circumstances{Decode: runner.DecodeOptions{Dir: dir, Kinds: shellOnly()}, Program: program}
	for kept := false; !kept; time.Sleep(5 * time.Millisecond) {
		p, diags := runner.Decode(c.Decode)
		if diags.HasErrors() {
			b.Fatal(diags)
		}
		kept = p.KeepDecoded(c) == nil
	}
	for b.Loop() {
		if _, holds := runner.ReadDecoded(c); !holds {
			b.Fatal("it does not hold")
		}
	}
}
