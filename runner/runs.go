package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lpipe/cache"
)

// KeptRuns is how many runs' logs a workspace keeps; the logs of successful stages are in their results too.
const KeptRuns = 50

// run is the folder of one repro: .lpipe/runs/<id>/ with events.jsonl, a log for each stage that ran, and failed/ with
// what failed stages left. It is made when there is first something to write.
type run struct {
	id   string
	root string // .lpipe/runs

	mu      sync.Mutex
	events  *os.File
	pending []byte // events of stages that were reused, not written yet
	err     error
}

// newRun names a run by the time of its start, so that names sort by age: the second, and in hexadecimal its 65,536th part. Only one
// run at a time writes in a workspace, and none is as short as that.
func newRun(root string, now time.Time) *run {
	return &run{id: fmt.Sprintf("%s-%04x", now.UTC().Format(runSecond), now.Nanosecond()<<16/int(time.Second)), root: root}
}

const runSecond = "20060102-150405"

// runStart is the time that a run's name tells.
func runStart(id string) time.Time {
	second, part, _ := strings.Cut(id[min(len(id), len("20060102-")):], "-")
	start, err := time.Parse(runSecond, id[:min(len(id), len("20060102-"))]+second)
	if err != nil {
		return time.Time{}
	}
	n, _ := strconv.ParseUint(part, 16, 16)
	return start.Add(time.Duration(n) * time.Second >> 16)
}

// folder makes the run's folder at the first call.
func (r *run) folder() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return filepath.Join(r.root, r.id), r.open()
}

func (r *run) open() error {
	if r.events != nil || r.err != nil {
		return r.err
	}
	dir := filepath.Join(r.root, r.id)
	if r.err = os.MkdirAll(dir, 0o777); r.err == nil {
		r.events, r.err = os.OpenFile(filepath.Join(dir, "events.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	}
	return r.err
}

// note writes an event, if there is a folder yet. Events are for people: an error costs nothing but them. Those of reused
// stages, of which there may be very many at once, wait for the next other one.
func (r *run) note(e RunEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		return
	}
	r.pending = append(e.append(r.pending), '\n')
	if reused := e.Event == "stage" && (e.How == HowWorkspace || e.How == HowCache); !reused || len(r.pending) > 64<<10 {
		r.flush()
	}
}

// flush writes the pending events. The caller holds mu.
func (r *run) flush() {
	r.events.Write(r.pending)
	r.pending = r.pending[:0]
}

// append writes what compact gives: the events of reused stages, and what is as short, field by field.
func (e RunEvent) append(b []byte) []byte {
	rest := e
	rest.Event, rest.Time, rest.Stage, rest.Kind, rest.How, rest.Seconds, rest.Failure, rest.Key = "", time.Time{}, "", "", "", 0, nil, cache.Key{}
	if !reflect.ValueOf(rest).IsZero() || e.Seconds != 0 && (e.Seconds < 1e-6 || e.Seconds >= 1e21) || e.Time.Year() < 0 || e.Time.Year() > 9999 {
		return append(b, compact(e)...)
	}
	b = appendJSONString(append(b, `{"event":`...), e.Event)
	b = append(e.Time.AppendFormat(append(b, `,"time":"`...), time.RFC3339Nano), '"')
	b = appendFields(b, [][2]string{{`,"stage":`, e.Stage}, {`,"kind":`, e.Kind}, {`,"how":`, e.How}})
	if e.Seconds != 0 {
		b = strconv.AppendFloat(append(b, `,"seconds":`...), e.Seconds, 'f', -1, 64)
	}
	return append(b, '}')
}

// setAside moves what stands at a path to the run's failed/ folder and returns the folder; "" if nothing stood there.
func (r *run) setAside(stage, rel, at string) (string, error) {
	if !standsAt(at) {
		return "", nil
	}
	dir, err := r.folder()
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "failed", stage)
	return to, replace(at, filepath.Join(to, filepath.FromSlash(rel)))
}

// close ends the run and removes the oldest ones.
func (r *run) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		return
	}
	r.flush()
	r.events.Close()
	ids := runIDs(r.root)
	for _, id := range ids[:max(0, len(ids)-KeptRuns)] {
		removeAll(filepath.Join(r.root, id))
	}
}

// runIDs lists runs, oldest first.
func runIDs(root string) []string {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return ids
}

// RunInfo is what `runs ls` tells about a run.
type RunInfo struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Ran     []string  `json:"ran"`    // stages that ran and succeeded
	Failed  []string  `json:"failed"` // stages that failed
	Done    bool      `json:"done"`   // false: it was interrupted, or is still going on
}

// Runs lists the runs of a workspace that did something, newest first.
func Runs(dir string) ([]RunInfo, error) {
	root := filepath.Join(dir, ".lpipe", "runs")
	var infos []RunInfo
	ids := runIDs(root)
	slices.Reverse(ids)
	for _, id := range ids {
		data, err := os.ReadFile(filepath.Join(root, id, "events.jsonl"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read run %s: %w", id, err)
		}
		infos = append(infos, runInfo(id, string(data)))
	}
	return infos, nil
}

func runInfo(id, events string) RunInfo {
	info := RunInfo{ID: id, Started: runStart(id), Ran: []string{}, Failed: []string{}}
	for line := range strings.Lines(events) {
		var e RunEvent
		if json.Unmarshal([]byte(line), &e) != nil {
			continue // cut by a kill
		}
		info.Seconds = e.Time.Sub(info.Started).Seconds()
		switch {
		case e.Event == "done":
			info.Done = true
		case e.Event == "stage" && e.How == HowRan:
			info.Ran = append(info.Ran, e.Stage)
		case e.Event == "stage" && e.How == HowFailed:
			info.Failed = append(info.Failed, e.Stage)
		}
	}
	info.Seconds = max(info.Seconds, 0)
	return info
}

// memory is what a workspace remembers of its stages between runs, for order and display only. It may be lost.
type memory struct {
	path   string
	mu     sync.Mutex
	stages map[string]stageMemory
	dirty  bool
}

type stageMemory struct {
	Seconds float64 `json:"seconds,omitempty"` // how long it took last
	Failed  string  `json:"failed,omitempty"`  // the run in which it failed, if it did not succeed since
	Error   string  `json:"error,omitempty"`
}

func readMemory(path string) *memory {
	m := &memory{path: path, stages: map[string]stageMemory{}}
	if data, err := os.ReadFile(path); err == nil && (json.Unmarshal(data, &m.stages) != nil || m.stages == nil) { // nil: "null"
		m.stages = map[string]stageMemory{}
	}
	return m
}

func (m *memory) set(stage string, s stageMemory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stages[stage] != s {
		m.stages[stage] = s
		m.dirty = true
	}
}

// seconds is how long a stage took last.
func (m *memory) seconds(stage string) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stages[stage].Seconds
}

func (m *memory) save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty {
		return nil
	}
	m.dirty = false
	temp := m.path + ".tmp"
	if err := os.WriteFile(temp, append(compact(m.stages), '\n'), 0o644); err != nil {
		os.Remove(temp)
		return err
	}
	return os.Rename(temp, m.path)
}
