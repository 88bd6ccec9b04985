package cpu

import (
	"testing"
	"time"

	"lpipe/engine/ops"
)

// The loop over what a device holds reads each allocation once a time, of every type and with lengths that no vector divides.
func TestReadHeld(t *testing.T) {
	d := New(Options{Threads: 3})
	defer d.Close()
	if loop, _ := d.k.fma(); loop == nil {
		if bytes, seconds := d.ReadHeld(time.Now); bytes != 0 || seconds != 0 {
			t.Errorf("%s: %d bytes in %v s without a loop", d.k.name, bytes, seconds)
		}
		return
	}
	if bytes, _ := d.ReadHeld(time.Now); bytes != 0 {
		t.Errorf("%d bytes of nothing", bytes)
	}
	for _, w := range []ops.Type{ops.F32, ops.BF16, ops.BF16Exact, ops.NF4} {
		d.AllocWeight(w, 1030, 1031)
	}
	d.Alloc(1)
	d.Free(d.Alloc(500))
	held := d.Info().Bytes
	bytes, seconds := d.ReadHeld(time.Now)
	if bytes%held != 0 || bytes < 256<<20 || seconds <= 0 {
		t.Errorf("%d bytes in %v s, %d are held", bytes, seconds, held)
	}
	for thread, want := range [][2]int{{0, 33}, {33, 66}, {66, 100}} {
		x := make([]float32, 100)
		if got := share(x, thread, 3); len(got) != want[1]-want[0] || &got[0] != &x[want[0]] {
			t.Errorf("thread %d of 3 has %d values of 100", thread, len(got))
		}
	}
}
