package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// failFrom makes the n-th change to the disk fail, and with after all later ones too, as if the process had died.
func failFrom(c *Cache, n int64, err error, after bool) (reached func() bool) {
	var count atomic.Int64
	c.disk.fault = func(op, path string) error {
		k := count.Add(1)
		if k == n || after && k > n {
			return err
		}
		return nil
	}
	return func() bool { return count.Load() >= n }
}

// TestNthOperationFails runs Add, PutResult and Place with the n-th operation failing, for all n: the cause is
// kept, nothing is half stored, files stand as they stood, and the same call works afterwards.
func TestNthOperationFails(t *testing.T) {
	for _, c := range []struct {
		link  string
		cause error
		after bool
	}{
		{"hardlink", unix.ENOSPC, false},
		{"hardlink", unix.EIO, true},
		{"copy", unix.ENOSPC, true},
		{"symlink", unix.EIO, false},
	} {
		t.Run(fmt.Sprintf("%s %v %v", c.link, c.cause, map[bool]string{false: "once", true: "from then on"}[c.after]), func(t *testing.T) {
			t.Parallel()
			for n := int64(1); failing(t, n, c.cause, c.after, c.link); n++ {
				if n > 500 {
					t.Fatal("it never ends")
				}
			}
		})
	}
}

func failing(t *testing.T, n int64, cause error, after bool, link string) (goOn bool) {
	t.Helper()
	p := newProject(t, link)
	p.write("out/a", "alpha")
	p.write("out/sub/b", "beta")
	p.write("old/x", "stands here")
	old, want := p.scan("old"), p.scan("out")
	k := SumKey("k")
	work := func() error {
		c, err := p.cache.Add(t.Context(), p.state, p.path("out"), AddOptions{Move: true})
		if err != nil {
			return err
		}
		if err := p.cache.PutResult(k, &Result{Outputs: map[string]Content{"out": c}}); err != nil {
			return err
		}
		_, err = p.cache.Place(t.Context(), p.state, c, p.path("old"))
		return err
	}
	reached := failFrom(p.cache, n, cause, after)
	err := work()
	p.cache.disk.fault = nil
	if err != nil && !errors.Is(err, cause) {
		t.Errorf("n=%d: the cause is lost: %v", n, err)
	}
	if got := p.scan("out"); got != want {
		t.Errorf("n=%d: the files were changed: %+v", n, got)
	}
	if got := p.scan("old"); got != old && got != want {
		t.Errorf("n=%d: half placed: %+v", n, got)
	}
	again := openCache(t, Options{Dir: p.cache.Dir(), Link: []string{link}})
	if r := fsck(t, again, FsckOptions{Full: true}); len(r.Problems) > 0 {
		t.Errorf("n=%d: %+v", n, r.Problems)
	}
	if r, err := again.Result(k); err == nil {
		if missing, err := again.Missing(t.Context(), r.Outputs["out"]); err != nil || len(missing) > 0 {
			t.Errorf("n=%d: a result without its content: %v %v", n, missing, err)
		}
	}
	if err := work(); err != nil {
		t.Errorf("n=%d: not afterwards either: %v", n, err)
	}
	if got := p.scan("old"); got != want {
		t.Errorf("n=%d: placed afterwards: %+v", n, got)
	}
	if _, err := again.GC(t.Context(), GCRoots{Contents: []Content{want}, Keys: []Key{k}}, GCOptions{Delete: true, Grace: -1}); err != nil {
		t.Errorf("n=%d: gc: %v", n, err)
	}
	if left, _ := os.ReadDir(again.in("tmp")); len(left) > 0 {
		t.Errorf("n=%d: gc left %v", n, left)
	}
	return reached()
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no small file system to be had: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c := openCache(t, Options{Dir: filepath.Join(dir, "cache")})
	small := filepath.Join(t.TempDir(), "small")
	write(t, small, "small", 0o644)
	content, err := c.Add(t.Context(), nil, small, AddOptions{})
	noError(t, err)
	big := filepath.Join(t.TempDir(), "big")
	write(t, big, strings.Repeat("x", 1<<20), 0o644)
	_, err = c.Add(t.Context(), nil, big, AddOptions{Move: true})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), c.Dir()) {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(c.in("tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if !c.Has(content.ID) || c.Has(Sum([]byte(strings.Repeat("x", 1<<20)))) {
		t.Error("the cache changed")
	}
	if b, err := os.ReadFile(big); err != nil || len(b) != 1<<20 {
		t.Error("the file changed")
	}
	// Placing into the full file system fails too, and leaves no half.
	if _, err := c.Place(t.Context(), nil, content, filepath.Join(dir, "out")); err != nil {
		t.Errorf("a link needs no room: %v", err)
	}
}

func TestReadOnlyCache(t *testing.T) {
	p := newProject(t)
	p.write("f", "text")
	c := p.add("f", false)
	if os.Geteuid() != 0 {
		t.Skip("needs a read-only mount, so root")
	}
	ro := t.TempDir()
	if err := errors.Join(unix.Mount(p.cache.Dir(), ro, "", unix.MS_BIND, ""),
		unix.Mount("", ro, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
		t.Skipf("no read-only mount to be had: %v", err)
	}
	defer unix.Unmount(ro, unix.MNT_DETACH)
	r := openCache(t, Options{Dir: ro})
	write(t, p.path("g"), "more", 0o644)
	_, err := r.Add(t.Context(), nil, p.path("g"), AddOptions{Move: true})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), ro) {
		t.Errorf("error %v", err)
	}
	if err := r.PutResult(SumKey("x"), &Result{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("result: %v", err)
	}
	if _, err := r.Place(t.Context(), nil, c, p.path("from-read-only")); err != nil || p.read("from-read-only") != "text" {
		t.Errorf("reading from it: %v", err)
	}
	if _, err := Open(t.Context(), Options{Dir: filepath.Join(ro, "new")}); !errors.Is(err, unix.EROFS) {
		t.Errorf("open: %v", err)
	}
}

// TestOtherFileSystem: a shared cache on another disk than the workspace.
func TestOtherFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no second file system to be had: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for link, symlink := range map[string]bool{"reflink,hardlink,symlink,copy": true, "reflink,hardlink,copy": false} {
		ws := t.TempDir()
		c := openCache(t, Options{Dir: filepath.Join(dir, link), Link: strings.Split(link, ",")})
		write(t, ws+"/out/a", "alpha", 0o644)
		content, err := c.Add(t.Context(), nil, ws+"/out", AddOptions{Move: true})
		noError(t, err)
		info, err := os.Lstat(ws + "/out/a")
		noError(t, err)
		if got := info.Mode()&os.ModeSymlink != 0; got != symlink {
			t.Errorf("%s: symlink %v", link, got)
		}
		if _, err := c.Place(t.Context(), nil, content, ws+"/other"); err != nil {
			t.Error(err)
		}
		if s, err := c.Scan(t.Context(), nil, ws+"/other"); err != nil || s.Content != content {
			t.Errorf("%s: %+v %v", link, s, err)
		}
	}
}

// TestTooManyLinks: ext4 gives a file 65,000 names; what does not fit any more is copied.
func TestTooManyLinks(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("f", "text")
	c := p.add("f", true)
	p.cache.disk.fault = func(op, path string) error {
		if op == "link" {
			return unix.EMLINK
		}
		return nil
	}
	p.place(c, "g")
	p.cache.disk.fault = nil
	if now, _ := lstat(p.path("g")); now.nlink != 1 || p.read("g") != "text" {
		t.Errorf("placed %+v", now)
	}
}

func TestCancelled(t *testing.T) {
	p := newProject(t)
	p.write("d/f", "text")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.cache.Add(ctx, p.state, p.path("d"), AddOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("add: %v", err)
	}
	c := p.add("d", false)
	if _, err := p.cache.Place(ctx, p.state, c, p.path("e")); !errors.Is(err, context.Canceled) {
		t.Errorf("place: %v", err)
	}
	if _, err := os.Lstat(p.path("e")); err == nil {
		t.Error("something was placed")
	}
}

// TestTogether lets many goroutines of several caches on one folder add, place and collect at once.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for g := range 6 {
		c := openCache(t, Options{Dir: dir + "/cache"})
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range 15 {
				path := fmt.Sprintf("%s/w%d/%d", dir, g, i)
				for range 4 {
					write(t, fmt.Sprintf("%s/%d", path, r.IntN(9)), fmt.Sprint(r.IntN(9)), 0o644)
				}
				content, err := c.Add(t.Context(), nil, path, AddOptions{Move: i%2 == 0})
				if err != nil {
					t.Error(err)
					return
				}
				if i%5 == 4 {
					if _, err := c.GC(t.Context(), GCRoots{}, GCOptions{Delete: true}); err != nil {
						t.Error(err)
					}
				}
				if _, err := c.Place(t.Context(), nil, content, path+"-copy"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r := fsck(t, openCache(t, Options{Dir: dir + "/cache"}), FsckOptions{Full: true}); len(r.Problems) > 0 {
		t.Errorf("%+v", r.Problems)
	}
}
