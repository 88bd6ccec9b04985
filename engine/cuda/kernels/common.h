// common.h is what every kernel file includes first. nvcc compiles the files for GPUs; with g++ they become the host's
// twins of themselves: host/shim.h then stands in for CUDA, and each thread of a block is a fiber.
//
// Conventions of the kernels: outputs first, then inputs, then numbers, then sizes, as in ops.Device. Buffers of float are
// aligned to 4 bytes only, those of bf16 to 16. Every sum has an order that shapes alone decide.
#pragma once

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__

#define KERNEL(name) extern "C" __global__ void name
#define EXPORT(name)
extern __shared__ __align__(128) unsigned char shared_memory[];

__device__ inline float warp_add(float v) {
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
__device__ inline double warp_add(double v) {
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
__device__ inline float warp_max(float v) {
    for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}
__device__ inline float lane_value(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
__device__ inline float quad_add(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}
__device__ inline float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

#else
#include "../host/shim.h"
#endif

// bf16 is the upper half of a float.
typedef uint16_t bf16;
struct alignas(16) bf16x8 { bf16 v[8]; };

__device__ inline float wide(bf16 h) {
    union { uint32_t u; float f; } x;
    x.u = (uint32_t)h << 16;
    return x.f;
}

// narrow rounds to nearest, ties to even; NaN stays NaN.
__device__ inline bf16 narrow(float f) {
    union { float f; uint32_t u; } x;
    x.f = f;
    if (f != f) return (bf16)((x.u >> 16) | 0x40);
    return (bf16)((x.u + 0x7fff + ((x.u >> 16) & 1)) >> 16);
}

// narrow2 packs two values, the first in the low half, as a register of mma holds them.
__device__ inline uint32_t narrow2(float a, float b) {
#if defined(__CUDA_ARCH__)
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    return r;
#else
    return (uint32_t)narrow(a) | (uint32_t)narrow(b) << 16;
#endif
}

// mask_bits is ops.MaskBits: SplitMix64's mixing of seed and place.
__device__ inline uint32_t mask_bits(uint64_t seed, int64_t i) {
    uint64_t z = seed + (((uint64_t)i >> 1) + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return (uint32_t)(z >> (32 * (i & 1)));
}

// block_add sums over a block of whole warps; every thread gets the result. scratch holds 33 values.
template <class T>
__device__ inline T block_add(T v, T *scratch) {
    v = warp_add(v);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    __syncthreads(); // scratch may still be read from an earlier sum
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    if (warp == 0) {
        v = warp_add(lane < warps ? scratch[lane] : T(0));
        if (lane == 0) scratch[32] = v;
    }
    __syncthreads();
    return scratch[32];
}

__device__ inline float block_max(float v, float *scratch) {
    v = warp_max(v);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    __syncthreads();
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    if (warp == 0) {
        v = warp_max(lane < warps ? scratch[lane] : -INFINITY);
        if (lane == 0) scratch[32] = v;
    }
    __syncthreads();
    return scratch[32];
}

// Storage types of weights, as package ops numbers them; ops.BF16Exact comes as BF16.
enum { F32 = 0, BF16 = 1, NF4 = 2, NF4BF16 = 3 };

// nf4_table sets table to what the 16 codes stand for (package nf4).
__device__ inline void nf4_table(float table[16]) {
    const float values[16] = {
        -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
        -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
        0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
#pragma unroll
    for (int i = 0; i < 16; i++) table[i] = values[i];
}

// shared_table is the same in the first 64 bytes of shared memory, for the whole block.
__device__ inline const float *shared_table() {
    float *table = (float *)shared_memory;
    if (threadIdx.x == 0) nf4_table(table);
    __syncthreads();
    return table;
}

// nf4_value is what code number `at` of a flat NF4 weight stands for.
__device__ inline float nf4_value(const float *table, const uint8_t *codes, const float *absmax, int64_t at, int half) {
    int c = codes[at >> 1];
    c = at & 1 ? c & 15 : c >> 4;
    float v = table[c] * absmax[at >> 6];
    return half ? wide(narrow(v)) : v;
}

// nf4_eight sets v to eight of them from `at` on, a multiple of 8: one load, and one absmax.
__device__ inline void nf4_eight(float v[8], const float *table, const uint8_t *codes, const float *absmax, int64_t at, int half) {
    uint32_t four = *(const uint32_t *)(codes + (at >> 1));
    float scale = absmax[at >> 6];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int c = four >> (8 * (i / 2) + (i % 2 ? 0 : 4)) & 15;
        v[i] = table[c] * scale;
        if (half) v[i] = wide(narrow(v[i]));
    }
}

// weight_value is w[row, col] of a weight in any storage; ld is the width of a stored row (NF4: cols).
__device__ inline float weight_value(const float *table, const void *w, const float *absmax, int type, int64_t row, int col, int ld) {
    int64_t at = row * ld + col;
    if (type == F32) return ((const float *)w)[at];
    if (type == BF16) return wide(((const bf16 *)w)[at]);
    return nf4_value(table, (const uint8_t *)w, absmax, at, type == NF4BF16);
}
