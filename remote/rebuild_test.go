package remote

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"

	"lpipe/cache"
)

// A damaged index is found, and made again from what the bucket holds; what an interrupted push left is not promised.
func TestIndexIsMadeAgain(t *testing.T) {
	for name, o := range map[string]Options{"packs": {}, "by themselves": {Small: 1}} {
		t.Run(name, func(t *testing.T) {
			o.Retry = quick
			b, c := newMemory(), newCache(t)
			content, other := folder(t, c, 30, 1<<20), folder(t, c, 5, 10)
			key := result(t, c, "a", content)
			r := New(b, c, o)
			_, err := r.Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
			noError(t, err)
			before, err := r.List(t.Context())
			noError(t, err)
			whole := map[string]bool{}
			for name := range b.names {
				whole[name] = true
			}
			_, err = r.Push(t.Context(), []cache.Content{other}, nil, nil)
			noError(t, err)
			lost := ""
			for name, data := range b.names { // the second push never came to its index, and lost a file
				switch {
				case strings.HasPrefix(name, "index/") && !whole[name]:
					delete(b.names, name)
				case strings.HasPrefix(name, "index/"):
					data[len(data)/2] ^= 4
				case !whole[name] && lost == "" && !strings.Contains(string(data), "lptree"):
					lost = name
				}
			}
			delete(b.names, lost)
			fresh := New(b, newCache(t), o)
			if _, err := fresh.Fetch(t.Context(), []cache.Content{content}, nil); err == nil {
				t.Error("fetched by a damaged index")
			}
			report, err := fresh.Fsck(t.Context(), FsckOptions{Sample: 1})
			noError(t, err)
			for _, p := range report.Problems {
				if !strings.HasPrefix(p.Name, "index/") || p.Repaired {
					t.Errorf("%+v", p)
				}
			}
			if len(report.Problems) == 0 {
				t.Error("not found")
			}
			_, err = fresh.Fsck(t.Context(), FsckOptions{Sample: 1, Repair: true})
			noError(t, err)
			report, err = New(b, newCache(t), o).Fsck(t.Context(), FsckOptions{Sample: 1})
			noError(t, err)
			if len(report.Problems) > 0 {
				t.Errorf("after the repair: %+v", report.Problems)
			}
			theirs := newCache(t)
			again := New(b, theirs, o)
			_, err = again.Fetch(t.Context(), []cache.Content{content}, nil)
			noError(t, err)
			_, err = again.Result(t.Context(), key)
			noError(t, err)
			after, err := again.List(t.Context())
			noError(t, err)
			if len(after.Results) != len(before.Results) || after.Objects < before.Objects {
				t.Errorf("%+v, before %+v", after, before)
			}
		})
	}
}

// TestLargeStrangersAreNotReadWhole: a repair that looks for packs without an index leaves alone what is larger than any pack.
func TestLargeStrangersAreNotReadWhole(t *testing.T) {
	b, c := newMemory(), newCache(t)
	content := folder(t, c, 30, 10)
	o := Options{Retry: quick}
	_, err := New(b, c, o).Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	for name, data := range b.names {
		if strings.HasPrefix(name, "index/") {
			b.names[name] = flipped(data, len(data)/2)
		}
	}
	fits, over := packName(cache.Sum([]byte("fits"))), packName(cache.Sum([]byte("over")))
	listed := &inflated{Bucket: b, sizes: map[string]int64{fits: 4, over: largestPack + 1}}
	b.names[fits], b.names[over] = []byte("fits"), []byte("over")
	_, err = New(listed, newCache(t), o).Fsck(t.Context(), FsckOptions{Repair: true})
	noError(t, err)
	if !slices.Contains(b.did, "get "+fits) || slices.Contains(b.did, "get "+over) {
		t.Errorf("of the two %v was read", b.did)
	}
	complete(t, New(b, newCache(t), o), content, true)
}

// inflated is a bucket whose listing tells other sizes of some names.
type inflated struct {
	Bucket
	sizes map[string]int64
}

func (i *inflated) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for item, err := range i.Bucket.List(ctx, prefix) {
			if size, ok := i.sizes[item.Name]; ok {
				item.Size = size
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// FuzzPack: the entries that a pack tells fill it.
func FuzzPack(f *testing.F) {
	list := []cache.Object{{ID: cache.Sum([]byte("abc")), Size: 3}, {ID: cache.Sum(nil), Tree: true}}
	table := appendEntries(nil, list)
	good := append([]byte(packMagic+"abc"), table...)
	good = append(good, byte(len(table)), 0, 0, 0, 0, 0, 0, 0)
	f.Add(good)
	f.Add([]byte(packMagic + "\x00\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePack(cache.ID{}, data)
		if err != nil {
			return
		}
		at := int64(len(packMagic))
		for _, o := range p.entries {
			_ = data[at : at+o.Size]
			at += o.Size
		}
		if at > int64(len(data)-8) {
			t.Errorf("objects to %d of %d bytes", at, len(data))
		}
	})
}
