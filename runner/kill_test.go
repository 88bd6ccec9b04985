package runner_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/stages"
)

// childDir makes the test binary a plain lpipe that brings the workspace of this name up to date and prints what it does.
const childDir = "LPIPE_TEST_WORKSPACE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	ctx := context.Background()
	p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Kinds: []*runner.Kind{stages.Shell(), upperKind(nil)}})
	if diags.HasErrors() {
		return fmt.Errorf("decode: %v", diags[0])
	}
	c, err := cache.Open(ctx, cache.Options{Dir: filepath.Join(dir, ".lpipe", "cache")})
	if err != nil {
		return err
	}
	defer c.Close()
	state, err := cache.OpenState(filepath.Join(dir, ".lpipe", "state"))
	if err != nil {
		return err
	}
	report := func(e runner.RunEvent) {
		fmt.Println(e.Event, e.Stage, e.How, e.Message)
	}
	r, diags, err := runner.New(runner.Options{Pipeline: p, Cache: c, State: state, Environ: os.Environ(), Jobs: 4, Report: report})
	if err != nil || diags.HasErrors() {
		return fmt.Errorf("new: %v %v", err, diags)
	}
	_, err = r.Repro(ctx, runner.ReproOptions{})
	return err
}

// startChild starts a run of a workspace in a process of its own and hands out its lines.
func startChild(t *testing.T, dir string) (*exec.Cmd, <-chan string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	return cmd, lines
}

// ladder is a pipeline of rungs: a shell stage, a built-in one, and a shell stage that reads the rung before.
func ladder(rungs int) string {
	var b strings.Builder
	before := "raw.txt"
	for i := range rungs {
		fmt.Fprintf(&b, `
stage "shell" "a%[1]d" {
  in      = { before = "%[2]s" }
  out     = { a = "build/%[1]d/a", dir = "build/%[1]d/d/" }
  command = "mkdir build/%[1]d/d; for n in 1 2 3; do (cat %[2]s; echo %[1]d.$n) >> build/%[1]d/a; sleep 0.005; cp build/%[1]d/a build/%[1]d/d/$n; done"
}
stage "upper" "u%[1]d" {
  in = { data = stage.a%[1]d.a }
  out = { data = "build/%[1]d/u.txt" }
}
stage "shell" "x%[1]d" {
  out     = { x = "build/%[1]d/x" }
  command = "sleep 0.01; sort -u ${stage.a%[1]d.a} > ${self.out.x}"
}
`, i, before)
		before = fmt.Sprintf("build/%d/x", i)
	}
	return b.String()
}

// tree is every file of a workspace outside .lpipe, with its bytes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".lpipe" {
			return filepath.SkipDir
		}
		if !d.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(dir, path)
			fmt.Fprintf(&b, "== %s\n%s", rel, data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A run that is killed at any moment, again and again, ends as one that was left alone; what was acknowledged is never
// done twice; nothing it started lives on.
func TestKillAtAnyMoment(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 8
	}
	pipeline := ladder(7)
	calm := newWorkspace(t, pipeline, "raw.txt", "raw\n")
	calm.repro()
	want := tree(t, calm.dir)
	for done, round := 0, 0; done < kills; round++ {
		w := newWorkspace(t, pipeline, "raw.txt", "raw\n")
		done += killUntilDone(t, w.dir, kills-done)
		if got := tree(t, w.dir); got != want {
			t.Fatalf("round %d: the workspace differs from an undisturbed run's:\n%s\n---- want\n%s", round, got, want)
		}
		equal(t, "afterwards", strings.ReplaceAll(w.repro(), ":workspace", ""), strings.ReplaceAll(strings.ReplaceAll(calm.repro(), ":workspace", ""), ":cache", ""))
		equal(t, "messages", w.messages(), "")
	}
}

// killUntilDone runs a workspace to its end, killing it up to a number of times on the way.
func killUntilDone(t *testing.T, dir string, kills int) (killed int) {
	acknowledged := map[string]bool{}
	for {
		cmd, lines := startChild(t, dir)
		if killed < kills {
			timer := time.AfterFunc(time.Duration(10+rand.IntN(220))*time.Millisecond, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		finished := false
		for line := range lines {
			what, rest, _ := strings.Cut(line, " ")
			stage, how, _ := strings.Cut(rest, " ")
			switch {
			case what == "error":
				t.Fatalf("a run failed: %s", line)
			case what == "start" && acknowledged[stage]:
				t.Errorf("%s was acknowledged and runs again", stage)
			case what == "stage" && how == "ran ":
				acknowledged[stage] = true
			case what == "warning":
				t.Errorf("unexpected: %s", line)
			}
		}
		err := cmd.Wait()
		finished = err == nil
		if finished {
			return killed
		}
		killed++
	}
}

// No process of a stage outlives a killed run: not a child, not a grandchild, not one that left its group.
func TestNoOrphanSurvivesAKill(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "s" {
  out     = { a = "build/a" }
  command = <<-END
    (while :; do echo orphan >> build/a; sleep 0.01; done) &
    setsid sh -c 'while :; do echo session >> build/a; sleep 0.01; done' &
    env -i PATH="$PATH" sh -c 'echo $$ > bare; while :; do sleep 0.01; done' &
    while [ ! -s bare ]; do sleep 0.01; done
    echo $$ > started
    wait
  END
}
`)
	cmd, lines := startChild(t, w.dir)
	for !w.opened("started") {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	cmd.Process.Signal(syscall.SIGKILL)
	for range lines {
	}
	cmd.Wait()
	bare, err := strconv.Atoi(strings.TrimSpace(w.read("bare"))) // it hides its environment, but is of the group
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(orphans(w.dir)) > 0 || lives(bare); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v outlive lpipe", orphans(w.dir))
		}
	}
	// The next command moves away what they wrote.
	w.write("pipeline.hcl", "stage \"shell\" \"s\" {\n out = { a = \"build/a\" }\n command = \"echo fine > build/a; sleep 0.1\"\n}\n")
	equal(t, "next run", w.repro(), "s:ran")
	equal(t, "output", w.read("build/a"), "fine\n")
	equal(t, "messages", w.messages(), "")
	moved, _ := filepath.Glob(filepath.Join(w.dir, ".lpipe/runs/*/failed/s/build/a"))
	if len(moved) != 1 {
		t.Errorf("what the killed stage left is at %v", moved)
	}
}

// lives tells whether a process runs: one that ended may stay for a while, until somebody asks for its end.
func lives(id int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// orphans lists the processes of a workspace's stages.
func orphans(dir string) []string {
	var ids []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), "LPIPE_SCRATCH="+dir+"/") {
			ids = append(ids, filepath.Base(filepath.Dir(file)))
		}
	}
	return ids
}

// What a stage leaves in the background ends with it.
func TestBackgroundProcessesEndWithTheirStage(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "s" {
  out     = { a = "build/a" }
  command = "echo a > build/a; (until [ -e over ]; do sleep 0.01; done; echo group >> late) & setsid sh -c 'until [ -e over ]; do sleep 0.01; done; echo session >> late' & true"
}
`)
	equal(t, "run", w.repro(), "s:ran")
	w.write("over", "")
	time.Sleep(100 * time.Millisecond)
	if w.opened("late") {
		t.Errorf("a background process went on after the run: %s", w.read("late"))
	}
}

func TestSecondRunnerWaitsForTheFirst(t *testing.T) {
	w := newWorkspace(t, "stage \"shell\" \"s\" {\n out = { a = \"build/a\" }\n command = \"echo > started; until [ -e go ]; do sleep 0.01; done; echo a > build/a\"\n}\n")
	cmd, lines := startChild(t, w.dir)
	for !w.opened("started") {
		time.Sleep(time.Millisecond)
	}
	w.opts = func(o *runner.Options) { o.LockTimeout = 20 * time.Millisecond }
	_, err := w.try(runner.ReproOptions{})
	contains(t, "error", fmt.Sprint(err), "locked", fmt.Sprint(cmd.Process.Pid))
	w.opts = func(o *runner.Options) {
		report := o.Report
		o.Report = func(e runner.RunEvent) {
			if report(e); e.Event == "wait" {
				w.write("go", "")
			}
		}
	}
	equal(t, "second", w.repro(), "s:workspace")
	contains(t, "message", w.messages(), "waiting for process "+fmt.Sprint(cmd.Process.Pid))
	for range lines {
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
