//go:build cuda

#include "driver.h"

CUresult driver_launch(CUcontext context, CUfunction fn, const uint32_t grid[3], uint32_t threads, uint32_t shared, CUstream stream,
                       void *params, int count) {
    void *each[64];
    CUresult err = cuCtxSetCurrent(context);
    if (err)
        return err;
    if (count > 64)
        return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < count; i++)
        each[i] = (char *)params + 8 * i;
    return cuLaunchKernel(fn, grid[0], grid[1], grid[2], threads, 1, 1, shared, stream, each, NULL);
}
