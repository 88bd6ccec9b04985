package cache

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// project is a workspace with a cache and a state.
type project struct {
	testing.TB
	dir   string
	cache *Cache
	state *State
}

func newProject(t testing.TB, link ...string) *project {
	t.Helper()
	p := &project{TB: t, dir: t.TempDir()}
	p.cache = openCache(t, Options{Dir: filepath.Join(p.dir, ".lpipe", "cache"), Link: link})
	var err error
	if p.state, err = OpenState(filepath.Join(p.dir, ".lpipe", "state")); err != nil {
		t.Fatal(err)
	}
	return p
}

func openCache(t testing.TB, o Options) *Cache {
	t.Helper()
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (p *project) path(rel string) string { return filepath.Join(p.dir, rel) }

func (p *project) write(rel, text string) string {
	p.Helper()
	write(p.TB, p.path(rel), text, 0o644)
	return p.path(rel)
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// age sets a file's mtime back, and waits until its ctime is old enough to trust.
func age(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		when := time.Now().Add(-time.Hour - 123456*time.Microsecond)
		if err := os.Chtimes(p, when, when); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(tick + 5*time.Millisecond)
}

func (p *project) add(rel string, move bool) Content {
	p.Helper()
	c, err := p.cache.Add(p.Context(), p.state, p.path(rel), AddOptions{Move: move})
	if err != nil {
		p.Fatal(err)
	}
	return c
}

func (p *project) scan(rel string) Content {
	p.Helper()
	s, err := p.cache.Scan(p.Context(), p.state, p.path(rel))
	if err != nil {
		p.Fatal(err)
	}
	return s.Content
}

func (p *project) place(want Content, rel string) bool {
	p.Helper()
	changed, err := p.cache.Place(p.Context(), p.state, want, p.path(rel))
	if err != nil {
		p.Fatal(err)
	}
	return changed
}

func (p *project) read(rel string) string {
	p.Helper()
	b, err := os.ReadFile(p.path(rel))
	if err != nil {
		p.Fatal(err)
	}
	return string(b)
}

func fsck(t testing.TB, c *Cache, o FsckOptions) FsckReport {
	t.Helper()
	r, err := c.Fsck(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// overwrite writes to a file through whatever link it is, read-only or not.
func overwrite(t testing.TB, path, text string) {
	t.Helper()
	info, err := os.Stat(path)
	noError(t, err)
	noError(t, os.Chmod(path, 0o644))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	noError(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	noError(t, err)
	noError(t, f.Close())
	noError(t, os.Chmod(path, info.Mode()))
}
