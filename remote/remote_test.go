package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lpipe/cache"
)

func TestPushAndFetch(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		mine, theirs := newCache(t), newCache(t)
		content := folder(t, mine, 300, 3<<20)
		key := result(t, mine, "a", content)
		var last Progress
		stats, err := New(b, mine, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, func(p Progress) { last = p })
		noError(t, err)
		if stats.Objects != 306 || stats.Results != 1 || stats.Requests > 12 {
			t.Errorf("push %+v", stats)
		}
		if last.Objects != last.TotalObjects || last.Bytes != last.TotalBytes || last.Objects != stats.Objects {
			t.Errorf("progress %+v", last)
		}
		for range 2 { // the same client again, and one that knows nothing
			r := New(b, mine, Options{Retry: quick, Indexes: t.TempDir()})
			again, err := r.Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
			noError(t, err)
			if again.Objects+again.Results != 0 || again.Requests > 3 {
				t.Errorf("push with nothing to do: %+v", again)
			}
			again, err = r.Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
			noError(t, err)
			if again.Requests != 1 {
				t.Errorf("the next one: %+v", again)
			}
		}
		other := New(b, theirs, Options{Retry: quick})
		got, err := other.Result(t.Context(), key)
		noError(t, err)
		if got.Outputs["out"] != content || got.Record.Stage != "one" {
			t.Errorf("result %+v", got)
		}
		stats, err = other.Fetch(t.Context(), []cache.Content{content}, func(p Progress) { last = p })
		noError(t, err)
		if stats.Objects != 306 || stats.Requests > 12 || last.Objects != 306 {
			t.Errorf("fetch %+v, progress %+v", stats, last)
		}
		whole(t, theirs, content)
		stats, err = other.Fetch(t.Context(), []cache.Content{content}, nil)
		if err != nil || stats.Requests != 0 {
			t.Errorf("fetch again: %+v, %v", stats, err)
		}
		if _, err := other.Result(t.Context(), cache.SumKey("never")); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("a result that is not there: %v", err)
		}
		l, err := other.List(t.Context())
		noError(t, err)
		if len(l.Results) != 1 || l.Results[0].Key != key || l.Objects != 306 {
			t.Errorf("list %+v", l)
		}
		report, err := other.Fsck(t.Context(), FsckOptions{Sample: 1})
		noError(t, err)
		if len(report.Problems)+report.Orphans > 0 || report.Read != report.Packs+1 || report.Objects != 306 {
			t.Errorf("fsck %+v", report)
		}
	})
}

// TestOnlyWhatChanged: one file more costs that file and the trees above it.
func TestOnlyWhatChanged(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{Retry: quick})
	_, err := r.Push(t.Context(), []cache.Content{folder(t, c, 500, 1)}, nil, nil)
	noError(t, err)
	more := folder(t, c, 501, 1)
	stats, err := r.Push(t.Context(), []cache.Content{more}, nil, nil)
	noError(t, err)
	if stats.Objects != 3 { // the file, sub, the root
		t.Errorf("%+v", stats)
	}
	to := newCache(t)
	noError(t, New(b, to, Options{Retry: quick}).Content(t.Context(), more))
	whole(t, to, more)
}

// TestLargeTree: the tree of a folder with very many files is a large object itself.
func TestLargeTree(t *testing.T) {
	b, c, to := newMemory(), newCache(t), newCache(t)
	content := folder(t, c, 100, 1)
	_, err := New(b, c, Options{Retry: quick, Small: 1000}).Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	noError(t, New(b, to, Options{Retry: quick}).Content(t.Context(), content))
	whole(t, to, content)
}

func TestFetchOneFile(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{Retry: quick})
	_, err := r.Push(t.Context(), []cache.Content{folder(t, c, 20, 1)}, nil, nil)
	noError(t, err)
	want := cache.Content{ID: cache.Sum(fmt.Appendf(nil, "%0100d", 7)), Size: 100, Files: 1}
	to := newCache(t)
	stats, err := New(b, to, Options{Retry: quick}).Fetch(t.Context(), []cache.Content{want}, nil)
	noError(t, err)
	if stats.Bytes != 100 || stats.Objects != 1 || !to.Has(want.ID) {
		t.Errorf("%+v", stats)
	}
}

func TestMissingContent(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{Retry: quick})
	absent := cache.Content{ID: cache.Sum([]byte("never made")), Size: 10, Files: 1}
	if _, err := r.Push(t.Context(), []cache.Content{absent}, nil, nil); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("push: %v", err)
	}
	if _, err := r.Fetch(t.Context(), []cache.Content{absent}, nil); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("fetch: %v", err)
	}
	for name := range b.names {
		t.Errorf("left behind: %s", name)
	}
}

// TestInterruptedPush lets the n-th request fail for good, for all n: nothing that can be found is incomplete, and
// the next push ends well.
func TestInterruptedPush(t *testing.T) {
	c := newCache(t)
	content := folder(t, c, 10, 2<<20)
	key := result(t, c, "a", content)
	for n := 1; ; n++ {
		b := newMemory()
		count, hit := 0, false
		b.fault = func(op, name string) error {
			if count++; count >= n {
				hit = true
				return &Error{Kind: Network, Op: op, Name: name, Where: "memory", Err: errors.New("cut")}
			}
			return nil
		}
		r := New(b, c, Options{Retry: quick, Indexes: t.TempDir(), Jobs: 2})
		_, err := r.Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
		b.fault = nil
		if hit && err == nil && n < 8 {
			t.Errorf("n=%d: no error", n)
		}
		to := newCache(t)
		other := New(b, to, Options{Retry: quick})
		if got, err := other.Result(t.Context(), key); err == nil {
			noError(t, other.Content(t.Context(), got.Outputs["out"]))
			whole(t, to, content)
		}
		for name := range b.names { // what a killed push leaves: its lock, which others may wait for
			if strings.HasPrefix(name, "locks/") {
				b.times[name] = time.Now().Add(-time.Hour)
			}
		}
		_, err = New(b, c, Options{Retry: quick, Indexes: t.TempDir()}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
		noError(t, err)
		if report, err := other.Fsck(t.Context(), FsckOptions{Sample: 1}); err != nil || len(report.Problems) > 0 {
			t.Errorf("n=%d: %+v, %v", n, report, err)
		}
		if !hit {
			break
		}
	}
}

// TestWrongBytes changes each thing in the bucket: what comes is refused, and fsck names it.
func TestWrongBytes(t *testing.T) {
	b, c := newMemory(), newCache(t)
	content := folder(t, c, 5, 2<<20)
	key := result(t, c, "a", content)
	_, err := New(b, c, Options{Retry: quick, Indexes: t.TempDir()}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
	noError(t, err)
	for name, good := range b.names {
		for _, bad := range [][]byte{flipped(good, 20), good[:len(good)-1], {}} {
			b.names[name] = bad
			to := newCache(t)
			r := New(b, to, Options{Retry: Retry{Attempts: 3, First: time.Microsecond}, Indexes: t.TempDir()})
			_, errResult := r.Result(t.Context(), key)
			errContent := r.Content(t.Context(), content)
			if missing, _ := to.Missing(t.Context(), content); errResult == nil && errContent == nil && len(missing) > 0 {
				t.Errorf("%s with %d bytes: accepted", name, len(bad))
			}
			report, err := to.Fsck(t.Context(), cache.FsckOptions{Full: true})
			noError(t, err)
			if len(report.Problems) > 0 {
				t.Errorf("%s: the cache holds %+v", name, report.Problems)
			}
			found, err := r.Fsck(t.Context(), FsckOptions{Sample: 1})
			if err == nil && len(found.Problems) == 0 {
				t.Errorf("%s with %d bytes: fsck found nothing", name, len(bad))
			}
		}
		b.names[name] = good
	}
}

func flipped(data []byte, i int) []byte {
	bad := append([]byte(nil), data...)
	bad[min(i, len(bad)-1)] ^= 1
	return bad
}

// TestDamagedCacheIsNotPushed: what is wrong here must not get there.
func TestDamagedCacheIsNotPushed(t *testing.T) {
	for _, size := range []int{100, 2 << 20} {
		b, c := newMemory(), newCache(t)
		content := folder(t, c, 1, size)
		for o, err := range c.Objects(t.Context(), content) {
			noError(t, err)
			if !o.Tree && o.Size == int64(size) {
				noError(t, os.Chmod(c.Path(o.ID), 0o644))
				noError(t, os.WriteFile(c.Path(o.ID), make([]byte, size), 0o644))
			}
		}
		_, err := New(b, c, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, nil, nil)
		if !errors.Is(err, cache.ErrDamaged) && !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("size %d: %v", size, err)
		}
		for name := range b.names {
			if strings.HasPrefix(name, "index/") {
				t.Errorf("size %d: %s promises it", size, name)
			}
		}
	}
}

func TestFsckRepairs(t *testing.T) {
	for _, prefix := range []string{"packs/", "objects/", "results/"} {
		b, c := newMemory(), newCache(t)
		content := folder(t, c, 5, 2<<20)
		key := result(t, c, "a", content)
		r := New(b, c, Options{Retry: Retry{Attempts: 2, First: time.Microsecond}})
		push := func() {
			_, err := r.Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
			noError(t, err)
		}
		push()
		for name := range b.names {
			if strings.HasPrefix(name, prefix) {
				b.names[name] = flipped(b.names[name], 30)
			}
		}
		report, err := r.Fsck(t.Context(), FsckOptions{Sample: 1, Repair: true})
		noError(t, err)
		if len(report.Problems) != 1 || !report.Problems[0].Repaired {
			t.Errorf("%s: %+v", prefix, report)
		}
		push()
		if report, err := r.Fsck(t.Context(), FsckOptions{Sample: 1}); err != nil || len(report.Problems) > 0 {
			t.Errorf("%s after the repair: %+v, %v", prefix, report, err)
		}
		to := newCache(t)
		other := New(b, to, Options{Retry: quick})
		if _, err := other.Result(t.Context(), key); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
		noError(t, other.Content(t.Context(), content))
		whole(t, to, content)
	}
}

func TestIndexesAreMerged(t *testing.T) {
	b, c := newMemory(), newCache(t)
	var all []cache.Content
	r := New(b, c, Options{Retry: quick})
	for i := range manyIndexes + 5 {
		path := filepath.Join(t.TempDir(), "f")
		noError(t, os.WriteFile(path, fmt.Append(nil, i), 0o644))
		content, err := c.Add(t.Context(), nil, path, cache.AddOptions{})
		noError(t, err)
		all = append(all, content)
		_, err = r.Push(t.Context(), []cache.Content{content}, nil, nil)
		noError(t, err)
	}
	n := 0
	for name := range b.names {
		if strings.HasPrefix(name, "index/") {
			n++
		}
	}
	if n > 10 {
		t.Errorf("%d indexes", n)
	}
	to := newCache(t)
	_, err := New(b, to, Options{Retry: quick}).Fetch(t.Context(), all, nil)
	noError(t, err)
}

func TestRemoteGC(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{Retry: quick})
	keep, drop := folder(t, c, 5, 2<<20), folder(t, c, 7, 3<<20)
	keepKey, dropKey := result(t, c, "keep", keep), result(t, c, "drop", drop)
	for _, x := range []struct {
		cache.Content
		cache.Key
	}{{keep, keepKey}, {drop, dropKey}} {
		_, err := r.Push(t.Context(), []cache.Content{x.Content}, []cache.Key{x.Key}, nil)
		noError(t, err)
	}
	roots := cache.GCRoots{Keys: []cache.Key{keepKey}}
	for name, o := range map[string]GCOptions{
		"preview": {Grace: -1}, "young": {Delete: true}, "last": {Delete: true, Grace: -1, KeepLast: 2}, "it fits": {Delete: true, Grace: -1, MaxSize: 1 << 30},
	} {
		before := len(b.names)
		report, err := r.GC(t.Context(), roots, o)
		noError(t, err)
		if len(b.names) != before || name != "preview" && report.Results > 0 {
			t.Errorf("%s: %+v", name, report)
		}
	}
	report, err := r.GC(t.Context(), roots, GCOptions{Delete: true, Grace: -1})
	noError(t, err)
	if report.Results != 1 || report.Kept != 1 || report.Bytes < 3<<20 {
		t.Errorf("%+v", report)
	}
	fresh := newCache(t)
	other := New(b, fresh, Options{Retry: quick})
	noError(t, other.Content(t.Context(), keep))
	whole(t, fresh, keep)
	if _, err := other.Result(t.Context(), dropKey); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("dropped: %v", err)
	}
	if report, err := other.Fsck(t.Context(), FsckOptions{Sample: 1}); err != nil || len(report.Problems)+report.Orphans > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	_, err = r.Push(t.Context(), []cache.Content{drop}, []cache.Key{dropKey}, nil)
	noError(t, err)
	noError(t, other.Content(t.Context(), drop))
	whole(t, fresh, drop)
}

func TestGCAndPushExclude(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{Retry: quick, Host: "here"})
	release, err := r.lock(t.Context(), "push")
	noError(t, err)
	second, err := r.lock(t.Context(), "push")
	noError(t, err)
	second()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := r.GC(ctx, cache.GCRoots{}, GCOptions{Delete: true}); !errors.Is(err, ErrLocked) {
		t.Errorf("gc during a push: %v", err)
	}
	release()
	if _, err := r.GC(t.Context(), cache.GCRoots{}, GCOptions{Delete: true}); err != nil {
		t.Error(err)
	}
	for name := range b.names {
		t.Errorf("left behind: %s", name)
	}
}

func TestTwoPushTogether(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var all []cache.Content
		for i := range 4 {
			wg.Go(func() {
				c := newCache(t)
				content := folder(t, c, 20+i/2, 1<<20)
				mu.Lock()
				all = append(all, content)
				mu.Unlock()
				key := result(t, c, "same", content)
				if _, err := New(b, c, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		to := newCache(t)
		if _, err := New(b, to, Options{Retry: quick}).Fetch(t.Context(), all, nil); err != nil {
			t.Error(err)
		}
		for _, content := range all {
			whole(t, to, content)
		}
	})
}
