package engine

import (
	"encoding/json"
	"fmt"
	"path/filepath"
)

// saver writes checkpoints beside training: a step waits while numbers are copied, not while they are written. One is written at a
// time.
type saver struct {
	copies  []namedTensor // of weights and moments, used again by the next checkpoint
	writing chan error    // of the checkpoint being written; nil: none is
}

// save begins to write a checkpoint of what stands into dir. What the one before had to say comes from settle, which must be
// called first.
func (r *run) save(dir string) error {
	text, err := json.Marshal(r.state)
	if err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", r.Step, err)
	}
	r.saver.copies = r.tensors(r.saver.copies)
	if err := r.dev.Err(); err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", r.Step, err)
	}
	c := &checkpoint{Settings: r.settings, Step: r.Step, State: text, Tensors: r.saver.copies}
	keep, saved := max(2, r.CheckpointKeep), r.Saved
	if dir != r.Scratch {
		saved = nil
	}
	done := make(chan error, 1)
	r.saver.writing = done
	go func() {
		err := c.save(dir, keep)
		if err == nil && saved != nil {
			saved(filepath.Join(dir, checkpointName(c.Step)))
		}
		done <- err
	}()
	return nil
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
