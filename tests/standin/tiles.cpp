/* tests/standin/tiles.cpp - mma.sync of a whole warp, from the PTX manual's fragment layouts (drawn in
 * kernels/cuda/ptx.h): the last lane to arrive computes for all. */
#include "kernels/dtype.h"
#include "tests/standin/inside.h"

namespace {

enum { LANES = 32 };

struct product_in {
    unsigned a[4], b[2];
    float c[4];
};

float value_of(unsigned pair, int half, bool is_bf16) {
    const uint16_t bits = (uint16_t)(pair >> (16 * half));
    return is_bf16 ? cdp_bf16_to_f32(bits) : cdp_f16_to_f32(bits);
}

/* in: product_in; out: 4 floats; extra: bf16. k ascending, in f32. */
void combine_product(const standin_wait *const at[32]) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < LANES; lane++) {
        const product_in &p = *static_cast<const product_in *>(at[lane]->in);
        const int g = lane / 4, t = lane % 4;
        const bool is_bf16 = at[lane]->extra != 0;
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < 4; r++)
                a[g + (r & 1) * 8][2 * t + half + (r >> 1) * 8] = value_of(p.a[r], half, is_bf16);
            for (int r = 0; r < 2; r++)
                b[2 * t + half + r * 8][g] = value_of(p.b[r], half, is_bf16);
        }
    }
    for (int lane = 0; lane < LANES; lane++) {
        const product_in &p = *static_cast<const product_in *>(at[lane]->in);
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + (i >> 1) * 8, column = lane % 4 * 2 + (i & 1);
            float sum = p.c[i];
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[k][column];
            static_cast<float *>(at[lane]->out)[i] = sum;
        }
    }
}

} // namespace

void standin_multiply_tiles(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool is_bf16,
                            const char *file, int line) {
    product_in in = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {d[0], d[1], d[2], d[3]}};
    float result[4];
    standin_warp_meet({"mma.sync", file, line, 0xffffffffu, &in, result, is_bf16, 0}, combine_product);
    memcpy(d, result, sizeof result);
}
