package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"lpipe/cache"
)

const (
	// partSize is how much of a large object, or of a pack, one request brings. A power of two: see cache.Partial.
	partSize = 16 << 20
	// gap is how many unneeded bytes between two objects of a pack are cheaper than another request.
	gap = 256 << 10
)

// Fetch brings what the cache lacks of these contents. Every object is hashed on arrival; a wrong one is asked
// for again and then cache.ErrDamaged. One that the bucket does not have is cache.ErrNotFound. What came before
// an error stays in the cache.
func (r *Remote) Fetch(ctx context.Context, contents []cache.Content, progress func(Progress)) (Stats, error) {
	f := fetcher{r: r, progress: progress}
	start := r.bucket.requests()
	err := f.run(ctx, contents)
	f.stats.Requests = r.bucket.requests() - start
	if err != nil {
		return f.stats, r.wrap("fetch from", err)
	}
	return f.stats, nil
}

// Lacks gives those of the contents that the bucket does not have. One that it has, it has whole.
func (r *Remote) Lacks(ctx context.Context, contents []cache.Content) ([]cache.Content, error) {
	x, err := r.current(ctx)
	if err != nil {
		return nil, r.wrap("look into", err)
	}
	absent := func(c cache.Content) bool { return !x.has(c.ID) && !c.ID.IsZero() }
	if slices.ContainsFunc(contents, absent) {
		if x, err = r.load(ctx); err != nil {
			return nil, r.wrap("look into", err)
		}
	}
	var lacking []cache.Content
	for _, c := range contents {
		if absent(c) {
			lacking = append(lacking, c)
		}
	}
	return lacking, nil
}

// News gives those of the contents and keys that the bucket does not have: one request. With a key to sign with, also those whose
// results stand there unsigned although they were made here: a listing more, and a request for each that was not seen signed before.
func (r *Remote) News(ctx context.Context, contents []cache.Content, keys []cache.Key) ([]cache.Content, []cache.Key, error) {
	x, err := r.load(ctx)
	if err != nil {
		return nil, nil, r.wrap("look into", err)
	}
	contents = slices.DeleteFunc(slices.Clone(contents), func(c cache.Content) bool { return x.has(c.ID) || c.ID.IsZero() })
	absent := slices.DeleteFunc(slices.Clone(keys), func(k cache.Key) bool { return x.results[k] })
	there := slices.DeleteFunc(slices.Clone(keys), func(k cache.Key) bool { return !x.results[k] })
	unsigned, err := r.unvouched(ctx, there)
	if err != nil {
		return nil, nil, r.wrap("look into", err)
	}
	return contents, append(absent, unsigned...), nil
}

// ErrNoEntry says that a folder has nothing under a name.
var ErrNoEntry = errors.New("the folder has nothing of that name")

// Find gives a file or folder within a folder, by its path there. Of the bucket it brings the trees on the way, and nothing else.
func (r *Remote) Find(ctx context.Context, folder cache.Content, rel string) (cache.Content, error) {
	f := fetcher{r: r}
	for name := range strings.SplitSeq(rel, "/") {
		if !folder.Dir {
			return cache.Content{}, fmt.Errorf("%s: %w", rel, ErrNoEntry)
		}
		tree, err := r.cache.ReadTree(folder.ID)
		if errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
			if err = f.bring(ctx, []cache.Object{{ID: folder.ID, Tree: true}}); err == nil {
				tree, err = r.cache.ReadTree(folder.ID)
			}
		}
		if err != nil {
			return cache.Content{}, r.wrap("fetch from", err)
		}
		i := slices.IndexFunc(tree.Entries, func(e cache.Entry) bool { return e.Name == name })
		if i < 0 {
			return cache.Content{}, fmt.Errorf("%s: %w", rel, ErrNoEntry)
		}
		if e := tree.Entries[i]; e.Type == cache.Link {
			return cache.Content{}, fmt.Errorf("%s: %w: it is a link to %s", rel, ErrNoEntry, e.Link)
		}
		folder = tree.Entries[i].Content()
	}
	return folder, nil
}

type fetcher struct {
	r        *Remote
	progress func(Progress)

	mu    sync.Mutex
	stats Stats
	told  Progress
}

// run brings trees level by level, and then all files together.
func (f *fetcher) run(ctx context.Context, contents []cache.Content) error {
	known := map[cache.ID]*cache.Tree{}
	for {
		var need needed
		need.seen = map[cache.ID]bool{}
		for _, c := range contents {
			if err := f.walk(ctx, c, known, &need); err != nil {
				return err
			}
		}
		if len(need.trees) > 0 {
			if err := f.bring(ctx, need.trees); err != nil {
				return err
			}
			continue
		}
		var missing []cache.Object
		for _, o := range need.files {
			if !f.r.cache.Has(o.ID) {
				missing = append(missing, o)
			}
		}
		return f.bring(ctx, missing)
	}
}

type needed struct {
	seen         map[cache.ID]bool
	trees, files []cache.Object
}

// walk collects the trees that the cache lacks, and the files that known trees name.
func (f *fetcher) walk(ctx context.Context, c cache.Content, known map[cache.ID]*cache.Tree, need *needed) error {
	if c.ID.IsZero() || need.seen[c.ID] {
		return ctx.Err()
	}
	need.seen[c.ID] = true
	if !c.Dir {
		need.files = append(need.files, cache.Object{ID: c.ID, Size: c.Size})
		return nil
	}
	tree := known[c.ID]
	if tree == nil {
		var err error
		tree, err = f.r.cache.ReadTree(c.ID)
		if errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
			need.trees = append(need.trees, cache.Object{ID: c.ID, Tree: true})
			return nil
		}
		if err != nil {
			return err
		}
		known[c.ID] = tree
	}
	for _, e := range tree.Entries {
		if e.Type == cache.Link {
			continue
		}
		if err := f.walk(ctx, e.Content(), known, need); err != nil {
			return err
		}
	}
	return nil
}

// piece is one request: part of a pack.
type piece struct {
	pack    cache.ID
	from    int64
	to      int64
	objects []located
}

type located struct {
	cache.Object
	offset int64
}

// bring gets objects into the cache. A gc may move them to other packs meanwhile: then the index is read again, which names
// the new ones before the old go.
func (f *fetcher) bring(ctx context.Context, list []cache.Object) error {
	for try := 0; len(list) > 0; try++ {
		was, err := f.r.current(ctx)
		if err != nil {
			return err
		}
		err = f.bringFrom(ctx, list)
		if !errors.Is(err, fs.ErrNotExist) || try == moves {
			return gone(err)
		}
		now, loadErr := f.r.load(ctx)
		if loadErr != nil {
			return loadErr
		}
		if !moved(was, now, list) {
			return gone(err)
		}
		list = slices.DeleteFunc(slices.Clone(list), func(o cache.Object) bool { return f.r.cache.Has(o.ID) })
	}
	return nil
}

// moves is how often in one fetch content may move to another place in the bucket.
const moves = 3

// moved tells whether some of the objects are elsewhere now.
func moved(was, now *index, list []cache.Object) bool {
	return slices.ContainsFunc(list, func(o cache.Object) bool {
		before, _ := was.place(o.ID)
		at, _ := now.place(o.ID)
		return at != before
	})
}

// bringFrom gets objects from where the index says: parts of packs, and large objects by themselves.
func (f *fetcher) bringFrom(ctx context.Context, list []cache.Object) error {
	pieces, large, err := f.plan(ctx, list)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.told.TotalObjects += len(list)
	for _, p := range pieces {
		for _, o := range p.objects {
			f.told.TotalBytes += o.Size
		}
	}
	for _, o := range large {
		f.told.TotalBytes += o.Size
	}
	f.mu.Unlock()
	whole, parted := byPart(large)
	const together = 64 // requests whose objects become durable at once
	for some := range slices.Chunk(whole, together) {
		err := f.batch(ctx, len(some), func(ctx context.Context, b *cache.Batch, i int) error { return f.whole(ctx, b, some[i]) })
		if err != nil {
			return err
		}
	}
	for _, o := range parted { // one after the other, each by many requests
		if err := f.parted(ctx, o); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(pieces, together) {
		err := f.batch(ctx, len(some), func(ctx context.Context, b *cache.Batch, i int) error { return f.piece(ctx, b, some[i]) })
		if err != nil {
			return err
		}
	}
	return nil
}

// plan finds the objects in the index, which is read again if one is not there.
func (f *fetcher) plan(ctx context.Context, list []cache.Object) ([]piece, []cache.Object, error) {
	x, err := f.r.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	if slices.ContainsFunc(list, func(o cache.Object) bool { return !x.has(o.ID) }) {
		if x, err = f.r.load(ctx); err != nil {
			return nil, nil, err
		}
	}
	packs := map[cache.ID][]located{}
	var large []cache.Object
	for _, o := range list {
		at, ok := x.place(o.ID)
		if !ok {
			return nil, nil, fmt.Errorf("object %s is not there (push it from where it was made): %w", o.ID, cache.ErrNotFound)
		}
		o.Size = at.size
		if at.pack.IsZero() {
			large = append(large, o)
		} else {
			packs[at.pack] = append(packs[at.pack], located{o, at.offset})
		}
	}
	var pieces []piece
	for id, objects := range packs {
		pieces = append(pieces, split(id, objects)...)
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Or(compareIDs(a.pack, b.pack), cmp.Compare(a.from, b.from)) })
	return pieces, large, nil
}

// split makes requests for what is needed of a pack: neighbours together, at most partSize and one object each.
func split(id cache.ID, objects []located) []piece {
	slices.SortFunc(objects, func(a, b located) int { return cmp.Compare(a.offset, b.offset) })
	var pieces []piece
	for _, o := range objects {
		last := len(pieces) - 1
		end := o.offset + o.Size
		if last < 0 || o.offset-pieces[last].to > gap || end-pieces[last].from > partSize {
			pieces = append(pieces, piece{pack: id, from: o.offset, to: o.offset})
			last++
		}
		p := &pieces[last]
		p.to = max(p.to, end)
		p.objects = append(p.objects, o)
	}
	return pieces
}
