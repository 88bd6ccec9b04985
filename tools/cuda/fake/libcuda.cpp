// libcuda.cpp is a libcuda.so.1 for tests of engine/cuda/driver on machines without a GPU: device memory is the heap, and kernels
// are those that engine/cuda/host/shim.cpp holds. What a stream is given runs as late as it may, when something waits for
// it: streams are behind each other unless an event keeps them in step, so that one that is missing gives other bits. A call
// without a context, and much shared memory that was not asked for, are errors as they are in the real one.
//
// With FAKE_CUDA_LOG=FILE each call that waits, copies or records is a line of the file.
#include "../../../engine/cuda/host/shim.h"
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

typedef int result;
typedef unsigned long long address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500, CAPTURING = 900, LAUNCH_FAILED = 719 };

namespace {
const size_t MEMORY = (size_t)8 << 30;
thread_local void *current;
char the_context, the_module;
struct stream {
    const char *name;
    std::deque<std::function<result()>> queue;
    size_t ran = 0; // work that is done, counted from the start
    std::vector<std::function<result()>> *captured = nullptr; // what is given goes there
    size_t given() const { return ran + queue.size(); }
};
struct event { stream *on = nullptr; size_t at = 0; };
struct function { std::string name; unsigned shared = 48 << 10; };
std::vector<stream *> streams;
result broken;   // what went wrong on the device: it stays
std::map<address, size_t> blocks;
std::recursive_mutex all;
typedef std::lock_guard<std::recursive_mutex> hold;

// most_shared is what a block can be allowed: Hopper's, or FAKE_CUDA_SHARED.
int most_shared() {
    const char *less = getenv("FAKE_CUDA_SHARED");
    return less && *less ? atoi(less) : 227 << 10;
}
void note(const char *call, const stream *s, size_t bytes = 0) {
    const char *path = getenv("FAKE_CUDA_LOG");
    FILE *f = path && *path ? fopen(path, "a") : nullptr;
    if (!f) return;
    fprintf(f, "%s %s %zu\n", call, s ? s->name : "-", bytes);
    fclose(f);
}
result drain(stream *s, size_t until) {
    while (!s->queue.empty() && s->ran < until) {
        auto work = s->queue.front();
        s->queue.pop_front();
        s->ran++;
        result r = broken ? broken : work();
        if (r) broken = r;
    }
    return broken;
}
result drain(stream *s) { return drain(s, s->given()); }
result later(stream *s, std::function<result()> work) {
    if (current != &the_context) return INVALID_CONTEXT;
    if (s->captured) {
        s->captured->push_back(work);
        return broken;
    }
    s->queue.push_back(work);
    return broken;
}
}

extern "C" {
result cuInit(unsigned) { return OK; }
result cuDriverGetVersion(int *v) {
    const char *other = getenv("FAKE_CUDA_VERSION");
    *v = other && *other ? atoi(other) : 13000;
    return OK;
}
result cuDeviceGetCount(int *n) { *n = 1; return OK; }
result cuDeviceGet(int *d, int i) { *d = i; return i == 0 ? OK : INVALID_VALUE; }
result cuDeviceGetName(char *name, int n, int) { snprintf(name, n, "no GPU: kernels on the processor"); return OK; }
result cuDeviceTotalMem_v2(size_t *n, int) { *n = MEMORY; return OK; }
result cuDeviceComputeCapability(int *major, int *minor, int) { *major = 9; *minor = 0; return OK; }
result cuDeviceGetAttribute(int *v, int which, int) { *v = which == 75 ? 9 : which == 76 ? 0 : which == 97 ? most_shared() : 1; return OK; }
result cuDevicePrimaryCtxRetain(void **c, int) { *c = &the_context; return OK; }
result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
result cuDevicePrimaryCtxRelease(int) { return OK; }
result cuCtxSetCurrent(void *c) { current = c; return OK; }
result cuStreamCreate(void **s, unsigned) {
    hold h(all);
    streams.push_back(new stream{streams.size() % 2 ? "side" : "main"});
    *s = streams.back();
    return current ? OK : INVALID_CONTEXT;
}
result cuStreamDestroy_v2(void *s) {
    hold h(all);
    drain((stream *)s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + i);
    return OK; // it stays: an event may still name it
}
result cuStreamSynchronize(void *s) {
    hold h(all);
    note("wait_stream", (stream *)s);
    if (((stream *)s)->captured) return CAPTURING;
    return current ? drain((stream *)s) : INVALID_CONTEXT;
}
result cuStreamWaitEvent(void *s, void *e, unsigned) {
    event then = *(event *)e;
    hold h(all);
    note("after_event", (stream *)s);
    return later((stream *)s, [=] { return then.on ? drain(then.on, then.at) : OK; });
}
typedef std::vector<std::function<result()>> graph;
result cuStreamBeginCapture_v2(void *s, int) {
    hold h(all);
    note("record_begins", (stream *)s);
    ((stream *)s)->captured = new graph;
    return OK;
}
result cuStreamEndCapture(void *s, void **g) {
    hold h(all);
    *g = ((stream *)s)->captured;
    ((stream *)s)->captured = nullptr;
    return OK;
}
result cuGraphInstantiateWithFlags(void **exec, void *g, unsigned long long) { *exec = new graph(*(graph *)g); return OK; }
result cuGraphDestroy(void *g) { delete (graph *)g; return OK; }
result cuGraphExecDestroy(void *g) { delete (graph *)g; return OK; }
result cuGraphLaunch(void *g, void *s) {
    hold h(all);
    note("graph", (stream *)s, ((graph *)g)->size());
    for (auto &work : *(graph *)g) later((stream *)s, work);
    return broken;
}
result cuModuleLoadData(void **m, const void *) { *m = &the_module; return current ? OK : INVALID_CONTEXT; }
result cuModuleUnload(void *) { return OK; }
result cuModuleGetFunction(void **f, void *, const char *name) {
    if (!shim_has(name)) return NOT_FOUND;
    *f = new function{name};
    return OK;
}
result cuFuncSetAttribute(void *f, int which, int value) {
    if (which != 8 || value > most_shared()) return INVALID_VALUE;
    ((function *)f)->shared = value;
    return OK;
}
result cuMemAlloc_v2(address *p, size_t n) {
    hold h(all);
    if (!current) return INVALID_CONTEXT;
    size_t used = n;
    for (auto &b : blocks) used += b.second;
    if (used > MEMORY) return OUT_OF_MEMORY;
    void *m = n ? aligned_alloc(256, (n + 255) / 256 * 256) : nullptr;
    if (!m) return n ? OUT_OF_MEMORY : INVALID_VALUE;
    memset(m, 0xff, n);
    *p = (address)m;
    blocks[*p] = n;
    return OK;
}
result cuMemFree_v2(address p) {
    hold h(all);
    if (!blocks.count(p)) return INVALID_VALUE;
    for (stream *s : streams) drain(s);
    memset((void *)p, 0xff, blocks[p]);
    free((void *)p);
    blocks.erase(p);
    return OK;
}
result cuMemGetInfo_v2(size_t *f, size_t *t) { *f = *t = MEMORY; return OK; }
result cuMemHostAlloc(void **p, size_t n, unsigned) {
    const char *most = getenv("FAKE_CUDA_PINNED");
    if (most && *most && n > (size_t)atoll(most)) return OUT_OF_MEMORY;
    *p = malloc(n);
    return current ? OK : INVALID_CONTEXT;
}
result cuMemFreeHost(void *p) { free(p); return OK; }
result cuMemsetD8Async(address p, unsigned char v, size_t n, void *s) {
    hold h(all);
    return later((stream *)s, [=] { memset((void *)p, v, n); return OK; });
}
static result copy(const char *how, void *to, const void *from, size_t n, void *s) {
    hold h(all);
    note(how, (stream *)s, n);
    return later((stream *)s, [=] { memcpy(to, from, n); return OK; });
}
result cuMemcpyHtoDAsync_v2(address d, const void *s, size_t n, void *on) { return copy("upload", (void *)d, s, n, on); }
result cuMemcpyDtoHAsync_v2(void *d, address s, size_t n, void *on) { return copy("download", d, (void *)s, n, on); }
result cuMemcpyDtoDAsync_v2(address d, address s, size_t n, void *on) { return copy("copy", (void *)d, (void *)s, n, on); }
result cuEventCreate(void **e, unsigned) { *e = new event; return OK; }
result cuEventRecord(void *e, void *s) {
    hold h(all);
    note("record", (stream *)s);
    *(event *)e = event{(stream *)s, ((stream *)s)->given()};
    return OK;
}
result cuEventSynchronize(void *e) {
    event then = *(event *)e;
    hold h(all);
    note("wait_event", then.on);
    return then.on ? drain(then.on, then.at) : OK;
}
result cuEventDestroy_v2(void *e) { delete (event *)e; return OK; }
result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *on,
                      void **params, void **) {
    function *fn = (function *)f;
    if (shared > fn->shared || by != 1 || bz != 1) return INVALID_VALUE;
    int count = 0;
    const int *sizes = shim_sizes(fn->name.c_str(), &count);
    auto bytes = std::make_shared<std::vector<unsigned char>>(8 * count);
    for (int i = 0; i < count; i++) memcpy(&(*bytes)[8 * i], params[i], sizes[i]);
    hold h(all);
    note(fn->name.c_str(), (stream *)on);
    return later((stream *)on, [=] {
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
result fake_later(void (*work)(void *), void *argument, void (*free)(void *), void *on) {
    hold h(all);
    std::shared_ptr<void> keep(argument, free);
    return later((stream *)on, [=] { work(keep.get()); return OK; });
}
}
