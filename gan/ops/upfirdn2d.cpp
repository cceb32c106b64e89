// Zero insertion, a separable FIR filter and decimation of an NHWC image, without the zeros: rows first, then columns.
//
// Along an axis y[o] = sum over i of f[i] * x[(o * down + i - before) / up] where that index is a whole number in range.

#include <vector>

#include "bfloat16.h"

namespace {

struct Taps {  // which inputs make output o, and how much of each
    std::vector<long> at;
    std::vector<float> weight;
    Taps(long o, long size, const float* f, long taps, long up, long down, long before) {
        for (long i = 0; i < taps; i++) {
            const long position = o * down + i - before;
            if (position < 0 || position % up || position / up >= size) continue;
            at.push_back(position / up);
            weight.push_back(f[i]);
        }
    }
};

template <typename T>
void fir(const T* x, T* y, const float* f, long taps, long up, long down, long before, long images, long height,
         long width, long channels, long out_height, long out_width, int threads) {
    std::vector<Taps> columns;
    for (long o = 0; o < out_width; o++) columns.emplace_back(o, width, f, taps, up, down, before);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> row(width * channels);
        std::vector<float> pixel(channels);
#pragma omp for schedule(static)
        for (long line = 0; line < images * out_height; line++) {
            const long n = line / out_height;
            const Taps rows(line % out_height, height, f, taps, up, down, before);
            const long length = width * channels;
            for (size_t k = 0; k < rows.at.size(); k++) {
                const T* in = x + (n * height + rows.at[k]) * length;
                const float w = rows.weight[k];
                if (k == 0)
                    for (long c = 0; c < length; c++) row[c] = w * to_float(in[c]);
                else
                    for (long c = 0; c < length; c++) row[c] += w * to_float(in[c]);
            }
            if (rows.at.empty()) std::fill(row.begin(), row.end(), 0.f);
            for (long o = 0; o < out_width; o++) {
                const Taps& taps_here = columns[o];
                T* out = y + (line * out_width + o) * channels;
                const float* in[4];
                float w[4];
                const long count = taps_here.at.size();
                if (count <= 4) {  // the common filter: no intermediate sums in memory
                    for (long k = 0; k < 4; k++) {
                        in[k] = row.data() + (k < count ? taps_here.at[k] : 0) * channels;
                        w[k] = k < count ? taps_here.weight[k] : 0.f;
                    }
                    if (count <= 2)
                        for (long c = 0; c < channels; c++) assign(out[c], w[0] * in[0][c] + w[1] * in[1][c]);
                    else
                        for (long c = 0; c < channels; c++)
                            assign(out[c], w[0] * in[0][c] + w[1] * in[1][c] + w[2] * in[2][c] + w[3] * in[3][c]);
                } else {
                    std::fill(pixel.begin(), pixel.end(), 0.f);
                    for (long k = 0; k < count; k++)
                        for (long c = 0; c < channels; c++)
                            pixel[c] += taps_here.weight[k] * row[taps_here.at[k] * channels + c];
                    for (long c = 0; c < channels; c++) assign(out[c], pixel[c]);
                }
            }
        }
    }
}

}  // namespace

#define SALON_UPFIRDN2D(NAME, T)                                                                                     \
    extern "C" void salon_upfirdn2d_##NAME(const T* x, T* y, const float* f, long taps, long up, long down,          \
                                           long before, long images, long height, long width, long channels,         \
                                           long out_height, long out_width, int threads) {                           \
        fir(x, y, f, taps, up, down, before, images, height, width, channels, out_height, out_width, threads);       \
    }

SALON_UPFIRDN2D(float32, float)
SALON_UPFIRDN2D(bfloat16, bfloat16)
