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

// Whoever reads an output finds the same file, with the same times, until it is done: cp refuses one that is replaced
// meanwhile, tar one that gets another name.
func TestOutputsStayAsTheyAreWhileTheyAreRead(t *testing.T) {
	const pipeline = `
lpipe {
  link = ["hardlink"]
}
stage "shell" "a" {
  out     = { a = "out/a" }
  command = "${make} > out/a"
}
stage "shell" "twin" {
  out     = { a = "out/twin" }
  command = "${make} > out/twin; : another command"
}
stage "shell" "reader" {
  in      = { a = stage.a.a, twin = stage.twin.a }
  out     = { seen = "out/seen" }
  command = <<-END
    before=$(stat -c '%n %i %h %z' out/a out/twin)
    until grep -q '"stage":"a"' .lpipe/journal && grep -q '"stage":"twin"' .lpipe/journal; do sleep 0.01; done
    sleep 0.05
    echo "$before" > out/seen
    test "$before" = "$(stat -c '%n %i %h %z' out/a out/twin)"
  END
}
`
	for name, text := range map[string]string{"light": "echo made", "heavy": "head -c 3000000 /dev/zero"} {
		t.Run(name, func(t *testing.T) {
			w := newWorkspace(t, strings.ReplaceAll(pipeline, "${make}", text))
			equal(t, "run", w.repro(), "a:ran reader:ran twin:ran")
			same := func(a, b string) bool {
				one, err := os.Stat(filepath.Join(w.dir, a))
				two, err2 := os.Stat(filepath.Join(w.dir, b))
				return err == nil && err2 == nil && os.SameFile(one, two)
			}
			if !same("out/a", "out/twin") {
				t.Error("after the run the same content is kept twice")
			}
			equal(t, "again", w.repro(), "a:workspace reader:workspace twin:workspace")
		})
	}
}
