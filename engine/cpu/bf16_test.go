package cpu

import (
	"math"
	"testing"
)

// Rounding is to nearest, ties to even; infinities and NaN stay what they are; widening is exact.
func TestBF16(t *testing.T) {
	for _, c := range []struct {
		in   uint32
		want uint16
	}{
		{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
		{0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0}, {0x80000000, 0x8000},
	} {
		if got := bf16(math.Float32frombits(c.in)); got != c.want {
			t.Errorf("bf16(%#x) = %#x, want %#x", c.in, got, c.want)
		}
	}
	for n := range 40 {
		in, out := make([]uint16, n), make([]float32, n+1)
		for i := range in {
			in[i] = uint16(i*1777 + n)
		}
		out[n] = 7
		widen(out, in)
		for i, h := range in {
			if math.Float32bits(out[i]) != uint32(h)<<16 {
				t.Fatalf("%d values: value %d is %g, want %#x", n, i, out[i], h)
			}
		}
		if out[n] != 7 {
			t.Fatalf("%d values: one more was written", n)
		}
	}
}
