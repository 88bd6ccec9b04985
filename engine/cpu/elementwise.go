package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// tokensJob is an operation on each token's values by itself: a range of tokens a task.
type tokensJob struct {
	vec        vector
	what       tokenOp
	a, b, c    []float32
	cos, sin   []float32
	positions  []int32
	sign       float32
	n, f, high int // tokens, width or heads·D
	d          int
	width      int
}

type tokenOp uint8

const (
	opSwiGLU tokenOp = iota
	opSwiGLUBackward
	opRotate
	opScaleRows
	opRoPETable
)

func (d *Device) tokens(j tokensJob) {
	j.vec, j.high = d.vec, taskRows(j.n)
	d.each = j
	d.pool.do(&d.each, blocks(j.n, j.high))
}

// SwiGLU sets h = silu(gate)·up.
func (d *Device) SwiGLU(h, gateUp ops.Buf, N, F int) {
	if d.err == nil {
		d.tokens(tokensJob{what: opSwiGLU, a: d.f(h, N*F), b: d.f(gateUp, 2*N*F), n: N, f: F})
	}
}

// SwiGLUBackward sets dgate = dh·up·s·(1+gate·(1-s)) and dup = dh·gate·s with s = 1/(1+exp(-gate)).
func (d *Device) SwiGLUBackward(dgateUp, dh, gateUp ops.Buf, N, F int) {
	if d.err == nil {
		d.tokens(tokensJob{what: opSwiGLUBackward, a: d.f(dgateUp, 2*N*F), b: d.f(gateUp, 2*N*F), c: d.f(dh, N*F), n: N, f: F})
	}
}

// RoPE rotates the query and key heads in place.
func (d *Device) RoPE(qkv, cos, sin ops.Buf, N, H, KV, D int) {
	d.rotate(qkv, cos, sin, 1, N, H, KV, D)
}

// RoPEBackward rotates them back.
func (d *Device) RoPEBackward(dqkv, cos, sin ops.Buf, N, H, KV, D int) {
	d.rotate(dqkv, cos, sin, -1, N, H, KV, D)
}

func (d *Device) rotate(qkv, cos, sin ops.Buf, sign float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width := (H + 2*KV) * D
	d.tokens(tokensJob{what: opRotate, a: d.f(qkv, N*width), cos: d.f(cos, N*D/2), sin: d.f(sin, N*D/2),
		sign: sign, n: N, f: (H + KV) * D, d: D, width: width})
}

// RoPETable sets cos and sin of positions·freq.
func (d *Device) RoPETable(cos, sin, freq ops.Buf, positions ops.Ints, N, D int) {
	if d.err != nil {
		return
	}
	d.tokens(tokensJob{what: opRoPETable, a: d.f(freq, D/2), cos: d.f(cos, N*D/2), sin: d.f(sin, N*D/2),
		positions: d.i(positions, N), n: N, d: D})
}

// ScaleRows multiplies x[n] by s[n].
func (d *Device) ScaleRows(x, s ops.Buf, N, C int) {
	if d.err == nil {
		d.tokens(tokensJob{what: opScaleRows, a: d.f(x, N*C), b: d.f(s, N), n: N, f: C})
	}
}

func (j *tokensJob) task(_ *worker, i int) {
	half, f := j.d/2, j.f
	for n := i * j.high; n < min((i+1)*j.high, j.n); n++ {
		switch j.what {
		case opSwiGLU:
			gu := j.b[2*n*f:][:2*f]
			j.vec.silu(j.a[n*f:][:f], gu[:f], gu[f:])
		case opSwiGLUBackward:
			dgu, gu := j.a[2*n*f:][:2*f], j.b[2*n*f:][:2*f]
			j.vec.siluBack(dgu[:f], dgu[f:], j.c[n*f:][:f], gu[:f], gu[f:])
		case opRotate:
			cos, sin := j.cos[n*half:][:half], j.sin[n*half:][:half]
			for at := n * j.width; at < n*j.width+f; at += j.d {
				j.vec.rotate(j.a[at:][:half], j.a[at+half:][:half], cos, sin, j.sign)
			}
		case opScaleRows:
			j.vec.scale(j.a[n*f:][:f], j.a[n*f:][:f], j.b[n])
		case opRoPETable:
			p := float32(j.positions[n])
			for k, freq := range j.a {
				s, c := math.Sincos(float64(p * freq))
				j.cos[n*half+k], j.sin[n*half+k] = float32(c), float32(s)
			}
		}
	}
}

// flatJob is an operation on single values: a block of them a task.
type flatJob struct {
	vec        vector
	what       flatOp
	a, b, c, d []float32
	s          float32
	adam       adam
	lion       lion
}

type flatOp uint8

const (
	opAdd flatOp = iota
	opScale
	opAdamW
	opLion
)

const flatBlock = 1 << 14

func (d *Device) values(j flatJob) {
	j.vec = d.vec
	d.flat = j
	d.pool.do(&d.flat, blocks(len(j.a), flatBlock))
}

// Add sets out = a + b.
func (d *Device) Add(out, a, b ops.Buf, n int) {
	if d.err == nil {
		d.values(flatJob{what: opAdd, a: d.f(out, n), b: d.f(a, n), c: d.f(b, n)})
	}
}

// Scale multiplies n values by s.
func (d *Device) Scale(x ops.Buf, s float32, n int) {
	if d.err == nil {
		d.values(flatJob{what: opScale, a: d.f(x, n), s: s})
	}
}

// AdamW makes one step of n values.
func (d *Device) AdamW(p, m, v, grad ops.Buf, o ops.AdamW, n int) {
	if d.err != nil {
		return
	}
	if a := newAdam(o); factored(&a.scale, d.opt(o.Factor, 1)) {
		d.values(flatJob{what: opAdamW, a: d.f(p, n), b: d.f(m, n), c: d.f(v, n), d: d.f(grad, n), adam: a})
	}
}

func (j *flatJob) task(_ *worker, i int) {
	lo, hi := i*flatBlock, min((i+1)*flatBlock, len(j.a))
	switch j.what {
	case opAdd:
		j.vec.add(j.a[lo:hi], j.b[lo:hi], j.c[lo:hi])
	case opScale:
		j.vec.scale(j.a[lo:hi], j.a[lo:hi], j.s)
	case opAdamW:
		j.vec.adamw(j.a[lo:hi], j.b[lo:hi], j.c[lo:hi], j.d[lo:hi], j.adam)
	case opLion:
		lionPlain(j.a[lo:hi], j.b[lo:hi], j.c[lo:hi], j.lion)
	}
}

// EmbeddingBackward adds dout[n] to dw[ids[n]], for n rising.
func (d *Device) EmbeddingBackward(dw, dout ops.Buf, ids ops.Ints, N, C int) {
	if d.err != nil {
		return
	}
	to, from := d.f(dw, dw.Len), d.f(dout, N*C)
	for n, id := range d.i(ids, N) {
		row := to[int(id)*C:][:C]
		d.vec.add(row, row, from[n*C:][:C])
	}
}
