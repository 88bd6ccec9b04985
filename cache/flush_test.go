package cache

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// One flush for many files pays unless it has to write much of what others left.
func TestOneFlushPays(t *testing.T) {
	for _, c := range []struct {
		n                int
		bytes, unwritten int64
		want             bool
	}{
		{16, 0, 0, true},
		{16, 0, 4 << 20, true},
		{16, 0, 5 << 20, false},
		{16, 64 << 20, 68 << 20, true}, // most of it is theirs
		{70_000, 734 << 20, 4 << 30, true},
		{5, 0, 1 << 30, false},
		{5, 1 << 30, 0, true}, // written long ago
	} {
		if got := worthOne(c.n, c.bytes, c.unwritten); got != c.want {
			t.Errorf("%d files of %d bytes where %d are unwritten: %v", c.n, c.bytes, c.unwritten, got)
		}
	}
	if oneFlush(flushEach, 0) {
		t.Error("few files are flushed each by itself")
	}
}

// What was prepared is not flushed again by Commit, which only gives names; what came after it is.
func TestPrepareIsTheFirstPartOfCommit(t *testing.T) {
	p := newProject(t, "hardlink")
	paths := p.outputs()
	var deposits []*Deposit
	for _, path := range paths {
		d, _ := p.deposit(path)
		deposits = append(deposits, d)
	}
	var mu sync.Mutex
	var bytes []string // flushed
	p.cache.disk.fault = func(op, path string) error {
		if op == "sync" && strings.HasPrefix(path, p.cache.in("tmp")) {
			mu.Lock()
			bytes = append(bytes, path)
			mu.Unlock()
		}
		return nil
	}
	first, last := deposits[:2], deposits[2:]
	p.cache.Prepare(first)
	if len(bytes) != 4 && len(bytes) != 1 { // two files and two results, or one flush for all
		t.Errorf("Prepare flushed %q", bytes)
	}
	for _, path := range paths {
		if _, err := p.cache.Result(SumKey(path)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s is found before the commit: %v", path, err)
		}
	}
	bytes = nil
	noError(t, errors.Join(p.cache.Commit(t.Context(), first)...))
	if bytes != nil {
		t.Errorf("Commit flushed what was prepared: %q", bytes)
	}
	noError(t, errors.Join(p.cache.Commit(t.Context(), last)...))
	if bytes == nil {
		t.Error("Commit did not flush what was not prepared")
	}
	for _, path := range paths {
		if _, err := p.cache.Result(SumKey(path)); err != nil {
			t.Error(err)
		}
	}
	if report := fsck(t, p.cache, FsckOptions{Full: true}); len(report.Problems) > 0 {
		t.Error(report.Problems)
	}
}

// A failed flush is told once by the system: what Prepare could not make durable, no Commit stores, although its own flushes go well.
func TestPrepareThatFailsIsTheCommitsError(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("out/a", "a")
	p.write("out/b", "b")
	bad, _ := p.deposit("out/a")
	p.cache.disk.fault = func(op, path string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	p.cache.Prepare([]*Deposit{bad})
	p.cache.disk.fault = nil
	good, _ := p.deposit("out/b")
	errs := p.cache.Commit(t.Context(), []*Deposit{bad, good})
	if !errors.Is(errs[0], syscall.EIO) || errs[1] != nil {
		t.Errorf("errors: %v", errs)
	}
	if _, err := p.cache.Result(SumKey("out/a")); !errors.Is(err, ErrNotFound) {
		t.Errorf("out/a is recorded: %v", err)
	}
	if _, err := p.cache.Result(SumKey("out/b")); err != nil {
		t.Error(err)
	}
	if left, err := temps(p.cache); len(left) > 0 || err != nil {
		t.Errorf("left behind: %q %v", left, err)
	}
	p.write("out/a", "may be written to again")
}

func temps(c *Cache) (names []string, err error) {
	entries, err := os.ReadDir(c.in("tmp"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
