/* tests/standin/tiles.cpp - ldmatrix and mma.sync of a whole warp, from the PTX manual's fragment layouts
 * (drawn in kernels/cuda/ptx.h): the last lane to arrive computes for all. */
#include "kernels/dtype.h"
#include "tests/standin/inside.h"

namespace {

enum { LANES = 32 };

/* in: each lane's row address; out: its registers; n_bytes: 4 a tile; extra: transposed. */
void combine_load(const void *const in[32], void *const out[32], const int is_transposed[32],
                  size_t n_bytes) {
    const int n_tiles = (int)(n_bytes / sizeof(unsigned));
    for (int tile = 0; tile < n_tiles; tile++) {
        uint16_t value[8][8];
        for (int row = 0; row < 8; row++)
            memcpy(value[row], in[tile * 8 + row], sizeof value[row]);
        for (int lane = 0; lane < LANES; lane++) {
            const int g = lane / 4, t = lane % 4;
            const uint16_t low = is_transposed[lane] ? value[2 * t][g] : value[g][2 * t];
            const uint16_t high = is_transposed[lane] ? value[2 * t + 1][g] : value[g][2 * t + 1];
            static_cast<unsigned *>(out[lane])[tile] = (unsigned)low | (unsigned)high << 16;
        }
    }
}

struct product_in {
    unsigned a[4], b[2];
    float c[4];
};

float value_of(unsigned pair, int half, bool is_bf16) {
    const uint16_t bits = (uint16_t)(pair >> (16 * half));
    return is_bf16 ? cdp_bf16_to_f32(bits) : cdp_f16_to_f32(bits);
}

/* in: product_in; out: 4 floats; extra: bf16. k ascending, in f32. */
void combine_product(const void *const in[32], void *const out[32], const int is_bf16[32], size_t) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < LANES; lane++) {
        const product_in &p = *static_cast<const product_in *>(in[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < 4; r++)
                a[g + (r & 1) * 8][2 * t + half + (r >> 1) * 8] = value_of(p.a[r], half, is_bf16[lane] != 0);
            for (int r = 0; r < 2; r++)
                b[2 * t + half + r * 8][g] = value_of(p.b[r], half, is_bf16[lane] != 0);
        }
    }
    for (int lane = 0; lane < LANES; lane++) {
        const product_in &p = *static_cast<const product_in *>(in[lane]);
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + (i >> 1) * 8, column = lane % 4 * 2 + (i & 1);
            float sum = p.c[i];
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[k][column];
            static_cast<float *>(out[lane])[i] = sum;
        }
    }
}

} // namespace

void standin_load_tiles(unsigned *d, int n_tiles, const void *row, bool is_transposed, const char *file,
                        int line) {
    if (standin_lane() < n_tiles * 8)
        standin_check_aligned(row, 16, file, line);
    standin_warp_meet("ldmatrix", 0xffffffffu, row, d, is_transposed, (size_t)n_tiles * sizeof *d,
                      combine_load, file, line);
}

void standin_multiply_tiles(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool is_bf16,
                            const char *file, int line) {
    product_in in = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {d[0], d[1], d[2], d[3]}};
    float result[4];
    standin_warp_meet("mma.sync", 0xffffffffu, &in, result, is_bf16, 0, combine_product, file, line);
    memcpy(d, result, sizeof result);
}
