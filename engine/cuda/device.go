package cuda

import (
	"fmt"
	"strings"
	"time"

	"lpipe/engine/ops"
)

// Options choose how a Device works. The zero value is right for most.
type Options struct {
	// Check waits after every launch, so that an error names its operation for certain. Slow.
	Check bool
	// LogitBytes bounds the logits that exist at a time. 0: 512 MiB.
	LogitBytes int64
	// Border is the columns and rows that a bfloat16 weight keeps for adapters, a multiple of 8. 0: 64; below 0: none.
	Border int
	// Now tells the time, to measure whether Repeat should record. Nil: it never does.
	Now func() time.Time
}

// Device computes on a Machine.
type Device struct {
	memory
	o       Options
	scratch arena
	params  Params
	product Product
	call    call
	rows    []int32 // trained tokens of the head
	repeats repeats
	counts  bool // nothing is computed: see NewOutline
}

var _ ops.Device = (*Device)(nil)

// New makes a device on m and owns it from then on.
func New(m Machine, o Options) *Device {
	if o.LogitBytes <= 0 {
		o.LogitBytes = 512 << 20
	}
	if o.Border == 0 {
		o.Border = 64
	}
	o.Border = max(o.Border, 0) &^ 7
	d := &Device{o: o}
	d.m, d.border = m, o.Border
	d.repeats.now = o.Now
	d.scratch.mem = &d.memory
	d.memory.where = &d.call
	return d
}

// Info describes the device.
func (d *Device) Info() ops.Info {
	s := d.m.Describe()
	return ops.Info{Name: s.Name, Detail: s.Detail, Bytes: d.bytes, Scratch: d.scratch.size, Memory: s.Memory, Repeats: d.repeats.said, Counts: d.counts,
		TensorCores: true}
}

// Failed returns the first error that is known by now.
func (d *Device) Failed() error { return d.err }

// Err waits for all operations and returns the first error there was.
func (d *Device) Err() error {
	if d.err == nil {
		d.fail(d.m.Sync())
	}
	return d.err
}

// Close frees the memory.
func (d *Device) Close() error {
	d.repeats.forget()
	err := d.m.Close()
	d.memory = memory{m: closed{}, where: &d.call, err: errClosed}
	return err
}

// call is the operation in progress, for messages.
type call struct {
	name  string
	sizes [6]int
	names string // of the sizes, one letter each; K is KV
}

func (c *call) String() string {
	var b strings.Builder
	b.WriteString(c.name)
	for i, n := range c.names {
		name := string(n)
		if n == 'K' {
			name = "KV"
		}
		fmt.Fprintf(&b, " %s=%d", name, c.sizes[i])
	}
	return b.String()
}

// begin notes an operation, makes all scratch free, and says whether there was no error so far.
func (d *Device) begin(name, names string, sizes ...int) bool {
	d.call.name, d.call.names = name, names
	copy(d.call.sizes[:], sizes)
	d.scratch.used = 0
	return d.err == nil
}

// p begins the list of a kernel's parameters.
func (d *Device) p() *Params { return d.params.reset() }

// launch starts a kernel with the parameters that p has collected.
func (d *Device) launch(kernel string, grid [3]int, threads, shared int) {
	if d.err != nil || d.scratch.idle || grid[0] == 0 || grid[1] == 0 || grid[2] == 0 {
		return
	}
	g := [3]uint32{uint32(grid[0]), uint32(grid[1]), uint32(grid[2])}
	err := d.m.Launch(kernel, g, uint32(threads), uint32(shared), &d.params)
	if err == nil && d.o.Check {
		err = d.m.Sync()
	}
	if err != nil {
		d.fail(fmt.Errorf("kernel %s: %w", kernel, err))
	}
}

// set fills scratch or results of an operation.
func (d *Device) set(p Pointer, value byte, bytes int) {
	if d.err == nil && !d.scratch.idle {
		d.fail(d.m.Set(p, value, int64(bytes)))
	}
}

// Blocks of kernels that take values one by one, and the most of them: more would only queue.
const (
	eachThreads = 256
	eachBlocks  = 4096
)

// each starts a kernel over n values.
func (d *Device) each(kernel string, n int) {
	d.launch(kernel, [3]int{min(blocks(n, eachThreads), eachBlocks), 1, 1}, eachThreads, 64)
}

// reduceShared is what block_add and block_max need.
const reduceShared = 33 * 8

// rowThreads is how many threads take a row of n values.
func rowThreads(n int) int { return min(max(32, blocks(n, 128)*32), 1024) }

// blocks is how many blocks of size b n values make.
func blocks(n, b int) int { return (n + b - 1) / b }

// round8 is n or the next multiple of 8.
func round8(n int) int { return (n + 7) &^ 7 }
