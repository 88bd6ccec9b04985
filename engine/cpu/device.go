package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"lpipe/engine/ops"
)

// Options choose how a Device works. The zero value is right for most.
type Options struct {
	Threads int    // 0: as many as the program may use
	Kernel  string // "avx512-bf16", "avx512", "avx2", "neon", "go" or AMX; empty: the best that the processor has, but for AMX
}

// Device is the fast device. What costs little is left to Plain.
type Device struct {
	Plain
	k      *kernel
	vec    vector
	pool   *pool
	mem    arena // scratch of the operation in progress
	limits limits

	// The jobs of operations, kept so that starting one allocates nothing.
	products  productsJob
	packs     packJob
	columns   columnsJob
	few       fewJob
	cached    cachedJob
	dropout   dropoutJob
	rounding  roundJob
	lora      loraJob
	dora      doraJob
	reduce    reduceJob
	norm      normJob
	each      tokensJob
	qkNorm    qkNormJob
	flat      flatJob
	soft      softmaxJob
	head      headCall
	stream    streamJob
	rows      []int32 // trained tokens of the head
	attention attentionJob
}

var _ ops.Device = (*Device)(nil)

// limits bound scratch memory. Results depend on them in the last bits, so they are the same everywhere.
type limits struct {
	packed   int // values of a packed weight: a larger one is multiplied a block at a time
	wide     int // from so many values on, tasks pack a weight themselves: written to memory and read again it would cost as much as some hundred rows
	near     int // values of the other operand that stay in the last-level cache while all columns of a wide product are computed
	logits   int // values of logits that exist at a time
	headRows int // tokens whose logits are computed together
	outer    int // values of each operand that a weight gradient takes at a time
}

func usualLimits() limits {
	return limits{packed: 16 << 20, wide: 1 << 19, near: 2 << 20, logits: 1 << 20, headRows: 1024, outer: 512 << 10}
}

// New makes a device and starts its threads; Close ends them. A kernel that this processor lacks is an error that Err
// returns; nothing is computed then.
func New(o Options) *Device {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	d := &Device{k: kernels()[0], limits: usualLimits()}
	if o.Kernel != "" {
		if k, err := kernelNamed(o.Kernel); err != nil {
			d.fail(fmt.Errorf("kernel %s: %w", o.Kernel, err))
		} else {
			d.k = k
		}
	}
	d.pool = newPool(o.Threads)
	d.use(d.k)
	return d
}

// use makes k the kernel of all operations.
func (d *Device) use(k *kernel) {
	d.k, d.vec = k, vector(k.vec)
	d.products.k, d.lora.k = k, k
	d.packs.nr = k.nr
	d.packs.vec, d.reduce.vec, d.lora.vec = d.vec, d.vec, d.vec
}

func kernelNamed(name string) (*kernel, error) {
	if name == AMX {
		return amxKernel()
	}
	all := kernels()
	i := slices.IndexFunc(all, func(k *kernel) bool { return k.name == name })
	if i < 0 {
		return nil, fmt.Errorf("this processor has %s", strings.Join(Kernels(), ", "))
	}
	return all[i], nil
}

// Kernels names the kernels that this processor can run, best first; AMX, where it can be used, comes last, since it is not taken
// unless it is asked for.
func Kernels() []string {
	var names []string
	for _, k := range kernels() {
		names = append(names, k.name)
	}
	if _, err := amxKernel(); err == nil {
		names = append(names, AMX)
	}
	return names
}

// Info describes the device. Its name has the kernel's in it where sums have another order than with AVX-512, AVX2 and NEON, so that the
// record of a result tells.
func (d *Device) Info() ops.Info {
	name := "cpu"
	if d.k.blocks != nil || !d.k.vec {
		name += ":" + d.k.name
	}
	scratch := len(d.mem.block.values)
	for _, w := range d.pool.workers {
		for _, b := range w.scratch {
			scratch += cap(b)
		}
	}
	return ops.Info{Name: name, Detail: d.k.name, Threads: len(d.pool.workers), Bytes: d.bytes, Scratch: 4 * int64(scratch)}
}

// Close ends the threads and frees the memory.
func (d *Device) Close() error {
	d.pool.close()
	d.mem.block.free()
	d.mem = arena{}
	return d.Plain.Close()
}
