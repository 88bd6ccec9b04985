package runner

import (
	"context"
	"slices"
	"sync"
	"time"

	"lpipe/cache"
)

// syncWithin is how late a finished stage may be acknowledged: those that finish shortly after one another share what it takes
// to make them durable, and the rest is for two flushes, their own and the one before. So the quicker the disk, the longer a group
// gathers.
const (
	syncWithin  = 50 * time.Millisecond
	gatherLeast = syncWithin / 5
	gatherMost  = syncWithin / 2
)

// gatherFor is how long a group gathers where flushes take that long.
func gatherFor(flush time.Duration) time.Duration {
	return min(max(syncWithin-2*flush, gatherLeast), gatherMost)
}

// ending is a step that is done and not yet on record.
type ending struct {
	deposit *cache.Deposit // what the cache is to store first; nil: nothing
	calm    bool           // somebody may read its files already: they are left alone until the end of the run
	entries []entry        // then the journal
	told    func()         // called when all of it is durable
	failed  func(error)    // called instead if it cannot be made so; nil where there is nothing to store
}

// commits puts finished steps on record, many at a time: objects, then results, then journal, each durable before the
// next. Only after that a step is acknowledged, but what needs its outputs may start before: they stand in the
// workspace, and their content is known.
type commits struct {
	prepare func([]*cache.Deposit)  // does ahead, while a group gathers, what it can of
	store   func([]*ending) []error // which makes steps durable, and says which failed

	flushing sync.Mutex // held during a flush; taken before mu

	mu    sync.Mutex
	queue []*ending        // in the order in which they are to be told
	fresh []*cache.Deposit // those of the queue that are yet to be prepared
	round chan struct{}    // closed when those are prepared that are being prepared now; nil: none
	since time.Time        // when its first was submitted
	busy  bool             // a flush makes durable and tells what it took from the queue
	timer *time.Timer
	took  time.Duration // by flushes of late: the longest, of which each shorter one makes forget half
}

// submit takes a finished step. It returns at once.
func (c *commits) submit(e *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(e)
	if e.deposit == nil {
		return
	}
	c.fresh = append(c.fresh, e.deposit)
	if c.round == nil {
		c.round = make(chan struct{})
		go c.prepareFresh()
	}
}

// prepareFresh prepares deposits until there are no more, in rounds of those that came during the one before.
func (c *commits) prepareFresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.fresh) > 0 {
		some := c.fresh
		c.fresh = nil
		c.mu.Unlock()
		c.prepare(some)
		c.mu.Lock()
		close(c.round)
		c.round = make(chan struct{})
	}
	close(c.round) // somebody may have taken what it was for before it began
	c.round = nil
}

// tell calls a function after all steps that were submitted before are told: a stage is not seen to start before what
// it needs is seen to end.
func (c *commits) tell(f func()) {
	c.mu.Lock()
	if c.busy || len(c.queue) > 0 {
		c.push(&ending{told: f})
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	f()
}

// push adds to the queue. The caller holds mu.
func (c *commits) push(e *ending) {
	if len(c.queue) == 0 {
		c.since = time.Now()
	}
	c.queue = append(c.queue, e)
	c.arm()
}

// arm has the queue flushed a while after its first was submitted, or after the flush that goes on. The caller holds mu.
func (c *commits) arm() {
	if len(c.queue) > 0 && !c.busy && c.timer == nil {
		c.timer = time.AfterFunc(gatherFor(c.took)-time.Since(c.since), c.flush)
	}
}

// flush puts on record what was submitted. Submitting goes on meanwhile.
func (c *commits) flush() {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	began := time.Now()
	batch := c.take()
	errs := c.store(batch)
	took := time.Since(began)
	for i, e := range batch {
		if errs[i] == nil || e.failed == nil {
			e.told()
		} else {
			e.failed(errs[i])
		}
	}
	c.mu.Lock()
	c.took = max(took, c.took/2)
	c.busy = false
	c.arm()
	c.mu.Unlock()
}

// take is the queue, of which nothing is being prepared any more.
func (c *commits) take() []*ending {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	batch, round := c.queue, c.round
	c.queue, c.fresh, c.busy = nil, nil, true
	c.mu.Unlock()
	if round != nil {
		<-round
	}
	return batch
}

// close flushes until nothing is left. Nothing may be submitted any more but by what is told.
func (c *commits) close() {
	for {
		c.flush()
		c.mu.Lock()
		left := len(c.queue)
		c.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// commit makes finished steps durable: deposits, then the journal. The steps are finished whatever becomes of the run, so no
// cancellation reaches here.
func (x *execution) commit(batch []*ending) []error {
	errs := make([]error, len(batch))
	if !slices.ContainsFunc(batch, func(e *ending) bool { return e.deposit != nil || len(e.entries) > 0 }) {
		return errs // only to be told
	}
	release, err := x.hold(context.Background()) // no gc between the cache and the journal, which says who needs it
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	defer release()
	x.commitDeposits(batch, errs)
	var entries []entry
	for i, e := range batch {
		if errs[i] == nil {
			entries = append(entries, e.entries...)
		}
	}
	if len(entries) == 0 {
		return errs
	}
	j, err := x.record(entries)
	if err == nil {
		err = j.sync()
	}
	if err != nil {
		for i, e := range batch {
			if len(e.entries) > 0 && errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	x.recorded(entries)
	return errs
}

// commitDeposits has the cache store what steps left, and then keep once what is the same: at once where nobody reads it yet,
// for others at the end of the run.
func (x *execution) commitDeposits(batch []*ending, errs []error) {
	var deposits, still []*cache.Deposit
	var at []int
	for i, e := range batch {
		if e.deposit != nil {
			deposits, at = append(deposits, e.deposit), append(at, i)
		}
	}
	if len(deposits) == 0 {
		return
	}
	for k, err := range x.Cache.Commit(context.Background(), deposits) {
		errs[at[k]] = err
		switch {
		case err != nil:
		case batch[at[k]].calm:
			x.unlinked = append(x.unlinked, deposits[k])
		default:
			still = append(still, deposits[k])
		}
	}
	x.link(still)
}

// link makes links of files that are not objects themselves. It is no failure if that cannot be done: only space is lost.
func (x *execution) link(deposits []*cache.Deposit) {
	if len(deposits) == 0 {
		return
	}
	if err := x.Cache.Link(context.Background(), deposits); err != nil {
		x.warn("", "outputs stay copies of what the cache has, which takes space: %v", err)
	}
}
