package cpu

import "lpipe/engine/ops"

// cachedJob is attention over a key-value cache: one token and key head a task.
type cachedJob struct {
	vec             vector
	out, qkv, cache []float32
	slot, at        []int32
	scale           float32
	m, h, kv, d     int
}

// AttentionCached sets out from the cache.
func (d *Device) AttentionCached(out, qkv, cache ops.Buf, slot, at ops.Ints, scale float32, M, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	d.cached = cachedJob{d.vec, d.f(out, N*H*D), d.f(qkv, N*(H+2*KV)*D), d.f(cache, cache.Len),
		d.i(slot, N), d.i(at, N), scale, M, H, KV, D}
	d.pool.do(&d.cached, N*KV)
}

func (j *cachedJob) task(w *worker, i int) {
	n, head, size := i/j.kv, i%j.kv, ops.CacheSize(j.m, j.kv, j.d)
	count := int(j.at[n]) + 1
	base := int(j.slot[n])*size + head*j.m*j.d
	keys, values := j.cache[base:][:count*j.d], j.cache[base+size/2:][:count*j.d]
	p := w.buf(scratchHead0, count)
	for h := head * (j.h / j.kv); h < (head+1)*(j.h/j.kv); h++ {
		q := j.qkv[n*(j.h+2*j.kv)*j.d+h*j.d:][:j.d]
		j.vec.dots(p, q, keys)
		sum := j.vec.exp(p, p, j.scale, j.scale*j.vec.max(p))
		out := j.out[(n*j.h+h)*j.d:][:j.d]
		j.vec.mix(out, p, values)
		j.vec.scale(out, out, 1/sum)
	}
}
