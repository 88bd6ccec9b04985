package engine

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"lpipe/engine/ops"
)

// saver writes checkpoints beside training: a step waits at most while numbers are copied, not while they are written, and on a
// device that is an ops.Snapshotter not for that either. One is written at a time.
type saver struct {
	copies  [][]float32 // of weights and moments, used again by the next checkpoint, where the device is no ops.Snapshotter
	writing chan error  // of the checkpoint being written; nil: none is
}

// save begins to write a checkpoint of what stands into dir. What the one before had to say comes from settle, which must be
// called first.
func (r *run) save(dir string) error {
	text, err := json.Marshal(r.state)
	if err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", r.Step, err)
	}
	fetch := r.tensors()
	if err := r.dev.Failed(); err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", r.Step, err)
	}
	c := &checkpoint{Settings: r.settings, Step: r.Step, State: text}
	keep, saved := max(2, r.CheckpointKeep), r.Saved
	if dir != r.Scratch {
		saved = nil
	}
	done := make(chan error, 1)
	r.saver.writing = done
	go func() {
		var err error
		if c.Tensors, err = fetch(); err != nil {
			done <- fmt.Errorf("checkpoint of step %d: %w", c.Step, err)
			return
		}
		err = c.save(dir, keep)
		if err == nil && saved != nil {
			saved(filepath.Join(dir, checkpointName(c.Step)))
		}
		done <- err
	}()
	return nil
}

// tensors begins to copy those of a checkpoint. fetch returns them: copies, in the memory of those made before, and the best
// weights, which never change.
func (r *run) tensors() (fetch func() ([]namedTensor, error)) {
	parts := r.optimizer.parts()
	if r.average != nil {
		parts = append(parts, r.average.parts()...)
	}
	all := make([]namedTensor, len(parts), len(parts)+len(r.best))
	for i, p := range parts {
		all[i].Name, all[i].Size = p.name, p.buf.Len
	}
	for i, data := range r.best {
		all = append(all, namedTensor{"best." + r.optimizer.params[i].Name, len(data), data})
	}
	arrived := r.copies(parts)
	return func() ([]namedTensor, error) {
		data, err := arrived()
		for i := range data {
			all[i].Data = data[i]
		}
		return all, err
	}
}

// copies begins to copy buffers to the host: beside training where the device can.
func (r *run) copies(parts []part) (arrived func() ([][]float32, error)) {
	if dev, ok := r.dev.(ops.Snapshotter); ok {
		bufs := make([]ops.Buf, len(parts))
		for i, p := range parts {
			bufs[i] = p.buf
		}
		return dev.Snapshot(bufs)
	}
	if r.saver.copies == nil {
		for _, p := range parts {
			r.saver.copies = append(r.saver.copies, make([]float32, p.buf.Len))
		}
	}
	for i, p := range parts {
		r.dev.Read(r.saver.copies[i], p.buf)
	}
	return func() ([][]float32, error) { return r.saver.copies, nil }
}

// settle waits for the checkpoint that is being written, if one is, and returns why it could not be.
func (r *run) settle() error {
	if r.saver.writing == nil {
		return nil
	}
	err := <-r.saver.writing
	r.saver.writing = nil
	return err
}

// settleAside is settle where a failure only costs safety: a checkpoint that cannot be written, as on a full disk, is no reason
// to lose the run. The one before stays, and after another interval there is a new try.
func (r *run) settleAside() {
	if err := r.settle(); err != nil {
		r.logf("%v: training goes on, and a run that is stopped now goes on from the checkpoint before; make room in %s", err, r.Scratch)
	}
}

// saveNow saves into dir and waits.
func (r *run) saveNow(dir string) error {
	if err := r.save(dir); err != nil {
		return err
	}
	return r.settle()
}

// saveIfDue saves when the interval has passed since the last try or the start.
func (r *run) saveIfDue() error {
	if r.Scratch == "" || r.Step == r.clock.savedStep {
		return nil
	}
	bySteps := r.CheckpointSteps > 0 && r.Step-r.clock.savedStep >= r.CheckpointSteps
	byTime := r.CheckpointTime > 0 && r.Now().Sub(r.clock.saved) >= r.CheckpointTime
	if !bySteps && !byTime {
		return nil
	}
	r.settleAside()
	r.clock.saved, r.clock.savedStep = r.Now(), r.Step
	return r.save(r.Scratch)
}

// LatestCheckpoint is the name of the newest checkpoint file in a folder, "" if there is none. Names sort as steps do.
func LatestCheckpoint(dir string) string {
	names, err := checkpointFiles(dir)
	if err != nil || len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}
