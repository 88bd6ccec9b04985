package cache

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAddAndPlace(t *testing.T) {
	for _, link := range []string{"hardlink", "symlink", "copy", "reflink"} {
		for _, move := range []bool{false, true} {
			t.Run(link+map[bool]string{false: " keep", true: " move"}[move], func(t *testing.T) {
				p := newProject(t, link)
				p.write("out/a.txt", "alpha")
				p.write("out/sub/b.txt", "beta")
				p.write("out/sub/same.txt", "alpha")
				write(t, p.path("out/run.sh"), "#!/bin/sh\n", 0o755)
				noError(t, os.Symlink("a.txt", p.path("out/to-a")))
				noError(t, os.Mkdir(p.path("out/empty"), 0o755))
				before := p.scan("out")
				got := p.add("out", move)
				if got != before || got.Files != 4 || got.Size != 24 || !got.Dir {
					t.Fatalf("added %+v, scanned %+v", got, before)
				}
				if after := p.scan("out"); after != before {
					t.Fatalf("after Add %+v", after)
				}
				if p.place(got, "out") {
					t.Error("placed what stands")
				}
				if !p.place(got, "copy") || p.scan("copy") != got {
					t.Errorf("placed elsewhere it is %+v", p.scan("copy"))
				}
				if p.place(got, "copy") {
					t.Error("placed what was just placed")
				}
				noError(t, os.RemoveAll(p.path("out")))
				if !p.place(got, "out") || p.scan("out") != got || p.read("out/sub/same.txt") != "alpha" {
					t.Error("not brought back")
				}
				if info, _ := os.Stat(p.path("copy/run.sh")); info.Mode()&0o100 == 0 {
					t.Error("no longer executable")
				}
				if r := fsck(t, p.cache, FsckOptions{Full: true}); len(r.Problems) > 0 || r.Objects != 3 || r.Trees != 3 {
					t.Errorf("fsck: %+v", r)
				}
				if s, err := OpenState(filepath.Join(t.TempDir(), "state")); err != nil {
					t.Fatal(err)
				} else if fresh, err := p.cache.Scan(t.Context(), s, p.path("copy")); err != nil || fresh.Content != got {
					t.Errorf("without the state: %+v, %v", fresh, err)
				}
			})
		}
	}
}

// TestMoveCopiesNothing: a stage's output becomes its own object.
func TestMoveCopiesNothing(t *testing.T) {
	p := newProject(t, "hardlink")
	path := p.write("model.bin", strings.Repeat("weights", 1000))
	before, err := lstat(path)
	noError(t, err)
	c := p.add("model.bin", true)
	object, err := lstat(p.cache.Path(c.ID))
	noError(t, err)
	if object.ino != before.ino || object.mode&0o777 != 0o444 || object.nlink != 2 {
		t.Errorf("object is inode %d mode %o links %d, the file was inode %d", object.ino, object.mode, object.nlink, before.ino)
	}
}

func TestEqualContentIsKeptOnce(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("a", "same")
	p.write("b", "same")
	p.add("a", true)
	c := p.add("b", true)
	a, _ := lstat(p.path("a"))
	b, _ := lstat(p.path("b"))
	if a.ino != b.ino {
		t.Errorf("two files for one content %v", c)
	}
}

// TestSharedFileIsNotAdopted: a file with another name could be written to through it.
func TestSharedFileIsNotAdopted(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("theirs", "text")
	noError(t, os.Link(p.path("theirs"), p.path("ours")))
	c := p.add("ours", true)
	overwrite(t, p.path("theirs"), "TEXT")
	if !p.cache.Has(c.ID) || p.read("ours") != "text" {
		t.Error("writing to another name of the file changed the object")
	}
}

func TestRefused(t *testing.T) {
	refused := map[string]func(dir string) error{
		"a link out":       func(d string) error { return os.Symlink("../../x", d+"/sub/l") },
		"an absolute link": func(d string) error { return os.Symlink("/etc/passwd", d+"/l") },
		"a named pipe":     func(d string) error { return unix.Mkfifo(d+"/pipe", 0o600) },
	}
	if os.Geteuid() != 0 { // root may read everything
		refused["a file without right"] = func(d string) error { return os.WriteFile(d+"/secret", []byte("x"), 0) }
	}
	for name, make := range refused {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.write("out/sub/ok", "fine")
			noError(t, make(p.path("out")))
			_, err := p.cache.Add(t.Context(), p.state, p.path("out"), AddOptions{Move: true})
			if err == nil || !strings.Contains(err.Error(), p.path("out")) {
				t.Errorf("error %v", err)
			}
			if r := fsck(t, p.cache, FsckOptions{}); r.Objects+r.Trees > 0 {
				t.Errorf("something was stored: %+v", r)
			}
		})
	}
	p := newProject(t)
	if _, err := p.cache.Scan(t.Context(), p.state, p.path("absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestLinkInsideStays(t *testing.T) {
	p := newProject(t)
	p.write("out/sub/x", "x")
	noError(t, os.Symlink("../sub/x", p.path("out/sub/y")))
	p.place(p.add("out", true), "there")
	if text, err := os.Readlink(p.path("there/sub/y")); err != nil || text != "../sub/x" {
		t.Errorf("link %q, %v", text, err)
	}
}

func TestPlaceReplaces(t *testing.T) {
	p := newProject(t)
	p.write("file", "one")
	p.write("dir/f", "two")
	file, dir := p.add("file", true), p.add("dir", true)
	kinds := map[string]func(string){
		"nothing":     func(string) {},
		"a file":      func(at string) { p.write(at, "other") },
		"a folder":    func(at string) { p.write(at+"/sub/g", "other") },
		"a dead link": func(at string) { noError(t, os.Symlink("nowhere", p.path(at))) },
		"a leftover":  func(at string) { p.write(filepath.Join(filepath.Dir(at), tempPrefix+"at")+"/x", "half") },
	}
	for name, make := range kinds {
		for what, c := range map[string]Content{"file": file, "dir": dir} {
			at := filepath.Join(name, what, "at")
			noError(t, os.MkdirAll(p.path(filepath.Dir(at)), 0o755))
			make(at)
			p.place(c, at)
			if got := p.scan(at); got != c {
				t.Errorf("%s over %s: %+v", what, name, got)
			}
			if left, _ := filepath.Glob(p.path(filepath.Dir(at)) + "/.*"); len(left) > 0 {
				t.Errorf("%s over %s left %v", what, name, left)
			}
		}
	}
}

func TestIgnoredNames(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, Options{Dir: dir + "/cache", Ignore: func(_, name string, dir bool) bool {
		return name == ".git" && dir || strings.HasSuffix(name, ".pyc")
	}})
	write(t, dir+"/src/a.py", "print()", 0o644)
	write(t, dir+"/src/.git/HEAD", "ref", 0o644)
	write(t, dir+"/src/sub/b.pyc", "x", 0o644)
	content, err := c.Add(t.Context(), nil, dir+"/src", AddOptions{})
	noError(t, err)
	if content.Files != 1 {
		t.Errorf("%d files", content.Files)
	}
	write(t, dir+"/src/a.py", "edited!", 0o644)
	if _, err := c.Place(t.Context(), nil, content, dir+"/src"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.py": "print()", ".git/HEAD": "ref", "sub/b.pyc": "x"} {
		if b, err := os.ReadFile(dir + "/src/" + name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestUnlink(t *testing.T) {
	for _, link := range []string{"hardlink", "symlink", "copy"} {
		p := newProject(t, link)
		p.write("out/a", "text")
		write(t, p.path("out/run"), "#!", 0o755)
		c := p.add("out", true)
		noError(t, p.cache.Unlink(p.path("out")))
		info, err := os.Lstat(p.path("out/a"))
		noError(t, err)
		if !info.Mode().IsRegular() || info.Mode()&0o200 == 0 {
			t.Errorf("%s: mode %v", link, info.Mode())
		}
		p.write("out/a", "mine")
		if !p.cache.Has(c.ID) || p.read("out/a") != "mine" {
			t.Errorf("%s: the object was written to", link)
		}
		if r := fsck(t, p.cache, FsckOptions{Full: true}); len(r.Problems) > 0 {
			t.Errorf("%s: %+v", link, r.Problems)
		}
		if info, _ := os.Stat(p.path("out/run")); info.Mode()&0o100 == 0 {
			t.Errorf("%s: no longer executable", link)
		}
	}
}

func TestScanFilesAndDigest(t *testing.T) {
	p := newProject(t)
	p.write("m/config.json", "{}")
	p.write("m/sub/vocab.json", "{}")
	p.write("m/model.bin", "weights")
	json := func(rel string) bool { return strings.HasSuffix(rel, ".json") }
	s, err := p.cache.Scan(t.Context(), p.state, p.path("m"))
	noError(t, err)
	var names []string
	for rel := range s.Files() {
		names = append(names, rel)
	}
	if want := []string{"config.json", "model.bin", "sub/vocab.json"}; !slices.Equal(names, want) {
		t.Errorf("files %v", names)
	}
	digest := s.Digest(json)
	if digest.String() != "0bbe797fbbc88130b5187b06e5bdcbaef7d4e8ccf6db69c597ba19c781b58dc7" { // the vector of doc/format-runner.md
		t.Errorf("digest %s", digest)
	}
	p.write("m/model.bin", "other")
	s, _ = p.cache.Scan(t.Context(), p.state, p.path("m"))
	if s.Digest(json) != digest {
		t.Error("a file that does not match changed the digest")
	}
	p.write("m/sub/vocab.json", "{ }")
	s, _ = p.cache.Scan(t.Context(), p.state, p.path("m"))
	if s.Digest(json) == digest {
		t.Error("a file that matches did not change the digest")
	}
}

func TestMissingAndObjects(t *testing.T) {
	p := newProject(t)
	p.write("d/a", "a")
	p.write("d/s/b", "b")
	c := p.add("d", true)
	var list []Object
	for o, err := range p.cache.Objects(t.Context(), c) {
		noError(t, err)
		list = append(list, o)
	}
	if len(list) != 4 || list[3].ID != c.ID || !list[3].Tree {
		t.Errorf("objects %+v", list)
	}
	other := openCache(t, Options{Dir: t.TempDir()})
	for range 3 { // tree, then what it names, then nothing
		missing, err := other.Missing(t.Context(), c)
		noError(t, err)
		for _, id := range missing {
			i := slices.IndexFunc(list, func(o Object) bool { return o.ID == id })
			r, err := p.cache.Open(id)
			noError(t, err)
			noError(t, other.Put(t.Context(), id, list[i].Tree, list[i].Size, r))
			r.Close()
		}
	}
	if missing, _ := other.Missing(t.Context(), c); len(missing) > 0 {
		t.Errorf("still missing %v", missing)
	}
	if _, err := other.Place(t.Context(), nil, c, t.TempDir()+"/x"); err != nil {
		t.Error(err)
	}
}

func TestPutVerifies(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	id := Sum([]byte("right"))
	for _, text := range []string{"wrong", "righ", "right!", ""} {
		err := c.Put(t.Context(), id, false, 5, strings.NewReader(text))
		if !errors.Is(err, ErrDamaged) || c.Has(id) {
			t.Errorf("%q: %v", text, err)
		}
	}
	noError(t, c.Put(t.Context(), id, false, 5, strings.NewReader("right")))
	r, err := c.Open(id)
	noError(t, err)
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "right" {
		t.Errorf("%q, %v", b, err)
	}
	if left, _ := os.ReadDir(c.in("tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestResults(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	k := SumKey("what ran")
	if _, err := c.Result(k); !errors.Is(err, ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	r := &Result{
		Outputs:     map[string]Content{"data": {ID: Sum([]byte("x")), Size: 1, Files: 1}},
		Description: "what ran",
		Record:      Record{Stage: "clean", Kind: "preprocess", Started: time.Unix(1700000000, 0).UTC(), Seconds: 1.5},
	}
	noError(t, c.PutResult(k, r))
	got, err := c.Result(k)
	noError(t, err)
	if got.Outputs["data"] != r.Outputs["data"] || got.Record.Stage != "clean" || !got.Record.Started.Equal(r.Record.Started) {
		t.Errorf("%+v", got)
	}
	data, err := os.ReadFile(c.resultPath(k))
	noError(t, err)
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 4
		if _, err := DecodeResult(k, bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := DecodeResult(SumKey("another"), data); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key's result: %v", err)
	}
	n := 0
	for key, err := range c.Results() {
		noError(t, err)
		if n++; key != k {
			t.Errorf("key %v", key)
		}
	}
	noError(t, c.DeleteResult(k))
	noError(t, c.DeleteResult(k))
	if _, err := c.Result(k); n != 1 || !errors.Is(err, ErrNotFound) {
		t.Errorf("%d results, after: %v", n, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/new/format", "lpipe cache 2\n", 0o644)
	write(t, dir+"/file", "x", 0o644)
	for name, o := range map[string]Options{
		"another version": {Dir: dir + "/new"},
		"a file":          {Dir: dir + "/file"},
		"no folder":       {},
		"unknown link":    {Dir: dir + "/c", Link: []string{"magic"}},
	} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%s: opened", name)
		} else {
			t.Log(err)
		}
	}
}

func TestProjects(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	noError(t, c.Register("/b/two"))
	noError(t, c.Register("/a/one"))
	noError(t, c.Register("/a/one"))
	if list, err := c.Projects(); err != nil || !slices.Equal(list, []string{"/a/one", "/b/two"}) {
		t.Errorf("%v, %v", list, err)
	}
	noError(t, c.Unregister("/a/one"))
	if list, _ := c.Projects(); !slices.Equal(list, []string{"/b/two"}) {
		t.Errorf("%v", list)
	}
}
