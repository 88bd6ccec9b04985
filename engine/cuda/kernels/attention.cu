// Attention in float, a warp a query or key: any head width up to 256. Twin: engine/cpu/attention_plain.go. The fast form
// is attention_mma.cu.
#include "common.h"

enum { WIDEST = 256, PER_LANE = WIDEST / 32 };

__device__ inline float dot(const float *a, const float *b, int D) {
    float s = 0;
    for (int c = 0; c < D; c++) s += a[c] * b[c];
    return s;
}

// attend mixes keys lo … hi-1, rows of stride values, for one query: 32 keys at a time, a lane a key; then a lane owns
// columns. Sets out and returns the log-sum.
__device__ inline float attend(float *out, const float *q, const float *keys, const float *values, int64_t stride, int lo,
                               int hi, float scale, int D) {
    int lane = threadIdx.x & 31;
    float top = -INFINITY, sum = 0, acc[PER_LANE] = {};
    for (int m0 = lo; m0 < hi; m0 += 32) {
        int m = m0 + lane, count = hi - m0 < 32 ? hi - m0 : 32;
        float s = m < hi ? scale * dot(q, keys + m * stride, D) : -INFINITY;
        float higher = fmaxf(top, warp_max(s)), fade = expf(top - higher), p = expf(s - higher);
        sum = sum * fade + warp_add(p);
        top = higher;
        for (int i = 0; i < PER_LANE; i++) acc[i] *= fade;
        for (int j = 0; j < count; j++) {
            float pj = lane_value(p, j);
            for (int i = 0; i < PER_LANE; i++)
                if (lane + 32 * i < D) acc[i] += pj * values[(m0 + j) * stride + lane + 32 * i];
        }
    }
    for (int i = 0; i < PER_LANE; i++)
        if (lane + 32 * i < D) out[lane + 32 * i] = acc[i] / sum;
    return top + logf(sum);
}

// attention sets out [N, H*D] and lse [N, H]; a warp takes token and head.
KERNEL(attention)(float *out, float *lse, const float *qkv, const int *starts, float scale, int N, int H, int KV, int D) {
    int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= (int64_t)N * H) return;
    int n = (int)(i / H), h = (int)(i % H), key = (H + h / (H / KV)) * D;
    int64_t width = (int64_t)(H + 2 * KV) * D;
    float l = attend(out + i * D, qkv + n * width + h * D, qkv + key, qkv + key + KV * D, width, starts[n], n + 1, scale, D);
    if ((threadIdx.x & 31) == 0) lse[i] = l;
}
EXPORT(attention)

// attention_cached: the same over a cache slot's positions 0 … at[n].
KERNEL(attention_cached)(float *out, const float *qkv, const float *cache, const int *slot, const int *at, float scale, int M,
                         int N, int H, int KV, int D) {
    int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= (int64_t)N * H) return;
    int n = (int)(i / H), h = (int)(i % H);
    int64_t plane = (int64_t)KV * M * D;
    const float *keys = cache + 2 * slot[n] * plane + (int64_t)(h / (H / KV)) * M * D;
    attend(out + i * D, qkv + n * (int64_t)(H + 2 * KV) * D + h * D, keys, keys + plane, D, 0, at[n] + 1, scale, D);
}
EXPORT(attention_cached)

// delta[n,h] = dout·out; a warp takes token and head. half rounds dout as the tensor-core kernels do, so that dout·v - delta
// is 0 where it should be.
KERNEL(attention_delta)(float *delta, const float *dout, const float *out, int half, int64_t heads, int D) {
    int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= heads) return;
    float s = 0;
    for (int c = threadIdx.x & 31; c < D; c += 32) {
        float g = dout[i * D + c];
        s += (half ? wide(narrow(g)) : g) * out[i * D + c];
    }
    s = warp_add(s);
    if ((threadIdx.x & 31) == 0) delta[i] = s;
}
EXPORT(attention_delta)

// The query part of dqkv: dq[n] = scale * sum_m ds*k[m].
KERNEL(attention_backward_q)(float *dqkv, const float *dout, const float *delta, const float *lse, const float *qkv,
                             const int *starts, float scale, int N, int H, int KV, int D) {
    int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= (int64_t)N * H) return;
    int n = (int)(i / H), h = (int)(i % H), lane = threadIdx.x & 31, key = (H + h / (H / KV)) * D;
    int64_t width = (int64_t)(H + 2 * KV) * D;
    const float *q = qkv + n * width + h * D, *dy = dout + i * D;
    float acc[PER_LANE] = {}, l = lse[i], dl = delta[i];
    for (int m0 = starts[n]; m0 <= n; m0 += 32) {
        int m = m0 + lane, count = n + 1 - m0 < 32 ? n + 1 - m0 : 32;
        float ds = 0;
        if (m <= n) {
            const float *k = qkv + m * width + key;
            ds = scale * expf(scale * dot(q, k, D) - l) * (dot(dy, k + KV * D, D) - dl);
        }
        for (int j = 0; j < count; j++) {
            float d = lane_value(ds, j);
            for (int c = 0; c < PER_LANE; c++)
                if (lane + 32 * c < D) acc[c] += d * qkv[(m0 + j) * width + key + lane + 32 * c];
        }
    }
    for (int c = 0; c < PER_LANE; c++)
        if (lane + 32 * c < D) dqkv[n * width + h * D + lane + 32 * c] = acc[c];
}
EXPORT(attention_backward_q)

// The key and value parts: dk[m] = scale * sum_n ds*q[n], dv[m] = sum_n p*dout[n], heads of the group rising, then n.
KERNEL(attention_backward_kv)(float *dqkv, const float *dout, const float *delta, const float *lse, const float *qkv,
                              const int *starts, float scale, int N, int H, int KV, int D) {
    int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= (int64_t)N * KV) return;
    int m = (int)(i / KV), kv = (int)(i % KV), lane = threadIdx.x & 31, G = H / KV;
    int64_t width = (int64_t)(H + 2 * KV) * D;
    int64_t at = m * width + (H + kv) * D;
    const float *k = qkv + at, *v = k + KV * D;
    float dk[PER_LANE] = {}, dv[PER_LANE] = {};
    for (int h = kv * G; h < (kv + 1) * G; h++)
        for (int n0 = m; n0 < N && starts[n0] <= m; n0 += 32) {
            int n = n0 + lane;
            float p = 0, ds = 0;
            if (n < N && starts[n] <= m) {
                int64_t nh = (int64_t)n * H + h;
                p = expf(scale * dot(qkv + n * width + h * D, k, D) - lse[nh]);
                ds = scale * p * (dot(dout + nh * D, v, D) - delta[nh]);
            }
            int count = N - n0 < 32 ? N - n0 : 32;
            for (int j = 0; j < count; j++) {
                float pj = lane_value(p, j), dj = lane_value(ds, j);
                if (pj == 0 && dj == 0) continue;
                for (int c = 0; c < PER_LANE; c++)
                    if (lane + 32 * c < D) {
                        dk[c] += dj * qkv[(n0 + j) * width + h * D + lane + 32 * c];
                        dv[c] += pj * dout[((int64_t)(n0 + j) * H + h) * D + lane + 32 * c];
                    }
            }
        }
    for (int c = 0; c < PER_LANE; c++)
        if (lane + 32 * c < D) {
            dqkv[at + lane + 32 * c] = dk[c];
            dqkv[at + KV * D + lane + 32 * c] = dv[c];
        }
}
EXPORT(attention_backward_kv)
