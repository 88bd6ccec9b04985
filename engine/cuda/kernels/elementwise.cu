// Operations on values one by one. Twins: engine/cpu/plain.go, elementwise.go, lion.go, dora.go, pair_weights.go.
#include "common.h"

#define EACH(i, n) \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

// out = a + b; out may be a or b.
KERNEL(add)(float *out, const float *a, const float *b, int64_t n) { EACH(i, n) out[i] = a[i] + b[i]; }
EXPORT(add)

// x *= s.
KERNEL(scale)(float *x, float s, int64_t n) { EACH(i, n) x[i] *= s; }
EXPORT(scale)

// x[n] *= s[n].
KERNEL(scale_rows)(float *x, const float *s, int64_t N, int64_t C) { EACH(i, N * C) x[i] *= s[i / C]; }
EXPORT(scale_rows)

// beta * (sum of reference - sum of nll) over tokens from … to-1, by a block.
__device__ inline double reward(const float *nll, const float *reference, double beta, int from, int to, double *scratch) {
    double now = 0, before = 0;
    for (int n = from + threadIdx.x; n < to; n += blockDim.x) now += nll[n], before += reference[n];
    now = block_add(now, scratch);
    return beta * (block_add(before, scratch) - now);
}

// pair_weights: what the loss of preferences grows with each token's. A block takes a pair, the last one what is behind them.
// See ops.Device.PairWeights.
KERNEL(pair_weights)(float *weight, const float *nll, const float *reference, const int *ends, double beta, double pairs, int N, int K) {
    double *scratch = (double *)shared_memory;
    int k = blockIdx.x, from = k > 0 ? ends[2 * k - 1] : 0, mid = k < K ? ends[2 * k] : N, to = k < K ? ends[2 * k + 1] : N;
    double chosen = reward(nll, reference, beta, from, mid, scratch), rejected = reward(nll, reference, beta, mid, to, scratch);
    float w = k < K ? (float)(beta / (1.0 + exp(chosen - rejected)) / pairs) : 0.0f;
    for (int n = from + threadIdx.x; n < to; n += blockDim.x) weight[n] = n < mid ? w : -w;
}
EXPORT(pair_weights)

// h = gate / (1 + exp(-gate)) * up. Where half is not null it takes the rounded values instead; either has rows of ld, half zeros up to a
// round number of 8.
KERNEL(swiglu)(float *h, bf16 *half, const float *gateup, int64_t N, int F, int ld) {
    int width = half ? (F + 7) / 8 * 8 : F;
    EACH(i, N * width) {
        int64_t n = i / width;
        int f = (int)(i - n * width);
        float v = 0;
        if (f < F) {
            float g = gateup[2 * n * F + f], u = gateup[2 * n * F + F + f];
            v = g / (1.0f + expf(-g)) * u;
        }
        if (half) half[n * ld + f] = narrow(v);
        else h[n * ld + f] = v;
    }
}
EXPORT(swiglu)

// dgate = dh*up*s*(1 + gate*(1-s)), dup = dh*gate*s, s = 1/(1+exp(-gate)); dgateup may be gateup. half is as in swiglu.
KERNEL(swiglu_backward)(float *dgateup, bf16 *half, const float *dh, const float *gateup, int64_t N, int F, int ld) {
    EACH(i, N * F) {
        int64_t n = i / F, f = i - n * F, at = 2 * n * F + f, to = n * ld + f;
        float g = gateup[at], u = gateup[at + F], y = dh[i], s = 1.0f / (1.0f + expf(-g));
        float dg = y * u * s * (1.0f + g * (1.0f - s)), du = y * g * s;
        if (half) half[to] = narrow(dg), half[to + F] = narrow(du);
        else dgateup[to] = dg, dgateup[to + F] = du;
        for (int c = 2 * F; half && f == 0 && c < (2 * F + 7) / 8 * 8; c++) half[to + c] = 0;
    }
}
EXPORT(swiglu_backward)

// factor = min(1, limit/(sqrt(squares) + 1e-6)), 1 where limit is 0, NaN where loss or squares is no finite number.
KERNEL(clip_factor)(float *factor, const float *loss, const float *squares, double limit) {
    if (threadIdx.x > 0) return;
    float l = loss[0], s = squares[0];
    double f = limit <= 0 ? 1.0 : fmin(1.0, limit / (sqrt((double)s) + 1e-6));
    factor[0] = l - l == 0 && s - s == 0 ? (float)f : NAN;
}
EXPORT(clip_factor)

// AdamW as torch has it; the bias corrections come ready from the host. factor may be null. See ops.Device.AdamW.
KERNEL(adamw)(float *p, float *m, float *v, const float *grad, const float *factor, float keep, float gscale, float b1, float b2,
              float beta2, float step, float root_bias2, float eps, int64_t n) {
    if (factor) gscale *= factor[0];
    if (gscale != gscale) return;
    EACH(i, n) {
        float g = grad[i] * gscale;
        float mi = m[i] + b1 * (g - m[i]), vi = beta2 * v[i] + b2 * g * g;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * keep - step * mi / (sqrtf(vi) / root_bias2 + eps);
    }
}
EXPORT(adamw)

// Lion; products are rounded apart, so that every machine sees the same sign. factor may be null.
KERNEL(lion)(float *p, float *m, const float *grad, const float *factor, float keep, float lr, float gscale, float b1, float b2,
             float c1, float c2, int64_t n) {
    if (factor) gscale *= factor[0];
    if (gscale != gscale) return;
    EACH(i, n) {
        float g = __fmul_rn(grad[i], gscale);
        float u = __fadd_rn(__fmul_rn(b1, m[i]), __fmul_rn(c1, g)), v = __fmul_rn(p[i], keep);
        p[i] = u > 0 ? v - lr : u < 0 ? v + lr : v;
        m[i] = __fadd_rn(__fmul_rn(b2, m[i]), __fmul_rn(c2, g));
    }
}
EXPORT(lion)

// x[n] += amount[n]*u, u uniform in [-1, 1).
KERNEL(noise)(float *x, const float *amount, uint64_t seed, int64_t N, int64_t C) {
    EACH(i, N * C) {
        float u = (float)(int32_t)mask_bits(seed, i) * (1.0f / 2147483648.0f);
        x[i] = __fadd_rn(x[i], __fmul_rn(amount[i / C], u));
    }
}
EXPORT(noise)

// out = x where kept, times 1/(1-p); 0 elsewhere.
KERNEL(dropout)(float *out, const float *x, uint64_t seed, uint32_t threshold, float factor, int64_t n) {
    EACH(i, n) out[i] = mask_bits(seed, i) >= threshold ? x[i] * factor : 0.0f;
}
EXPORT(dropout)

// dx += part where kept, times 1/(1-p).
KERNEL(dropout_add)(float *dx, const float *part, uint64_t seed, uint32_t threshold, float factor, int64_t n) {
    EACH(i, n) if (mask_bits(seed, i) >= threshold) dx[i] += part[i] * factor;
}
EXPORT(dropout_add)

// y = gain*z + bias, bias may be null; y may be z.
KERNEL(dora)(float *y, const float *z, const float *gain, const float *bias, int64_t N, int64_t F) {
    EACH(i, N * F) {
        int64_t f = i % F;
        y[i] = z[i] * gain[f] + (bias ? bias[f] : 0.0f);
    }
}
EXPORT(dora)

// y += bias.
KERNEL(add_bias)(float *y, const float *bias, int64_t N, int64_t F) { EACH(i, N * F) y[i] += bias[i % F]; }
EXPORT(add_bias)

// All values of out are v.
KERNEL(fill)(float *out, float v, int64_t n) { EACH(i, n) out[i] = v; }
EXPORT(fill)

// The first stage of a sum of squares: a block sums its share in double.
KERNEL(sum_squares)(double *part, const float *x, int64_t n) {
    double *scratch = (double *)shared_memory, sum = 0;
    EACH(i, n) sum += (double)x[i] * x[i];
    sum = block_add(sum, scratch);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
EXPORT(sum_squares)

// The second: sum += scale * (all shares in their order). One block of one warp.
KERNEL(sum_parts)(float *sum, const double *part, double scale, int count) {
    if (threadIdx.x > 0) return;
    double s = 0;
    for (int i = 0; i < count; i++) s += part[i];
    sum[0] += (float)(scale * s);
}
EXPORT(sum_parts)

// part[b] = the sum of block b's share of x.
KERNEL(sum_values)(double *part, const float *x, int64_t n) {
    double *scratch = (double *)shared_memory, sum = 0;
    EACH(i, n) sum += x[i];
    sum = block_add(sum, scratch);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
EXPORT(sum_values)

// Embedding: out[n] = w[ids[n]] in any storage.
KERNEL(embedding)(float *out, const void *w, const float *absmax, const int *ids, int type, int ld, int64_t N, int64_t C) {
    const float *table = shared_table();
    EACH(i, N * C) {
        int64_t n = i / C;
        out[i] = weight_value(table, w, absmax, type, ids[n], (int)(i - n * C), ld);
    }
}
EXPORT(embedding)

// dw[ids[n]] += dout[n], n rising: a thread owns a column.
KERNEL(embedding_backward)(float *dw, const float *dout, const int *ids, int64_t N, int64_t C) {
    EACH(c, C) for (int64_t n = 0; n < N; n++) dw[ids[n] * C + c] += dout[n * C + c];
}
EXPORT(embedding_backward)

// cos and sin of position*freq, the product rounded to float.
KERNEL(rope_table)(float *cs, float *sn, const float *freq, const int *positions, int64_t N, int half) {
    EACH(i, N * half) {
        float angle = __fmul_rn((float)positions[i / half], freq[i % half]);
        cs[i] = (float)cos((double)angle);
        sn[i] = (float)sin((double)angle);
    }
}
EXPORT(rope_table)

// Rotates the query and key heads in place; sign -1 is the backward half.
KERNEL(rope)(float *qkv, const float *cs, const float *sn, float sign, int64_t N, int H, int KV, int D) {
    int half = D / 2, heads = H + KV;
    EACH(i, N * heads * half) {
        int64_t n = i / (heads * half);
        int rest = (int)(i - n * heads * half), h = rest / half, j = rest - h * half;
        float *x = qkv + n * (H + 2 * KV) * D + h * D;
        float a = x[j], b = x[j + half], c = cs[n * half + j], s = sign * sn[n * half + j];
        x[j] = a * c - b * s;
        x[j + half] = b * c + a * s;
    }
}
EXPORT(rope)

// Copies key and value of each token to its place in the cache: [S][2][KV, M, D].
KERNEL(cache_store)(float *cache, const float *qkv, const int *slot, const int *at, int M, int64_t N, int H, int KV, int D) {
    int64_t plane = (int64_t)KV * M * D;
    EACH(i, N * 2 * KV * D) {
        int64_t n = i / (2 * KV * D);
        int rest = (int)(i - n * 2 * KV * D), v = rest / (KV * D), kv = rest / D - v * KV, c = rest % D;
        cache[(2 * (int64_t)slot[n] + v) * plane + ((int64_t)kv * M + at[n]) * D + c] =
            qkv[n * (H + 2 * KV) * D + (int64_t)(H + v * KV + kv) * D + c];
    }
}
EXPORT(cache_store)

// out[i] = x[rows[i]]: float rows of C values.
KERNEL(gather)(float *out, const float *x, const int *rows, int64_t n, int64_t C) {
    EACH(i, n * C) out[i] = x[rows[i / C] * C + i % C];
}
EXPORT(gather)

// out[rows[i]] = x[i].
KERNEL(scatter)(float *out, const float *x, const int *rows, int64_t n, int64_t C) {
    EACH(i, n * C) out[rows[i / C] * C + i % C] = x[i];
}
EXPORT(scatter)
