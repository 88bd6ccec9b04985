// Products. Twin: engine/cpu/linear_plain.go. gemm is float throughout, of any strides; gemm_nt, gemm_nn and gemm_tn are
// bf16 with float sums on tensor cores; gemv is for few rows. cuBLASLt takes the place of all but gemv where it is there.
#include "common.h"
#include "mma.h"

// gemm: C [M,N] = alpha * A B + bias, or added to C; A(m,k) = a[m*am + k*ak], B(k,n) = b[k*bk + n*bn]. bias may be null.
// A block of 256 threads makes 64x64 values, a thread 4x4 of them.
KERNEL(gemm)(float *c, const float *a, const float *b, const float *bias, float alpha, int accumulate, int M, int N, int K,
             int ldc, int64_t am, int64_t ak, int64_t bk, int64_t bn) {
    const int T = 64, KT = 16;
    float *as = (float *)shared_memory, *bs = as + KT * (T + 1);
    int m0 = blockIdx.y * T, n0 = blockIdx.x * T, t = threadIdx.x, tm = t / 16, tn = t % 16;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < K; k0 += KT) {
        for (int i = t; i < T * KT; i += 256) {
            // neighbours in memory go to neighbouring threads, whichever way the matrix lies
            int m = ak == 1 ? i / KT : i % T, k = ak == 1 ? i % KT : i / T;
            as[k * (T + 1) + m] = m0 + m < M && k0 + k < K ? a[(m0 + m) * am + (k0 + k) * ak] : 0.0f;
            int n = bk == 1 ? i / KT : i % T, l = bk == 1 ? i % KT : i / T;
            bs[l * (T + 1) + n] = n0 + n < N && k0 + l < K ? b[(k0 + l) * bk + (n0 + n) * bn] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < KT; k++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) acc[i][j] += as[k * (T + 1) + tm + 16 * i] * bs[k * (T + 1) + tn + 16 * j];
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int m = m0 + tm + 16 * i, n = n0 + tn + 16 * j;
            if (m >= M || n >= N) continue;
            float *o = c + (int64_t)m * ldc + n, v = alpha * acc[i][j] + (bias ? bias[n] : 0.0f);
            *o = accumulate ? *o + v : v;
        }
}
EXPORT(gemm)

// The tile of a block of 8 warps: 128x128, 32 of K at a time, three stages in flight. A warp makes 64x32.
enum { TM = 128, TN = 128, TK = 32, STAGES = 3, PAD = 8 };

// stage_tile copies a tile of an operand: `outer` values along M or N, TK along K. Where K is contiguous it becomes
// [outer][TK+PAD], else [TK][outer+PAD].
template <bool KCONTIG>
__device__ inline void stage_tile(bf16 *to, const bf16 *from, int ld, int o0, int k0, int O, int K) {
    const int line = KCONTIG ? TK : TM, lines = KCONTIG ? TM : TK, chunks = line / 8;
    for (int i = threadIdx.x; i < lines * chunks; i += blockDim.x) {
        int r = i / chunks, c = i % chunks * 8;
        int row = (KCONTIG ? o0 : k0) + r, col = (KCONTIG ? k0 : o0) + c;
        int rows = KCONTIG ? O : K, cols = KCONTIG ? K : O;
        copy8(to + r * (line + PAD) + c, from + (int64_t)row * ld + col, from, row < rows ? cols - col : 0);
    }
}

// A(m,k) is [M,K] or, transposed, [K,M]; B is [N,K] or [K,N].
template <bool AK, bool BK>
__device__ inline void gemm_tile(float *c, const bf16 *a, const bf16 *b, const float *bias, float alpha, int accumulate,
                                 int M, int N, int K, int ldc, int lda, int ldb) {
    const int asize = AK ? TM * (TK + PAD) : TK * (TM + PAD), bsize = BK ? TN * (TK + PAD) : TK * (TN + PAD);
    bf16 *as = (bf16 *)shared_memory, *bs = as + STAGES * asize;
    int m0 = blockIdx.y * TM, n0 = blockIdx.x * TN, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int wm = warp / 4 * 64, wn = warp % 4 * 32, tiles = (K + TK - 1) / TK;
    float acc[4][4][4] = {};
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < tiles) {
            stage_tile<AK>(as + s * asize, a, lda, m0, s * TK, M, K);
            stage_tile<BK>(bs + s * bsize, b, ldb, n0, s * TK, N, K);
        }
        copy_commit();
    }
    for (int t = 0; t < tiles; t++) {
        copy_wait<STAGES - 2>();
        __syncthreads(); // tile t is there for all, and all have read tile t-1, whose place comes next
        int next = t + STAGES - 1;
        if (next < tiles) {
            stage_tile<AK>(as + next % STAGES * asize, a, lda, m0, next * TK, M, K);
            stage_tile<BK>(bs + next % STAGES * bsize, b, ldb, n0, next * TK, N, K);
        }
        copy_commit();
        const bf16 *at = as + t % STAGES * asize, *bt = bs + t % STAGES * bsize;
#pragma unroll
        for (int k = 0; k < TK; k += 16) {
            uint32_t af[4][4], bf[2][4];
            for (int i = 0; i < 4; i++) {
                if (AK) fragment_a(af[i], at, TK + PAD, wm + 16 * i, k);
                else fragment_at(af[i], at, TM + PAD, wm + 16 * i, k);
            }
            for (int j = 0; j < 2; j++) {
                if (BK) fragment_b(bf[j], bt, TK + PAD, wn + 16 * j, k);
                else fragment_bt(bf[j], bt, TN + PAD, wn + 16 * j, k);
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) mma_bf16(acc[i][j], af[i], bf[j / 2][j % 2 * 2], bf[j / 2][j % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int m = m0 + wm + 16 * i + lane / 4 + e / 2 * 8, n = n0 + wn + 8 * j + lane % 4 * 2 + e % 2;
                if (m >= M || n >= N) continue;
                float *o = c + (int64_t)m * ldc + n, v = alpha * acc[i][j][e] + (bias ? bias[n] : 0.0f);
                *o = accumulate ? *o + v : v;
            }
}

// C = A Bᵀ: a linear's forward pass.
KERNEL(gemm_nt)(float *c, const bf16 *a, const bf16 *b, const float *bias, float alpha, int accumulate, int M, int N, int K,
                int ldc, int lda, int ldb) {
    gemm_tile<true, true>(c, a, b, bias, alpha, accumulate, M, N, K, ldc, lda, ldb);
}
EXPORT(gemm_nt)

// C = A B: the gradient of a linear's input.
KERNEL(gemm_nn)(float *c, const bf16 *a, const bf16 *b, const float *bias, float alpha, int accumulate, int M, int N, int K,
                int ldc, int lda, int ldb) {
    gemm_tile<true, false>(c, a, b, bias, alpha, accumulate, M, N, K, ldc, lda, ldb);
}
EXPORT(gemm_nn)

// C = Aᵀ B, A [K, M], B [K, N]: gradients of weights.
KERNEL(gemm_tn)(float *c, const bf16 *a, const bf16 *b, const float *bias, float alpha, int accumulate, int M, int N, int K,
                int ldc, int lda, int ldb) {
    gemm_tile<false, false>(c, a, b, bias, alpha, accumulate, M, N, K, ldc, lda, ldb);
}
EXPORT(gemm_tn)

// eight loads 8 values of a weight from flat place `at` on, a multiple of 8 in rows that are.
__device__ inline void eight(float v[8], const float *table, const void *w, const float *absmax, int type, int64_t at) {
    if (type == BF16) {
        bf16x8 h = *(const bf16x8 *)((const bf16 *)w + at);
        for (int i = 0; i < 8; i++) v[i] = wide(h.v[i]);
        return;
    }
    if (type != F32) return nf4_eight(v, table, (const uint8_t *)w, absmax, at, type == NF4BF16);
    for (int i = 0; i < 8; i++) v[i] = ((const float *)w)[at + i];
}

enum { GEMV_ROWS = 8 };

// gemv: y[n, f] = alpha * w[f]·x[n] + bias, or added to y, for N <= GEMV_ROWS tokens. A warp takes a row of w, which is
// read once, whatever its storage.
KERNEL(gemv)(float *y, const float *x, const void *w, const float *absmax, const float *bias, float alpha, int accumulate,
             int type, int ld, int ldy, int N, int C, int F) {
    int f = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *table = shared_table();
    if (f >= F) return;
    float sum[GEMV_ROWS] = {};
    int64_t row = (int64_t)f * ld;
    int whole = ld % 8 == 0 ? C / 8 * 8 : 0;
    for (int c = lane * 8; c < whole; c += 256) {
        float v[8];
        eight(v, table, w, absmax, type, row + c);
        for (int n = 0; n < GEMV_ROWS; n++)
            if (n < N)
                for (int i = 0; i < 8; i++) sum[n] += v[i] * x[(int64_t)n * C + c + i];
    }
    for (int c = whole + lane; c < C; c += 32) {
        float v = weight_value(table, w, absmax, type, f, c, ld);
        for (int n = 0; n < GEMV_ROWS; n++)
            if (n < N) sum[n] += v * x[(int64_t)n * C + c];
    }
    for (int n = 0; n < GEMV_ROWS; n++) {
        if (n >= N) break;
        float s = alpha * warp_add(sum[n]) + (bias ? bias[f] : 0.0f);
        if (lane == 0) y[(int64_t)n * ldy + f] = accumulate ? y[(int64_t)n * ldy + f] + s : s;
    }
}
EXPORT(gemv)
