// bias_act.cpp and upfirdn2d.cpp for CUDA: the same functions, which take a stream in place of a number of threads and
// return CUDA's error code. NHWC images; channels are innermost, so that neighbouring threads read neighbouring memory.

#include "bfloat16.h"

#ifndef SALON_LAUNCH
#define SALON_LAUNCH(KERNEL, BLOCKS, THREADS, STREAM, ...)                                      \
    KERNEL<<<BLOCKS, THREADS, 0, static_cast<cudaStream_t>(STREAM)>>>(__VA_ARGS__);             \
    return static_cast<int>(cudaGetLastError())
#endif

namespace {

constexpr int THREADS = 256;
constexpr long MOST_BLOCKS = 1 << 20;  // beyond, a thread takes several elements

long blocks_for(long elements) {
    const long blocks = (elements + THREADS - 1) / THREADS;
    return blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS;
}

template <typename T>
__global__ void forward(const T* x, const float* scale, const float* noise, long noise_images, const float* bias, T* y,
                        long images, long pixels, long channels, float slope, float gain) {
    const long step = long(gridDim.x) * blockDim.x;
    for (long i = long(blockIdx.x) * blockDim.x + threadIdx.x; i < images * pixels * channels; i += step) {
        const long row = i / channels, c = i % channels;
        float v = to_float(x[i]);
        if (scale) v *= scale[row / pixels * channels + c];
        if (noise) v += noise[noise_images == 1 ? row % pixels : row];
        if (bias) v += bias[c];
        assign(y[i], v * (v > 0 ? gain : slope * gain));
    }
}

// A block takes one chunk of an image's pixels, a thread some of the channels.
template <typename T>
__global__ void backward(const T* g, const T* x, const T* y, const float* scale, T* grad_x, float* sums, long chunk,
                         long pixels, long channels, float slope, float gain) {
    const long chunks = (pixels + chunk - 1) / chunk;
    const long n = blockIdx.x / chunks, first = blockIdx.x % chunks * chunk;
    const long last = first + chunk < pixels ? first + chunk : pixels;
    for (long c = threadIdx.x; c < channels; c += blockDim.x) {
        const float s = scale ? scale[n * channels + c] : 1.f;
        float of_scale = 0, of_bias = 0;
        for (long p = first; p < last; p++) {
            const long i = (n * pixels + p) * channels + c;
            const float t = to_float(g[i]) * (y && !(to_float(y[i]) > 0) ? slope * gain : gain);
            assign(grad_x[i], t * s);
            if (scale) of_scale += t * to_float(x[i]);
            of_bias += t;
        }
        float* mine = sums + long(blockIdx.x) * 2 * channels;
        mine[c] = of_scale;
        mine[channels + c] = of_bias;
    }
}

template <typename T>
__global__ void noise_gradient(const T* g, const T* y, float* grad_noise, long rows, long channels, float slope,
                               float gain) {
    const long row = long(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float sum = 0;
    for (long i = row * channels; i < (row + 1) * channels; i++)
        sum += to_float(g[i]) * (y && !(to_float(y[i]) > 0) ? slope * gain : gain);
    grad_noise[row] = sum;
}

template <typename T>
__global__ void fir(const T* x, T* y, const float* f, long taps, long up, long down, long before, long images,
                    long height, long width, long channels, long out_height, long out_width) {
    const long step = long(gridDim.x) * blockDim.x, total = images * out_height * out_width * channels;
    for (long i = long(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
        const long c = i % channels, column = i / channels % out_width;
        const long row = i / (channels * out_width) % out_height, n = i / (channels * out_width * out_height);
        float sum = 0;
        for (long a = 0; a < taps; a++) {
            const long v = row * down + a - before;  // in the image with zeros inserted
            if (v < 0 || v % up || v / up >= height) continue;
            float line = 0;
            for (long b = 0; b < taps; b++) {
                const long h = column * down + b - before;
                if (h < 0 || h % up || h / up >= width) continue;
                line += f[b] * to_float(x[((n * height + v / up) * width + h / up) * channels + c]);
            }
            sum += f[a] * line;
        }
        assign(y[i], sum);
    }
}

template <typename T>
int launch_noise_gradient(const T* g, const T* y, float* grad_noise, long rows, long channels, float slope, float gain,
                          void* stream) {
    const int blocks = int((rows + THREADS - 1) / THREADS);
    SALON_LAUNCH((noise_gradient<T>), blocks, THREADS, stream, g, y, grad_noise, rows, channels, slope, gain);
}

template <typename T>
int launch_backward(const T* g, const T* x, const T* y, const float* scale, T* grad_x, float* sums, long chunk,
                    long images, long pixels, long channels, float slope, float gain, void* stream) {
    const int blocks = int(images * ((pixels + chunk - 1) / chunk));
    const int threads = channels < THREADS ? int(channels) : THREADS;
    SALON_LAUNCH((backward<T>), blocks, threads, stream, g, x, y, scale, grad_x, sums, chunk, pixels, channels, slope,
                 gain);
}

}  // namespace

#define SALON_CUDA(NAME, T)                                                                                           \
    extern "C" int salon_bias_act_##NAME(const T* x, const float* scale, const float* noise, long noise_images,       \
                                         const float* bias, T* y, long images, long pixels, long channels,            \
                                         float slope, float gain, void* stream) {                                     \
        SALON_LAUNCH((forward<T>), int(blocks_for(images * pixels * channels)), THREADS, stream, x, scale, noise,     \
                     noise_images, bias, y, images, pixels, channels, slope, gain);                                   \
    }                                                                                                                 \
    extern "C" int salon_bias_act_backward_##NAME(const T* g, const T* x, const T* y, const float* scale, T* grad_x,  \
                                                  float* grad_noise, float* sums, long chunk, long images,            \
                                                  long pixels, long channels, float slope, float gain,                \
                                                  void* stream) {                                                     \
        const int error = launch_backward(g, x, y, scale, grad_x, sums, chunk, images, pixels, channels, slope, gain, \
                                          stream);                                                                    \
        if (error || !grad_noise) return error;                                                                       \
        return launch_noise_gradient(g, y, grad_noise, images * pixels, channels, slope, gain, stream);               \
    }                                                                                                                 \
    extern "C" int salon_upfirdn2d_##NAME(const T* x, T* y, const float* f, long taps, long up, long down,            \
                                          long before, long images, long height, long width, long channels,           \
                                          long out_height, long out_width, void* stream) {                            \
        SALON_LAUNCH((fir<T>), int(blocks_for(images * out_height * out_width * channels)), THREADS, stream, x, y, f, \
                     taps, up, down, before, images, height, width, channels, out_height, out_width);                 \
    }

SALON_CUDA(float32, float)
SALON_CUDA(bfloat16, bfloat16)
