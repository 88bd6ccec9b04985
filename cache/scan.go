package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

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

type scanner struct {
	c      *Cache
	st     *State
	settle bool // wait for large files' times to settle, so that they need not be hashed again
	crew   *crew
	top    string // the folder that links may not leave
	// lists is the device whose folders' times tell whether their names changed; 0: none does.
	lists uint64
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
		if listsByTime(abs) {
			s.lists = now.dev
		}
		n, err := s.dir(ctx, abs)
		n.name = name
		return n, err
	}
	n, changed, err := s.file(ctx, unix.AT_FDCWD, dir, abs, name, now, s.st.entry(dir, name))
	if changed && err == nil {
		s.st.set(dir, n.entry)
	}
	return n, err
}

// piece is how many names of a folder are looked at together, beside other pieces.
const piece = 256

// dir looks at a folder: its names, their stats, then its folders. What the state says of it is compared first;
// where that holds, nothing is built.
func (s *scanner) dir(ctx context.Context, path string) (node, error) {
	n := node{typ: Dir, dirNode: &dirNode{}}
	f, err := os.Open(path)
	if err != nil {
		return n, err
	}
	defer f.Close()
	at := time.Now()
	if n.fileStat, err = fstat(int(f.Fd()), path); err != nil {
		return n, err
	}
	n.settled = s.lists == n.dev && n.fileStat.settled(at, false)
	was, known := s.st.folder(path)
	if known && was.whole && s.lists == n.dev && was.stat.ino == n.ino && was.stat.mtime == n.mtime && was.stat.ctime == n.ctime {
		err = s.compare(ctx, int(f.Fd()), path, &n, &was)
	} else {
		err = s.list(ctx, f, path, &n, &was)
	}
	if err != nil {
		return n, err
	}
	var wg sync.WaitGroup
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
	if n.held != nil && n.sameFolders() {
		n.sum = was.sum
		return n, nil
	}
	n.finish()
	s.st.setFolder(path, n.facts())
	return n, nil
}

// compare looks at the names that the state knows to be all that there are. If every file and link is as it was, n
// holds what the state says, and has only folders for kids.
func (s *scanner) compare(ctx context.Context, fd int, path string, n *node, was *folder) error {
	pieces := (was.count + piece - 1) / piece
	same := make([]bool, pieces)
	var wg sync.WaitGroup
	for i := range pieces {
		s.crew.run(&wg, func() error {
			same[i] = s.same(fd, path, was, i*piece, min((i+1)*piece, was.count))
			return ctx.Err()
		})
	}
	wg.Wait()
	if err := s.crew.failed(); err != nil {
		return err
	}
	if !slices.Contains(same, false) {
		n.held = was
		n.kids, n.others = was.rest()
		return nil
	}
	names := make([]string, was.count)
	n.kids = make([]node, was.count)
	for i := range names {
		k := was.at(i)
		names[i] = k.name
		if same[i/piece] {
			n.kids[i] = k.node()
		}
	}
	return s.look(ctx, fd, path, n, names, was, func(at int) bool { return same[at/piece] })
}

// same tells whether some names of a folder are what the state says, as far as they themselves tell.
func (s *scanner) same(fd int, dir string, was *folder, from, to int) bool {
	var look statBuffer
	for i := from; i < to; i++ {
		k := was.at(i)
		if (k.typ == knownOther) != (s.c.ignore != nil && s.c.ignore(dir, k.name, k.typ == knownDir || k.typ == knownOther && k.linked)) {
			return false
		}
		switch k.typ {
		case knownFile:
			now, err := look.at(fd, k.name)
			if err != nil || !now.regular() || !k.fresh(now) || now.ctime != k.ctime || now.nlink != k.nlink || now.mode != k.mode {
				return false
			}
		case knownLink:
			if n, err := s.symlink(dir, k.name); err != nil || n.placed || n.link != k.text {
				return false
			}
		}
	}
	return true
}

// list reads a folder's names and looks at each.
func (s *scanner) list(ctx context.Context, f *os.File, path string, n *node, was *folder) error {
	names, err := namesOf(f)
	if err != nil {
		return err
	}
	n.kids = make([]node, len(names))
	return s.look(ctx, int(f.Fd()), path, n, names, was, func(int) bool { return false })
}

// look fills n.kids in with what stands under the names, in pieces side by side, but those that done says.
func (s *scanner) look(ctx context.Context, fd int, path string, n *node, names []string, was *folder, done func(at int) bool) error {
	var wg sync.WaitGroup
	for at := 0; at < len(names); at += piece {
		if done(at) {
			continue
		}
		s.crew.run(&wg, func() error {
			end := min(at+piece, len(names))
			return s.files(ctx, fd, path, names[at:end], n.kids[at:end], was)
		})
	}
	wg.Wait()
	for i := range n.kids {
		if n.kids[i].typ == gone {
			n.others = append(n.others, known{typ: knownOther, entry: entry{name: names[i], linked: n.kids[i].linked}})
		}
	}
	n.kids = slices.DeleteFunc(n.kids, func(k node) bool { return k.typ == gone })
	return s.crew.failed()
}

// namesOf lists what may count in an open folder, sorted.
func namesOf(f *os.File) ([]string, error) {
	list, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, name := range list {
		if !strings.HasPrefix(name, tempPrefix) {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	return kept, nil
}

// files stats part of a folder and hashes what the state does not know. Names that are ignored get typ gone.
func (s *scanner) files(ctx context.Context, fd int, dir string, names []string, out []node, was *folder) error {
	i, _ := was.find(names[0])
	var look statBuffer
	for k, name := range names {
		for i < was.count && was.name(i) < name {
			i++
		}
		now, err := look.at(fd, name)
		if err != nil {
			return pathError("lstat", dir+"/"+name, err)
		}
		switch {
		case s.c.ignore != nil && s.c.ignore(dir, name, now.dir()):
			out[k] = node{typ: gone, entry: entry{linked: now.dir()}}
		case now.dir():
			out[k] = node{typ: Dir, entry: entry{name: name}}
		case now.symlink():
			out[k], err = s.symlink(dir, name)
		default:
			var before *entry
			if i < was.count && was.name(i) == name {
				if k := was.at(i); k.typ == knownFile {
					before = &k.entry
				}
			}
			out[k], _, err = s.file(ctx, fd, dir, name, name, now, before)
		}
		if err := cmpErr(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
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
		id, st, at, err := s.c.hashers.file(ctx, fd, hashDir, open, &now, s.settle)
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
	n.typ = n.fileType()
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
	got, now, at, err := c.hashers.file(context.Background(), unix.AT_FDCWD, "", path, nil, false)
	if errors.Is(err, unix.EIO) { // a bad sector is bad twice, a loose cable perhaps not
		got, now, at, err = c.hashers.file(context.Background(), unix.AT_FDCWD, "", path, nil, false)
	}
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
