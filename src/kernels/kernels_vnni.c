/* kernels_vnni.c - products of block types by AVX-512 VNNI (and BW, VL, DQ).  The vector type and its operations; int8.h makes the products. */
#include "kernels/kernels.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#include <string.h>

enum { LANES = 16, INT_M = 6, SHORT_M = INT_M, MOST_ROWS = 8, Q8_ZERO = 128 };
typedef __m512 vf;
typedef __m512i vi;

static inline vf v_zero(void) { return _mm512_setzero_ps(); }
static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), x); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }

static inline vi i_zero(void) { return _mm512_setzero_si512(); }
static inline vi i_set1(int x) { return _mm512_set1_epi32(x); }
static inline vi i_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline void i_store(uint8_t *p, vi v) { _mm512_storeu_si512(p, v); }
static inline vi i_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi i_or(vi a, vi b) { return _mm512_or_si512(a, b); }
#define i_srl(v, n) _mm512_srli_epi32(v, n)
#define i_sll(v, n) _mm512_slli_epi32(v, n)
#define i_sra(v, n) _mm512_srai_epi32(v, n)
static inline vf i_to_f(vi v) { return _mm512_cvtepi32_ps(v); }

static inline int i32_at(const void *p)
{
    int32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}
/* 4 bytes or 2 of 16 bits, in every lane */
static inline vi i_spread(const void *p)
{
    return _mm512_set1_epi32(i32_at(p));
}
static inline vi i_pairs(const int16_t sum[2], int c) { return _mm512_madd_epi16(i_spread(sum), _mm512_set1_epi32(c)); }
static inline void dot_step(vi *sum, vi codes, const int8_t *x, int j)
{
    (void)j;
    *sum = _mm512_dpbusd_epi32(*sum, codes, i_spread(x));
}
static inline vi q8_codes(vi v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); } /* q + 128 */

static inline __m128i row_16(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }
/* rows r, r + 4, r + 8, r + 12 in the quarters of a vector */
static inline vi row_4(const uint8_t *p, size_t s)
{
    vi v = _mm512_castsi128_si512(row_16(p));
    v = _mm512_inserti32x4(v, row_16(p + 4 * s), 1);
    v = _mm512_inserti32x4(v, row_16(p + 8 * s), 2);
    return _mm512_inserti32x4(v, row_16(p + 12 * s), 3);
}
static inline void transpose(const uint8_t *p, size_t s, vi v[4])
{
    vi a = row_4(p, s), b = row_4(p + s, s), c = row_4(p + 2 * s, s), d = row_4(p + 3 * s, s);
    vi ab0 = _mm512_unpacklo_epi32(a, b), ab2 = _mm512_unpackhi_epi32(a, b), cd0 = _mm512_unpacklo_epi32(c, d), cd2 = _mm512_unpackhi_epi32(c, d);
    v[0] = _mm512_unpacklo_epi64(ab0, cd0);
    v[1] = _mm512_unpackhi_epi64(ab0, cd0);
    v[2] = _mm512_unpacklo_epi64(ab2, cd2);
    v[3] = _mm512_unpackhi_epi64(ab2, cd2);
}

static inline int u16_at(const uint8_t *p)
{
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}
static inline __m128i gather_8(const uint8_t *p, size_t s)
{
    __m128i h = _mm_cvtsi32_si128(u16_at(p));
    h = _mm_insert_epi16(h, u16_at(p + s), 1);
    h = _mm_insert_epi16(h, u16_at(p + 2 * s), 2);
    h = _mm_insert_epi16(h, u16_at(p + 3 * s), 3);
    h = _mm_insert_epi16(h, u16_at(p + 4 * s), 4);
    h = _mm_insert_epi16(h, u16_at(p + 5 * s), 5);
    h = _mm_insert_epi16(h, u16_at(p + 6 * s), 6);
    return _mm_insert_epi16(h, u16_at(p + 7 * s), 7);
}
static inline vf gather_f16(const uint8_t *p, size_t s)
{
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(gather_8(p, s)), gather_8(p + 8 * s, s), 1));
}
static inline __m128i gather_4(const uint8_t *p, size_t s)
{
    __m128i v = _mm_insert_epi32(_mm_cvtsi32_si128(i32_at(p)), i32_at(p + s), 1);
    return _mm_insert_epi32(_mm_insert_epi32(v, i32_at(p + 2 * s), 2), i32_at(p + 3 * s), 3);
}
static inline vi gather_32(const uint8_t *p, size_t s)
{
    vi v = _mm512_inserti32x4(_mm512_castsi128_si512(gather_4(p, s)), gather_4(p + 4 * s, s), 1);
    return _mm512_inserti32x4(_mm512_inserti32x4(v, gather_4(p + 8 * s, s), 2), gather_4(p + 12 * s, s), 3);
}
static inline vf f16_low(vi v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
static inline vf f16_high(vi v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16))); }

#include "kernels/int8.h"

void slm2_kernels_fill_vnni(struct slm2_kernels *k)
{
    slm2_kernels_extend(k, "vnni");
    fill_int8(k);
}

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_vnni(struct slm2_kernels *k) { (void)k; }
#endif
