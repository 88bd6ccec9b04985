package opstest

import (
	"math"

	"lpipe/engine/ops"
)

// heads picks head counts and a width.
func (r *trial) heads() (H, KV, D int) {
	KV = r.pick(1, 2, 3)
	return KV * r.pick(1, 2, 7), KV, r.pick(2, 8, 24, 32, 64, 64, 128)
}

// documents cuts N tokens into documents of random length, padding tokens (documents of one) among them.
func (r *trial) documents(N int) []int32 {
	starts := make([]int32, N)
	longest := r.pick(1, 20, 150, N)
	for n := 0; n < N; {
		length := 1 + r.rng.IntN(longest)
		for i := n; i < min(n+length, N); i++ {
			starts[i] = int32(n)
		}
		n += length
	}
	if r.rng.IntN(4) == 0 { // a sliding window inside the documents
		for n := range starts {
			starts[n] = max(starts[n], int32(n-9))
		}
	}
	return starts
}

func attention(r *trial) {
	H, KV, D := r.heads()
	N := r.pick(1, 5, 13, 48, 70, 200, 400)
	r.note("N %d H %d KV %d D %d", N, H, KV, D)
	starts, width := r.documents(N), (H+2*KV)*D
	x, dy := r.noise(N*width, 1.5), r.noise(N*H*D, 1)
	scale := float32(1 / math.Sqrt(float64(D)))
	out, lse, dx := r.out("out", N*H*D), r.out("lse", N*H), r.out("dqkv", N*width)
	xb, sb := r.buf("qkv", x), r.int32s(starts)
	r.d.Attention(out, lse, xb, sb, scale, N, H, KV, D)
	r.d.AttentionBackward(dx, r.buf("dout", dy), out, lse, xb, sb, scale, N, H, KV, D)

	want, wantL, grad := zeros(N*H*D), zeros(N*H), zeros(N*width)
	v, g := wide(x), wide(dy)
	for n := range N {
		for h := range H {
			key := (H + h/(H/KV)) * D
			q, lo := n*width+h*D, int(starts[n])
			p, z := softmax(v, q, lo, n, width, key, D, float64(scale))
			wantL[n*H+h] = z
			y := g[(n*H+h)*D:][:D]
			o := want[(n*H+h)*D:][:D]
			for m := lo; m <= n; m++ {
				for c := range D {
					o[c] += p[m-lo] * v[m*width+key+KV*D+c]
				}
			}
			delta := inner(y, o)
			for m := lo; m <= n; m++ {
				k, u := m*width+key, m*width+key+KV*D
				ds := float64(scale) * p[m-lo] * (inner(y, v[u:]) - delta)
				for c := range D {
					grad[q+c] += ds * v[k+c]
					grad[k+c] += ds * v[q+c]
					grad[u+c] += p[m-lo] * y[c]
				}
			}
		}
	}
	r.check("out", out, want)
	r.check("lse", lse, wantL)
	r.check("dqkv", dx, grad)
}

// softmax is the probabilities of the query at q over tokens lo … n, and their log-sum.
func softmax(v []float64, q, lo, n, width, key, D int, scale float64) ([]float64, float64) {
	p := make([]float64, n+1-lo)
	for m := lo; m <= n; m++ {
		p[m-lo] = scale * inner(v[q:q+D], v[m*width+key:])
	}
	z := logSum(p)
	for i := range p {
		p[i] = math.Exp(p[i] - z)
	}
	return p, z
}

func inner(a, b []float64) float64 {
	var sum float64
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

func logSum(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	var sum float64
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}

// attentionCached feeds documents token by token, several slots at once, and expects what attention gives for the whole.
func attentionCached(r *trial) {
	H, KV, D := r.heads()
	S, M := r.pick(1, 3), r.pick(1, 9, 40)
	r.note("S %d M %d H %d KV %d D %d", S, M, H, KV, D)
	width := (H + 2*KV) * D
	scale := float32(1 / math.Sqrt(float64(D)))
	cache := r.buf("cache", make([]float32, S*ops.CacheSize(M, KV, D)))
	x := make([][]float32, S)
	for s := range x {
		x[s] = r.noise(M*width, 1)
	}
	out := r.out("out", S*H*D)
	for t := range M {
		slot, at, rows := make([]int32, S), make([]int32, S), []float32(nil)
		for s := range S {
			slot[s], at[s] = int32(S-1-s), int32(t)
			rows = append(rows, x[S-1-s][t*width:(t+1)*width]...)
		}
		qkv, sb, ab := r.buf("qkv", rows), r.int32s(slot), r.int32s(at)
		r.d.CacheStore(cache, qkv, sb, ab, M, S, H, KV, D)
		r.d.AttentionCached(out, qkv, cache, sb, ab, scale, M, S, H, KV, D)
		want := zeros(S * H * D)
		for s := range S {
			v := wide(x[S-1-s])
			for h := range H {
				key := (H + h/(H/KV)) * D
				p, _ := softmax(v, t*width+h*D, 0, t, width, key, D, float64(scale))
				for m := range t + 1 {
					for c := range D {
						want[(s*H+h)*D+c] += p[m] * v[m*width+key+KV*D+c]
					}
				}
			}
		}
		r.check("out", out, want)
	}
}
