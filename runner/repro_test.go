package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/stages"
)

// workspace is a project on disk with a pipeline and what happened in it.
type workspace struct {
	t     *testing.T
	dir   string
	kinds []*runner.Kind
	opts  func(*runner.Options)
	vars  []string

	mu     sync.Mutex
	events []runner.RunEvent
}

func newWorkspace(t *testing.T, pipeline string, files ...string) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir()}
	w.kinds = []*runner.Kind{stages.Shell(), upperKind(nil)}
	w.write("pipeline.hcl", pipeline)
	for i := 0; i < len(files); i += 2 {
		w.write(files[i], files[i+1])
	}
	return w
}

func (w *workspace) write(path, text string) {
	w.t.Helper()
	at := filepath.Join(w.dir, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		w.t.Fatal(err)
	}
	os.Remove(at)
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// open is a Runner as a fresh process would have it.
func (w *workspace) open() *runner.Runner {
	w.t.Helper()
	p, diags := runner.Decode(runner.DecodeOptions{Dir: w.dir, Vars: w.vars, Kinds: w.kinds})
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	c, err := cache.Open(w.t.Context(), cache.Options{Dir: filepath.Join(w.dir, ".lpipe", "cache"), Link: p.Settings.Link})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	state, err := cache.OpenState(filepath.Join(w.dir, ".lpipe", "state"))
	if err != nil {
		w.t.Fatal(err)
	}
	o := runner.Options{Pipeline: p, Cache: c, State: state, Environ: os.Environ(), Jobs: 4, Report: w.note}
	if w.opts != nil {
		w.opts(&o)
	}
	r, diags, err := runner.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	return r
}

func (w *workspace) note(e runner.RunEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// repro runs and returns how each stage came out: "a:ran b:workspace", by name.
func (w *workspace) repro(targets ...string) string {
	w.t.Helper()
	_, err := w.try(runner.ReproOptions{Targets: targets})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.how()
}

func (w *workspace) try(o runner.ReproOptions) (runner.Summary, error) {
	w.t.Helper()
	w.mu.Lock()
	w.events = nil
	w.mu.Unlock()
	return w.open().Repro(w.t.Context(), o)
}

func (w *workspace) how() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, e := range w.events {
		if e.Event == "stage" {
			all = append(all, e.Stage+":"+e.How)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// told is what was told of stages, in order.
func (w *workspace) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, e := range w.events {
		if e.Event == "start" || e.Event == "stage" {
			all = append(all, e.Event+" "+e.Stage)
		}
	}
	return strings.Join(all, ", ")
}

func (w *workspace) messages() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, e := range w.events {
		if e.Event == "warning" || e.Event == "note" || e.Event == "wait" {
			all = append(all, e.Message)
		}
	}
	return strings.Join(all, "\n")
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%s", what, part, text)
		}
	}
}

// upper is a built-in kind for tests: it writes its input in capitals.
type upper struct {
	Suffix string `hcl:"suffix,optional"`
	before func(env *runner.Env) error
}

func upperKind(before func(env *runner.Env) error) *runner.Kind {
	return &runner.Kind{Name: "upper", Version: 1, New: func() runner.Stage { return &upper{before: before} },
		In: []runner.Port{{Name: "data"}}, Out: []runner.Port{{Name: "data", Ext: ".txt"}}}
}

func (u *upper) Run(ctx context.Context, env *runner.Env) error {
	if u.before != nil {
		if err := u.before(env); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(env.In["data"][0].Path)
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Log, "writing capitals")
	return os.WriteFile(env.Out["data"], []byte(strings.ToUpper(string(data))+u.Suffix), 0o644)
}

const chain = `
variable "tail" { default = "" }
stage "shell" "clean" {
  in      = { raw = "raw.txt" }
  out     = { data = "build/clean.txt" }
  command = "tr -d ' ' < raw.txt > ${self.out.data}; echo cleaned"
}
stage "upper" "loud" {
  in     = { data = stage.clean.data }
  out    = { data = "build/loud.txt" }
  suffix = var.tail
}
stage "shell" "count" {
  out     = { n = "build/n" }
  command = ["sh", "-c", "wc -c < ${stage.loud.data} > ${self.out.n}"]
}
`

func TestReproRunsOnceAndThenOnlyWhatChanged(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b c\n")
	equal(t, "first run", w.repro(), "clean:ran count:ran loud:ran")
	equal(t, "loud", w.read("build/loud.txt"), "ABC\n")
	equal(t, "told in order", w.told(), "start clean, stage clean, start loud, stage loud, start count, stage count")
	lock := w.read("pipeline.lock")
	equal(t, "second run", w.repro(), "clean:workspace count:workspace loud:workspace")
	equal(t, "lock after a run that did nothing", w.read("pipeline.lock"), lock)

	w.write("raw.txt", "a  b c\n") // other bytes, the same output of clean
	equal(t, "early cut-off", w.repro(), "clean:ran count:workspace loud:workspace")

	w.vars = []string{"tail=!"}
	equal(t, "a setting changed", w.repro(), "clean:workspace count:ran loud:ran")
	w.vars = nil
	equal(t, "a setting changed back", w.repro(), "clean:workspace count:cache loud:cache")
	equal(t, "loud again", w.read("build/loud.txt"), "ABC\n")

	w.write("pipeline.hcl", "# a comment\n"+chain)
	equal(t, "a comment", w.repro(), "clean:workspace count:workspace loud:workspace")
	if w.opened(".lpipe/journal") {
		t.Error("the run left a journal")
	}
	for _, folder := range []string{"tmp", "scratch"} {
		if left, _ := os.ReadDir(filepath.Join(w.dir, ".lpipe", folder)); len(left) > 0 {
			t.Errorf("the run left %v in %s", left, folder)
		}
	}
}

func (w *workspace) opened(path string) bool {
	_, err := os.Lstat(filepath.Join(w.dir, path))
	return err == nil
}

func TestDeletedOutputComesFromTheCache(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	os.RemoveAll(filepath.Join(w.dir, "build"))
	equal(t, "after rm -r build", w.repro(), "clean:cache count:cache loud:cache")
	os.Remove(filepath.Join(w.dir, "pipeline.lock"))
	equal(t, "after rm pipeline.lock", w.repro(), "clean:workspace count:workspace loud:workspace")
	os.RemoveAll(filepath.Join(w.dir, ".lpipe"))
	equal(t, "after rm -r .lpipe", w.repro(), "clean:workspace count:workspace loud:workspace")
}

func TestFailedStageSaysWhy(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "bad" {
  out     = { a = "build/a", b = "build/b" }
  command = "echo one; echo two >&2; echo half > build/a; exit 3"
}
stage "shell" "after" {
  out     = { c = "build/c" }
  command = "cp ${stage.bad.a} ${self.out.c}"
}
stage "shell" "apart" {
  out     = { d = "build/d" }
  command = "echo d > ${self.out.d}"
}
`)
	_, err := w.try(runner.ReproOptions{KeepGoing: true})
	var failed *runner.FailedError
	if !errors.As(err, &failed) || len(failed.Failures) != 1 || failed.Blocked != 1 {
		t.Fatalf("error %v", err)
	}
	f := failed.Failures[0]
	equal(t, "failure", f.Error(), "stage bad: exit status 3")
	equal(t, "tail", strings.Join(f.Tail, "|"), "one|two")
	contains(t, "command", f.Command, "exit 3")
	equal(t, "log", w.read(f.Log), "one\ntwo\n")
	equal(t, "what it left", w.read(filepath.Join(w.rel(f.Moved), "build/a")), "half\n")
	if w.opened("build/a") {
		t.Error("the failed stage's output stands in the workspace")
	}
	equal(t, "with --keep-going", w.how(), "after:skipped apart:ran bad:failed")
	status := w.status()
	equal(t, "status", status, "after:stale apart:fresh bad:failed")
}

func (w *workspace) rel(path string) string {
	if rel, err := filepath.Rel(w.dir, path); err == nil && filepath.IsAbs(path) {
		return rel
	}
	return path
}

func (w *workspace) status() string {
	w.t.Helper()
	report, err := w.open().Status(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, s := range report.Stages {
		all = append(all, s.Name+":"+s.State)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestEveryDeclaredOutputIsDemanded(t *testing.T) {
	for _, test := range []struct{ name, out, command, want string }{
		{"missing", `{ a = "x/a", b = "x/b" }`, "echo > x/a", `did not write its output "b" (x/b)`},
		{"file for folder", `{ a = "x/a/" }`, "echo > x/a", "declared as a folder"},
		{"link", `{ a = "x/a" }`, "ln -s /etc/passwd x/a", "symbolic link"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorkspace(t, fmt.Sprintf("stage \"shell\" \"s\" {\n out = %s\n command = %q\n}\n", test.out, test.command))
			_, err := w.try(runner.ReproOptions{})
			if err == nil {
				t.Fatal("it succeeded")
			}
			var failed *runner.FailedError
			errors.As(err, &failed)
			contains(t, "error", failed.Failures[0].Error(), test.want)
			if w.opened("pipeline.lock") {
				t.Error("a failed run wrote a lock")
			}
		})
	}
}

func TestInputChangedWhileItsStageRan(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.kinds[1] = upperKind(func(env *runner.Env) error {
		w.write("raw.txt", "changed\n")
		return os.WriteFile(env.In["data"][0].Path+".new", nil, 0o644)
	})
	w.write("pipeline.hcl", `
stage "upper" "loud" {
  in  = { data = "raw.txt" }
  out = { data = "build/loud.txt" }
}
`)
	equal(t, "first", w.repro(), "loud:ran")
	contains(t, "warning", w.messages(), "raw.txt changed while the stage ran", "not recorded")
	w.kinds[1] = upperKind(nil)
	equal(t, "second", w.repro(), "loud:ran")
	equal(t, "no false alarm", w.messages(), "")
	equal(t, "output", w.read("build/loud.txt"), "CHANGED\n")
}

func TestEditOfAnOutputIsKeptAndReplaced(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	w.write("build/clean.txt", "my own work\n")
	equal(t, "status", w.status(), "clean:stale count:fresh loud:fresh")
	equal(t, "repro", w.repro(), "clean:cache count:workspace loud:workspace")
	contains(t, "warning", w.messages(), "build/clean.txt was changed outside lpipe", "pinned")
	equal(t, "restored", w.read("build/clean.txt"), "ab\n")
	roots, err := runner.Roots(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	mine := cache.Sum([]byte("my own work\n"))
	if !slices.ContainsFunc(roots.Contents, func(c cache.Content) bool { return c.ID == mine }) {
		t.Error("gc would remove the edit")
	}
	r := w.open()
	object, err := r.Cache.Open(mine)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(object)
	equal(t, "kept", string(data), "my own work\n")
}

func TestCommitAcceptsAnEdit(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	w.write("build/clean.txt", "mine\n")
	if _, err := w.open().Commit(t.Context(), "clean"); err != nil {
		t.Fatal(err)
	}
	equal(t, "repro", w.repro(), "clean:workspace count:ran loud:ran")
	equal(t, "downstream", w.read("build/loud.txt"), "MINE\n")
}

func TestCheckoutCleanAndUnlink(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	removed, err := w.open().Clean(t.Context(), []string{"loud", "build/n"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "removed", strings.Join(removed, " "), "build/loud.txt build/n")
	equal(t, "status", w.status(), "clean:fresh count:missing loud:missing")
	done, err := w.open().Checkout(t.Context(), nil)
	if err != nil || len(done) != 3 {
		t.Fatal(done, err)
	}
	equal(t, "status", w.status(), "clean:fresh count:fresh loud:fresh")
	if err := w.open().Unlink(t.Context(), "build/n"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(w.dir, "build/n"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("x")
	f.Close()
	w.open().Clean(t.Context(), []string{"count"})
	if _, err := w.open().Checkout(t.Context(), []string{"count"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "the cache's own copy", w.read("build/n"), "3\n")
}

func TestMissingSourceCountsAsUnchanged(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	os.Remove(filepath.Join(w.dir, "raw.txt"))
	equal(t, "without the source", w.repro(), "clean:workspace count:workspace loud:workspace")

	w.write("raw.txt", "a b\n")
	if _, err := w.open().Add(t.Context(), []string{"raw.txt"}); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(w.dir, "raw.txt"))
	_, err := w.try(runner.ReproOptions{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "put back from the cache", w.read("raw.txt"), "a b\n")
}

func TestCancelledRunGoesOn(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "a" {
  out     = { a = "build/a" }
  command = "echo a > build/a"
}
stage "shell" "b" {
  out     = { b = "build/b" }
  command = "cp ${stage.a.a} build/b; echo begun; [ -e go ] || sleep 60"
}
`)
	ctx, stop := context.WithCancelCause(t.Context())
	cancel := func() { stop(errors.New("interrupted")) }
	w.opts = func(o *runner.Options) {
		report := o.Report
		o.Report = func(e runner.RunEvent) {
			report(e)
			if e.Event == "start" && e.Stage == "b" {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
		}
	}
	began := time.Now()
	_, err := w.open().Repro(ctx, runner.ReproOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if time.Since(began) > 25*time.Second {
		t.Error("it waited for the sleeping stage")
	}
	equal(t, "interrupted is not failed", w.how(), "a:ran")
	if w.opened("build/b") {
		t.Error("the interrupted stage's output stands in the workspace")
	}
	w.opts = nil
	w.write("go", "")
	equal(t, "next run", w.repro(), "a:workspace b:ran")
}
