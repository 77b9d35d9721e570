/* neon_int8.h - the vector type of int8.h for 64-bit Arm, 4 rows of weights side by side, and the activations; neon_int8.c, neon_dotprod.c and
 * neon_i8mm.c include it after they have defined INT_M and
 *   dot_4(sum, codes, x): sum += codes . x, where lane r of sum has the 4 products of row r and x is the 16 bytes of 4 steps; a macro or function
 *   of (sum, codes, x, lane) with a constant lane 0 .. 3.
 * Codes are signed bytes: those of Q8_0 as they are stored, all others are below 64 with their zero point in the sums. */
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

enum { LANES = 4, MOST_ROWS = 8, Q8_ZERO = 0 };
typedef float32x4_t vf;
typedef int32x4_t vi;

static inline vf v_set1(float x) { return vdupq_n_f32(x); }
static inline vf v_zero(void) { return vdupq_n_f32(0.0f); }
static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vf x) { vst1q_f32(p, x); }
static inline void v_store_n(float *p, vf x, size_t n)
{
    float f[LANES];
    vst1q_f32(f, x);
    memcpy(p, f, n * sizeof f[0]);
}
static inline vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }

static inline vi i_set1(int x) { return vdupq_n_s32(x); }
static inline vi i_zero(void) { return vdupq_n_s32(0); }
static inline vi i_load(const uint8_t *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline void i_store(uint8_t *p, vi v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
static inline vi i_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi i_or(vi a, vi b) { return vorrq_s32(a, b); }
/* the operators of the compiler's vectors: the intrinsics refuse a shift by 0 */
#define i_srl(v, n) ((vi)((uint32x4_t)(v) >> (n)))
#define i_sll(v, n) ((vi)((uint32x4_t)(v) << (n)))
#define i_sra(v, n) ((vi)(v) >> (n))
static inline vf i_to_f(vi v) { return vcvtq_f32_s32(v); }
static inline vi i_pairs(const int16_t sum[2], int c) { return i_set1(sum[0] * (int16_t)(c & 0xffff) + sum[1] * (int16_t)(c >> 16)); }
static inline vi q8_codes(vi v) { return v; }

/* Steps j to j + 3, j a multiple of 4, share one load of activations once loops are unrolled. */
static inline void dot_step(vi *sum, vi codes, const int8_t *x, int j)
{
    const int8x16_t c = vreinterpretq_s8_s32(codes), xv = vld1q_s8(x - 4 * (j & 3));
    switch (j & 3) {
    case 0: *sum = dot_4(*sum, c, xv, 0); break;
    case 1: *sum = dot_4(*sum, c, xv, 1); break;
    case 2: *sum = dot_4(*sum, c, xv, 2); break;
    default: *sum = dot_4(*sum, c, xv, 3); break;
    }
}

static inline int32x4_t row_16(const uint8_t *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline vi pair_low(vi a, vi b) { return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b))); }
static inline vi pair_high(vi a, vi b) { return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b))); }
static inline void transpose(const uint8_t *p, size_t s, vi v[4])
{
    vi a = row_16(p), b = row_16(p + s), c = row_16(p + 2 * s), d = row_16(p + 3 * s);
    vi ab0 = vzip1q_s32(a, b), ab2 = vzip2q_s32(a, b), cd0 = vzip1q_s32(c, d), cd2 = vzip2q_s32(c, d);
    v[0] = pair_low(ab0, cd0);
    v[1] = pair_high(ab0, cd0);
    v[2] = pair_low(ab2, cd2);
    v[3] = pair_high(ab2, cd2);
}

static inline vi gather_32(const uint8_t *p, size_t s)
{
    int32_t u[LANES];
    for (size_t r = 0; r < LANES; r++) memcpy(&u[r], p + r * s, sizeof u[r]);
    return vld1q_s32(u);
}
static inline vf f16_up(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
static inline vf gather_f16(const uint8_t *p, size_t s)
{
    uint16_t u[LANES];
    for (size_t r = 0; r < LANES; r++) memcpy(&u[r], p + r * s, sizeof u[r]);
    return f16_up(vld1_u16(u));
}
static inline vf f16_low(vi v) { return f16_up(vmovn_u32(vreinterpretq_u32_s32(v))); }
static inline vf f16_high(vi v) { return f16_up(vshrn_n_u32(vreinterpretq_u32_s32(v), 16)); }

/* 4 codes; the clamp is for scales so small that they are not exact */
static inline int16x4_t x8_codes_4(const float *x, vf d)
{
    vi q = vcvtnq_s32_f32(vdivq_f32(vld1q_f32(x), d));
    return vmovn_s32(vmaxq_s32(vminq_s32(q, i_set1(127)), i_set1(-127)));
}
static inline int8x8_t x8_codes(const float *x, vf d) { return vmovn_s16(vcombine_s16(x8_codes_4(x, d), x8_codes_4(x + 4, d))); }

static void x8_pack(void *to, size_t n_row, size_t r, const float *x, size_t n)
{
    struct slm2_block_x8 *b = (struct slm2_block_x8 *)to + r;
    for (size_t i = 0; i < n; i += SLM2_QK, b += n_row, x += SLM2_QK) {
        /* magnitudes in the order of their bits: what is not finite comes last */
        uint32x4_t most = vdupq_n_u32(0);
        for (int j = 0; j < SLM2_QK; j += 4) most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + j))));
        uint32_t u = vmaxvq_u32(most);
        float largest, d;
        memcpy(&largest, &u, sizeof largest);
        *b = (struct slm2_block_x8){.d = NAN};
        if (!isfinite(largest)) continue;
        b->d = d = largest / 127.0f;
        if (d == 0.0f) continue;
        vf dv = v_set1(d);
        for (int j = 0; j < 2; j++) {
            const float *h = x + 16 * j;
            int8x16_t q = vcombine_s8(x8_codes(h, dv), x8_codes(h + 8, dv));
            vst1q_s8(b->q + 16 * j, q);
            b->sum[j] = vaddlvq_s8(q);
        }
    }
}

#include "kernels/int8.h"
