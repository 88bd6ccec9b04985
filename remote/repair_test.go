package remote

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/cache"
)

// of makes a folder with small files and a large one of that text.
func of(t *testing.T, c *cache.Cache, text string) cache.Content {
	t.Helper()
	dir := t.TempDir()
	for i := range 5 {
		noError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "%s %0500d", text, i), 0o644))
	}
	noError(t, os.WriteFile(filepath.Join(dir, "large"), []byte(strings.Repeat(text, 20_000)), 0o644))
	content, err := c.Add(t.Context(), nil, dir, cache.AddOptions{})
	noError(t, err)
	return content
}

// One thing is lost, and with it the contents that need it: all others stay promised, and nothing of them is garbage, whoever
// still has them.
func TestRepairKeepsWhatIsWhole(t *testing.T) {
	for what, lose := range map[string]func(b *memory, r *Remote, gone cache.Content){
		"a large object": func(b *memory, r *Remote, gone cache.Content) {
			tree, _ := r.cache.ReadTree(gone.ID)
			large := tree.Entries[slices.IndexFunc(tree.Entries, func(e cache.Entry) bool { return e.Name == "large" })]
			delete(b.names, objectName(large.ID))
		},
		"a pack of files": func(b *memory, r *Remote, gone cache.Content) {
			tree, _ := r.cache.ReadTree(gone.ID)
			name := packName(packOf(r, tree.Entries[4].ID))
			b.names[name] = flipped(b.names[name], 200)
		},
		"a pack of files, and every index": func(b *memory, r *Remote, gone cache.Content) {
			tree, _ := r.cache.ReadTree(gone.ID)
			delete(b.names, packName(packOf(r, tree.Entries[4].ID)))
			for name, data := range b.names {
				if strings.HasPrefix(name, "index/") {
					b.names[name] = flipped(data, len(data)/2)
				}
			}
		},
	} {
		for _, sample := range []float64{0, 1} {
			if sample == 0 && what == "a pack of files" {
				continue // who reads no pack does not see that it is damaged
			}
			t.Run(fmt.Sprint(what, " ", sample), func(t *testing.T) {
				b, c := newMemory(), newCache(t)
				o := Options{Retry: quick, Small: 4 << 10, PackSize: 2000}
				r := New(b, c, o)
				var contents []cache.Content
				var keys []cache.Key
				for _, text := range []string{"alone", "beside", "gone"} {
					contents = append(contents, of(t, c, text))
					keys = append(keys, result(t, c, text, contents[len(contents)-1]))
				}
				_, err := r.Push(t.Context(), contents[:1], keys[:1], nil)
				noError(t, err)
				_, err = r.Push(t.Context(), contents[1:], keys[1:], nil) // their trees share a pack
				noError(t, err)
				_, err = r.load(t.Context())
				noError(t, err)
				lose(b, r, contents[2])
				_, err = New(b, newCache(t), o).Fsck(t.Context(), FsckOptions{Sample: sample, Repair: true})
				noError(t, err)
				check := func() {
					t.Helper()
					other := New(b, newCache(t), o)
					for i, content := range contents[:2] {
						complete(t, other, content, true)
						if _, err := other.Result(t.Context(), keys[i]); err != nil || !other.index.results[keys[i]] {
							t.Errorf("result of %d: %v, named: %t", i, err, other.index.results[keys[i]])
						}
					}
					if err := other.Content(t.Context(), contents[2]); !errors.Is(err, cache.ErrNotFound) {
						t.Errorf("the lost one: %v", err)
					}
				}
				check()
				_, err = New(b, newCache(t), o).GC(t.Context(), cache.GCRoots{Keys: keys}, GCOptions{Delete: true, Grace: -1})
				noError(t, err)
				check()
				_, err = r.Push(t.Context(), contents, keys, nil) // whoever has it brings it back
				noError(t, err)
				complete(t, New(b, newCache(t), o), contents[2], false)
			})
		}
	}
}

// packOf is the pack that an object is in.
func packOf(r *Remote, id cache.ID) cache.ID {
	at, _ := r.index.place(id)
	return at.pack
}
