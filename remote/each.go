package remote

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"lpipe/cache"
)

// each calls f for 0..n-1, as many at once as Options.Jobs; the first error ends it.
func (r *Remote) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Jobs)
	for i := range n {
		if inner.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			return f(inner, i)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// merged is all that the indexes say, once and in order, and the indexes.
func (x *index) merged() (*contents, []cache.ID) {
	all, seen := &contents{}, map[cache.ID]bool{}
	ids := slices.SortedFunc(maps.Keys(x.files), compareIDs)
	for _, id := range ids {
		for _, p := range x.files[id].packs {
			if !seen[p.id] {
				seen[p.id] = true
				all.packs = append(all.packs, p)
			}
		}
		for _, o := range x.files[id].objects {
			if !seen[o.ID] {
				seen[o.ID] = true
				all.objects = append(all.objects, o)
			}
		}
	}
	for k := range x.results {
		all.results = append(all.results, k)
	}
	all.sort()
	return all, ids
}

// sort makes equal contents equal bytes.
func (c *contents) sort() {
	slices.SortFunc(c.packs, func(a, b pack) int { return compareIDs(a.id, b.id) })
	slices.SortFunc(c.objects, func(a, b cache.Object) int { return compareIDs(a.ID, b.ID) })
	slices.SortFunc(c.results, func(a, b cache.Key) int { return bytes.Compare(a[:], b[:]) })
}

func compareIDs(a, b cache.ID) int { return cmp.Compare(string(a[:]), string(b[:])) }
