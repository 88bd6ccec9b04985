package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options says where a cache is and how it places content.
type Options struct {
	Dir    string                                   // the cache's folder; made where it is missing
	Link   []string                                 // "reflink", "hardlink", "symlink", "copy": the first that works. Default: all, in this order
	Ignore func(folder, name string, dir bool) bool // names that do not count as content of a folder; its path is absolute
	Wait   func(holder string)                      // called when another process (a gc) holds the cache; may be nil
	Now    func() time.Time                         // default time.Now
	Repair bool                                     // mend the file that holds the version, if one bit of it is wrong
}

// Cache is one folder of objects and results, shared by goroutines, processes, projects and users:
//
//	format          the version
//	objects/ab/…    files' bytes by ID, read-only, 256 folders by the first byte
//	trees/ab/…      encoded trees by ID
//	results/ab/…    results by key
//	stat            what each object's file was when last known to be good
//	tmp/            what is being written; all garbage when nobody holds the lock
//	damaged/        objects that were not what their names said
//	projects/       workspaces that use this cache
//	lock            held shared while something is written, exclusive by GC
type Cache struct {
	dir     string
	dev     uint64 // device of dir
	links   []string
	ignore  func(folder, name string, dir bool) bool
	wait    func(holder string)
	now     func() time.Time
	disk    disk
	hashers hashers
	records records

	temps atomic.Uint64 // numbers names in tmp/

	cloneOnce sync.Once
	noClone   bool // the file system refused a reflink

	mu   sync.Mutex // guards held, uses
	held *Lock      // shared, while uses > 0
	uses int
}

const formatText = "lpipe cache 1\n"

// Open opens a cache and makes its folders where they are missing.
func Open(ctx context.Context, o Options) (*Cache, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil || o.Dir == "" {
		return nil, fmt.Errorf("open cache %q: %w", o.Dir, cmpErr(err, errors.New("no folder given")))
	}
	c := &Cache{dir: dir, links: o.Link, ignore: o.Ignore, wait: o.Wait, now: o.Now}
	if len(c.links) == 0 {
		c.links = []string{"reflink", "hardlink", "symlink", "copy"}
	}
	for _, l := range c.links {
		if !slices.Contains([]string{"reflink", "hardlink", "symlink", "copy"}, l) {
			return nil, fmt.Errorf("open cache %s: unknown link type %q (reflink, hardlink, symlink, copy)", dir, l)
		}
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.records.path = c.in("stat")
	c.disk.known = &durable{}
	if err := c.prepare(ctx, o.Repair); err != nil {
		return nil, fmt.Errorf("open cache %s: %w", dir, err)
	}
	return c, ctx.Err()
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// prepare makes the folders once; a cache that stands needs two reads and no write.
func (c *Cache) prepare(ctx context.Context, repair bool) error {
	text, err := os.ReadFile(c.in("format"))
	switch {
	case err == nil && string(text) != formatText && wrongBit(text):
		if !repair {
			return damaged("%s holds %q where %q must be; lpipe fsck --repair", c.in("format"), text, formatText)
		}
		if err := c.writeFormat(ctx); err != nil {
			return err
		}
	case err == nil && string(text) != formatText:
		return fmt.Errorf("it has format %q, this lpipe reads %q: use the lpipe that made it, or another folder",
			strings.TrimSpace(string(text)), strings.TrimSpace(formatText))
	case errors.Is(err, fs.ErrNotExist):
		if err := c.folders(); err != nil {
			return err
		}
		if err := c.writeFormat(ctx); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	st, err := lstat(c.in("objects"))
	c.dev = st.dev
	return err
}

// writeFormat says that the folders are there. Another process may have done so and begun a gc, which would take the file that this
// one is writing for garbage.
func (c *Cache) writeFormat(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return c.disk.writeFile(c.in("tmp"), c.in("format"), []byte(formatText), 0o644)
}

// folders makes the cache's folders, durably: the format's name says that they are there.
func (c *Cache) folders() error {
	if err := c.disk.mkdirDurable(c.dir); err != nil {
		return err
	}
	for _, sub := range []string{"objects", "trees", "results", "tmp", "projects"} {
		if err := c.disk.mkdirAll(c.in(sub)); err != nil {
			return err
		}
	}
	return c.disk.syncPath(c.dir)
}

// wrongBit tells whether text is this version's format but for one bit outside of the version, which another lpipe may
// have written as it is.
func wrongBit(text []byte) bool {
	_, ok := Mend(text, func(b []byte) bool { return string(b) == formatText })
	at := len(formatText) - 2
	return ok && text[at] == formatText[at]
}

// Close writes down what was learned about the objects.
func (c *Cache) Close() error {
	c.records.flush()
	return nil
}

// Dir is the cache's folder, absolute.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) in(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// Path is the file that holds a file's bytes. Nobody may write to it.
func (c *Cache) Path(id ID) string { return c.hashPath("objects", id) }

// ObjectPath is the object's file, of a tree too.
func (c *Cache) ObjectPath(o Object) string {
	if o.Tree {
		return c.treePath(o.ID)
	}
	return c.Path(o.ID)
}

func (c *Cache) treePath(id ID) string { return c.hashPath("trees", id) }

func (c *Cache) hashPath(kind string, hash [32]byte) string {
	h := ID(hash).String()
	return c.dir + "/" + kind + "/" + h[:2] + "/" + h[2:]
}

// begin holds the cache against a gc of any process until end is called.
func (c *Cache) begin(ctx context.Context) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses == 0 {
		if c.held, err = LockFile(ctx, c.in("lock"), false, c.wait); err != nil {
			return nil, fmt.Errorf("use cache %s: %w", c.dir, err)
		}
	}
	c.uses++
	return c.end, nil
}

func (c *Cache) end() {
	c.records.flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses--; c.uses == 0 {
		c.held.Release()
	}
}

// crew lets a recursion use a bounded number of goroutines: what finds no free one runs where it is called.
type crew struct {
	once sync.Once // many crews look at one file, and run nothing
	free chan struct{}
	mu   sync.Mutex
	err  error // the first
}

func newCrew() *crew { return &crew{} }

func (w *crew) run(wg *sync.WaitGroup, f func() error) {
	do := func() {
		if err := f(); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.err == nil {
				w.err = err
			}
		}
	}
	w.once.Do(func() { w.free = make(chan struct{}, 2*runtime.GOMAXPROCS(0)+2) })
	select {
	case w.free <- struct{}{}:
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-w.free }()
			do()
		}()
	default:
		do()
	}
}

// failed is the first error: those who go on see it and stop.
func (w *crew) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// each calls f for 0..n-1, in pieces, and returns the first error.
func (w *crew) each(ctx context.Context, n, piece int, f func(i int) error) error {
	return w.pieces(ctx, n, piece, func(from, to int) error {
		for i := from; i < to; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// pieces calls f for the pieces of 0..n-1 and returns the first error.
func (w *crew) pieces(ctx context.Context, n, piece int, f func(from, to int) error) error {
	var wg sync.WaitGroup
	for at := 0; at < n && w.failed() == nil; at += piece {
		w.run(&wg, func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(at, min(at+piece, n))
		})
	}
	wg.Wait()
	return w.failed()
}
