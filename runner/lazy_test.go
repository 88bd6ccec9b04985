package runner_test

import (
	"testing"

	"lpipe/runner"
)

// TestOnlyKeysOfUnchangedInputs: of a colleague's results on the way to a target only the keys are needed; their bytes come
// for a stage that has to run, and when somebody asks for them.
func TestOnlyKeysOfUnchangedInputs(t *testing.T) {
	theirs := newWorkspace(t, chain, "raw.txt", "a b\n")
	theirs.repro()
	mine := newWorkspace(t, chain, "raw.txt", "a b\n")
	remote := &colleague{cache: theirs.open().Cache}
	mine.opts = func(o *runner.Options) { remote.mine = o.Cache; o.Fetcher = remote }

	equal(t, "a target", mine.repro("count"), "clean:remote count:remote loud:remote")
	equal(t, "it is there", mine.read("build/n"), theirs.read("build/n"))
	if n := remote.asked.Load(); n != 3 {
		t.Errorf("%d questions for 3 stages", n)
	}
	if n := remote.brought.Load(); n != 1 {
		t.Errorf("%d contents were brought, not 1", n)
	}
	if mine.opened("build/clean.txt") || mine.opened("build/loud.txt") {
		t.Error("an output that nobody asked for was placed")
	}
	equal(t, "lock", mine.read("pipeline.lock"), theirs.read("pipeline.lock"))

	mine.vars = []string{"tail=!"}
	equal(t, "one that must run", mine.repro("count"), "clean:remote count:ran loud:ran")
	equal(t, "its input came", mine.read("build/clean.txt"), "ab\n")
	mine.vars = nil
	equal(t, "all", mine.repro(), "clean:workspace count:cache loud:remote")
	equal(t, "all are there", mine.read("build/loud.txt"), "AB\n")
}
