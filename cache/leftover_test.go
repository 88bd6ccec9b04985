package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLeftovers: what placing left where it was killed goes, but not the ignored files of a folder that was just swapped away.
func TestLeftovers(t *testing.T) {
	for _, way := range []string{"gc", "place"} {
		p := newProject(t)
		p.cache = openCache(t, Options{Dir: p.cache.Dir(), Ignore: func(_, name string, _ bool) bool { return strings.HasSuffix(name, ".note") }})
		p.write("out/x", "new")
		content := p.add("out", false)
		p.write(".lpipe-tmp-out/x", "old")
		p.write(".lpipe-tmp-out/sub/a.note", "a person's")
		p.write("out/.lpipe-tmp-x", "half")
		if way == "gc" {
			noError(t, p.cache.RemoveLeftovers(p.path("out")))
		} else {
			p.write("out/x", "changed")
			p.place(content, "out")
		}
		if got := p.read("out/x") + p.read("out/sub/a.note"); got != "newa person's" {
			t.Errorf("%s: %q", way, got)
		}
		left, err := filepath.Glob(p.path("*/.lpipe-tmp-*"))
		if _, gone := os.Lstat(p.path(".lpipe-tmp-out")); gone == nil || err != nil || len(left) > 0 {
			t.Errorf("%s: left %v", way, left)
		}
	}
}
