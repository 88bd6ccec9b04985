package remote

import (
	"context"
	"errors"
	"slices"
	"time"

	"lpipe/cache"
)

// GCOptions says what may go. The zero value is a preview of all that no root needs; who else uses the bucket is
// not known here, so that OlderThan or KeepLast are usually wanted.
type GCOptions struct {
	Delete    bool
	KeepLast  int           // keep the newest results of each stage, this many
	MaxSize   int64         // remove unneeded results, oldest first, only until this little is left; 0: all of them
	OlderThan time.Duration // remove only results that are older
	Grace     time.Duration // never remove what is younger; 0: one day, below 0: none
	Now       time.Time     // zero: the clock
}

// GCReport is what GC removed, or would remove.
type GCReport struct {
	Results int
	Objects int // that nothing reaches any more
	Bytes   int64
	Kept    int // results
	// Checkpoints counts those of finished stages, and of stages that nobody has gone on with for a month.
	Checkpoints int
	// Repacked counts packs that are given up although something in them is needed; that is copied into new packs: Moved
	// bytes.
	Repacked int
	Moved    int64
	// Waste is the bytes of objects that nothing needs, in packs that stay for what else they hold.
	Waste int64
}

// GC removes results that no root needs, and the objects that no root and no remaining result reaches. Packs of which
// less than half is needed are written anew, and many small ones as few large. It works alone: while somebody pushes it fails with ErrLocked. Who fetches
// at the same time finds everything that stays.
func (r *Remote) GC(ctx context.Context, roots cache.GCRoots, o GCOptions) (GCReport, error) {
	if o.Now.IsZero() {
		o.Now = r.o.Now()
	}
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	g := collector{r: r, o: o, refs: map[cache.ID]int{}}
	if err := g.run(ctx, roots); err != nil {
		return g.report, r.wrap("collect garbage at", err)
	}
	return g.report, nil
}

type collector struct {
	r      *Remote
	o      GCOptions
	x      *index
	items  []Item           // packs and large objects in the bucket
	refs   map[cache.ID]int // by how many roots and results an object is reached
	join   bool             // there are many small packs
	report GCReport
}

// stored is a result in the bucket with all that it reaches.
type stored struct {
	key     cache.Key
	item    Item
	result  *cache.Result // nil if it cannot be trusted
	reaches []cache.ID
}

func (g *collector) run(ctx context.Context, roots cache.GCRoots) error {
	if g.o.Delete {
		release, err := g.r.lock(ctx, "gc")
		if err != nil {
			return err
		}
		defer release()
	}
	var err error
	if g.x, err = g.r.load(ctx); err != nil {
		return err
	}
	for _, prefix := range []string{"packs/", "objects/"} {
		items, err := g.r.list(ctx, prefix)
		if err != nil {
			return err
		}
		g.items = append(g.items, items...)
	}
	all, err := g.results(ctx)
	if err != nil {
		return err
	}
	registered, err := g.r.modelContents(ctx)
	if err != nil {
		return err
	}
	if err := g.checkpoints(ctx, all); err != nil {
		return err
	}
	roots.Contents = slices.Concat(g.young(), registered, roots.Contents)
	if err := g.mark(ctx, roots, all); err != nil {
		return err
	}
	dropped := g.drop(roots, all)
	return g.sweep(ctx, dropped)
}

// young is what was stored within the time of grace: all that it reaches stays, wherever that is stored.
func (g *collector) young() []cache.Content {
	young := map[string]bool{}
	for _, item := range g.items {
		young[item.Name] = g.o.Now.Sub(item.Time) < max(g.o.Grace, g.o.OlderThan)
	}
	all, _ := g.x.merged()
	var list []cache.Content
	add := func(objects []cache.Object) {
		for _, o := range objects {
			list = append(list, cache.Content{ID: o.ID, Dir: o.Tree, Size: o.Size})
		}
	}
	for _, p := range all.packs {
		if young[packName(p.id)] {
			add(p.entries)
		}
	}
	for _, o := range all.objects {
		if young[objectName(o.ID)] {
			add([]cache.Object{o})
		}
	}
	return list
}

func (g *collector) results(ctx context.Context) ([]stored, error) {
	items, err := g.r.list(ctx, "results/")
	if err != nil {
		return nil, err
	}
	var all []stored
	for _, item := range items {
		if id, ok := parseName("results", item.Name); ok {
			all = append(all, stored{key: cache.Key(id), item: item})
		}
	}
	err = g.r.each(ctx, len(all), func(ctx context.Context, i int) error {
		result, err := g.r.anyResult(ctx, all[i].key)
		if errors.Is(err, cache.ErrDamaged) || errors.Is(err, cache.ErrNotFound) {
			return nil
		}
		all[i].result = result
		return err
	})
	return all, err
}

// mark counts references; it brings the trees that the cache lacks.
func (g *collector) mark(ctx context.Context, roots cache.GCRoots, all []stored) error {
	ids, err := g.reach(ctx, roots.Contents)
	if err != nil {
		return err
	}
	for _, id := range ids {
		g.refs[id]++
	}
	for i := range all {
		if all[i].result == nil {
			continue
		}
		ids, err := g.reach(ctx, all[i].result.Contents())
		if err != nil {
			return err
		}
		all[i].reaches = ids
		for _, id := range ids {
			g.refs[id]++
		}
	}
	return nil
}

// reach lists all objects of contents. What neither bucket nor cache can tell is left out.
func (g *collector) reach(ctx context.Context, contents []cache.Content) ([]cache.ID, error) {
	f := fetcher{r: g.r}
	known := map[cache.ID]*cache.Tree{}
	for {
		need := needed{seen: map[cache.ID]bool{}}
		for _, c := range contents {
			if err := f.walk(ctx, c, known, &need); err != nil {
				return nil, err
			}
		}
		trees := slices.DeleteFunc(need.trees, func(o cache.Object) bool { return !g.x.has(o.ID) })
		if len(trees) == 0 {
			ids := make([]cache.ID, 0, len(need.seen))
			for id := range need.seen {
				ids = append(ids, id)
			}
			return ids, nil
		}
		if err := f.bring(ctx, trees); err != nil {
			return nil, err
		}
	}
}

// drop chooses the results that go.
func (g *collector) drop(roots cache.GCRoots, all []stored) []stored {
	needed := map[cache.Key]bool{}
	for _, k := range roots.Keys {
		needed[k] = true
	}
	slices.SortFunc(all, func(a, b stored) int { return b.started().Compare(a.started()) })
	last := map[string]int{}
	total := int64(0)
	for id, at := range g.x.places.All() {
		if g.refs[id] > 0 {
			total += at.size
		}
	}
	var candidates []stored
	for _, s := range all {
		age := g.o.Now.Sub(s.item.Time)
		stage := ""
		if s.result != nil {
			stage = s.result.Record.Kind + " " + s.result.Record.Stage
			last[stage]++
		}
		if needed[s.key] || age < max(g.o.Grace, g.o.OlderThan) || s.result != nil && last[stage] <= g.o.KeepLast {
			g.report.Kept++
			continue
		}
		candidates = append(candidates, s)
	}
	slices.Reverse(candidates)
	var dropped []stored
	for _, s := range candidates {
		if g.o.MaxSize > 0 && total <= g.o.MaxSize {
			g.report.Kept++
			continue
		}
		for _, id := range s.reaches {
			if g.refs[id]--; g.refs[id] == 0 {
				at, _ := g.x.place(id)
				total -= at.size
			}
		}
		dropped = append(dropped, s)
	}
	g.report.Results = len(dropped)
	return dropped
}

func (s stored) started() time.Time {
	if s.result == nil {
		return s.item.Time
	}
	return s.result.Record.Started
}

// sweep takes results out of the index, then removes them, then stores what moves into new packs, then an index that
// names these and not what only the dropped results needed, and removes that. Wherever it is killed, an index promises
// only what is there, and a result only what an index names; a new pack that no index names yet is garbage.
func (g *collector) sweep(ctx context.Context, dropped []stored) error {
	left := g.sort(dropped)
	orphans := g.orphans(left)
	if !g.o.Delete {
		return nil
	}
	var names []string
	for _, s := range dropped {
		names = append(names, resultName(s.key))
	}
	x := g.x
	var err error
	if len(names) > 0 {
		all, _ := x.merged()
		all.results = left.index.results
		if x, err = g.r.replaceIndex(ctx, x, all); err != nil {
			return err
		}
		if err := g.r.deleteAll(ctx, names); err != nil {
			return err
		}
	}
	made, err := g.r.repack(ctx, left.moving)
	if err != nil {
		return err
	}
	for _, p := range made { // an interrupted gc may have left one under the same name
		orphans = slices.DeleteFunc(orphans, func(name string) bool { return name == packName(p.id) })
	}
	if len(left.dead) > 0 {
		left.index.packs = append(left.index.packs, made...)
		left.index.sort()
		if _, err := g.r.replaceIndex(ctx, x, left.index); err != nil {
			return err
		}
	}
	if err := g.r.deleteAll(ctx, orphans); err != nil {
		return err
	}
	if b, ok := g.r.bucket.Bucket.(interface {
		AbandonUploads(ctx context.Context, before time.Time) (int, error)
	}); ok {
		_, err = b.AbandonUploads(ctx, g.o.Now.Add(-max(g.o.Grace, 0)))
	}
	return err
}

// replaceIndex stores an index that says what rest says, and removes all others.
func (r *Remote) replaceIndex(ctx context.Context, x *index, rest *contents) (*index, error) {
	data := rest.encode()
	id := cache.Sum(data)
	if err := r.put(ctx, indexName(id), data); err != nil {
		return nil, err
	}
	var names []string
	for old := range x.files {
		if old != id {
			names = append(names, indexName(old))
		}
	}
	if err := r.deleteAll(ctx, names); err != nil {
		return nil, err
	}
	return r.load(ctx)
}

// deleteAll removes names side by side.
func (r *Remote) deleteAll(ctx context.Context, names []string) error {
	return r.each(ctx, len(names), func(ctx context.Context, i int) error { return r.delete(ctx, names[i]) })
}
