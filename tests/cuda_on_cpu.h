// Runs the kernels of cuda.cu on a CPU, thread after thread: they share no memory and wait for nobody.
#pragma once

struct Index {
    unsigned x;
};
static Index blockIdx, threadIdx, blockDim, gridDim;

#define __global__
#define SALON_LAUNCH(KERNEL, BLOCKS, THREADS, STREAM, ...)                                      \
    gridDim.x = BLOCKS;                                                                         \
    blockDim.x = THREADS;                                                                       \
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)                                  \
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) KERNEL(__VA_ARGS__);     \
    return 0
