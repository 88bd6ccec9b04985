package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// GCRoots is what must stay.
type GCRoots struct {
	Contents []Content
	Keys     []Key // results, with their outputs and logs
}

// GCOptions says what may go. The zero value is a preview of all that no root needs.
type GCOptions struct {
	Delete    bool          // without it nothing is removed
	KeepLast  int           // keep the newest results of each stage, this many
	MaxSize   int64         // remove unneeded results, oldest first, only until the cache is this small; 0: all of them
	OlderThan time.Duration // remove only what is older
	Grace     time.Duration // never remove what is younger; 0: one hour, below 0: none
	Now       time.Time     // zero: the clock
	// Roots gives more of what must stay. It is asked when nobody else works on the cache any more: what was put on
	// record while GC waited counts. Nil: there is no more.
	Roots func() (GCRoots, error)
}

// GCReport is what GC removed, or would remove.
type GCReport struct {
	Objects, Results int   // removed
	Temp             int   // removed leftovers of interrupted commands
	Bytes            int64 // freed: a file that stands in a workspace too frees nothing
	KeptObjects      int
	KeptResults      int
	KeptBytes        int64
}

const (
	// defaultGrace is how long an object may wait for the lock or result that will need it.
	defaultGrace = time.Hour
	// keepDamaged is how long set-aside objects stay for somebody to look at.
	keepDamaged = 30 * 24 * time.Hour
)

// GC removes what no root needs: results first, then the objects that no root and no remaining result reaches.
// With Delete it waits until no other process works on the cache, so that nothing is taken from under one that
// is adding it; what was added and is not recorded yet is protected by the grace period.
func (c *Cache) GC(ctx context.Context, roots GCRoots, o GCOptions) (GCReport, error) {
	release, err := c.hold(ctx, o.Delete)
	if err != nil {
		return GCReport{}, err
	}
	defer release()
	if o.Roots != nil {
		more, err := o.Roots()
		if err != nil {
			return GCReport{}, err
		}
		roots.Contents, roots.Keys = slices.Concat(roots.Contents, more.Contents), slices.Concat(roots.Keys, more.Keys)
	}
	if o.Now.IsZero() {
		o.Now = c.now()
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	g := collector{c: c, o: o, refs: map[ID]int{}, minAge: max(o.Grace, o.OlderThan)}
	if err := g.run(ctx, roots); err != nil {
		return g.report, fmt.Errorf("collect garbage in cache %s: %w", c.dir, err)
	}
	return g.report, nil
}

// hold takes the cache's lock for as long as a whole operation.
func (c *Cache) hold(ctx context.Context, exclusive bool) (func(), error) {
	if !exclusive {
		return c.begin(ctx)
	}
	l, err := LockFile(ctx, c.in("lock"), true, c.wait)
	if err != nil {
		return nil, fmt.Errorf("use cache %s alone: %w", c.dir, err)
	}
	return func() { l.Release() }, nil
}

type collector struct {
	c       *Cache
	o       GCOptions
	minAge  time.Duration // what is younger stays
	refs    map[ID]int    // how many roots and results reach an object
	objects []found
	report  GCReport
}

// found is a file of the cache.
type found struct {
	path  string
	id    ID
	tree  bool
	size  int64
	links uint32
	age   time.Duration
}

// old is a result that may go.
type old struct {
	found
	contents []Content
	stage    string
	started  time.Time
}

func (g *collector) run(ctx context.Context, roots GCRoots) error {
	unneeded, err := g.mark(ctx, roots)
	if err != nil {
		return err
	}
	if err := g.list(); err != nil {
		return err
	}
	if err := g.dropResults(ctx, unneeded); err != nil {
		return err
	}
	if err := g.sweep(ctx); err != nil {
		return err
	}
	if err := g.sweepTemp(); err != nil {
		return err
	}
	if g.o.Delete {
		return g.c.records.compact(func(id ID) bool { _, err := os.Lstat(g.c.Path(id)); return err == nil })
	}
	return nil
}

// mark counts what roots and results reach, and returns the results that may go, oldest first.
func (g *collector) mark(ctx context.Context, roots GCRoots) ([]old, error) {
	for _, r := range roots.Contents {
		if err := g.count(ctx, r); errors.Is(err, ErrDamaged) {
			return nil, fmt.Errorf("what must stay is not known (lpipe fsck --repair, then pull): %w", err)
		} else if err != nil {
			return nil, err
		}
	}
	needed := map[Key]bool{}
	for _, k := range roots.Keys {
		needed[k] = true
	}
	var candidates []old
	for f, err := range g.c.hashFiles("results") {
		if err != nil {
			return nil, err
		}
		if !f.named {
			continue
		}
		x, err := g.result(ctx, f)
		if err != nil {
			return nil, err
		}
		if needed[Key(f.hash)] || x.age < g.minAge {
			g.keepResult(x.found)
			continue
		}
		candidates = append(candidates, x)
	}
	return g.exceptLast(candidates), nil
}

// result reads one and counts what it reaches. One that cannot be trusted reaches nothing.
func (g *collector) result(ctx context.Context, f hashFile) (old, error) {
	one, err := g.look(f, false)
	if err != nil {
		return old{}, err
	}
	x := old{found: one}
	r, err := g.c.Result(Key(f.hash))
	if errors.Is(err, ErrDamaged) {
		return x, nil
	}
	if err != nil {
		return x, err
	}
	x.contents, x.stage, x.started = r.Contents(), r.Record.Kind+" "+r.Record.Stage, r.Record.Started
	for _, content := range x.contents {
		if err := g.count(ctx, content); err != nil && !errors.Is(err, ErrDamaged) {
			return x, err
		}
	}
	return x, nil
}

// exceptLast keeps the newest of each stage and returns the rest, oldest first.
func (g *collector) exceptLast(candidates []old) []old {
	slices.SortFunc(candidates, func(a, b old) int {
		return cmp.Or(b.started.Compare(a.started), cmp.Compare(a.path, b.path))
	})
	last := map[string]int{}
	var rest []old
	for _, x := range candidates {
		if last[x.stage]++; x.stage != "" && last[x.stage] <= g.o.KeepLast {
			g.keepResult(x.found)
			continue
		}
		rest = append(rest, x)
	}
	slices.Reverse(rest)
	return rest
}

func (g *collector) keepResult(f found) {
	g.report.KeptResults++
	g.report.KeptBytes += f.size
}

// count adds to the references of all that a content reaches. What is not in the cache needs no protection.
// ErrDamaged says that a tree of it could not be read; the rest is counted.
func (g *collector) count(ctx context.Context, content Content) error {
	var bad error
	for o, err := range g.c.walk(ctx, content, false) {
		switch {
		case errors.Is(err, ErrDamaged):
			bad = err
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		g.refs[o.ID]++
	}
	return bad
}

// look stats a file of the cache. Its age is that of its last use.
func (g *collector) look(f hashFile, tree bool) (found, error) {
	s, err := lstat(f.path)
	if err != nil {
		return found{}, err
	}
	last := max(s.ctime, g.c.records.lastUse(f.hash))
	return found{f.path, f.hash, tree, s.size, s.nlink, g.o.Now.Sub(time.Unix(0, last))}, nil
}

func (g *collector) list() error {
	for _, kind := range []string{"trees", "objects"} { // trees go first: no tree without what it names
		for f, err := range g.c.hashFiles(kind) {
			if err != nil {
				return err
			}
			if !f.named {
				continue // not ours: fsck reports it
			}
			one, err := g.look(f, kind == "trees")
			if err != nil {
				return err
			}
			g.objects = append(g.objects, one)
		}
	}
	return nil
}

func (g *collector) stays(f found) bool { return g.refs[f.id] > 0 || f.age < g.minAge }

// dropResults gives up unneeded results: all, or the oldest until the rest fits.
func (g *collector) dropResults(ctx context.Context, unneeded []old) error {
	total, sizes := g.report.KeptBytes, map[ID]int64{}
	for _, f := range g.objects {
		sizes[f.id] += f.size
		if g.stays(f) {
			total += f.size
		}
	}
	for _, r := range unneeded {
		total += r.size
	}
	for _, r := range unneeded {
		if g.o.MaxSize > 0 && total <= g.o.MaxSize {
			g.keepResult(r.found)
			continue
		}
		total -= r.size
		for _, content := range r.contents {
			for o, err := range g.c.walk(ctx, content, false) {
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
					return err
				}
				if g.refs[o.ID]--; g.refs[o.ID] == 0 {
					total -= sizes[o.ID]
				}
			}
		}
		g.report.Results++
		g.report.Bytes += r.size
		if g.o.Delete {
			if err := g.c.disk.remove(r.path); err != nil {
				return err
			}
		}
	}
	if g.o.Delete && g.report.Results > 0 {
		return g.c.disk.syncAll(g.c.dir) // no result may outlive its objects, in a crash either
	}
	return nil
}

func (g *collector) sweep(ctx context.Context) error {
	for _, f := range g.objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if g.stays(f) {
			g.report.KeptObjects++
			g.report.KeptBytes += f.size
			continue
		}
		if g.o.Delete {
			if err := g.c.disk.remove(f.path); err != nil {
				return err
			}
		}
		g.report.Objects++
		if f.links == 1 {
			g.report.Bytes += f.size
		}
	}
	return nil
}

// sweepTemp removes what interrupted commands left: with the lock held alone nothing in tmp has an owner.
func (g *collector) sweepTemp() error {
	for _, sub := range []string{"tmp", "damaged"} {
		names, err := os.ReadDir(g.c.in(sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, n := range names {
			path := filepath.Join(g.c.in(sub), n.Name())
			s, err := lstat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if sub == "damaged" && g.o.Now.Sub(time.Unix(0, s.ctime)) < keepDamaged {
				continue
			}
			if g.o.Delete {
				if err := g.c.disk.removeAll(path); err != nil {
					return err
				}
			}
			g.report.Temp++
			if s.nlink == 1 {
				g.report.Bytes += s.size
			}
		}
	}
	return nil
}
