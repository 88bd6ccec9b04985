package stages

import (
	"context"
	"sync"
)

// ordered produces jobs on one goroutine, works on them on several, and emits the results on the caller's in
// the order of the jobs. At most a few jobs a worker are in memory. The first error in that order ends it,
// whichever worker met it first; produce is then told so by send.
func ordered[J, T any](ctx context.Context, workers int, produce func(send func(J) bool) error, work func(J) (T, error), emit func(T) error) error {
	type result struct {
		value T
		err   error
	}
	type job struct {
		in  J
		out chan result
	}
	workers = max(workers, 1)
	ctx, cancel := context.WithCancel(ctx)
	jobs, order := make(chan job, workers), make(chan job, workers)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()

	var produceErr error
	wait.Go(func() {
		defer close(order) // publishes produceErr
		defer close(jobs)
		produceErr = produce(func(in J) bool {
			j := job{in, make(chan result, 1)}
			select {
			case <-ctx.Done():
				return false
			case order <- j:
			}
			jobs <- j // the workers take every job, also when all is over
			return true
		})
	})
	for range workers {
		wait.Go(func() {
			for j := range jobs {
				var r result
				if r.err = ctx.Err(); r.err == nil {
					r.value, r.err = work(j.in)
				}
				j.out <- r
			}
		})
	}
	var err error
	for j := range order {
		r := <-j.out
		if err != nil {
			continue // so that the producer is not held up
		}
		if err = r.err; err == nil {
			err = emit(r.value)
		}
		if err != nil {
			cancel()
		}
	}
	if err == nil {
		err = produceErr
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}
