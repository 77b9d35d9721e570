/* num.h - checked size arithmetic, alignment, bf16 and f16 conversion.  Header only. */
#ifndef SLM2_BASE_NUM_H
#define SLM2_BASE_NUM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool slm2_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool slm2_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline size_t slm2_align_up(size_t n, size_t a) { return (n + a - 1) / a * a; }
static inline int slm2_min_int(int a, int b) { return a < b ? a : b; }
static inline int slm2_max_int(int a, int b) { return a > b ? a : b; }
static inline size_t slm2_min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t slm2_max_size(size_t a, size_t b) { return a > b ? a : b; }

/* bf16 is the upper half of an IEEE single: 1 sign, 8 exponent, 7 fraction bits. */
static inline float slm2_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Round to nearest, ties to even; denormals kept, overflow to infinity, NaN stays NaN (quiet bit set). */
static inline uint16_t slm2_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* f16: 1 sign, 5 exponent, 10 fraction bits. */
static inline float slm2_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, em = h & 0x7fffu, u;
    float f;
    if (em >= 0x7c00u) {
        u = sign | 0x7f800000u | (em & 0x3ffu) << 13; /* infinity, NaN */
        memcpy(&f, &u, 4);
    } else if (em >= 0x400u) {
        u = sign | ((em << 13) + 0x38000000u); /* exponent bias 127 - 15 = 112 */
        memcpy(&f, &u, 4);
    } else {
        f = (float)em * 0x1p-24f; /* denormal: exact */
        if (sign) f = -f;
    }
    return f;
}

static inline uint16_t slm2_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000u);
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return sign | 0x7e00u;
    if (u >= 0x477ff000u) return sign | 0x7c00u; /* 65520 and above round to infinity */
    if (u >= 0x38800000u) {                      /* normal: 2^-14 and above */
        u -= 0x38000000u;
        return sign | (uint16_t)((u + 0xfffu + (u >> 13 & 1u)) >> 13);
    }
    if (u < 0x33000000u) return sign; /* below half of the least denormal */
    uint32_t m = (u & 0x7fffffu) | 0x800000u, shift = 126u - (u >> 23);
    uint32_t half = 1u << (shift - 1), rest = m & ((1u << shift) - 1);
    m >>= shift;
    if (rest > half || (rest == half && (m & 1u))) m++;
    return sign | (uint16_t)m;
}
#endif
