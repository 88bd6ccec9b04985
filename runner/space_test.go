package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
)

func TestOldLeftovers(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	all := []runner.Leftover{
		{What: "run", Name: "a", Last: now.Add(-40 * day)},
		{What: "scratch", Name: "b", Last: now.Add(-8 * day)},
		{What: "run", Name: "c", Last: now.Add(-3 * day)},
		{What: "scratch", Name: "d", Last: now.Add(-2 * day)},
		{What: "run", Name: "e", Last: now.Add(-1 * day)},
	}
	for _, test := range []struct {
		name string
		o    runner.LeftoverOptions
		want string
	}{
		{"by age", runner.LeftoverOptions{Scratch: 7 * day, Runs: 30 * day, KeepRuns: 50}, "a b"},
		{"by number", runner.LeftoverOptions{Scratch: 7 * day, Runs: 30 * day, KeepRuns: 1}, "a b c"},
		{"one age for all", runner.LeftoverOptions{Scratch: 2 * day, Runs: 2 * day}, "a b c d"},
		{"nothing so old", runner.LeftoverOptions{Scratch: 90 * day, Runs: 90 * day}, ""},
	} {
		got := ""
		for i, one := range test.o.Old(all, now) {
			if i > 0 {
				got += " "
			}
			got += one.Name
		}
		equal(t, test.name, got, test.want)
	}
}

// What a stage is using right now must not go, however old it is.
func TestLeftoversStayWhileSomebodyWorks(t *testing.T) {
	w := newWorkspace(t, ``)
	old := filepath.Join(w.dir, ".lpipe", "scratch", "key")
	if err := os.MkdirAll(old, 0o777); err != nil {
		t.Fatal(err)
	}
	r := w.open()
	held, err := cache.LockFile(context.Background(), filepath.Join(w.dir, ".lpipe", "lock"), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RemoveLeftovers(context.Background(), runner.LeftoverOptions{}); !errors.Is(err, runner.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	held.Release()
	removed, err := r.RemoveLeftovers(context.Background(), runner.LeftoverOptions{})
	equal(t, "removed", fmt.Sprint(len(removed), err, gone(old)), "1 <nil> true")
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}
