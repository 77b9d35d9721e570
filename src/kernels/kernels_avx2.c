/* kernels_avx2.c - 8 lanes: AVX2, FMA, F16C.  The vector type and its operations; simd.h makes the kernels of them. */
#include "kernels/kernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#include <string.h>

enum { LANES = 8 };
#define NN_V 2
typedef __m256 vf;
typedef __m256d vd;

/* all bits set in the first n <= 8 lanes */
static inline __m256i first(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf v_zero(void) { return _mm256_setzero_ps(); }
static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vf v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, first(n)); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm256_maskstore_ps(p, first(n), x); }
static inline vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_abs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
static inline vf v_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_scale2(vf x, vf n) /* -126 <= n <= 127 */
{
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)));
}
static inline vf v_zero_below(vf y, vf x, vf lo) { return _mm256_and_ps(_mm256_cmp_ps(x, lo, _CMP_NLT_UQ), y); }
static inline vf v_if_ge0(vf x, vf a, vf b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, v_zero(), _CMP_GE_OQ)); }

static inline float v_sum(vf x)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* The steps of v_sum on pairs of vectors: what belongs to x goes to the lower place, what belongs to y to the upper. */
static inline vf halves(vf x, vf y) { return v_add(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31)); }
static inline vf pairs(vf x, vf y) { return v_add(_mm256_shuffle_ps(x, y, 0x44), _mm256_shuffle_ps(x, y, 0xee)); }
static inline vf ones(vf x, vf y) { return v_add(_mm256_shuffle_ps(x, y, 0x88), _mm256_shuffle_ps(x, y, 0xdd)); }

static inline vf v_fold(const vf a[LANES])
{
    vf t0 = halves(a[0], a[4]), t1 = halves(a[1], a[5]), t2 = halves(a[2], a[6]), t3 = halves(a[3], a[7]);
    return ones(pairs(t0, t1), pairs(t2, t3));
}

static inline vd v_lo(vf x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
static inline vd v_hi(vf x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
static inline vd d_zero(void) { return _mm256_setzero_pd(); }
static inline vd d_set1(double x) { return _mm256_set1_pd(x); }
static inline vd d_add(vd a, vd b) { return _mm256_add_pd(a, b); }
static inline vd d_sub(vd a, vd b) { return _mm256_sub_pd(a, b); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }
static inline double d_sum(vd x)
{
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

/* ---- element types ------------------------------------------------------------------------------------------------ */

/* there are no masked loads of 16-bit elements: the last few go through 16 bytes on the stack */
static inline __m128i load_u16(const void *w, size_t i) { return _mm_loadu_si128((const void *)((const uint16_t *)w + i)); }
static inline __m128i load_u16_n(const void *w, size_t i, size_t n)
{
    uint16_t h[LANES] = {0};
    memcpy(h, (const uint16_t *)w + i, n * sizeof h[0]);
    return _mm_loadu_si128((const void *)h);
}
static inline void store_u16_n(uint16_t *p, __m128i v, size_t n)
{
    uint16_t h[LANES];
    _mm_storeu_si128((void *)h, v);
    memcpy(p, h, n * sizeof h[0]);
}

static inline vf ld_f32(const void *w, size_t i) { return v_load((const float *)w + i); }
static inline vf ld_f32_n(const void *w, size_t i, size_t n) { return v_load_n((const float *)w + i, n); }
static inline vf ld_f16(const void *w, size_t i) { return _mm256_cvtph_ps(load_u16(w, i)); }
static inline vf ld_f16_n(const void *w, size_t i, size_t n) { return _mm256_cvtph_ps(load_u16_n(w, i, n)); }
static inline vf bf16_up(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
static inline vf ld_bf16(const void *w, size_t i) { return bf16_up(load_u16(w, i)); }
static inline vf ld_bf16_n(const void *w, size_t i, size_t n) { return bf16_up(load_u16_n(w, i, n)); }

static inline vf ld_q8_0(const void *w, size_t i)
{
    const struct slm2_block_q8_0 *b = (const struct slm2_block_q8_0 *)w + i / SLM2_QK;
    return v_mul(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b->q + i % SLM2_QK)))), v_set1(_cvtsh_ss(b->d)));
}

static inline __m128i f16_down(vf x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline void st_f16(uint16_t *p, vf x) { _mm_storeu_si128((void *)p, f16_down(x)); }
static inline void st_f16_n(uint16_t *p, vf x, size_t n) { store_u16_n(p, f16_down(x), n); }

static inline __m128i bf16_down(vf x) /* as slm2_f32_to_bf16 */
{
    __m256i u = _mm256_castps_si256(x), up = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(up, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd)), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(up, _mm256_set1_epi32(0x40)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
static inline void st_bf16(uint16_t *p, vf x) { _mm_storeu_si128((void *)p, bf16_down(x)); }
static inline void st_bf16_n(uint16_t *p, vf x, size_t n) { store_u16_n(p, bf16_down(x), n); }

#include "kernels/simd.h"

/* ---- integers ----------------------------------------------------------------------------------------------------- */

enum { INT_M = 6, SHORT_M = 4, MOST_ROWS = 6, Q8_ZERO = 0 };
typedef __m256i vi;

static inline vi i_zero(void) { return _mm256_setzero_si256(); }
static inline vi i_set1(int x) { return _mm256_set1_epi32(x); }
static inline vi i_load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
static inline void i_store(uint8_t *p, vi v) { _mm256_storeu_si256((void *)p, v); }
static inline vi i_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi i_or(vi a, vi b) { return _mm256_or_si256(a, b); }
#define i_srl(v, n) _mm256_srli_epi32(v, n)
#define i_sll(v, n) _mm256_slli_epi32(v, n)
#define i_sra(v, n) _mm256_srai_epi32(v, n)
static inline vf i_to_f(vi v) { return _mm256_cvtepi32_ps(v); }

static inline int i32_at(const void *p)
{
    int32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}
static inline vi i_pairs(const int16_t sum[2], int c) { return _mm256_madd_epi16(_mm256_set1_epi32(i32_at(sum)), _mm256_set1_epi32(c)); }

#define OWN_SUMS
struct form;
struct slm2_block_x8;
static inline void tile_sums(vi sum[][2], const struct slm2_block_x8 *x, const uint8_t *w, size_t strip, int g, int per, int nm, int nv, struct form f)
    __attribute__((always_inline));
static inline vi q8_codes(vi v) { return v; }

/* rows r and r + 4 in the halves of a vector */
static inline vi row_2(const uint8_t *p, size_t s)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)p)), _mm_loadu_si128((const void *)(p + 4 * s)), 1);
}
static inline void transpose(const uint8_t *p, size_t s, vi v[4])
{
    vi a = row_2(p, s), b = row_2(p + s, s), c = row_2(p + 2 * s, s), d = row_2(p + 3 * s, s);
    vi ab0 = _mm256_unpacklo_epi32(a, b), ab2 = _mm256_unpackhi_epi32(a, b), cd0 = _mm256_unpacklo_epi32(c, d), cd2 = _mm256_unpackhi_epi32(c, d);
    v[0] = _mm256_unpacklo_epi64(ab0, cd0);
    v[1] = _mm256_unpackhi_epi64(ab0, cd0);
    v[2] = _mm256_unpacklo_epi64(ab2, cd2);
    v[3] = _mm256_unpackhi_epi64(ab2, cd2);
}

static inline int u16_at(const uint8_t *p)
{
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}
static inline vf gather_f16(const uint8_t *p, size_t s)
{
    __m128i h = _mm_cvtsi32_si128(u16_at(p));
    h = _mm_insert_epi16(h, u16_at(p + s), 1);
    h = _mm_insert_epi16(h, u16_at(p + 2 * s), 2);
    h = _mm_insert_epi16(h, u16_at(p + 3 * s), 3);
    h = _mm_insert_epi16(h, u16_at(p + 4 * s), 4);
    h = _mm_insert_epi16(h, u16_at(p + 5 * s), 5);
    h = _mm_insert_epi16(h, u16_at(p + 6 * s), 6);
    return _mm256_cvtph_ps(_mm_insert_epi16(h, u16_at(p + 7 * s), 7));
}
static inline __m128i gather_4(const uint8_t *p, size_t s)
{
    __m128i v = _mm_insert_epi32(_mm_cvtsi32_si128(i32_at(p)), i32_at(p + s), 1);
    return _mm_insert_epi32(_mm_insert_epi32(v, i32_at(p + 2 * s), 2), i32_at(p + 3 * s), 3);
}
static inline vi gather_32(const uint8_t *p, size_t s)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(gather_4(p, s)), gather_4(p + 4 * s, s), 1);
}
static inline vf f16_high(vi v)
{
    vi h = _mm256_srli_epi32(v, 16);
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)));
}
static inline vf f16_low(vi v) { return f16_high(_mm256_slli_epi32(v, 16)); }

#include "kernels/int8.h"

/* Pairs of products add up to 16 bits.  Unsigned codes are so small that f.chain such sums still fit; then they are widened.  Signed codes lend their sign to
 * the activations: 128 * 127 * 2 fits as well, but no more.
 * With six rows and two strips the twelve chains fill the registers; what is needed only between chains (the sums so far, the outputs) may lie on the stack. */
static inline void tile_sums(vi sum[][2], const struct slm2_block_x8 *x, const uint8_t *w, size_t strip, int g, const int per, const int nm, const int nv, const struct form f)
{
    const vi ones = _mm256_set1_epi16(1);
    const int chain = f.chain ? slm2_min_int(f.chain, per) : 1;
    vi part[MOST_ROWS][2];
    UNROLL for (int j = 0; j < per; j++) {
        vi codes[2];
        UNROLL for (int v = 0; v < nv; v++) codes[v] = i_load(w + (size_t)v * strip + (size_t)(g * per + j) * VB);
        UNROLL for (int i = 0; i < nm; i++) {
            vi xv = i_set1(i32_at(x[i].q + 4 * (g * per + j)));
            UNROLL for (int v = 0; v < nv; v++) {
                vi p = f.chain ? _mm256_maddubs_epi16(codes[v], xv) : _mm256_maddubs_epi16(_mm256_abs_epi8(codes[v]), _mm256_sign_epi8(xv, codes[v]));
                part[i][v] = j % chain == 0 ? p : _mm256_add_epi16(part[i][v], p);
                __asm__("" : "+x"(part[i][v])); /* gcc would turn the chain into a tree, whose leaves do not fit into the registers */
            }
        }
        if (j % chain != chain - 1) continue;
        UNROLL for (int i = 0; i < nm; i++) {
            vi before = sum_start(x + i, g, f);
            UNROLL for (int v = 0; v < nv; v++) {
                sum[i][v] = _mm256_add_epi32(j < chain ? before : sum[i][v], _mm256_madd_epi16(part[i][v], ones));
                if (!f.chain) __asm__("" : "+x"(sum[i][v]));
            }
        }
    }
}

void slm2_kernels_fill_avx2(struct slm2_kernels *k)
{
    fill_simd(k, "avx2");
    fill_int8(k);
}

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_avx2(struct slm2_kernels *k) { (void)k; }
#endif
