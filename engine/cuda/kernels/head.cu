// Softmax and loss of the output head. Twin: engine/cpu/head_plain.go.
#include "common.h"

// softmax_loss turns a row of logits into scale*(softmax - onehot) and sets its loss. A block takes a row: the token
// rows[i]; targets are by token. half is where the gradient goes as bf16, rows of ld values, null: in place; gradient 0:
// only the loss.
KERNEL(softmax_loss)(float *logits, bf16 *half, float *nll, const int *rows, const int *targets, float scale, int gradient,
                     int ld, int V) {
    float *scratch = (float *)shared_memory, *row = logits + (int64_t)blockIdx.x * V;
    int target = targets[rows[blockIdx.x]];
    float top = -INFINITY, sum = 0;
    for (int v = threadIdx.x; v < V; v += blockDim.x) top = fmaxf(top, row[v]);
    top = block_max(top, scratch);
    for (int v = threadIdx.x; v < V; v += blockDim.x) sum += expf(row[v] - top);
    sum = block_add(sum, scratch);
    if (threadIdx.x == 0) nll[blockIdx.x] = logf(sum) + top - row[target];
    if (!gradient) return;
    __syncthreads(); // row[target] has been read
    float k = scale / sum;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        float g = k * expf(row[v] - top) - (v == target ? scale : 0.0f);
        if (half) half[(int64_t)blockIdx.x * ld + v] = narrow(g);
        else row[v] = g;
    }
    for (int v = V + threadIdx.x; half && v < ld; v += blockDim.x) half[(int64_t)blockIdx.x * ld + v] = 0;
}
EXPORT(softmax_loss)
