package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lpipe/cache"
)

// load reads every index from the bucket: what is kept here of them says nothing about those. Of a damaged one the kept
// copy counts, if there is one, and repair writes all indexes anew.
func (f *checker) load(ctx context.Context) (*index, error) {
	for try := 0; ; try++ {
		x, err := f.loadOnce(ctx)
		if !errors.Is(err, fs.ErrNotExist) || try == 3 { // a push merged indexes after the listing
			return x, err
		}
		f.report.Problems, f.lost = nil, false
	}
}

func (f *checker) loadOnce(ctx context.Context) (*index, error) {
	items, err := f.r.list(ctx, "index/")
	if err != nil {
		return nil, err
	}
	x := newIndex()
	for _, item := range items {
		id, ok := parseName("index", item.Name)
		if !ok {
			continue
		}
		data, err := f.r.read(ctx, item.Name, 0, -1, func(data []byte) error { return checkSum(id, data) })
		if errors.Is(err, cache.ErrDamaged) {
			f.problem(item.Name, err)
			data, err = os.ReadFile(filepath.Join(f.r.o.Indexes, id.String()))
			if err != nil || cache.Sum(data) != id {
				f.lost, data, err = true, (&contents{}).encode(), nil
			}
		}
		if err != nil {
			return nil, err
		}
		c, err := f.r.decode(id, data)
		if err != nil {
			return nil, err
		}
		x.add(id, c)
	}
	return x, nil
}

// rebuild adds to all what the bucket holds and a lost index named: packs tell their entries, large objects and results
// stand for themselves. A push that was interrupted leaves trees without what they name; these are left out.
func (f *checker) rebuild(ctx context.Context, all *contents) error {
	b := rebuilder{f: f, known: map[cache.ID]bool{}, trees: map[cache.ID]*cache.Tree{}}
	for _, p := range all.packs {
		b.know(p.entries)
	}
	b.know(all.objects)
	for _, prefix := range []string{"packs/", "objects/"} {
		items, err := f.r.list(ctx, prefix)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := b.read(ctx, item, all); err != nil {
				return err
			}
		}
	}
	b.dropIncomplete(all)
	all.sort()
	return b.results(ctx, all)
}

type rebuilder struct {
	f     *checker
	known map[cache.ID]bool        // objects that an index names
	trees map[cache.ID]*cache.Tree // of those that are added
}

func (b *rebuilder) know(list []cache.Object) {
	for _, o := range list {
		b.known[o.ID] = true
	}
}

// read adds a pack or large object that no index names, if it is whole.
func (b *rebuilder) read(ctx context.Context, item Item, all *contents) error {
	id, ok := idOf(item.Name)
	if !ok || b.known[id] || b.f.bad[item.Name] {
		return nil
	}
	for _, p := range all.packs {
		if p.id == id {
			return nil
		}
	}
	if strings.HasPrefix(item.Name, "packs/") {
		data, err := b.f.r.read(ctx, item.Name, 0, item.Size, nil)
		if err != nil || cache.Sum(data) != id {
			return err // whoever finds it later: it is named by nothing
		}
		p, err := decodePack(id, data)
		if err != nil {
			return nil
		}
		at := int64(len(packMagic))
		for _, o := range p.entries {
			b.tree(o, data[at:at+o.Size])
			at += o.Size
		}
		all.packs = append(all.packs, p)
		return nil
	}
	got, err := b.f.hash(ctx, item.Name, item.Size)
	if err != nil || got != id {
		return err
	}
	o := cache.Object{ID: id, Size: item.Size}
	if head, err := b.f.r.read(ctx, item.Name, 0, min(6, item.Size), nil); err != nil {
		return err
	} else if string(head) == "lptree" {
		data, err := b.f.r.read(ctx, item.Name, 0, item.Size, nil)
		if err != nil {
			return err
		}
		_, err = cache.DecodeTree(data)
		o.Tree = err == nil
		b.tree(o, data)
	}
	all.objects = append(all.objects, o)
	return nil
}

func (b *rebuilder) tree(o cache.Object, data []byte) {
	if !o.Tree {
		return
	}
	if tree, err := cache.DecodeTree(data); err == nil {
		b.trees[o.ID] = tree
	}
}

// dropIncomplete takes out what names objects that are not there, until nothing does.
func (b *rebuilder) dropIncomplete(all *contents) {
	for {
		there := map[cache.ID]bool{}
		for _, p := range all.packs {
			for _, o := range p.entries {
				there[o.ID] = true
			}
		}
		for _, o := range all.objects {
			there[o.ID] = true
		}
		whole := func(o cache.Object) bool {
			if b.known[o.ID] || !o.Tree {
				return true
			}
			tree := b.trees[o.ID]
			if tree == nil {
				return false
			}
			for _, e := range tree.Entries {
				if e.Type != cache.Link && !there[e.ID] {
					return false
				}
			}
			return true
		}
		before := len(all.packs) + len(all.objects)
		all.packs = only(all.packs, func(p pack) bool { return len(only(p.entries, whole)) == len(p.entries) })
		all.objects = only(all.objects, whole)
		if len(all.packs)+len(all.objects) == before {
			b.known = there
			return
		}
	}
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

// results adds those that are there with their content.
func (b *rebuilder) results(ctx context.Context, all *contents) error {
	items, err := b.f.r.list(ctx, "results/")
	if err != nil {
		return err
	}
	named := map[cache.Key]bool{}
	for _, k := range all.results {
		named[k] = true
	}
	for _, item := range items {
		id, ok := parseName("results", item.Name)
		if key := cache.Key(id); ok && !named[key] && !b.f.bad[item.Name] {
			result, err := b.f.r.Result(ctx, key)
			if errors.Is(err, cache.ErrDamaged) || errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrUntrusted) {
				continue
			}
			if err != nil {
				return err
			}
			if len(only(result.Contents(), func(c cache.Content) bool { return !b.known[c.ID] })) == 0 {
				all.results = append(all.results, key)
			}
		}
	}
	all.sort()
	return nil
}

// decodePack reads a pack's entries from its end.
func decodePack(id cache.ID, data []byte) (pack, error) {
	p := pack{id: id, size: int64(len(data))}
	end := len(data) - 8
	if end < len(packMagic) || string(data[:len(packMagic)]) != packMagic {
		return p, fmt.Errorf("pack %s: %w: it does not begin as one", id, cache.ErrDamaged)
	}
	length := binary.LittleEndian.Uint64(data[end:])
	if length > uint64(end-len(packMagic)) {
		return p, fmt.Errorf("pack %s: %w: entries of %d bytes", id, cache.ErrDamaged, length)
	}
	at := end - int(length)
	r := reader{rest: data[at:end]}
	p.entries = r.entries()
	if r.err == nil && (len(r.rest) > 0 || !fill(p.entries, int64(at-len(packMagic)))) {
		r.err = errors.New("its entries do not fill it")
	}
	if r.err != nil {
		return p, fmt.Errorf("pack %s: %w: %w", id, cache.ErrDamaged, r.err)
	}
	return p, nil
}

func fill(list []cache.Object, size int64) bool {
	for _, o := range list {
		if size -= o.Size; size < 0 {
			return false
		}
	}
	return size == 0
}
