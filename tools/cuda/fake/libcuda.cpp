// libcuda.cpp is a libcuda.so.1 for tests of engine/cuda/driver on machines without a GPU: device memory is the heap, and kernels
// are those that engine/cuda/host/shim.cpp holds. What a stream is given runs as late as it may, when something waits for
// it; a call without a context, and much shared memory that was not asked for, are errors as they are in the real one.
#include "../../../engine/cuda/host/shim.h"
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

typedef int result;
typedef unsigned long long address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

namespace {
thread_local void *current;
char the_context, the_stream, the_module;
std::deque<std::function<result()>> queue;
size_t ran;      // work that is done, counted from the start
result broken;   // what went wrong on the device: it stays
std::map<address, size_t> blocks;
struct function { std::string name; unsigned shared = 48 << 10; };

result drain(size_t until) {
    while (!queue.empty() && ran < until) {
        result r = broken ? broken : queue.front()();
        if (r) broken = r;
        queue.pop_front();
        ran++;
    }
    return broken;
}
result later(std::function<result()> work) {
    if (current != &the_context) return INVALID_CONTEXT;
    queue.push_back(work);
    return broken;
}
}

extern "C" {
result cuInit(unsigned) { return OK; }
result cuDriverGetVersion(int *v) { *v = 13000; return OK; }
result cuDeviceGetCount(int *n) { *n = 1; return OK; }
result cuDeviceGet(int *d, int i) { *d = i; return i == 0 ? OK : INVALID_VALUE; }
result cuDeviceGetName(char *name, int n, int) { snprintf(name, n, "no GPU: kernels on the processor"); return OK; }
result cuDeviceTotalMem_v2(size_t *n, int) { *n = (size_t)8 << 30; return OK; }
result cuDeviceComputeCapability(int *major, int *minor, int) { *major = 9; *minor = 0; return OK; }
result cuDeviceGetAttribute(int *v, int which, int) { *v = which == 75 ? 9 : which == 76 ? 0 : 1; return OK; }
result cuDevicePrimaryCtxRetain(void **c, int) { *c = &the_context; return OK; }
result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
result cuDevicePrimaryCtxRelease(int) { return OK; }
result cuCtxSetCurrent(void *c) { current = c; return OK; }
result cuStreamCreate(void **s, unsigned) { *s = &the_stream; return current ? OK : INVALID_CONTEXT; }
result cuStreamDestroy_v2(void *) { return OK; }
result cuStreamSynchronize(void *) { return current ? drain(ran + queue.size()) : INVALID_CONTEXT; }
result cuModuleLoadData(void **m, const void *) { *m = &the_module; return current ? OK : INVALID_CONTEXT; }
result cuModuleUnload(void *) { return OK; }
result cuModuleGetFunction(void **f, void *, const char *name) {
    if (!shim_has(name)) return NOT_FOUND;
    *f = new function{name};
    return OK;
}
result cuFuncSetAttribute(void *f, int which, int value) {
    if (which != 8 || value > 227 << 10) return INVALID_VALUE;
    ((function *)f)->shared = value;
    return OK;
}
result cuMemAlloc_v2(address *p, size_t n) {
    if (!current) return INVALID_CONTEXT;
    void *m = n ? aligned_alloc(256, (n + 255) / 256 * 256) : nullptr;
    if (!m) return n ? OUT_OF_MEMORY : INVALID_VALUE;
    memset(m, 0xff, n);
    *p = (address)m;
    blocks[*p] = n;
    return OK;
}
result cuMemFree_v2(address p) {
    if (!blocks.count(p)) return INVALID_VALUE;
    drain(ran + queue.size());
    memset((void *)p, 0xff, blocks[p]);
    free((void *)p);
    blocks.erase(p);
    return OK;
}
result cuMemGetInfo_v2(size_t *f, size_t *t) { *f = *t = (size_t)8 << 30; return OK; }
result cuMemHostAlloc(void **p, size_t n, unsigned) { *p = malloc(n); return current ? OK : INVALID_CONTEXT; }
result cuMemFreeHost(void *p) { free(p); return OK; }
result cuMemsetD8Async(address p, unsigned char v, size_t n, void *) {
    return later([=] { memset((void *)p, v, n); return OK; });
}
static result copy(void *to, const void *from, size_t n) {
    return later([=] { memcpy(to, from, n); return OK; });
}
result cuMemcpyHtoDAsync_v2(address d, const void *s, size_t n, void *) { return copy((void *)d, s, n); }
result cuMemcpyDtoHAsync_v2(void *d, address s, size_t n, void *) { return copy(d, (void *)s, n); }
result cuMemcpyDtoDAsync_v2(address d, address s, size_t n, void *) { return copy((void *)d, (void *)s, n); }
result cuEventCreate(void **e, unsigned) { *e = new size_t(0); return OK; }
result cuEventRecord(void *e, void *) { *(size_t *)e = ran + queue.size(); return OK; }
result cuEventSynchronize(void *e) { return drain(*(size_t *)e); }
result cuEventDestroy_v2(void *e) { delete (size_t *)e; return OK; }
result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *,
                      void **params, void **) {
    function *fn = (function *)f;
    if (shared > fn->shared || by != 1 || bz != 1) return INVALID_VALUE;
    int count = 0;
    const int *sizes = shim_sizes(fn->name.c_str(), &count);
    auto bytes = std::make_shared<std::vector<unsigned char>>(8 * count);
    for (int i = 0; i < count; i++) memcpy(&(*bytes)[8 * i], params[i], sizes[i]);
    return later([=] {
        unsigned grid[3] = {gx, gy, gz}, at[64];
        for (int i = 0; i < count; i++) at[i] = 8 * i;
        const char *why = shim_launch(fn->name.c_str(), grid, bx, shared, bytes->data(), at, (const unsigned *)sizes, count, 0);
        if (why) fprintf(stderr, "%s: %s\n", fn->name.c_str(), why);
        return why ? LAUNCH_FAILED : OK;
    });
}
result cuGetErrorName(result r, const char **name) {
    *name = r == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : r == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
          : r == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : r == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_NOT_FOUND";
    return OK;
}
result cuGetErrorString(result r, const char **text) {
    *text = r == OUT_OF_MEMORY ? "out of memory" : r == LAUNCH_FAILED ? "unspecified launch failure" : "invalid argument or context";
    return OK;
}
// fake_later is how the fake cuBLASLt gets its work into the stream.
result fake_later(void (*work)(void *), void *argument) {
    return later([=] { work(argument); return OK; });
}
}
