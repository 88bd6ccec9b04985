//go:build cgo && (cudahost || cuda)

package cuda_test

import (
	"errors"
	"testing"
	"time"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/cudatest"
	"lpipe/engine/ops"
)

// told counts what a machine is told to launch, and may refuse to record.
type told struct {
	cuda.Machine
	launches *int
	refuses  bool
}

func (m told) Launch(kernel string, grid [3]uint32, threads, shared uint32, p *cuda.Params) error {
	*m.launches++
	return m.Machine.Launch(kernel, grid, threads, shared, p)
}

func (m told) Record(work func()) (cuda.Recording, error) {
	r, err := m.Machine.Record(work)
	if m.refuses {
		return r, errors.ErrUnsupported
	}
	return r, err
}

// What is repeated gives the same values, told or recorded; the way that a clock shows to be the faster one stays.
func TestRepeat(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		for _, c := range []struct {
			name           string
			eager, graph   time.Duration
			refuses, stays bool
		}{{"recorded", 5, 4, false, true}, {"told", 4, 5, false, false}, {"refused", 5, 4, true, false}} {
			t.Run(c.name, func(t *testing.T) {
				launches, took, now := 0, c.eager, time.Unix(0, 0)
				d := cuda.New(told{open(), &launches, c.refuses}, cuda.Options{Now: func() time.Time { now = now.Add(took); return now }})
				defer d.Close()
				const n, passes = 70, 60
				x, sum, one := d.Alloc(n), d.Alloc(n), make([]float32, n)
				for i := range one {
					one[i] = float32(i)
				}
				d.Write(x, one)
				moved := 0
				for pass := range passes {
					if pass == 45 { // recordings know where buffers lay
						d.Free(x)
						x = d.Alloc(n)
						d.Write(x, one)
					}
					before := launches
					d.Repeat("sum", func() { d.Add(sum, sum, x, n) })
					if launches == before {
						moved++
						took = c.graph
					} else {
						took = c.eager
					}
				}
				got := make([]float32, n)
				d.Read(got, sum)
				for i, v := range got {
					if v != float32(passes*i) {
						t.Fatalf("value %d is %g after %d passes", i, v, passes)
					}
				}
				if err := d.Err(); err != nil {
					t.Fatal(err)
				}
				// of the first 45 passes some 10 are told and 9 tried as a recording, of the last 15 10 are told
				if stays := moved > 30; stays != c.stays || c.refuses && moved > 0 {
					t.Errorf("%d of %d passes were recordings: %s", moved, passes, d.Info().Repeats)
				}
				if (d.Info().Repeats == "") != c.refuses {
					t.Errorf("it says %q", d.Info().Repeats)
				}
			})
		}
	})
}

// Without a clock nothing is recorded.
func TestRepeatWithoutClock(t *testing.T) {
	cudatest.Each(t, func(t *testing.T, open func() cuda.Machine) {
		launches := 0
		d := cuda.New(told{open(), &launches, false}, cuda.Options{})
		defer d.Close()
		x := d.Alloc(9)
		for range 40 {
			d.Repeat(1, func() { d.Scale(x, 2, 9) })
		}
		if launches != 40 || d.Err() != nil {
			t.Errorf("%d launches, %v", launches, d.Err())
		}
	})
}

var _ ops.Repeater = (*cuda.Device)(nil)
