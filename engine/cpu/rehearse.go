package cpu

import "lpipe/engine/ops"

var _ ops.Rehearser = (*Device)(nil)

// Rehearse runs operations whose tasks are left out, to see how much of the arena they take. What they are lent meanwhile is
// mapped and hardly written, so that it costs nothing; the first operation that computes makes the arena as large.
func (d *Device) Rehearse(pass func()) int64 {
	d.mem.used, d.mem.need = 0, 0
	d.mem.rehearsing, d.pool.idle = true, true
	pass()
	d.mem.rehearsing, d.pool.idle = false, false
	for i := range d.mem.lent {
		d.mem.lent[i].free()
	}
	d.mem.lent = nil
	return d.Info().Scratch + 4*int64(max(0, d.mem.need-len(d.mem.block.values)))
}
