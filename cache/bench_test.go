package cache

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// BenchmarkManyFiles says how long each thing takes that is done with 70,000 small files.
func BenchmarkManyFiles(t *testing.B) {
	p := newProject(t)
	for i := range 70_000 {
		p.write(fmt.Sprintf("data/%d/%05d.txt", i%70, i), fmt.Sprintf("%0275d", i))
	}
	time.Sleep(50 * time.Millisecond)
	timed := func(what string, f func()) {
		start := time.Now()
		f()
		t.Logf("%-28s %v", what, time.Since(start).Round(time.Millisecond))
	}
	var c Content
	timed("add", func() { c = p.add("data", true) })
	timed("save", func() { noError(t, p.state.Save()) })
	timed("scan, nothing changed", func() { p.scan("data") })
	timed("scan, nothing changed", func() { p.scan("data") })
	timed("open state and scan", func() {
		var err error
		p.state, err = OpenState(p.path(".lpipe/state"))
		noError(t, err)
		p.scan("data")
	})
	timed("add again", func() { p.add("data", true) })
	timed("place, nothing to do", func() { p.place(c, "data") })
	timed("place elsewhere", func() { p.place(c, "copy") })
	noError(t, os.RemoveAll(p.path("data")))
	timed("place again", func() { p.place(c, "data") })
	timed("scan after place", func() { p.scan("data") })
	timed("fsck", func() { fsck(t, p.cache, FsckOptions{}) })
	timed("fsck full", func() { fsck(t, p.cache, FsckOptions{Full: true}) })
	timed("gc preview", func() {
		_, err := p.cache.GC(t.Context(), GCRoots{Contents: []Content{c}}, GCOptions{Grace: -1})
		noError(t, err)
	})
}
