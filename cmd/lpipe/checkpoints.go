package main

import (
	"context"
	"errors"
	"sync"

	"lpipe/cache"
	"lpipe/remote"
	"lpipe/runner"
)

// checkpoints is the default remote as the place for what running stages go on from: nil where there is none, or where its
// results are off.
func (p *program) checkpoints(ctx context.Context, pr *project) runner.Checkpoints {
	block, err := chooseRemote(pr.pipeline, "")
	if err != nil || block == nil || block.Results == "off" {
		return nil // fetcher has said why
	}
	return &checkpointRemote{
		reads: block.Results == "read",
		open: sync.OnceValues(func() (*remote.Remote, error) {
			r, err := p.openRemote(ctx, pr, block, 0, 0)
			if err != nil || block.Results == "read" {
				return r, err
			}
			return r, p.signWith(r, r.Trust())
		}),
	}
}

// checkpointRemote opens the remote when a stage wants it: most want nothing.
type checkpointRemote struct {
	reads bool // nothing is sent there
	open  func() (*remote.Remote, error)
}

func (c *checkpointRemote) SendCheckpoint(ctx context.Context, key cache.Key, path string) error {
	if c.reads {
		return errors.New(`nothing is sent to this remote: its block says results = "read"`)
	}
	r, err := c.open()
	if err != nil {
		return err
	}
	return r.SendCheckpoint(ctx, key, path)
}

func (c *checkpointRemote) BringCheckpoint(ctx context.Context, key cache.Key, dir, than string) (string, error) {
	r, err := c.open()
	if err != nil {
		return "", err
	}
	return r.BringCheckpoint(ctx, key, dir, than)
}
