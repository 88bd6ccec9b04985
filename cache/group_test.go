package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// outputs writes what three stages made: files, one of them equal to another stage's, one executable, and a folder.
func (p *project) outputs() []string {
	p.write("out/a", "a")
	p.write("out/same", "a")
	write(p.TB, p.path("out/tool"), "#!/bin/sh\n", 0o755)
	p.write("out/dir/one", "one")
	p.write("out/dir/sub/two", "two")
	p.write("out/dir/sub/again", "one")
	if err := os.Symlink("one", p.path("out/dir/link")); err != nil {
		p.Fatal(err)
	}
	return []string{"out/a", "out/same", "out/tool", "out/dir"}
}

func (p *project) deposit(path string) (*Deposit, Content) {
	p.Helper()
	d, err := p.cache.NewDeposit(p.Context())
	noError(p.TB, err)
	content, err := d.Add(p.Context(), p.state, p.path(path), AddOptions{Move: true})
	noError(p.TB, err)
	noError(p.TB, d.PutResult(SumKey(path), &Result{Description: path, Outputs: map[string]Content{"o": content}}))
	return d, content
}

// A commit of many deposits leaves what storing one after the other does: cache, workspace, and state.
func TestCommitIsManyAdds(t *testing.T) {
	for _, link := range []string{"hardlink", "symlink", "copy"} {
		t.Run(link, func(t *testing.T) {
			plain, grouped := newProject(t, link), newProject(t, link)
			for _, path := range plain.outputs() {
				content := plain.add(path, true)
				noError(t, plain.cache.PutResult(SumKey(path), &Result{Description: path, Outputs: map[string]Content{"o": content}}))
			}
			var deposits []*Deposit
			for _, path := range grouped.outputs() {
				d, content := grouped.deposit(path)
				deposits = append(deposits, d)
				if _, err := grouped.cache.Result(SumKey(path)); !errors.Is(err, ErrNotFound) {
					t.Errorf("%s is found before the commit: %v", path, err)
				}
				if got := plain.scan(path); got != content {
					t.Errorf("%s is %v, not %v", path, content, got)
				}
			}
			for i, err := range grouped.cache.Commit(t.Context(), deposits) {
				if err != nil {
					t.Errorf("deposit %d: %v", i, err)
				}
			}
			noError(t, grouped.cache.Link(t.Context(), deposits))
			if got, want := look(t, grouped.dir), look(t, plain.dir); got != want {
				t.Errorf("grouped:\n%s\none by one:\n%s", got, want)
			}
			for _, path := range []string{"out/a", "out/same", "out/tool", "out/dir"} {
				if got := grouped.scan(path); got != plain.scan(path) {
					t.Errorf("afterwards %s is %v", path, got)
				}
			}
			if report := fsck(t, grouped.cache, FsckOptions{Full: true}); len(report.Problems) > 0 {
				t.Error(report.Problems)
			}
		})
	}
}

// What others may read already is the same file, with the same times, until Link.
func TestCommitLeavesCalmFilesAlone(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("known", "known")
	known := p.add("known", true)
	paths := []string{"out/one", "out/same", "out/known", "out/dir/two", "out/dir/again"}
	p.write("out/one", "one")
	p.write("out/same", "one")
	p.write("out/known", "known")
	p.write("out/dir/two", "two")
	p.write("out/dir/again", "two")
	var deposits []*Deposit
	for _, path := range []string{"out/one", "out/same", "out/known", "out/dir"} {
		d, err := p.cache.NewDeposit(t.Context())
		noError(t, err)
		_, err = d.Add(t.Context(), p.state, p.path(path), AddOptions{Move: true, Calm: true})
		noError(t, err)
		deposits = append(deposits, d)
	}
	stats := func() (all []fileStat) {
		for _, path := range paths {
			now, err := lstat(p.path(path))
			noError(t, err)
			all = append(all, now)
		}
		return all
	}
	before := stats()
	noError(t, errors.Join(p.cache.Commit(t.Context(), deposits)...))
	for i, now := range stats() {
		if now != before[i] {
			t.Errorf("%s was %+v, and is %+v", paths[i], before[i], now)
		}
	}
	if object, err := lstat(p.cache.Path(known.ID)); err != nil || object.ino != before[2].ino {
		t.Errorf("what the cache had is not linked before others read it (%v)", err)
	}
	p.write("out/one", "by hand") // in place
	noError(t, p.cache.Link(t.Context(), deposits))
	for i, now := range stats() {
		if linked := now.ino != before[i].ino; linked != (i != 0 && i != 2) || i > 0 && now.mode&0o222 != 0 {
			t.Errorf("%s: %+v after the link", paths[i], now)
		}
	}
	if got := p.read("out/one"); got != "by hand" {
		t.Errorf("an edit became %q", got)
	}
}

// look lists a project's files: mode, number of links, bytes. Files of the cache that only speed it up are left out.
func look(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if name := d.Name(); name == "stat" || name == "lock" || name == "state" {
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		data, _ := os.ReadFile(path)
		lines = append(lines, fmt.Sprintf("%s %v %d %q", rel, info.Mode(), info.Sys().(*syscall.Stat_t).Nlink, data))
		return nil
	})
	noError(t, err)
	slices.Sort(lines)
	return strings.ReplaceAll(strings.Join(lines, "\n"), dir, "DIR")
}

// What happens in the workspace between a stage's end and the commit takes nothing from the cache; only bytes that were
// written over are refused, and they alone.
func TestCommitAfterMeddling(t *testing.T) {
	p := newProject(t, "hardlink")
	var deposits []*Deposit
	var contents []Content
	names := []string{"removed", "moved", "replaced", "linked", "touched", "overwritten", "calm"}
	for _, name := range names {
		p.write(name, "made by "+name)
		d, content := p.deposit(name)
		deposits, contents = append(deposits, d), append(contents, content)
	}
	noError(t, os.Remove(p.path("removed")))
	noError(t, os.Rename(p.path("moved"), p.path("elsewhere")))
	p.write("new", "another")
	noError(t, os.Rename(p.path("new"), p.path("replaced")))
	noError(t, os.Link(p.path("linked"), p.path("second")))
	noError(t, os.Chmod(p.path("touched"), 0o600))
	overwrite(t, p.path("overwritten"), "MADE")
	for i, err := range p.cache.Commit(t.Context(), deposits) {
		_, missing := p.cache.Result(SumKey(names[i]))
		if names[i] == "overwritten" {
			if !errors.Is(err, ErrChanged) || !errors.Is(missing, ErrNotFound) {
				t.Errorf("%s: %v, result %v", names[i], err, missing)
			}
			continue
		}
		if err != nil || missing != nil || !p.cache.Has(contents[i].ID) {
			t.Errorf("%s: %v, result %v, object %v", names[i], err, missing, p.cache.Has(contents[i].ID))
		}
	}
	for name, want := range map[string]string{"elsewhere": "made by moved", "replaced": "another", "second": "made by linked", "overwritten": "MADE by overwritten"} {
		if got := p.read(name); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
	if left, _ := os.ReadDir(p.cache.in("tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

// Whatever operation fails, a deposit is stored or refused as a whole: no result without its content, nothing left over,
// and the workspace's files as they were.
func TestCommitNthOperationFails(t *testing.T) {
	for n := int64(1); ; n++ {
		p := newProject(t, "hardlink")
		names := p.outputs()
		var deposits []*Deposit
		for _, path := range names {
			d, _ := p.deposit(path)
			deposits = append(deposits, d)
		}
		reached := failFrom(p.cache, n, syscall.EIO, false)
		errs := p.cache.Commit(context.Background(), deposits)
		p.cache.disk.fault = nil
		failed := 0
		for i, err := range errs {
			result, missing := p.cache.Result(SumKey(names[i]))
			if err != nil {
				failed++
			} else if missing != nil {
				t.Errorf("operation %d: %s was stored, but its result is %v", n, names[i], missing)
			}
			if missing != nil {
				continue
			}
			if lacking, err := p.cache.Missing(t.Context(), result.Outputs["o"]); err != nil || len(lacking) > 0 {
				t.Errorf("operation %d: the result of %s names content that is not there: %v %v", n, names[i], lacking, err)
			}
		}
		if left, _ := os.ReadDir(p.cache.in("tmp")); len(left) > 0 {
			t.Errorf("operation %d: left in tmp: %v", n, left)
		}
		if p.read("out/a") != "a" || p.read("out/dir/sub/two") != "two" {
			t.Errorf("operation %d: the workspace changed", n)
		}
		if !reached() {
			if failed > 0 {
				t.Errorf("%d failed without a fault", failed)
			}
			return
		}
	}
}

func TestDiscardGivesBack(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("a", "a")
	d, content := p.deposit("a")
	if info, _ := os.Stat(p.path("a")); info.Mode().Perm() != 0o444 {
		t.Errorf("mode %v before", info.Mode())
	}
	d.Discard()
	d.Discard()
	if info, _ := os.Stat(p.path("a")); info.Mode().Perm() != 0o644 || info.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Errorf("mode %v, links %d afterwards", info.Mode(), info.Sys().(*syscall.Stat_t).Nlink)
	}
	if p.cache.Has(content.ID) {
		t.Error("it is in the cache")
	}
	if left, _ := os.ReadDir(p.cache.in("tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	if p.cache.uses != 0 {
		t.Errorf("the cache is still held %d times", p.cache.uses)
	}
}

// What could not be added, a log say, takes nothing of its deposit with it.
func TestCommitWithoutWhatCouldNotBeAdded(t *testing.T) {
	for n := int64(1); ; n++ {
		p := newProject(t, "hardlink")
		p.outputs()
		p.write("log", "what it said")
		d, content := p.deposit("out/a")
		reached := failFrom(p.cache, n, syscall.ENOSPC, false)
		_, err := d.Add(t.Context(), p.state, p.path("log"), AddOptions{})
		p.cache.disk.fault = nil
		if errs := p.cache.Commit(t.Context(), []*Deposit{d}); errs[0] != nil {
			t.Errorf("operation %d: %v", n, errs[0])
		}
		if result, err := p.cache.Result(SumKey("out/a")); err != nil || result.Outputs["o"] != content {
			t.Errorf("operation %d: the result is %v, %v", n, result, err)
		}
		if left, _ := os.ReadDir(p.cache.in("tmp")); len(left) > 0 {
			t.Errorf("operation %d: left in tmp: %v", n, left)
		}
		if !reached() {
			noError(t, err)
			return
		}
	}
}
