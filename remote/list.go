package remote

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lpipe/cache"
)

// Listing is what a bucket holds.
type Listing struct {
	Results []Stored // newest first
	Objects int
	Packs   int
	Bytes   int64 // of all objects
}

// Stored is a result in a bucket.
type Stored struct {
	Key  cache.Key
	Size int64
	Time time.Time
}

// List tells what the bucket holds. Who made a result, and what, is in Result.
func (r *Remote) List(ctx context.Context) (Listing, error) {
	x, err := r.load(ctx)
	if err != nil {
		return Listing{}, r.wrap("list", err)
	}
	items, err := r.list(ctx, "results/")
	if err != nil {
		return Listing{}, r.wrap("list", err)
	}
	l := Listing{Objects: x.places.Len()}
	packs := map[uint32]bool{}
	for _, at := range x.places.All() {
		l.Bytes += at.size
		if at.pack > 0 {
			packs[at.pack] = true
		}
	}
	l.Packs = len(packs)
	for _, item := range items {
		if id, ok := parseName("results", item.Name); ok {
			l.Results = append(l.Results, Stored{cache.Key(id), item.Size, item.Time})
		}
	}
	slices.SortFunc(l.Results, func(a, b Stored) int {
		return cmp.Or(b.Time.Compare(a.Time), compareIDs(cache.ID(a.Key), cache.ID(b.Key)))
	})
	return l, nil
}

// Described is a stored result with what it says.
type Described struct {
	Stored
	Result  *cache.Result // nil if it cannot be read
	Problem error         // cache.ErrDamaged, or cache.ErrUntrusted; it is not used then
}

// Describe reads results, many at once. What was removed meanwhile is left out.
func (r *Remote) Describe(ctx context.Context, list []Stored) ([]Described, error) {
	all := make([]Described, len(list))
	err := r.each(ctx, len(list), func(ctx context.Context, i int) error {
		result, err := r.anyResult(ctx, list[i].Key)
		all[i] = Described{Stored: list[i], Result: result}
		switch {
		case err == nil && len(r.o.Trust) > 0:
			all[i].Problem = trusted(list[i].Key, result, r.o.Trust)
		case errors.Is(err, cache.ErrDamaged):
			all[i].Problem = err
		case err != nil && !errors.Is(err, cache.ErrNotFound):
			return err
		}
		return nil
	})
	if err != nil {
		return nil, r.wrap("list", err)
	}
	return slices.DeleteFunc(all, func(d Described) bool { return d.Result == nil && d.Problem == nil }), nil
}

// Seen are the results that the bucket had when its indexes were last read. It makes no request: what it says may have
// changed since, and nothing is said of a bucket that was never asked.
func (r *Remote) Seen() map[cache.Key]bool {
	seen := map[cache.Key]bool{}
	names, err := os.ReadDir(r.o.Indexes)
	if err != nil {
		return seen
	}
	for _, name := range names {
		id, err := cache.ParseID(name.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(r.o.Indexes, name.Name()))
		if err != nil || cache.Sum(data) != id {
			continue
		}
		if c, err := decodeIndex(data); err == nil {
			for _, k := range c.results {
				seen[k] = true
			}
		}
	}
	return seen
}
