// RMSNorm and DoRA's norms and sums. Twins: engine/cpu/plain.go, norm.go, dora.go.
#include "common.h"

// rstd[n] = 1/sqrt(sum x²/C + eps), out = x*rstd*w. A block takes a token; out may be x. Where half is not null it takes the rounded
// values instead, in rows of ld, with zeros up to a round number of 8.
KERNEL(rmsnorm)(float *out, bf16 *half, float *rstd, const float *x, const float *w, float eps, int C, int ld) {
    const float *xn = x + (int64_t)blockIdx.x * C;
    int64_t to = (int64_t)blockIdx.x * ld;
    float sum = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += xn[c] * xn[c];
    sum = block_add(sum, (float *)shared_memory);
    float r = 1.0f / sqrtf(sum / C + eps);
    if (threadIdx.x == 0) rstd[blockIdx.x] = r;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float v = xn[c] * r * w[c];
        if (half) half[to + c] = narrow(v);
        else out[to + c] = v;
    }
    for (int c = C + threadIdx.x; half && c < (C + 7) / 8 * 8; c += blockDim.x) half[to + c] = 0;
}
EXPORT(rmsnorm)

// dx += rstd*(w*dout) - x*rstd³*dot/C, dot = sum w*dout*x. A block takes a token.
KERNEL(rmsnorm_backward)(float *dx, const float *dout, const float *x, const float *w, const float *rstd, int C) {
    int64_t at = (int64_t)blockIdx.x * C;
    float dot = 0, r = rstd[blockIdx.x];
    for (int c = threadIdx.x; c < C; c += blockDim.x) dot += w[c] * dout[at + c] * x[at + c];
    dot = block_add(dot, (float *)shared_memory);
    float k = r * r * r * dot / C;
    for (int c = threadIdx.x; c < C; c += blockDim.x) dx[at + c] += r * w[c] * dout[at + c] - x[at + c] * k;
}
EXPORT(rmsnorm_backward)

// part[chunk][c] = sum over a chunk's tokens of a[n,c]*b[n,c]*s[n]; b and s may be null. blockIdx.y is the chunk.
KERNEL(column_parts)(double *part, const float *a, const float *b, const float *s, int chunk, int N, int C) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    double sum = 0;
    int to = (int)min((int64_t)N, ((int64_t)blockIdx.y + 1) * chunk);
    for (int n = blockIdx.y * chunk; n < to; n++) {
        int64_t at = (int64_t)n * C + c;
        double v = a[at];
        if (b) v *= b[at];
        if (s) v *= s[n];
        sum += v;
    }
    part[(int64_t)blockIdx.y * C + c] = sum;
}
EXPORT(column_parts)

// out[c] += (sum of the shares of column from+c) / norms[from+c]; norms may be null. Shares are [chunks][C].
KERNEL(column_sums)(float *out, const double *part, const float *norms, int from, int n, int chunks, int C) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double sum = 0;
    for (int k = 0; k < chunks; k++) sum += part[(int64_t)k * C + from + i];
    out[i] += (float)(norms ? sum / norms[from + i] : sum);
}
EXPORT(column_sums)

// norms[f] = |w[f] + scale*(B A)[f]|, gain[f] = m[f]/norms[f] for the rows col … of an adapter. A block takes a row.
KERNEL(dora_gain)(float *gain, float *norms, const void *w, const float *absmax, const float *a, const float *b,
                  const float *m, float scale, int type, int ld, int col, int R, int C) {
    const float *table = shared_table();
    int f = blockIdx.x;
    double sum = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float ba = 0;
        for (int r = 0; r < R; r++) ba += b[(int64_t)f * R + r] * a[(int64_t)r * C + c];
        float v = weight_value(table, w, absmax, type, col + f, c, ld) + scale * ba;
        sum += (double)v * v;
    }
    sum = block_add(sum, (double *)shared_memory + 8); // behind the table
    if (threadIdx.x > 0) return;
    float norm = (float)sqrt(sum);
    norms[col + f] = norm;
    gain[col + f] = m[f] / norm;
}
EXPORT(dora_gain)

// qk_norm normalises the query and key heads of qkv in place; raw, what they were, and rstd may be null. A warp takes a head
// of a token. Twin: engine/cpu/qknorm.go.
KERNEL(qk_norm)(float *raw, float *rstd, float *qkv, const float *wq, const float *wk, float eps, int N, int H, int KV, int D) {
    int64_t at = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int heads = H + KV, lane = threadIdx.x & 31;
    if (at >= (int64_t)N * heads) return;
    int h = (int)(at % heads);
    float *x = qkv + at / heads * (H + 2 * KV) * D + (int64_t)h * D, sum = 0;
    const float *w = h < H ? wq : wk;
    for (int c = lane; c < D; c += 32) sum += x[c] * x[c];
    float r = 1.0f / sqrtf(warp_add(sum) / D + eps);
    if (rstd && lane == 0) rstd[at] = r;
    for (int c = lane; c < D; c += 32) {
        if (raw) raw[at * D + c] = x[c];
        x[c] = x[c] * r * w[c];
    }
}
EXPORT(qk_norm)

// qk_norm_backward: rstd*(w*dy) - x*rstd³*dot/D in place of dy, dot = sum w*dy*x.
KERNEL(qk_norm_backward)(float *dqkv, const float *raw, const float *rstd, const float *wq, const float *wk, int N, int H, int KV,
                         int D) {
    int64_t at = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int heads = H + KV, lane = threadIdx.x & 31;
    if (at >= (int64_t)N * heads) return;
    int h = (int)(at % heads);
    float *dy = dqkv + at / heads * (H + 2 * KV) * D + (int64_t)h * D, dot = 0, r = rstd[at];
    const float *w = h < H ? wq : wk, *x = raw + at * D;
    for (int c = lane; c < D; c += 32) dot += w[c] * dy[c] * x[c];
    float k = r * r * r * warp_add(dot) / D;
    for (int c = lane; c < D; c += 32) dy[c] = r * w[c] * dy[c] - x[c] * k;
}
EXPORT(qk_norm_backward)

// part[chunk][c] = sum of dy*x*rstd over a chunk's tokens and the heads from … from+count-1.
KERNEL(qk_norm_parts)(double *part, const float *dqkv, const float *raw, const float *rstd, int chunk, int from, int count, int N,
                      int H, int KV, int D) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= D) return;
    double sum = 0;
    int to = (int)min((int64_t)N, ((int64_t)blockIdx.y + 1) * chunk);
    for (int n = blockIdx.y * chunk; n < to; n++)
        for (int h = from; h < from + count; h++) {
            int64_t at = (int64_t)n * (H + KV) + h;
            sum += (double)dqkv[((int64_t)n * (H + 2 * KV) + h) * D + c] * raw[at * D + c] * rstd[at];
        }
    part[(int64_t)blockIdx.y * D + c] = sum;
}
EXPORT(qk_norm_parts)
