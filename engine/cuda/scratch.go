package cuda

import "lpipe/engine/ops"

// arena is scratch memory of the operation in progress: one allocation, which grows to the largest that was needed. What
// does not fit during an operation that needs more than any before is an allocation of its own until the next one.
type arena struct {
	mem    *memory
	block  Pointer
	size   int64
	used   int64
	needed int64
	extra  []Pointer
	idle   bool // nothing is allocated, and nothing will be written: see Device.Rehearse
}

// take returns bytes aligned to 256.
func (a *arena) take(bytes int) Pointer {
	n := (int64(bytes) + 255) &^ 255
	if a.used == 0 && len(a.extra) > 0 {
		a.settle()
	}
	at := a.used
	a.used += n
	a.needed = max(a.needed, a.used)
	if a.idle || a.used <= a.size {
		return a.block + Pointer(at)
	}
	p := a.mem.take(n, false)
	a.mem.bytes -= n // scratch does not count as allocated
	a.extra = append(a.extra, p)
	return p
}

// settle makes one allocation of what operations have needed so far.
func (a *arena) settle() {
	for _, p := range append(a.extra, a.block) {
		if p != 0 {
			a.mem.give(p, 0)
		}
	}
	a.extra, a.block, a.size = a.extra[:0], 0, 0
	if a.block = a.mem.take(a.needed, false); a.block != 0 {
		a.size = a.needed
		a.mem.bytes -= a.needed
	}
}

var _ ops.Rehearser = (*Device)(nil)

// Rehearse runs operations that launch nothing, to see how much scratch memory they take, and allocates it: during the steps
// that follow nothing is.
func (d *Device) Rehearse(pass func()) int64 {
	d.scratch.idle = true
	pass()
	d.scratch.idle, d.scratch.used = false, 0
	if d.scratch.needed > d.scratch.size {
		d.scratch.settle()
	}
	return d.scratch.size
}
