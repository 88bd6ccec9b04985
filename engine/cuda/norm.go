package cuda

import "lpipe/engine/ops"

// RMSNorm sets rstd[n] = 1/√(Σ x²/C + eps) and out = x·rstd·w.
func (d *Device) RMSNorm(out, rstd, x, w ops.Buf, eps float32, N, C int) {
	if !d.begin("RMSNorm", "NC", N, C) {
		return
	}
	float, half, ld := d.output(out, N, C)
	d.p().ptrs(float, half, d.f(rstd, N), d.f(x, N*C), d.f(w, C)).f32(eps).ints(C, ld)
	d.launch("rmsnorm", [3]int{N, 1, 1}, rowThreads(C), reduceShared)
}

// RMSNormBackward adds to dx and, where it is present, to dw.
func (d *Device) RMSNormBackward(dx, dw, dout, x, w, rstd ops.Buf, N, C int) {
	if !d.begin("RMSNormBackward", "NC", N, C) {
		return
	}
	gy, v, r := d.f(dout, N*C), d.f(x, N*C), d.f(rstd, N)
	d.p().ptrs(d.f(dx, N*C), gy, v, d.f(w, C), r).ints(C)
	d.launch("rmsnorm_backward", [3]int{N, 1, 1}, rowThreads(C), reduceShared)
	if dw.Present() {
		part, count := d.columns(gy, v, r, N, C)
		d.p().ptrs(d.f(dw, C), part, 0).ints(0, C, count, C)
		d.each("column_sums", C)
	}
}

// QKNorm normalises the query and key heads in place.
func (d *Device) QKNorm(raw, rstd, qkv, wq, wk ops.Buf, eps float32, N, H, KV, D int) {
	if !d.begin("QKNorm", "NHKD", N, H, KV, D) {
		return
	}
	d.p().ptrs(d.opt(raw, N*(H+KV)*D), d.opt(rstd, N*(H+KV)), d.f(qkv, N*(H+2*KV)*D), d.f(wq, D), d.f(wk, D)).f32(eps).ints(N, H, KV, D)
	d.warps("qk_norm", N*(H+KV))
}

// QKNormBackward takes a gradient back through it, in place.
func (d *Device) QKNormBackward(dqkv, dwq, dwk, raw, rstd, wq, wk ops.Buf, N, H, KV, D int) {
	if !d.begin("QKNormBackward", "NHKD", N, H, KV, D) {
		return
	}
	g, x, r := d.f(dqkv, N*(H+2*KV)*D), d.f(raw, N*(H+KV)*D), d.f(rstd, N*(H+KV))
	chunk, count := columnChunks(N)
	part := d.scratch.take(8 * count * D)
	for i, dw := range [2]ops.Buf{dwq, dwk} {
		if !dw.Present() {
			continue
		}
		from, heads := 0, H
		if i == 1 {
			from, heads = H, KV
		}
		d.p().ptrs(part, g, x, r).ints(chunk, from, heads, N, H, KV, D)
		d.launch("qk_norm_parts", [3]int{blocks(D, 128), count, 1}, 128, 0)
		d.p().ptrs(d.f(dw, D), part, 0).ints(0, D, count, D)
		d.each("column_sums", D)
	}
	d.p().ptrs(g, x, r, d.f(wq, D), d.f(wk, D)).ints(N, H, KV, D)
	d.warps("qk_norm_backward", N*(H+KV))
}

// columnChunks is how many tokens a share of a column's sum has, and how many shares there are.
func columnChunks(N int) (chunk, count int) {
	chunk = max(128, blocks(N, 1024))
	return chunk, blocks(N, chunk)
}

// columns makes shares of Σ_n a[n,c]·b[n,c]·s[n]; b and s may be 0.
func (d *Device) columns(a, b, s Pointer, N, C int) (part Pointer, count int) {
	chunk, count := columnChunks(N)
	part = d.scratch.take(8 * count * C)
	d.p().ptrs(part, a, b, s).ints(chunk, N, C)
	d.launch("column_parts", [3]int{blocks(C, eachThreads), count, 1}, eachThreads, 0)
	return part, count
}
