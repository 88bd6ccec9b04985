package runner_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lpipe/runner"
)

// Stages that print nothing have an empty log that is no file, whoever printed what before and after them.
func TestSilentStages(t *testing.T) {
	const pipeline = `
stage "shell" "a" {
  in      = { raw = "raw.txt" }
  out     = { a = "out/a" }
  command = "cp raw.txt out/a; grep said raw.txt || true"
}
stage "shell" "b" {
  in      = { a = stage.a.a }
  out     = { b = "out/b" }
  command = "cat out/a > out/b; echo from b"
}
stage "shell" "c" {
  in      = { b = stage.b.b }
  out     = { c = "out/c" }
  command = "cat out/b > out/c"
}
`
	w := newWorkspace(t, pipeline, "raw.txt", "said before\n")
	w.opts = func(o *runner.Options) { o.Now = func() time.Time { return time.Now().Add(-time.Hour) } } // runs of one second have no order
	equal(t, "first run", w.repro(), "a:ran b:ran c:ran")
	w.opts = nil
	log := func(stage string) string {
		t.Helper()
		log, err := w.open().Log(stage, "")
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		text, err := io.ReadAll(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	equal(t, "a", log("a"), "said before\n")
	w.write("raw.txt", "silent\n")
	equal(t, "second run", w.repro(), "a:ran b:ran c:ran")
	equal(t, "a, b and c", log("a")+log("b")+log("c"), "from b\n")
	runs, err := runner.Runs(w.dir)
	if err != nil || len(runs) != 2 {
		t.Fatal(runs, err)
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, ".lpipe", "runs", runs[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	equal(t, "files of the run", strings.Join(names, " "), "b.log events.jsonl")
	for _, e := range w.events {
		if e.Event == "stage" && (e.Log != "") != (e.Stage == "b") {
			t.Errorf("%s is told with log %q", e.Stage, e.Log)
		}
	}
	if path, err := runner.LogPath(w.dir, "a", runs[0].ID); path != "" || err != nil {
		t.Error(path, err)
	}
	if _, err := runner.LogPath(w.dir, "nobody", runs[0].ID); err == nil {
		t.Error("a stage that did not run has a log")
	}
}
