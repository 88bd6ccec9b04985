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
	n atomic.Int64
}

// requests is the number up to now.
func (c *counting) requests() int {
	n := int(c.n.Load())
	if b, ok := c.Bucket.(interface{ ExtraRequests() int }); ok {
		n += b.ExtraRequests()
	}
	return n
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

func (c *counting) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	c.n.Add(1)
	return c.Bucket.List(ctx, prefix)
}

func (c *counting) Delete(ctx context.Context, names ...string) error {
	c.n.Add(1)
	return c.Bucket.Delete(ctx, names...)
}
