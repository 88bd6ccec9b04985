package opstest

import (
	"math"

	"lpipe/engine/ops"
)

// Rounded is a device whose numbers are bfloat16: what is written is rounded, what is read, and what the first half of an
// operation leaves for the second. Around plain loops it is the best that a computation in bfloat16 can be, and so a
// yardstick for one.
func Rounded(d ops.Device) ops.Device { return rounded{d} }

type rounded struct{ ops.Device }

func (d rounded) Write(dst ops.Buf, src []float32) {
	v := make([]float32, len(src))
	copy(v, src)
	round(v)
	d.Device.Write(dst, v)
}

func (d rounded) Read(dst []float32, src ops.Buf) {
	d.Device.Read(dst, src)
	round(dst)
}

func (d rounded) Linear(y, xa, x ops.Buf, w ops.Weight, bias ops.Buf, lora []ops.LoRA, N, C, F int) {
	d.Device.Linear(y, xa, x, w, bias, lora, N, C, F)
	if xa.Present() {
		d.again(xa)
	}
}

func (d rounded) Attention(out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	d.Device.Attention(out, lse, qkv, starts, scale, N, H, KV, D)
	d.again(out)
}

// again rounds a buffer where it lies.
func (d rounded) again(b ops.Buf) {
	v := make([]float32, b.Len)
	d.Read(v, b)
	d.Device.Write(b, v)
}

// round rounds to nearest, ties to even; NaN stays NaN.
func round(v []float32) {
	for i, x := range v {
		if b := math.Float32bits(x); x == x {
			v[i] = math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
		}
	}
}
