package cache

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTryLinks(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	tries, err := TryLinks(from, to)
	noError(t, err)
	works := map[string]bool{}
	for _, one := range tries {
		works[one.How] = one.Err == nil
		t.Log(one.How, one.Err)
	}
	if len(tries) != 4 || !works["copy"] {
		t.Errorf("%v", tries)
	}
	for _, dir := range []string{from, to} {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v is left in %s", left, dir)
		}
	}
	if _, err := TryLinks(from, filepath.Join(to, "nothing")); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
