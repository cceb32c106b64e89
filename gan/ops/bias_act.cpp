// Scale, noise, bias, leaky ReLU and gain in one pass over an NHWC image, and all their gradients in another.
//
// y[n, p, c] = gain * leaky(x[n, p, c] * scale[n, c] + noise[n, p] + bias[c]); scale, noise and bias may be null.

#include <vector>

#include "bfloat16.h"

namespace {

template <typename T>
void forward(const T* x, const float* scale, const float* noise, long noise_images, const float* bias, T* y,
             long images, long pixels, long channels, float slope, float gain, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < images * pixels; row++) {
        const long n = row / pixels;
        const float* s = scale ? scale + n * channels : nullptr;
        const float add = noise ? noise[noise_images == 1 ? row % pixels : row] : 0.f;
        const T* in = x + row * channels;
        T* out = y + row * channels;
        const float low = slope * gain;
        if (s && bias)
            for (long c = 0; c < channels; c++) {
                const float v = to_float(in[c]) * s[c] + add + bias[c];
                assign(out[c], v * (v > 0 ? gain : low));
            }
        else
            for (long c = 0; c < channels; c++) {
                const float v = to_float(in[c]) * (s ? s[c] : 1.f) + add + (bias ? bias[c] : 0.f);
                assign(out[c], v * (v > 0 ? gain : low));
            }
    }
}

// With t = the gradient before the scale: sums [images * chunks, 2, channels] of t * x and of t, `chunk` pixels each.
// Without y the activation is linear.
template <typename T>
void backward(const T* g, const T* x, const T* y, const float* scale, T* grad_x, float* grad_noise, float* sums,
              long chunk, long images, long pixels, long channels, float slope, float gain, int threads) {
    const long chunks = (pixels + chunk - 1) / chunk;
    const float low = slope * gain;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> t(channels);
#pragma omp for schedule(static)
        for (long part = 0; part < images * chunks; part++) {
            const long n = part / chunks, first = part % chunks * chunk;
            const long last = first + chunk < pixels ? first + chunk : pixels;
            const float* s = scale ? scale + n * channels : nullptr;
            float* of_scale = sums + part * 2 * channels;
            float* of_bias = of_scale + channels;
            for (long c = 0; c < 2 * channels; c++) of_scale[c] = 0;
            for (long p = first; p < last; p++) {
                const long at = (n * pixels + p) * channels;
                if (y)
                    for (long c = 0; c < channels; c++) t[c] = to_float(g[at + c]) * (to_float(y[at + c]) > 0 ? gain : low);
                else
                    for (long c = 0; c < channels; c++) t[c] = to_float(g[at + c]) * gain;
                if (s)
                    for (long c = 0; c < channels; c++) {
                        assign(grad_x[at + c], t[c] * s[c]);
                        of_scale[c] += t[c] * to_float(x[at + c]);
                    }
                else
                    for (long c = 0; c < channels; c++) assign(grad_x[at + c], t[c]);
                for (long c = 0; c < channels; c++) of_bias[c] += t[c];
                if (grad_noise) {
                    float sum = 0;
                    for (long c = 0; c < channels; c++) sum += t[c];
                    grad_noise[n * pixels + p] = sum;
                }
            }
        }
    }
}

}  // namespace

#define SALON_BIAS_ACT(NAME, T)                                                                                       \
    extern "C" void salon_bias_act_##NAME(const T* x, const float* scale, const float* noise, long noise_images,      \
                                          const float* bias, T* y, long images, long pixels, long channels,           \
                                          float slope, float gain, int threads) {                                     \
        forward(x, scale, noise, noise_images, bias, y, images, pixels, channels, slope, gain, threads);              \
    }                                                                                                                 \
    extern "C" void salon_bias_act_backward_##NAME(const T* g, const T* x, const T* y, const float* scale, T* grad_x, \
                                                   float* grad_noise, float* sums, long chunk, long images,           \
                                                   long pixels, long channels, float slope, float gain,               \
                                                   int threads) {                                                     \
        backward(g, x, y, scale, grad_x, grad_noise, sums, chunk, images, pixels, channels, slope, gain, threads);    \
    }

SALON_BIAS_ACT(float32, float)
SALON_BIAS_ACT(bfloat16, bfloat16)
