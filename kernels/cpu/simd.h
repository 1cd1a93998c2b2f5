/* kernels/cpu/simd.h - one vector type for three tiers. A tier's .c file is compiled with its own instruction
 * flags and includes this; `vf` holds VF floats. Everything is written with GCC's generic vectors where they
 * give the right instruction, with an intrinsic where they do not.
 */
#pragma once

#include "kernels/dtype.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
enum { VF = 16 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { VF = 8 };
#else
enum { VF = 4 };
#endif

#if defined(__AVX512F__)
#define VF_BYTES 64
#elif defined(__AVX2__)
#define VF_BYTES 32
#else
#define VF_BYTES 16
#endif

typedef float vf __attribute__((vector_size(VF_BYTES)));
typedef uint32_t vu __attribute__((vector_size(VF_BYTES)));
typedef int32_t vi __attribute__((vector_size(VF_BYTES)));
typedef uint16_t vh __attribute__((vector_size(VF_BYTES / 2))); /* VF halves */

#define SIMD static inline __attribute__((always_inline))

SIMD vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
SIMD void v_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
SIMD vf v_set(float x) {
    return x - (vf){0};
}

/* v in a register of its own: else the compiler loads it once more for every use, and loads, two a cycle, are
 * what a tile of products runs out of first. */
SIMD vf v_keep(vf v) {
#if defined(__AVX2__)
    __asm__("" : "+v"(v));
#endif
    return v;
}

SIMD vf v_fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

SIMD vf v_select(vi mask, vf yes, vf no) {
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}
/* a > b ? a : b, and a < b ? a : b: b where one is NaN. One instruction has just this. */
SIMD vf v_max(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return v_select(a > b, a, b);
#endif
}
SIMD vf v_min(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return v_select(a < b, a, b);
#endif
}

/* Sum (largest) of all lanes: halves are folded onto each other, one fixed tree. */
SIMD float v_sum(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
    __m128 x = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
/* The sums of four at out[0..3], by the tree of v_sum; folding them together takes a third of the
 * instructions. */
SIMD void v_store_sums(float *out, vf a, vf b, vf c, vf d) {
#if defined(__AVX512F__)
    enum { LOW_HALVES = 0x44, HIGH_HALVES = 0xEE, EVEN_QUARTERS = 0x88, ODD_QUARTERS = 0xDD };
    const __m512 ab = _mm512_shuffle_f32x4((__m512)a, (__m512)b, LOW_HALVES) +
                      _mm512_shuffle_f32x4((__m512)a, (__m512)b, HIGH_HALVES);
    const __m512 cd = _mm512_shuffle_f32x4((__m512)c, (__m512)d, LOW_HALVES) +
                      _mm512_shuffle_f32x4((__m512)c, (__m512)d, HIGH_HALVES);
    __m512 sums = _mm512_shuffle_f32x4(ab, cd, EVEN_QUARTERS) + _mm512_shuffle_f32x4(ab, cd, ODD_QUARTERS);
    sums += _mm512_permute_ps(sums, 0x4E); /* a quarter each: its halves, then its pairs */
    sums += _mm512_permute_ps(sums, 0xB1);
    const vi firsts = {0, 4, 8, 12};
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps((__m512i)firsts, sums)));
#else
    out[0] = v_sum(a);
    out[1] = v_sum(b);
    out[2] = v_sum(c);
    out[3] = v_sum(d);
#endif
}
SIMD float v_largest(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#endif
    float best = v[0];
    for (int i = 1; i < VF; i++)
        best = v[i] > best ? v[i] : best;
    return best;
}

/* VF elements of an array of `dtype` from element i on; n: only the first n, the other lanes 0. */
SIMD vf v_load_as(const void *data, cdp_dtype dtype, size_t i) {
    if (dtype == CDP_F32)
        return v_load((const float *)data + i);
    vh half;
    memcpy(&half, (const uint16_t *)data + i, sizeof half);
    if (dtype == CDP_BF16) {
#if defined(__AVX512F__)
        return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)half), 16);
#elif defined(__AVX2__)
        return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)half), 16);
#else
        return (vf)(__builtin_convertvector(half, vu) << 16);
#endif
    }
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps((__m256i)half);
#elif defined(__AVX2__)
    return (vf)_mm256_cvtph_ps((__m128i)half);
#else
    vf v = v_set(0.0f);
    for (int lane = 0; lane < VF; lane++)
        v[lane] = cdp_f16_to_f32(half[lane]);
    return v;
#endif
}
SIMD vf v_load_part(const void *data, cdp_dtype dtype, size_t i, int n) {
    float lanes[VF] = {0};
    for (int lane = 0; lane < n; lane++)
        lanes[lane] = cdp_load(data, dtype, i + (size_t)lane);
    return v_load(lanes);
}

/* Round to bf16 and stay f32; NaN stays NaN (the carry of the rounding would turn it into -0). */
SIMD vf v_round_bf16(vf v) {
    const vu bits = (vu)v;
    const vu rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
    return v_select(v == v, (vf)rounded, v);
}

SIMD void v_store_as(void *data, cdp_dtype dtype, size_t i, vf v) {
    if (dtype == CDP_F32) {
        v_store((float *)data + i, v);
        return;
    }
    if (dtype == CDP_BF16) {
        const vh half = __builtin_convertvector((vu)v_round_bf16(v) >> 16, vh);
        memcpy((uint16_t *)data + i, &half, sizeof half);
        return;
    }
    for (int lane = 0; lane < VF; lane++)
        ((uint16_t *)data)[i + (size_t)lane] = cdp_f32_to_f16(v[lane]);
}

/* e^x, relative error below 2e-7 for x in [-87, 88]; below that the smallest normal number times its share,
 * which every sum here treats as 0. x = n ln 2 + r, e^r by its Taylor polynomial of degree 7. */
SIMD vf v_exp(vf x) {
    const vf magic =
        v_set(12582912.0f); /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    x = v_min(v_max(x, v_set(-87.0f)), v_set(88.0f));
    const vf shifted = v_fma(x, v_set(1.44269504f), magic);
    const vf n = shifted - magic;
    vf r = v_fma(n, v_set(-0.693145752f), x);
    r = v_fma(n, v_set(-1.42860677e-6f), r);
    vf p = v_set(1.0f / 5040.0f);
    p = v_fma(p, r, v_set(1.0f / 720.0f));
    p = v_fma(p, r, v_set(1.0f / 120.0f));
    p = v_fma(p, r, v_set(1.0f / 24.0f));
    p = v_fma(p, r, v_set(1.0f / 6.0f));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_fma(p, r, v_set(1.0f));
    const vi exponent = ((vi)shifted - (vi)magic) << 23;
    return (vf)((vi)p + exponent);
}
