// Transforms of Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016, section 4.3) for NHWC float32 images.
//
// An image is cut into tiles of 4x4 outputs, each of which needs 6x6 inputs. In the transformed domain the convolution
// is a matrix product for each of the 36 positions, which the caller makes. All loops run over channels innermost.
// Plain C functions and pointers: nothing here depends on the version of torch or Python.

#include <cstddef>

namespace {

constexpr int BLOCK = 16;  // channels at a time

struct Grid {  // where tile t lies
    long height, width, rows, columns;
    Grid(long h, long w) : height(h), width(w), rows((h + 3) / 4), columns((w + 3) / 4) {}
    long image(long t) const { return t / (rows * columns); }
    long top(long t) const { return t / columns % rows * 4; }
    long left(long t) const { return t % columns * 4; }
};

// One dimension of each transform, for B channels side by side.

template <int B>
void input_1d(const float (*d)[B], float (*v)[B]) {  // 6 -> 6, B^T
    for (int c = 0; c < B; c++) {
        const float d0 = d[0][c], d1 = d[1][c], d2 = d[2][c], d3 = d[3][c], d4 = d[4][c], d5 = d[5][c];
        const float a = d4 - 4 * d2, b = d3 - 4 * d1, e = d4 - d2, f = 2 * (d3 - d1);
        v[0][c] = 4 * d0 - 5 * d2 + d4;
        v[1][c] = a + b;
        v[2][c] = a - b;
        v[3][c] = e + f;
        v[4][c] = e - f;
        v[5][c] = 4 * d1 - 5 * d3 + d5;
    }
}

template <int B>
void output_1d(const float (*m)[B], float (*y)[B]) {  // 6 -> 4, A^T
    for (int c = 0; c < B; c++) {
        const float a = m[1][c] + m[2][c], b = m[1][c] - m[2][c], e = m[3][c] + m[4][c], f = m[3][c] - m[4][c];
        y[0][c] = m[0][c] + a + e;
        y[1][c] = b + 2 * f;
        y[2][c] = a + 4 * e;
        y[3][c] = b + 8 * f + m[5][c];
    }
}

template <int B>
void gradient_1d(const float (*g)[B], float (*m)[B]) {  // 4 -> 6, A
    for (int c = 0; c < B; c++) {
        const float g0 = g[0][c], g1 = g[1][c], g2 = g[2][c], g3 = g[3][c];
        const float a = g0 + g2, b = g1 + g3, e = g0 + 4 * g2, f = 2 * g1 + 8 * g3;
        m[0][c] = g0;
        m[1][c] = a + b;
        m[2][c] = a - b;
        m[3][c] = e + f;
        m[4][c] = e - f;
        m[5][c] = g3;
    }
}

template <int B, int IN, int OUT, void (*TRANSFORM)(const float (*)[B], float (*)[B])>
void both_dimensions(const float (*in)[IN][B], float (*out)[OUT][B]) {
    float half[OUT][IN][B], column_in[IN][B], column_out[OUT][B];
    for (int j = 0; j < IN; j++) {
        for (int i = 0; i < IN; i++)
            for (int c = 0; c < B; c++) column_in[i][c] = in[i][j][c];
        TRANSFORM(column_in, column_out);
        for (int i = 0; i < OUT; i++)
            for (int c = 0; c < B; c++) half[i][j][c] = column_out[i][c];
    }
    for (int i = 0; i < OUT; i++) TRANSFORM(half[i], out[i]);
}

// Pixels -> the transformed domain: SIDE x SIDE pixels from (top - PAD, left - PAD), zeros outside the image.
template <int B, int SIDE, int PAD, void (*TRANSFORM)(const float (*)[B], float (*)[B])>
void to_domain(const float* x, float* v, const Grid& grid, long channels, long t, long slot, long slots, long c0) {
    float d[SIDE][SIDE][B], out[6][6][B];
    const long top = grid.top(t) - PAD, left = grid.left(t) - PAD;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            const long y = top + i, z = left + j;
            const bool inside = y >= 0 && y < grid.height && z >= 0 && z < grid.width;
            const float* pixel = x + ((grid.image(t) * grid.height + y) * grid.width + z) * channels + c0;
            for (int c = 0; c < B; c++) d[i][j][c] = inside ? pixel[c] : 0.f;
        }
    both_dimensions<B, SIDE, 6, TRANSFORM>(d, out);
    for (int k = 0; k < 36; k++) {
        float* target = v + (k * slots + slot) * channels + c0;
        for (int c = 0; c < B; c++) target[c] = out[k / 6][k % 6][c];
    }
}

// The transformed domain -> 4x4 pixels.
template <int B>
void to_pixels(const float* m, float* y, const Grid& grid, long channels, long t, long slot, long slots, long c0) {
    float d[6][6][B], out[4][4][B];
    for (int k = 0; k < 36; k++) {
        const float* source = m + (k * slots + slot) * channels + c0;
        for (int c = 0; c < B; c++) d[k / 6][k % 6][c] = source[c];
    }
    both_dimensions<B, 6, 4, output_1d<B>>(d, out);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const long row = grid.top(t) + i, column = grid.left(t) + j;
            if (row >= grid.height || column >= grid.width) continue;
            float* pixel = y + ((grid.image(t) * grid.height + row) * grid.width + column) * channels + c0;
            for (int c = 0; c < B; c++) pixel[c] = out[i][j][c];
        }
}

// One dimension of the weights' transform and of its transpose.

template <int B>
void weight_1d(const float (*w)[B], float (*u)[B]) {  // 3 -> 6, G
    for (int c = 0; c < B; c++) {
        const float w0 = w[0][c], w1 = w[1][c], w2 = w[2][c];
        const float a = (w0 + w2) * (-1.f / 6), b = w1 * (1.f / 6), e = w0 * (1.f / 24) + w2 * (1.f / 6), f = w1 * (1.f / 12);
        u[0][c] = w0 * 0.25f;
        u[1][c] = a - b;
        u[2][c] = a + b;
        u[3][c] = e + f;
        u[4][c] = e - f;
        u[5][c] = w2;
    }
}

template <int B>
void weight_gradient_1d(const float (*u)[B], float (*w)[B]) {  // 6 -> 3, G^T
    for (int c = 0; c < B; c++) {
        const float a = (u[1][c] + u[2][c]) * (-1.f / 6), b = (u[2][c] - u[1][c]) * (1.f / 6);
        const float e = u[3][c] + u[4][c], f = (u[3][c] - u[4][c]) * (1.f / 12);
        w[0][c] = u[0][c] * 0.25f + a + e * (1.f / 24);
        w[1][c] = b + f;
        w[2][c] = a + e * (1.f / 6) + u[5][c];
    }
}

template <int B>
void weight_block(const float* w, float* u, long o, long i, long outputs, long inputs, const long* stride) {
    float d[3][3][B], out[6][6][B];
    for (int k = 0; k < 9; k++)
        for (int c = 0; c < B; c++)
            d[k / 3][k % 3][c] = w[(o + c) * stride[0] + i * stride[1] + k / 3 * stride[2] + k % 3 * stride[3]];
    both_dimensions<B, 3, 6, weight_1d<B>>(d, out);
    for (int k = 0; k < 36; k++)
        for (int c = 0; c < B; c++) u[(k * inputs + i) * outputs + o + c] = out[k / 6][k % 6][c];
}

template <int B>
void weight_gradient_block(const float* u, float* w, long o, long i, long outputs, long inputs) {
    float d[6][6][B], out[3][3][B];
    for (int k = 0; k < 36; k++)
        for (int c = 0; c < B; c++) d[k / 6][k % 6][c] = u[(k * outputs + o) * inputs + i + c];
    both_dimensions<B, 6, 3, weight_gradient_1d<B>>(d, out);
    for (int c = 0; c < B; c++)
        for (int k = 0; k < 9; k++) w[(o * inputs + i + c) * 9 + k] = out[k / 3][k % 3][c];
}

template <typename Wide, typename Narrow>
void for_tiles(long first, long count, long channels, int threads, Wide wide, Narrow narrow) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long slot = 0; slot < count; slot++) {
        long c = 0;
        for (; c + BLOCK <= channels; c += BLOCK) wide(first + slot, slot, c);
        for (; c < channels; c++) narrow(first + slot, slot, c);
    }
}

}  // namespace

extern "C" {

// x [N, height, width, channels] -> v [36, count, channels], for tiles first .. first + count.
void salon_winograd_input(const float* x, float* v, long height, long width, long channels, long first, long count,
                          int threads) {
    const Grid grid(height, width);
    for_tiles(
        first, count, channels, threads,
        [&](long t, long s, long c) {
            to_domain<BLOCK, 6, 1, input_1d<BLOCK>>(x, v, grid, channels, t, s, count, c);
        },
        [&](long t, long s, long c) { to_domain<1, 6, 1, input_1d<1>>(x, v, grid, channels, t, s, count, c); });
}

// g [N, height, width, channels] -> m [36, count, channels]: the transpose of salon_winograd_output.
void salon_winograd_gradient(const float* g, float* m, long height, long width, long channels, long first, long count,
                             int threads) {
    const Grid grid(height, width);
    for_tiles(
        first, count, channels, threads,
        [&](long t, long s, long c) {
            to_domain<BLOCK, 4, 0, gradient_1d<BLOCK>>(g, m, grid, channels, t, s, count, c);
        },
        [&](long t, long s, long c) { to_domain<1, 4, 0, gradient_1d<1>>(g, m, grid, channels, t, s, count, c); });
}

// w [outputs, inputs, 3, 3] with the given strides -> u [36, inputs, outputs].
void salon_winograd_weight(const float* w, float* u, long outputs, long inputs, long stride_o, long stride_i,
                           long stride_y, long stride_x, int threads) {
    const long stride[] = {stride_o, stride_i, stride_y, stride_x};
    const long blocks = (outputs + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long block = 0; block < blocks; block++)
        for (long i = 0; i < inputs; i++) {
            const long first = block * BLOCK, last = first + BLOCK < outputs ? first + BLOCK : outputs;
            if (last - first == BLOCK)
                weight_block<BLOCK>(w, u, first, i, outputs, inputs, stride);
            else
                for (long o = first; o < last; o++) weight_block<1>(w, u, o, i, outputs, inputs, stride);
        }
}

// u [36, outputs, inputs] -> w [outputs, inputs, 3, 3]: the transpose of salon_winograd_weight.
void salon_winograd_weight_gradient(const float* u, float* w, long outputs, long inputs, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long o = 0; o < outputs; o++) {
        long i = 0;
        for (; i + BLOCK <= inputs; i += BLOCK) weight_gradient_block<BLOCK>(u, w, o, i, outputs, inputs);
        for (; i < inputs; i++) weight_gradient_block<1>(u, w, o, i, outputs, inputs);
    }
}

// m [36, count, channels] -> y [N, height, width, channels], for tiles first .. first + count.
void salon_winograd_output(const float* m, float* y, long height, long width, long channels, long first, long count,
                           int threads) {
    const Grid grid(height, width);
    for_tiles(
        first, count, channels, threads,
        [&](long t, long s, long c) { to_pixels<BLOCK>(m, y, grid, channels, t, s, count, c); },
        [&](long t, long s, long c) { to_pixels<1>(m, y, grid, channels, t, s, count, c); });
}

}
