//go:build cuda

// blaslt.c calls cuBLASLt where the machine has it. Its types and numbers are written out here, so that nothing of cuBLAS is
// needed to build; they are the same in 12 and 13.

#include "driver.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    R_32F = 0, R_16BF = 14,                                          // cudaDataType_t
    COMPUTE_32F = 68,                                                // cublasComputeType_t
    OP_N = 0, OP_T = 1,                                              // cublasOperation_t
    DESC_TRANSA = 3, DESC_TRANSB = 4, DESC_EPILOGUE = 7, DESC_BIAS = 8, // cublasLtMatmulDescAttributes_t
    EPILOGUE_BIAS = 4,                                               // cublasLtEpilogue_t
    PREF_WORKSPACE = 1, PREF_ALIGN_A = 5, PREF_ALIGN_B = 6, PREF_ALIGN_C = 7, PREF_ALIGN_D = 8,
};
typedef struct { // cublasLtMatmulHeuristicResult_t
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} choice;

static int (*Create)(void **);
static size_t (*GetVersion)(void);
static int (*DescCreate)(void **, int compute, int scale);
static int (*DescSet)(void *, int attr, const void *, size_t);
static int (*DescDestroy)(void *);
static int (*LayoutCreate)(void **, int type, uint64_t rows, uint64_t cols, int64_t ld);
static int (*LayoutDestroy)(void *);
static int (*PrefCreate)(void **);
static int (*PrefSet)(void *, int attr, const void *, size_t);
static int (*PrefDestroy)(void *);
static int (*GetHeuristic)(void *, void *desc, void *a, void *b, void *c, void *d, void *pref, int want, choice *, int *got);
static int (*Matmul)(void *, void *desc, const void *alpha, const void *a, void *la, const void *b, void *lb, const void *beta,
                     const void *c, void *lc, void *d, void *ld, const uint64_t *algo, void *work, size_t, CUstream);

static const struct { const char *name; void *slot; } calls[] = {
    {"cublasLtCreate", &Create},
    {"cublasLtGetVersion", &GetVersion},
    {"cublasLtMatmulDescCreate", &DescCreate},
    {"cublasLtMatmulDescSetAttribute", &DescSet},
    {"cublasLtMatmulDescDestroy", &DescDestroy},
    {"cublasLtMatrixLayoutCreate", &LayoutCreate},
    {"cublasLtMatrixLayoutDestroy", &LayoutDestroy},
    {"cublasLtMatmulPreferenceCreate", &PrefCreate},
    {"cublasLtMatmulPreferenceSetAttribute", &PrefSet},
    {"cublasLtMatmulPreferenceDestroy", &PrefDestroy},
    {"cublasLtMatmulAlgoGetHeuristic", &GetHeuristic},
    {"cublasLtMatmul", &Matmul},
};

static void *handle;

const char *lt_open(void) {
    static char why[512];
    if (handle)
        return NULL;
    void *lib = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        lib = dlopen("libcublasLt.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        snprintf(why, sizeof why, "no cuBLASLt: %s", dlerror());
        return why;
    }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *fn = dlsym(lib, calls[i].name);
        if (!fn) {
            snprintf(why, sizeof why, "cuBLASLt has no %s", calls[i].name);
            return why;
        }
        *(void **)calls[i].slot = fn;
    }
    int err = Create(&handle);
    if (err) {
        handle = NULL;
        snprintf(why, sizeof why, "cublasLtCreate: status %d", err);
        return why;
    }
    return NULL;
}

uint64_t lt_version(void) { return handle ? GetVersion() : 0; }

typedef struct {
    void *desc, *a, *b, *d;
    choice chosen;
    int bias;
} prepared;

static void forget(prepared *p) {
    if (p->d) LayoutDestroy(p->d);
    if (p->b) LayoutDestroy(p->b);
    if (p->a) LayoutDestroy(p->a);
    if (p->desc) DescDestroy(p->desc);
    free(p);
}

void *lt_prepare(const lt_shape *s, size_t workspace) {
    prepared *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    void *pref = NULL;
    int type = s->half ? R_16BF : R_32F, ta = s->transa ? OP_T : OP_N, tb = s->transb ? OP_T : OP_N, got = 0;
    int epilogue = EPILOGUE_BIAS;
    p->bias = s->bias;
    int err = DescCreate(&p->desc, COMPUTE_32F, R_32F) || DescSet(p->desc, DESC_TRANSA, &ta, sizeof ta) ||
              DescSet(p->desc, DESC_TRANSB, &tb, sizeof tb) ||
              (s->bias && DescSet(p->desc, DESC_EPILOGUE, &epilogue, sizeof epilogue)) ||
              LayoutCreate(&p->a, type, s->transa ? s->k : s->m, s->transa ? s->m : s->k, s->lda) ||
              LayoutCreate(&p->b, type, s->transb ? s->n : s->k, s->transb ? s->k : s->n, s->ldb) ||
              LayoutCreate(&p->d, R_32F, s->m, s->n, s->ldd) || PrefCreate(&pref) ||
              PrefSet(pref, PREF_WORKSPACE, &workspace, sizeof workspace) ||
              PrefSet(pref, PREF_ALIGN_A, &s->aligna, sizeof s->aligna) || PrefSet(pref, PREF_ALIGN_B, &s->alignb, sizeof s->alignb) ||
              PrefSet(pref, PREF_ALIGN_C, &s->alignd, sizeof s->alignd) || PrefSet(pref, PREF_ALIGN_D, &s->alignd, sizeof s->alignd) ||
              GetHeuristic(handle, p->desc, p->a, p->b, p->d, p->d, pref, 1, &p->chosen, &got) || !got;
    if (pref)
        PrefDestroy(pref);
    if (err) {
        forget(p);
        return NULL;
    }
    return p;
}

int lt_multiply(CUcontext context, void *what, CUdeviceptr d, CUdeviceptr a, CUdeviceptr b, CUdeviceptr bias, float alpha, float beta,
                CUdeviceptr work, size_t workspace, CUstream stream) {
    prepared *p = what;
    if (cuCtxSetCurrent(context))
        return -1;
    void *vector = (void *)bias;
    if (p->bias) {
        int err = DescSet(p->desc, DESC_BIAS, &vector, sizeof vector);
        if (err)
            return err;
    }
    return Matmul(handle, p->desc, &alpha, (void *)a, p->a, (void *)b, p->b, &beta, (void *)d, p->d, (void *)d, p->d, p->chosen.algo,
                  (void *)work, workspace, stream);
}
