/* kernels_avx512.c - 16 lanes: AVX-512 F, BW, VL, DQ.  The vector type and its operations; simd.h makes the kernels of them. */
#include "kernels/kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

enum { LANES = 16 };
#define NN_V 4
typedef __m512 vf;
typedef __m512d vd;

static inline __mmask16 first(size_t n) { return (__mmask16)((1u << n) - 1u); } /* n <= 16 */

static inline vf v_zero(void) { return _mm512_setzero_ps(); }
static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_abs(vf x) { return _mm512_abs_ps(x); }
static inline vf v_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_scale2(vf x, vf n) { return _mm512_scalef_ps(x, n); }
static inline vf v_zero_below(vf y, vf x, vf lo) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, lo, _CMP_NLT_UQ), y); }
static inline vf v_if_ge0(vf x, vf a, vf b) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, v_zero(), _CMP_GE_OQ), b, a); }

static inline float v_sum(vf x)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* The steps of v_sum on pairs of vectors: what belongs to x goes to the lower place, what belongs to y to the upper. */
static inline vf halves(vf x, vf y) { return v_add(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee)); }
static inline vf quarters(vf x, vf y) { return v_add(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd)); }
static inline vf pairs(vf x, vf y) { return v_add(_mm512_shuffle_ps(x, y, 0x44), _mm512_shuffle_ps(x, y, 0xee)); }
static inline vf ones(vf x, vf y) { return v_add(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xdd)); }

static inline vf v_fold(const vf a[LANES])
{
    vf t0 = quarters(halves(a[0], a[4]), halves(a[8], a[12])), t1 = quarters(halves(a[1], a[5]), halves(a[9], a[13]));
    vf t2 = quarters(halves(a[2], a[6]), halves(a[10], a[14])), t3 = quarters(halves(a[3], a[7]), halves(a[11], a[15]));
    return ones(pairs(t0, t1), pairs(t2, t3));
}

static inline vd v_lo(vf x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
static inline vd v_hi(vf x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
static inline vd d_zero(void) { return _mm512_setzero_pd(); }
static inline vd d_set1(double x) { return _mm512_set1_pd(x); }
static inline vd d_add(vd a, vd b) { return _mm512_add_pd(a, b); }
static inline vd d_sub(vd a, vd b) { return _mm512_sub_pd(a, b); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }
static inline double d_sum(vd x)
{
    __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

/* ---- element types ------------------------------------------------------------------------------------------------ */

static inline vf ld_f32(const void *w, size_t i) { return v_load((const float *)w + i); }
static inline vf ld_f32_n(const void *w, size_t i, size_t n) { return v_load_n((const float *)w + i, n); }
static inline __m256i load_u16(const void *w, size_t i) { return _mm256_loadu_si256((const void *)((const uint16_t *)w + i)); }
static inline vf ld_f16(const void *w, size_t i) { return _mm512_cvtph_ps(load_u16(w, i)); }
static inline vf ld_f16_n(const void *w, size_t i, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), (const uint16_t *)w + i));
}
static inline vf bf16_up(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
static inline vf ld_bf16(const void *w, size_t i) { return bf16_up(load_u16(w, i)); }
static inline vf ld_bf16_n(const void *w, size_t i, size_t n)
{
    return bf16_up(_mm256_maskz_loadu_epi16(first(n), (const uint16_t *)w + i));
}

static inline vf ld_q8_0(const void *w, size_t i)
{
    const struct slm2_block_q8_0 *b = (const struct slm2_block_q8_0 *)w + i / SLM2_QK;
    return v_mul(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b->q + i % SLM2_QK)))), v_set1(_cvtsh_ss(b->d)));
}

static inline __m256i f16_down(vf x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline void st_f16(uint16_t *p, vf x) { _mm256_storeu_si256((void *)p, f16_down(x)); }
static inline void st_f16_n(uint16_t *p, vf x, size_t n) { _mm256_mask_storeu_epi16(p, first(n), f16_down(x)); }

static inline __m256i bf16_down(vf x) /* as slm2_f32_to_bf16 */
{
    __m512i u = _mm512_castps_si512(x), up = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(up, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd)), 16);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), up, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(r);
}
static inline void st_bf16(uint16_t *p, vf x) { _mm256_storeu_si256((void *)p, bf16_down(x)); }
static inline void st_bf16_n(uint16_t *p, vf x, size_t n) { _mm256_mask_storeu_epi16(p, first(n), bf16_down(x)); }

#include "kernels/simd.h"

void slm2_kernels_fill_avx512(struct slm2_kernels *k) { fill_simd(k, "avx512"); }

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_avx512(struct slm2_kernels *k) { (void)k; }
#endif
