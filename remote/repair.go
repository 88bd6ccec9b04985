package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"lpipe/cache"
)

// repair writes an index of all that is whole, and removes what is damaged. A tree in an index promises all below it, so
// one that lost something is named no more, and what stood beside it in its pack moves to a new one. All that can be kept
// is: what no index names is garbage, and perhaps nobody else has it.
func (f *checker) repair(ctx context.Context, x *index, all *contents) error {
	rest, move, err := f.whole(ctx, all)
	if err != nil {
		return err
	}
	made, err := f.r.repack(ctx, move)
	if err != nil {
		return err
	}
	rest.packs = append(rest.packs, made...)
	rest.sort()
	if _, err := f.r.replaceIndex(ctx, x, rest); err != nil {
		return err
	}
	var names []string
	for name := range f.bad {
		if !strings.HasPrefix(name, "index/") { // these are replaced by now, one perhaps under its own name
			names = append(names, name)
		}
	}
	return f.r.deleteAll(ctx, names)
}

// whole gives what an index may promise of all, packs, large objects and results of which nothing is lost, and what is to
// move out of packs that lost a part. To know it reads every tree, and every pack that it takes something from.
func (f *checker) whole(ctx context.Context, all *contents) (*contents, []moving, error) {
	w := wholeness{f: f, below: map[cache.ID][]cache.ID{}}
	for {
		known := len(f.bad)
		rest, move, err := w.divide(ctx, all)
		if err != nil {
			return nil, nil, err
		}
		from := map[cache.ID]bool{}
		for _, m := range move {
			from[m.pack] = true
		}
		torn := only(all.packs, func(p pack) bool { return from[p.id] })
		err = f.r.each(ctx, len(torn), func(ctx context.Context, i int) error {
			return f.check(ctx, packName(torn[i].id), torn[i].size)
		})
		if err != nil || len(f.bad) == known {
			return rest, move, err
		}
	}
}

// wholeness tells which objects are there with all that they name.
type wholeness struct {
	f *checker

	mu    sync.Mutex
	below map[cache.ID][]cache.ID // what the trees name that were read
	state map[cache.ID]bool       // objects that are there; of trees after whole: with all below them
	asked map[cache.ID]bool       // trees whose state is final
}

// divide keeps of all what is whole, and tells what moves.
func (w *wholeness) divide(ctx context.Context, all *contents) (*contents, []moving, error) {
	good := func(name string) bool { return !w.f.bad[name] }
	left := &contents{
		packs:   only(all.packs, func(p pack) bool { return good(packName(p.id)) }),
		objects: only(all.objects, func(o cache.Object) bool { return good(objectName(o.ID)) }),
	}
	if err := w.readTrees(ctx, left); err != nil {
		return nil, nil, err
	}
	w.state, w.asked = map[cache.ID]bool{}, map[cache.ID]bool{}
	for _, p := range left.packs {
		for _, o := range p.entries {
			w.state[o.ID] = true
		}
	}
	for _, o := range left.objects {
		w.state[o.ID] = true
	}
	rest := &contents{objects: only(left.objects, w.whole)}
	there := map[cache.ID]bool{}
	var move []moving
	for _, p := range left.packs {
		if sound := only(p.entries, w.whole); len(sound) == len(p.entries) {
			rest.packs = append(rest.packs, p)
			for _, o := range sound {
				there[o.ID] = true
			}
		}
	}
	for _, p := range left.packs {
		for _, o := range p.located() {
			if w.whole(o.Object) && !there[o.ID] {
				there[o.ID] = true
				move = append(move, moving{o, p.id})
			}
		}
	}
	for k, result := range w.f.found {
		lost := func(c cache.Content) bool { return !w.whole(cache.Object{ID: c.ID, Tree: c.Dir}) }
		if good(resultName(k)) && !slices.ContainsFunc(result.Contents(), lost) {
			rest.results = append(rest.results, k)
		}
	}
	return rest, move, nil
}

// whole tells whether an object is there, and of a tree all that it names.
func (w *wholeness) whole(o cache.Object) bool {
	below, tree := w.below[o.ID]
	if w.asked[o.ID] || !w.state[o.ID] || !o.Tree && !tree {
		return w.state[o.ID]
	}
	w.asked[o.ID] = true
	w.state[o.ID] = tree && !slices.ContainsFunc(below, func(id cache.ID) bool { return !w.whole(cache.Object{ID: id}) })
	return w.state[o.ID]
}

// readTrees reads the trees that were not read before. Where one is damaged, so is its pack.
func (w *wholeness) readTrees(ctx context.Context, left *contents) error {
	var pieces []piece
	unread := func(o cache.Object) bool { _, known := w.below[o.ID]; return o.Tree && !known }
	for _, p := range left.packs {
		trees := only(p.located(), func(o located) bool { return unread(o.Object) })
		pieces = append(pieces, split(p.id, trees)...)
	}
	for _, o := range only(left.objects, unread) {
		pieces = append(pieces, piece{to: o.Size, objects: []located{{Object: o}}})
	}
	return w.f.r.each(ctx, len(pieces), func(ctx context.Context, i int) error {
		p := pieces[i]
		name := packName(p.pack)
		if p.pack.IsZero() {
			name = objectName(p.objects[0].ID)
		}
		share := min(p.to-p.from, w.f.r.o.InFlight)
		if err := w.f.r.bytes.Acquire(ctx, share); err != nil {
			return err
		}
		defer w.f.r.bytes.Release(share)
		_, err := w.f.r.read(ctx, name, p.from, p.to-p.from, func(data []byte) error { return w.learn(p, data) })
		var e *Error
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, cache.ErrDamaged) || errors.As(err, &e) && e.short {
			w.f.problem(name, err)
			return nil
		}
		return err
	})
}

// learn notes what the trees of a piece name.
func (w *wholeness) learn(p piece, data []byte) error {
	for _, o := range p.objects {
		bytes := data[o.offset-p.from:][:o.Size]
		if err := checkSum(o.ID, bytes); err != nil {
			return err
		}
		tree, err := cache.DecodeTree(bytes)
		if err != nil {
			return fmt.Errorf("tree %s: %w", o.ID, err)
		}
		below := make([]cache.ID, 0, len(tree.Entries))
		for _, e := range tree.Entries {
			if e.Type != cache.Link {
				below = append(below, e.ID)
			}
		}
		w.mu.Lock()
		w.below[o.ID] = below
		w.mu.Unlock()
	}
	return nil
}

func only[T any](list []T, keep func(T) bool) []T {
	var kept []T
	for _, one := range list {
		if keep(one) {
			kept = append(kept, one)
		}
	}
	return kept
}
