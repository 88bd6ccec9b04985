// Attention on tensor cores: bf16 in, float sums, as FlashAttention-2 does it (Dao 2023, arXiv 2307.08691), for packed
// documents and shared key heads. No atomics: the backward pass goes over queries once for dq and over keys once for dk and
// dv, each sum in one order. Twins: attention.cu,
// engine/cpu/attention_plain.go.
#include "common.h"
#include "mma.h"

#define LOG2E 1.4426950408889634f

// tile copies rows row0 … row0+rows-1 of D columns to shared memory, rows from N on as zeros.
template <int D>
__device__ inline void tile(bf16 *to, const bf16 *from, int64_t stride, int row0, int rows, int N) {
    for (int i = threadIdx.x; i < rows * (D / 8); i += blockDim.x) {
        int r = i / (D / 8), c = i % (D / 8) * 8, row = row0 + r;
        copy_async(to + r * (D + 8) + c, row < N ? from + row * stride + c : from, row < N ? 16 : 0);
    }
}

// pack makes a fragment A of 16 columns, which begin at tile j, of what mma left as sums.
__device__ inline void pack(uint32_t a[4], const float (*s)[4], int j) {
    a[0] = narrow2(s[j][0], s[j][1]);
    a[1] = narrow2(s[j][2], s[j][3]);
    a[2] = narrow2(s[j + 1][0], s[j + 1][1]);
    a[3] = narrow2(s[j + 1][2], s[j + 1][3]);
}

// product_nt: s [16, 8*J] = A rows r… times B [n][k] rows, over D columns.
template <int D, int J>
__device__ inline void product_nt(float (*s)[4], const bf16 *a, int r, const bf16 *b) {
    for (int j = 0; j < J; j++)
        for (int e = 0; e < 4; e++) s[j][e] = 0;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t af[4], bf[4];
        fragment_a(af, a, D + 8, r, k);
#pragma unroll
        for (int j = 0; j < J; j += 2) {
            fragment_b(bf, b, D + 8, 8 * j, k);
            mma_bf16(s[j], af, bf[0], bf[1]);
            mma_bf16(s[j + 1], af, bf[2], bf[3]);
        }
    }
}

// product_add: acc [16, D] += s [16, 8*J] times B [k][n].
template <int D, int J>
__device__ inline void product_add(float (*acc)[4], const float (*s)[4], const bf16 *b) {
#pragma unroll
    for (int j = 0; j < J; j += 2) {
        uint32_t af[4], bf[4];
        pack(af, s, j);
#pragma unroll
        for (int d = 0; d < D; d += 16) {
            fragment_bt(bf, b, D + 8, d, 8 * j);
            mma_bf16(acc[d / 8], af, bf[0], bf[1]);
            mma_bf16(acc[d / 8 + 1], af, bf[2], bf[3]);
        }
    }
}

enum { FORWARD_Q = 128, FORWARD_K = 64, SMALL_K = 32 };

// A block of 8 warps takes 128 queries of a head, a warp 16 of them, and K keys at a time: SMALL_K where a block can have less than 102 KB
// of shared memory.
template <int D, int K>
__device__ inline void forward(float *out, float *lse, const bf16 *qkv, const int *starts, float scale, int N, int H, int KV) {
    int q0 = (gridDim.x - 1 - blockIdx.x) * FORWARD_Q, h = blockIdx.y, lane = threadIdx.x & 31; // the longest rows first
    int64_t width = (int64_t)(H + 2 * KV) * D;
    const bf16 *keys = qkv + (H + h / (H / KV)) * D, *values = keys + KV * D;
    const int line = D + 8, part = K * line;
    bf16 *qs = (bf16 *)shared_memory, *ks = qs + FORWARD_Q * line, *vs = ks + 2 * part;
    int row[2], start[2], wr = threadIdx.x / 32 * 16;
    for (int e = 0; e < 2; e++) {
        row[e] = q0 + wr + lane / 4 + 8 * e;
        start[e] = row[e] < N ? starts[row[e]] : N;
    }
    int first = starts[q0] / K, last = min(q0 + FORWARD_Q, N) - 1, wlast = min(q0 + wr + 15, N - 1);
    tile<D>(qs, qkv + h * D, width, q0, FORWARD_Q, N);
    tile<D>(ks, keys, width, first * K, K, N);
    tile<D>(vs, values, width, first * K, K, N);
    copy_commit();
    float acc[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    const float c = scale * LOG2E;
    for (int t = first; t <= last / K; t++) {
        copy_wait<0>();
        __syncthreads();
        int m0 = t * K, at = (t - first) % 2 * part, other = part - at;
        if (t < last / K) {
            tile<D>(ks + other, keys, width, m0 + K, K, N);
            tile<D>(vs + other, values, width, m0 + K, K, N);
        }
        copy_commit();
        if (m0 > wlast) continue;
        float s[K / 8][4];
        product_nt<D, K / 8>(s, qs, wr, ks + at);
        for (int e = 0; e < 2; e++) {
            float high = -INFINITY;
            for (int j = 0; j < K / 8; j++)
                for (int x = 0; x < 2; x++) {
                    int m = m0 + 8 * j + lane % 4 * 2 + x;
                    float &v = s[j][2 * e + x];
                    if (m < start[e] || m > row[e]) v = -INFINITY;
                    high = fmaxf(high, v);
                }
            high = fmaxf(top[e], quad_max(high));
            float base = high == -INFINITY ? 0.0f : high * c, fade = exp2f(top[e] * c - base), add = 0;
            for (int j = 0; j < K / 8; j++)
                for (int x = 0; x < 2; x++) {
                    float &v = s[j][2 * e + x];
                    v = exp2f(v * c - base);
                    add += v;
                }
            sum[e] = sum[e] * fade + quad_add(add);
            top[e] = high;
            for (int d = 0; d < D / 8; d++)
                for (int x = 0; x < 2; x++) acc[d][2 * e + x] *= fade;
        }
        product_add<D, K / 8>(acc, s, vs + at);
    }
    for (int e = 0; e < 2; e++) {
        if (row[e] >= N) continue;
        float inverse = 1.0f / sum[e];
        float *to = out + ((int64_t)row[e] * H + h) * D + lane % 4 * 2;
        for (int d = 0; d < D / 8; d++)
            for (int x = 0; x < 2; x++) to[8 * d + x] = acc[d][2 * e + x] * inverse;
        if (lane % 4 == 0) lse[(int64_t)row[e] * H + h] = top[e] * scale + logf(sum[e]);
    }
}

KERNEL(attention_64)(float *out, float *lse, const bf16 *qkv, const int *starts, float scale, int N, int H, int KV) {
    forward<64, FORWARD_K>(out, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_64)

KERNEL(attention_128)(float *out, float *lse, const bf16 *qkv, const int *starts, float scale, int N, int H, int KV) {
    forward<128, FORWARD_K>(out, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_128)

KERNEL(attention_128_small)(float *out, float *lse, const bf16 *qkv, const int *starts, float scale, int N, int H, int KV) {
    forward<128, SMALL_K>(out, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_128_small)

enum { BACK = 64, BACK_Q = 32 };

// The query part: a block of 4 warps takes 64 queries of a head, and K keys at a time.
template <int D, int K>
__device__ inline void backward_q(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                  const int *starts, float scale, int N, int H, int KV) {
    int q0 = (gridDim.x - 1 - blockIdx.x) * BACK, h = blockIdx.y, lane = threadIdx.x & 31, wr = threadIdx.x / 32 * 16;
    int64_t width = (int64_t)(H + 2 * KV) * D;
    const bf16 *keys = qkv + (H + h / (H / KV)) * D, *values = keys + KV * D;
    const int line = D + 8, part = K * line;
    bf16 *qs = (bf16 *)shared_memory, *gs = qs + BACK * line, *ks = gs + BACK * line, *vs = ks + 2 * part;
    int row[2], start[2], first = starts[q0] / K, last = (min(q0 + BACK, N) - 1) / K, wlast = min(q0 + wr + 15, N - 1);
    float l[2], dl[2];
    for (int e = 0; e < 2; e++) {
        row[e] = q0 + wr + lane / 4 + 8 * e;
        bool in = row[e] < N;
        start[e] = in ? starts[row[e]] : N;
        l[e] = in ? lse[(int64_t)row[e] * H + h] * LOG2E : 0;
        dl[e] = in ? delta[(int64_t)row[e] * H + h] : 0;
    }
    tile<D>(qs, qkv + h * D, width, q0, BACK, N);
    tile<D>(gs, dout + h * D, (int64_t)H * D, q0, BACK, N);
    tile<D>(ks, keys, width, first * K, K, N);
    tile<D>(vs, values, width, first * K, K, N);
    copy_commit();
    float acc[D / 8][4] = {};
    for (int t = first; t <= last; t++) {
        copy_wait<0>();
        __syncthreads();
        int m0 = t * K, at = (t - first) % 2 * part, other = part - at;
        if (t < last) {
            tile<D>(ks + other, keys, width, m0 + K, K, N);
            tile<D>(vs + other, values, width, m0 + K, K, N);
        }
        copy_commit();
        if (m0 > wlast) continue;
        float s[K / 8][4], dp[K / 8][4];
        product_nt<D, K / 8>(s, qs, wr, ks + at);
        product_nt<D, K / 8>(dp, gs, wr, vs + at);
        for (int j = 0; j < K / 8; j++)
            for (int e = 0; e < 4; e++) {
                int m = m0 + 8 * j + lane % 4 * 2 + e % 2, r = e / 2;
                bool seen = m >= start[r] && m <= row[r];
                s[j][e] = seen ? exp2f(s[j][e] * scale * LOG2E - l[r]) * (dp[j][e] - dl[r]) * scale : 0.0f;
            }
        product_add<D, K / 8>(acc, s, ks + at);
    }
    for (int e = 0; e < 2; e++) {
        if (row[e] >= N) continue;
        float *to = dqkv + row[e] * width + h * D + lane % 4 * 2;
        for (int d = 0; d < D / 8; d++)
            for (int x = 0; x < 2; x++) to[8 * d + x] = acc[d][2 * e + x];
    }
}

KERNEL(attention_backward_q_64)(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                const int *starts, float scale, int N, int H, int KV) {
    backward_q<64, BACK>(dqkv, dout, delta, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_backward_q_64)

KERNEL(attention_backward_q_128)(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                 const int *starts, float scale, int N, int H, int KV) {
    backward_q<128, BACK>(dqkv, dout, delta, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_backward_q_128)

KERNEL(attention_backward_q_128_small)(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                       const int *starts, float scale, int N, int H, int KV) {
    backward_q<128, SMALL_K>(dqkv, dout, delta, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_backward_q_128_small)

// behind is the first token from m0 on that does not see token m any more, or N.
__device__ inline int behind(const int *starts, int m0, int m, int N) {
    int lo = m0, hi = N;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (starts[mid] <= m) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

// The key and value parts: a block of 4 warps takes 64 keys of a key head, over the query heads of its group, 32 queries
// at a time. Scores are transposed: rows are keys.
template <int D>
__device__ inline void backward_kv(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                   const int *starts, float scale, int N, int H, int KV) {
    int m0 = blockIdx.x * BACK, kv = blockIdx.y, G = H / KV, lane = threadIdx.x & 31, wr = threadIdx.x / 32 * 16;
    int64_t width = (int64_t)(H + 2 * KV) * D;
    const int line = D + 8, part = BACK * line, qpart = BACK_Q * line;
    bf16 *ks = (bf16 *)shared_memory, *vs = ks + part, *qs = vs + part, *gs = qs + 2 * qpart;
    int end = behind(starts, m0, min(m0 + BACK, N) - 1, N), tiles = (end - m0 + BACK_Q - 1) / BACK_Q, all = G * tiles;
    tile<D>(ks, qkv + (H + kv) * D, width, m0, BACK, N);
    tile<D>(vs, qkv + (H + KV + kv) * D, width, m0, BACK, N);
    tile<D>(qs, qkv + kv * G * D, width, m0, BACK_Q, N);
    tile<D>(gs, dout + kv * G * D, (int64_t)H * D, m0, BACK_Q, N);
    copy_commit();
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    for (int i = 0; i < all; i++) {
        copy_wait<0>();
        __syncthreads();
        int at = i % 2 * qpart, other = qpart - at, h = kv * G + i / tiles, n0 = m0 + i % tiles * BACK_Q;
        if (i + 1 < all) {
            int nh = kv * G + (i + 1) / tiles, nn = m0 + (i + 1) % tiles * BACK_Q;
            tile<D>(qs + other, qkv + nh * D, width, nn, BACK_Q, N);
            tile<D>(gs + other, dout + nh * D, (int64_t)H * D, nn, BACK_Q, N);
        }
        copy_commit();
        if (n0 + BACK_Q - 1 < m0 + wr) continue; // all queries stand before the warp's keys
        float p[4][4], ds[4][4];
        product_nt<D, 4>(p, ks, wr, qs + at);
        product_nt<D, 4>(ds, vs, wr, gs + at);
        for (int j = 0; j < 4; j++)
            for (int x = 0; x < 2; x++) {
                int n = n0 + 8 * j + lane % 4 * 2 + x;
                bool in = n < N;
                int start = in ? starts[n] : N;
                float l = in ? lse[(int64_t)n * H + h] * LOG2E : 0, dl = in ? delta[(int64_t)n * H + h] : 0;
                for (int e = 0; e < 2; e++) {
                    int m = m0 + wr + lane / 4 + 8 * e;
                    float &pr = p[j][2 * e + x], &d = ds[j][2 * e + x];
                    pr = m >= start && m <= n ? exp2f(pr * scale * LOG2E - l) : 0.0f;
                    d = pr * (d - dl) * scale;
                }
            }
        product_add<D, 4>(dv, p, gs + at);
        product_add<D, 4>(dk, ds, qs + at);
    }
    for (int e = 0; e < 2; e++) {
        int m = m0 + wr + lane / 4 + 8 * e;
        if (m >= N) continue;
        float *to = dqkv + m * width + (H + kv) * D + lane % 4 * 2;
        for (int d = 0; d < D / 8; d++)
            for (int x = 0; x < 2; x++) {
                to[8 * d + x] = dk[d][2 * e + x];
                to[KV * D + 8 * d + x] = dv[d][2 * e + x];
            }
    }
}

KERNEL(attention_backward_kv_64)(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                 const int *starts, float scale, int N, int H, int KV) {
    backward_kv<64>(dqkv, dout, delta, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_backward_kv_64)

KERNEL(attention_backward_kv_128)(float *dqkv, const bf16 *dout, const float *delta, const float *lse, const bf16 *qkv,
                                  const int *starts, float scale, int N, int H, int KV) {
    backward_kv<128>(dqkv, dout, delta, lse, qkv, starts, scale, N, H, KV);
}
EXPORT(attention_backward_kv_128)
