package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"lpipe/cache"
	"lpipe/tracking"
)

// Sender sends spools to a server. One at a time sends a spool; another process waits, or is told.
type Sender struct {
	Client *tracking.Client
	// Content leads to the bytes of a file or folder: a path that holds until release is called. An error that is
	// cache.ErrNotFound says that they are gone.
	Content func(ctx context.Context, f File) (path string, release func(), err error)
	Warn    func(message string) // told once of each thing that arrives shortened, renamed, or not at all
	Pause   time.Duration        // between two looks at a spool that grows; 0: a second

	trouble atomic.Bool // the last request failed for a reason that may pass
}

// Trouble tells whether the server does not answer now.
func (s *Sender) Trouble() bool { return s.trouble.Load() }

// Send sends what a spool has now. When the run at the top has ended, the spool is done and its records go.
func (s *Sender) Send(ctx context.Context, dir string) error {
	x, err := s.begin(ctx, dir)
	if err != nil {
		return err
	}
	defer x.close()
	err = x.drain(ctx)
	if err == nil {
		err = x.finish()
	}
	return x.tell(err)
}

// Follow sends what a writer appends, until it is closed and all is sent, or ctx ends. A server that does not answer, or
// not yet, is asked again and again; other errors end it: the spool stays for Send.
func (s *Sender) Follow(ctx context.Context, w *Writer) error {
	x, err := s.begin(ctx, w.dir)
	if err != nil {
		return err
	}
	defer x.close()
	x.first = w.fresh && x.state.At == 0 && len(x.state.Runs) == 0
	pause := s.Pause
	if pause == 0 {
		pause = time.Second
	}
	for {
		next, ended := w.more()
		err := x.drain(ctx)
		var e *tracking.Error
		s.trouble.Store(err != nil)
		switch {
		case err == nil && ended:
			return x.tell(x.finish())
		case err != nil && (ended || ctx.Err() != nil || !errors.As(err, &e) || !e.Passing()):
			return x.tell(err)
		case err != nil:
			x.tell(err)
			next = nil // nothing that comes changes that; but the end of the run makes for a last try
		}
		if err := rest(ctx, w, next, pause); err != nil {
			return x.tell(err)
		}
	}
}

// rest waits for the next record and then for a pause, so that records gather; it ends early with the writer.
func rest(ctx context.Context, w *Writer, next <-chan struct{}, pause time.Duration) error {
	if next == nil {
		pause = max(pause, 5*time.Second)
	} else {
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-w.closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sending is a spool that is being sent.
type sending struct {
	*Sender
	dir   string
	lock  *cache.Lock
	f     *os.File
	state *Sent
	head  Head
	names map[nameOf]*tracking.Names
	ended bool // the last record of the run at the top is its end
	ready bool // the experiment is known
	first bool // nobody sent anything of this spool before

	pending map[string]*tracking.Batch
	queued  int       // rows pending
	noteAt  time.Time // before it, arriving rows do not have the state written
	unnoted bool      // the state is further than its file
}

// nameOf says whose names are kept apart: those of a run's metrics, parameters, tags.
type nameOf struct{ run, what string }

func (s *Sender) begin(ctx context.Context, dir string) (*sending, error) {
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	lock, err := cache.LockFile(short, filepath.Join(dir, sendLock), true, nil)
	if err != nil {
		return nil, err
	}
	x := &sending{Sender: s, dir: dir, lock: lock, state: ReadSent(dir), names: map[nameOf]*tracking.Names{}, pending: map[string]*tracking.Batch{}}
	if x.f, err = os.Open(filepath.Join(dir, dataFile)); err != nil {
		lock.Release()
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	if err := x.replay(); err != nil {
		x.close()
		return nil, fmt.Errorf("read the spool %s: %w", dir, err)
	}
	return x, nil
}

func (x *sending) close() {
	x.f.Close()
	x.lock.Release()
}

// replay reads what was sent already: names were given to it that later ones must not take.
func (x *sending) replay() error {
	info, err := x.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < x.state.At {
		x.state.At = 0 // not the file that the state is of
	}
	for r := newReader(x.f, 0); r.at < x.state.At || x.head.ID == ""; {
		record, err := r.next()
		if errors.Is(err, cache.ErrDamaged) && r.at > 0 {
			continue
		}
		if err == io.EOF && x.head.ID == "" {
			return errNoHead
		}
		if err != nil {
			return err
		}
		x.know(&record)
	}
	return nil
}

// know notes what a record says about the spool itself.
func (x *sending) know(r *Record) {
	if r.Head != nil {
		x.head = *r.Head
	}
	if r.Run == "" && (r.Start != nil || r.End != "") {
		x.ended = r.End != ""
	}
	for _, name := range sortedKeys(r.Metrics) { // in the order of sending: it decides who gets a name
		x.namesOf(r.Run, "metric").Of(name)
	}
	for _, name := range sortedKeys(r.Params) {
		x.namesOf(r.Run, "parameter").Of(name)
	}
	for _, name := range sortedKeys(r.Tags) {
		x.namesOf(r.Run, "tag").Of(name)
	}
}

func (x *sending) namesOf(run, what string) *tracking.Names {
	at := nameOf{run, what}
	if x.names[at] == nil {
		x.names[at] = &tracking.Names{}
	}
	return x.names[at]
}

// clean is the name that the server has something under; a new one that differs is told of.
func (x *sending) clean(run, what, name string) string {
	clean, fresh := x.namesOf(run, what).Of(name)
	if fresh {
		x.warn("%s %q is called %q at the server, which allows letters, digits and _-.:/ in names", what, name, clean)
	}
	return clean
}

func (x *sending) warn(format string, args ...any) {
	if x.Warn != nil {
		x.Warn(fmt.Sprintf(format, args...))
	}
}

// gather is how many rows of all runs are collected before they are sent.
const gather = tracking.MaxBatchSize

// drain sends all whole records behind the state's place.
func (x *sending) drain(ctx context.Context) error {
	if err := x.prepare(ctx); err != nil {
		return err
	}
	clear(x.pending)
	x.queued = 0
	r := newReader(x.f, x.state.At)
	for {
		record, err := r.next()
		if err == io.EOF {
			return x.settle(ctx, r.at)
		}
		if errors.Is(err, cache.ErrDamaged) && r.at > 0 {
			x.warn("a record of the spool %s is %v, and is left out", x.head.ID, err)
			x.state.Refused++
			continue
		}
		if err != nil {
			return err
		}
		if err := x.take(ctx, &record); err != nil {
			return err
		}
		if x.queued >= gather {
			if err := x.settle(ctx, r.at); err != nil {
				return err
			}
		}
	}
}

// settle sends what is pending and notes that all before a place of the spool is sent.
func (x *sending) settle(ctx context.Context, at int64) error {
	for _, run := range sortedKeys(x.pending) {
		if err := x.flush(ctx, run); err != nil {
			return err
		}
	}
	x.queued = 0
	if at == x.state.At {
		return nil
	}
	x.state.At, x.state.Error = at, ""
	return x.note()
}

// note writes the state, unless that would take more than a thousandth of the time: to replace a file costs some file systems
// milliseconds, and a training is beside. After a kill the rows since are sent again, which changes nothing at the server.
func (x *sending) note() error {
	began := time.Now()
	if began.Before(x.noteAt) {
		x.unnoted = true
		return nil
	}
	err := x.state.write(x.dir)
	x.unnoted, x.noteAt = false, began.Add(1000*time.Since(began))
	return err
}

// finish marks the spool as done if the run at the top has ended.
func (x *sending) finish() error {
	if !x.ended || x.state.Done {
		return nil
	}
	x.state.Done = true
	return x.state.write(x.dir)
}

// tell notes in the state why sending stopped.
func (x *sending) tell(err error) error {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if x.state.Error != text || x.unnoted {
		x.state.Error, x.unnoted = text, false
		if wrote := x.state.write(x.dir); err == nil {
			err = wrote
		}
	}
	return err
}
