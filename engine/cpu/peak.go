package cpu

import (
	"sync"
	"time"
	"unsafe"
)

// Limits is what the machine does at most, on all of the device's threads, in loops that do nothing else. A figure is 0 where
// there is no such loop for the kernel.
type Limits struct {
	GFLOPS     float64 // multiply-adds of float32 numbers in registers, two operations each
	BF16GFLOPS float64 // the same of bfloat16 numbers; 0 where the processor multiplies them as float32
	ReadGB     float64 // 10⁹ bytes a second read from memory
}

// Measure finds the limits, in some 50 ms. now is the clock.
func (d *Device) Measure(now func() time.Time) Limits {
	loop, work := d.k.fma()
	if loop == nil {
		return Limits{}
	}
	l := Limits{GFLOPS: d.repeat(now, loop, work)}
	if loop, work = d.k.pairFMA(); loop != nil {
		l.BF16GFLOPS = d.repeat(now, loop, work)
	}
	const each = 32 << 20 // values: far more than caches hold
	m, err := allocate[float32](each * d.threads())
	if err != nil {
		return l
	}
	defer m.free()
	for i := 0; i < len(m.values); i += 1024 {
		m.values[i] = 1 // so that every page is there
	}
	took := d.everywhere(now, func(thread int) { readAll(m.values[thread*each:][:each]) })
	l.ReadGB = 4 * float64(len(m.values)) / took / 1e9
	return l
}

// ReadHeld reads what the device holds in a bare loop on all threads, again and again until that is 256 MB or more. It returns how many
// bytes that was and the seconds it took; 0 and 0 where there is no such loop.
func (d *Device) ReadHeld(now func() time.Time) (bytes int64, seconds float64) {
	if loop, _ := d.k.fma(); loop == nil || d.bytes == 0 {
		return 0, 0
	}
	const enough = 256 << 20
	times := 1 + enough/d.bytes
	seconds = d.everywhere(now, func(thread int) {
		for range times {
			d.readHeld(thread, d.threads())
		}
	})
	return d.bytes * times, seconds
}

// readHeld reads one thread's share of each allocation.
func (d *Device) readHeld(thread, threads int) {
	for i := range d.floats {
		readAll(share(d.floats[i].values, thread, threads))
	}
	for i := range d.halves {
		if v := d.halves[i].values; len(v) > 1 {
			readAll(share(unsafe.Slice((*float32)(unsafe.Pointer(&v[0])), len(v)/2), thread, threads))
		}
	}
	for i := range d.nf4s {
		readAll(share(d.nf4s[i].memory.values, thread, threads))
	}
}

// share is the part of x that one of several threads takes.
func share(x []float32, thread, threads int) []float32 {
	return x[thread*len(x)/threads : (thread+1)*len(x)/threads]
}

// repeat is how many 10⁹ operations a second a loop makes, each of whose turns has work of them.
func (d *Device) repeat(now func() time.Time, loop func(n int), work int) float64 {
	const turns = 1 << 20
	took := d.everywhere(now, func(int) { loop(turns) })
	return float64(d.threads()) * turns * float64(work) / took / 1e9
}

func (d *Device) threads() int { return len(d.pool.workers) }

// everywhere runs f on as many threads as the device has and returns the seconds until the last is done.
func (d *Device) everywhere(now func() time.Time, f func(thread int)) float64 {
	var all sync.WaitGroup
	began := now()
	for i := range d.threads() {
		all.Go(func() { f(i) })
	}
	all.Wait()
	return max(now().Sub(began).Seconds(), 1e-9)
}
