/* kernels/dtype.h - the number formats cdpipe computes with, and the exact rounding between them. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum cdp_dtype { CDP_F32, CDP_F16, CDP_BF16 } cdp_dtype;

static inline size_t cdp_dtype_bytes(cdp_dtype dtype) {
    return dtype == CDP_F32 ? 4 : 2;
}

/* "fp32", "fp16", "bf16": the words of --dtype. */
static inline const char *cdp_dtype_name(cdp_dtype dtype) {
    return dtype == CDP_F32 ? "fp32" : dtype == CDP_F16 ? "fp16" : "bf16";
}

static inline float cdp_bf16_to_f32(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t cdp_f32_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static inline float cdp_f16_to_f32(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1Fu, mantissa = bits & 0x3FFu, wide;
    if (exponent == 0x1Fu) {
        wide = sign | 0x7F800000u | (mantissa << 13);
    } else if (exponent != 0) {
        wide = sign | ((exponent + 112u) << 23) | (mantissa << 13);
    } else if (mantissa == 0) {
        wide = sign;
    } else { /* subnormal: shift the leading one up to its place */
        exponent = 113u;
        while ((mantissa & 0x400u) == 0) {
            mantissa <<= 1;
            exponent--;
        }
        wide = sign | (exponent << 23) | ((mantissa & 0x3FFu) << 13);
    }
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest, ties to even; too large becomes infinity. */
static inline uint16_t cdp_f32_to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    bits &= 0x7FFFFFFFu;
    if (bits > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u);
    if (bits >= 0x477FF000u) /* 65520 and above */
        return (uint16_t)(sign | 0x7C00u);
    if (bits < 0x38800000u) { /* below 2^-14: the spacing is 2^-24, let the FPU round */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f; /* spacing of floats in [0.5, 1) is 2^-24 */
        uint32_t rounded;
        memcpy(&rounded, &magnitude, sizeof rounded);
        return (uint16_t)(sign | (rounded - 0x3F000000u));
    }
    bits += 0xFFFu + ((bits >> 13) & 1u);
    return (uint16_t)(sign | ((bits - 0x38000000u) >> 13));
}

/* The value that is left after one trip through bf16. */
static inline float cdp_round_bf16(float value) {
    return cdp_bf16_to_f32(cdp_f32_to_bf16(value));
}

/* Element i of an array of `dtype`. */
static inline float cdp_load(const void *data, cdp_dtype dtype, size_t i) {
    if (dtype == CDP_F32)
        return ((const float *)data)[i];
    const uint16_t bits = ((const uint16_t *)data)[i];
    return dtype == CDP_BF16 ? cdp_bf16_to_f32(bits) : cdp_f16_to_f32(bits);
}

static inline void cdp_store(void *data, cdp_dtype dtype, size_t i, float value) {
    if (dtype == CDP_F32)
        ((float *)data)[i] = value;
    else
        ((uint16_t *)data)[i] = dtype == CDP_BF16 ? cdp_f32_to_bf16(value) : cdp_f32_to_f16(value);
}
