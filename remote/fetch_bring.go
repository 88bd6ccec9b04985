package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"lpipe/cache"
)

// How objects arrive: those of a pack in one stream, larger ones by themselves, the largest in parts.

// batch runs n requests whose objects become durable together.
func (f *fetcher) batch(ctx context.Context, n int, bring func(ctx context.Context, b *cache.Batch, i int) error) error {
	b, err := f.r.cache.NewBatch(ctx)
	if err != nil {
		return err
	}
	defer b.Discard()
	if err := f.r.each(ctx, n, func(ctx context.Context, i int) error { return bring(ctx, b, i) }); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// piece brings part of a pack, one object in memory at a time. After a cut, or wrong bytes, it goes on with the object
// that these harmed.
func (f *fetcher) piece(ctx context.Context, b *cache.Batch, p piece) error {
	largest := int64(0)
	for _, o := range p.objects {
		largest = max(largest, o.Size)
	}
	share := min(largest, f.r.o.InFlight)
	if err := f.r.bytes.Acquire(ctx, share); err != nil {
		return err
	}
	defer f.r.bytes.Release(share)
	buffer := make([]byte, largest)
	next, wrong := 0, "" // the same wrong bytes again are not the network's
	err := f.r.o.Retry.do(ctx, func() error {
		at := p.objects[next].offset
		body, err := f.r.stream(ctx, packName(p.pack), at, p.to-at)
		if err != nil {
			return err
		}
		defer body.Close()
		for ; next < len(p.objects); next++ {
			o := p.objects[next]
			if _, err := io.CopyN(io.Discard, body, o.offset-at); err != nil {
				return err
			}
			data := buffer[:o.Size]
			if _, err := io.ReadFull(body, data); err != nil {
				return err
			}
			at = o.offset + o.Size
			if err := b.PutBytes(ctx, o.ID, o.Tree, data); errors.Is(err, cache.ErrDamaged) {
				again := err.Error() == wrong
				wrong = err.Error()
				return f.r.fail(Damaged, "get", packName(p.pack), !again, err)
			} else if err != nil {
				return err
			}
			f.moved(1, o.Size, o.Size)
		}
		return nil
	})
	return err
}

// byPart tells objects that come by one request from those that come in parts.
func byPart(list []cache.Object) (whole, parted []cache.Object) {
	for _, o := range list {
		if o.Size > partSize {
			parted = append(parted, o)
		} else {
			whole = append(whole, o)
		}
	}
	return whole, parted
}

// whole brings an object by one request, through a small buffer.
func (f *fetcher) whole(ctx context.Context, b *cache.Batch, o cache.Object) error {
	name, wrong := objectName(o.ID), ""
	err := f.r.o.Retry.do(ctx, func() error {
		body, err := f.r.stream(ctx, name, 0, o.Size)
		if err != nil {
			return err
		}
		defer body.Close()
		if err := b.Put(ctx, o.ID, o.Tree, o.Size, body); errors.Is(err, cache.ErrDamaged) {
			again := err.Error() == wrong
			wrong = err.Error()
			return f.r.fail(Damaged, "get", name, !again, err)
		} else if err != nil {
			return err
		}
		f.moved(1, o.Size, o.Size)
		return nil
	})
	return err
}

// rounds is how often parts are asked for whose object came out wrong: a part is believed when it came twice alike.
const rounds = 8

// parted brings an object's parts side by side into their places. What an earlier fetch got of it need not come again.
func (f *fetcher) parted(ctx context.Context, o cache.Object) error {
	p, err := f.r.cache.Partial(ctx, o, partSize)
	if err != nil {
		return err
	}
	defer p.Close()
	fresh := p.Missing()
	told := o.Size
	for _, i := range fresh {
		_, n := p.Range(i)
		told -= n
	}
	f.moved(0, 0, told) // what is there already
	for round := 0; round < rounds; round++ {
		missing := p.Missing()
		err := f.r.each(ctx, len(missing), func(ctx context.Context, i int) error {
			err := f.part(ctx, o, p, missing[i])
			if _, n := p.Range(missing[i]); err == nil && round == 0 {
				f.moved(0, n, n)
			}
			return err
		})
		if err != nil {
			return err
		}
		done, err := p.Commit(ctx)
		if err != nil {
			return err
		}
		if done {
			f.moved(1, 0, 0)
			return nil
		}
	}
	return f.r.fail(Damaged, "get", objectName(o.ID), false, fmt.Errorf("its bytes came differently %d times", rounds))
}

func (f *fetcher) part(ctx context.Context, o cache.Object, p *cache.Partial, i int) error {
	at, n := p.Range(i)
	return f.r.o.Retry.do(ctx, func() error {
		body, err := f.r.stream(ctx, objectName(o.ID), at, n)
		if err != nil {
			return err
		}
		defer body.Close()
		return p.Put(ctx, i, body)
	})
}

// gone adds what a missing pack or object means.
func gone(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w (lpipe fsck --remote says what else is missing)", err)
}

// moved counts objects that are there, bytes that came, and bytes that need not come any more.
func (f *fetcher) moved(objects int, came, settled int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Objects += objects
	f.stats.Bytes += came
	f.told.Objects += objects
	f.told.Bytes += settled
	if f.progress != nil {
		f.progress(f.told)
	}
}
