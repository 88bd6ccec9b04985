package spool

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lpipe/cache"
)

// The files of a spool's folder.
const (
	dataFile  = "spool"
	sentFile  = "sent.json"
	writeLock = "write.lock"
	sendLock  = "send.lock"
)

// Writer appends to a spool. Its methods may be called from several goroutines.
type Writer struct {
	dir  string
	lock *cache.Lock
	now  func() time.Time

	closed chan struct{} // closed by Close

	mu     sync.Mutex // guards what follows
	f      *os.File
	buffer []byte
	time   int64
	last   map[string]map[string]int64 // the highest step of each metric, by run
	runs   map[string]*RunState
	head   Head
	err    error
	wake   chan struct{} // closed and made anew with each record
	ended  bool
	fresh  bool // made by this process: nobody else has sent anything of it
}

// RunState is what a spool tells of a run.
type RunState struct {
	Start
	End string // "" while it goes on, or was killed
}

// Create begins a spool in a folder that does not exist yet. now is the clock.
func Create(ctx context.Context, dir string, head Head, now func() time.Time) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("make a spool: %w", err)
	}
	w, err := open(ctx, dir, now)
	if err != nil {
		return nil, err
	}
	if _, err := w.f.WriteString(fileHead); err != nil {
		w.Close()
		return nil, fmt.Errorf("make a spool: %w", err)
	}
	w.head, w.fresh = head, true
	w.Append(Record{Head: &head})
	if err := w.Sync(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Reopen goes on with a spool. What a kill left of its last record is cut off. A spool that another process writes is an
// error that is cache.ErrLocked.
func Reopen(ctx context.Context, dir string, now func() time.Time) (*Writer, error) {
	w, err := open(ctx, dir, now)
	if err != nil {
		return nil, err
	}
	end, err := w.scan()
	if err == nil {
		err = w.f.Truncate(end)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("go on with the spool %s: %w", dir, err)
	}
	return w, nil
}

func open(ctx context.Context, dir string, now func() time.Time) (*Writer, error) {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	lock, err := cache.LockFile(ctx, filepath.Join(dir, writeLock), true, nil)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, dataFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		lock.Release()
		return nil, fmt.Errorf("open a spool: %w", err)
	}
	return &Writer{dir: dir, lock: lock, now: now, f: f, last: map[string]map[string]int64{}, runs: map[string]*RunState{}, wake: make(chan struct{}), closed: make(chan struct{})}, nil
}

// scan reads what is there: which runs, how far each metric is, what time it was. It returns where the last good line ends.
func (w *Writer) scan() (end int64, err error) {
	r := newReader(w.f, 0)
	for {
		record, err := r.next()
		switch {
		case err == io.EOF && r.at == 0:
			return 0, fmt.Errorf("%w: it has no beginning", cache.ErrDamaged) // nobody would find what is added
		case err == io.EOF:
			return r.at, nil
		case errors.Is(err, cache.ErrDamaged) && r.at > 0:
			continue // the sender tells of it
		case err != nil:
			return 0, err
		}
		w.note(&record)
	}
}

// note keeps what later records hang on.
func (w *Writer) note(r *Record) {
	w.time = max(w.time, r.Time)
	switch {
	case r.Head != nil:
		w.head = *r.Head
	case r.Start != nil:
		w.runs[r.Run] = &RunState{Start: *r.Start}
	case r.End != "":
		if run := w.runs[r.Run]; run != nil {
			run.End = r.End
		}
	case r.Metrics != nil:
		steps := w.last[r.Run]
		if steps == nil {
			steps = map[string]int64{}
			w.last[r.Run] = steps
		}
		for name := range r.Metrics {
			steps[name] = r.Step
		}
	}
}

// Head is the spool's first record.
func (w *Writer) Head() Head { return w.head }

// Dir is the spool's folder.
func (w *Writer) Dir() string { return w.dir }

// Run is what the spool tells of a run so far.
func (w *Writer) Run(name string) (RunState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	run := w.runs[name]
	if run == nil {
		return RunState{}, false
	}
	return *run, true
}

// Open lists the runs that were started and did not end.
func (w *Writer) Open() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, run := range w.runs {
		if run.End == "" {
			names = append(names, name)
		}
	}
	return names
}

// Append adds a record, whose time it sets; a clock that goes backwards stands still here. Of metrics it leaves out those
// whose step was told already. An error stays, and is what Sync and Close return: nobody who appends is to fail by it.
func (w *Writer) Append(r Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	if r.Time == 0 {
		r.Time = w.now().UnixMilli()
	}
	r.Time = max(r.Time, w.time)
	if r.Metrics != nil {
		if r.Metrics = w.untold(r); len(r.Metrics) == 0 {
			return
		}
	}
	w.buffer, w.err = r.line(w.buffer[:0])
	if w.err == nil {
		_, w.err = w.f.Write(w.buffer)
	}
	if w.err != nil {
		return
	}
	w.note(&r)
	close(w.wake)
	w.wake = make(chan struct{})
}

// untold are the metrics of a record whose step is new.
func (w *Writer) untold(r Record) map[string]Number {
	told, all := w.last[r.Run], true
	for name := range r.Metrics {
		if at, known := told[name]; known && r.Step <= at {
			all = false
		}
	}
	if all {
		return r.Metrics
	}
	fresh := map[string]Number{}
	for name, value := range r.Metrics {
		if at, known := told[name]; !known || r.Step > at {
			fresh[name] = value
		}
	}
	return fresh
}

// Sync makes durable what was appended.
func (w *Writer) Sync() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.f.Sync()
	}
	if w.err != nil {
		return fmt.Errorf("write the spool %s: %w", w.dir, w.err)
	}
	return nil
}

// Close ends writing; a Sender that follows sends what is left, and stops.
func (w *Writer) Close() error {
	err := w.Sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.ended = true
		close(w.wake)
		close(w.closed)
		w.f.Close()
		w.lock.Release()
	}
	return err
}

// more is a channel that is closed with the next record; ended says that none will come.
func (w *Writer) more() (next <-chan struct{}, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wake, w.ended
}

// reader reads records from a place in a spool.
type reader struct {
	r  *bufio.Reader
	at int64 // behind the last whole line
}

func newReader(f io.ReaderAt, from int64) *reader {
	return &reader{bufio.NewReaderSize(io.NewSectionReader(f, from, 1<<62), 1<<20), from}
}

// next returns a record, io.EOF at the end or where the last line has no end, and an error that is cache.ErrDamaged for a
// line that is damaged; the one behind it can be read.
func (r *reader) next() (Record, error) {
	line, err := r.line()
	if err != nil {
		return Record{}, err
	}
	began := r.at
	r.at += int64(len(line))
	if began == 0 {
		if string(line) != fileHead {
			r.at = 0
			return Record{}, fmt.Errorf("%w: it does not begin with %q", cache.ErrDamaged, fileHead[:len(fileHead)-1])
		}
		return r.next()
	}
	record, good := parseLine(line[:len(line)-1])
	if !good {
		return Record{}, fmt.Errorf("%w at byte %d", cache.ErrDamaged, began)
	}
	return record, nil
}

// line returns a line with its end.
func (r *reader) line() ([]byte, error) {
	line, err := r.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := bytes.Clone(line)
	rest, err := r.r.ReadBytes('\n')
	return append(long, rest...), err
}

// List names the spools below a folder, oldest first.
func List(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(root, e.Name()))
		}
	}
	return dirs, err
}
