package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lpipe/cache"
	"lpipe/runner"
)

func TestPools(t *testing.T) {
	var b strings.Builder
	for i := range 6 {
		fmt.Fprintf(&b, "stage \"upper\" \"g%d\" {\n in = { data = \"raw.txt\" }\n out = { data = \"out/g%d.txt\" }\n suffix = \"%d\"\n resources = { gpu = 1 }\n}\n", i, i, i)
		fmt.Fprintf(&b, "stage \"upper\" \"d%d\" {\n in = { data = \"raw.txt\" }\n out = { data = \"out/d%d.txt\" }\n suffix = \"d%d\"\n resources = { disk = 1, cpu = 1000 }\n}\n", i, i, i)
	}
	w := newWorkspace(t, "lpipe {\n pools = { disk = 1 }\n}\n"+b.String(), "raw.txt", "x")
	var gpus [2]atomic.Int32
	var disk atomic.Int32
	w.kinds[1] = upperKind(func(env *runner.Env) error {
		busy := &disk
		if len(env.GPUs) == 1 {
			busy = &gpus[env.GPUs[0]-4]
			if !strings.Contains(strings.Join(env.Environ, "\n"), fmt.Sprintf("CUDA_VISIBLE_DEVICES=%d", env.GPUs[0])) {
				return errors.New("CUDA_VISIBLE_DEVICES does not say which")
			}
		}
		if busy.Add(1) != 1 {
			return errors.New("two stages share what only one may have")
		}
		time.Sleep(5 * time.Millisecond)
		busy.Add(-1)
		return nil
	})
	w.opts = func(o *runner.Options) { o.GPUs, o.Jobs = []int{4, 5}, 8 }
	s, err := w.try(runner.ReproOptions{})
	if err != nil || s.Ran != 12 {
		t.Fatal(s, err)
	}
}

func TestPoolTooSmallIsAMistake(t *testing.T) {
	w := newWorkspace(t, "lpipe {\n pools = { disk = 1 }\n}\nstage \"shell\" \"s\" {\n out = { a = \"a\" }\n command = \"true\"\n resources = { disk = 2 }\n}\n")
	p, diags := runner.Decode(runner.DecodeOptions{Dir: w.dir, Kinds: w.kinds})
	if !diags.HasErrors() {
		_, diags = runner.NewPlan(p, runner.PlanOptions{})
	}
	contains(t, "mistakes", diags.Error(), "disk")
}

func TestJobsRunTheLongestFirst(t *testing.T) {
	var b strings.Builder
	for i := range 4 {
		fmt.Fprintf(&b, "stage \"shell\" \"s%d\" {\n out = { a = \"out/%d\" }\n command = \"until [ -e go ]; do sleep 0.01; done; echo > out/%d\"\n}\n", i, i, i)
	}
	w := newWorkspace(t, b.String())
	w.write(".lpipe/stages.json", `{"s0":{"seconds":1},"s1":{"seconds":2},"s2":{"seconds":3},"s3":{"seconds":4}}`)
	w.opts = func(o *runner.Options) { o.Jobs = 1 }
	go func() { // the first one ends when the others wait for its place, as their stacks say
		for stacks := make([]byte, 1<<20); strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "runner.(*pools).take(") < 3; {
			time.Sleep(time.Millisecond)
		}
		w.write("go", "")
	}()
	w.repro()
	var order []string
	for _, e := range w.events {
		if e.Event == "start" {
			order = append(order, e.Stage)
		}
	}
	// The first may be whichever was looked at first; of those that then wait, the longest goes.
	if got := strings.Join(order[1:], " "); got != "s3 s2 s1" && got != "s3 s2 s0" && got != "s3 s1 s0" && got != "s2 s1 s0" {
		t.Errorf("order %v", order)
	}
}

func TestRetriesTimeoutAlwaysFrozen(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "flaky" {
  out     = { a = "out/flaky" }
  retries = 2
  command = "echo x >> $LPIPE_SCRATCH/tries; [ $(wc -l < $LPIPE_SCRATCH/tries) -ge 3 ]; echo ok > out/flaky"
}
stage "shell" "always" {
  out     = { a = "out/always" }
  always  = true
  command = "echo run >> count; echo same > out/always"
}
stage "shell" "after" {
  out     = { a = "out/after" }
  command = "cp ${stage.always.a} out/after"
}
`)
	equal(t, "first", w.repro(), "after:ran always:ran flaky:ran")
	contains(t, "messages", w.messages(), "trying again (1 of 2)", "trying again (2 of 2)")
	equal(t, "second", w.repro(), "after:workspace always:ran flaky:workspace")
	equal(t, "always ran", w.read("count"), "run\nrun\n")

	w.write("pipeline.hcl", `
stage "shell" "slow" {
  out     = { a = "out/slow" }
  timeout = "100ms"
  command = "sleep 30"
}
stage "shell" "flaky" {
  out     = { a = "out/flaky" }
  frozen  = true
  command = "echo something else entirely"
}
`)
	began := time.Now()
	_, err := w.try(runner.ReproOptions{KeepGoing: true})
	contains(t, "timeout", fmt.Sprint(errors.Join(err, failure(err))), "stage slow: timed out after 100ms")
	if time.Since(began) > 50*time.Second {
		t.Error("the timeout did not end it")
	}
	equal(t, "frozen", w.how(), "flaky:skipped slow:failed")
	equal(t, "frozen output", w.read("out/flaky"), "ok\n")
	contains(t, "status", w.status(), "flaky:frozen")
}

func failure(err error) error {
	var failed *runner.FailedError
	if errors.As(err, &failed) {
		return failed.Failures[0]
	}
	return nil
}

func TestUncachedOutput(t *testing.T) {
	w := newWorkspace(t, `
stage "upper" "u" {
  in  = { data = "raw.txt" }
  out = { data = { path = "out/u.txt", cache = false } }
}
stage "shell" "s" {
  out     = { a = { path = "out/s", cache = false } }
  command = "cp ${stage.u.data} out/s"
}
`, "raw.txt", "abc")
	equal(t, "first", w.repro(), "s:ran u:ran")
	equal(t, "second", w.repro(), "s:workspace u:workspace")
	if w.open().Cache.Has(cache.Sum([]byte("ABC"))) {
		t.Error("the cache holds an output with cache = false")
	}
	os.Remove(filepath.Join(w.dir, "out/u.txt"))
	equal(t, "removed", w.repro(), "s:workspace u:ran")
}

func TestTwinsRunOnce(t *testing.T) {
	var b strings.Builder
	for i := range 4 {
		fmt.Fprintf(&b, "stage \"upper\" \"u%d\" {\n in = { data = \"raw.txt\" }\n out = { data = \"out/%d.txt\" }\n}\n", i, i)
	}
	w := newWorkspace(t, b.String(), "raw.txt", "abc")
	s, err := w.try(runner.ReproOptions{})
	if err != nil || s.Ran != 1 || s.Reused != 3 {
		t.Fatal(s, err)
	}
	equal(t, "output", w.read("out/3.txt"), "ABC")
}

func TestShellSeesWhatTheContractLists(t *testing.T) {
	w := newWorkspace(t, `
variable "token" {
  default   = "s3cret-value"
  sensitive = true
}
stage "shell" "s" {
  in         = { all = ["x/1", "x/2"], one = "x/1" }
  out        = { env = "out/env" }
  dir        = "x"
  env        = { SEED = "1" }
  pass_env   = ["PASSED"]
  secret_env = { TOKEN = var.token }
  command    = "env | sort > ../out/env; echo the token is $TOKEN and $PASSED; cat"
}
`, "x/1", "1", "x/2", "2")
	w.opts = func(o *runner.Options) {
		o.Environ = []string{"PATH=" + os.Getenv("PATH"), "HOME=/home/x", "LC_ALL=C", "PASSED=passed-value", "UNSEEN=1", "LPIPE_VAR_x=1"}
	}
	equal(t, "run", w.repro(), "s:ran")
	env := w.read("out/env")
	contains(t, "environment", env, "HOME=/home/x\n", "LC_ALL=C\n", "SEED=1\n", "TOKEN=s3cret-value\n", "PASSED=passed-value\n",
		"LPIPE_IN_all=1\n", "LPIPE_IN_all_0=1\n", "LPIPE_IN_all_1=2\n", "LPIPE_IN_one=1\n", "LPIPE_OUT_env=../out/env\n", "LPIPE_SCRATCH=")
	for _, hidden := range []string{"UNSEEN", "LPIPE_VAR"} {
		if strings.Contains(env, hidden) {
			t.Errorf("the stage sees %s", hidden)
		}
	}
	path, err := runner.LogPath(w.dir, "s", "")
	if err != nil {
		t.Fatal(err)
	}
	log, _ := os.ReadFile(path)
	equal(t, "log", string(log), "the token is *** and ***\n")
	// What is passed or secret is not in the key.
	w.opts = func(o *runner.Options) { o.Environ = []string{"PATH=" + os.Getenv("PATH"), "PASSED=other"} }
	w.vars = []string{"token=other-secret"}
	equal(t, "other secrets", w.repro(), "s:workspace")
	shown, err := w.open().Show(t.Context(), "s")
	if err != nil || strings.Contains(fmt.Sprintf("%+v", shown[0].Result), "s3cret") {
		t.Error("the secret is on record", err)
	}
}

func TestWhyNamesWhatChanged(t *testing.T) {
	w := newWorkspace(t, `
variable "v" { default = "1" }
stage "shell" "make" {
  out     = { d = "d/" }
  in      = { raw = "raw.txt" }
  command = "mkdir -p d/sub; cp raw.txt d/sub/raw; echo same > d/same"
}
stage "shell" "use" {
  in      = { d = stage.make.d }
  out     = { o = "o" }
  env     = { SEED = var.v }
  code    = ["a.py"]
  command = "echo ${var.v} > o"
}
`, "raw.txt", "1", "a.py", "1")
	w.repro()
	w.vars = []string{"v=2"}
	w.write("a.py", "2")
	w.write("raw.txt", "2")
	equal(t, "states", w.status(), "make:stale use:stale")
	why, err := w.open().Why(t.Context(), "use")
	if err != nil {
		t.Fatal(err)
	}
	if len(why[0].Reasons) != 1 || why[0].Reasons[0].String() != "upstream make: stale" {
		t.Errorf("what make will write is not known: %+v", why[0].Reasons)
	}
	w.repro("make")
	why, err = w.open().Why(t.Context(), "use")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range why[0].Reasons {
		if len(r.Old) == 64 || strings.HasPrefix(r.Old, "file ") {
			r.Old, r.New = "hash", "other"
		}
		lines = append(lines, r.String())
	}
	equal(t, "why", strings.Join(lines, "\n"), `code a.py: hash → other
input d/sub/raw: hash → other
setting command: "echo 1 > o" → "echo 2 > o"
setting env.SEED: "1" → "2"`)
	// Without the cache's record the lock still says which part changed.
	os.RemoveAll(filepath.Join(w.dir, ".lpipe"))
	why, err = w.open().Why(t.Context(), "use")
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, r := range why[0].Reasons {
		parts = append(parts, r.What)
	}
	equal(t, "from the lock alone", strings.Join(parts, " "), "input setting setting code")
}

func TestDryRunForesees(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	report, err := w.open().DryRun(t.Context(), runner.ReproOptions{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "first", would(report), "clean:run loud:run? count:run?")
	w.repro()
	w.vars = []string{"tail=!"}
	w.repro()
	w.vars = nil
	report, err = w.open().DryRun(t.Context(), runner.ReproOptions{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "known results", would(report), "clean: loud:restore count:restore")
	if !report.Work() {
		t.Error("--check would not find work")
	}
	equal(t, "nothing was touched", w.read("build/loud.txt"), "AB\n!")
}

func would(report runner.StatusReport) string {
	var all []string
	for _, s := range report.Stages {
		all = append(all, s.Name+":"+s.Would)
	}
	return strings.Join(all, " ")
}

func TestOutputsStayInTheWorkspace(t *testing.T) {
	outside := t.TempDir()
	w := newWorkspace(t, "stage \"shell\" \"s\" {\n out = { a = \"link/a\" }\n command = \"echo a > link/a\"\n}\n")
	if err := os.Symlink(outside, filepath.Join(w.dir, "link")); err != nil {
		t.Fatal(err)
	}
	_, err := w.try(runner.ReproOptions{})
	contains(t, "error", fmt.Sprint(failure(err)), "outside the workspace")
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Error("it wrote there")
	}
}

func TestAllowMissing(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	os.RemoveAll(filepath.Join(w.dir, ".lpipe"))
	os.RemoveAll(filepath.Join(w.dir, "build"))
	lock := w.read("pipeline.lock")
	if _, err := w.try(runner.ReproOptions{AllowMissing: true}); err != nil {
		t.Fatal(err)
	}
	equal(t, "how", w.how(), "clean:skipped count:skipped loud:skipped")
	equal(t, "lock", w.read("pipeline.lock"), lock)
	equal(t, "without", w.repro(), "clean:ran count:ran loud:ran")
	equal(t, "lock", w.read("pipeline.lock"), lock)
}

func TestWorkspaceThatCannotBeWritten(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	r := w.open()
	os.RemoveAll(filepath.Join(w.dir, ".lpipe"))
	if os.Getuid() != 0 {
		os.Chmod(w.dir, 0o555)
		defer os.Chmod(w.dir, 0o777)
	} else { // permissions do not bind root, a read-only mount does
		if err := unix.Mount(w.dir, w.dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(w.dir, 0)
		if err := unix.Mount("", w.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Repro(t.Context(), runner.ReproOptions{})
	contains(t, "error", fmt.Sprint(err), "cannot be written to", w.dir)
}

func TestPanicOfAStageIsItsFailure(t *testing.T) {
	w := newWorkspace(t, "stage \"upper\" \"u\" {\n in = { data = \"raw.txt\" }\n}\n", "raw.txt", "abc")
	w.kinds[1] = upperKind(func(*runner.Env) error { panic("index out of range") })
	_, err := w.try(runner.ReproOptions{})
	contains(t, "error", fmt.Sprint(failure(err)), "index out of range", "upper")
	contains(t, "log", w.read(failure(err).(*runner.StageFailure).Log), "goroutine")
}

func TestHoldings(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "s" {
  in      = { raw = "raw.txt" }
  out     = { a = "out/a", b = { path = "out/b", push = false } }
  command = "cp raw.txt out/a; echo b > out/b"
}
`, "raw.txt", "abc")
	w.repro()
	if _, err := w.open().Add(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	holdings, err := w.open().Holdings(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, h := range holdings {
		for _, c := range h.Contents {
			all = append(all, h.Stage+" "+c.Path)
		}
	}
	equal(t, "holdings", strings.Join(all, ", "), "s out/a,  raw.txt")
}

// A stage may link its input to its output: the input stays the user's own file, and what is written to it later does not
// reach the output.
func TestHardLinkOfAnInput(t *testing.T) {
	for _, link := range []string{"reflink", "hardlink", "copy"} {
		t.Run(link, func(t *testing.T) {
			w := newWorkspace(t, fmt.Sprintf(`
lpipe {
  link = [%q, "copy"]
}
stage "shell" "s" {
  in      = { raw = "raw.txt" }
  out     = { a = "out/a" }
  command = "ln raw.txt out/a"
}
`, link), "raw.txt", "mine")
			equal(t, "run", w.repro(), "s:ran")
			f, err := os.OpenFile(filepath.Join(w.dir, "raw.txt"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString(" changed")
			f.Close()
			equal(t, "output", w.read("out/a"), "mine")
			info, err := os.Stat(filepath.Join(w.dir, "raw.txt"))
			if err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestLogOfAnEarlierMachine(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	os.RemoveAll(filepath.Join(w.dir, ".lpipe", "runs"))
	log, err := w.open().Log("clean", "")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	text, _ := io.ReadAll(log)
	equal(t, "log", string(text), "cleaned\n")
	if _, err := w.open().Log("clean", "nonsense"); err == nil {
		t.Error("a run that is not there has a log")
	}
	runs, err := runner.Runs(w.dir)
	if err != nil || len(runs) != 0 {
		t.Error(runs, err)
	}
}

// What the cache refuses to hold fails the stage and does not stay in the workspace.
func TestOutputThatCannotBeStored(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "s" {
  out     = { a = "out/a", d = "out/d/" }
  command = "echo a > out/a; mkdir out/d; ln -s /etc/passwd out/d/link"
}
`)
	_, err := w.try(runner.ReproOptions{})
	contains(t, "error", fmt.Sprint(failure(err)), `store output "d"`, "link")
	if w.opened("out/a") || w.opened("out/d") || w.opened("pipeline.lock") {
		t.Error("it left something")
	}
}

func TestKilledBuiltInStageLeavesNoTemporaryFiles(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n", ".lpipe/tmp/loud.123/data.txt", "half")
	w.repro()
	if left, _ := os.ReadDir(filepath.Join(w.dir, ".lpipe", "tmp")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// counter reads only some of the files of a folder.
type counter struct{}

func (counter) Run(_ context.Context, env *runner.Env) error {
	return os.WriteFile(env.Out["data"], []byte("counted\n"), 0o644)
}

func TestOnlyWhatAKindReadsCounts(t *testing.T) {
	w := newWorkspace(t, `
stage "counter" "c" {
  in  = { data = "model" }
  out = { data = "out/c.txt" }
}
`, "model/tokenizer.json", "1", "model/weights.bin", "1", "model/sub/vocab.json", "1")
	w.kinds = append(w.kinds, &runner.Kind{Name: "counter", Version: 1, New: func() runner.Stage { return &counter{} },
		In: []runner.Port{{Name: "data", Reads: []string{"tokenizer.json", "**/vocab.json"}}}, Out: []runner.Port{{Name: "data", Ext: ".txt"}}})
	equal(t, "first", w.repro(), "c:ran")
	w.write("model/weights.bin", "2")
	why := func() string {
		stages, err := w.open().Why(t.Context(), "c")
		return fmt.Sprint(stages[0].Reasons, stages[0].Unmoved, err)
	}
	contains(t, "why", why(), "other files of it changed; this stage reads only tokenizer.json, **/vocab.json")
	equal(t, "what it does not read", w.repro(), "c:workspace")
	w.write("model/sub/vocab.json", "2")
	w.write("model/weights.bin", "3")
	contains(t, "why", why(), "input data/sub/vocab.json: ")
	if strings.Contains(why(), "weights") {
		t.Error(why())
	}
	equal(t, "what it reads", w.repro(), "c:ran")
	os.RemoveAll(filepath.Join(w.dir, "model"))
	equal(t, "without the folder", w.repro(), "c:workspace")
}

// A kind whose goroutines share the processors may use them all, and holds one: its stages run side by side.
func TestSharedKindsUseAllProcessors(t *testing.T) {
	w := newWorkspace(t, `
stage "shared" "all" { in = { data = "x.txt" } }
stage "shared" "two" {
  in        = { data = "x.txt" }
  suffix    = "2"
  resources = { cpu = 2 }
}
stage "upper" "one" { in = { data = "x.txt" } }
`, "x.txt", "x")
	var mu sync.Mutex
	got := map[string]int{}
	note := func(env *runner.Env) error {
		mu.Lock()
		defer mu.Unlock()
		got[env.Name] = env.CPUs
		return nil
	}
	shared := upperKind(note)
	shared.Name, shared.Shared = "shared", true
	w.kinds = append(w.kinds[:1], upperKind(note), shared)
	w.opts = func(o *runner.Options) { o.CPUs, o.Jobs = 6, 6 }
	w.repro()
	if want := map[string]int{"all": 6, "two": 2, "one": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestToolsCount(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "s" {
  out     = { a = "out/a" }
  tools   = ["mytool"]
  command = "mytool > out/a"
}
`, "bin/mytool", "#!/bin/sh\necho 1\n")
	w.opts = func(o *runner.Options) {
		o.Environ = []string{"PATH=" + filepath.Join(w.dir, "bin") + ":" + os.Getenv("PATH")}
	}
	tool := filepath.Join(w.dir, "bin/mytool")
	_, err := w.try(runner.ReproOptions{})
	contains(t, "error", fmt.Sprint(failure(err)), `tool "mytool" is not in PATH`)
	os.Chmod(tool, 0o755)
	equal(t, "first", w.repro(), "s:ran")
	equal(t, "second", w.repro(), "s:workspace")
	w.write("bin/mytool", "#!/bin/sh\necho 2\n")
	os.Chmod(tool, 0o755)
	equal(t, "another tool", w.repro(), "s:ran")
	why, err := w.open().Why(t.Context(), "s")
	if err != nil || why[0].State != runner.Fresh {
		t.Error(why, err)
	}
}

// Push takes from the workspace what the cache has lost.
func TestHoldingsComeFromTheWorkspace(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	os.RemoveAll(filepath.Join(w.dir, ".lpipe"))
	r := w.open()
	holdings, err := r.Holdings(t.Context(), []string{"clean"})
	if err != nil || len(holdings) != 1 {
		t.Fatal(holdings, err)
	}
	if nowhere, err := r.TakeIn(t.Context(), holdings[0].Contents); err != nil || len(nowhere) > 0 {
		t.Error(nowhere, err)
	}
	if !r.Cache.Has(holdings[0].Contents[0].ID) {
		t.Error("the cache still lacks it")
	}
}
