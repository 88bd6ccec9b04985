package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lpipe/cache"
)

// errPaused says that a stage was stopped at a rung: it goes on from its checkpoint if it is among the best.
var errPaused = errors.New("stopped at a rung of the experiment's halving")

// CurvePoint is a number at a step.
type CurvePoint struct{ Step, Value float64 }

// watch follows the metric of one instance's stage and stops it at a rung. What it saw is kept in .lpipe/rungs.jsonl, so that
// it is known after a kill: the stage itself goes on from a checkpoint and does not tell again. The first line names the
// stage's key and the metric, each other one a step.
type watch struct {
	halving *Halving
	curve   func(path, name string) ([]CurvePoint, error) // reads a file of `plots`
	path    string
	limit   int // the rung to stop at; len(halving.Rungs): none

	mu      sync.Mutex // guards what follows
	key     cache.Key
	at      seenStep   // the furthest step
	told    []seenStep // those with the metric, by rising step
	settled []RungValue
	ended   bool // the stage is done: it has no more steps
	paused  bool
	file    *os.File
}

// seenStep is a step that the stage has come to, and its metric if it told one.
type seenStep struct {
	Step  float64  `json:"step"`
	Of    float64  `json:"of,omitempty"` // steps in all; 0: unknown
	Told  bool     `json:"told,omitempty"`
	Value *float64 `json:"value,omitempty"` // nil: none that is finite
}

// watchHead is the first line of rungs.jsonl.
type watchHead struct {
	Schema int       `json:"schema"`
	Key    cache.Key `json:"key"`
	Metric string    `json:"metric"`
}

// RungValue is what an instance showed at a rung.
type RungValue struct {
	Step  float64  `json:"step"`
	Value *float64 `json:"value"` // null: no finite number
}

// watches tells whether a node is the one that is stopped at rungs.
func (w *watch) watches(n *Node) bool {
	if w == nil {
		return false
	}
	stage, _ := w.halving.split()
	return n.Step.Name == stage
}

// open reads what was seen under a key before. What was seen under another one is forgotten; where the metric was another, other
// names it.
func (w *watch) open(key cache.Key) (other string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.load(key)
}

// load is open for a caller that holds mu.
func (w *watch) load(key cache.Key) (other string) {
	w.forget(key)
	data, err := os.ReadFile(w.path)
	if err != nil {
		return ""
	}
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	var h watchHead
	if json.Unmarshal(head, &h) != nil || h.Schema != experimentSchema || h.Key != key {
		return ""
	}
	if h.Metric != w.halving.Metric {
		return h.Metric
	}
	for line := range bytes.Lines(rest) {
		var s seenStep
		if json.Unmarshal(line, &s) == nil { // else cut by a kill
			w.take(s)
		}
	}
	return ""
}

// StoppedCurve is the metric that a stopped instance told until then, and its name; no points if nothing is known of it.
func (r *ExperimentRecord) StoppedCurve(project string) (metric string, points []CurvePoint) {
	data, err := os.ReadFile(rungsPath(r.Dir(project)))
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	var h watchHead
	if !r.Stopped() || err != nil || json.Unmarshal(head, &h) != nil || h.Schema != experimentSchema {
		return "", nil
	}
	for line := range bytes.Lines(rest) {
		var s seenStep
		if json.Unmarshal(line, &s) != nil || !s.Told {
			continue
		}
		value := math.NaN()
		if s.Value != nil {
			value = *s.Value
		}
		points = append(points, CurvePoint{s.Step, value})
	}
	return h.Metric, points
}

// forget begins anew under a key. The caller holds mu.
func (w *watch) forget(key cache.Key) {
	w.key, w.at, w.told, w.settled, w.ended, w.paused = key, seenStep{}, nil, nil, false, false
}

// take adds a step, unless it was seen before: a stage that goes on from a checkpoint may tell again what it told. The caller
// holds mu.
func (w *watch) take(s seenStep) (news bool) {
	again := s.Step < w.at.Step || s.Step == w.at.Step && (w.at.Told || !s.Told)
	if again && w.at != (seenStep{}) {
		return false
	}
	w.at = s
	if s.Told {
		w.told = append(w.told, s)
	}
	w.settle()
	return true
}

// settle notes the metric at the rungs that the stage has passed. At a rung counts what was told last since the rung before
// it, or since the start, of which nothing counts: all instances are equal there. The caller holds mu.
func (w *watch) settle() {
	for len(w.settled) < len(w.halving.Rungs) {
		if w.at.Of == 0 && w.halving.Rungs[0] < 1 {
			return
		}
		at := w.halving.step(len(w.settled), w.at.Of)
		if !w.ended && (w.at.Step < at || w.at.Step == at && !w.at.Told) {
			return
		}
		before := RungValue{}
		if len(w.settled) > 0 {
			before = w.settled[len(w.settled)-1]
		}
		one := RungValue{Step: at}
		if w.ended && w.at.Step <= before.Step {
			one.Value = before.Value // it ended before this rung
		}
		for _, s := range slices.Backward(w.told) {
			if s.Step > before.Step && s.Step <= at {
				one.Value = s.Value
				break
			}
		}
		w.settled = append(w.settled, one)
	}
}

// holds tells whether the stage need not run now: it stands at the rung where it is to stop.
func (w *watch) holds() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = w.limited()
	return w.paused
}

func (w *watch) limited() bool { return w.limit < len(w.halving.Rungs) && len(w.settled) > w.limit }

// rungs are the metrics at the rungs so far, and the key of the stage that they are of.
func (w *watch) rungs() ([]RungValue, cache.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settled, w.key
}

// saw notes a step of the running stage, and tells whether it is to stop now. An error is about what it keeps.
func (w *watch) saw(s seenStep) (stop bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	passed := len(w.settled)
	if w.take(s) && (s.Told || len(w.settled) > passed) {
		err = w.keep(s, len(w.settled) > passed)
	}
	w.paused = w.limited()
	return w.paused, err
}

// seen makes a step of what was told.
func seen(step, of float64, told bool, value float64) seenStep {
	s := seenStep{Step: step, Of: of, Told: told}
	if told && !math.IsNaN(value) && !math.IsInf(value, 0) {
		s.Value = &value
	}
	return s
}

// keep writes a step down; at a rung it is made durable. The caller holds mu.
func (w *watch) keep(s seenStep, durable bool) error {
	if w.file == nil {
		if err := w.create(); err != nil {
			return err
		}
	} else if _, err := w.file.Write(append(compact(s), '\n')); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	return w.file.Sync()
}

// create writes down all that was seen so far. The caller holds mu.
func (w *watch) create() (err error) {
	text := append(compact(watchHead{experimentSchema, w.key, w.halving.Metric}), '\n')
	for _, s := range w.told {
		text = append(append(text, compact(s)...), '\n')
	}
	if !w.at.Told {
		text = append(append(text, compact(w.at)...), '\n')
	}
	if err := writeFile(w.path, w.path+".new", text); err != nil {
		return err
	}
	w.file, err = os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND, 0)
	return err
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
}

// end notes that the stage is done, whether it ran now or was known: its curve, where there is one, tells its rungs.
func (w *watch) end(key cache.Key, curves []string) error {
	points, err := w.read(curves)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.key != key {
		w.load(key)
	}
	of := w.at.Of
	if len(points) > 0 {
		w.forget(key)
	}
	for i, p := range points {
		w.ended = i == len(points)-1
		w.take(seen(p.Step, max(of, points[len(points)-1].Step), true, p.Value))
	}
	w.ended, w.paused = true, false
	w.settle()
	return err
}

// read finds the metric in files of curves.
func (w *watch) read(files []string) ([]CurvePoint, error) {
	_, number := w.halving.split()
	for _, file := range files {
		points, err := w.curve(file, number)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the curve %s: %w", file, err)
		}
		if len(points) > 0 {
			return points, nil
		}
	}
	return nil, nil
}

// heard passes on what a built-in kind reports, and stops it at the rung.
func (w *watch) heard(e Event, stop func()) error {
	if e.Unit != "steps" {
		return nil
	}
	_, number := w.halving.split()
	value, told := e.Metrics[number]
	at, err := w.saw(seen(e.Done, e.Total, told, value))
	if at {
		stop()
	}
	return err
}

// follow reads a running command's curves again and again, and stops it at the rung. When done is closed it reads them a last
// time: what the command wrote counts, however fast it was.
func (w *watch) follow(done <-chan struct{}, files []string, stop func()) error {
	const often, share = 50 * time.Millisecond, 20 // reading takes a twentieth of the time at most
	pause := often
	var was [2]int64
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(pause):
		}
		now := sizesOf(files)
		if now == was {
			continue
		}
		was = now
		began := time.Now()
		points, err := w.read(files)
		if err != nil {
			continue // it is being written; what is wrong with it for good shows at its end
		}
		for _, p := range points {
			at, err := w.saw(seen(p.Step, 0, true, p.Value))
			if err != nil {
				return err
			}
			if at {
				stop()
			}
		}
		pause = max(often, share*time.Since(began))
	}
	return nil
}

// sizesOf tells whether files have changed: how long they are together, and when the last of them was written.
func sizesOf(files []string) (sum [2]int64) {
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			sum[0] += info.Size()
			sum[1] = max(sum[1], info.ModTime().UnixNano())
		}
	}
	return sum
}

// curvesOf are the files in which a node writes curves.
func (r *Runner) curvesOf(n *Node) (files []string) {
	for _, out := range n.Step.PlotOutputs() {
		files = append(files, r.Plan.abs(out.Path))
	}
	return files
}

func rungsPath(workspace string) string { return filepath.Join(workspace, ".lpipe", "rungs.jsonl") }
