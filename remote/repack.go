package remote

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"lpipe/cache"
)

// What a gc leaves of packs: those with little waste stay as they are, what is needed of others moves into new ones.

// leaving is what a gc leaves in a bucket.
type leaving struct {
	index  *contents       // what its index will say, without the packs that moving objects will be in
	dead   map[string]bool // names of packs and objects that it will not say any more
	moving []moving
}

// moving is an object that is needed, in a pack that is given up.
type moving struct {
	located
	pack cache.ID
}

// sort tells what stays, what moves, and what goes.
func (g *collector) sort(dropped []stored) *leaving {
	all, _ := g.x.merged()
	left := &leaving{index: &contents{}, dead: map[string]bool{}}
	there := map[cache.ID]bool{} // needed, and found in a place that stays or that it moves from
	for _, o := range all.objects {
		if g.refs[o.ID] > 0 {
			there[o.ID] = true
			left.index.objects = append(left.index.objects, o)
			continue
		}
		left.dead[objectName(o.ID)] = true
		g.report.Objects++
	}
	// Of an object in two packs, as a gc leaves it that was killed, the one in the pack with less waste counts.
	slices.SortStableFunc(all.packs, func(a, b pack) int { return cmp.Compare(g.waste(a), g.waste(b)) })
	g.join = len(only(all.packs, g.small)) > fewSmall
	for _, p := range all.packs {
		g.judge(p, there, left)
	}
	left.index.sort()
	gone := map[cache.Key]bool{}
	for _, s := range dropped {
		gone[s.key] = true
	}
	left.index.results = slices.DeleteFunc(all.results, func(k cache.Key) bool { return gone[k] })
	return left
}

// waste is the bytes of a pack's objects that nothing needs.
func (g *collector) waste(p pack) (n int64) {
	for _, o := range p.entries {
		if g.refs[o.ID] == 0 {
			n += o.Size
		}
	}
	return n
}

// small tells of a pack that is worth joining with others: who fetches much asks for each by itself.
func (g *collector) small(p pack) bool { return p.size < g.r.o.PackSize/4 }

// fewSmall is how many small packs may stay, as pushes of little leave them.
const fewSmall = 32

// judge decides over one pack. It goes if less than half of it is needed here or if it is one of many small ones, and always
// if it holds a tree that nothing needs: in the index that tree would promise what it names, which may go.
func (g *collector) judge(p pack, there map[cache.ID]bool, left *leaving) {
	var needed []moving
	var keep, waste int64
	unneeded, promises := 0, false
	for _, o := range p.located() {
		switch {
		case g.refs[o.ID] == 0:
			unneeded++
			waste += o.Size
			promises = promises || o.Tree
		case there[o.ID]:
			waste += o.Size
		default:
			there[o.ID] = true
			keep += o.Size
			needed = append(needed, moving{o, p.id})
		}
	}
	if len(needed) > 0 && !promises && keep >= waste && !(g.join && g.small(p)) {
		left.index.packs = append(left.index.packs, p)
		g.report.Waste += waste
		return
	}
	left.dead[packName(p.id)] = true
	left.moving = append(left.moving, needed...)
	g.report.Objects += unneeded
	if len(needed) > 0 {
		g.report.Repacked++
		g.report.Moved += keep
		g.report.Bytes -= keep
	}
}

// orphans lists what no index will name: what is dead now, and what interrupted commands left.
func (g *collector) orphans(left *leaving) []string {
	kept := map[string]bool{}
	for _, p := range left.index.packs {
		kept[packName(p.id)] = true
	}
	for _, o := range left.index.objects {
		kept[objectName(o.ID)] = true
	}
	var names []string
	for _, item := range g.items {
		if kept[item.Name] || !left.dead[item.Name] && g.o.Now.Sub(item.Time) < g.o.Grace {
			continue
		}
		names = append(names, item.Name)
		g.report.Bytes += item.Size
	}
	return names
}

// repack copies objects from their packs into new ones, each verified on the way, and gives these. No index names them yet.
func (r *Remote) repack(ctx context.Context, list []moving) ([]pack, error) {
	from := make(map[cache.ID]moving, len(list))
	objects := make([]cache.Object, len(list))
	for i, o := range list {
		from[o.ID], objects[i] = o, o.Object
	}
	tree := func(o cache.Object) bool { return o.Tree }
	file := func(o cache.Object) bool { return !o.Tree }
	groups := cut(only(objects, tree), only(objects, file), r.o.PackSize)
	packs := make([]pack, len(groups))
	err := r.each(ctx, len(groups), func(ctx context.Context, i int) (err error) {
		packs[i], err = r.copyPack(ctx, groups[i], from)
		return err
	})
	return packs, err
}

// copyPack makes a pack of objects that are in others.
func (r *Remote) copyPack(ctx context.Context, list []cache.Object, from map[cache.ID]moving) (pack, error) {
	var pieces []piece
	for rest := list; len(rest) > 0; {
		id := from[rest[0].ID].pack
		var same []located // neighbours here that come from one pack, there in the same order
		for len(rest) > 0 && from[rest[0].ID].pack == id {
			same, rest = append(same, from[rest[0].ID].located), rest[1:]
		}
		pieces = append(pieces, split(id, same)...)
	}
	most := total(list)
	for _, p := range pieces {
		most = max(most, total(list)+p.to-p.from)
	}
	most = min(most, r.o.InFlight)
	if err := r.bytes.Acquire(ctx, most); err != nil {
		return pack{}, err
	}
	defer r.bytes.Release(most)
	b := bytes.NewBuffer(make([]byte, 0, packRoom(list)))
	b.WriteString(packMagic)
	for _, p := range pieces {
		if err := r.appendPiece(ctx, b, p); err != nil {
			return pack{}, err
		}
	}
	return r.putPack(ctx, b, list)
}

// appendPiece reads a piece and appends its objects' bytes, none of them unless all are right.
func (r *Remote) appendPiece(ctx context.Context, b *bytes.Buffer, p piece) error {
	if p.to == p.from {
		return nil // empty files
	}
	bytesOf := func(data []byte, o located) []byte { return data[o.offset-p.from:][:o.Size] }
	data, err := r.read(ctx, packName(p.pack), p.from, p.to-p.from, func(data []byte) error {
		for _, o := range p.objects {
			if err := checkSum(o.ID, bytesOf(data, o)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, o := range p.objects {
		if err == nil {
			b.Write(bytesOf(data, o))
		}
	}
	return gone(err)
}
