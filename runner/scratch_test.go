package runner

import (
	"os"
	"path/filepath"
	"testing"
)

// A scratch folder belongs to one stage at a time: one that was given up is either renamed for the next or taken again
// under its own name, and what an attempt left in one stays.
func TestScratchBelongsToOne(t *testing.T) {
	s := &scratches{dir: t.TempDir()}
	take := func(key string) string {
		t.Helper()
		path, err := s.take(key)
		if err != nil || path != filepath.Join(s.dir, key) || !standsAt(path) || !empty(path) {
			t.Fatalf("take %s: %s, %v", key, path, err)
		}
		return path
	}
	a := take("a")
	if !s.reuse(a) || take("a") != a {
		t.Error("an empty folder is not taken again")
	}
	b := take("b")
	if !standsAt(a) || a == b {
		t.Error("a folder in use went to another stage")
	}
	s.done(a)
	take("c")
	if standsAt(a) {
		t.Error("a spare folder was not renamed for the next stage")
	}
	checkpoint := filepath.Join(b, "checkpoint")
	if err := os.WriteFile(checkpoint, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if s.reuse(b) || !standsAt(checkpoint) {
		t.Error("a folder with a checkpoint was taken back")
	}
	s.done(b)
	if standsAt(b) {
		t.Error("the folder of a stage on record stays")
	}
	s.done(filepath.Join(s.dir, "c"))
	s.close()
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
