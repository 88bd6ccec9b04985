package cuda

import "lpipe/engine/ops"

// Widths of heads that the tensor-core kernels are made for, and the tiles of those: see attention_mma.cu.
const (
	forwardQ = 128
	forwardK = 64
	back     = 64
	backQ    = 32
	smallK   = 32 // keys at a time where shared memory is small
)

// attentionShared is what kernels for heads of D take with so many keys at a time: queries once, keys and values twice, so that the
// next are on their way.
func attentionShared(D, keys int) (forward, backwardQ int) {
	return 2 * (D + 8) * (forwardQ + 4*keys), 2 * (D + 8) * (2*back + 4*keys)
}

// tensorCores names the width as kernels have it in their names; "" is for the float kernels.
func (d *Device) tensorCores(D int) string {
	switch {
	case d.halves == 0:
		return ""
	case D == 64:
		return "_64"
	case D == 128:
		return "_128"
	}
	return ""
}

// keyTile is the tile that the machine has shared memory for, as kernels have it in their names, and what they take of it.
func (d *Device) keyTile(D int) (name string, forward, backwardQ int) {
	forward, backwardQ = attentionShared(D, forwardK)
	if limit := d.m.Describe().Shared; limit == 0 || max(forward, backwardQ) <= limit {
		return "", forward, backwardQ
	}
	forward, backwardQ = attentionShared(D, smallK)
	return "_small", forward, backwardQ
}

// widestHead is what the float kernels take.
const widestHead = 256

// Attention sets out and lse: causal within each token's document.
func (d *Device) Attention(out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	if !d.begin("Attention", "NHKD", N, H, KV, D) {
		return
	}
	width := (H + 2*KV) * D
	o, l, x, s := d.f(out, N*H*D), d.f(lse, N*H), d.f(qkv, N*width), d.i(starts, N)
	if name := d.tensorCores(D); name != "" {
		h := d.half(x, 0, 1, N, width, width, width)
		d.p().ptrs(o, l, h.p, s).f32(scale).ints(N, H, KV)
		size, shared, _ := d.keyTile(D)
		d.launch("attention"+name+size, [3]int{blocks(N, forwardQ), H, 1}, 256, shared)
		return
	}
	d.checkHead(D)
	d.p().ptrs(o, l, x, s).f32(scale).ints(N, H, KV, D)
	d.warps("attention", N*H)
}

// AttentionBackward sets dqkv.
func (d *Device) AttentionBackward(dqkv, dout, out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	if !d.begin("AttentionBackward", "NHKD", N, H, KV, D) {
		return
	}
	width := (H + 2*KV) * D
	g, gy, l, x, s := d.f(dqkv, N*width), d.f(dout, N*H*D), d.f(lse, N*H), d.f(qkv, N*width), d.i(starts, N)
	delta := d.scratch.take(4 * N * H)
	name := d.tensorCores(D)
	d.p().ptrs(delta, gy, d.f(out, N*H*D)).ints(number(name != "")).i64(N * H).ints(D)
	d.warps("attention_delta", N*H)
	if name != "" {
		dy, h := d.half(gy, 0, 1, N, H*D, H*D, H*D), d.half(x, 0, 1, N, width, width, width)
		d.p().ptrs(g, dy.p, delta, l, h.p, s).f32(scale).ints(N, H, KV)
		size, _, shared := d.keyTile(D)
		d.launch("attention_backward_q"+name+size, [3]int{blocks(N, back), H, 1}, 128, shared)
		d.launch("attention_backward_kv"+name, [3]int{blocks(N, back), KV, 1}, 128, 2*(D+8)*(2*back+4*backQ))
		return
	}
	d.checkHead(D)
	d.p().ptrs(g, gy, delta, l, x, s).f32(scale).ints(N, H, KV, D)
	d.warps("attention_backward_q", N*H)
	d.warps("attention_backward_kv", N*KV)
}

func (d *Device) checkHead(D int) {
	if D > widestHead {
		panic("cuda: heads wider than 256")
	}
}

// warps starts a kernel of which each warp takes one of n things.
func (d *Device) warps(kernel string, n int) { d.launch(kernel, [3]int{blocks(n, 4), 1, 1}, 128, 64) }

// CacheStore copies key and value of each token into its place.
func (d *Device) CacheStore(cache, qkv ops.Buf, slot, at ops.Ints, M, N, H, KV, D int) {
	if !d.begin("CacheStore", "MNHKD", M, N, H, KV, D) {
		return
	}
	for n, p := range d.host(at, N) {
		if p < 0 || int(p) >= M || (int(d.host(slot, N)[n])+1)*ops.CacheSize(M, KV, D) > cache.Len {
			panic("cuda: position outside the cache")
		}
	}
	d.p().ptrs(d.f(cache, cache.Len), d.f(qkv, N*(H+2*KV)*D), d.i(slot, N), d.i(at, N)).ints(M).i64(N).ints(H, KV, D)
	d.each("cache_store", 2*N*KV*D)
}

// AttentionCached sets out from the cache.
func (d *Device) AttentionCached(out, qkv, cache ops.Buf, slot, at ops.Ints, scale float32, M, N, H, KV, D int) {
	if !d.begin("AttentionCached", "MNHKD", M, N, H, KV, D) {
		return
	}
	d.checkHead(D)
	d.p().ptrs(d.f(out, N*H*D), d.f(qkv, N*(H+2*KV)*D), d.f(cache, cache.Len), d.i(slot, N), d.i(at, N))
	d.params.f32(scale).ints(M, N, H, KV, D)
	d.warps("attention_cached", N*H)
}

// RoPETable sets cos and sin of positions·freq.
func (d *Device) RoPETable(cos, sin, freq ops.Buf, positions ops.Ints, N, D int) {
	if !d.begin("RoPETable", "ND", N, D) {
		return
	}
	d.p().ptrs(d.f(cos, N*D/2), d.f(sin, N*D/2), d.f(freq, D/2), d.i(positions, N)).i64(N).ints(D / 2)
	d.each("rope_table", N*D/2)
}

// RoPE rotates the query and key heads in place.
func (d *Device) RoPE(qkv, cos, sin ops.Buf, N, H, KV, D int) {
	if d.begin("RoPE", "NHKD", N, H, KV, D) {
		d.rotate(qkv, cos, sin, 1, N, H, KV, D)
	}
}

// RoPEBackward rotates them back.
func (d *Device) RoPEBackward(dqkv, cos, sin ops.Buf, N, H, KV, D int) {
	if d.begin("RoPEBackward", "NHKD", N, H, KV, D) {
		d.rotate(dqkv, cos, sin, -1, N, H, KV, D)
	}
}

func (d *Device) rotate(qkv, cos, sin ops.Buf, sign float32, N, H, KV, D int) {
	d.p().ptrs(d.f(qkv, N*(H+2*KV)*D), d.f(cos, N*D/2), d.f(sin, N*D/2)).f32(sign).i64(N).ints(H, KV, D)
	d.each("rope", N*(H+KV)*D/2)
}
