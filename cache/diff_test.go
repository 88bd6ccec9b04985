package cache

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// TestDiff compares with the plain way: all files of both folders.
func TestDiff(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := newProject(t, "hardlink")
	for i := range 60 {
		p.write(fmt.Sprintf("data/%d/%d/f%d", i%3, i%7, i), fmt.Sprint(i))
	}
	for step := range 30 {
		before := p.add("data", true)
		old, err := p.cache.Scan(t.Context(), p.state, p.path("data"))
		noError(t, err)
		for range step % 4 {
			name := fmt.Sprintf("data/%d/%d/f%d", r.IntN(3), r.IntN(7), r.IntN(60))
			os.RemoveAll(p.path(name))
			switch r.IntN(3) {
			case 0:
				p.write(name, "other")
			case 1:
				p.write(name+"/now/a/folder", "below")
			}
		}
		now, err := p.cache.Scan(t.Context(), p.state, p.path("data"))
		noError(t, err)
		got, err := p.cache.Diff(t.Context(), before.ID, now.ID, now)
		noError(t, err)
		want := map[string]Difference{}
		was, is := maps.Collect(old.Files()), maps.Collect(now.Files())
		for path := range was {
			if was[path] != is[path] {
				want[path] = Difference{path, was[path], is[path]}
			}
		}
		for path := range is {
			if was[path] != is[path] {
				want[path] = Difference{path, was[path], is[path]}
			}
		}
		if len(got) != len(want) || slices.ContainsFunc(got, func(d Difference) bool { return want[d.Path] != d }) {
			t.Fatalf("step %d: %v, not %v", step, got, want)
		}
	}
	file := p.add(p.write("file", "no folder")[len(p.dir)+1:], true)
	if _, err := p.cache.Diff(t.Context(), p.add("data", true).ID, file.ID, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file is no folder: %v", err)
	}
}
