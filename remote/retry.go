package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Retry says how often and how patiently a request is repeated.
type Retry struct {
	Attempts int           // in all; 0: 8
	First    time.Duration // the first pause, doubled each time up to 40 times this; 0: 100 ms
}

// do repeats a request while its error may pass. Half of each pause is random, so that clients that failed
// together do not come back together.
func (r Retry) do(ctx context.Context, request func() error) error {
	attempts, pause := r.Attempts, r.First
	if attempts == 0 {
		attempts = 8
	}
	if pause == 0 {
		pause = 100 * time.Millisecond
	}
	for most := 40 * pause; ; pause = min(2*pause, most) {
		err := request()
		var e *Error
		if err == nil || !errors.As(err, &e) || !e.Retry {
			return err
		}
		if attempts--; attempts <= 0 {
			e.Retry = false // whoever called us need not try again
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
	}
}
