package runner_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"lpipe/cache"
	"lpipe/runner"
)

// colleague is a remote that a cache stands for.
type colleague struct {
	cache *cache.Cache
	mine  *cache.Cache
	asked atomic.Int32
	err   error

	brought atomic.Int32 // contents
}

func (c *colleague) Result(ctx context.Context, key cache.Key) (*cache.Result, error) {
	c.asked.Add(1)
	if c.err != nil {
		return nil, c.err
	}
	return c.cache.Result(key)
}

func (c *colleague) Contents(ctx context.Context, wants []cache.Content) error {
	for _, want := range wants {
		c.brought.Add(1)
		for object, err := range c.cache.Objects(ctx, want) {
			if err != nil {
				return err
			}
			r, err := c.cache.Open(object.ID)
			if err != nil {
				return err
			}
			err = c.mine.Put(ctx, object.ID, object.Tree, object.Size, r)
			r.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func TestColleaguesRunIsAHit(t *testing.T) {
	theirs := newWorkspace(t, chain, "raw.txt", "a b\n")
	theirs.repro()
	mine := newWorkspace(t, chain, "raw.txt", "a b\n")
	remote := &colleague{cache: theirs.open().Cache}
	mine.opts = func(o *runner.Options) { remote.mine = o.Cache; o.Fetcher = remote }
	equal(t, "mine", mine.repro(), "clean:remote count:remote loud:remote")
	equal(t, "lock", mine.read("pipeline.lock"), theirs.read("pipeline.lock"))
	remote.asked.Store(0)
	equal(t, "again", mine.repro(), "clean:workspace count:workspace loud:workspace")
	mine.status()
	if n := remote.asked.Load(); n != 0 {
		t.Errorf("the remote was asked %d times though nothing was missing", n)
	}
}

func TestRemoteThatFailsIsAskedOnce(t *testing.T) {
	w := newWorkspace(t, chain, "raw.txt", "a b\n")
	remote := &colleague{err: errors.New("connection refused")}
	w.opts = func(o *runner.Options) { o.Fetcher = remote }
	equal(t, "run", w.repro(), "clean:ran count:ran loud:ran")
	equal(t, "message", w.messages(), "the remote's results cannot be used in this run: connection refused")
	if n := remote.asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}
