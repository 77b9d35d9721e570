/* kernels_neon.c - 8 lanes in two registers: Advanced SIMD of every 64-bit Arm processor.  The vector type and its operations; simd.h makes
 * the kernels of them.
 *
 * Two registers of 4 floats count as one vector: the tiles of simd.h then fill the 32 registers (gemm_nn: 6 x 16 outputs), and
 * lanes and tree of a sum are those of AVX2. */
#include "kernels/kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

enum { LANES = 8 };
#define NN_V 2
typedef struct { float32x4_t a, b; } vf;  /* lanes 0 .. 3, 4 .. 7 */
typedef struct { float64x2_t a, b; } vd;

static inline vf v_set1(float x) { return (vf){vdupq_n_f32(x), vdupq_n_f32(x)}; }
static inline vf v_zero(void) { return v_set1(0.0f); }
static inline vf v_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4)}; }
static inline void v_store(float *p, vf x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
}
/* there are no masked loads and stores: the last few elements go through the stack */
static inline vf v_load_n(const float *p, size_t n)
{
    float f[LANES] = {0};
    memcpy(f, p, n * sizeof f[0]);
    return v_load(f);
}
static inline void v_store_n(float *p, vf x, size_t n)
{
    float f[LANES];
    v_store(f, x);
    memcpy(p, f, n * sizeof f[0]);
}
static inline vf v_add(vf x, vf y) { return (vf){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
static inline vf v_sub(vf x, vf y) { return (vf){vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b)}; }
static inline vf v_mul(vf x, vf y) { return (vf){vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
static inline vf v_div(vf x, vf y) { return (vf){vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b)}; }
static inline vf v_sqrt(vf x) { return (vf){vsqrtq_f32(x.a), vsqrtq_f32(x.b)}; }
static inline vf v_fma(vf x, vf y, vf z) { return (vf){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)}; }
static inline float32x4_t max_4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); } /* not fmax: y when one is NaN */
static inline vf v_max(vf x, vf y) { return (vf){max_4(x.a, y.a), max_4(x.b, y.b)}; }
static inline vf v_abs(vf x) { return (vf){vabsq_f32(x.a), vabsq_f32(x.b)}; }
static inline vf v_round(vf x) { return (vf){vrndnq_f32(x.a), vrndnq_f32(x.b)}; }
static inline float32x4_t power_2(float32x4_t n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23)); }
static inline vf v_scale2(vf x, vf n) { return (vf){vmulq_f32(x.a, power_2(n.a)), vmulq_f32(x.b, power_2(n.b))}; } /* -126 <= n <= 127 */
static inline float32x4_t and_not(float32x4_t y, uint32x4_t drop) { return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), drop)); }
static inline vf v_zero_below(vf y, vf x, vf lo) { return (vf){and_not(y.a, vcltq_f32(x.a, lo.a)), and_not(y.b, vcltq_f32(x.b, lo.b))}; }
static inline vf v_if_ge0(vf x, vf y, vf z) { return (vf){vbslq_f32(vcgezq_f32(x.a), y.a, z.a), vbslq_f32(vcgezq_f32(x.b), y.b, z.b)}; }

static inline float32x4_t halves(vf x) { return vaddq_f32(x.a, x.b); }
/* The steps of v_sum on pairs of vectors: what belongs to x goes to the lower place, what belongs to y to the upper. */
static inline float32x4_t pairs(float32x4_t x, float32x4_t y)
{
    return vcombine_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)), vadd_f32(vget_low_f32(y), vget_high_f32(y)));
}
static inline float v_sum(vf x)
{
    float32x4_t q = halves(x);
    return vpadds_f32(vadd_f32(vget_low_f32(q), vget_high_f32(q)));
}
static inline float32x4_t fold_4(const vf x[4]) { return vpaddq_f32(pairs(halves(x[0]), halves(x[1])), pairs(halves(x[2]), halves(x[3]))); }
static inline vf v_fold(const vf x[LANES]) { return (vf){fold_4(x), fold_4(x + 4)}; }

static inline vd d_widen(float32x4_t x) { return (vd){vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x)}; }
static inline vd v_lo(vf x) { return d_widen(x.a); }
static inline vd v_hi(vf x) { return d_widen(x.b); }
static inline vd d_set1(double x) { return (vd){vdupq_n_f64(x), vdupq_n_f64(x)}; }
static inline vd d_zero(void) { return d_set1(0.0); }
static inline vd d_add(vd x, vd y) { return (vd){vaddq_f64(x.a, y.a), vaddq_f64(x.b, y.b)}; }
static inline vd d_sub(vd x, vd y) { return (vd){vsubq_f64(x.a, y.a), vsubq_f64(x.b, y.b)}; }
static inline vd d_fma(vd x, vd y, vd z) { return (vd){vfmaq_f64(z.a, x.a, y.a), vfmaq_f64(z.b, x.b, y.b)}; }
static inline double d_sum(vd x) { return vpaddd_f64(vaddq_f64(x.a, x.b)); }

/* ---- element types ------------------------------------------------------------------------------------------------ */

static inline uint16x8_t load_u16(const void *w, size_t i) { return vld1q_u16((const uint16_t *)w + i); }
static inline uint16x8_t load_u16_n(const void *w, size_t i, size_t n)
{
    uint16_t h[LANES] = {0};
    memcpy(h, (const uint16_t *)w + i, n * sizeof h[0]);
    return vld1q_u16(h);
}
static inline void store_u16_n(uint16_t *p, uint16x8_t v, size_t n)
{
    uint16_t h[LANES];
    vst1q_u16(h, v);
    memcpy(p, h, n * sizeof h[0]);
}

static inline vf ld_f32(const void *w, size_t i) { return v_load((const float *)w + i); }
static inline vf ld_f32_n(const void *w, size_t i, size_t n) { return v_load_n((const float *)w + i, n); }
static inline vf f16_up(uint16x8_t h)
{
    float16x8_t f = vreinterpretq_f16_u16(h);
    return (vf){vcvt_f32_f16(vget_low_f16(f)), vcvt_high_f32_f16(f)};
}
static inline vf ld_f16(const void *w, size_t i) { return f16_up(load_u16(w, i)); }
static inline vf ld_f16_n(const void *w, size_t i, size_t n) { return f16_up(load_u16_n(w, i, n)); }
static inline vf bf16_up(uint16x8_t h)
{
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
}
static inline vf ld_bf16(const void *w, size_t i) { return bf16_up(load_u16(w, i)); }
static inline vf ld_bf16_n(const void *w, size_t i, size_t n) { return bf16_up(load_u16_n(w, i, n)); }

static inline vf ld_q8_0(const void *w, size_t i)
{
    const struct slm2_block_q8_0 *b = (const struct slm2_block_q8_0 *)w + i / SLM2_QK;
    int16x8_t q = vmovl_s8(vld1_s8(b->q + i % SLM2_QK));
    vf d = f16_up(vdupq_n_u16(b->d));
    return (vf){vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), d.a), vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(q)), d.b)};
}

static inline uint16x8_t f16_down(vf x) { return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)); }
static inline void st_f16(uint16_t *p, vf x) { vst1q_u16(p, f16_down(x)); }
static inline void st_f16_n(uint16_t *p, vf x, size_t n) { store_u16_n(p, f16_down(x), n); }

static inline uint16x4_t bf16_4(float32x4_t x) /* as slm2_f32_to_bf16 */
{
    uint32x4_t u = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t r = vaddq_u32(u, vaddq_u32(vdupq_n_u32(0x7fff), odd)), nan = vorrq_u32(u, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), r, nan), 16);
}
static inline uint16x8_t bf16_down(vf x) { return vcombine_u16(bf16_4(x.a), bf16_4(x.b)); }
static inline void st_bf16(uint16_t *p, vf x) { vst1q_u16(p, bf16_down(x)); }
static inline void st_bf16_n(uint16_t *p, vf x, size_t n) { store_u16_n(p, bf16_down(x), n); }

#include "kernels/simd.h"

void slm2_kernels_fill_neon(struct slm2_kernels *k) { fill_simd(k, "neon"); }

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_neon(struct slm2_kernels *k) { (void)k; }
#endif
