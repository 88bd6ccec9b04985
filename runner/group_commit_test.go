package runner_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/runner"
)

// A stage starts before what it needs is on record, but is not seen to.
func TestStagesAreToldInOrder(t *testing.T) {
	var b strings.Builder
	before := "raw.txt"
	for i := range 8 {
		fmt.Fprintf(&b, "stage \"shell\" \"s%d\" {\n in = { a = \"%s\" }\n out = { b = \"out/%d\" }\n command = \"cp %s out/%d\"\n}\n", i, before, i, before, i)
		before = fmt.Sprint("out/", i)
	}
	w := newWorkspace(t, b.String(), "raw.txt", "raw\n")
	w.repro()
	var got, want []string
	for _, e := range w.events {
		if e.Event == "start" || e.Event == "stage" {
			got = append(got, e.Event+" "+e.Stage)
		}
	}
	for i := range 8 {
		want = append(want, fmt.Sprint("start s", i), fmt.Sprint("stage s", i))
	}
	equal(t, "events", strings.Join(got, ", "), strings.Join(want, ", "))
	for i := 1; i < len(w.events); i++ {
		if w.events[i].Time.Before(w.events[i-1].Time) {
			t.Errorf("event %d happened before the one that was told ahead of it", i)
		}
	}
}

// A stage that takes its input away, at once, takes nothing from the cache.
func TestStageThatTakesItsInputAway(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "a" {
  out     = { a = "out/a" }
  command = "echo made > out/a"
}
stage "shell" "b" {
  in      = { a = stage.a.a }
  out     = { b = "out/b" }
  command = "mv out/a out/b"
}
stage "shell" "c" {
  in      = { a = stage.a.a, b = stage.b.b }
  out     = { c = "out/c" }
  command = "cat out/a out/b > out/c"
}
`)
	w.repro()
	equal(t, "c", w.read("out/c"), "made\nmade\n")
}

// What cannot be put on record has failed, though its command succeeded; the next run does it again.
func TestOutputsThatCannotBeStored(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "a" {
  out     = { a = "out/a" }
  command = "if [ ! -e ok ]; then rm -rf .lpipe/cache/objects; touch .lpipe/cache/objects ok; fi; echo made > out/a"
}
stage "shell" "b" {
  out     = { b = "out/b" }
  command = "cp ${stage.a.a} out/b"
}
`)
	_, err := w.try(runner.ReproOptions{})
	var failed *runner.FailedError
	if !errors.As(err, &failed) || failed.Failures[0].Stage != "a" {
		t.Fatalf("the run ended with %v", err)
	}
	contains(t, "error", failed.Failures[0].Err.Error(), "out/a", "not a directory")
	if lock, err := runner.ReadLock(filepath.Join(w.dir, "pipeline.lock")); err != nil || len(lock.Stages) > 0 {
		t.Errorf("the lock names %v (%v)", lock.Stages, err)
	}
	objects := filepath.Join(w.dir, ".lpipe/cache/objects")
	if err := errors.Join(os.Remove(objects), os.Mkdir(objects, 0o777)); err != nil {
		t.Fatal(err)
	}
	equal(t, "next run", w.repro(), "a:ran b:ran")
	equal(t, "messages", w.messages(), "")
	equal(t, "b", w.read("out/b"), "made\n")
}
