/* kernels_attn.c - attention on tiles by AVX-512 BF16 (attn.h), and rounding to Q8_0 for the cache.
 *
 * Both products of attention are one kernel, mul_tile(): a pair of elements of a line is broadcast and meets 16 columns of a panel at once.  For
 * the scores columns are keys, so a tile of keys is transposed first, once for all lines; for the output columns are the elements of a value. */
#include "base/num.h"
#include "kernels/attn.h"
#include "kernels/kernels.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#include <math.h>

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

enum { KEYS = SLM2_ATTN_KEYS, STATE = SLM2_ATTN_STATE, MAX_AT = 16, LANES = 16, ROWS = 6 };
#define LOG2_E 1.44269504088896341

/* ---- panels --------------------------------------------------------------------------------------------------------- */
/* 32 elements as bf16 */
INLINE __m512i load32(const uint8_t *row, size_t i, const enum slm2_dtype type)
{
    if (type == SLM2_BF16) return _mm512_loadu_si512(row + 2 * i);
    const struct slm2_block_q8_0 *b = (const struct slm2_block_q8_0 *)(const void *)row + i / SLM2_QK;
    __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16((short)b->d));
    __m512 lo = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)b->q)));
    __m512 hi = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b->q + 16))));
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(hi, d), _mm512_mul_ps(lo, d));
}

/* 32 bits in lane j of row i go to lane i of row j */
INLINE void transpose(__m512i r[LANES])
{
    __m512i t[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

INLINE void across(uint16_t *panel, const uint8_t *rows, size_t row_bytes, const enum slm2_dtype type, size_t n_row, size_t n)
{
    for (size_t k = 0; k < KEYS; k += LANES) {
        size_t m = n_row > k ? slm2_min_size(LANES, n_row - k) : 0;
        for (size_t i = 0; i < n; i += SLM2_ATTN_UNIT) {
            __m512i r[LANES];
            const uint8_t *row = rows + k * row_bytes;
            uint16_t *to = panel + i * KEYS + 2 * k;
            UNROLL for (size_t j = 0; j < LANES; j++, row += row_bytes) {
                r[j] = j < m ? load32(row, i, type) : _mm512_setzero_si512();
                if (j < m) _mm_prefetch((const void *)(row + KEYS * row_bytes + slm2_dtype_bytes(type, i)), _MM_HINT_T1);
            }
            transpose(r);
            UNROLL for (int j = 0; j < LANES; j++) _mm512_storeu_si512(to + 2 * j * KEYS, r[j]);
        }
    }
}

INLINE void along(uint16_t *panel, const uint8_t *rows, size_t row_bytes, const enum slm2_dtype type, size_t n_row, size_t n)
{
    __m512i lo, hi, up = _mm512_set1_epi32(32 << 16), two = _mm512_set1_epi32(0x00010001);
    lo = _mm512_add_epi32(up, _mm512_mullo_epi32(two, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
    hi = _mm512_add_epi32(lo, _mm512_set1_epi32(16 << 16 | 16));
    for (size_t r = 0; r < KEYS; r += 2, rows += 2 * row_bytes, panel += 2 * n) {
        for (size_t i = 0; i < n; i += SLM2_ATTN_UNIT) {
            __m512i a = r < n_row ? load32(rows, i, type) : _mm512_setzero_si512();
            __m512i b = r + 1 < n_row ? load32(rows + row_bytes, i, type) : _mm512_setzero_si512();
            if (r < n_row) {
                const uint8_t *next = rows + KEYS * row_bytes + slm2_dtype_bytes(type, i);
                _mm_prefetch((const void *)next, _MM_HINT_T1);
                _mm_prefetch((const void *)(next + row_bytes), _MM_HINT_T1);
            }
            _mm512_storeu_si512(panel + 2 * i, _mm512_permutex2var_epi16(a, lo, b));
            _mm512_storeu_si512(panel + 2 * i + 32, _mm512_permutex2var_epi16(a, hi, b));
        }
    }
}

static void pack_across(uint16_t *panel, const void *rows, size_t row_bytes, enum slm2_dtype type, size_t n_row, size_t n)
{
    if (type == SLM2_BF16) across(panel, rows, row_bytes, SLM2_BF16, n_row, n);
    else across(panel, rows, row_bytes, SLM2_Q8_0, n_row, n);
}

static void pack_along(uint16_t *panel, const void *rows, size_t row_bytes, enum slm2_dtype type, size_t n_row, size_t n)
{
    if (type == SLM2_BF16) along(panel, rows, row_bytes, SLM2_BF16, n_row, n);
    else along(panel, rows, row_bytes, SLM2_Q8_0, n_row, n);
}

/* ---- products ------------------------------------------------------------------------------------------------------- */
/* nm lines by nv vectors of columns */
INLINE void mul_tile(float *c, size_t ldc, const uint16_t *a, size_t a_m, size_t a_k, const uint16_t *b, size_t ldb, size_t n_pair, bool accumulate, const int nm, const int nv)
{
    __m512 acc[ROWS][4];
    UNROLL for (int i = 0; i < nm; i++)
        UNROLL for (int v = 0; v < nv; v++) acc[i][v] = accumulate ? _mm512_loadu_ps(c + (size_t)i * ldc + v * LANES) : _mm512_setzero_ps();
    for (size_t k = 0; k < n_pair; k++, a += a_k, b += 2 * ldb) {
        __m512bh col[4];
        UNROLL for (int v = 0; v < nv; v++) col[v] = (__m512bh)_mm512_loadu_si512(b + 2 * v * LANES);
        UNROLL for (int i = 0; i < nm; i++) {
            int pair;
            memcpy(&pair, a + (size_t)i * a_m, sizeof pair);
            UNROLL for (int v = 0; v < nv; v++) acc[i][v] = _mm512_dpbf16_ps(acc[i][v], col[v], (__m512bh)_mm512_set1_epi32(pair));
        }
    }
    UNROLL for (int i = 0; i < nm; i++)
        UNROLL for (int v = 0; v < nv; v++) _mm512_storeu_ps(c + (size_t)i * ldc + v * LANES, acc[i][v]);
}

#define MUL_CASE(nm)                                                                                                       \
    case nm:                                                                                                               \
        for (size_t j = 0; j + 64 <= n; j += 64) mul_tile(c + j, ldc, a, a_m, a_k, panel + 2 * j, ldb, n_pair, accumulate, nm, 4);             \
        if (rest) mul_tile(c + n - rest, ldc, a, a_m, a_k, panel + 2 * (n - rest), ldb, n_pair, accumulate, nm, 2);        \
        break;

/* at most ROWS lines */
static void mul_rows(float *c, size_t ldc, const uint16_t *a, size_t a_m, size_t a_k, const uint16_t *panel, size_t ldb, size_t m, size_t n, size_t n_pair, bool accumulate)
{
    size_t rest = n % 64;
    switch (m) {
        MUL_CASE(1)
        MUL_CASE(2)
        MUL_CASE(3)
        MUL_CASE(4)
        MUL_CASE(5)
        MUL_CASE(6)
    }
}

static void mul(float *c, size_t ldc, const uint16_t *a, size_t a_m, size_t a_k, const uint16_t *panel, size_t ldb, size_t m, size_t n, size_t n_pair, bool accumulate)
{
    for (size_t i = 0; i < m; i += ROWS) mul_rows(c + i * ldc, ldc, a + i * a_m, a_m, a_k, panel, ldb, slm2_min_size(ROWS, m - i), n, n_pair, accumulate);
}

/* ---- softmax -------------------------------------------------------------------------------------------------------- */
/* 2^x, x <= about 0; what lies below 2^-126 becomes 2^-126, so that no subnormal number appears.  x = n + r, |r| <= 1/2, Taylor's polynomial of
 * degree 5 in r ln 2: relative error under 3e-6, far under a bf16's 2^-9.  NaN stays NaN. */
INLINE __m512 exp2_of(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n), p = _mm512_set1_ps(1.3333558146e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291076e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504108665e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022650696e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718056e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

INLINE __mmask16 seen_lanes(int seen, int v)
{
    int n = seen - v * LANES;
    return n >= LANES ? (__mmask16)0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1u);
}

static void start(float *sum, float *state, size_t n_line, size_t n)
{
    memset(sum, 0, n_line * n * sizeof *sum);
    memset(state, 0, n_line * STATE * sizeof *state);
    for (size_t i = 0; i < n_line; i++) state[i * STATE + MAX_AT] = -INFINITY;
}

/* One line's scores s[KEYS], the first `seen` of which count (at least one), become weights against the largest score so far. */
INLINE void weights(uint16_t *p, const float *s, int seen, float *sum, float *state, size_t n, float c)
{
    __m512 x[KEYS / LANES], largest = _mm512_set1_ps(-INFINITY), all = _mm512_loadu_ps(state);
    __mmask16 see[KEYS / LANES];
    UNROLL for (int v = 0; v < KEYS / LANES; v++) {
        see[v] = seen_lanes(seen, v);
        x[v] = _mm512_loadu_ps(s + v * LANES);
        largest = _mm512_mask_max_ps(largest, see[v], largest, x[v]);
    }
    float before = state[MAX_AT], m = _mm512_reduce_max_ps(largest);
    if (m > before) { /* what was summed so far shrinks; it is nothing before the first tile */
        __m512 shrink = exp2_of(_mm512_set1_ps((before - m) * c));
        all = _mm512_mul_ps(all, shrink);
        for (size_t i = 0; i < n; i += LANES) _mm512_storeu_ps(sum + i, _mm512_mul_ps(shrink, _mm512_loadu_ps(sum + i)));
        state[MAX_AT] = m;
    } else {
        m = before;
    }
    const __m512 cv = _mm512_set1_ps(c), minus = _mm512_set1_ps(-m * c);
    UNROLL for (int v = 0; v < KEYS / LANES; v++) {
        x[v] = _mm512_maskz_mov_ps(see[v], exp2_of(_mm512_fmadd_ps(x[v], cv, minus)));
        all = _mm512_add_ps(all, x[v]);
        _mm256_storeu_si256((void *)(p + v * LANES), (__m256i)_mm512_cvtneps_pbh(x[v]));
    }
    _mm512_storeu_ps(state, all);
}

static void step(float *sum, float *state, const uint16_t *q, const int32_t *seen, int32_t first, size_t n_line, const uint16_t *keys, const uint16_t *values, size_t n, float scale)
{
    float s[ROWS * KEYS];
    uint16_t p[ROWS * KEYS];
    const float c = (float)((double)scale * LOG2_E);
    for (size_t i = 0; i < n_line; i += ROWS) {
        size_t m = slm2_min_size(ROWS, n_line - i);
        int most = 0;
        for (size_t r = 0; r < m; r++) most = slm2_max_int(most, seen[i + r] - first);
        if (most == 0) continue;
        most = slm2_min_int(most, KEYS);
        mul_rows(s, KEYS, q + i * n, n, 2, keys, KEYS, m, KEYS, n / 2, false);
        for (size_t r = 0; r < m; r++) {
            int sees = slm2_min_int(seen[i + r] - first, KEYS);
            if (sees > 0) weights(p + r * KEYS, s + r * KEYS, sees, sum + (i + r) * n, state + (i + r) * STATE, n, c);
            else memset(p + r * KEYS, 0, KEYS * sizeof *p);
        }
        mul_rows(sum + i * n, n, p, KEYS, 2, values, n, m, n, (size_t)(most + 1) / 2, true);
    }
}

/* ---- a single query row --------------------------------------------------------------------------------------------- */
/* A panel made of rows is used by one line only: its vectors go from the registers into the products.  Heads run along a few rows at a time, so that the
 * processor can follow each row through its page; each asks for its like in the rows that come next. */
enum { ALONG_ROWS = 8, ALONG_V = 4 };

INLINE void ask(const uint8_t *row, size_t row_bytes, size_t n_row, size_t bytes)
{
    for (size_t r = 0; r < n_row; r++, row += row_bytes)
        for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const void *)(row + i), _MM_HINT_T0);
}

/* scores of 16 rows, those beyond n_row 0 */
INLINE __m512 score_16(const uint16_t *q, const uint8_t *rows, size_t row_bytes, const enum slm2_dtype type, size_t n_row, size_t n)
{
    __m512 acc = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += SLM2_ATTN_UNIT) {
        __m512i r[LANES];
        UNROLL for (size_t j = 0; j < LANES; j++) r[j] = j < n_row ? load32(rows + j * row_bytes, i, type) : _mm512_setzero_si512();
        transpose(r);
        UNROLL for (size_t j = 0; j < LANES; j++) {
            int pair;
            memcpy(&pair, q + i + 2 * j, sizeof pair);
            acc = _mm512_dpbf16_ps(acc, (__m512bh)r[j], (__m512bh)_mm512_set1_epi32(pair));
        }
    }
    return acc;
}

INLINE void scores(float *s, const uint16_t *q, size_t h0, size_t n_head, size_t group, size_t n, const uint8_t *rows, size_t row_bytes, const enum slm2_dtype type, size_t n_row)
{
    const size_t bytes = slm2_dtype_bytes(type, n);
    for (size_t r = 0; r < n_row; r += LANES, rows += LANES * row_bytes) {
        size_t m = slm2_min_size(LANES, n_row - r);
        for (size_t h = 0; h < n_head; h++) {
            const uint8_t *at = rows + (h0 + h) / group * bytes;
            ask(at + LANES * row_bytes, row_bytes, m, bytes);
            __m512 x = m == LANES ? score_16(q + h * n, at, row_bytes, type, LANES, n) : score_16(q + h * n, at, row_bytes, type, m, n);
            _mm512_storeu_ps(s + h * KEYS + r, x);
        }
    }
}

/* nv vectors of a head, from element i: sum += p . rows */
INLINE void along_rows(float *sum, const uint16_t *p, const uint8_t *rows, size_t row_bytes, const enum slm2_dtype type, size_t n_row, size_t i, const int nv)
{
    __m512i up = _mm512_set1_epi32(32 << 16), two = _mm512_set1_epi32(0x00010001), lo, hi;
    lo = _mm512_add_epi32(up, _mm512_mullo_epi32(two, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
    hi = _mm512_add_epi32(lo, _mm512_set1_epi32(16 << 16 | 16));
    __m512 acc[ALONG_V];
    UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_loadu_ps(sum + i + (size_t)v * LANES);
    for (size_t r = 0; r < n_row; r += 2, rows += 2 * row_bytes) {
        int pair;
        memcpy(&pair, p + r, sizeof pair);
        const __m512bh by = (__m512bh)_mm512_set1_epi32(pair);
        UNROLL for (int v = 0; v < nv; v += 2) {
            size_t at = i + (size_t)v * LANES;
            __m512i a = load32(rows, at, type), b = r + 1 < n_row ? load32(rows + row_bytes, at, type) : _mm512_setzero_si512();
            acc[v] = _mm512_dpbf16_ps(acc[v], (__m512bh)_mm512_permutex2var_epi16(a, lo, b), by);
            acc[v + 1] = _mm512_dpbf16_ps(acc[v + 1], (__m512bh)_mm512_permutex2var_epi16(a, hi, b), by);
        }
    }
    UNROLL for (int v = 0; v < nv; v++) _mm512_storeu_ps(sum + i + (size_t)v * LANES, acc[v]);
}

/* p[n_head] rows of 2 KEYS bf16: weights lie in the room of the scores they came from */
INLINE void sums(float *sum, const uint16_t *p, size_t h0, size_t n_head, size_t group, size_t n, const uint8_t *rows, size_t row_bytes, const enum slm2_dtype type, size_t n_row)
{
    const size_t bytes = slm2_dtype_bytes(type, n);
    for (size_t r = 0; r < n_row; r += ALONG_ROWS, rows += ALONG_ROWS * row_bytes) {
        size_t m = slm2_min_size(ALONG_ROWS, n_row - r);
        for (size_t h = 0; h < n_head; h++) {
            const uint8_t *at = rows + (h0 + h) / group * bytes;
            const uint16_t *w = p + h * 2 * KEYS + r;
            size_t i = 0;
            ask(at + ALONG_ROWS * row_bytes, row_bytes, m, bytes);
            for (; i + ALONG_V * LANES <= n; i += ALONG_V * LANES) along_rows(sum + h * n, w, at, row_bytes, type, m, i, ALONG_V);
            if (i < n) along_rows(sum + h * n, w, at, row_bytes, type, m, i, 2);
        }
    }
}

static void single(float *sum, float *state, float *s, const uint16_t *q, size_t h0, size_t n_head, size_t group, size_t n, const void *keys, size_t key_bytes, enum slm2_dtype key_type,
                   const void *values, size_t value_bytes, enum slm2_dtype value_type, size_t n_row, float scale)
{
    uint16_t p[KEYS];
    const float c = (float)((double)scale * LOG2_E);
    if (key_type == SLM2_BF16) scores(s, q, h0, n_head, group, n, keys, key_bytes, SLM2_BF16, n_row);
    else scores(s, q, h0, n_head, group, n, keys, key_bytes, SLM2_Q8_0, n_row);
    for (size_t h = 0; h < n_head; h++) {
        weights(p, s + h * KEYS, (int)n_row, sum + h * n, state + h * STATE, n, c);
        memcpy(s + h * KEYS, p, sizeof p);
    }
    if (value_type == SLM2_BF16) sums(sum, (const uint16_t *)(const void *)s, h0, n_head, group, n, values, value_bytes, SLM2_BF16, n_row);
    else sums(sum, (const uint16_t *)(const void *)s, h0, n_head, group, n, values, value_bytes, SLM2_Q8_0, n_row);
}

static float finish(float *sum, const float *state, size_t n, float scale)
{
    float total = _mm512_reduce_add_ps(_mm512_loadu_ps(state));
    const __m512 by = _mm512_set1_ps(1.0f / total);
    for (size_t i = 0; i < n; i += LANES) _mm512_storeu_ps(sum + i, _mm512_mul_ps(by, _mm512_loadu_ps(sum + i)));
    return (float)((double)state[MAX_AT] * (double)scale + log((double)total));
}

/* Two vectors as bf16, side by side: a in the lower half of each lane, b in the upper. */
INLINE void store_pairs(uint16_t *to, __m512 a, __m512 b)
{
    __m512i lo = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(a)), hi = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(b));
    _mm512_storeu_si512(to, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
}

static void grad(uint16_t *p_pairs, uint16_t *ds_pairs, uint16_t *ds, const float *s, const float *dp, const float *lse, const float *row_d, const int32_t *seen, int32_t first,
                 size_t n_line, float scale)
{
    const __m512 c = _mm512_set1_ps((float)((double)scale * LOG2_E));
    for (size_t i = 0; i < n_line; i += 2, p_pairs += 2 * KEYS, ds_pairs += 2 * KEYS) {
        size_t m = slm2_min_size(2, n_line - i);
        UNROLL for (int v = 0; v < KEYS / LANES; v++) {
            __m512 p[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, d[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            for (size_t r = i; r < i + m; r++) {
                size_t at = r * KEYS + (size_t)v * LANES;
                __m512 x = _mm512_fmadd_ps(_mm512_loadu_ps(s + at), c, _mm512_set1_ps((float)(-(double)lse[r] * LOG2_E)));
                __mmask16 see = seen_lanes(seen[r] - first, v);
                p[r - i] = _mm512_maskz_mov_ps(see, exp2_of(x));
                d[r - i] = _mm512_maskz_mul_ps(see, p[r - i], _mm512_sub_ps(_mm512_loadu_ps(dp + at), _mm512_set1_ps(row_d[r])));
                _mm256_storeu_si256((void *)(ds + at), (__m256i)_mm512_cvtneps_pbh(d[r - i]));
            }
            store_pairs(p_pairs + 2 * v * LANES, p[0], p[1]);
            store_pairs(ds_pairs + 2 * v * LANES, d[0], d[1]);
        }
    }
}

/* ---- rounding to Q8_0 ----------------------------------------------------------------------------------------------- */
/* The bits of the scalar function: one division and one multiplication an element, both rounded. */
static void q8_0_from_f32(void *y, const float *x, size_t n)
{
    struct slm2_block_q8_0 *b = y;
    for (size_t i = 0; i < n; i += SLM2_QK, b++) {
        __m512 lo = _mm512_loadu_ps(x + i), hi = _mm512_loadu_ps(x + i + LANES);
        const __m512i magnitude = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(lo)), _mm512_castps_si512(_mm512_abs_ps(hi)));
        union { uint32_t u; float f; } most = {_mm512_reduce_max_epu32(magnitude)}; /* by the order of their bits NaN and infinity come out on top */
        bool finite = isfinite(most.f);
        b->d = slm2_f32_to_f16(finite ? most.f / 127.0f : NAN);
        const __m512 byv = _mm512_set1_ps(finite && b->d ? 127.0f / most.f : 0.0f);
        if (!finite) lo = hi = _mm512_setzero_ps();
        _mm_storeu_si128((void *)b->q, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(lo, byv))));
        _mm_storeu_si128((void *)(b->q + LANES), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(hi, byv))));
    }
}

static const struct slm2_attn_kernels attn = {
    .takes = {[SLM2_BF16] = true, [SLM2_Q8_0] = true},
    .pack_across = pack_across,
    .pack_along = pack_along,
    .start = start,
    .step = step,
    .single = single,
    .finish = finish,
    .mul = mul,
    .grad = grad,
};

void slm2_kernels_fill_attn(struct slm2_kernels *k)
{
    k->attn = &attn;
    k->from_f32[SLM2_Q8_0] = q8_0_from_f32;
}
#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_attn(struct slm2_kernels *k) { (void)k; }
#endif
