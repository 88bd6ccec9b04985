package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sync"

	"github.com/zeebo/blake3"

	"lpipe/cache"
)

// FsckOptions says how thoroughly Fsck looks.
type FsckOptions struct {
	// Sample is the share of packs and large objects that are read and hashed, 0 to 1. Which ones follows from their names
	// and the day: at 0.1, ten days one after the other look at everything.
	Sample float64
	Day    int
	Repair bool // take promises that are not kept out of the index, so that the next push sends the content again
	// Progress is told how many packs and objects were read.
	Progress func(done, total int)
}

// Problem is one finding of Fsck.
type Problem struct {
	Name     string // in the bucket
	Err      error
	Repaired bool
}

// FsckReport is what Fsck saw.
type FsckReport struct {
	Packs, Objects, Results int // objects: in packs and by themselves
	Read                    int // packs and large objects that were hashed
	Bytes                   int64
	Orphans                 int // that no index names: left by interrupted pushes, removed by gc
	Problems                []Problem
}

// Fsck compares what the indexes promise with what is there.
func (r *Remote) Fsck(ctx context.Context, o FsckOptions) (FsckReport, error) {
	f := checker{r: r, o: o, bad: map[string]bool{}, found: map[cache.Key]*cache.Result{}}
	if err := f.run(ctx); err != nil {
		return f.report, r.wrap("check", err)
	}
	return f.report, nil
}

type checker struct {
	r *Remote
	o FsckOptions

	mu     sync.Mutex
	report FsckReport
	bad    map[string]bool
	found  map[cache.Key]*cache.Result
	lost   bool // an index is damaged, and no copy of it is here
}

func (f *checker) run(ctx context.Context) error {
	if f.o.Repair {
		release, err := f.r.lock(ctx, "gc")
		if err != nil {
			return err
		}
		defer release()
	}
	x, err := f.load(ctx)
	if err != nil {
		return err
	}
	all, _ := x.merged()
	if f.lost {
		if err := f.rebuild(ctx, all); err != nil {
			return err
		}
	}
	want := map[string]int64{}
	for _, p := range all.packs {
		want[packName(p.id)] = p.size
		f.report.Objects += len(p.entries)
	}
	for _, o := range all.objects {
		want[objectName(o.ID)] = o.Size
	}
	f.report.Packs = len(all.packs)
	f.report.Objects += len(all.objects)
	if err := f.present(ctx, want); err != nil {
		return err
	}
	if err := f.read(ctx, want); err != nil {
		return err
	}
	if err := f.results(ctx, all); err != nil {
		return err
	}
	switch {
	case len(f.bad) == 0:
		return nil
	case f.o.Repair:
		return f.repair(ctx, x, all)
	}
	return f.settle(ctx)
}

// settle takes back what was not found where no index promises it any more: a gc worked at the same time.
func (f *checker) settle(ctx context.Context) error {
	x, err := f.r.load(ctx)
	if errors.Is(err, cache.ErrDamaged) {
		return nil // told already
	}
	if err != nil {
		return err
	}
	promised := map[string]bool{}
	all, _ := x.merged()
	for _, p := range all.packs {
		promised[packName(p.id)] = true
	}
	for _, o := range all.objects {
		promised[objectName(o.ID)] = true
	}
	for _, k := range all.results {
		promised[resultName(k)] = true
	}
	f.report.Problems = slices.DeleteFunc(f.report.Problems, func(p Problem) bool { return errors.Is(p.Err, errGone) && !promised[p.Name] })
	return nil
}

// errGone is what a name has that an index promises and that is not there.
var errGone = errors.New("it is not there")

func (f *checker) problem(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad[name] = true
	f.report.Problems = append(f.report.Problems, Problem{Name: name, Err: err, Repaired: f.o.Repair})
}

// present looks for all that is promised, by name and size.
func (f *checker) present(ctx context.Context, want map[string]int64) error {
	there := map[string]int64{}
	for _, prefix := range []string{"packs/", "objects/"} {
		items, err := f.r.list(ctx, prefix)
		if err != nil {
			return err
		}
		for _, item := range items {
			there[item.Name] = item.Size
			if _, ok := want[item.Name]; !ok {
				f.report.Orphans++
			}
		}
	}
	var suspects []string
	for name, size := range want {
		if got, ok := there[name]; !ok || got != size {
			suspects = append(suspects, name)
		}
	}
	slices.Sort(suspects)
	// A listing has no checksum: ask for the thing itself before calling it lost.
	return f.r.each(ctx, len(suspects), func(ctx context.Context, i int) error {
		return f.check(ctx, suspects[i], want[suspects[i]])
	})
}

// check hashes a pack or an object.
func (f *checker) check(ctx context.Context, name string, size int64) error {
	id, _ := idOf(name)
	for try := 0; ; try++ {
		got, err := f.hash(ctx, name, size)
		var e *Error
		switch {
		case err == nil && got == id:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			f.problem(name, errGone)
			return nil
		case err == nil && try < 2:
			continue // wrong bytes may be the network's
		case err == nil:
			err = fmt.Errorf("%w: its bytes have hash %s", cache.ErrDamaged, got)
		case !errors.As(err, &e) || !e.short:
			return err
		}
		f.problem(name, err)
		return nil
	}
}

// read hashes a sample.
func (f *checker) read(ctx context.Context, want map[string]int64) error {
	var names []string
	for name := range want {
		id, _ := idOf(name)
		if !f.bad[name] && f.o.samples(id) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return f.r.each(ctx, len(names), func(ctx context.Context, i int) error {
		name := names[i]
		if err := f.check(ctx, name, want[name]); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.report.Read++
		f.report.Bytes += want[name]
		if f.o.Progress != nil {
			f.o.Progress(f.report.Read, len(names))
		}
		return nil
	})
}

// samples tells whether a hash lies in the day's part of all hashes; each day's begins where that of the day before ends.
func (o FsckOptions) samples(id cache.ID) bool {
	at := float64(binary.BigEndian.Uint16(id[:])) / (1 << 16)
	_, from := math.Modf(at - float64(o.Day)*o.Sample)
	if from < 0 {
		from++
	}
	return from < o.Sample
}

func idOf(name string) (cache.ID, bool) {
	if id, ok := parseName("packs", name); ok {
		return id, true
	}
	return parseName("objects", name)
}

func (f *checker) hash(ctx context.Context, name string, size int64) (id cache.ID, err error) {
	h := blake3.New()
	for at := int64(0); at < size; at += partSize {
		n := min(partSize, size-at)
		if err := f.r.bytes.Acquire(ctx, min(n, f.r.o.InFlight)); err != nil {
			return id, err
		}
		data, err := f.r.read(ctx, name, at, n, nil)
		h.Write(data)
		f.r.bytes.Release(min(n, f.r.o.InFlight))
		if err != nil {
			return id, err
		}
	}
	h.Sum(id[:0])
	return id, nil
}

// results reads all results: they are small.
func (f *checker) results(ctx context.Context, all *contents) error {
	items, err := f.r.list(ctx, "results/")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, item := range items {
		there[item.Name] = true
	}
	f.report.Results = len(items)
	var keys []cache.Key
	for _, k := range all.results {
		if !there[resultName(k)] {
			keys = append(keys, k)
		}
	}
	promised := len(keys)
	for _, item := range items {
		if id, ok := parseName("results", item.Name); ok {
			keys = append(keys, cache.Key(id))
		}
	}
	return f.r.each(ctx, len(keys), func(ctx context.Context, i int) error {
		result, err := f.r.Result(ctx, keys[i])
		switch {
		case err == nil:
			f.mu.Lock()
			f.found[keys[i]] = result
			f.mu.Unlock()
		case errors.Is(err, cache.ErrDamaged), errors.Is(err, cache.ErrUntrusted):
			f.problem(resultName(keys[i]), err)
		case errors.Is(err, cache.ErrNotFound) && i < promised:
			f.problem(resultName(keys[i]), errGone)
		case err != nil && !errors.Is(err, cache.ErrNotFound):
			return err
		}
		return nil
	})
}
