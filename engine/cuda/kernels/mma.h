// mma.h wraps the tensor-core instructions of sm_80 and later that the kernels use: one function an instruction, so that
// host/shim.h can stand in for each of them. Layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
#pragma once
#include "common.h"

#ifdef __CUDACC__

__device__ inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// d += a b: a 16x16 row-major, b 16x8 column-major, bf16; d 16x8 float.
__device__ inline void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8x8 matrices; lane l gives the address of row l%8 of matrix l/8. load_matrix_t transposes each.
__device__ inline void load_matrix(uint32_t r[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ inline void load_matrix_t(uint32_t r[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// Copies 16 bytes to shared memory behind the thread's back; bytes beyond `bytes` become 0. Both ends aligned to 16.
__device__ inline void copy_async(bf16 *to, const bf16 *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all but the thread's latest N groups.
template <int N> __device__ inline void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

#endif

// copy8 brings 8 values, of which `valid` (any number, also below 0) exist, to shared memory. A source that is not
// aligned goes through registers.
__device__ inline void copy8(bf16 *to, const bf16 *from, const bf16 *base, int valid) {
    valid = valid < 0 ? 0 : valid > 8 ? 8 : valid;
    if (((uintptr_t)from & 15) == 0 || valid == 0) {
        copy_async(to, valid ? from : base, 2 * valid);
        return;
    }
    for (int i = 0; i < 8; i++) to[i] = i < valid ? from[i] : 0;
}

// Fragments of a matrix in shared memory, ld values a row. fragment_a: rows r … r+15, k … k+15 of [row][k]; fragment_at
// of [k][row]. fragment_b: columns n … n+15 of [n][k], as two pairs: r[0], r[1] for n … n+7, r[2], r[3] for the rest;
// fragment_bt of [k][n].
__device__ inline void fragment_a(uint32_t f[4], const bf16 *m, int ld, int r, int k) {
    int lane = threadIdx.x & 31;
    load_matrix(f, m + (r + lane % 16) * ld + k + lane / 16 * 8);
}
__device__ inline void fragment_at(uint32_t f[4], const bf16 *m, int ld, int r, int k) {
    int lane = threadIdx.x & 31;
    load_matrix_t(f, m + (k + lane % 8 + lane / 16 * 8) * ld + r + lane / 8 % 2 * 8);
}
__device__ inline void fragment_b(uint32_t f[4], const bf16 *m, int ld, int n, int k) {
    int lane = threadIdx.x & 31;
    load_matrix(f, m + (n + lane % 8 + lane / 16 * 8) * ld + k + lane / 8 % 2 * 8);
}
__device__ inline void fragment_bt(uint32_t f[4], const bf16 *m, int ld, int n, int k) {
    int lane = threadIdx.x & 31;
    load_matrix_t(f, m + (k + lane % 16) * ld + n + lane / 16 * 8);
}
