// float32 and bfloat16 side by side: kernels read either, compute in float, and write either.

#pragma once
#include <cstdint>
#include <cstring>

#ifndef __CUDACC__
#define __host__
#define __device__
#endif

struct bfloat16 {
    uint16_t bits;
};

__host__ __device__ inline float to_float(float value) { return value; }
__host__ __device__ inline float to_float(bfloat16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

__host__ __device__ inline void assign(float& target, float value) { target = value; }
__host__ __device__ inline void assign(bfloat16& target, float value) {  // to the nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;  // rounding could turn it into a number
    target.bits = nan ? 0x7fc0 : uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
