package remote

import (
	"context"
	"io"
	"iter"
	"sync/atomic"
)

// counting counts the requests that go to a bucket. A bucket that needs several for one call (pages of a listing,
// parts of an upload) counts them itself.
type counting struct {
	Bucket
	n      atomic.Int64
	before int // that the bucket had counted when we came
}

func newCounting(b Bucket) counting { return counting{Bucket: b, before: extraRequests(b)} }

// requests is the number up to now.
func (c *counting) requests() int { return int(c.n.Load()) + extraRequests(c.Bucket) - c.before }

func extraRequests(b Bucket) int {
	if b, ok := b.(interface{ ExtraRequests() int }); ok {
		return b.ExtraRequests()
	}
	return 0
}

func (c *counting) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	c.n.Add(1)
	return c.Bucket.Get(ctx, name, offset, length)
}

func (c *counting) Put(ctx context.Context, name string, r io.ReadSeeker) error {
	c.n.Add(1)
	return c.Bucket.Put(ctx, name, r)
}

func (c *counting) PutNew(ctx context.Context, name string, r io.ReadSeeker) (bool, error) {
	c.n.Add(1)
	return c.Bucket.PutNew(ctx, name, r)
}

func (c *counting) Replace(ctx context.Context, name string, old []byte, r io.ReadSeeker) (bool, error) {
	c.n.Add(1)
	return c.Bucket.Replace(ctx, name, old, r)
}

func (c *counting) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	c.n.Add(1)
	return c.Bucket.List(ctx, prefix)
}

func (c *counting) Delete(ctx context.Context, names ...string) error {
	c.n.Add(1)
	return c.Bucket.Delete(ctx, names...)
}
