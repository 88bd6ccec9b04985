// Between storages: float, bf16 with padded rows, NF4; and the borders of weights that hold adapters.
// Twins: engine/cpu/bf16.go, engine/nf4/decode.go, linear_plain.go.
#include "common.h"

// to_half sets out [n, ld] to x [n, C] as bf16, columns C … ld-1 to 0. rows may be null: row i is then x[i]. A thread takes 8 columns.
KERNEL(to_half)(bf16 *out, const float *x, const int *rows, float scale, int64_t n, int xld, int C, int ld) {
    int64_t groups = ld / 8, all = n * groups;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / groups;
        int c0 = (int)(i - row * groups) * 8;
        const float *from = x + (rows ? rows[row] : row) * (int64_t)xld;
        bf16x8 h;
        for (int k = 0; k < 8; k++) h.v[k] = c0 + k < C ? narrow(from[c0 + k] * scale) : 0;
        *(bf16x8 *)(out + row * ld + c0) = h;
    }
}
EXPORT(to_half)

// weight_half sets out [rows, ld] to an NF4 weight [rows, C] as bf16; columns from C to its round number of 8 become 0,
// those behind it are left alone. A thread takes 8 columns.
KERNEL(weight_half)(bf16 *out, const uint8_t *codes, const float *absmax, int64_t rows, int C, int ld) {
    const float *table = shared_table();
    int64_t groups = (C + 7) / 8, all = rows * groups;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / groups;
        int c0 = (int)(i - row * groups) * 8;
        bf16x8 h;
        if (C % 8 == 0) {
            float v[8];
            nf4_eight(v, table, codes, absmax, row * C + c0, 0);
            for (int k = 0; k < 8; k++) h.v[k] = narrow(v[k]);
        } else
            for (int k = 0; k < 8; k++)
                h.v[k] = c0 + k < C ? narrow(nf4_value(table, codes, absmax, row * C + c0 + k, 0)) : 0;
        *(bf16x8 *)(out + row * ld + c0) = h;
    }
}
EXPORT(weight_half)

// weight_float sets out to an NF4 weight's values, flat.
KERNEL(weight_float)(float *out, const uint8_t *codes, const float *absmax, int half, int64_t n) {
    const float *table = shared_table();
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        out[i] = nf4_value(table, codes, absmax, i, half);
}
EXPORT(weight_float)

// weight_wide sets out [rows, C] to a bf16 weight whose rows are ld values apart.
KERNEL(weight_wide)(float *out, const bf16 *w, int64_t rows, int C, int ld) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows * C; i += (int64_t)gridDim.x * blockDim.x)
        out[i] = wide(w[i / C * ld + i % C]);
}
EXPORT(weight_wide)

// border_b writes an adapter's B into the columns that border a weight: w[f, at + r] = scale*B[f-col, r] for its rows
// col … col+F-1, 0 for the others. w begins at column `at` already.
KERNEL(border_b)(bf16 *w, const float *b, float scale, int rows, int col, int F, int R, int wide_r, int ld) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (int64_t)rows * wide_r; i += (int64_t)gridDim.x * blockDim.x) {
        int f = (int)(i / wide_r), r = (int)(i % wide_r);
        bool mine = f >= col && f < col + F && r < R;
        w[(int64_t)f * ld + r] = mine ? narrow(scale * b[(int64_t)(f - col) * R + r]) : 0;
    }
}
EXPORT(border_b)

// border_x writes x [n, cols] as bf16 into columns of a matrix of rows of ld values, up to a round number of columns: zeros.
KERNEL(border_x)(bf16 *out, const float *x, int64_t n, int cols, int wide_c, int ld) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n * wide_c; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / wide_c;
        int c = (int)(i - row * wide_c);
        out[row * ld + c] = c < cols ? narrow(x[row * cols + c]) : 0;
    }
}
EXPORT(border_x)

// border_split splits xa [N, ranks] of all adapters: adapter's columns [from, from+R) go to out [N, R] as they are.
KERNEL(border_split)(float *out, const float *xa, int64_t N, int from, int R, int ranks) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < N * R; i += (int64_t)gridDim.x * blockDim.x)
        out[i] = xa[i / R * ranks + from + i % R];
}
EXPORT(border_split)

// linear_merge adds scale*B A to rows col … of a weight in float or bf16; the sum is rounded once.
KERNEL(linear_merge)(void *w, const float *a, const float *b, float scale, int type, int ld, int col, int F, int R, int C) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (int64_t)F * C; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t f = i / C, c = i % C, at = (col + f) * ld + c;
        double ba = 0;
        for (int r = 0; r < R; r++) ba += (double)b[f * R + r] * a[r * (int64_t)C + c];
        if (type == F32) ((float *)w)[at] += scale * (float)ba;
        else ((bf16 *)w)[at] = narrow(wide(((bf16 *)w)[at]) + scale * (float)ba);
    }
}
EXPORT(linear_merge)

// uniform is in [-1, 1), by seed and place.
__device__ inline float uniform(uint64_t seed, int64_t i) { return (float)(int32_t)mask_bits(seed, i) * (1.0f / 2147483648.0f); }

// random_weight fills a weight [rows, cols] with numbers that are good enough to time: uniform, of that width. NF4 has random
// codes and one absmax.
KERNEL(random_weight)(void *w, float *absmax, uint64_t seed, float width, int type, int64_t rows, int cols, int ld) {
    int64_t n = rows * cols;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t at = i / cols * ld + i % cols;
        if (type == F32) ((float *)w)[at] = width * uniform(seed, i);
        else if (type == BF16) ((bf16 *)w)[at] = narrow(width * uniform(seed, i));
        else {
            if (i % 2 == 0) ((uint8_t *)w)[i / 2] = (uint8_t)(mask_bits(seed, i) >> 24);
            if (i % 64 == 0) absmax[i / 64] = width;
        }
    }
}
EXPORT(random_weight)
