/* int8.h - the products of block types with int8 activations, written once over a vector type; kernels_avx2.c, kernels_vnni.c and neon_int8.h include it.
 *
 * LANES outputs are computed side by side, lane r of every vector belongs to row r.  A strip of LANES rows of weights is brought into this
 * form, whatever its type, block after block of 32 elements:
 *     8 vectors of codes      vector j: codes 4 j .. 4 j + 3 of each row, a byte each
 *     1 or 2 vectors of float scales (2: a scale for 16 elements)
 *     0 or 1 vector of float minima
 * and then multiplied: 4 bytes of activations, broadcast, meet a vector of codes (dot_step).  Codes are stored without their zero point: sums
 * begin at -zero * sum of the activations, which they carry along, and stay exact.
 *   mul: panels of many strips, made by w_pack, that stay in the second cache;
 *   few: one strip, PIECE blocks at a time, unpacked in the first cache and multiplied at once.
 * Both run tile(), whose outputs are chains that do not depend on what is beside them.
 *
 * The including file defines, all static inline: LANES, vf and v_zero v_set1 v_load v_store v_store_n v_mul v_fma as simd.h has them;
 *   vi (the same vector as integers) and i_zero i_set1 (32 bits) i_load i_store i_and i_or, i_srl i_sll i_sra(v, n) (32-bit lanes),
 *   i_to_f, i_pairs(sum, c): in every 32-bit lane sum[0] * (low half of c) + sum[1] * (high half), 16 bits each, signed;
 *   dot_step(sum, codes, x, j): sum += codes . 4 activations at x, step j of a block; or OWN_SUMS and its own tile_sums;
 *   transpose(p, stride, v[4]): lane r of v[i] = bytes 4 i .. 4 i + 3 of row r, rows lie stride bytes apart;
 *   gather_f16(p, stride): the f16 at the beginning of each row as floats; gather_32(p, stride): 32 bits of each;
 *   f16_low(v), f16_high(v): the low or high half of each lane, an f16, as float;
 *   INT_M (SHORT_M for Q8_0 and Q6_K), MOST_ROWS: rows of activations of a large tile with two strips, with one (MOST_ROWS is not smaller);  Q8_ZERO, q8_codes(v): zero point of Q8_0 codes, and their form. */
#include "base/num.h"
#include "kernels/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#ifndef INLINE
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))
#endif

enum {
    STEPS = SLM2_QK / 4,              /* vectors of codes in a block */
    VB = LANES * 4,                   /* bytes of a vector */
    PIECE = SLM2_QKK / SLM2_QK,       /* blocks that few() unpacks at a time: a block of K types */
    MAX_VECTORS = STEPS + 2,          /* of a block in a strip */
    MAX_BLOCK_BYTES = 34,             /* of 32 elements as stored: Q8_0 */
};

/* What tile() must know about codes.  All constant where it is expanded. */
struct form {
    int zero;      /* zero point */
    int n_scale;   /* scales of a block of 32 */
    int minimum;   /* 1: has one */
    int chain;     /* products of codes and activations that 16 bits can add up (AVX2), in steps; 0: codes are signed */
};
#define BLOCK_VECTORS(f) (STEPS + (f).n_scale + (f).minimum)

/* ---- activations -------------------------------------------------------------------------------------------------- */

static size_t x8_bytes(size_t n_row, size_t n) { return n_row * (n / SLM2_QK) * sizeof(struct slm2_block_x8); }

#ifdef __AVX2__ /* elsewhere the including file defines x8_pack */
/* Largest magnitude by the order of its bits, so that NaN and infinity come out on top. */
INLINE float x8_largest(const float *x)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i m = _mm256_setzero_si256();
    UNROLL for (int i = 0; i < SLM2_QK; i += 8) m = _mm256_max_epu32(m, _mm256_and_si256(_mm256_loadu_si256((const void *)(x + i)), magnitude));
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(h));
}

/* 8 codes in 32 bits; the clamp is for scales so small that they are not exact */
INLINE __m256i x8_codes(const float *x, __m256 d)
{
    __m256i q = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_loadu_ps(x), d));
    return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
}

static void x8_pack(void *to, size_t n_row, size_t r, const float *x, size_t n)
{
    struct slm2_block_x8 *b = (struct slm2_block_x8 *)to + r;
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t i = 0; i < n; i += SLM2_QK, b += n_row, x += SLM2_QK) {
        float largest = x8_largest(x), d = largest / 127.0f;
        bool finite = largest <= FLT_MAX;
        if (!finite || d == 0.0f) {
            *b = (struct slm2_block_x8){.d = finite ? 0.0f : NAN}; /* NaN goes on into every output of the row */
            continue;
        }
        __m256 dv = _mm256_set1_ps(d);
        __m256i low = _mm256_packs_epi32(x8_codes(x, dv), x8_codes(x + 8, dv)), high = _mm256_packs_epi32(x8_codes(x + 16, dv), x8_codes(x + 24, dv));
        __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        __m256i sum = _mm256_sad_epu8(_mm256_xor_si256(q, _mm256_set1_epi8(-128)), _mm256_setzero_si256()); /* of 8, each 128 too much */
        sum = _mm256_add_epi64(sum, _mm256_shuffle_epi32(sum, 0x4e));
        b->d = d;
        b->sum[0] = (int16_t)(_mm_cvtsi128_si32(_mm256_castsi256_si128(sum)) - 16 * 128);
        b->sum[1] = (int16_t)(_mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1)) - 16 * 128);
        _mm256_storeu_si256((void *)b->q, q);
    }
}
#endif

/* ---- unpacking a strip -------------------------------------------------------------------------------------------- */

/* Each unpacks n_block blocks of 32 of LANES rows that begin at w, row_bytes apart, and asks for as many bytes from `ahead` on: the rows
 * that come next in memory (asking beyond the end of a matrix does no harm). */
INLINE void fetch(const uint8_t *p, size_t bytes)
{
    __asm__ volatile("" ::: "memory"); /* here, between other loads: together they would be too many at once */
    UNROLL for (size_t q = 0; q < bytes; q += 64) __builtin_prefetch(p + q, 0, 3);
    __asm__ volatile("" ::: "memory");
}

INLINE void put_i(uint8_t *to, size_t vector, vi v) { i_store(to + vector * VB, v); }
INLINE void put_f(uint8_t *to, size_t vector, vf v) { v_store((float *)(void *)(to + vector * VB), v); }

/* One block, for the types whose blocks are 32 long. */
INLINE void block_q8_0(uint8_t *to, const uint8_t *w, size_t row_bytes, const uint8_t *ahead)
{
    const size_t bytes = sizeof(struct slm2_block_q8_0);
    vi v[STEPS];
    fetch(ahead, LANES * bytes / 2);
    transpose(w + 2, row_bytes, v);
    fetch(ahead + LANES * bytes / 2, LANES * bytes / 2);
    transpose(w + 18, row_bytes, v + 4);
    UNROLL for (size_t j = 0; j < STEPS; j++) put_i(to, j, q8_codes(v[j]));
    put_f(to, STEPS, gather_f16(w, row_bytes));
}

INLINE void put_nibbles(uint8_t *to, const uint8_t *w, size_t row_bytes)
{
    const vi low = i_set1(0x0f0f0f0f);
    vi v[4];
    transpose(w, row_bytes, v);
    UNROLL for (size_t j = 0; j < 4; j++) {
        put_i(to, j, i_and(v[j], low));
        put_i(to, 4 + j, i_and(i_srl(v[j], 4), low));
    }
}

INLINE void block_q4_0(uint8_t *to, const uint8_t *w, size_t row_bytes, const uint8_t *ahead)
{
    fetch(ahead, LANES * sizeof(struct slm2_block_q4_0));
    put_nibbles(to, w + 2, row_bytes);
    put_f(to, STEPS, gather_f16(w, row_bytes));
}

INLINE void block_q4_1(uint8_t *to, const uint8_t *w, size_t row_bytes, const uint8_t *ahead)
{
    vi dm = gather_32(w, row_bytes);
    fetch(ahead, LANES * sizeof(struct slm2_block_q4_1));
    put_nibbles(to, w + 4, row_bytes);
    put_f(to, STEPS, f16_low(dm));
    put_f(to, STEPS + 1, f16_high(dm));
}

#define UNPACK(NAME, STORED, N_VECTOR)                                                                                                              \
    static void unpack_##NAME(uint8_t *to, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead)                               \
    {                                                                                                                                              \
        for (size_t b = 0; b < n_block; b++, w += sizeof(STORED), ahead += LANES * sizeof(STORED), to += (N_VECTOR) * VB)                          \
            block_##NAME(to, w, row_bytes, ahead);                                                                                                 \
    }
UNPACK(q8_0, struct slm2_block_q8_0, STEPS + 1)
UNPACK(q4_0, struct slm2_block_q4_0, STEPS + 1)
UNPACK(q4_1, struct slm2_block_q4_1, STEPS + 2)

/* Q4_K and Q5_K: scale and minimum of group g, from the first 16 bytes of the rows' blocks (head): d and dmin, then 12 bytes of 6-bit numbers */
INLINE void put_k_scales(uint8_t *to, const vi head[4], vf d, vf minus_dmin, const int g)
{
    const int at = 8 * (g % 4);
    const vi six = i_set1(63), four = i_set1(15), upper = i_set1(48);
    vi scale = g < 4 ? i_and(i_srl(head[1], at), six) : i_or(i_and(i_srl(head[3], at), four), i_and(i_srl(head[1], at + 2), upper));
    vi minimum = g < 4 ? i_and(i_srl(head[2], at), six) : i_or(i_and(i_srl(head[3], at + 4), four), i_and(i_srl(head[2], at + 2), upper));
    put_f(to, STEPS, v_mul(d, i_to_f(scale)));
    put_f(to, STEPS + 1, v_mul(minus_dmin, i_to_f(minimum)));
}

static void unpack_q4_k(uint8_t *to, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead)
{
    const size_t bytes = sizeof(struct slm2_block_q4_k), block = (STEPS + 2) * VB;
    const vi low = i_set1(0x0f0f0f0f);
    for (size_t b = 0; b < n_block; b += PIECE, w += bytes, ahead += LANES * bytes, to += PIECE * block) {
        vi head[4];
        transpose(w, row_bytes, head);
        vf d = f16_low(head[0]), minus_dmin = v_mul(f16_high(head[0]), v_set1(-1.0f));
        UNROLL for (int j = 0; j < 4; j++) { /* groups 2 j and 2 j + 1 */
            uint8_t *even = to + (size_t)(2 * j) * block, *odd = even + block;
            const uint8_t *q = w + 16 + 32 * j;
            vi v[STEPS];
            fetch(ahead + (size_t)(2 * j) * LANES * bytes / 8, LANES * bytes / 8);
            transpose(q, row_bytes, v);
            fetch(ahead + (size_t)(2 * j + 1) * LANES * bytes / 8, LANES * bytes / 8);
            transpose(q + 16, row_bytes, v + 4);
            UNROLL for (size_t i = 0; i < STEPS; i++) {
                put_i(even, i, i_and(v[i], low));
                put_i(odd, i, i_and(i_srl(v[i], 4), low));
            }
            put_k_scales(even, head, d, minus_dmin, 2 * j);
            put_k_scales(odd, head, d, minus_dmin, 2 * j + 1);
        }
    }
}

/* v, each lane's bits n places lower, or higher for n < 0 */
#define I_DOWN(v, n) ((n) < 0 ? i_sll(v, (n) < 0 ? -(n) : 0) : i_srl(v, (n) < 0 ? 0 : (n)))

static void unpack_q5_k(uint8_t *to, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead)
{
    const size_t bytes = sizeof(struct slm2_block_q5_k), block = (STEPS + 2) * VB;
    const vi low = i_set1(0x0f0f0f0f), fifth = i_set1(0x10101010);
    for (size_t b = 0; b < n_block; b += PIECE, w += bytes, ahead += LANES * bytes, to += PIECE * block) {
        vi head[4], high[STEPS];
        transpose(w, row_bytes, head);
        transpose(w + 16, row_bytes, high);
        transpose(w + 32, row_bytes, high + 4);
        vf d = f16_low(head[0]), minus_dmin = v_mul(f16_high(head[0]), v_set1(-1.0f));
        UNROLL for (int j = 0; j < 4; j++) { /* groups 2 j and 2 j + 1 */
            uint8_t *even = to + (size_t)(2 * j) * block, *odd = even + block;
            const uint8_t *q = w + 48 + 32 * j;
            vi v[STEPS];
            fetch(ahead + (size_t)(2 * j) * LANES * bytes / 8, LANES * bytes / 8);
            transpose(q, row_bytes, v);
            fetch(ahead + (size_t)(2 * j + 1) * LANES * bytes / 8, LANES * bytes / 8);
            transpose(q + 16, row_bytes, v + 4);
            UNROLL for (size_t i = 0; i < STEPS; i++) {
                put_i(even, i, i_or(i_and(v[i], low), i_and(I_DOWN(high[i], 2 * j - 4), fifth)));
                put_i(odd, i, i_or(i_and(i_srl(v[i], 4), low), i_and(I_DOWN(high[i], 2 * j - 3), fifth)));
            }
            put_k_scales(even, head, d, minus_dmin, 2 * j);
            put_k_scales(odd, head, d, minus_dmin, 2 * j + 1);
        }
    }
}

static void unpack_q6_k(uint8_t *to, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead)
{
    const size_t bytes = sizeof(struct slm2_block_q6_k), block = (STEPS + 2) * VB;
    const vi low = i_set1(0x0f0f0f0f), upper = i_set1(0x30303030);
    for (size_t b = 0; b < n_block; b += PIECE, w += bytes, ahead += LANES * bytes) {
        vi scale[4];
        transpose(w + 192, row_bytes, scale);
        vf d = gather_f16(w + 208, row_bytes);
        UNROLL for (int h = 0; h < 2; h++, to += 4 * block) {
            vi high[STEPS];
            transpose(w + 128 + 32 * h, row_bytes, high);
            transpose(w + 144 + 32 * h, row_bytes, high + 4);
            UNROLL for (int j = 0; j < 2; j++) { /* groups j and j + 2 of this half */
                uint8_t *one = to + (size_t)j * block, *other = one + 2 * block;
                const uint8_t *q = w + 64 * h + 32 * j;
                vi v[STEPS];
                fetch(ahead + (size_t)(4 * h + 2 * j) * LANES * bytes / 8, LANES * bytes / 8);
                transpose(q, row_bytes, v);
                fetch(ahead + (size_t)(4 * h + 2 * j + 1) * LANES * bytes / 8, LANES * bytes / 8);
                transpose(q + 16, row_bytes, v + 4);
                UNROLL for (size_t i = 0; i < STEPS; i++) {
                    put_i(one, i, i_or(i_and(v[i], low), i_and(i_sll(high[i], 4 - 2 * j), upper)));
                    put_i(other, i, i_or(i_and(i_srl(v[i], 4), low), i_and(i_srl(high[i], 2 * j), upper)));
                }
            }
            UNROLL for (int i = 0; i < 8; i++) { /* scales of 16 elements */
                vf s = i_to_f(i_sra(i_sll(scale[2 * h + i / 4], 24 - 8 * (i % 4)), 24));
                put_f(to + (size_t)(i / 2) * block, (size_t)(STEPS + i % 2), v_mul(d, s));
            }
        }
    }
}

/* ---- the product -------------------------------------------------------------------------------------------------- */

/* pairs of 16 bits that weigh the two sums of a block of activations: both by c, or the first or second alone */
INLINE int both(int c) { return (int)((uint32_t)(uint16_t)c * 0x10001u); }
INLINE int one_of(int c, int g) { return (int)((uint32_t)(uint16_t)c << 16 * g); }

/* What the sum of group g over a block begins with: the zero point of the codes, taken from each. */
INLINE vi sum_start(const struct slm2_block_x8 *x, int g, const struct form f)
{
    return f.zero ? i_pairs(x->sum, f.n_scale == 1 ? both(-f.zero) : one_of(-f.zero, g)) : i_zero();
}

#ifndef OWN_SUMS
/* sum[i][v] = codes of group g, `per` vectors of each of nv strips, less their zero point, . activations of row i */
INLINE void tile_sums(vi sum[][2], const struct slm2_block_x8 *x, const uint8_t *w, size_t strip, int g, const int per, const int nm, const int nv, const struct form f)
{
    UNROLL for (int i = 0; i < nm; i++) {
        UNROLL for (int v = 0; v < nv; v++) sum[i][v] = sum_start(x + i, g, f);
    }
    UNROLL for (int j = 0; j < per; j++) {
        vi codes[2];
        UNROLL for (int v = 0; v < nv; v++) codes[v] = i_load(w + (size_t)v * strip + (size_t)(g * per + j) * VB);
        UNROLL for (int i = 0; i < nm; i++) {
            UNROLL for (int v = 0; v < nv; v++) dot_step(&sum[i][v], codes[v], x[i].q + 4 * (g * per + j), j);
        }
    }
}
#endif

/* One block: acc[i][v] takes it in as kernels.h says. */
INLINE void tile_block(vf acc[][2], const struct slm2_block_x8 *x, const uint8_t *w, size_t strip, const int nm, const int nv, const struct form f)
{
    const int per = STEPS / f.n_scale;
    UNROLL for (int g = 0; g < f.n_scale; g++) {
        vi sum[MOST_ROWS][2];
        tile_sums(sum, x, w, strip, g, per, nm, nv, f);
        UNROLL for (int v = 0; v < nv; v++) {
            vf d = v_load((const float *)(const void *)(w + (size_t)v * strip + (size_t)(STEPS + g) * VB));
            UNROLL for (int i = 0; i < nm; i++) acc[i][v] = v_fma(i_to_f(sum[i][v]), v_mul(d, v_set1(x[i].d)), acc[i][v]);
        }
    }
    if (!f.minimum) return;
    vf m[2];
    UNROLL for (int v = 0; v < nv; v++) m[v] = v_load((const float *)(const void *)(w + (size_t)v * strip + (size_t)(STEPS + f.n_scale) * VB));
    UNROLL for (int i = 0; i < nm; i++) {
        vf s = v_mul(i_to_f(i_pairs(x[i].sum, both(1))), v_set1(x[i].d));
        UNROLL for (int v = 0; v < nv; v++) acc[i][v] = v_fma(s, m[v], acc[i][v]);
    }
}

/* y[i][v * LANES ..] for nm rows of activations and nv strips over n_block blocks, from 0 or, not `first`, from what y holds.  Strips lie `strip`
 * bytes apart, the last one has n_last rows that exist. */
INLINE void tile(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, const uint8_t *w, size_t strip, size_t n_block, size_t n_last,
                 bool first, const int nm, const int nv, const struct form f)
{
    vf acc[MOST_ROWS][2];
    UNROLL for (int i = 0; i < nm; i++) {
        UNROLL for (int v = 0; v < nv; v++) acc[i][v] = first ? v_zero() : v_load(y + (size_t)i * ldy + v * LANES);
    }
    for (size_t b = 0; b < n_block; b++, x += n_row, w += BLOCK_VECTORS(f) * VB) tile_block(acc, x, w, strip, nm, nv, f);
    UNROLL for (int i = 0; i < nm; i++) {
        UNROLL for (int v = 0; v < nv; v++) {
            float *to = y + (size_t)i * ldy + v * LANES;
            if (v < nv - 1 || n_last == LANES) v_store(to, acc[i][v]);
            else v_store_n(to, acc[i][v], n_last);
        }
    }
}

/* rows of activations of the next tile, of m left */
INLINE size_t tile_rows(size_t m, size_t most) { return m >= most ? most : most > 4 && m >= 4 ? 4 : m >= 2 ? 2 : 1; }

/* FORM_pair: one tile of m rows, M, 4, 2 or 1, and two strips.  FORM_strip: any number of rows and one strip. */
#define TILE(nm, nv, first) tile(y, ldy, x, n_row, w, strip, n_block, n_last, first, nm, nv, form)
#define TILES(FORM, M, ZERO, N_SCALE, MINIMUM, CHAIN)                                                                                               \
    static void FORM##_pair(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, size_t m, const uint8_t *w, size_t strip,           \
                            size_t n_block, size_t n_last)                                                                                         \
    {                                                                                                                                              \
        const struct form form = {ZERO, N_SCALE, MINIMUM, CHAIN};                                                                                  \
        if (m == (M)) TILE(M, 2, true);                                                                                                            \
        else if ((M) > 4 && m == 4) TILE((M) > 4 ? 4 : 1, 2, true);                                                                                \
        else if (m == 2) TILE(2, 2, true);                                                                                                         \
        else TILE(1, 2, true);                                                                                                                     \
    }                                                                                                                                              \
    static void FORM##_strip(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, size_t m, const uint8_t *w, size_t n_block,        \
                             size_t n_last, bool first)                                                                                            \
    {                                                                                                                                              \
        const struct form form = {ZERO, N_SCALE, MINIMUM, CHAIN};                                                                                  \
        const size_t strip = 0;                                                                                                                    \
        for (size_t t; m; m -= t, y += t * ldy, x += t) {                                                                                          \
            t = tile_rows(m, MOST_ROWS);                                                                                                           \
            if (t == MOST_ROWS) TILE(MOST_ROWS, 1, first);                                                                                         \
            else if (MOST_ROWS > 4 && t == 4) TILE(MOST_ROWS > 4 ? 4 : 1, 1, first);                                                               \
            else if (t == 2) TILE(2, 1, first);                                                                                                    \
            else TILE(1, 1, first);                                                                                                                \
        }                                                                                                                                          \
    }                                                                                                                                              \
    enum { FORM##_vectors = STEPS + (N_SCALE) + (MINIMUM), FORM##_rows = (M) };

typedef void unpack_fn(uint8_t *to, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead);
typedef void pair_fn(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, size_t m, const uint8_t *w, size_t strip, size_t n_block,
                     size_t n_last);
typedef void one_fn(float *y, const struct slm2_block_x8 *x, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead);
typedef void strip_fn(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, size_t m, const uint8_t *w, size_t n_block, size_t n_last,
                      bool first);

/* Rows of weights, some of which may not exist: n rows from w on, then copies of the last; `bytes` of each.  Returns where they lie. */
INLINE const uint8_t *whole_strip(const uint8_t *w, size_t *row_bytes, size_t n, size_t bytes, uint8_t *copy)
{
    if (n >= LANES) return w;
    for (size_t r = 0; r < LANES; r++) memcpy(copy + r * bytes, w + slm2_min_size(r, n - 1) * *row_bytes, bytes);
    *row_bytes = bytes;
    return copy;
}

/* bytes: of PIECE blocks of 32 of a row as stored */
INLINE void int8_w_pack(uint8_t *panel, const uint8_t *w, size_t row_bytes, size_t n_out, size_t n, size_t bytes, size_t n_vector, unpack_fn *unpack)
{
    uint8_t copy[LANES * PIECE * MAX_BLOCK_BYTES];
    for (size_t o = 0; o < n_out; o += LANES, w += LANES * row_bytes) {
        for (size_t b = 0; b < n / SLM2_QK; b += PIECE) {
            size_t n_block = slm2_min_size(PIECE, n / SLM2_QK - b), apart = row_bytes;
            const uint8_t *from = w + b / PIECE * bytes;
            from = whole_strip(from, &apart, n_out - o, bytes * n_block / PIECE, copy);
            unpack(panel, from, apart, n_block, w + LANES * row_bytes + LANES * (b / PIECE) * bytes);
            panel += n_block * n_vector * VB;
        }
    }
}

/* A tile of activations stays in the first cache while the strips of the panel pass. */
INLINE void int8_mul(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, size_t m, const uint8_t *panel, size_t n_out, size_t n,
                     size_t n_vector, size_t rows, pair_fn *pair, strip_fn *strip)
{
    size_t n_block = n / SLM2_QK, bytes = n_block * n_vector * VB;
    for (size_t t; m; m -= t, y += t * ldy, x += t) {
        const uint8_t *w = panel;
        t = tile_rows(m, rows);
        for (size_t o = 0; o < n_out; o += 2 * LANES, w += 2 * bytes) {
            size_t left = n_out - o;
            if (left > LANES) pair(y + o, ldy, x, n_row, t, w, bytes, n_block, slm2_min_size(left - LANES, LANES));
            else strip(y + o, ldy, x, n_row, t, w, n_block, left, true);
        }
    }
}

/* NAME_one: a whole strip for one row of activations.  What a block is unpacked to stays in registers: the compiler sees its stores and loads. */
#define ONE(NAME, STORED, ...)                                                                                                                     \
    static void NAME##_one(float *y, const struct slm2_block_x8 *x, const uint8_t *w, size_t row_bytes, size_t n_block, const uint8_t *ahead)      \
    {                                                                                                                                              \
        const struct form form = {__VA_ARGS__};                                                                                                    \
        vf acc[MOST_ROWS][2];                                                                                                                      \
        acc[0][0] = v_zero();                                                                                                                      \
        for (size_t b = 0; b < n_block; b++, x++, w += sizeof(STORED), ahead += LANES * sizeof(STORED)) {                                          \
            uint8_t block[MAX_VECTORS * VB] __attribute__((aligned(64)));                                                                          \
            block_##NAME(block, w, row_bytes, ahead);                                                                                              \
            tile_block(acc, x, block, 0, 1, 1, form);                                                                                              \
        }                                                                                                                                          \
        v_store(y, acc[0][0]);                                                                                                                     \
    }

/* one: NULL where blocks are longer than 32 */
INLINE void int8_few(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, const uint8_t *w, size_t row_bytes, size_t n_out, size_t n,
                     size_t bytes, unpack_fn *unpack, strip_fn *strip, one_fn *one)
{
    uint8_t panel[PIECE * MAX_VECTORS * VB] __attribute__((aligned(64))), copy[LANES * PIECE * MAX_BLOCK_BYTES];
    float acc[SLM2_FEW * LANES] __attribute__((aligned(64)));
    for (size_t o = 0; o < n_out; o += LANES, w += LANES * row_bytes) {
        size_t rows = slm2_min_size(LANES, n_out - o);
        if (one && n_row == 1 && rows == LANES) {
            one(y + o, x, w, row_bytes, n / SLM2_QK, w + LANES * row_bytes);
            continue;
        }
        for (size_t b = 0; b < n / SLM2_QK; b += PIECE) {
            size_t n_block = slm2_min_size(PIECE, n / SLM2_QK - b), apart = row_bytes;
            const uint8_t *from = w + b / PIECE * bytes;
            from = whole_strip(from, &apart, rows, bytes * n_block / PIECE, copy);
            unpack(panel, from, apart, n_block, w + LANES * row_bytes + LANES * (b / PIECE) * bytes);
            strip(acc, LANES, x + b * n_row, n_row, n_row, panel, n_block, LANES, b == 0);
        }
        for (size_t r = 0; r < n_row; r++) {
            vf v = n < SLM2_QK ? v_zero() : v_load(acc + r * LANES);
            if (rows == LANES) v_store(y + r * ldy + o, v);
            else v_store_n(y + r * ldy + o, v, rows);
        }
    }
}

/* What remains to be said of a type: its form, elements and bytes of a stored block, unpack_NAME. */
#define PRODUCT(NAME, FORM, ELEMS, STORED, ONE_ROW)                                                                                                       \
    static size_t NAME##_w_bytes(size_t n_out, size_t n)                                                                                           \
    {                                                                                                                                              \
        return (n_out + LANES - 1) / LANES * (n / SLM2_QK) * FORM##_vectors * VB;                                                                  \
    }                                                                                                                                              \
    static void NAME##_w_pack(void *panel, const void *w, size_t row_bytes, size_t n_out, size_t n)                                                \
    {                                                                                                                                              \
        int8_w_pack(panel, w, row_bytes, n_out, n, SLM2_QKK / (ELEMS) * sizeof(STORED), FORM##_vectors, unpack_##NAME);                            \
    }                                                                                                                                              \
    static void NAME##_mul(float *y, size_t ldy, const void *x, size_t n_row, size_t r0, size_t m, const void *panel, size_t n_out, size_t n)      \
    {                                                                                                                                              \
        int8_mul(y, ldy, (const struct slm2_block_x8 *)x + r0, n_row, m, panel, n_out, n, FORM##_vectors, FORM##_rows, FORM##_pair, FORM##_strip); \
    }                                                                                                                                              \
    static void NAME##_few(float *y, size_t ldy, const void *x, size_t n_row, const void *w, size_t row_bytes, size_t n_out, size_t n)             \
    {                                                                                                                                              \
        int8_few(y, ldy, x, n_row, w, row_bytes, n_out, n, SLM2_QKK / (ELEMS) * sizeof(STORED), unpack_##NAME, FORM##_strip, ONE_ROW);              \
    }                                                                                                                                              \
    static const struct slm2_product NAME##_product = {x8_bytes, x8_pack, NAME##_w_bytes, NAME##_w_pack, NAME##_mul, NAME##_few};

TILES(form_q8, SHORT_M, Q8_ZERO, 1, 0, 0)
TILES(form_q4, INT_M, 8, 1, 0, 8)
TILES(form_q4_min, INT_M, 0, 1, 1, 8)
TILES(form_q5_min, INT_M, 0, 1, 1, 4)
TILES(form_q6, SHORT_M, 32, 2, 0, 2)
ONE(q8_0, struct slm2_block_q8_0, Q8_ZERO, 1, 0, 0)
ONE(q4_0, struct slm2_block_q4_0, 8, 1, 0, 8)
ONE(q4_1, struct slm2_block_q4_1, 0, 1, 1, 8)
PRODUCT(q8_0, form_q8, SLM2_QK, struct slm2_block_q8_0, q8_0_one)
PRODUCT(q4_0, form_q4, SLM2_QK, struct slm2_block_q4_0, q4_0_one)
PRODUCT(q4_1, form_q4_min, SLM2_QK, struct slm2_block_q4_1, q4_1_one)
PRODUCT(q4_k, form_q4_min, SLM2_QKK, struct slm2_block_q4_k, NULL)
PRODUCT(q5_k, form_q5_min, SLM2_QKK, struct slm2_block_q5_k, NULL)
PRODUCT(q6_k, form_q6, SLM2_QKK, struct slm2_block_q6_k, NULL)

static void fill_int8(struct slm2_kernels *k)
{
    k->product[SLM2_Q8_0] = &q8_0_product;
    k->product[SLM2_Q4_0] = &q4_0_product;
    k->product[SLM2_Q4_1] = &q4_1_product;
    k->product[SLM2_Q4_K] = &q4_k_product;
    k->product[SLM2_Q5_K] = &q5_k_product;
    k->product[SLM2_Q6_K] = &q6_k_product;
}
