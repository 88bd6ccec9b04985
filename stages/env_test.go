package stages

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"lpipe/dataset"
	"lpipe/runner"
)

// sharedDir is the folder of real data beside the repository; without it the test is skipped.
func sharedDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("LPIPE_SHARED"); dir != "" {
		return dir
	}
	dir, err := filepath.Abs(filepath.Join("..", "..", "shared"))
	if err == nil {
		if _, err = os.Stat(dir); err == nil {
			return dir
		}
	}
	t.Skip("needs ../shared beside the repository, or LPIPE_SHARED")
	return ""
}

// bench is one stage's run by hand: a workspace, inputs and outputs by port.
type bench struct {
	t   testing.TB
	dir string
	in  map[string][]string
	out map[string]string
	log bytes.Buffer
	cpu int
}

func newBench(t testing.TB) *bench {
	return &bench{t: t, dir: t.TempDir(), in: map[string][]string{}, out: map[string]string{}, cpu: 2}
}

// file writes a file of the workspace and returns its path.
func (b *bench) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// run runs a stage on the inputs and outputs set, checked as decode would.
func (b *bench) run(s runner.Stage) error {
	b.t.Helper()
	if c, ok := s.(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return err
		}
	}
	return s.Run(b.t.Context(), b.env())
}

// env is what a stage is run with.
func (b *bench) env() *runner.Env {
	env := &runner.Env{Dir: b.dir, Name: "test", In: map[string][]runner.Input{}, Out: b.out, CPUs: b.cpu,
		Scratch: filepath.Join(b.dir, ".scratch"), Log: &b.log, Report: func(runner.Event) {}}
	for port, paths := range b.in {
		for _, path := range paths {
			env.In[port] = append(env.In[port], runner.Input{Path: path})
		}
	}
	return env
}

func (b *bench) must(s runner.Stage) {
	b.t.Helper()
	if err := b.run(s); err != nil {
		b.t.Fatal(err)
	}
}

func readRows(t testing.TB, path string) []dataset.Row {
	t.Helper()
	r, err := dataset.OpenRows(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var rows []dataset.Row
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, *row)
	}
}

// kindNamed is a fresh stage of a kind with its defaults.
func stageOf[T runner.Stage](t testing.TB, name string) T {
	t.Helper()
	for _, k := range Kinds() {
		if k.Name == name {
			return k.New().(T)
		}
	}
	t.Fatal("no kind " + name)
	panic("not reached")
}
