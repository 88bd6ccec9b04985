package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	pathpkg "path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// Scan is what stands at a path: its content, and below a folder every file's.
type Scan struct {
	Content
	root node
}

// node is a file, link or folder as found.
type node struct {
	entry // of a file: name, stat, ID
	typ   Type
	link  string // text of a Link
	sum   Content
	kids  []node // of a Dir, sorted by name
	// placed tells a symbolic link into the cache, which stands for the file that it names.
	placed bool
}

// gone is the type of a node that does not count.
const gone Type = 255

// Scan hashes the file or folder at path without storing it: only what st (which may be nil) does not know is
// read. A path that is itself a symbolic link is followed. Errors name the path; a missing one is fs.ErrNotExist.
func (c *Cache) Scan(ctx context.Context, st *State, path string) (*Scan, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return c.scan(ctx, st, path, false)
}

func (c *Cache) scan(ctx context.Context, st *State, path string, settle bool) (*Scan, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", path, err)
	}
	s := scanner{c: c, st: st, settle: settle, crew: newCrew()}
	n, err := s.root(ctx, abs)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	return &Scan{Content: n.content(), root: n}, nil
}

// Files gives the regular files by slash-separated path within the folder, in order; for a file, itself as "".
func (s *Scan) Files() iter.Seq2[string, Content] {
	return func(yield func(string, Content) bool) { s.root.files("", yield) }
}

func (n *node) files(at string, yield func(string, Content) bool) bool {
	switch n.typ {
	case File, Exec:
		return yield(at, n.content())
	case Dir:
		for i := range n.kids {
			if !n.kids[i].files(pathpkg.Join(at, n.kids[i].name), yield) {
				return false
			}
		}
	}
	return true
}

// Digest is the hash of the files that match and their paths, for a reader that looks at these alone.
func (s *Scan) Digest(match func(rel string) bool) ID {
	h := blake3.New()
	h.WriteString("lpipe digest 1\n")
	var b []byte
	for rel, f := range s.Files() {
		if match != nil && !match(rel) {
			continue
		}
		b = binary.AppendUvarint(b[:0], uint64(len(rel)))
		b = append(append(b, rel...), f.ID[:]...)
		if f.Exec {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		h.Write(b)
	}
	var id ID
	h.Sum(id[:0])
	return id
}

func (n *node) content() Content { return n.sum }

// tree is the folder's tree object.
func (n *node) tree() *Tree {
	t := &Tree{Entries: make([]Entry, len(n.kids))}
	for i := range n.kids {
		k := &n.kids[i]
		t.Entries[i] = Entry{Name: k.name, Type: k.typ, Link: k.link}
		if k.typ != Link {
			t.Entries[i].ID, t.Entries[i].Size = k.sum.ID, k.sum.Size
		}
		if k.typ == Dir {
			t.Entries[i].Files = k.sum.Files
		}
	}
	return t
}

type scanner struct {
	c      *Cache
	st     *State
	settle bool // wait for large files' times to settle, so that they need not be hashed again
	crew   *crew
	top    string // the folder that links may not leave
}

func (s *scanner) root(ctx context.Context, abs string) (node, error) {
	now, err := lstat(abs)
	if err != nil {
		return node{}, err
	}
	if now.symlink() {
		if n, err := s.placedLink(abs, filepath.Base(abs)); err != nil || n.placed {
			return n, err
		}
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return node{}, err
		}
		if now, err = lstat(abs); err != nil {
			return node{}, err
		}
	}
	dir, name := filepath.Split(abs)
	dir = filepath.Clean(dir)
	if now.dir() {
		s.top = abs
		n, err := s.dir(ctx, abs)
		n.name = name
		return n, err
	}
	known := s.st.entry(dir, name)
	n, changed, err := s.file(ctx, unix.AT_FDCWD, dir, abs, name, now, known)
	if changed && err == nil {
		s.st.set(dir, n.entry)
	}
	return n, err
}

// dir reads a folder: its names, then their stats in pieces side by side, then its folders.
func (s *scanner) dir(ctx context.Context, path string) (node, error) {
	n := node{typ: Dir}
	names, f, err := s.names(path)
	if err != nil {
		return n, err
	}
	defer f.Close()
	n.kids = make([]node, len(names))
	known := s.st.entries(path)
	var mu sync.Mutex
	var changed bool
	fd := int(f.Fd())
	const piece = 256
	var wg sync.WaitGroup
	for at := 0; at < len(names); at += piece {
		s.crew.run(&wg, func() error {
			part := names[at:min(at+piece, len(names))]
			differs, err := s.files(ctx, fd, path, part, n.kids[at:at+len(part)], known)
			mu.Lock()
			defer mu.Unlock()
			changed = changed || differs
			return err
		})
	}
	wg.Wait()
	n.kids = slices.DeleteFunc(n.kids, func(k node) bool { return k.typ == gone })
	for i := range n.kids {
		if n.kids[i].typ == Dir {
			s.crew.run(&wg, func() error {
				name := n.kids[i].name
				kid, err := s.dir(ctx, path+"/"+name)
				kid.name = name
				n.kids[i] = kid
				return err
			})
		}
	}
	wg.Wait()
	if err := s.crew.failed(); err != nil {
		return n, err
	}
	n.finish()
	if list := n.remembered(); changed || len(list) != len(known) {
		s.st.setDir(path, list)
	}
	return n, nil
}

// finish sums a folder up from its kids.
func (n *node) finish() {
	t := n.tree()
	n.sum = t.Content(Sum(t.Encode()))
}

// remembered are the kids that the state keeps.
func (n *node) remembered() []entry {
	count := 0
	for i := range n.kids {
		if n.kids[i].isFile() {
			count++
		}
	}
	list := make([]entry, 0, count)
	for i := range n.kids {
		if n.kids[i].isFile() {
			list = append(list, n.kids[i].entry)
		}
	}
	return list
}

func (n *node) isFile() bool { return (n.typ == File || n.typ == Exec) && !n.placed }

// names opens a folder and lists what counts in it, sorted.
func (s *scanner) names(path string) ([]string, *os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	list, err := f.Readdirnames(-1)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	kept := list[:0]
	for _, name := range list {
		if !strings.HasPrefix(name, tempPrefix) {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	return kept, f, nil
}

// files stats part of a folder and hashes what the state does not know. Names that are ignored get typ gone.
func (s *scanner) files(ctx context.Context, fd int, dir string, names []string, out []node, known []entry) (changed bool, err error) {
	i, _ := slices.BinarySearchFunc(known, names[0], func(e entry, n string) int { return strings.Compare(e.name, n) })
	var raw unix.Stat_t
	for k, name := range names {
		for i < len(known) && known[i].name < name {
			i++
		}
		var was *entry
		if i < len(known) && known[i].name == name {
			was = &known[i]
		}
		if err := retry(func() error { return unix.Fstatat(fd, name, &raw, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
			return changed, pathError("lstat", dir+"/"+name, err)
		}
		now := statOf(&raw)
		var differs bool
		switch {
		case s.c.ignore != nil && s.c.ignore(dir+"/"+name, now.dir()):
			out[k] = node{typ: gone}
		case now.dir():
			out[k] = node{typ: Dir, entry: entry{name: name}}
		case now.symlink():
			out[k], err = s.symlink(dir, name)
		default:
			out[k], differs, err = s.file(ctx, fd, dir, name, name, now, was)
		}
		if err != nil {
			return changed, err
		}
		changed = changed || differs
	}
	return changed, ctx.Err()
}

// file is one regular file: open is its name for openat, name that in the folder dir.
func (s *scanner) file(ctx context.Context, fd int, dir, open, name string, now fileStat, was *entry) (node, bool, error) {
	n := node{entry: entry{name: name}}
	if !now.regular() {
		return n, false, fmt.Errorf("%s is a %s: only files, folders and links can be stored", filepath.Join(dir, name), kindOf(now))
	}
	changed := true
	if was != nil && was.fresh(now) {
		n.entry, changed = *was, was.ctime != now.ctime
		n.fileStat = now
	} else {
		hashDir := dir
		if fd == unix.AT_FDCWD {
			hashDir = ""
		}
		id, st, at, err := s.c.hashers.file(ctx, fd, hashDir, open, s.settle)
		if err != nil {
			return n, false, err
		}
		linked := was != nil && was.linked && was.ino == st.ino
		if linked && was.id != id {
			s.c.suspect(was.id)
			linked = false
		}
		n.entry = entry{name: name, fileStat: st, id: id, settled: st.settled(at, linked), linked: linked}
	}
	if n.exec() {
		n.typ = Exec
	}
	n.sum = Content{ID: n.id, Exec: n.exec(), Size: n.size, Files: 1}
	return n, changed, nil
}

func kindOf(s fileStat) string {
	switch s.mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFIFO:
		return "named pipe"
	}
	return "device"
}

// symlink is a link in a folder: into the cache it is a placed file, else it may not leave the folder.
func (s *scanner) symlink(dir, name string) (node, error) {
	path := dir + "/" + name
	if n, err := s.placedLink(path, name); err != nil || n.placed {
		return n, err
	}
	text, err := os.Readlink(path)
	if err != nil {
		return node{}, err
	}
	rel, err := filepath.Rel(s.top, dir)
	if err != nil {
		return node{}, err
	}
	if leaves(rel, text) {
		return node{}, fmt.Errorf("%s is a link to %s, outside of %s: put the file there itself, or leave the link out", path, text, s.top)
	}
	return node{typ: Link, link: text, entry: entry{name: name}}, nil
}

// leaves tells whether a link with this text, in the folder rel of a stored folder, reaches out of that folder.
func leaves(rel, text string) bool {
	if filepath.IsAbs(text) {
		return true
	}
	to := filepath.Join(rel, text)
	return to == ".." || strings.HasPrefix(to, "../")
}

// placedLink recognises a symbolic link that Place made.
func (s *scanner) placedLink(path, name string) (node, error) {
	text, err := os.Readlink(path)
	if err != nil {
		return node{}, err
	}
	rest, ok := strings.CutPrefix(text, s.c.in("objects")+"/")
	if !ok {
		return node{}, nil
	}
	id, err := ParseID(strings.Replace(rest, "/", "", 1))
	if err != nil {
		return node{}, nil
	}
	now, err := s.c.verify(id)
	if err != nil {
		return node{}, fmt.Errorf("%s links to an object of the cache: %w", path, errors.Join(err, fs.ErrNotExist))
	}
	n := node{placed: true, entry: entry{name: name, id: id, fileStat: now}}
	n.sum = Content{ID: id, Size: now.size, Files: 1}
	return n, nil
}

// verify returns the stat of an object that is good: by its record, or else by its hash. A damaged one is set
// aside and is ErrDamaged.
func (c *Cache) verify(id ID) (fileStat, error) {
	path := c.Path(id)
	now, err := lstat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return now, fmt.Errorf("object %s: %w", id, ErrNotFound)
		}
		return now, err
	}
	if now.regular() && c.records.intact(id, now) {
		return now, nil
	}
	return c.rehash(id)
}

// rehash looks at the object's bytes, whatever its record says.
func (c *Cache) rehash(id ID) (fileStat, error) {
	path := c.Path(id)
	got, now, at, err := c.hashers.file(context.Background(), unix.AT_FDCWD, "", path, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return now, fmt.Errorf("object %s: %w", id, ErrNotFound)
	case err == nil && bytes.Equal(got[:], id[:]):
		c.records.note(id, now, now.settled(at, true))
		return now, nil
	case err != nil && !errors.Is(err, ErrChanged) && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ELOOP):
		return now, err
	}
	c.setAside(path, id)
	return now, damaged("object %s: its file was changed", id)
}

// suspect checks the object of a placed file that was written to: through a hard link the object changed too.
func (c *Cache) suspect(id ID) { c.rehash(id) }

// setAside takes a damaged object's name away. The bytes stay in damaged/ until a gc: they may be all that is
// left of somebody's work.
func (c *Cache) setAside(path string, id ID) {
	to := c.in("damaged", fmt.Sprintf("%s-%d", id, time.Now().UnixNano()))
	if c.disk.mkdirAll(c.in("damaged")) == nil {
		c.disk.rename(path, to)
	}
}
