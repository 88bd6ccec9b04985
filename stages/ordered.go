package stages

import (
	"context"
	"sync"
)

// mostWorkers bounds what is in memory. More would wait for the one goroutine that reads and the one that writes.
const mostWorkers = 16

// ordered produces jobs on one goroutine, works on them on several, and emits the results on the caller's in
// the order of the jobs. At most a few jobs a worker are in memory. The first error in that order ends it,
// whichever worker met it first; produce is then told so by send.
func ordered[J, T any](ctx context.Context, workers int, produce func(send func(J) bool) error, work func(J) (T, error), emit func(T) error) error {
	workers = min(max(workers, 1), mostWorkers)
	ctx, cancel := context.WithCancel(ctx)
	jobs, order := make(chan job[J, T], workers), make(chan job[J, T], workers)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()

	var produceErr error
	wait.Go(func() {
		defer close(order) // publishes produceErr
		defer close(jobs)
		produceErr = produce(func(in J) bool {
			j := job[J, T]{in, make(chan result[T], 1)}
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
				j.do(ctx, work)
			}
		})
	}
	if err := emitAll(order, emit, cancel); err != nil {
		return err
	}
	if produceErr != nil {
		return produceErr
	}
	return ctx.Err()
}

// job is some work and the place for its result.
type job[J, T any] struct {
	in  J
	out chan result[T] // takes one without waiting
}

type result[T any] struct {
	value T
	err   error
}

func (j job[J, T]) do(ctx context.Context, work func(J) (T, error)) {
	var r result[T]
	if r.err = ctx.Err(); r.err == nil {
		r.value, r.err = work(j.in)
	}
	j.out <- r
}

// emitAll emits until the first error; it then cancels, and empties order so that the producer is not held up.
func emitAll[J, T any](order <-chan job[J, T], emit func(T) error, cancel func()) (err error) {
	for j := range order {
		r := <-j.out
		if err != nil {
			continue
		}
		if err = r.err; err == nil {
			err = emit(r.value)
		}
		if err != nil {
			cancel()
		}
	}
	return err
}
