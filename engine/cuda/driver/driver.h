#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

const char *driver_open(void);

// driver_launch starts a kernel in a context; parameter i lies at params + 8*i, as wide as the kernel declares it.
CUresult driver_launch(CUcontext context, CUfunction fn, const uint32_t grid[3], uint32_t threads, uint32_t shared, CUstream stream,
                       void *params, int count);

// lt_open loads cuBLASLt; NULL, or why it could not. A context must be current.
const char *lt_open(void);
uint64_t lt_version(void);

// lt_shape is a product as cuBLASLt counts: by columns. D [m,n] = alpha op(A) op(B) + beta D (+ bias along m).
typedef struct {
    int half, transa, transb, add, bias; // half: A and B are bfloat16, else float; D is float
    int m, n, k;
    int64_t lda, ldb, ldd;
    uint32_t aligna, alignb, alignd;     // of the addresses, in bytes
} lt_shape;

// lt_prepare keeps descriptors and the algorithm that the library's heuristic names first; NULL where it knows none.
void *lt_prepare(const lt_shape *s, size_t workspace);
int lt_multiply(CUcontext context, void *prepared, CUdeviceptr d, CUdeviceptr a, CUdeviceptr b, CUdeviceptr bias, float alpha, float beta,
                CUdeviceptr work, size_t workspace, CUstream stream);
