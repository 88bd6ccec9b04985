//go:build cudahost || cuda

// shim.cpp: fibers, barriers and the instructions of mma.h. See shim.h.
#include "shim.h"
#include <cstdio>
#include <cstdlib>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace {

const int STACK = 96 << 10, GUARD = 256;

struct pending { uint16_t *to; const uint16_t *from; int bytes; };

} // namespace

struct shim_fiber {
    shim_dim thread{};
    std::vector<char> stack = std::vector<char>(STACK);
    bool done = false;
    std::vector<std::vector<pending>> groups; // committed, oldest first
    std::vector<pending> open;                // not yet committed
#if defined(__x86_64__)
    void *sp = nullptr;
#else
    ucontext_t context;
#endif
};

shim_fiber *shim_now;
shim_dim shim_block, shim_block_dim, shim_grid_dim;
unsigned char *shim_shared;
const shim_dim &shim_thread() { return shim_now->thread; }

namespace {

// A barrier of a warp or a block. Threads that have ended do not count.
struct barrier { int live = 0, arrived = 0; unsigned generation = 0; };

std::vector<shim_fiber *> fibers;
std::vector<barrier> warps;
barrier block;
std::vector<unsigned char> slots; // 256 bytes a thread
long progress;                    // counts barriers passed and threads ended
shim_export *exports;
const shim_export *kernel;
void **arguments;
char why[256];

#if defined(__x86_64__)
void *scheduler;
// Saves the registers that a call must keep, and goes on from another stack.
extern "C" void shim_switch(void **save, void *load);
asm(R"(
.text
.globl shim_switch
.type shim_switch,@function
shim_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
void give_way() { shim_switch(&shim_now->sp, scheduler); }
void resume(shim_fiber *f) {
    shim_now = f;
    shim_switch(&scheduler, f->sp);
}
#else
ucontext_t scheduler;
void give_way() { swapcontext(&shim_now->context, &scheduler); }
void resume(shim_fiber *f) {
    shim_now = f;
    swapcontext(&scheduler, &f->context);
}
#endif

void open_gate(barrier &b) {
    if (b.arrived == 0 || b.arrived < b.live) return;
    b.arrived = 0;
    b.generation++;
    progress++;
}

void meet(barrier &b) {
    unsigned mine = b.generation;
    b.arrived++;
    open_gate(b);
    while (b.generation == mine) give_way();
}

barrier &warp_of(const shim_fiber *f) { return warps[f->thread.x / 32]; }

void life() {
    kernel->call(kernel->fn, arguments);
    shim_now->done = true;
    progress++;
    warp_of(shim_now).live--;
    open_gate(warp_of(shim_now));
    block.live--;
    open_gate(block);
    give_way();
    abort();
}

void prepare(shim_fiber *f) {
    f->done = false;
    f->groups.clear();
    f->open.clear();
#if defined(__x86_64__)
    uintptr_t top = ((uintptr_t)f->stack.data() + STACK) & ~(uintptr_t)15;
    void **sp = (void **)top - 1;
    *--sp = (void *)life; // the stack is as after a call: 8 off a multiple of 16
    f->sp = sp - 6;
    memset(f->sp, 0, 6 * sizeof *sp);
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.data();
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, life, 0);
#endif
}

unsigned next_random(unsigned &s) { return s = s * 1664525u + 1013904223u; }

// arrange is the order of n things.
std::vector<unsigned> arrange(unsigned n, unsigned order) {
    std::vector<unsigned> v(n);
    for (unsigned i = 0; i < n; i++) v[i] = order == 1 ? n - 1 - i : i;
    for (unsigned i = n; order > 1 && i > 1; i--) std::swap(v[i - 1], v[next_random(order) % i]);
    return v;
}

const char *run_block(const std::vector<unsigned> &turn, unsigned threads, size_t shared) {
    memset(shim_shared, 0xff, shared + GUARD);
    block = barrier{(int)threads};
    warps.assign((threads + 31) / 32, barrier{});
    for (unsigned t = 0; t < threads; t++) {
        fibers[t]->thread = {t, 0, 0};
        warps[t / 32].live++;
        prepare(fibers[t]);
    }
    for (unsigned left = threads; left > 0;) {
        long before = progress;
        left = 0;
        for (unsigned t : turn)
            if (!fibers[t]->done) {
                resume(fibers[t]);
                left += !fibers[t]->done;
            }
        if (left > 0 && progress == before) return "threads wait for each other at different places";
    }
    for (size_t i = shared; i < shared + GUARD; i++)
        if (shim_shared[i] != 0xff) return "wrote beyond its shared memory";
    return nullptr;
}

} // namespace

void shim_export::enlist() {
    next = exports;
    exports = this;
}
void shim_sync_block() { meet(block); }
void shim_sync_warp() { meet(warp_of(shim_now)); }
void *shim_slot(int lane) { return &slots[(shim_now->thread.x / 32 * 32 + lane) * 256]; }

static float half(uint32_t pair, int upper) {
    uint32_t bits = upper ? pair & 0xffff0000u : pair << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    int lane = shim_now->thread.x & 31, g = lane / 4, q = lane % 4;
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(shim_slot(lane), mine, sizeof mine);
    shim_sync_warp();
    for (int k = 0; k < 16; k++) {
        // A(row, k): lane row%8*4 + k%8/2, register row/8 + k/8*2. B(k, col): lane col*4 + k%8/2, register k/8.
        const uint32_t *ra = (const uint32_t *)shim_slot(g * 4 + k % 8 / 2);
        float a0 = half(ra[k / 8 * 2], k % 2), a1 = half(ra[k / 8 * 2 + 1], k % 2);
        for (int x = 0; x < 2; x++) {
            float b = half(((const uint32_t *)shim_slot((2 * q + x) * 4 + k % 8 / 2))[4 + k / 8], k % 2);
            d[x] += a0 * b;
            d[2 + x] += a1 * b;
        }
    }
    shim_sync_warp();
}

static void load(uint32_t r[4], const uint16_t *row, bool transposed) {
    int lane = shim_now->thread.x & 31;
    if ((uintptr_t)row & 15) {
        fprintf(stderr, "%s: a row of ldmatrix is not aligned to 16 bytes\n", kernel->name);
        abort();
    }
    memcpy(shim_slot(lane), &row, sizeof row);
    shim_sync_warp();
    for (int i = 0; i < 4; i++) {
        uint16_t v[2];
        for (int x = 0; x < 2; x++) {
            int r0 = transposed ? lane % 4 * 2 + x : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + x;
            const uint16_t *from;
            memcpy(&from, shim_slot(8 * i + r0), sizeof from);
            v[x] = from[c];
        }
        r[i] = v[0] | (uint32_t)v[1] << 16;
    }
    shim_sync_warp();
}

void load_matrix(uint32_t r[4], const uint16_t *row) { load(r, row, false); }
void load_matrix_t(uint32_t r[4], const uint16_t *row) { load(r, row, true); }

void copy_async(uint16_t *to, const uint16_t *from, int bytes) {
    if (((uintptr_t)to | (bytes ? (uintptr_t)from : 0)) & 15) {
        fprintf(stderr, "%s: an asynchronous copy is not aligned to 16 bytes\n", kernel->name);
        abort();
    }
    shim_now->open.push_back({to, from, bytes});
}
void copy_commit() {
    shim_now->groups.push_back(std::move(shim_now->open));
    shim_now->open.clear();
}
void shim_copy_wait(int keep) {
    auto &g = shim_now->groups;
    while ((int)g.size() > keep) {
        for (auto &c : g.front()) {
            memset(c.to, 0, 16);
            memcpy(c.to, c.from, c.bytes);
        }
        g.erase(g.begin());
    }
}

static const shim_export *find(const char *name) {
    const shim_export *k = exports;
    while (k && strcmp(k->name, name)) k = k->next;
    return k;
}

extern "C" int shim_has(const char *name) { return find(name) != nullptr; }

extern "C" const int *shim_sizes(const char *name, int *count) {
    const shim_export *k = find(name);
    *count = k->count;
    return k->sizes;
}

extern "C" const char *shim_launch(const char *name, const unsigned grid[3], unsigned threads, unsigned shared,
                                   const void *params, const unsigned *at, const unsigned *sizes, int count, unsigned order) {
    kernel = find(name);
    if (!kernel) return "there is no such kernel";
    if (kernel->count != count) {
        snprintf(why, sizeof why, "it takes %d parameters, not %d", kernel->count, count);
        return why;
    }
    std::vector<void *> args(count);
    for (int i = 0; i < count; i++) {
        if ((int)sizes[i] != kernel->sizes[i]) {
            snprintf(why, sizeof why, "its parameter %d has %d bytes, not %u", i, kernel->sizes[i], sizes[i]);
            return why;
        }
        args[i] = (char *)params + at[i];
    }
    if (threads == 0 || threads > 1024 || threads % 32 || grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535)
        return "a GPU cannot launch such a grid";
    arguments = args.data();
    while (fibers.size() < threads) fibers.push_back(new shim_fiber);
    slots.resize(threads * 256);
    void *memory = nullptr;
    if (posix_memalign(&memory, 128, shared + GUARD)) return "no memory for its shared memory";
    shim_shared = (unsigned char *)memory;
    shim_block_dim = {threads, 1, 1};
    shim_grid_dim = {grid[0], grid[1], grid[2]};
    const char *wrong = nullptr;
    auto turn = arrange(threads, order);
    for (unsigned b : arrange(grid[0] * grid[1] * grid[2], order)) {
        shim_block = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        if ((wrong = run_block(turn, threads, shared))) break;
    }
    free(memory);
    return wrong;
}

namespace kernels {
#include "../kernels/attention.cu"
#include "../kernels/attention_mma.cu"
#include "../kernels/convert.cu"
#include "../kernels/elementwise.cu"
#include "../kernels/gemm.cu"
#include "../kernels/head.cu"
#include "../kernels/norm.cu"
} // namespace kernels
