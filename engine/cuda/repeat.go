package cuda

import (
	"fmt"
	"time"

	"lpipe/engine/ops"
)

var _ ops.Repeater = (*Device)(nil)

// repeats are the recordings of a device: CUDA graphs, on a GPU. Whether one pays is measured: some passes are timed without it,
// then as many with it, and the way whose fastest pass is the faster one stays. Both give the same bits.
type repeats struct {
	now    func() time.Time // nil: nothing is recorded
	epoch  int              // of the device's memory, when passes were made
	passes map[any]*pass
	said   string
}

// pass is what is known of one key.
type pass struct {
	recording Recording
	calls     int
	last      time.Time
	best      [2]time.Duration // from one call to the next: told each, recorded
	settled   bool
}

// trials is how many passes are timed each way, behind one that pays for memory.
const trials = 8

// Repeat does what work does, from a recording where that is the faster way.
func (d *Device) Repeat(key any, work func()) {
	r := &d.repeats
	if d.err != nil || d.scratch.idle || r.now == nil {
		work()
		return
	}
	if r.passes == nil || r.epoch != d.epoch {
		r.forget()
		r.epoch = d.epoch
	}
	p := r.passes[key]
	if p == nil {
		p = &pass{}
		r.passes[key] = p
	}
	if !p.settled {
		d.try(p, work)
	}
	if p.recording == nil {
		work()
		return
	}
	d.call.name, d.call.names = "recorded operations", ""
	d.fail(p.recording.Run())
}

// try times the pass before this one, and moves on to the next way or to the end.
func (d *Device) try(p *pass, work func()) {
	now := d.repeats.now()
	way := 0
	if p.recording != nil {
		way = 1
	}
	if p.calls > 1 { // the first pass of each way pays for what is made anew
		if took := now.Sub(p.last); p.best[way] == 0 || took < p.best[way] {
			p.best[way] = took
		}
	}
	p.last = now
	p.calls++
	if p.calls <= trials+1 {
		return
	}
	p.calls = 1
	if way == 1 {
		p.settled = true
		if p.best[1] >= p.best[0] {
			p.recording.Forget()
			p.recording = nil
		}
		d.repeats.said = fmt.Sprintf("%v a pass recorded, %v told each operation", p.best[1], p.best[0])
		return
	}
	p.recording = d.record(work)
	p.settled = p.recording == nil
}

// record is nil where the machine cannot record such work: it is done as before then, and an error in it shows again.
func (d *Device) record(work func()) Recording {
	epoch := d.epoch
	made, err := d.m.Record(work)
	if err == nil && d.err == nil && d.epoch == epoch {
		return made
	}
	if made != nil {
		made.Forget()
	}
	d.err = nil
	return nil
}

// forget gives all recordings back: buffers may lie elsewhere now.
func (r *repeats) forget() {
	for _, p := range r.passes {
		if p.recording != nil {
			p.recording.Forget()
		}
	}
	r.passes = map[any]*pass{}
}
