package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGC(t *testing.T) {
	const hour = time.Hour
	cases := []struct {
		name    string
		roots   []int // of the results below, as keys
		options GCOptions
		kept    string // numbers of the results that stay
	}{
		{"all that no root needs", []int{1}, GCOptions{Grace: -1}, "1"},
		{"nothing while young", nil, GCOptions{}, "0 1 2 3 4"},
		{"nothing younger than asked", nil, GCOptions{Grace: -1, OlderThan: hour}, "0 1 2 3 4"},
		{"later all", nil, GCOptions{OlderThan: hour, Now: time.Now().Add(3 * hour)}, ""},
		{"the last of each stage", nil, GCOptions{Grace: -1, KeepLast: 1}, "3 4"},
		{"the last two of each stage", nil, GCOptions{Grace: -1, KeepLast: 2}, "1 2 3 4"},
		{"oldest first until it fits", nil, GCOptions{Grace: -1, MaxSize: 3000}, "3 4"},
		{"it fits already", nil, GCOptions{Grace: -1, MaxSize: 1 << 20}, "0 1 2 3 4"},
		{"what is needed stays even if it does not fit", []int{0, 1}, GCOptions{Grace: -1, MaxSize: 1}, "0 1"},
	}
	for _, c := range cases {
		for _, remove := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, delete %v", c.name, remove), func(t *testing.T) {
				p := newProject(t, "copy")
				var keys []Key
				var contents []Content
				for i := range 5 { // stages a and b in turn, each later than the one before
					p.write(fmt.Sprintf("out%d/f", i), strings.Repeat(fmt.Sprint(i), 1000))
					content := p.add(fmt.Sprintf("out%d", i), false)
					contents, keys = append(contents, content), append(keys, SumKey(fmt.Sprint(i)))
					noError(t, p.cache.PutResult(keys[i], &Result{
						Outputs: map[string]Content{"out": content},
						Record:  Record{Stage: string(rune('a' + i%2)), Started: time.Unix(int64(1e9+i), 0)},
					}))
				}
				p.write("orphan", "nobody needs it")
				orphan := p.add("orphan", false)
				o := c.options
				o.Delete = remove
				var roots GCRoots
				for _, i := range c.roots {
					roots.Keys = append(roots.Keys, keys[i])
				}
				report, err := p.cache.GC(t.Context(), roots, o)
				noError(t, err)
				var kept []string
				for i, k := range keys {
					_, err := p.cache.Result(k)
					missing, merr := p.cache.Missing(t.Context(), contents[i])
					noError(t, merr)
					if (err == nil) != (len(missing) == 0) {
						t.Errorf("result %d: %v, but missing %v", i, err, missing)
					}
					if err == nil {
						kept = append(kept, fmt.Sprint(i))
					}
				}
				want := c.kept
				if !remove {
					want = "0 1 2 3 4"
				}
				if got := strings.Join(kept, " "); got != want {
					t.Errorf("kept %q, not %q; %+v", got, want, report)
				}
				if n := len(strings.Fields(c.kept)); report.KeptResults != n || report.Results != 5-n {
					t.Errorf("report %+v", report)
				}
				if young := c.name == "nothing while young" || c.name == "nothing younger than asked"; remove && p.cache.Has(orphan.ID) != young {
					t.Errorf("the orphan is there: %v", !young)
				}
				if r := fsck(t, p.cache, FsckOptions{Full: true}); len(r.Problems)+r.Incomplete > 0 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

// TestGCKeepsWhatIsUsedAgain: content that was there already is as young as new one.
func TestGCKeepsWhatIsUsedAgain(t *testing.T) {
	p := newProject(t, "copy")
	p.write("f", "text")
	c := p.add("f", false)
	later := time.Now().Add(5 * time.Hour)
	p.cache.now = func() time.Time { return later }
	p.add("f", false)
	other := openCache(t, Options{Dir: p.cache.Dir()})
	if _, err := other.GC(t.Context(), GCRoots{}, GCOptions{Delete: true, Now: later}); err != nil || !p.cache.Has(c.ID) {
		t.Errorf("removed before its use could be recorded: %v", err)
	}
	if _, err := other.GC(t.Context(), GCRoots{}, GCOptions{Delete: true, Now: later.Add(2 * time.Hour)}); err != nil || p.cache.Has(c.ID) {
		t.Errorf("it stays for ever: %v", err)
	}
}

// TestGCNeedsTheRoots: when a tree that must stay cannot be read, what it names is unknown, and nothing goes.
func TestGCNeedsTheRoots(t *testing.T) {
	p := newProject(t, "copy")
	p.write("d/f", "text")
	c := p.add("d", false)
	flip(t, p.cache.treePath(c.ID), 12)
	_, err := p.cache.GC(t.Context(), GCRoots{Contents: []Content{c}}, GCOptions{Delete: true, Grace: -1})
	if !errors.Is(err, ErrDamaged) || !p.cache.Has(Sum([]byte("text"))) {
		t.Errorf("error %v", err)
	}
}

func TestGCWaitsForOthers(t *testing.T) {
	p := newProject(t)
	b, err := p.cache.NewBatch(t.Context())
	noError(t, err)
	id := Sum([]byte("x"))
	noError(t, b.Put(t.Context(), id, false, 1, strings.NewReader("x")))
	other := openCache(t, Options{Dir: p.cache.Dir()})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := other.GC(ctx, GCRoots{}, GCOptions{Delete: true}); !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while somebody adds: %v", err)
	}
	noError(t, b.Commit(t.Context()))
	if _, err := other.GC(t.Context(), GCRoots{}, GCOptions{Delete: true}); err != nil || !other.Has(id) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "lock")
	one, err := LockFile(t.Context(), path, true, nil)
	noError(t, err)
	var told []string
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = LockFile(ctx, path, false, func(holder string) { told = append(told, holder) })
	if !errors.Is(err, ErrLocked) || len(told) != 1 || !strings.Contains(told[0], fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("told %q, error %v", told, err)
	}
	noError(t, one.Release())
	noError(t, one.Release())
	a, err := LockFile(t.Context(), path, false, nil)
	noError(t, err)
	b, err := LockFile(t.Context(), path, false, nil)
	noError(t, err)
	noError(t, a.Release())
	noError(t, b.Release())
}

// While a gc removes what it takes for garbage, nobody writes the file by which a new cache becomes one.
func TestNewCacheWaitsForGC(t *testing.T) {
	dir := t.TempDir()
	gc, err := LockFile(t.Context(), filepath.Join(dir, "lock"), true, nil)
	noError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Options{Dir: dir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v instead of waiting", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "format")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("format: %v", err)
	}
	gc.Release()
	_, err = Open(t.Context(), Options{Dir: dir})
	noError(t, err)
}
