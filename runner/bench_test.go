package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

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
	return benchOptions(b, runner.Options{Pipeline: p})
}

func benchOptions(b *testing.B, o runner.Options) runner.Summary {
	b.Helper()
	dir := o.Pipeline.Dir
	c, err := cache.Open(b.Context(), cache.Options{Dir: filepath.Join(dir, ".lpipe", "cache")})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	state, err := cache.OpenState(filepath.Join(dir, ".lpipe", "state"))
	if err != nil {
		b.Fatal(err)
	}
	o.Cache, o.State, o.Environ = c, state, os.Environ()
	r, diags, err := runner.New(o)
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

// BenchmarkToldAfter is how long after its command's end a stage is told as done, which is durable then: 1,000 stages of cp in
// chains of ten. Beside it stands, from the seconds after each run, what a bare loop waits for the same on the same disk.
func BenchmarkToldAfter(b *testing.B) {
	var late, bare []time.Duration
	for range b.N {
		b.StopTimer()
		dir := chainWorkspace(b, 100)
		p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: shellOnly()})
		if diags.HasErrors() {
			b.Fatal(diags)
		}
		began := map[string]time.Time{}
		b.StartTimer()
		benchOptions(b, runner.Options{Pipeline: p, Report: func(e runner.RunEvent) {
			switch e.Event {
			case "start":
				began[e.Stage] = e.Time
			case "stage":
				ended := began[e.Stage].Add(time.Duration(e.Seconds * float64(time.Second)))
				late = append(late, time.Since(ended))
			}
		}})
		b.StopTimer()
		for range 30 {
			bare = append(bare, bareFlushes(b))
		}
		b.StartTimer()
	}
	slices.Sort(late)
	slices.Sort(bare)
	for name, share := range map[string]float64{"median-ms": 0.5, "p90-ms": 0.9, "p99-ms": 0.99, "worst-ms": 1} {
		b.ReportMetric(late[int(share*float64(len(late)-1))].Seconds()*1000, name)
		b.ReportMetric(bare[int(share*float64(len(bare)-1))].Seconds()*1000, "bare-"+name)
	}
	over, _ := slices.BinarySearch(late, 50*time.Millisecond)
	b.ReportMetric(float64(len(late)-over)/float64(len(late))*100, "%>50ms")
}

// bareFlushes is the least that a group of eight stages must wait for: bytes of new files, their names, names of results, a line
// at the end of a file, each durable before the next.
func bareFlushes(b *testing.B) time.Duration {
	b.Helper()
	dir := b.TempDir()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	put := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		must(err)
		_, err = f.WriteString(name)
		must(err)
		return f
	}
	folder, err := os.Open(dir)
	must(err)
	defer folder.Close()
	journal := put("journal")
	defer journal.Close()
	var syncs errgroup.Group
	began := time.Now()
	for i := range 16 { // an object and a result for each
		f := put(fmt.Sprint(i))
		defer f.Close()
		syncs.Go(f.Sync)
	}
	must(syncs.Wait())
	for _, f := range []*os.File{folder, folder, journal} {
		_, err := journal.WriteString("stage\n")
		must(err)
		put(fmt.Sprint("name ", time.Since(began).Nanoseconds())).Close() // else the folder has nothing to sync
		must(f.Sync())
	}
	return time.Since(began)
}

// chainWorkspace is chains of ten copies each.
func chainWorkspace(b *testing.B, chains int) string {
	b.Helper()
	dir := b.TempDir()
	var text strings.Builder
	for c := range chains {
		before := fmt.Sprintf("in%d", c)
		os.WriteFile(filepath.Join(dir, before), []byte(fmt.Sprint("source ", c)), 0o644)
		for i := range 10 {
			name := fmt.Sprintf("s%d_%d", c, i)
			fmt.Fprintf(&text, "stage \"shell\" \"%s\" {\n  in = { a = \"%s\" }\n  out = { b = \"out/%s\" }\n  command = \"cp %s out/%s\"\n}\n", name, before, name, before, name)
			before = "out/" + name
		}
	}
	os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(text.String()), 0o644)
	return dir
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
