package cpu

import (
	"runtime"

	"lpipe/engine/ops"
)

// Options choose how a Device works. The zero value is right for most.
type Options struct {
	Threads int // 0: as many as the program may use
}

// Device is the fast device. Operations that cost little are Plain's.
type Device struct {
	Plain
	threads int
}

var _ ops.Device = (*Device)(nil)

// New makes a device. Close ends its threads.
func New(o Options) *Device {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	return &Device{threads: o.Threads}
}
