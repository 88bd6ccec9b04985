package runner

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lpipe/cache"
)

// A lock written ahead is taken if the records of the run are those that it was made of, and is the one that is written at the end
// otherwise; then nothing is left of it.
func TestDraftOfTheLock(t *testing.T) {
	done := func(name string) entry {
		return entry{Stage: name, Done: &LockStage{Key: cache.SumKey(name), Kind: "shell 1", Out: map[string]LockOutput{"o": {Path: name}}}}
	}
	all := []entry{done("a"), {Source: "in", Content: &LockSource{Content: cache.Content{Size: 3, Files: 1}}}, done("b")}
	for _, test := range []struct {
		name     string
		waiting  []entry // when the draft is made
		recorded []entry // by the end
		blocked  bool    // the draft cannot be written
	}{
		{"all gets on record", all, all, false},
		{"one is lost", all, all[:2], false},
		{"all is lost", all, nil, false},
		{"nothing waits", nil, nil, false},
		{"no room for it", all, all, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := foldBy(t, nil, test.recorded, false)
			if got := foldBy(t, test.waiting, test.recorded, test.blocked); got != want {
				t.Errorf("with a draft:\n%s\nwithout:\n%s", got, want)
			}
		})
	}
}

// foldBy ends a run of the stages a and b, and returns the lock that it leaves.
func foldBy(t *testing.T, waiting, recorded []entry, blocked bool) string {
	t.Helper()
	dir := t.TempDir()
	c, err := cache.Open(t.Context(), cache.Options{Dir: filepath.Join(dir, ".lpipe", "cache")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	plan := &Plan{named: map[string]*Node{"a": {}, "b": {}}, origins: map[string]*Origin{"in": {}}}
	r := &Runner{Options: Options{Cache: c, Pipeline: &Pipeline{Dir: dir}}, Plan: plan, dir: dir, lock: newLock()}
	x := &execution{view: view{Runner: r}, waiting: waiting, stages: map[string]*LockStage{}, sources: map[string]LockSource{}}
	temp := x.path("lock.new")
	if blocked {
		if err := os.Mkdir(temp, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	finish := x.draftLock()
	x.recorded(recorded)
	ready := finish()
	if blocked {
		os.Remove(temp)
	}
	if (ready != nil) != (len(waiting) > 0 && !blocked) {
		t.Errorf("a draft: %v", ready != nil)
	}
	if err := x.fold(ready); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the draft is left over (%v)", err)
	}
	data, err := os.ReadFile(LockPath(dir, ""))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}
