package cpu

import (
	"math"

	"lpipe/engine/ops"
)

// Attention sets out and lse: causal within each token's document.
func (d *Plain) Attention(out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width := (H + 2*KV) * D
	o, l, x := d.f(out, N*H*D), d.f(lse, N*H), d.f(qkv, N*width)
	s := make([]float64, N)
	for n, start := range d.i(starts, N) {
		for h := range H {
			q, key := x[n*width+h*D:][:D], (H+h/(H/KV))*D
			for m := int(start); m <= n; m++ {
				s[m] = float64(scale) * dot64(q, x[m*width+key:])
			}
			z := logSumExp(s[start : n+1])
			l[n*H+h] = float32(z)
			for c := range D {
				var sum float64
				for m := int(start); m <= n; m++ {
					sum += math.Exp(s[m]-z) * float64(x[m*width+key+KV*D+c])
				}
				o[(n*H+h)*D+c] = float32(sum)
			}
		}
	}
}

// AttentionBackward sets dqkv.
func (d *Plain) AttentionBackward(dqkv, dout, out, lse, qkv ops.Buf, starts ops.Ints, scale float32, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width := (H + 2*KV) * D
	g, gy, o := d.f(dqkv, N*width), d.f(dout, N*H*D), d.f(out, N*H*D)
	l, x := d.f(lse, N*H), d.f(qkv, N*width)
	clear(g)
	for n, start := range d.i(starts, N) {
		for h := range H {
			q, key := n*width+h*D, (H+h/(H/KV))*D
			dy := gy[(n*H+h)*D:][:D]
			delta := dot64(dy, o[(n*H+h)*D:])
			for m := int(start); m <= n; m++ {
				k, v := m*width+key, m*width+key+KV*D
				p := math.Exp(float64(scale)*dot64(x[q:q+D], x[k:]) - float64(l[n*H+h]))
				ds := float64(scale) * p * (dot64(dy, x[v:]) - delta)
				for c := range D {
					g[q+c] += float32(ds * float64(x[k+c]))
					g[k+c] += float32(ds * float64(x[q+c]))
					g[v+c] += float32(p * float64(dy[c]))
				}
			}
		}
	}
}

// CacheStore copies key and value of each token into its place.
func (d *Plain) CacheStore(cache, qkv ops.Buf, slot, at ops.Ints, M, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width, size := (H+2*KV)*D, ops.CacheSize(M, KV, D)
	to, x, where, pos := d.f(cache, cache.Len), d.f(qkv, N*width), d.i(slot, N), d.i(at, N)
	for n := range N {
		if pos[n] < 0 || int(pos[n]) >= M {
			panic("cpu: position outside the cache")
		}
		base := int(where[n]) * size
		for kv := range KV {
			row := (kv*M + int(pos[n])) * D
			copy(to[base+row:][:D], x[n*width+(H+kv)*D:])
			copy(to[base+size/2+row:][:D], x[n*width+(H+KV+kv)*D:])
		}
	}
}

// AttentionCached sets out from the cache.
func (d *Plain) AttentionCached(out, qkv, cache ops.Buf, slot, at ops.Ints, scale float32, M, N, H, KV, D int) {
	if d.err != nil {
		return
	}
	width, size := (H+2*KV)*D, ops.CacheSize(M, KV, D)
	o, x, all := d.f(out, N*H*D), d.f(qkv, N*width), d.f(cache, cache.Len)
	where, pos := d.i(slot, N), d.i(at, N)
	s := make([]float64, M)
	for n := range N {
		for h := range H {
			q := x[n*width+h*D:][:D]
			keys := all[int(where[n])*size+h/(H/KV)*M*D:]
			values := keys[size/2:]
			for m := range int(pos[n]) + 1 {
				s[m] = float64(scale) * dot64(q, keys[m*D:])
			}
			z := logSumExp(s[:pos[n]+1])
			for c := range D {
				var sum float64
				for m := range int(pos[n]) + 1 {
					sum += math.Exp(s[m]-z) * float64(values[m*D+c])
				}
				o[(n*H+h)*D+c] = float32(sum)
			}
		}
	}
}

func dot64(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

func logSumExp(s []float64) float64 {
	top := math.Inf(-1)
	for _, v := range s {
		top = max(top, v)
	}
	var sum float64
	for _, v := range s {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum)
}
