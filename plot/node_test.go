package plot

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seen is what testdata/node.js prints of a page.
type seen struct {
	Title, Shown, Address string
	Heads, Rows, Links    []string
	Charts                [][2]any
	Lines, Off            int
}

// The page's script is run in Node too, for machines without a browser: table, filter, charts, axes, links, and what clicks do.
func TestPageInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no Node on this machine (Debian: apt-get install nodejs)")
	}
	s := shower{t: t, dir: t.TempDir()}
	look := func(page Page, hash string) (told struct {
		Ready                   *float64
		First, Sorted, Switched seen
	}) {
		t.Helper()
		s.write("page.html", page)
		out, err := exec.CommandContext(t.Context(), node, filepath.Join("testdata", "node.js"), filepath.Join(s.dir, "page.html"), hash).CombinedOutput()
		if err != nil || json.Unmarshal(out, &told) != nil || told.Ready == nil {
			t.Fatalf("%v\n%.2000s", err, out)
		}
		return told
	}
	told := look(sweep(12, 300), "#sort=-tuned.accuracy&filter=rank%3E%3D16+lr%3C0.001&smooth=0.9&log=1")
	if got := strings.Join(told.First.Rows, " "); got != "ranks/lr=0.0003,rank=32,seed=7 ranks/lr=0.0003,rank=16,seed=6 ranks/lr=0.0001,rank=32,seed=3 ranks/lr=0.0001,rank=16,seed=2" {
		t.Errorf("the table shows %s", got)
	}
	if told.First.Shown != "4 of 12 runs" || told.First.Lines != 12 || told.First.Off != 8 || !slices.Contains(told.First.Heads, "tuned.accuracy ↓") {
		t.Errorf("%+v", told.First)
	}
	if len(told.First.Charts) != 3 || told.First.Charts[0] != [2]any{"train/loss", true} || len(told.First.Links) != 8 {
		t.Errorf("charts %v, links %v", told.First.Charts, told.First.Links)
	}
	if !slices.Contains(told.Sorted.Heads, "optimizer ↑") || !strings.Contains(told.Sorted.Address, "sort=optimizer") {
		t.Errorf("a click on a head: %v, %s", told.Sorted.Heads, told.Sorted.Address)
	}
	if told.Switched.Shown != "3 of 12 runs" || told.Switched.Off != 9 {
		t.Errorf("a click on a box: %+v", told.Switched)
	}
	told = look(hostile(), "")
	if len(told.First.Rows) != 3 || !strings.Contains(told.First.Title, "<img src=x") {
		t.Errorf("a page of markup: %+v", told.First)
	}
	if told := look(Page{Title: "empty"}, ""); told.First.Shown != "0 runs" {
		t.Errorf("an empty page: %+v", told.First)
	}
}
