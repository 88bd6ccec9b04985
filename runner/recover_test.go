package runner_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/cache"
	"lpipe/runner"
)

// journalOf makes a workspace whose run was killed: its journal is there, its lock is not.
func journalOf(t *testing.T) (*workspace, string) {
	t.Helper()
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	journal := filepath.Join(w.dir, ".lpipe", "journal")
	var kept []byte
	w.opts = func(o *runner.Options) {
		report := o.Report
		o.Report = func(e runner.RunEvent) {
			if data, err := os.ReadFile(journal); err == nil && e.Event == "stage" {
				kept = data
			}
			report(e)
		}
	}
	w.repro()
	w.opts = nil
	os.Remove(filepath.Join(w.dir, "pipeline.lock"))
	if err := os.WriteFile(journal, kept, 0o644); err != nil {
		t.Fatal(err)
	}
	return w, string(kept)
}

func TestJournalIsFoldedByTheNextCommand(t *testing.T) {
	w, _ := journalOf(t)
	equal(t, "status reads it", w.status(), "clean:fresh count:fresh loud:fresh")
	if w.opened("pipeline.lock") {
		t.Error("status wrote the lock")
	}
	if _, err := w.open().Clean(t.Context(), []string{"count"}); err != nil {
		t.Fatal(err)
	}
	if !w.opened("pipeline.lock") || w.opened(".lpipe/journal") {
		t.Error("the next command that writes did not fold the journal")
	}
	equal(t, "repro", w.repro(), "clean:workspace count:cache loud:workspace")
}

// Killed while what stood in the cache already was put in an output's place, a stage leaves no temporary name there.
func TestLeftoversOfAKilledStageGo(t *testing.T) {
	w, journal := journalOf(t)
	begun := strings.SplitAfterN(journal, "\n", 3)
	if len(begun) != 3 || !strings.Contains(begun[1], `"begin":"clean"`) {
		t.Fatalf("the journal begins with %q", begun)
	}
	w.write(".lpipe/journal", begun[0]+begun[1])
	path := strings.Split(strings.SplitAfter(begun[1], `"paths":["`)[1], `"`)[0]
	leftover := filepath.Join(filepath.Dir(path), ".lpipe-tmp-"+filepath.Base(path))
	if err := os.Link(filepath.Join(w.dir, path), filepath.Join(w.dir, leftover)); err != nil {
		t.Fatal(err)
	}
	w.repro()
	if w.opened(leftover) {
		t.Errorf("%s is still there", leftover)
	}
}

// gc removes nothing on the account of a journal that hides what was acknowledged; an end torn off hides nothing.
func TestRootsOfADamagedJournal(t *testing.T) {
	w, journal := journalOf(t)
	whole, err := runner.Roots(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(journal, "\n"), "\n")
	for i, line := range lines {
		damaged := strings.Join(lines[:i], "") + "X" + line[1:] + strings.Join(lines[i+1:], "") + "\n"
		w.write(".lpipe/journal", damaged)
		if _, err := runner.Roots(w.dir); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("line %d of %d damaged: %v", i+1, len(lines), err)
		}
	}
	w.write(".lpipe/journal", journal+"0123456789abcdef {\"sta")
	if torn, err := runner.Roots(w.dir); err != nil || len(torn.Keys) != len(whole.Keys) {
		t.Errorf("torn: %d keys for %d, %v", len(torn.Keys), len(whole.Keys), err)
	}
}

// Whatever byte of the journal is damaged or cut off, what stands before it counts, and repro ends as ever.
func TestDamagedJournal(t *testing.T) {
	calm := newWorkspace(t, chain, "raw.txt", "a b\n")
	calm.repro()
	want := calm.read("pipeline.lock")
	w, journal := journalOf(t)
	for at := 0; at < len(journal); at += max(1, len(journal)/40) {
		for _, damage := range []string{journal[:at], journal[:at] + "\x00" + journal[at+1:], journal[:at] + "garbage"} {
			os.Remove(filepath.Join(w.dir, "pipeline.lock"))
			w.write(".lpipe/journal", damage)
			if _, err := w.try(runner.ReproOptions{}); err != nil {
				t.Fatalf("byte %d: %v", at, err)
			}
			if got := w.read("pipeline.lock"); got != want {
				t.Fatalf("byte %d: the lock is\n%s\nwant\n%s", at, got, want)
			}
			if w.opened(".lpipe/journal") {
				t.Fatalf("byte %d: the journal is still there", at)
			}
		}
	}
}

func TestDamagedLock(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	good := w.read("pipeline.lock")
	lines := strings.SplitAfter(good, "\n")
	conflict := strings.Join(lines[:6], "") + "<<<<<<< ours\n" + lines[6] + "=======\n" + lines[7] + ">>>>>>> theirs\n" + strings.Join(lines[8:], "")
	for name, bad := range map[string]string{"conflict": conflict, "cut": good[:len(good)/2], "empty": "", "unknown field": strings.Replace(good, `"key"`, `"kye"`, 1)} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.write("pipeline.lock", bad)
			_, err := w.open().Status(t.Context(), nil)
			if !errors.Is(err, cache.ErrDamaged) {
				t.Errorf("status: %v", err)
			}
			contains(t, "status", fmt.Sprint(err), "pipeline.lock", "lpipe repro")
			if _, err := w.open().Add(t.Context(), []string{"raw.txt"}); !errors.Is(err, cache.ErrDamaged) {
				t.Errorf("add: %v", err)
			}
			equal(t, "lock is as it was", w.read("pipeline.lock"), bad)
			equal(t, "repro", w.repro(), "clean:workspace count:workspace loud:workspace")
			contains(t, "message", w.messages(), "rebuilds")
			equal(t, "rebuilt", w.read("pipeline.lock"), good)
		})
	}
	w.write("pipeline.lock", strings.Replace(good, `"schema": 2`, `"schema": 3, "more": 1`, 1))
	p, _ := runner.Decode(runner.DecodeOptions{Dir: w.dir, Kinds: w.kinds})
	_, _, err := runner.New(runner.Options{Pipeline: p})
	contains(t, "newer schema", fmt.Sprint(err), "newer lpipe")
	w.write("pipeline.lock", strings.Replace(strings.Replace(good, `"schema": 2`, `"schema": 3`, 1), `"kind":`, `"new":1,"kind":`, 1))
	_, _, err = runner.New(runner.Options{Pipeline: p})
	contains(t, "newer schema, a field more", fmt.Sprint(err), "newer lpipe; install that one")
	w.write("pipeline.lock", strings.Replace(good, `"schema": 2`, `"schema": 3`, 1))
	w.t = t
	_, err = w.open().Status(t.Context(), nil)
	contains(t, "newer schema, all else as ours", fmt.Sprint(err), "newer lpipe", "fsck --repair")
}

// A conflict leaves the content of a missing source known: it stands nowhere else.
func TestConflictKeepsSources(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	w.repro()
	good := w.read("pipeline.lock")
	os.Remove(filepath.Join(w.dir, "raw.txt"))
	w.write("pipeline.lock", strings.Replace(good, `  "stages"`, "<<<<<<< ours\n  \"stages\"", 1)+">>>>>>> theirs\n")
	equal(t, "repro", w.repro(), "clean:workspace count:workspace loud:workspace")
	equal(t, "lock", w.read("pipeline.lock"), good)
}

func TestProfilesHaveLocksOfTheirOwn(t *testing.T) {
	w := newWorkspace(t, chain+`
profile "prod" { set = { tail = "!" } }
`, "raw.txt", "a b\n")
	w.repro()
	lock := w.read("pipeline.lock")
	prod := func(o *runner.Options) {
		p, diags := runner.Decode(runner.DecodeOptions{Dir: w.dir, Profile: "prod", Kinds: w.kinds})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		o.Pipeline = p
	}
	w.opts = prod
	equal(t, "prod", w.repro(), "clean:workspace count:ran loud:ran")
	equal(t, "the other lock", w.read("pipeline.lock"), lock)
	w.opts = nil
	equal(t, "back", w.repro(), "clean:workspace count:cache loud:cache")
	equal(t, "content of the other profile is no edit", w.messages(), "")
	if !w.opened("pipeline.prod.lock") {
		t.Error("no lock of the profile")
	}
}

// After a loss of power the name under which the lock was written may be there again, beside the lock.
func TestLeftOverLock(t *testing.T) {
	w := newWorkspace(t, "stage \"shell\" \"a\" {\n out = { a = \"out/a\" }\n command = \"echo made > out/a\"\n}\n")
	w.repro()
	leftover := filepath.Join(w.dir, ".lpipe", "lock.new")
	if err := os.WriteFile(leftover, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	equal(t, "next run", w.repro(), "a:workspace")
	if _, err := os.Lstat(leftover); err == nil {
		t.Error("it is still there")
	}
}
