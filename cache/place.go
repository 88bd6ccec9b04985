package cache

import (
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

// tempPrefix starts the names under which content is built beside the place where it will stand. One that a
// crash left is removed when the same content is placed again, and never counts as content.
const tempPrefix = ".lpipe-tmp-"

// Place puts content at path, whole or not at all, replacing what stands there; it does nothing where the
// content stands already. Missing parents are made. An object that is absent is ErrNotFound, one that is not
// what its name says ErrDamaged; then path stands as it stood. Names in an old folder that Options.Ignore
// leaves out of account move on to the new one.
func (c *Cache) Place(ctx context.Context, st *State, want Content, path string) (changed bool, err error) {
	end, err := c.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	abs, err := filepath.Abs(path)
	if err != nil {
		return false, fmt.Errorf("place %s: %w", path, err)
	}
	if c.stands(ctx, st, want, abs) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o777); err != nil {
		return false, fmt.Errorf("place %s: %w", path, err)
	}
	if want.Dir {
		err = c.placeDir(ctx, st, want, abs)
	} else {
		var e entry
		if e, err = c.placeFile(want, abs); err == nil && !e.symlink() {
			st.set(filepath.Dir(abs), e)
		}
	}
	if err != nil {
		return false, fmt.Errorf("place %s: %w", path, err)
	}
	return true, nil
}

// stands tells whether the content is there already. Whatever cannot be read does not stand. A link at path
// itself is replaced even if it leads to such content, unless Place made it.
func (c *Cache) stands(ctx context.Context, st *State, want Content, path string) bool {
	now, err := lstat(path)
	if err != nil || now.dir() != want.Dir {
		return false
	}
	if now.symlink() {
		s := scanner{c: c}
		if n, err := s.placedLink(path, ""); err != nil || !n.placed {
			return false
		}
	}
	scan, err := c.scan(ctx, st, path, false)
	return err == nil && scan.ID == want.ID && scan.Exec == want.Exec
}

// placeFile replaces path by a file and returns what the state should know of it.
func (c *Cache) placeFile(want Content, path string) (entry, error) {
	temp := filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
	if err := c.removeLeftover(temp, path); err != nil {
		return entry{}, err
	}
	made, err := c.makeFile(want.ID, want.Exec, temp)
	if err != nil {
		os.Remove(temp)
		return entry{}, err
	}
	if old, err := lstat(path); err == nil && old.dir() {
		if err := c.replaceDir(temp, path); err != nil {
			return entry{}, err
		}
	} else if err := c.disk.rename(temp, path); err != nil {
		os.Remove(temp)
		return entry{}, err
	}
	os.Remove(temp) // rename does nothing between two links of one file
	now, err := lstat(path)
	if err != nil {
		return entry{}, err
	}
	return c.placed(want.ID, filepath.Base(path), made, now), nil
}

// placed is the entry of a file just made, and brings the object's record up to date: our link changed its ctime.
func (c *Cache) placed(id ID, name, made string, now fileStat) entry {
	linked := made == "hardlink"
	e := entry{name: name, fileStat: now, id: id, settled: now.settled(time.Now(), linked), linked: linked}
	if linked {
		c.records.note(id, now, e.settled)
	}
	return e
}

// seal gives an object its permissions back: a chmod of a placed file is one of its object where they are links. Another
// user's object stays as it is.
func (c *Cache) seal(object string, now fileStat) {
	if now.mode&0o333 != 0 {
		os.Chmod(object, fs.FileMode(now.mode&0o444))
	}
}

// makeFile makes path, which does not exist, by the first way that works, and returns that.
func (c *Cache) makeFile(id ID, exec bool, path string) (string, error) {
	now, err := c.verify(id)
	if err != nil {
		return "", err
	}
	object := c.Path(id)
	c.seal(object, now)
	for _, way := range c.links {
		var err error
		switch {
		case way == "reflink" && !c.cloneRefused():
			err = c.cloneFile(object, exec, path)
		case way == "hardlink" && !exec:
			err = c.disk.link(object, path)
		case way == "symlink" && !exec:
			err = c.disk.symlink(object, path)
		case way == "copy":
			err = c.copyFile(id, exec, path)
		default:
			continue
		}
		if err == nil {
			return way, nil
		}
		if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return "", err
		}
	}
	return "copy", c.copyFile(id, exec, path) // what no link can do: executables, too many links
}

func filePerm(exec bool) fs.FileMode {
	if exec {
		return 0o777
	}
	return 0o666
}

func (c *Cache) cloneFile(object string, exec bool, path string) error {
	src, err := os.Open(object)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := c.disk.create(path, filePerm(exec))
	if err != nil {
		return err
	}
	err = errors.Join(clone(dst, src), dst.Close())
	if err != nil {
		os.Remove(path)
	}
	return err
}

// copyFile verifies while it copies: the bytes pass by anyway.
func (c *Cache) copyFile(id ID, exec bool, path string) (err error) {
	src, err := os.Open(c.Path(id))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := c.disk.create(path, filePerm(exec))
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, dst.Close()); err != nil {
			os.Remove(path)
		}
	}()
	h := c.hashers.take()
	defer c.hashers.give(h)
	got, _, err := h.copy(c.disk, dst, src)
	if err == nil && got != id {
		c.setAside(c.Path(id), id)
		return damaged("object %s: its bytes were changed", id)
	}
	return err
}

// placeDir builds the folder beside its place and swaps.
func (c *Cache) placeDir(ctx context.Context, st *State, want Content, path string) error {
	temp := filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
	if err := c.removeLeftover(temp, path); err != nil {
		return err
	}
	p := placer{c: c, st: st, crew: newCrew(), place: path, bodies: map[string][]byte{}}
	if above, err := lstat(filepath.Dir(path)); err == nil {
		p.hard = c.linkFor(above.dev) == "hardlink"
	}
	err := p.dir(ctx, want.ID, temp, "")
	if err != nil {
		c.disk.removeAll(temp)
		return err
	}
	_, err = os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = c.disk.rename(temp, path)
	case err == nil:
		err = c.replaceDir(temp, path)
	}
	if err != nil {
		c.disk.removeAll(temp)
		return err
	}
	for dir, body := range p.bodies {
		st.setBody(dir, body)
	}
	return nil
}

// replaceDir swaps what was built with what stands at path, saves what is ignored, and removes the rest.
func (c *Cache) replaceDir(temp, path string) error {
	if err := c.disk.exchange(temp, path); err != nil {
		c.disk.removeAll(temp)
		return err
	}
	if c.ignore != nil {
		if err := c.carry(temp, path); err != nil {
			return fmt.Errorf("the new content stands, ignored files of the old one are in %s: %w", temp, err)
		}
	}
	return c.disk.removeAll(temp)
}

// placer builds a folder under a temporary name.
type placer struct {
	c     *Cache
	st    *State
	crew  *crew
	place string // where the folder will stand
	hard  bool   // hard links come first

	mu     sync.Mutex
	bodies map[string][]byte // by folder: what the state will know
}

func (p *placer) dir(ctx context.Context, id ID, path, rel string) error {
	tree, err := p.c.readTree(id)
	if err != nil {
		return err
	}
	if err := p.c.disk.check("mkdir", path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o777); err != nil {
		return err
	}
	folder := openFolder{fd: -1}
	if err := folder.open(path); err != nil {
		return err
	}
	defer folder.close()
	files := make([]known, len(tree.Entries))
	var wg sync.WaitGroup
	const piece = 128
	for at := 0; at < len(tree.Entries); at += piece {
		p.crew.run(&wg, func() error {
			var look statBuffer
			for i := at; i < min(at+piece, len(tree.Entries)); i++ {
				if err := cmpErr(ctx.Err(), p.crew.failed()); err != nil {
					return err
				}
				if p.link(&tree.Entries[i], path, folder.fd, &look, &files[i].entry) {
					continue
				}
				if err := p.entry(tree.Entries[i], path, rel, &files[i].entry); err != nil {
					return fmt.Errorf("%s: %w", filepath.Join(rel, tree.Entries[i].Name), err)
				}
			}
			return nil
		})
	}
	for _, e := range tree.Entries {
		if e.Type == Dir {
			p.crew.run(&wg, func() error { return p.dir(ctx, e.ID, path+"/"+e.Name, filepath.Join(rel, e.Name)) })
		}
	}
	wg.Wait()
	p.remember(filepath.Join(p.place, rel), files)
	return p.crew.failed()
}

// remember keeps what the state will know of a folder once it stands. Files without a name are not to be known.
func (p *placer) remember(dir string, files []known) {
	if p.st == nil {
		return
	}
	facts := folderFacts{list: slices.DeleteFunc(files, func(k known) bool { return k.name == "" })}
	body := facts.encode(p.st.key(dir))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies[dir] = body
}

// link makes a hard link of an object that its record says is good, in an open folder: the usual way, with the least asked
// of the disk. Where it does not succeed, entry tries all ways.
func (p *placer) link(t *Entry, dir string, folder int, look *statBuffer, e *entry) bool {
	if !p.hard || t.Type != File {
		return false
	}
	object := p.c.Path(t.ID)
	now, err := look.at(unix.AT_FDCWD, object)
	if err != nil || !now.regular() || !p.c.records.intact(t.ID, now) || p.c.disk.linkInto(object, folder, dir, t.Name) != nil {
		return false
	}
	if now, err = look.at(folder, t.Name); err != nil {
		unix.Unlinkat(folder, t.Name, 0)
		return false
	}
	*e = p.c.placed(t.ID, t.Name, "hardlink", now)
	return true
}

// entry makes a file or link; e stays empty for what the state does not keep.
func (p *placer) entry(t Entry, dir, rel string, e *entry) error {
	path := dir + "/" + t.Name
	switch t.Type {
	case Dir:
		return nil
	case Link:
		if leaves(rel, t.Link) {
			return damaged("a link to %s, outside of its folder", t.Link)
		}
		return p.c.disk.symlink(t.Link, path)
	}
	made, err := p.c.makeFile(t.ID, t.Type == Exec, path)
	if err != nil || made == "symlink" {
		return err
	}
	now, err := lstat(path)
	if err == nil {
		*e = p.c.placed(t.ID, t.Name, made, now)
	}
	return err
}

// Unlink makes the files at path, placed by links, the user's own: writable, and apart from the cache.
func (c *Cache) Unlink(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("unlink %s: %w", path, err)
	}
	err = filepath.WalkDir(abs, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return c.unlinkFile(p)
	})
	if err != nil {
		return fmt.Errorf("unlink: %w", err)
	}
	return nil
}

func (c *Cache) unlinkFile(path string) error {
	now, err := lstat(path)
	if err != nil {
		return err
	}
	exec := now.exec()
	if now.symlink() {
		text, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(text, c.in("objects")+"/") {
			return err
		}
		exec = false
	} else if now.nlink == 1 {
		if now.regular() && now.mode&0o200 == 0 {
			return c.disk.chmod(path, fs.FileMode(now.mode&0o777|0o200))
		}
		return nil
	}
	return c.ownCopy(path, exec)
}

func (c *Cache) ownCopy(path string, exec bool) (err error) {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	temp := filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
	if err := c.disk.removeAll(temp); err != nil {
		return err
	}
	dst, err := c.disk.create(temp, filePerm(exec))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	h := c.hashers.take()
	defer c.hashers.give(h)
	_, _, err = h.copy(c.disk, dst, src)
	if err == nil {
		err = c.disk.sync(dst)
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return err
	}
	return c.disk.rename(temp, path)
}
