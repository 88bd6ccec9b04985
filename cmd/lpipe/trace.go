package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"lpipe/runner"
)

// trace collects a run as Chrome trace events (the JSON object format, which chrome://tracing and Perfetto
// read: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
type trace struct {
	on bool

	mu      sync.Mutex // guards what follows
	start   time.Time
	begun   map[string]time.Time
	lanes   map[string]int // the row that a running stage is drawn in
	entries []traceEntry
}

type traceEntry struct {
	Name     string         `json:"name"`
	Phase    string         `json:"ph"`
	Micros   int64          `json:"ts"`
	Duration int64          `json:"dur,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Color    string         `json:"cname,omitempty"` // one of Chrome's names
	Args     map[string]any `json:"args,omitempty"`
}

func newTrace(file string) *trace {
	return &trace{on: file != "", begun: map[string]time.Time{}, lanes: map[string]int{}}
}

func (t *trace) event(e runner.RunEvent) {
	if !t.on {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.start.IsZero() {
		t.start = e.Time
	}
	switch e.Event {
	case "start":
		lane, taken := 1, map[int]bool{}
		for _, l := range t.lanes {
			taken[l] = true
		}
		for taken[lane] {
			lane++
		}
		t.begun[e.Stage], t.lanes[e.Stage] = e.Time, lane
	case "stage":
		begun, ran := t.begun[e.Stage]
		if !ran {
			begun = e.Time.Add(-time.Duration(e.Seconds * float64(time.Second)))
		}
		t.entries = append(t.entries, traceEntry{
			Name: e.Stage, Phase: "X", Micros: begun.Sub(t.start).Microseconds(), Duration: max(1, e.Time.Sub(begun).Microseconds()),
			Process: 1, Thread: t.lanes[e.Stage], Args: map[string]any{"how": e.How},
		})
		delete(t.begun, e.Stage)
		delete(t.lanes, e.Stage)
	}
}

// write makes the file; without --trace it does nothing.
func (t *trace) write(path string, critical []runner.CriticalStage) error {
	if !t.on {
		return nil
	}
	t.mark(critical)
	f, finish, err := atomicFile(path)
	if err != nil {
		return err
	}
	err = t.encode(f)
	if finished := finish(err); err == nil {
		err = finished
	}
	return err
}

// mark colours the stages of the critical path, and shows it once more in a row of its own.
func (t *trace) mark(critical []runner.CriticalStage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	after := map[string]string{}
	for _, one := range critical {
		after[one.Stage] = one.After
	}
	row := []traceEntry{{Name: "process_name", Phase: "M", Process: 2, Args: map[string]any{"name": "critical path"}}}
	for i := range t.entries {
		e := &t.entries[i]
		why, on := after[e.Name]
		if !on || e.Phase != "X" {
			continue
		}
		e.Args["critical"], e.Color = true, "terrible"
		shown := *e
		shown.Process, shown.Thread, shown.Args = 2, 0, map[string]any{"how": e.Args["how"], "after": why}
		row = append(row, shown)
	}
	t.entries = append(t.entries, row...)
}

func (t *trace) encode(f *os.File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := json.NewEncoder(f).Encode(map[string]any{"traceEvents": t.entries, "displayTimeUnit": "ms"}); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	return nil
}
