//go:build cuda

package driver

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/cuda"
	"lpipe/engine/ops"
)

// sharing launches kernels with another size of shared memory than they need.
type sharing struct {
	cuda.Machine
	bytes uint32
}

func (m sharing) Launch(kernel string, grid [3]uint32, threads, _ uint32, p *cuda.Params) error {
	return m.Machine.Launch(kernel, grid, threads, m.bytes, p)
}

// Errors of the driver name operation, sizes, kernel or call, and CUDA's own name and text; the first one stays.
func TestErrorsNameOperationAndText(t *testing.T) {
	for _, c := range []struct {
		name string
		work func(d *cuda.Device, x, w ops.Buf)
		want []string
	}{
		{"memory", func(d *cuda.Device, _, _ ops.Buf) { d.Alloc(1 << 40) },
			[]string{"cuda: Alloc n=1099511627776: allocate", "cuMemAlloc: ", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory", "MB are free"}},
		{"launch", func(d *cuda.Device, x, w ops.Buf) { d.RMSNorm(x, w, x, w, 1e-6, 3, 8) },
			[]string{"cuda: RMSNorm N=3 C=8: kernel rmsnorm: ", "CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := open(t)
			d := cuda.New(sharing{m, 1 << 20}, cuda.Options{})
			x, w := d.Alloc(24), d.Alloc(8)
			c.work(d, x, w)
			err := d.Failed()
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			d.Scale(x, 2, 24)
			d.Read(make([]float32, 24), x)
			if again := d.Err(); again != err {
				t.Errorf("later it is %v", again)
			}
		})
	}
}

// A machine without a driver says which file it misses.
func TestFoundSaysWhatIsMissing(t *testing.T) {
	err := Found()
	if err == nil {
		t.Skip("there is a driver")
	}
	if !strings.Contains(err.Error(), "no NVIDIA driver: libcuda.so.1") {
		t.Error(err)
	}
	if _, opened := Open(0); opened == nil || opened.Error() != err.Error() {
		t.Errorf("Open says %v", opened)
	}
}

// The images hold machine code for sm_80 and sm_90, and PTX of compute_80 for what comes later.
func TestImagesHoldAllTargets(t *testing.T) {
	want := []string{"PTX 80", "code 80", "code 90"}
	for name, image := range images() {
		if got := targets(t, image); !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

// targets are the entries of a fatbin: behind its header of 16 bytes each has one of its own (kind, at 4 its length, at 8 that of what
// follows, at 28 the architecture), as cuobjdump --list-elf and --list-ptx show them.
func targets(t *testing.T, image string) (all []string) {
	b := []byte(image)
	if len(b) < 16 || binary.LittleEndian.Uint32(b) != 0xba55ed50 {
		t.Fatal("no fatbin")
	}
	for b = b[16:]; len(b) >= 64; {
		kind := map[uint16]string{1: "PTX", 2: "code"}[binary.LittleEndian.Uint16(b)]
		all = append(all, fmt.Sprintf("%s %d", kind, binary.LittleEndian.Uint32(b[28:])))
		b = b[uint64(binary.LittleEndian.Uint32(b[4:]))+binary.LittleEndian.Uint64(b[8:]):]
	}
	return all
}
