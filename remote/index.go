package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lpipe/cache"
)

// indexMagic starts every index; the last byte is the version. packMagic the same for packs.
const (
	indexMagic = "lpindex\x01"
	packMagic  = "lppack\x00\x01"
)

// place is where an object is: in a pack, or (pack zero) by itself.
type place struct {
	pack   cache.ID
	offset int64
	size   int64
	tree   bool
}

// pack is a list of objects that are stored one after the other.
type pack struct {
	id      cache.ID
	size    int64 // of the whole pack
	entries []cache.Object
}

// located is a pack's objects with their places in it.
func (p pack) located() []located {
	list, at := make([]located, len(p.entries)), int64(len(packMagic))
	for i, o := range p.entries {
		list[i] = located{o, at}
		at += o.Size
	}
	return list
}

// contents is what an index says is in the bucket.
type contents struct {
	packs   []pack
	objects []cache.Object // stored by themselves
	results []cache.Key
}

// room is about how many bytes encode gives, and hardly ever less.
func (c *contents) room() int {
	const entry = 32 + 1 + 5 // of a size that is below 32 GiB
	n := 64 + len(c.objects)*entry + len(c.results)*32
	for _, p := range c.packs {
		n += 48 + len(p.entries)*entry
	}
	return n
}

// encode gives an index: magic, packs (count; hash, size, count of entries, entries), objects (count, entries),
// results (count, keys). An entry is the hash, 1 byte (1: tree), size. Numbers are uvarints.
func (c *contents) encode() []byte {
	b := append(make([]byte, 0, c.room()), indexMagic...)
	b = binary.AppendUvarint(b, uint64(len(c.packs)))
	for _, p := range c.packs {
		b = append(b, p.id[:]...)
		b = binary.AppendUvarint(b, uint64(p.size))
		b = appendEntries(b, p.entries)
	}
	b = appendEntries(b, c.objects)
	b = binary.AppendUvarint(b, uint64(len(c.results)))
	for _, k := range c.results {
		b = append(b, k[:]...)
	}
	return b
}

func appendEntries(b []byte, list []cache.Object) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, o := range list {
		b = append(b, o.ID[:]...)
		if o.Tree {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(o.Size))
	}
	return b
}

// Whoever may write to a bucket can say anything in an index. What would take all memory is refused: readers hold an object of a
// pack in memory, and a number for each part of a large one.
const (
	largestPack   = 256 << 20
	largestObject = 1 << 46
)

// fits tells whether that many bytes have room for all objects.
func fits(list []cache.Object, size int64) bool {
	for _, o := range list {
		if size -= o.Size; size < 0 {
			return false
		}
	}
	return true
}

func decodeIndex(data []byte) (*contents, error) {
	r := reader{rest: data}
	if magic := string(r.bytes(uint64(len(indexMagic)))); magic != indexMagic {
		return nil, fmt.Errorf("an index of another version: %q (is this lpipe too old?)", magic)
	}
	c := &contents{}
	for n := r.count(34); n > 0 && r.err == nil; n-- {
		p := pack{id: r.hash(), size: r.size()}
		p.entries = r.entries()
		if r.err == nil && (p.size > largestPack || !fits(p.entries, p.size-int64(len(packMagic)))) {
			r.err = fmt.Errorf("pack %s of %d bytes: too large, or too small for what is in it", p.id, p.size)
		}
		c.packs = append(c.packs, p)
	}
	c.objects = r.entries()
	for n := r.count(32); n > 0 && r.err == nil; n-- {
		c.results = append(c.results, cache.Key(r.hash()))
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = errors.New("bytes after the end")
	}
	return c, r.err
}

type reader struct {
	rest []byte
	err  error
}

func (r *reader) bytes(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.rest)) {
		r.err = errors.New("it ends early")
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) hash() (id cache.ID) {
	copy(id[:], r.bytes(32))
	return id
}

func (r *reader) size() int64 {
	v, n := binary.Uvarint(r.rest)
	if r.err == nil && (n <= 0 || v > largestObject) {
		r.err = errors.New("a number that is cut or too large")
	}
	if r.err != nil {
		return 0
	}
	r.rest = r.rest[n:]
	return int64(v)
}

// count reads how many things of at least that many bytes follow.
func (r *reader) count(least int) int64 {
	n := r.size()
	if r.err == nil && n > int64(len(r.rest)/least) {
		r.err = fmt.Errorf("%d things announced in %d bytes", n, len(r.rest))
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *reader) entries() []cache.Object {
	n := r.count(34)
	list := make([]cache.Object, 0, n)
	for ; n > 0 && r.err == nil; n-- {
		o := cache.Object{ID: r.hash()}
		if b := r.bytes(1); len(b) == 1 {
			o.Tree = b[0] == 1
		}
		o.Size = r.size()
		list = append(list, o)
	}
	return list
}

// index is what all indexes of a bucket say together.
type index struct {
	files   map[cache.ID]*contents // by index
	places  cache.IDMap[spot]
	packs   []cache.ID // that spots are in
	results map[cache.Key]bool
}

// spot is a place as an index keeps it.
type spot struct {
	offset, size int64
	pack         uint32 // 1 + its number in index.packs; 0: by itself
	tree         bool
}

func newIndex() *index {
	return &index{files: map[cache.ID]*contents{}, results: map[cache.Key]bool{}}
}

func (x *index) add(id cache.ID, c *contents) {
	x.files[id] = c
	for _, p := range c.packs {
		x.packs = append(x.packs, p.id)
		at := int64(len(packMagic))
		for _, o := range p.entries {
			x.places.Put(o.ID, spot{at, o.Size, uint32(len(x.packs)), o.Tree})
			at += o.Size
		}
	}
	for _, o := range c.objects {
		x.places.Put(o.ID, spot{size: o.Size, tree: o.Tree})
	}
	for _, k := range c.results {
		x.results[k] = true
	}
}

// has tells whether the bucket has an object.
func (x *index) has(id cache.ID) bool { return x.places.Has(id) }

// place says where an object is, if the bucket has it.
func (x *index) place(id cache.ID) (place, bool) {
	s, ok := x.places.Get(id)
	at := place{offset: s.offset, size: s.size, tree: s.tree}
	if s.pack > 0 {
		at.pack = x.packs[s.pack-1]
	}
	return at, ok
}

// includes tells whether all that an older index named is still named.
func (x *index) includes(old *index) bool {
	for id := range old.places.All() {
		if !x.has(id) {
			return false
		}
	}
	return true
}

// load brings the index up to date: one listing, and each index that was not read before, which are kept in a
// local folder under their hashes.
func (r *Remote) load(ctx context.Context) (*index, error) {
	for try := 0; ; try++ {
		x, err := r.loadOnce(ctx)
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, cache.ErrDamaged) || try == 3 {
			return x, err
		}
		// Another push merged indexes between our listing and our reading, and what they said is in a new one; or
		// the listing was garbled.
	}
}

func (r *Remote) loadOnce(ctx context.Context) (*index, error) {
	items, err := r.list(ctx, "index/")
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := newIndex()
	ids := make([]cache.ID, 0, len(items))
	for _, item := range items {
		id, ok := parseName("index", item.Name)
		if ok {
			ids = append(ids, id)
		} else if len(item.Name) == len(indexName(id)) {
			// An answer that was garbled on its way: an index left out would look like content that is not there.
			return nil, r.fail(Damaged, "list", item.Name, true, errors.New("not the name of an index"))
		}
	}
	read := make([]*contents, len(ids))
	err = r.each(ctx, len(ids), func(ctx context.Context, i int) (err error) {
		if r.index != nil && r.index.files[ids[i]] != nil {
			read[i] = r.index.files[ids[i]]
			return nil
		}
		read[i], err = r.readIndex(ctx, ids[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		x.add(id, read[i])
	}
	r.forget(x)
	r.index = x
	return x, nil
}

// current is the index as last loaded.
func (r *Remote) current(ctx context.Context) (*index, error) {
	r.mu.Lock()
	x := r.index
	r.mu.Unlock()
	if x != nil {
		return x, nil
	}
	return r.load(ctx)
}

func (r *Remote) readIndex(ctx context.Context, id cache.ID) (*contents, error) {
	path := filepath.Join(r.o.Indexes, id.String())
	if data, err := os.ReadFile(path); err == nil && cache.Sum(data) == id {
		return r.decode(id, data)
	}
	data, err := r.read(ctx, indexName(id), 0, -1, func(data []byte) error { return checkSum(id, data) })
	if err != nil {
		return nil, err
	}
	keep(path, data)
	return r.decode(id, data)
}

func (r *Remote) decode(id cache.ID, data []byte) (*contents, error) {
	c, err := decodeIndex(data)
	if err != nil {
		return nil, r.fail(Other, "read", indexName(id), false, err)
	}
	return c, nil
}

func checkSum(id cache.ID, data []byte) error {
	if got := cache.Sum(data); got != id {
		return fmt.Errorf("%w: the bytes that came have hash %s", cache.ErrDamaged, got)
	}
	return nil
}

// keep saves a request next time. It is checked by its hash when read, so a torn file costs that request.
func keep(path string, data []byte) {
	if os.MkdirAll(filepath.Dir(path), 0o777) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".index-*") // forget removes what a kill leaves
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
	}
}

// forget removes kept indexes that the bucket no longer has.
func (r *Remote) forget(x *index) {
	names, err := os.ReadDir(r.o.Indexes)
	if err != nil {
		return
	}
	for _, n := range names {
		if id, err := cache.ParseID(n.Name()); n.Name() != signedName && (err != nil || x.files[id] == nil) {
			os.Remove(filepath.Join(r.o.Indexes, n.Name()))
		}
	}
}

// publish stores an index and knows it from then on.
func (r *Remote) publish(ctx context.Context, c *contents) error {
	return r.publishTrying(ctx, r.o.Retry, c)
}

func (r *Remote) publishTrying(ctx context.Context, retry Retry, c *contents) error {
	data := c.encode()
	id := cache.Sum(data)
	if err := retry.do(ctx, func() error { return r.bucket.Put(ctx, indexName(id), bytes.NewReader(data)) }); err != nil {
		return err
	}
	keep(filepath.Join(r.o.Indexes, id.String()), data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil {
		x := newIndex() // readers may hold the old one
		for id, c := range r.index.files {
			x.add(id, c)
		}
		x.add(id, c)
		r.index = x
	}
	return nil
}

// manyIndexes is when a push merges them: each costs a new client a request.
const manyIndexes = 48

// merge replaces all indexes by one that says the same.
func (r *Remote) merge(ctx context.Context) error {
	x, err := r.current(ctx)
	if err != nil || len(x.files) <= manyIndexes {
		return err
	}
	all, old := x.merged()
	data := all.encode()
	id := cache.Sum(data)
	if err := r.put(ctx, indexName(id), data); err != nil {
		return err
	}
	keep(filepath.Join(r.o.Indexes, id.String()), data)
	names := make([]string, 0, len(old))
	for _, o := range old {
		if o != id {
			names = append(names, indexName(o))
		}
	}
	return r.delete(ctx, names...)
}
