package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FsckOptions says how thoroughly Fsck looks.
type FsckOptions struct {
	Full     bool // hash every object; without it only those whose stat differs from their record
	Repair   bool // set damaged objects aside, remove damaged results, restore read-only modes
	Progress func(objects int, bytes int64)
}

// Problem is one finding of Fsck.
type Problem struct {
	Path     string // the file
	What     string // "object", "tree", "result": its content is not what its name says; "mode", "name", "project"
	Err      error
	Repaired bool
}

// FsckReport is what Fsck saw.
type FsckReport struct {
	Objects, Trees, Results int
	Incomplete              int   // results whose content is not all here: a pull or a run brings it back
	Bytes                   int64 // hashed
	Problems                []Problem
}

// Fsck checks content against names. Problems are in the report; the error is for what kept it from looking.
func (c *Cache) Fsck(ctx context.Context, o FsckOptions) (FsckReport, error) {
	release, err := c.hold(ctx, o.Repair)
	if err != nil {
		return FsckReport{}, err
	}
	defer c.records.flush()
	defer release()
	f := checker{c: c, o: o, modeless: sync.OnceValue(c.modeless)}
	for _, step := range []func(context.Context) error{f.objects, f.trees, f.results, f.projects} {
		if err := step(ctx); err != nil {
			return f.report, fmt.Errorf("check cache %s: %w", c.dir, err)
		}
	}
	f.report.Bytes = f.bytes.Load()
	return f.report, nil
}

type checker struct {
	c        *Cache
	o        FsckOptions
	modeless func() bool
	bytes    atomic.Int64
	done     atomic.Int64

	mu     sync.Mutex
	report FsckReport
}

// modeless tells of a file system that keeps no modes, as exFAT and NTFS often are mounted: that objects are writable there
// is nobody's doing, and cannot be mended.
func (c *Cache) modeless() bool {
	path, err := c.disk.writeTemp(c.in("tmp"), nil, 0o444)
	if err != nil {
		return false
	}
	defer os.Remove(path)
	now, err := lstat(path)
	return err == nil && now.mode&0o222 != 0
}

// problem notes a finding and, asked to repair, what became of it.
func (f *checker) problem(p Problem, repair func() error) {
	if f.o.Repair {
		if err := repair(); err != nil {
			p.Err = errors.Join(p.Err, err)
		} else {
			p.Repaired = true
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report.Problems = append(f.report.Problems, p)
}

// named lists the files of a kind whose names are hashes in their place; others are problems.
func (f *checker) named(kind string) ([]hashFile, error) {
	var list []hashFile
	for one, err := range f.c.hashFiles(kind) {
		if err != nil {
			return nil, err
		}
		if one.named {
			list = append(list, one)
			continue
		}
		p := Problem{Path: one.path, What: "name", Err: errors.New("a file that does not belong here")}
		f.problem(p, func() error { return f.aside(one.path, ID{}) })
	}
	return list, nil
}

func (f *checker) aside(path string, id ID) error {
	f.c.setAside(path, id)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it could not be moved to %s", f.c.in("damaged"))
	}
	return nil
}

func (f *checker) objects(ctx context.Context) error {
	list, err := f.named("objects")
	if err != nil {
		return err
	}
	f.report.Objects = len(list)
	return newCrew().each(ctx, len(list), 8, func(i int) error { return f.object(ctx, list[i]) })
}

func (f *checker) object(ctx context.Context, one hashFile) error {
	id := ID(one.hash)
	now, err := lstat(one.path)
	if err != nil {
		return err
	}
	switch {
	case !now.regular():
		f.problem(Problem{Path: one.path, What: "object", Err: damaged("it is not a file")}, func() error { return f.aside(one.path, id) })
		return nil
	case f.o.Full || !f.c.records.intact(id, now):
		got, s, at, err := f.c.hashers.file(ctx, unix.AT_FDCWD, "", one.path, nil, false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.bytes.Add(s.size)
		if err == nil && got != id {
			err = damaged("its bytes have hash %s", got)
		}
		if err != nil {
			f.problem(Problem{Path: one.path, What: "object", Err: err}, func() error { return f.aside(one.path, id) })
			return nil
		}
		f.c.records.note(id, s, s.settled(at, true))
	}
	if now.mode&0o222 != 0 && !f.modeless() {
		p := Problem{Path: one.path, What: "mode", Err: errors.New("it is writable")}
		f.problem(p, func() error {
			if err := f.c.disk.chmod(one.path, fs.FileMode(now.mode&0o555)); err != nil {
				return err
			}
			s, err := lstat(one.path)
			if err == nil {
				f.c.records.note(id, s, s.settled(f.c.now(), true))
			}
			return err
		})
	}
	if n := f.done.Add(1); f.o.Progress != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.o.Progress(int(n), f.bytes.Load())
	}
	return nil
}

func (f *checker) trees(ctx context.Context) error {
	list, err := f.named("trees")
	if err != nil {
		return err
	}
	f.report.Trees = len(list)
	for _, one := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := os.ReadFile(one.path)
		f.bytes.Add(int64(len(data)))
		if err == nil && Sum(data) != one.hash {
			err = damaged("its bytes have hash %s", Sum(data))
		}
		if err == nil {
			_, err = DecodeTree(data)
		}
		if err != nil {
			f.problem(Problem{Path: one.path, What: "tree", Err: err}, func() error { return f.aside(one.path, one.hash) })
		}
	}
	return nil
}

func (f *checker) results(ctx context.Context) error {
	list, err := f.named("results")
	if err != nil {
		return err
	}
	f.report.Results = len(list)
	for _, one := range list {
		r, err := f.c.Result(one.hash)
		if err != nil {
			f.problem(Problem{Path: one.path, What: "result", Err: err}, func() error { return f.c.disk.remove(one.path) })
			continue
		}
		whole, err := f.complete(ctx, r)
		if err != nil {
			return err
		}
		if !whole {
			f.report.Incomplete++
		}
	}
	return nil
}

// complete tells whether all that a result needs is here, by name.
func (f *checker) complete(ctx context.Context, r *Result) (bool, error) {
	for _, content := range r.Contents() {
		for o, err := range f.c.walk(ctx, content, false) {
			if err == nil && !o.Tree {
				_, err = os.Lstat(f.c.Path(o.ID))
			}
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err != nil {
				return false, nil
			}
		}
	}
	return true, nil
}
