package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"lpipe/cache"
)

// Push sends what the bucket lacks of these contents, and then these results: with nothing to do, one request.
// Content that a result names is sent too. If it is interrupted, the next push goes on with it: of files it sends none
// again that were sent in whole packs, or if it was killed, a minute before. Nobody else sees any of it.
func (r *Remote) Push(ctx context.Context, contents []cache.Content, keys []cache.Key, progress func(Progress)) (Stats, error) {
	p := pusher{r: r, keys: keys, contents: contents, progress: progress, start: r.bucket.requests(), buffers: make(chan *bytes.Buffer, r.o.Jobs)}
	err := p.run(ctx)
	p.stats.Requests = r.bucket.requests() - p.start
	if err != nil {
		return p.stats, r.wrap("push to", err)
	}
	return p.stats, nil
}

type pusher struct {
	r        *Remote
	contents []cache.Content
	keys     []cache.Key
	progress func(Progress)
	start    int
	begun    time.Time

	trees, files []cache.Object // that travel in packs
	big          []cache.Object
	results      []cache.Key
	again        []cache.Key        // results that an index names and that we may sign
	buffers      chan *bytes.Buffer // that packs were in

	mu    sync.Mutex
	stats Stats
	sent  contents  // that no index names yet
	named time.Time // when keep was called last
	told  Progress
}

func (p *pusher) run(ctx context.Context) error {
	x, err := p.r.load(ctx)
	if err != nil {
		return err
	}
	if err := p.plan(ctx, x); err != nil {
		return err
	}
	if len(p.trees)+len(p.files)+len(p.big)+len(p.results)+len(p.again) == 0 {
		return nil
	}
	// What the index promises may go while we send the rest, unless a gc knows that we are here: then look again.
	release, err := p.r.lock(ctx, "push")
	if err != nil {
		return err
	}
	defer release()
	p.begun = p.r.o.Now()
	p.named = p.begun
	if x, err = p.r.load(ctx); err != nil {
		return err
	}
	if err := p.plan(ctx, x); err != nil {
		return err
	}
	if err := p.objects(ctx); err != nil {
		return err
	}
	if p.r.o.Now().Sub(p.begun) > lockStale/2 {
		// A machine that slept may have lost its lock, and a gc what we found there.
		if now, err := p.r.load(ctx); err != nil {
			return err
		} else if !now.includes(x) {
			return errors.New("somebody removed content meanwhile: push again")
		}
	}
	if len(p.sent.packs)+len(p.sent.objects) > 0 {
		p.sent.sort()
		if err := p.r.publish(ctx, &p.sent); err != nil {
			return err
		}
	}
	if err := p.putResults(ctx); err != nil {
		return err
	}
	return p.r.merge(ctx)
}

// plan lists what the bucket lacks. A tree that the index names is there with all that it names.
func (p *pusher) plan(ctx context.Context, x *index) error {
	p.trees, p.files, p.big, p.results, p.again = nil, nil, nil, nil, nil
	seen := map[cache.ID]bool{}
	all := p.contents
	for _, k := range p.keys {
		if x.results[k] && p.r.signer == nil {
			continue
		}
		result, err := p.r.cache.Result(k)
		if err != nil {
			return err
		}
		switch {
		case !x.results[k]:
			p.results = append(p.results, k)
		case result.From == "":
			p.again = append(p.again, k)
		default:
			continue
		}
		all = append(all[:len(all):len(all)], result.Contents()...)
	}
	for _, c := range all {
		if err := p.content(ctx, x, c, seen); err != nil {
			return err
		}
	}
	p.told = Progress{TotalObjects: len(p.trees) + len(p.files) + len(p.big), TotalBytes: total(p.trees) + total(p.files) + total(p.big)}
	return nil
}

func (p *pusher) content(ctx context.Context, x *index, c cache.Content, seen map[cache.ID]bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if x.has(c.ID) || seen[c.ID] || c.ID.IsZero() {
		return nil
	}
	seen[c.ID] = true
	if !c.Dir {
		p.add(cache.Object{ID: c.ID, Size: c.Size})
		return nil
	}
	tree, err := p.r.cache.ReadTree(c.ID)
	if err != nil {
		return err
	}
	// Trees come first and together: who fetches needs them all before any file.
	p.add(cache.Object{ID: c.ID, Tree: true, Size: int64(len(tree.Encode()))})
	for _, e := range tree.Entries {
		if e.Type == cache.Link {
			continue
		}
		if err := p.content(ctx, x, e.Content(), seen); err != nil {
			return err
		}
	}
	return nil
}

func (p *pusher) add(o cache.Object) {
	switch {
	case o.Size >= p.r.o.Small:
		p.big = append(p.big, o)
	case o.Tree:
		p.trees = append(p.trees, o)
	default:
		p.files = append(p.files, o)
	}
}

// objects sends packs and large objects side by side.
func (p *pusher) objects(ctx context.Context) error {
	packs := cut(p.trees, p.files, p.r.o.PackSize)
	err := p.r.each(ctx, len(packs)+len(p.big), func(ctx context.Context, i int) error {
		if i < len(p.big) {
			return p.object(ctx, p.big[i])
		}
		return p.pack(ctx, packs[i-len(p.big)])
	})
	p.buffers = nil // half of all memory that a push takes: the indexes that follow need some too
	if err != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		retry := p.r.o.Retry
		if ctx.Err() == nil {
			retry.Attempts = 1 // a server that failed so often will hardly do otherwise now, and somebody waits
		}
		p.keep(last, retry) // else it must go again: no reason to fail in another way
	}
	return err
}

// cut divides objects into packs, trees apart from files. The packs are parts of the two lists.
func cut(trees, files []cache.Object, size int64) [][]cache.Object {
	if total(trees)+total(files) < size && len(trees) > 0 && len(files) > 0 {
		return [][]cache.Object{slices.Concat(trees, files)} // few of each: one request
	}
	var packs [][]cache.Object
	for _, list := range [][]cache.Object{trees, files} {
		from, sum := 0, int64(0)
		for i, o := range list {
			if sum += o.Size; sum >= size || i == len(list)-1 {
				packs = append(packs, list[from:i+1:i+1])
				from, sum = i+1, 0
			}
		}
	}
	return packs
}

func total(list []cache.Object) (n int64) {
	for _, o := range list {
		n += o.Size
	}
	return n
}

// pack sends small objects as one.
func (p *pusher) pack(ctx context.Context, list []cache.Object) error {
	size := total(list)
	if err := p.r.bytes.Acquire(ctx, min(size, p.r.o.InFlight)); err != nil {
		return err
	}
	defer p.r.bytes.Release(min(size, p.r.o.InFlight))
	b := p.buffer(packRoom(list))
	defer func() { p.buffers <- b }()
	b.WriteString(packMagic)
	for _, o := range list {
		whole, err := p.r.cache.Append(b.AvailableBuffer(), o)
		if err != nil {
			return err
		}
		b.Write(whole) // where it stands already
	}
	sent, err := p.r.putPack(ctx, b, list)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.sent.packs = append(p.sent.packs, sent)
	p.mu.Unlock()
	p.moved(len(list), size, size)
	return p.keepAtTimes(ctx)
}

// keepEvery is how much of a push, in time, is lost at most with the process.
const keepEvery = time.Minute

func (p *pusher) keepAtTimes(ctx context.Context) error {
	p.mu.Lock()
	due := p.r.o.Now().Sub(p.named) > keepEvery
	if due {
		p.named = p.r.o.Now()
	}
	p.mu.Unlock()
	if !due {
		return nil
	}
	return p.keep(ctx, p.r.o.Retry)
}

// keep has an index name what is there by now, so that a push that goes on with this one need not send it again. Trees wait: who
// finds one in an index believes that all is there that it names.
func (p *pusher) keep(ctx context.Context, retry Retry) error {
	tree := func(o cache.Object) bool { return o.Tree }
	trees := func(k pack) bool { return slices.ContainsFunc(k.entries, tree) }
	p.mu.Lock()
	files := contents{
		packs:   only(p.sent.packs, func(k pack) bool { return !trees(k) }),
		objects: only(p.sent.objects, func(o cache.Object) bool { return !o.Tree }),
	}
	p.sent = contents{packs: only(p.sent.packs, trees), objects: only(p.sent.objects, tree)}
	p.mu.Unlock()
	if len(files.packs)+len(files.objects) == 0 {
		return nil
	}
	files.sort()
	return p.r.publishTrying(ctx, retry, &files)
}

// packRoom is at least the bytes of a pack of these.
func packRoom(list []cache.Object) int64 { return total(list) + int64(len(packMagic)+len(list)*45+32) }

// putPack stores a pack whose magic and objects are in b, after it appended their entries as in an index and the length of
// these entries (8 bytes, little endian). So an index can be made again from packs.
func (r *Remote) putPack(ctx context.Context, b *bytes.Buffer, list []cache.Object) (pack, error) {
	table := appendEntries(nil, list)
	b.Write(table)
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(table))))
	id := cache.Sum(b.Bytes())
	return pack{id, int64(b.Len()), list}, r.put(ctx, packName(id), b.Bytes())
}

// buffer is an empty one with that much room, used before if there is one.
func (p *pusher) buffer(size int64) *bytes.Buffer {
	select {
	case b := <-p.buffers:
		if b.Reset(); int64(b.Cap()) >= size {
			return b
		}
	default:
	}
	return bytes.NewBuffer(make([]byte, 0, max(size, p.r.o.PackSize+p.r.o.PackSize/16)))
}

// object sends a large object by itself, hashing what goes out.
func (p *pusher) object(ctx context.Context, o cache.Object) error {
	if !p.r.cache.Has(o.ID) {
		return fmt.Errorf("object %s: %w", o.ID, cache.ErrNotFound)
	}
	f, err := os.Open(p.r.cache.ObjectPath(o))
	if err != nil {
		return err
	}
	defer f.Close()
	v := &verifying{f: f, h: blake3.New(), id: o.ID, size: o.Size, passed: func(n int64) { p.moved(0, 0, n) }}
	if err := p.r.o.Retry.do(ctx, func() error { return p.r.bucket.Put(ctx, objectName(o.ID), v) }); err != nil {
		return err
	}
	p.mu.Lock()
	p.sent.objects = append(p.sent.objects, o)
	p.mu.Unlock()
	p.moved(1, o.Size, 0)
	return p.keepAtTimes(ctx)
}

// moved counts objects that are sent, their bytes, and bytes on their way.
func (p *pusher) moved(objects int, sent, passed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Objects += objects
	p.stats.Bytes += sent
	p.told.Objects += objects
	p.told.Bytes += passed
	if p.progress != nil {
		p.progress(p.told)
	}
}

// putResults sends results, whose content is there and in an index by now.
func (p *pusher) putResults(ctx context.Context) error {
	all := slices.Concat(p.results, p.again)
	err := p.r.each(ctx, len(all), func(ctx context.Context, i int) error {
		k := all[i]
		result, made, err := p.result(k)
		if err != nil {
			return err
		}
		if i >= len(p.results) {
			return p.settle(ctx, k, result, made)
		}
		data, err := result.Encode(k)
		if err != nil {
			return err
		}
		var first bool
		err = p.r.o.Retry.do(ctx, func() (err error) {
			first, err = p.r.bucket.PutNew(ctx, resultName(k), bytes.NewReader(data))
			return err
		})
		if first || err != nil {
			return err
		}
		return p.settle(ctx, k, result, made)
	})
	p.stats.Results = len(p.results)
	if err != nil || len(p.results) == 0 {
		return err
	}
	return p.r.publish(ctx, &contents{results: p.results})
}

// result is what is sent of a result: signed if it was made here.
func (p *pusher) result(k cache.Key) (result *cache.Result, made bool, err error) {
	if result, err = p.r.cache.Result(k); err != nil {
		return nil, false, err
	}
	from := result.From
	result.From = ""
	if p.r.signer != nil && from == "" {
		result, err = sign(k, result, p.r.signer)
		return result, true, err
	}
	if p.r.signer != nil && trusted(k, result, p.r.o.Trust) != nil {
		p.mu.Lock()
		if !slices.Contains(p.stats.Unsigned, from) {
			p.stats.Unsigned = append(p.stats.Unsigned, from)
		}
		p.mu.Unlock()
	}
	return result, from == "", nil
}

// verifying is a file whose bytes must hash to id when it is read from start to end: a Put that reads it fails
// before its last byte is sent if they do not.
type verifying struct {
	f    *os.File
	h    *blake3.Hasher
	id   cache.ID
	size int64
	at   int64 // position
	sum  int64 // bytes hashed; the hash is that of the first sum bytes

	passed func(n int64) // is told of bytes that are read for the first time
	most   int64         // bytes that it was told of
}

// Read hashes what is read in order.
func (v *verifying) Read(b []byte) (int, error) {
	n, err := v.f.Read(b)
	if v.at == v.sum {
		v.h.Write(b[:n])
		v.sum += int64(n)
		if v.sum > v.most {
			v.passed(v.sum - v.most)
			v.most = v.sum
		}
	}
	v.at += int64(n)
	if n > 0 && v.sum >= v.size && v.at >= v.size {
		var got cache.ID
		v.h.Sum(got[:0])
		if got != v.id || v.sum != v.size {
			return 0, fmt.Errorf("object %s: its file changed while it was sent: %w", v.id, cache.ErrDamaged)
		}
	}
	return n, err
}

// Seek goes back to the start for another try; other positions are for finding the length.
func (v *verifying) Seek(offset int64, whence int) (int64, error) {
	at, err := v.f.Seek(offset, whence)
	if err != nil {
		return at, err
	}
	if at == 0 {
		v.h.Reset()
		v.sum = 0
	}
	v.at = at
	return at, nil
}
