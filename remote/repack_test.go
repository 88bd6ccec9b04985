package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"lpipe/cache"
)

// halfDead is a bucket in which the trees of both contents share a pack, and one pack holds a file of the first among
// many of the second.
type halfDead struct {
	r          *Remote
	keep, drop cache.Content
	roots      cache.GCRoots
	dropKey    cache.Key
}

func newHalfDead(t *testing.T, b Bucket) halfDead {
	t.Helper()
	c := newCache(t)
	add := func(files, size int) cache.Content {
		dir := t.TempDir()
		for i := range files {
			noError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "%0*d", size, i), 0o644))
		}
		noError(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
		content, err := c.Add(t.Context(), nil, dir, cache.AddOptions{})
		noError(t, err)
		return content
	}
	h := halfDead{r: New(b, c, Options{Retry: quick, PackSize: 16 << 10}), keep: add(2, 500), drop: add(40, 1000)}
	keepKey := result(t, c, "keep", h.keep)
	h.dropKey = result(t, c, "drop", h.drop)
	h.roots = cache.GCRoots{Keys: []cache.Key{keepKey}}
	_, err := h.r.Push(t.Context(), []cache.Content{h.keep, h.drop}, []cache.Key{keepKey, h.dropKey}, nil)
	noError(t, err)
	return h
}

// complete fails unless a client has, or gets, all of a content, and all that the bucket says is so.
func complete(t *testing.T, r *Remote, want cache.Content, orphans bool) {
	t.Helper()
	noError(t, r.Content(t.Context(), want))
	whole(t, r.cache, want)
	report, err := r.Fsck(t.Context(), FsckOptions{Sample: 1})
	if err != nil || len(report.Problems) > 0 || report.Orphans > 0 && !orphans {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestHalfDeadPacksAreWrittenAnew(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		h := newHalfDead(t, b)
		stale := New(b, newCache(t), Options{Retry: quick})
		_, err := stale.load(t.Context())
		noError(t, err)
		preview, err := h.r.GC(t.Context(), h.roots, GCOptions{Grace: -1})
		noError(t, err)
		young, err := h.r.GC(t.Context(), h.roots, GCOptions{Delete: true})
		noError(t, err)
		if young.Results+young.Objects+young.Repacked > 0 || young.Bytes != 0 {
			t.Errorf("young: %+v", young)
		}
		done, err := h.r.GC(t.Context(), h.roots, GCOptions{Delete: true, Grace: -1})
		noError(t, err)
		if done != preview || done.Repacked != 2 || done.Objects != 41 || done.Bytes < 40_000 || done.Waste != 0 {
			t.Errorf("preview %+v, done %+v", preview, done)
		}
		complete(t, stale, h.keep, false)
		complete(t, New(b, newCache(t), Options{Retry: quick}), h.keep, false)
		again, err := h.r.GC(t.Context(), h.roots, GCOptions{Delete: true, Grace: -1})
		noError(t, err)
		if again.Results+again.Objects+again.Repacked > 0 || again.Bytes != 0 {
			t.Errorf("again: %+v", again)
		}
		// What was dropped is sent again, all of it: no tree in the index promises what went.
		stats, err := h.r.Push(t.Context(), []cache.Content{h.drop}, []cache.Key{h.dropKey}, nil)
		noError(t, err)
		if stats.Objects != 41 {
			t.Errorf("sent again: %+v", stats)
		}
		complete(t, New(b, newCache(t), Options{Retry: quick}), h.drop, false)
	})
}

// TestKilledWhilePacksAreWrittenAnew ends a gc before each of its requests: whoever fetches then, knowing the indexes of
// before or not, finds all, and the next gc ends where an undisturbed one does.
func TestKilledWhilePacksAreWrittenAnew(t *testing.T) {
	b := newMemory()
	h := newHalfDead(t, b)
	names, times := maps.Clone(b.names), maps.Clone(b.times)
	killed := errors.New("killed")
	var ends []map[string][]byte
	for n, done := 0, false; !done; n++ {
		b.names, b.times, b.fault = maps.Clone(names), maps.Clone(times), nil
		stale := New(b, newCache(t), Options{Retry: quick})
		_, err := stale.load(t.Context())
		noError(t, err)
		requests := 0
		b.fault = func(op, name string) error {
			if requests++; requests > n {
				return killed
			}
			return nil
		}
		gc := func() error {
			_, err := New(b, h.r.cache, Options{Retry: quick, PackSize: 16 << 10}).GC(t.Context(), h.roots, GCOptions{Delete: true, Grace: -1})
			return err
		}
		err = gc()
		done = err == nil
		b.fault = nil
		maps.DeleteFunc(b.names, func(name string, _ []byte) bool { return name[:6] == "locks/" })
		if err != nil && !errors.Is(err, killed) {
			t.Fatal(err)
		}
		complete(t, stale, h.keep, true)
		complete(t, New(b, newCache(t), Options{Retry: quick}), h.keep, true)
		noError(t, gc())
		complete(t, New(b, newCache(t), Options{Retry: quick}), h.keep, false)
		ends = append(ends, maps.Clone(b.names))
	}
	for n, end := range ends {
		if !maps.EqualFunc(end, ends[len(ends)-1], func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Errorf("killed after %d requests, the bucket ends with %d names, not %d", n, len(end), len(ends[len(ends)-1]))
		}
	}
	if len(ends) < 15 {
		t.Errorf("%d requests are too few to say anything", len(ends))
	}
}

// during is a bucket in which something happens right before a listing.
type during struct {
	Bucket
	prefix string
	what   func()
}

func (d *during) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	if prefix == d.prefix && d.what != nil {
		what := d.what
		d.what = nil
		what()
	}
	return d.Bucket.List(ctx, prefix)
}

// TestFsckDuringGC: what a gc takes away while somebody looks is no damage.
func TestFsckDuringGC(t *testing.T) {
	for _, prefix := range []string{"packs/", "results/"} {
		b := newMemory()
		h := newHalfDead(t, b)
		at := &during{b, prefix, func() {
			_, err := h.r.GC(t.Context(), h.roots, GCOptions{Delete: true, Grace: -1})
			noError(t, err)
		}}
		report, err := New(at, newCache(t), Options{Retry: quick}).Fsck(t.Context(), FsckOptions{})
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("gc before %s is listed: %+v, %v", prefix, report.Problems, err)
		}
		maps.DeleteFunc(b.names, func(name string, _ []byte) bool { return name[:6] == "packs/" })
		report, err = New(b, newCache(t), Options{Retry: quick}).Fsck(t.Context(), FsckOptions{})
		if err != nil || len(report.Problems) == 0 {
			t.Errorf("lost packs: %+v, %v", report.Problems, err)
		}
	}
}

// TestYoungContentKeepsWhatItReaches: a folder that was pushed today stands partly in packs of long ago.
func TestYoungContentKeepsWhatItReaches(t *testing.T) {
	b := newMemory()
	h := newHalfDead(t, b)
	for name := range b.times {
		b.times[name] = b.times[name].AddDate(0, 0, -30)
	}
	c := h.r.cache
	tree, err := c.ReadTree(h.drop.ID)
	noError(t, err)
	tree.Entries = tree.Entries[1:]
	today := filepath.Join(t.TempDir(), "today")
	noError(t, os.MkdirAll(today, 0o755))
	for _, e := range tree.Entries {
		data, err := os.ReadFile(c.ObjectPath(cache.Object{ID: e.ID}))
		noError(t, err)
		noError(t, os.WriteFile(filepath.Join(today, e.Name), data, 0o644))
	}
	content, err := c.Add(t.Context(), nil, today, cache.AddOptions{})
	noError(t, err)
	stats, err := h.r.Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	if stats.Objects != 1 {
		t.Fatalf("more than a tree was sent: %+v", stats)
	}
	report, err := h.r.GC(t.Context(), h.roots, GCOptions{Delete: true})
	noError(t, err)
	if report.Results != 1 || report.Objects != 1 || report.Waste != 1000 { // the folder's tree; its first file is too little to write a pack anew
		t.Errorf("%+v", report)
	}
	complete(t, New(b, newCache(t), Options{Retry: quick}), content, false)
}

// TestSamplesOfDays: at a tenth, any ten days one after the other look at everything, at a tenth or so each.
func TestSamplesOfDays(t *testing.T) {
	const share, days, names = 0.1, 10, 2000
	for _, first := range []int{0, 20_000} {
		seen := map[int]bool{}
		for day := first; day < first+days; day++ {
			looked := 0
			for i := range names {
				if (FsckOptions{Sample: share, Day: day}).samples(cache.Sum([]byte{byte(i), byte(i >> 8)})) {
					seen[i] = true
					looked++
				}
			}
			if looked < names*share*0.7 || looked > names*share*1.3 {
				t.Errorf("day %d: %d of %d", day, looked, names)
			}
		}
		if len(seen) != names {
			t.Errorf("from day %d: %d of %d", first, len(seen), names)
		}
	}
	none, all := FsckOptions{Day: 3}, FsckOptions{Day: 3, Sample: 1}
	if id := cache.Sum(nil); none.samples(id) || !all.samples(id) {
		t.Error("no share is nothing, the whole everything")
	}
}

// Many small pushes leave many small packs, and who fetches all pays a request for each: a gc joins them, once.
func TestSmallPacksAreJoined(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{Retry: quick})
	var roots cache.GCRoots
	for i := range fewSmall + 3 {
		path := filepath.Join(t.TempDir(), "f")
		noError(t, os.WriteFile(path, fmt.Appendf(nil, "%0*d", 300, i), 0o644))
		content, err := c.Add(t.Context(), nil, path, cache.AddOptions{})
		noError(t, err)
		roots.Contents = append(roots.Contents, content)
		_, err = r.Push(t.Context(), []cache.Content{content}, nil, nil)
		noError(t, err)
	}
	preview, err := r.GC(t.Context(), roots, GCOptions{})
	noError(t, err)
	done, err := r.GC(t.Context(), roots, GCOptions{Delete: true})
	noError(t, err)
	if done != preview || done.Repacked != fewSmall+3 || done.Objects != 0 {
		t.Errorf("preview %+v, done %+v", preview, done)
	}
	other := New(b, newCache(t), Options{Retry: quick})
	stats, err := other.Fetch(t.Context(), roots.Contents, nil)
	noError(t, err)
	if stats.Requests > 3 {
		t.Errorf("fetched in %d requests", stats.Requests)
	}
	for _, content := range roots.Contents {
		complete(t, other, content, false)
	}
	again, err := r.GC(t.Context(), roots, GCOptions{Delete: true})
	noError(t, err)
	if again.Repacked > 0 || again.Bytes != 0 {
		t.Errorf("again: %+v", again)
	}
}
