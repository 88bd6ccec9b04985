package remote

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lpipe/cache"
)

const (
	// lockRefresh is how often a holder says that it is still there, lockStale when nobody believes it any more.
	lockRefresh = 4 * time.Minute
	lockStale   = 20 * time.Minute
)

// ErrLocked says that somebody else works on the bucket in a way that excludes us.
var ErrLocked = cache.ErrLocked

// lock tells others what we do: any number of pushes together, or one gc alone. Whoever comes second gives way:
// it looks after it has put its own mark down, so that of two at least one sees the other.
func (r *Remote) lock(ctx context.Context, kind string) (release func(), err error) {
	name := "locks/" + kind + "-" + strings.ToLower(rand.Text())
	text, err := json.Marshal(map[string]string{"host": r.o.Host, "what": kind, "since": r.o.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return nil, err
	}
	if err := r.put(ctx, name, text); err != nil {
		return nil, err
	}
	stop, done := context.WithCancel(ctx)
	finished := make(chan struct{})
	release = func() {
		done()
		<-finished
		// Ours is gone even if the work was cancelled; a server that cannot do it soon keeps it until it is stale.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		r.delete(last, name)
	}
	go func() {
		defer close(finished)
		for {
			select {
			case <-stop.Done():
				return
			case <-time.After(lockRefresh):
				r.put(stop, name, text)
			}
		}
	}()
	if err := r.others(ctx, kind, name); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// others fails if somebody holds a lock that excludes ours. Age is by the bucket's clock: our own mark tells it.
func (r *Remote) others(ctx context.Context, kind, ours string) error {
	for try := 0; ; try++ {
		items, err := r.list(ctx, "locks/")
		if err != nil {
			return err
		}
		now := time.Time{}
		for _, item := range items {
			if item.Name == ours {
				now = item.Time
			}
		}
		var holder string
		for _, item := range items {
			if item.Name == ours || kind == "push" && strings.HasPrefix(item.Name, "locks/push-") {
				continue
			}
			if !now.IsZero() && now.Sub(item.Time) > lockStale {
				if err := r.delete(ctx, item.Name); err != nil {
					return err
				}
				continue
			}
			holder = item.Name
		}
		if holder == "" {
			return nil
		}
		if try == 5 {
			text, _ := r.read(ctx, holder, 0, -1, nil)
			return fmt.Errorf("%s is held by %s: %w", holder, text, ErrLocked)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is held: %w: %w", holder, ErrLocked, ctx.Err())
		case <-time.After(time.Second << min(try, 3)):
		}
	}
}
