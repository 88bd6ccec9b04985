package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// AddOptions says how Add treats the files it stores.
type AddOptions struct {
	// Move makes the cache own the files: they become placed links of their objects, with no data copied
	// where the file system allows. Without it they are copied (or cloned) and left alone.
	Move bool
	// Calm, of a Deposit, leaves light files (Content.Light) alone until Link although the cache will own them.
	Calm bool
}

// Add stores the file or folder at path, durably, and returns what it is. On an error nothing is half stored,
// and the files stand as they stood.
func (c *Cache) Add(ctx context.Context, st *State, path string, o AddOptions) (Content, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return Content{}, err
	}
	defer end()
	a, content, err := c.newAdder(ctx, st, path, o)
	if err != nil {
		return Content{}, err
	}
	defer a.batch.drop()
	if err := a.store(ctx); err != nil {
		return Content{}, fmt.Errorf("store %s in cache %s: %w", path, c.dir, err)
	}
	return content, nil
}

// newAdder looks at what is to be stored. The caller holds the cache.
func (c *Cache) newAdder(ctx context.Context, st *State, path string, o AddOptions) (*adder, Content, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, Content{}, fmt.Errorf("store %s: %w", path, err)
	}
	if info, err := os.Lstat(abs); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		o.Move = false // what a link leads to is somebody else's
	}
	scan, err := c.scan(ctx, st, abs, o.Move)
	if err != nil {
		return nil, Content{}, err
	}
	a := &adder{c: c, st: st, root: &scan.root, path: abs, move: o.Move, calm: o.Calm && scan.Light(), crew: newCrew()}
	a.batch = &Batch{c: c, folders: map[string]bool{}}
	return a, scan.Content, nil
}

// adder stores one scanned file or folder.
type adder struct {
	c     *Cache
	st    *State
	root  *node
	path  string // of root
	move  bool
	calm  bool // the files themselves become no objects
	batch *Batch
	crew  *crew
	files []*item
	trees []*node // that the cache lacks
}

// item is a file on its way into the cache.
type item struct {
	*node
	dir     string // path of its folder
	base    string // its name there
	how     how
	first   *item  // with the same content, which is stored instead of this one
	touched bool   // its stat changed by what we did
	frozen  bool   // we took its write permission, and it is no object yet
	held    string // of a Deposit: the temporary name of a file that will be an object
}

func (f *item) path() string { return f.dir + "/" + f.base }

// stored is the item that is stored for f's content.
func (f *item) stored() *item {
	if f.first != nil {
		return f.first
	}
	return f
}

type how byte

const (
	present how = iota // the object is there already
	adopt              // the file itself becomes the object
	copied             // a copy of it does
)

func (a *adder) store(ctx context.Context) error {
	if err := a.prepare(ctx); err != nil {
		return err
	}
	defer a.thaw()
	if err := a.freeze(ctx); err != nil {
		return err
	}
	if err := a.barrier(); err != nil {
		return err
	}
	if err := a.adopt(ctx); err != nil {
		return err
	}
	if err := a.batch.publish(ctx); err != nil {
		return err
	}
	if a.move {
		if err := a.eachFile(ctx, a.relink); err != nil {
			return err
		}
	}
	a.remember()
	return nil
}

// prepare says how each file gets into the cache, and writes what is new to temporary names.
func (a *adder) prepare(ctx context.Context) error {
	a.collect(a.root, filepath.Dir(a.path), filepath.Base(a.path))
	if err := a.plan(ctx); err != nil {
		return err
	}
	if err := a.copy(ctx); err != nil {
		return err
	}
	return a.crew.each(ctx, len(a.trees), 16, func(i int) error { return a.batch.bytes(a.trees[i].sum.ID, true, a.trees[i].tree().Encode()) })
}

// collect lists the files, and the trees that the cache lacks.
func (a *adder) collect(n *node, dir, base string) {
	switch n.typ {
	case File, Exec:
		a.files = append(a.files, &item{node: n, dir: dir, base: base})
	case Dir:
		n.kids, n.held = n.children(), nil // what becomes of the files is noted in them
		path := dir + "/" + base
		for i := range n.kids {
			a.collect(&n.kids[i], path, n.kids[i].name)
		}
		if _, err := a.c.readTree(n.sum.ID); err != nil {
			a.trees = append(a.trees, n)
		} else if now, err := lstat(a.c.treePath(n.sum.ID)); err == nil {
			a.batch.found(a.c.treePath(n.sum.ID), now)
		}
	}
}

// plan says for each file how its content gets into the cache.
func (a *adder) plan(ctx context.Context) error {
	firsts := make(map[ID]*item, len(a.files))
	for _, f := range a.files {
		if one, ok := firsts[f.id]; ok {
			f.first = one
			continue
		}
		firsts[f.id] = f
	}
	return a.crew.each(ctx, len(a.files), 256, func(i int) error {
		f := a.files[i]
		if err := f.look(); err != nil {
			return err
		}
		if f.first != nil || f.placed {
			return nil
		}
		if !a.c.records.has(f.id) && a.adoptable(f) {
			f.how = adopt // should there be an object all the same, link will tell
			return nil
		}
		now, err := a.c.verify(f.id)
		switch {
		case err == nil:
			a.c.records.use(f.id, now, a.c.now())
			a.batch.found(a.c.Path(f.id), now)
		case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged):
			return err
		case a.adoptable(f):
			f.how = adopt
		default:
			f.how = copied
		}
		return nil
	})
}

// look completes the stat of a file that is as the state remembers it: device and owner are not remembered.
func (f *item) look() error {
	if f.dev != 0 {
		return nil
	}
	now, err := lstat(f.path())
	if err != nil {
		return err
	}
	if !f.unchanged(now, f.linked) {
		return fmt.Errorf("%s: %w", f.path(), ErrChanged)
	}
	f.fileStat = now
	return nil
}

// adoptable tells whether the file can become its own object: ours alone, on the cache's file system, and
// hard links wanted. An executable needs another mode than the object has, and a file with more names could be
// written to through them.
func (a *adder) adoptable(f *item) bool {
	return a.move && !a.calm && a.c.linkFor(f.dev) == "hardlink" && f.dev == a.c.dev && f.nlink == 1 && !f.exec() &&
		(f.uid == uint32(os.Geteuid()) || os.Geteuid() == 0)
}

func (a *adder) copy(ctx context.Context) error {
	return a.crew.each(ctx, len(a.files), 16, func(i int) error {
		f := a.files[i]
		if f.first != nil || f.how != copied {
			return nil
		}
		err := a.batch.file(f.id, f.path(), f.size)
		if errors.Is(err, ErrDamaged) {
			return fmt.Errorf("%s: %w", f.path(), ErrChanged)
		}
		return err
	})
}

// barrier makes all bytes durable before any name appears.
func (a *adder) barrier() error {
	n, bytes := a.batch.unnamed() // counted first: with very many files there is one flush, and no list of them
	for _, f := range a.files {
		if f.first == nil && f.how == adopt {
			n, bytes = n+1, bytes+f.size
		}
	}
	a.batch.durable = true
	if oneFlush(n, bytes) {
		return a.c.disk.syncAll(a.c.in("tmp"))
	}
	paths := a.batch.temps()
	for _, f := range a.files {
		if f.first == nil && f.how == adopt {
			paths = append(paths, f.path())
		}
	}
	return a.c.disk.syncEach(paths)
}

// freeze takes write permission from the files that will be objects, before the barrier: then no loss of power leaves
// an object that can be written to.
func (a *adder) freeze(ctx context.Context) error {
	return a.adoptees(ctx, func(f *item, folder int, look *statBuffer) error {
		now, err := look.at(folder, f.base)
		if err != nil {
			return pathError("lstat", f.path(), err)
		}
		if !now.same(f.fileStat) {
			return fmt.Errorf("%s: %w", f.path(), ErrChanged)
		}
		if err := a.c.disk.chmodAt(folder, f.dir, f.base, now.mode&0o444); err != nil {
			return err
		}
		f.touched, f.frozen = true, true
		return nil
	})
}

// adoptees calls do for the files that become objects themselves, with the folder that each is in, open: a name in it
// is found faster than a path.
func (a *adder) adoptees(ctx context.Context, do func(f *item, folder int, look *statBuffer) error) error {
	return a.crew.pieces(ctx, len(a.files), 64, func(from, to int) error {
		var look statBuffer
		folder := openFolder{fd: -1}
		defer folder.close()
		for _, f := range a.files[from:to] {
			if f.first != nil || f.how != adopt {
				continue
			}
			if err := cmpErr(ctx.Err(), folder.open(f.dir)); err != nil {
				return err
			}
			if err := do(f, folder.fd, &look); err != nil {
				return err
			}
		}
		return nil
	})
}

// thaw gives write permission back to the files that did not become objects.
func (a *adder) thaw() {
	for _, f := range a.files {
		f.thaw()
	}
}

func (f *item) thaw() {
	if !f.frozen {
		return
	}
	f.frozen = false
	if now, err := lstat(f.path()); err != nil || now.ino != f.ino {
		return // something else stands there now, perhaps an object
	}
	os.Chmod(f.path(), fs.FileMode(f.mode&0o777))
	if now, err := lstat(f.path()); err == nil && now.ino == f.ino && now.size == f.size && now.mtime == f.mtime {
		f.fileStat = now // only ctime moved, by us
	}
}

// adopt gives the files a second name, as objects. The bytes are durable by now.
func (a *adder) adopt(ctx context.Context) error {
	return a.adoptees(ctx, func(f *item, folder int, look *statBuffer) error {
		err := a.adoptOne(f, folder, look)
		if cannotLink(err) {
			f.how = copied // a bind mount, say: one device, but no links across
			f.thaw()
			a.batch.unsynced()
			return a.batch.file(f.id, f.path(), f.size)
		}
		return err
	})
}

// cannotLink tells of an error that another way of storing would not meet.
func cannotLink(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP)
}

func (a *adder) adoptOne(f *item, folder int, look *statBuffer) error {
	c, to := a.c, a.c.Path(f.id)
	there, err := a.nameObject(f, to, func() error { return c.disk.linkAt(folder, f.dir, f.base, to) })
	if err != nil {
		return err
	}
	if there {
		f.thaw() // relink replaces it
		return nil
	}
	f.frozen = false // an object now, whatever comes
	now, err := look.at(unix.AT_FDCWD, to)
	if err == nil && now.ino != f.ino { // a copy of the same content has taken the name meanwhile: relink goes by it
		return nil
	}
	if err == nil && (now.size != f.size || now.mtime != f.mtime) {
		f.frozen = c.disk.remove(to) == nil
		err = fmt.Errorf("%s: %w", f.path(), ErrChanged)
	}
	if err != nil {
		return err
	}
	f.entry = f.asLinked(now)
	c.records.note(f.id, now, f.settled)
	return nil
}

// nameObject gives a file its name as an object by a link. It tells whether a good object has the name already; a damaged
// one is set aside first.
func (a *adder) nameObject(f *item, to string, link func() error) (there bool, err error) {
	for range 2 {
		if err = a.batch.named(to, link); !errors.Is(err, fs.ErrExist) {
			return false, err
		}
		now, bad := a.c.verify(f.id)
		if bad == nil {
			a.c.records.use(f.id, now, a.c.now())
			a.batch.found(to, now)
			return true, nil
		}
		if !errors.Is(bad, ErrDamaged) && !errors.Is(bad, ErrNotFound) {
			return false, bad
		}
	}
	return false, err
}

// asLinked is the entry of a file that is a link of its object. A file that was hashed when its mtime was settled
// stays so: our own link() and chmod() moved only ctime.
func (e entry) asLinked(now fileStat) entry {
	settled := e.settled || now.mtime == e.mtime && e.hashedSettled()
	return entry{name: e.name, fileStat: now, id: e.id, settled: settled, linked: true}
}

// hashedSettled tells whether mtime alone was old when the file's ctime was last changed by others.
func (e entry) hashedSettled() bool { return e.mtime < e.ctime-int64(e.granularity()) }

// relink replaces a file whose content the cache has by a link of it, where links are wanted: the same bytes are kept once.
// A file with more names is replaced in any case: it may be the user's own, and change under another of them.
func (a *adder) relink(f *item) error {
	if f.placed || f.first == nil && f.how == adopt && f.linked {
		return nil
	}
	object, err := lstat(a.c.Path(f.id))
	if err != nil {
		return err
	}
	if object.ino == f.ino && object.dev == f.dev {
		f.entry, f.touched = f.asLinked(object), true
		return nil
	}
	link := a.c.linkFor(f.dev)
	if f.nlink == 1 && (f.exec() || link == "copy" || link == "reflink" && f.first == nil && f.how == copied) {
		return nil
	}
	now, err := lstat(f.path())
	if err != nil || !f.unchanged(now, f.nlink > 1) { // taking another name of it away was us
		return fmt.Errorf("%s: %w", f.path(), cmpErr(err, ErrChanged))
	}
	e, err := a.c.placeFile(f.content(), f.path())
	if err != nil {
		return err
	}
	f.placed = e.symlink()
	e.name = f.name
	f.entry, f.touched = e, true
	return nil
}

func (a *adder) eachFile(ctx context.Context, do func(f *item) error) error {
	return a.crew.each(ctx, len(a.files), 64, func(i int) error { return do(a.files[i]) })
}

// remember tells the state what became of the files.
func (a *adder) remember() {
	root, path := a.root, a.path
	if !slices.ContainsFunc(a.files, func(f *item) bool { return f.touched }) {
		return
	}
	if root.typ != Dir {
		if root.isFile() {
			a.st.set(filepath.Dir(path), root.entry)
		}
		return
	}
	root.remember(a.st, path)
}

func (n *node) remember(st *State, path string) {
	st.setFolder(path, n.facts())
	for i := range n.kids {
		if n.kids[i].typ == Dir {
			n.kids[i].remember(st, path+"/"+n.kids[i].name)
		}
	}
}
