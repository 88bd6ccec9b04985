package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScanLikePlain changes a folder at random and compares a scan by the state with one that knows nothing.
func TestScanLikePlain(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := newProject(t, "hardlink")
	ignored := ".no"
	p.cache.ignore = func(_, name string, _ bool) bool { return strings.HasSuffix(name, ignored) }
	for i := range 600 { // more than one piece
		p.write(fmt.Sprintf("data/flat/%04d", i), fmt.Sprint(i))
	}
	for i := range 40 {
		p.write(fmt.Sprintf("data/%d/%d/f", i%4, i), fmt.Sprint(i))
	}
	p.write("data/flat/x.no", "ignored")
	p.write("data/1/y.other", "ignored later")
	noError(t, os.Symlink("flat/0001", p.path("data/link")))
	for step := range 60 {
		p.change(r, step)
		if r.IntN(3) == 0 {
			time.Sleep(tick + 5*time.Millisecond) // times settle, so that folders are not listed and files not hashed
		}
		if step == 40 {
			ignored = ".other"
		}
		if r.IntN(4) == 0 { // another process
			noError(t, p.state.Save())
			var err error
			p.state, err = OpenState(p.path(".lpipe/state"))
			noError(t, err)
		}
		if r.IntN(6) == 0 {
			p.add("data", true)
		}
		fast, err := p.cache.Scan(t.Context(), p.state, p.path("data"))
		noError(t, err)
		plain, err := p.cache.Scan(t.Context(), nil, p.path("data"))
		noError(t, err)
		if fast.Content != plain.Content || !maps.Equal(maps.Collect(fast.Files()), maps.Collect(plain.Files())) {
			t.Fatalf("step %d: %+v, plain %+v", step, fast.Content, plain.Content)
		}
		for id, tree := range fast.Folders() {
			if Sum(tree.Encode()) != id {
				t.Fatalf("step %d: a folder's tree has not its ID", step)
			}
		}
	}
}

// change does one thing to the folder data that a scan must see, or must not mind.
func (p *project) change(r *rand.Rand, step int) {
	p.Helper()
	flat := fmt.Sprintf("data/flat/%04d", r.IntN(600))
	switch step % 10 {
	case 0: // nothing
	case 1:
		p.write(fmt.Sprintf("data/flat/new%d", step), "new")
	case 2:
		os.Remove(p.path(flat))
	case 3: // the same size, and its time put back
		p.rewriteUnseen(flat)
	case 4:
		os.Rename(p.path(flat), p.path("data/moved"))
	case 5: // in place, or through the link to its object
		p.rewriteUnseen(fmt.Sprintf("data/%d/%d/f", step%4, step%4))
	case 6:
		os.Chmod(p.path(flat), 0o755)
	case 7: // a name more, and the folder's time put back
		info, err := os.Stat(p.path("data/1"))
		noError(p, err)
		p.write(fmt.Sprintf("data/1/late%d", step), "late")
		noError(p, os.Chtimes(p.path("data/1"), info.ModTime(), info.ModTime()))
	case 8:
		os.RemoveAll(p.path("data/2"))
		p.write("data/2/again/f", fmt.Sprint(step))
	case 9:
		os.Remove(p.path("data/link"))
		noError(p, os.Symlink(fmt.Sprintf("flat/%04d", step), p.path("data/link")))
	}
}

func (p *project) rewriteUnseen(rel string) {
	p.Helper()
	info, err := os.Stat(p.path(rel))
	if err != nil {
		return
	}
	text := []byte(p.read(rel))
	slices.Reverse(text)
	if len(text) == 1 {
		text[0] ^= 1
	}
	if now, err := lstat(p.path(rel)); err == nil && now.nlink > 1 {
		noError(p, os.Remove(p.path(rel))) // its object is not to be changed here
		noError(p, os.WriteFile(p.path(rel), text, 0o644))
	} else {
		overwrite(p, p.path(rel), string(text))
	}
	noError(p, os.Chtimes(p.path(rel), info.ModTime(), info.ModTime()))
}

// TestUnchangedIsNotListed: a folder whose times are settled is compared by the names that are known, and its tree is
// not made again.
func TestUnchangedIsNotListed(t *testing.T) {
	p := newProject(t, "hardlink")
	for i := range 3 {
		p.write(fmt.Sprintf("data/%d/f", i), fmt.Sprint(i))
	}
	time.Sleep(tick + 5*time.Millisecond)
	p.scan("data")
	scan, err := p.cache.Scan(t.Context(), p.state, p.path("data"))
	noError(t, err)
	if !listsByTime(p.dir) {
		t.Log("not on this file system")
		return
	}
	if scan.root.held == nil || len(scan.root.kids) != 3 || scan.root.kids[1].held == nil {
		t.Errorf("listed again: %+v", scan.root)
	}
}

// TestAddWhatIsKnown: files that a scan has hashed become objects themselves, and what was added is left alone.
func TestAddWhatIsKnown(t *testing.T) {
	p := newProject(t, "hardlink")
	p.write("data/a", "one")
	p.write("data/d/b", "two")
	before, err := lstat(p.path("data/d/b"))
	noError(t, err)
	time.Sleep(tick + 5*time.Millisecond)
	p.scan("data")
	p.scan("data") // by the state alone
	want := p.add("data", true)
	if after, err := lstat(p.path("data/d/b")); err != nil || after.ino != before.ino || after.nlink != 2 {
		t.Errorf("copied: %+v, then %+v, %v", before, after, err)
	}
	p.scan("data")
	p.cache.now = func() time.Time { return time.Now().Add(2 * nameSettles) } // before, names that others gave are synced again
	p.cache.disk.fault = func(op, path string) error {
		t.Errorf("added again: %s %s", op, path)
		return nil
	}
	if got := p.add("data", true); got != want {
		t.Errorf("%+v, then %+v", want, got)
	}
}

// TestStateAppends: what changed is added to the file, until too much of it counts no more.
func TestStateAppends(t *testing.T) {
	p := newProject(t, "hardlink")
	for i := range 50 {
		p.write(fmt.Sprintf("data/%d/%d/f", i%10, i), fmt.Sprint(i))
	}
	time.Sleep(tick + 5*time.Millisecond)
	path := p.path(".lpipe/state")
	reopen := func() int64 {
		noError(t, p.state.Save())
		info, err := os.Stat(path)
		noError(t, err)
		p.state, err = OpenState(path)
		noError(t, err)
		return info.Size()
	}
	want := p.scan("data")
	first := reopen()
	grew, shrank := false, false
	for i, last := 0, first; i < 60; i++ {
		p.write("data/7/7/f", fmt.Sprint("changed", i%10))
		want = p.scan("data")
		now := reopen()
		grew, shrank = grew || now > last, shrank || now < last
		last = now
	}
	if !grew || !shrank {
		t.Errorf("grew: %v, shrank: %v", grew, shrank)
	}
	p.state.set(p.path("data/7/7"), entry{name: "single"})
	if e := p.state.entry(p.path("data/7/7"), "single"); e == nil {
		t.Error("a single file is not found")
	}
	reopen()
	if e := p.state.entry(p.path("data/7/7"), "single"); e == nil {
		t.Error("a single file is not found again")
	}
	if got := p.scan("data"); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	data, err := os.ReadFile(path)
	noError(t, err)
	noError(t, os.WriteFile(path, append(data, data[8:70]...), 0o644)) // torn by a crash
	p.state, err = OpenState(path)
	noError(t, err)
	p.write("data/8/8/f", "after the crash")
	p.scan("data")
	if size := reopen(); p.state.file != size {
		t.Error("the torn file was not written anew")
	}
}

// TestFirstState reads the state file of the first version.
func TestFirstState(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "state-1"))
	noError(t, err)
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".lpipe", "state"), string(data), 0o644)
	s, err := OpenState(filepath.Join(dir, ".lpipe", "state"))
	noError(t, err)
	e := s.entry(filepath.Join(dir, "data"), "b.txt")
	if e == nil || e.size != 6 || e.id != Sum([]byte("hello\n")) || !e.settled || e.linked || e.mode != 0o100644 || e.nlink != 1 {
		t.Errorf("%+v", e)
	}
	if f, ok := s.folder(filepath.Join(dir, "data")); !ok || f.count != 2 || f.whole {
		t.Errorf("%+v, %v", f, ok)
	}
}

// sumFirst sets the checksums in a state of the first version right.
func sumFirst(data []byte) {
	rest, ok := bytes.CutPrefix(data, []byte("lpstate\x01"))
	for ok && len(rest) >= 8 {
		n := uint64(binary.LittleEndian.Uint32(rest))
		if n > uint64(len(rest)-8) {
			return
		}
		binary.LittleEndian.PutUint32(rest[4:], crc32.Checksum(rest[8:8+n], castagnoli()))
		rest = rest[8+n:]
	}
}

func FuzzState(f *testing.F) {
	s := &State{folders: map[string]*folderState{}}
	s.setFolder("data", folderFacts{whole: true, list: []known{
		{typ: knownFile, entry: entry{name: "a"}}, {typ: knownDir, entry: entry{name: "d"}}, {typ: knownLink, entry: entry{name: "l"}, text: "a"}}})
	f.Add(s.folders["data"].append([]byte(stateMagic)))
	f.Add([]byte("lpstate\x01"))
	f.Add(append([]byte("lpstate\x01\x61\x00\x00\x00----\x01\x00\x00\x00\x04\x00\x00\x00data"), make([]byte, 0x61-12)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		sumFirst(data)
		s := &State{folders: map[string]*folderState{}}
		s.decode(data)
		for key, d := range s.folders {
			if d.body != nil && wellFormed(d.body) {
				d.checked = true // as if its checksum fitted
			}
			if got, ok := s.folder(key); ok {
				for i := range got.count {
					got.at(i)
				}
				got.find("x")
			}
		}
	})
}
