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

// rebuild adds to all what the bucket holds and a lost index named: packs tell their entries, and large objects stand for
// themselves. A push that was interrupted leaves trees without what they name: repair leaves these out.
func (f *checker) rebuild(ctx context.Context, all *contents) error {
	named := map[string]bool{}
	for _, p := range all.packs {
		named[packName(p.id)] = true
	}
	for _, o := range all.objects {
		named[objectName(o.ID)] = true
	}
	for _, prefix := range []string{"packs/", "objects/"} {
		items, err := f.r.list(ctx, prefix)
		if err != nil {
			return err
		}
		for _, item := range items {
			if id, ok := idOf(item.Name); ok && !named[item.Name] {
				if err := f.add(ctx, id, item, all); err != nil {
					return err
				}
			}
		}
	}
	all.sort()
	return nil
}

// largestTree is the most bytes of an object by itself that is looked at as a tree: some ten million names.
const largestTree = 1 << 30

// add adds a pack or large object that no index names, if it is whole: else it is named by nothing, and gc removes it.
func (f *checker) add(ctx context.Context, id cache.ID, item Item, all *contents) error {
	if strings.HasPrefix(item.Name, "packs/") {
		if item.Size > largestPack {
			return nil // nobody's: read whole it would take all memory
		}
		data, err := f.r.read(ctx, item.Name, 0, item.Size, nil)
		if err != nil || cache.Sum(data) != id {
			return err
		}
		if p, err := decodePack(id, data); err == nil {
			all.packs = append(all.packs, p)
		}
		return nil
	}
	got, err := f.hash(ctx, item.Name, item.Size)
	if err != nil || got != id {
		return err
	}
	o := cache.Object{ID: id, Size: item.Size}
	head, err := f.r.read(ctx, item.Name, 0, min(int64(len(treeStart)), item.Size), nil)
	if err != nil {
		return err
	}
	if string(head) == treeStart && item.Size <= largestTree {
		data, err := f.r.read(ctx, item.Name, 0, item.Size, nil)
		if err != nil {
			return err
		}
		_, err = cache.DecodeTree(data)
		o.Tree = err == nil
	}
	all.objects = append(all.objects, o)
	return nil
}

// treeStart is what every tree begins with.
const treeStart = "lptree"

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
