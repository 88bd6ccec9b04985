package cache

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRacyEdit rewrites a file with the same size as fast as it can: every version must be seen, though many
// fall into one tick of the clock.
func TestRacyEdit(t *testing.T) {
	p := newProject(t)
	for i := range 300 {
		text := string(rune('a'+i%26)) + "xyz"
		p.write("f", text)
		if got := p.scan("f"); got.ID != Sum([]byte(text)) {
			t.Fatalf("edit %d went unseen", i)
		}
	}
}

// TestRestoredTime edits a file and sets its time back, as rsync -t or touch -r do.
func TestRestoredTime(t *testing.T) {
	for name, linked := range map[string]bool{"own file": false, "placed link": true} {
		p := newProject(t, "hardlink")
		path := p.write("f", "before")
		age(t, path)
		if linked {
			p.add("f", true)
		}
		p.scan("f")
		p.scan("f")
		info, err := os.Stat(path)
		noError(t, err)
		overwrite(t, path, "after!")
		noError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		if got := p.scan("f"); got.ID != Sum([]byte("after!")) {
			t.Errorf("%s: the edit went unseen", name)
		}
	}
}

// TestSettledIsNotHashed: what is old enough to trust is not read again; link() by another project does not
// change that.
func TestSettledIsNotHashed(t *testing.T) {
	p := newProject(t, "hardlink")
	path := p.write("f", "text")
	age(t, path)
	c := p.add("f", true)
	e := p.state.entry(p.dir, "f")
	if e == nil || !e.settled || !e.linked {
		t.Fatalf("after Add: %+v", e)
	}
	if _, err := p.cache.Place(t.Context(), nil, c, t.TempDir()+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	now, err := lstat(path)
	noError(t, err)
	if now.ctime == e.ctime {
		t.Skip("this file system does not count links in ctime")
	}
	if !e.fresh(now) {
		t.Error("another link makes the file look changed")
	}
	noError(t, p.state.Save())
	again, err := OpenState(p.path(".lpipe/state"))
	noError(t, err)
	if got := again.entry(p.dir, "f"); got == nil || got.id != e.id || !got.same(e.fileStat) || !got.settled || !got.linked || got.name != "f" {
		t.Errorf("saved %+v, read %+v", e, got)
	}
}

// TestStateDamage flips every byte of a state file: it may cost a hash, never a wrong answer.
func TestStateDamage(t *testing.T) {
	p := newProject(t)
	for _, name := range []string{"d/a", "d/b", "d/s/c"} {
		p.write(name, name)
	}
	age(t, p.path("d/a"), p.path("d/b"), p.path("d/s/c"))
	want := p.scan("d")
	noError(t, p.state.Save())
	path := p.path(".lpipe/state")
	data, err := os.ReadFile(path)
	noError(t, err)
	for i := range data {
		bad := append([]byte(nil), data...)
		bad[i] ^= 1 << (i % 8)
		noError(t, os.WriteFile(path, bad, 0o644))
		s, err := OpenState(path)
		noError(t, err)
		if got, err := p.cache.Scan(t.Context(), s, p.path("d")); err != nil || got.Content != want {
			t.Fatalf("byte %d: %+v, %v", i, got, err)
		}
	}
	for n := range data {
		noError(t, os.WriteFile(path, data[:n], 0o644))
		if _, err := OpenState(path); err != nil {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestWriteThroughLink: as root, or after chmod, a placed file can be written to, and its object with it.
func TestWriteThroughLink(t *testing.T) {
	for _, link := range []string{"hardlink", "symlink"} {
		p := newProject(t, link)
		path := p.write("f", "good text")
		age(t, path)
		c := p.add("f", true)
		overwrite(t, path, "evil")
		if p.cache.Has(c.ID) {
			t.Errorf("%s: a changed object counts as there", link)
		}
		if _, err := p.cache.Place(t.Context(), p.state, c, p.path("g")); err == nil {
			t.Errorf("%s: a changed object was placed", link)
		}
		if _, err := os.Lstat(p.path("g")); err == nil {
			t.Errorf("%s: something stands", link)
		}
		if link == "hardlink" && p.read("f") != "evil text" {
			t.Errorf("%s: the edit is lost", link)
		}
		write(t, p.path("h"), "good text", 0o644)
		if p.add("h", true) != c || !p.place(c, "g") || p.read("g") != "good text" {
			t.Errorf("%s: adding it again did not heal it", link)
		}
	}
}

// TestChmodThroughLink: who makes a placed file executable does so to its object. The content is
// right, so it is placed again, with the object's permissions.
func TestChmodThroughLink(t *testing.T) {
	for _, mode := range []os.FileMode{0o555, 0o777} {
		p := newProject(t, "hardlink")
		path := p.write("f", "text")
		age(t, path)
		c := p.add("f", true)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if !p.place(c, "f") || p.add("f", true) != c {
			t.Errorf("%v: placed, it is not the content that was wanted", mode)
		}
		if info, err := os.Stat(p.cache.Path(c.ID)); err != nil || info.Mode() != 0o444 {
			t.Errorf("%v: the object has %v, %v", mode, info.Mode(), err)
		}
	}
}

// TestBitFlips damages each kind of file in a cache, one bit at a time: fsck finds it, nothing returns it.
func TestBitFlips(t *testing.T) {
	p := newProject(t, "copy")
	p.write("d/a", strings.Repeat("content ", 20))
	c := p.add("d", false)
	k := SumKey("x")
	noError(t, p.cache.PutResult(k, &Result{Outputs: map[string]Content{"d": c}}))
	id := Sum([]byte(strings.Repeat("content ", 20)))
	for _, path := range []string{p.cache.Path(id), p.cache.treePath(c.ID), p.cache.resultPath(k)} {
		data, err := os.ReadFile(path)
		noError(t, err)
		for i := range data {
			info, err := os.Stat(path)
			noError(t, err)
			flip(t, path, i)
			noError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
			r := fsck(t, p.cache, FsckOptions{Full: true})
			if len(r.Problems) != 1 || r.Problems[0].Path != path || !errors.Is(r.Problems[0].Err, ErrDamaged) {
				t.Fatalf("%s byte %d: %+v", path, i, r.Problems)
			}
			if _, err := p.cache.Place(t.Context(), nil, c, p.path("out")); err == nil && !strings.Contains(path, "results") {
				t.Fatalf("%s byte %d: placed", path, i)
			}
			os.RemoveAll(p.path("out"))
			noError(t, os.RemoveAll(p.cache.in("damaged")))
			os.Remove(path)
			noError(t, os.WriteFile(path, data, 0o444))
		}
	}
}

func flip(t *testing.T, path string, i int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		noError(t, os.Chmod(path, 0o644))
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	noError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(i))
	noError(t, err)
	b[0] ^= 1 << (i % 8)
	_, err = f.WriteAt(b, int64(i))
	noError(t, err)
	noError(t, os.Chmod(path, 0o444))
}

func TestOpenDetectsDamage(t *testing.T) {
	p := newProject(t)
	p.write("f", "some bytes")
	c := p.add("f", false)
	flip(t, p.cache.Path(c.ID), 3)
	r, err := p.cache.Open(c.ID)
	noError(t, err)
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, ErrDamaged) {
		t.Errorf("read to the end: %v", err)
	}
	if _, err := p.cache.Open(c.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestAppend: bytes come only as they should be; a good object stays where it is, whatever was said of its size.
func TestAppend(t *testing.T) {
	p := newProject(t)
	p.write("d/f", "some bytes")
	p.write("d/empty", "")
	d := p.add("d", false)
	tree, err := p.cache.ReadTree(d.ID)
	noError(t, err)
	file := Object{ID: tree.Entries[1].ID, Size: 10}
	asked := []byte("before ")
	for _, c := range []struct {
		o    Object
		want string
		err  error
	}{
		{file, "some bytes", nil},
		{Object{ID: tree.Entries[0].ID}, "", nil},
		{Object{ID: d.ID, Tree: true, Size: int64(len(tree.Encode()))}, string(tree.Encode()), nil},
		{Object{ID: file.ID, Size: 9}, "", ErrDamaged},
		{Object{ID: file.ID, Size: 11}, "", ErrDamaged},
		{Object{ID: d.ID, Tree: true, Size: 3}, "", ErrDamaged},
		{Object{ID: Sum([]byte("another")), Size: 7}, "", ErrNotFound},
	} {
		got, err := p.cache.Append(asked, c.o)
		if !errors.Is(err, c.err) || string(got) != "before "+c.want {
			t.Errorf("%+v: %q, %v", c.o, got, err)
		}
	}
	if !p.cache.Has(file.ID) || !p.cache.Has(d.ID) {
		t.Error("a good object was set aside")
	}
	flip(t, p.cache.Path(file.ID), 3)
	flip(t, p.cache.treePath(d.ID), 3)
	for _, o := range []Object{file, {ID: d.ID, Tree: true, Size: int64(len(tree.Encode()))}} {
		if got, err := p.cache.Append(asked, o); !errors.Is(err, ErrDamaged) || string(got) != "before " {
			t.Errorf("damaged: %q, %v", got, err)
		}
		if _, err := p.cache.Append(asked, o); !errors.Is(err, ErrNotFound) {
			t.Errorf("afterwards: %v", err)
		}
	}
}

func TestFsckRepair(t *testing.T) {
	p := newProject(t, "copy")
	p.write("a", "aaaa")
	p.write("b", "bbbb")
	p.write("d/c", "cccc")
	a, b, d := p.add("a", false), p.add("b", false), p.add("d", false)
	k := SumKey("k")
	noError(t, p.cache.PutResult(k, &Result{Outputs: map[string]Content{"a": a}}))
	flip(t, p.cache.Path(a.ID), 0)
	noError(t, os.Chmod(p.cache.Path(b.ID), 0o644))
	flip(t, p.cache.treePath(d.ID), 9)
	flip(t, p.cache.resultPath(k), 100)
	write(t, p.cache.in("objects", "zz", "stray"), "?", 0o644)
	r := fsck(t, p.cache, FsckOptions{})
	what := map[string]int{}
	for _, q := range r.Problems {
		what[q.What]++
		if q.Repaired {
			t.Errorf("repaired without being asked: %+v", q)
		}
	}
	if len(r.Problems) != 5 || len(what) != 5 {
		t.Errorf("found %v", r.Problems)
	}
	for _, q := range fsck(t, p.cache, FsckOptions{Repair: true}).Problems {
		if !q.Repaired {
			t.Errorf("not repaired: %+v", q)
		}
	}
	if r := fsck(t, p.cache, FsckOptions{Full: true}); len(r.Problems) > 0 {
		t.Errorf("after the repair: %+v", r.Problems)
	}
	if p.cache.Has(a.ID) || !p.cache.Has(b.ID) {
		t.Error("the wrong object went")
	}
}

// On a file system without modes a writable object is nobody's mistake.
func TestFsckWithoutModes(t *testing.T) {
	p := newProject(t, "copy")
	p.write("a", "aaaa")
	noError(t, os.Chmod(p.cache.Path(p.add("a", false).ID), 0o644))
	for modeless, problems := range map[bool]int{p.cache.modeless(): 1, true: 0} {
		f := checker{c: p.cache, modeless: func() bool { return modeless }}
		noError(t, f.objects(t.Context()))
		if len(f.report.Problems) != problems {
			t.Errorf("modeless %v: %v", modeless, f.report.Problems)
		}
	}
}

// TestLostRecords: without its records a cache hashes, and loses nothing.
func TestLostRecords(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("f", "text")
	c := p.add("f", true)
	for _, data := range []string{"", "another version's", strings.Repeat("x", 200)} {
		noError(t, os.WriteFile(p.cache.in("stat"), []byte(data), 0o644))
		again := openCache(t, Options{Dir: p.cache.Dir()})
		if !again.Has(c.ID) {
			t.Errorf("records %q: the object is gone", data)
		}
	}
	noError(t, os.Remove(p.cache.in("stat")))
	if !openCache(t, Options{Dir: p.cache.Dir()}).Has(c.ID) {
		t.Error("without records the object is gone")
	}
}

// TestRecordsOfAnotherProcess: who finds a record outdated looks for a newer one before hashing.
func TestRecordsOfAnotherProcess(t *testing.T) {
	p := newProject(t, "hardlink")
	path := p.write("f", "text")
	age(t, path)
	c := p.add("f", true)
	other := openCache(t, Options{Dir: p.cache.Dir()})
	if !other.Has(c.ID) {
		t.Fatal("the other process does not see it")
	}
	for range 3 { // place and remove: ctime moves, the number of links does not
		p.place(c, "g")
		noError(t, os.Remove(p.path("g")))
		p.place(c, "g")
		now, err := lstat(other.Path(c.ID))
		noError(t, err)
		if !other.records.intact(c.ID, now) {
			t.Error("the other process would hash")
		}
		noError(t, os.Remove(p.path("g")))
	}
}

func TestChangedWhileAdded(t *testing.T) {
	p := newProject(t, "hardlink")
	path := p.write("f", "first")
	p.cache.disk.fault = func(op, at string) error {
		if op == "chmod" && at == path {
			noError(t, os.WriteFile(path, []byte("second"), 0o644))
		}
		return nil
	}
	_, err := p.cache.Add(t.Context(), p.state, path, AddOptions{Move: true})
	if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	p.cache.disk.fault = nil
	if r := fsck(t, p.cache, FsckOptions{Full: true}); len(r.Problems) > 0 || r.Objects > 0 {
		t.Errorf("%+v", r)
	}
	if info, _ := os.Stat(path); info.Mode()&0o200 == 0 {
		t.Error("the file was left read-only")
	}
	if p.add("f", true).ID != Sum([]byte("second")) {
		t.Error("not added afterwards")
	}
}

func TestLargeFileSettles(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("big", strings.Repeat("0123456789abcdef", 1<<17))
	p.add("big", true)
	if e := p.state.entry(p.dir, "big"); !e.settled {
		t.Errorf("a large output would be hashed again: %+v", e)
	}
}

// TestSettle: a write right after a file was settled shows in its times, whether its mtime could be moved or time had to pass.
func TestSettle(t *testing.T) {
	for name, links := range map[string]int{"moved": 1, "waited": 2} {
		p := newProject(t, "hardlink")
		path := p.write("big", "first")
		if links == 2 {
			noError(t, os.Link(path, p.path("other")))
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		noError(t, err)
		defer f.Close()
		s, err := fstat(int(f.Fd()), path)
		noError(t, err)
		settled, err := s.settle(int(f.Fd()), unix.AT_FDCWD, path, path)
		noError(t, err)
		if !settled.settled(time.Now(), true) || (settled.mtime == s.mtime) != (links == 2) {
			t.Errorf("%s: not settled: %+v, before %+v", name, settled, s)
		}
		_, err = f.WriteAt([]byte("again"), 0)
		noError(t, err)
		if now, err := lstat(path); err != nil || settled.unchanged(now, true) {
			t.Errorf("%s: a write does not show: %+v, %+v, %v", name, settled, now, err)
		}
	}
}

// TestAddOverDamage: an object that is in the way, unknown to the records, is looked at before it is taken for good.
func TestAddOverDamage(t *testing.T) {
	for name, found := range map[string]string{"good": "text", "damaged": "tex?"} {
		p := newProject(t, "hardlink")
		object := p.cache.Path(Sum([]byte("text")))
		write(t, object, found, 0o444)
		p.write("data/f", "text")
		c := p.add("data", true)
		if p.read("data/f") != "text" || !p.cache.Has(c.ID) || !p.cache.Has(Sum([]byte("text"))) {
			t.Errorf("%s: %+v", name, c)
		}
		if now, err := lstat(p.path("data/f")); err != nil || now.nlink != 2 || now.mode&0o222 != 0 {
			t.Errorf("%s: %+v, %v", name, now, err)
		}
	}
}
