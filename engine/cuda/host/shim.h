// shim.h lets the kernels of ../kernels be compiled by g++ and run on the processor: it stands in for what they use of
// CUDA. The threads of a block are fibers that one thread runs in turns, block after block; each waits at
// __syncthreads, at a warp's exchange of values and at a tensor-core instruction until the others have come as far.
//
// It is stricter than a GPU where that finds faults: asynchronous copies arrive when they are waited for and not before,
// shared memory begins as NaN and has guards, and the order of threads and blocks can be changed (shim_order): results
// must not change with it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <math.h>
#include <utility>

struct shim_dim { unsigned x, y, z; };

struct shim_fiber;
extern shim_fiber *shim_now;                       // the thread that runs
extern shim_dim shim_block, shim_block_dim, shim_grid_dim;
extern unsigned char *shim_shared;
const shim_dim &shim_thread();

#define threadIdx shim_thread()
#define blockIdx shim_block
#define blockDim shim_block_dim
#define gridDim shim_grid_dim
#define shared_memory shim_shared
#define __device__
#define KERNEL(name) void name
#define EXPORT(name) static shim_export export_##name(#name, name);

void shim_sync_block();
void shim_sync_warp();
void *shim_slot(int lane);                         // 256 bytes of every lane of the warp, for exchanges
inline void __syncthreads() { shim_sync_block(); }

// shim_export registers a kernel: how to call it, and the size of each parameter.
struct shim_export {
    const char *name;
    void (*call)(void *fn, void **args);
    void *fn;
    int count;
    const int *sizes;
    shim_export *next;

    template <class... A> shim_export(const char *n, void (*f)(A...)) : name(n), fn((void *)f), count(sizeof...(A)) {
        static const int s[] = {(int)sizeof(A)...};
        sizes = s;
        call = [](void *fn, void **args) { apply((void (*)(A...))fn, args, std::index_sequence_for<A...>{}); };
        enlist();
    }
    void enlist();
    template <class... A, size_t... I> static void apply(void (*f)(A...), void **args, std::index_sequence<I...>) {
        f(*(A *)args[I]...);
    }
};

// Exchanges within a warp: all lanes write, all meet, all read, all meet again.
template <class T, class F> inline T shim_exchange(T v, F use) {
    memcpy(shim_slot(shim_thread().x & 31), &v, sizeof v);
    shim_sync_warp();
    T r = use();
    shim_sync_warp();
    return r;
}
template <class T> inline T shim_value(int lane) {
    T v;
    memcpy(&v, shim_slot(lane), sizeof v);
    return v;
}
// Sums are taken in the order of the butterfly, as on the GPU.
template <class T> inline T shim_butterfly(T v, int from, T (*f)(T, T)) {
    for (int o = from; o > 0; o >>= 1) {
        int other = (shim_thread().x & 31) ^ o;
        v = f(v, shim_exchange<T>(v, [=] { return shim_value<T>(other); }));
    }
    return v;
}
template <class T> inline T shim_plus(T a, T b) { return a + b; }
inline float warp_add(float v) { return shim_butterfly<float>(v, 16, shim_plus<float>); }
inline double warp_add(double v) { return shim_butterfly<double>(v, 16, shim_plus<double>); }
inline float warp_max(float v) { return shim_butterfly<float>(v, 16, fmaxf); }
inline float quad_add(float v) { return shim_butterfly<float>(v, 2, shim_plus<float>); }
inline float quad_max(float v) { return shim_butterfly<float>(v, 2, fmaxf); }
inline float lane_value(float v, int lane) {
    return shim_exchange<float>(v, [=] { return shim_value<float>(lane); });
}

// The instructions of mma.h, by the layouts that the PTX ISA draws.
void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1);
void load_matrix(uint32_t r[4], const uint16_t *row);
void load_matrix_t(uint32_t r[4], const uint16_t *row);
void copy_async(uint16_t *to, const uint16_t *from, int bytes);
void copy_commit();
void shim_copy_wait(int groups);
template <int N> inline void copy_wait() { shim_copy_wait(N); }

inline float __fmul_rn(float a, float b) {
    volatile float p = a * b; // never part of a fused multiply-add
    return p;
}
inline float __fadd_rn(float a, float b) { return a + b; }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }

extern "C" {
// shim_has says whether there is a kernel; shim_sizes gives the bytes of each of its parameters.
int shim_has(const char *name);
const int *shim_sizes(const char *name, int *count);
// shim_launch runs a kernel; NULL, or what went wrong. order 0: threads and blocks rising, 1: falling, others: shuffled.
const char *shim_launch(const char *name, const unsigned grid[3], unsigned threads, unsigned shared, const void *params,
                        const unsigned *at, const unsigned *sizes, int count, unsigned order);
}
