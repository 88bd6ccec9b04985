package cache

import (
	"os"
	"testing"
)

// A folder may hold one file under several names, as `cp -l`, uv and git clone leave it: each becomes a link of the
// object, and a later write through the names that are left outside reaches neither cache nor folder.
func TestFolderWithSeveralNamesOfOneFile(t *testing.T) {
	for _, link := range []string{"hardlink", "symlink", "copy"} {
		t.Run(link, func(t *testing.T) {
			p := newProject(t, link)
			p.write("out/a", "text")
			for _, name := range []string{"out/b", "out/c", "outside"} {
				if err := os.Link(p.path("out/a"), p.path(name)); err != nil {
					t.Fatal(err)
				}
			}
			added, err := p.cache.Add(t.Context(), p.state, p.path("out"), AddOptions{Move: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p.path("outside"), []byte("TEXT"), 0o644); err != nil {
				t.Fatal(err)
			}
			if missing, err := p.cache.Missing(t.Context(), added); err != nil || len(missing) > 0 {
				t.Errorf("missing %v, %v", missing, err)
			}
			if link == "copy" {
				return // what is copied stays as it was in the folder, names and all
			}
			scan, err := p.cache.Scan(t.Context(), p.state, p.path("out"))
			if err != nil || scan.Content != added {
				t.Errorf("the folder is %v, %v, want %v", scan, err, added)
			}
		})
	}
}
