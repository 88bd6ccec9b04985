package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Deposit is what a finished stage leaves: outputs, and the result that names them. All that is slow is prepared while
// other stages run; Commit then makes many deposits durable with a few flushes. Until then nothing of it can be found
// in the cache. A file that is to become an object loses its write permission and gets a second, temporary name at once:
// whoever replaces or removes it in the workspace takes nothing away.
//
// Whoever reads a file minds when it is replaced (cp) or gets another name (tar, by ctime). So what somebody may read
// before the end of the run is left alone from Add to Link, which must then wait for that end: light content is copied
// (AddOptions.Calm), and with other content nobody may start to read before Commit and Link.
type Deposit struct {
	c      *Cache
	end    func()
	adders []*adder
	key    Key
	result []byte // encoded; nil without one
	temp   string // the result, under a temporary name; "" before Prepare

	prepared bool  // all bytes are durable, or:
	failed   error // why they are not
}

// NewDeposit begins a deposit. It holds the cache against a gc until Commit or Discard.
func (c *Cache) NewDeposit(ctx context.Context) (*Deposit, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	return &Deposit{c: c, end: end}, nil
}

// Add is Cache.Add, durable with Commit only.
func (e *Deposit) Add(ctx context.Context, st *State, path string, o AddOptions) (Content, error) {
	a, content, err := e.c.newAdder(ctx, st, path, o)
	if err != nil {
		return Content{}, err
	}
	if err = a.prepare(ctx); err == nil {
		err = a.freeze(ctx)
	}
	if err == nil {
		err = a.hold(ctx)
	}
	if err == nil && a.move {
		err = a.eachFile(ctx, func(f *item) error {
			if f.stored().how != present {
				return nil // Link, if at all
			}
			return a.relink(f)
		})
	}
	if err != nil { // the deposit is as it was: a log that cannot be stored takes no output with it
		a.giveUp()
		return Content{}, fmt.Errorf("store %s in cache %s: %w", path, e.c.dir, err)
	}
	e.adders = append(e.adders, a)
	return content, nil
}

// giveUp leaves nothing behind of what was prepared or held.
func (a *adder) giveUp() {
	a.thaw()
	a.batch.drop()
	for _, f := range a.files {
		if f.held != "" {
			os.Remove(f.held)
		}
	}
}

// PutResult is Cache.PutResult, durable with Commit only. A deposit has one result, or none.
func (e *Deposit) PutResult(k Key, r *Result) error {
	data, err := r.Encode(k)
	if err != nil {
		return fmt.Errorf("record result %s: %w", k, err)
	}
	e.key, e.result = k, data
	return nil
}

// writeResult writes the result under a temporary name: when the deposit is made, somebody may wait to go on.
func (e *Deposit) writeResult() (err error) {
	if e.prepared { // never tried again: a file system tells a failed write once, and calls the next flush a success
		return e.failed
	}
	if e.result == nil {
		return nil
	}
	if e.temp, err = e.c.disk.writeTemp(e.c.in("tmp"), e.result, 0o644); err != nil {
		return fmt.Errorf("record result %s: %w", e.key, err)
	}
	return nil
}

// Discard gives up what was not committed: files can be written to again. After Commit it does nothing.
func (e *Deposit) Discard() {
	if e.end == nil {
		return
	}
	for _, a := range e.adders {
		a.giveUp()
	}
	if e.temp != "" {
		os.Remove(e.temp)
	}
	e.end()
	e.end = nil
}

// Prepare does ahead what Commit would begin with: it writes the results under temporary names and makes all bytes durable. What it
// cannot do fails in Commit. It may run beside a Commit of other deposits.
func (c *Cache) Prepare(deposits []*Deposit) { c.writeOut(deposits) }

func (c *Cache) writeOut(deposits []*Deposit) *commit {
	w := &commit{c: c, deposits: deposits, errs: make([]error, len(deposits))}
	w.each((*Deposit).writeResult)
	w.all(w.barrier())
	for i, e := range deposits {
		e.prepared, e.failed = true, w.errs[i]
	}
	return w
}

// Commit stores deposits: first all bytes are made durable, then the objects' names, then the results'. The error at i is
// that of deposits[i], which then left no result; the others are not touched by it. All are stored or given up
// afterwards.
func (c *Cache) Commit(ctx context.Context, deposits []*Deposit) []error {
	w := c.writeOut(deposits)
	defer func() {
		for _, e := range deposits {
			e.Discard()
		}
	}()
	objects := &Batch{c: c, folders: map[string]bool{}}
	w.each(func(e *Deposit) error { return e.nameObjects(ctx, objects) })
	w.all(objects.syncFolders())
	results := &Batch{c: c, folders: map[string]bool{}}
	w.each(func(e *Deposit) error { return e.nameResult(results) })
	w.all(results.syncFolders())
	w.each((*Deposit).remember)
	return w.errs
}

// Link makes links of files in the workspace that became no objects themselves, so that the same bytes are kept once:
// files that were copied, or whose content another deposit brought first. Call it after Commit, at a time when nobody
// reads them. What was replaced or changed in the workspace meanwhile is somebody's wish, and stays. On an error the
// files stand as they stood; the cache has their content.
func (c *Cache) Link(ctx context.Context, deposits []*Deposit) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return newCrew().each(ctx, len(deposits), 4, func(i int) error { return deposits[i].link(ctx) })
}

func (e *Deposit) link(ctx context.Context) error {
	for _, a := range e.adders {
		if !a.move {
			continue
		}
		err := a.eachFile(ctx, func(f *item) error {
			if err := a.relink(f); !errors.Is(err, ErrChanged) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("make links of %s in cache %s: %w", a.path, e.c.dir, err)
		}
	}
	return e.remember()
}

// remember tells the state what became of all files.
func (e *Deposit) remember() error {
	for _, a := range e.adders {
		a.remember()
	}
	return nil
}

// commit is one Commit: errs says which deposits failed.
type commit struct {
	c        *Cache
	deposits []*Deposit
	errs     []error
}

// each does a step for the deposits that did not fail before.
func (w *commit) each(step func(e *Deposit) error) {
	for i, e := range w.deposits {
		if w.errs[i] == nil {
			w.errs[i] = step(e)
		}
	}
}

// all makes an error of a common step that of every deposit.
func (w *commit) all(err error) {
	if err != nil {
		w.each(func(*Deposit) error { return fmt.Errorf("store in cache %s: %w", w.c.dir, err) })
	}
}

// barrier makes the bytes of those deposits durable that are not yet: files that become objects, copies, trees, results.
func (w *commit) barrier() error {
	var paths []string
	var bytes int64
	for i, e := range w.deposits {
		if e.prepared || w.errs[i] != nil {
			continue
		}
		for _, a := range e.adders {
			for _, f := range a.files {
				if f.held != "" {
					paths, bytes = append(paths, f.held), bytes+f.size
				}
			}
			_, copied := a.batch.unnamed()
			paths, bytes = append(paths, a.batch.temps()...), bytes+copied
			a.batch.durable = true
		}
		if e.temp != "" {
			paths, bytes = append(paths, e.temp), bytes+int64(len(e.result))
		}
	}
	return w.c.disk.syncPaths(paths, bytes, w.c.in("tmp"))
}

// hold gives the files that will be objects their temporary names.
func (a *adder) hold(ctx context.Context) error {
	return a.crew.each(ctx, len(a.files), 64, func(i int) error {
		f := a.files[i]
		if f.first != nil || f.how != adopt {
			return nil
		}
		held, err := a.c.linkTemp(f.path())
		if cannotLink(err) {
			f.how = copied
			f.thaw()
			return a.batch.file(f.id, f.path(), f.size)
		}
		f.held = held
		return err
	})
}

// linkTemp gives a file a second name in tmp/ that no other process has.
func (c *Cache) linkTemp(path string) (string, error) {
	for {
		temp := c.in("tmp", fmt.Sprintf("l-%d-%d", os.Getpid(), c.temps.Add(1)))
		err := c.disk.link(path, temp)
		if !errors.Is(err, fs.ErrExist) { // of a process that was killed
			return temp, err
		}
	}
}

// nameObjects gives the deposit's objects their names, and notes in folders where.
func (e *Deposit) nameObjects(ctx context.Context, folders *Batch) error {
	for _, a := range e.adders {
		err := a.crew.each(ctx, len(a.files), 64, func(i int) error { return a.nameHeld(a.files[i]) })
		if err == nil {
			err = a.batch.nameAll(ctx)
		}
		for dir := range a.batch.folders { // of a failed one as well: others may rest on what it named
			folders.folders[dir] = true
		}
		if err != nil {
			return fmt.Errorf("store %s in cache %s: %w", a.path, e.c.dir, err)
		}
	}
	return nil
}

// nameHeld makes an object of a file with a temporary name. An object that is there already stays: other workspaces
// have links of it.
func (a *adder) nameHeld(f *item) error {
	if f.held == "" {
		return nil
	}
	c, to := a.c, a.c.Path(f.id)
	now, err := lstat(f.held)
	if err != nil {
		return err
	}
	if now.ino != f.ino || now.size != f.size || now.mtime != f.mtime {
		return fmt.Errorf("%s: %w", f.path(), ErrChanged)
	}
	there, err := a.nameObject(f, to, func() error { return c.disk.link(f.held, to) })
	if there { // Link replaces it
		if c.disk.remove(f.held) == nil {
			f.held = ""
		}
		f.thaw()
		return nil
	}
	if err != nil {
		return err
	}
	f.frozen = false // an object now, whatever comes
	if c.disk.remove(f.held) == nil {
		f.held = "" // else Discard tries once more, and gc after it
	}
	if now, err = lstat(to); err != nil {
		return err
	}
	f.entry = f.asLinked(now)
	c.records.note(f.id, now, f.settled)
	return nil
}

func (e *Deposit) nameResult(folders *Batch) error {
	if e.temp == "" {
		return nil
	}
	to := e.c.resultPath(e.key)
	if err := folders.named(to, func() error { return e.c.disk.rename(e.temp, to) }); err != nil {
		return fmt.Errorf("record result %s: %w", e.key, err)
	}
	e.temp = ""
	return nil
}

// writeTemp writes a new file in dir, which is not durable yet.
func (d disk) writeTemp(dir string, data []byte, mode fs.FileMode) (path string, err error) {
	f, err := d.temp(dir)
	if err != nil {
		return "", err
	}
	_, err = d.write(f, data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return filepath.Clean(f.Name()), nil
}
