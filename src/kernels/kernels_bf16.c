/* kernels_bf16.c - bf16 products by AVX-512 BF16.
 *
 * vdpbf16ps adds two products of neighbours to each of 16 sums.  Outputs lie side by side in the lanes, so an output is one chain over pairs of k in
 * ascending order, whatever else is computed beside it:
 *   weights      groups of 32 outputs, [pair of k][32 outputs][2]: two vectors a step
 *   activations  [block of 32 k][row][32 k]: a cache line of each row, of which one pair a step goes to all lanes
 * A tile of 12 rows x 32 outputs takes 24 sums, 2 vectors of weights and 1 pair: 14 loads for 24 products.  12 products must be under way to
 * hide the latency of 6 cycles at two a cycle.  Pairs beyond the end are zeros in both operands, up to a whole block, in mul() and few() alike:
 * the processor turns a sum under 2^-126 into a zero with its sign, and adding zero to it must not happen in only one of the two. */
#include "kernels/kernels.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

#include "base/num.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum {
    LANES = 16,
    BLOCK = 32,          /* elements of k in a cache line */
    PAIRS = BLOCK / 2,
    GROUP = 2 * LANES,   /* outputs of a tile */
    MR = 12,             /* rows of a tile */
    KC = 512,            /* elements of k that a group keeps in the first cache: 32 KiB */
    MC = 10 * MR,        /* rows of A packed at a time by gemm_nn_bf16: 120 KiB */
    NC = 8 * GROUP,      /* columns of B packed at a time: 256 KiB of the second cache */
    AHEAD = 8,           /* rows between asking for one and packing it: rows may be pages apart, where the processor does not foresee them */
    X_ROWS = 256,        /* rows of activations whose KC elements stay in the second cache while the groups pass: 256 KiB */
};

INLINE size_t div_up(size_t a, size_t b) { return (a + b - 1) / b; }
INLINE __mmask16 first16(size_t n) { return n >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1u); }
INLINE __mmask32 first32(size_t n) { return n >= BLOCK ? 0xffffffffu : (1u << n) - 1u; }
INLINE __m512bh pairs_of(__m512i x) { return (__m512bh)x; }
INLINE __m512 dot_pairs(__m512 sum, __m512i pair, __m512i w) { return _mm512_dpbf16_ps(sum, pairs_of(pair), pairs_of(w)); }
INLINE __m512i broadcast(const uint32_t *pair) { return _mm512_set1_epi32((int)*pair); }

/* ---- the tile ----------------------------------------------------------------------------------------------------- */

/* Where a tile finds pair p of row i in block b: a[b * block + i * row + p * pair]. */
struct pairs { const uint32_t *at; size_t block; };

/* nm rows x nv vectors of c (= or +=) over n_pair pairs, of which rows from m on are not stored.  The last vector has the lanes of `last`.
 * b: nv vectors a pair.  a_row, a_pair as above, nm, nv: constants of the caller. */
INLINE void tile(float *c, size_t ldc, struct pairs a, const size_t a_row, const size_t a_pair, const __m512i *b, size_t n_pair, size_t m,
                 __mmask16 last, bool start, const int nm, const int nv)
{
    __m512 sum[MR][2];
    UNROLL for (int i = 0; i < nm; i++) {
        UNROLL for (int v = 0; v < nv; v++) {
            const float *at = c + slm2_min_size((size_t)i, m - 1) * ldc + (size_t)v * LANES;
            sum[i][v] = start ? _mm512_setzero_ps() : v == nv - 1 ? _mm512_maskz_loadu_ps(last, at) : _mm512_loadu_ps(at);
        }
    }
    for (size_t p0 = 0; p0 < n_pair; p0 += PAIRS, a.at += a.block) {
        size_t some = slm2_min_size(PAIRS, n_pair - p0);
        const uint32_t *pair = a.at;
        UNROLL for (int i = 0; i < nm; i++) _mm_prefetch((const char *)(a.at + a.block + (size_t)i * LANES), _MM_HINT_T0);
        for (size_t p = 0; p < some; p++, pair += a_pair, b += nv) {
            __m512i w[2];
            UNROLL for (int v = 0; v < nv; v++) w[v] = _mm512_load_si512(b + v);
            UNROLL for (int i = 0; i < nm; i++) {
                __m512i x = broadcast(pair + (size_t)i * a_row);
                UNROLL for (int v = 0; v < nv; v++) sum[i][v] = dot_pairs(sum[i][v], x, w[v]);
            }
        }
    }
    UNROLL for (int i = 0; i < nm; i++) {
        if ((size_t)i >= m) continue;
        UNROLL for (int v = 0; v < nv; v++) {
            float *at = c + (size_t)i * ldc + (size_t)v * LANES;
            if (v == nv - 1) _mm512_mask_storeu_ps(at, last, sum[i][v]);
            else _mm512_storeu_ps(at, sum[i][v]);
        }
    }
}

/* ---- activations -------------------------------------------------------------------------------------------------- */

static size_t x_bytes(size_t n_row, size_t n) { return n_row * div_up(n, BLOCK) * BLOCK * sizeof(uint16_t); }

/* as slm2_f32_to_bf16; the processor's own conversion would drop denormals */
INLINE __m256i round16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x), up = _mm512_srli_epi32(u, 16), odd = _mm512_and_si512(up, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd)), 16);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), up, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(r);
}

static void x_pack(void *to, size_t n_row, size_t r, const float *x, size_t n)
{
    uint16_t *out = (uint16_t *)to + r * BLOCK;
    for (size_t i = 0; i < n; i += LANES) {
        uint16_t *at = out + i / BLOCK * BLOCK * n_row + i % BLOCK;
        _mm256_storeu_si256((void *)at, round16(n - i >= LANES ? _mm512_loadu_ps(x + i) : _mm512_maskz_loadu_ps(first16(n - i), x + i)));
    }
    if (n % BLOCK && n % BLOCK <= LANES) memset(out + n / BLOCK * BLOCK * n_row + LANES, 0, LANES * sizeof *out);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

/* 16 rows x 16 pairs become 16 pairs x 16 rows. */
INLINE void transpose(__m512i t[LANES])
{
    __m512i u[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) {
        u[i] = _mm512_unpacklo_epi32(t[i], t[i + 1]);
        u[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        t[i] = _mm512_unpacklo_epi64(u[i], u[i + 2]);
        t[i + 1] = _mm512_unpackhi_epi64(u[i], u[i + 2]);
        t[i + 2] = _mm512_unpacklo_epi64(u[i + 1], u[i + 3]);
        t[i + 3] = _mm512_unpackhi_epi64(u[i + 1], u[i + 3]);
    }
    /* t[4 q + j]: in its quarter h, pair 4 h + j of rows 4 q .. 4 q + 3 */
    UNROLL for (int j = 0; j < 4; j++) {
        u[j] = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88);           /* quarters 0, 2 of rows 0-3, then of rows 4-7 */
        u[4 + j] = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xdd);       /* quarters 1, 3 */
        u[8 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88);
        u[12 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xdd);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        t[j] = _mm512_shuffle_i32x4(u[j], u[8 + j], 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(u[j], u[8 + j], 0xdd);
        t[4 + j] = _mm512_shuffle_i32x4(u[4 + j], u[12 + j], 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(u[4 + j], u[12 + j], 0xdd);
    }
}

/* Elements [0, left) of 16 rows, at most a block, transposed. */
INLINE void load_block(__m512i t[LANES], const uint8_t *w, size_t row_bytes, size_t left)
{
    if (left >= BLOCK) {
        UNROLL for (int i = 0; i < LANES; i += 4) { /* four bases and three strides: what the registers hold */
            const uint8_t *at = w + (size_t)i * row_bytes;
            t[i] = _mm512_loadu_si512(at);
            t[i + 1] = _mm512_loadu_si512(at + row_bytes);
            t[i + 2] = _mm512_loadu_si512(at + 2 * row_bytes);
            t[i + 3] = _mm512_loadu_si512(at + 3 * row_bytes);
        }
    } else {
        UNROLL for (int i = 0; i < LANES; i++) t[i] = _mm512_maskz_loadu_epi16(first32(left), w + (size_t)i * row_bytes);
    }
    transpose(t);
}

/* The same for n_row < 16 rows; the others are zeros. */
static __attribute__((noinline)) void load_part(__m512i t[LANES], const uint8_t *w, size_t row_bytes, size_t n_row, size_t left)
{
    for (size_t i = 0; i < LANES; i++) t[i] = i < n_row ? _mm512_maskz_loadu_epi16(first32(left), w + i * row_bytes) : _mm512_setzero_si512();
    transpose(t);
}

static size_t w_bytes(size_t n_out, size_t n) { return div_up(n_out, LANES) * LANES * div_up(n, BLOCK) * BLOCK * sizeof(uint16_t); }

static void w_pack(void *panel, const void *w, size_t row_bytes, size_t n_out, size_t n)
{
    __m512i *to = panel;
    size_t n_block = div_up(n, BLOCK);
    for (size_t o = 0; o < n_out; o += GROUP) {
        const uint8_t *rows = (const uint8_t *)w + o * row_bytes;
        size_t nv = n_out - o > LANES ? 2 : 1;
        for (size_t b = 0; b < n_block; b++) {
            for (size_t v = 0; v < nv; v++) {
                __m512i t[LANES];
                const uint8_t *at = rows + v * LANES * row_bytes + b * BLOCK * sizeof(uint16_t);
                if (n_out - o - v * LANES >= LANES) load_block(t, at, row_bytes, n - b * BLOCK);
                else load_part(t, at, row_bytes, n_out - o - v * LANES, n - b * BLOCK);
                UNROLL for (size_t p = 0; p < PAIRS; p++) _mm512_store_si512(to + p * nv + v, t[p]);
            }
            to += PAIRS * nv;
        }
    }
}

/* ---- many rows ---------------------------------------------------------------------------------------------------- */

#define X_TILE(nm, nv) tile(y, ldy, a, LANES, 1, w, n_pair, nm, last, start, nm, nv)
#define X_CASE(nm)                                                                                                         \
    case nm:                                                                                                               \
        if (nv == 2) X_TILE(nm, 2);                                                                                        \
        else X_TILE(nm, 1);                                                                                                \
        break

/* m <= MR rows x one group */
static void x_tile(float *y, size_t ldy, struct pairs a, const __m512i *w, size_t n_pair, size_t m, size_t nv, __mmask16 last, bool start)
{
    switch (m) {
        X_CASE(1);
        X_CASE(2);
        X_CASE(3);
        X_CASE(4);
        X_CASE(5);
        X_CASE(6);
        X_CASE(7);
        X_CASE(8);
        X_CASE(9);
        X_CASE(10);
        X_CASE(11);
        X_CASE(12);
    }
}

/* Some rows x all groups: k in pieces, so that a group's piece stays in the first cache while the rows pass, and the rows' in the second. */
static void mul_rows(float *y, size_t ldy, const uint32_t *x, size_t n_row, size_t m, const __m512i *w, size_t n_out, size_t n_pair)
{
    size_t n_tile = div_up(m, MR);
    if (n_pair == 0) {
        for (size_t i = 0; i < m; i++) memset(y + i * ldy, 0, n_out * sizeof *y);
    }
    for (size_t p = 0; p < n_pair; p += KC / 2) {
        size_t some = slm2_min_size(KC / 2, n_pair - p);
        for (size_t o = 0; o < n_out; o += GROUP) {
            size_t n = slm2_min_size(GROUP, n_out - o), nv = div_up(n, LANES);
            const __m512i *group = w + o / LANES * n_pair + p * nv;
            for (size_t t = 0; t < n_tile; t++) { /* tiles of nearly equal height */
                size_t i = t * m / n_tile, rows = (t + 1) * m / n_tile - i;
                struct pairs a = {x + p * n_row + i * PAIRS, n_row * PAIRS};
                x_tile(y + i * ldy + o, ldy, a, group, some, rows, nv, first16(n - (nv - 1) * LANES), p == 0);
            }
        }
    }
}

static void mul(float *y, size_t ldy, const void *x, size_t n_row, size_t r0, size_t m, const void *panel, size_t n_out, size_t n)
{
    size_t n_pair = div_up(n, BLOCK) * PAIRS;
    for (size_t i = 0; i < m; i += X_ROWS) {
        mul_rows(y + i * ldy, ldy, (const uint32_t *)x + (r0 + i) * PAIRS, n_row, slm2_min_size(X_ROWS, m - i), panel, n_out, n_pair);
    }
}

/* ---- few rows ----------------------------------------------------------------------------------------------------- */

/* One block of 16 outputs for n_row rows of x. */
INLINE void few_block(__m512 *sum, const uint32_t *x, __m512i t[LANES], const int n_row)
{
    UNROLL for (int p = 0; p < PAIRS; p++) {
        UNROLL for (int r = 0; r < n_row; r++) sum[r] = dot_pairs(sum[r], broadcast(x + r * PAIRS + p), t[p]);
    }
}

/* n_row rows x `sets` whole sets of 16 outputs; the lines of the outputs behind them are asked for in the order of memory, as many as are read
 * here: then they come as one stream, although the rows that are read side by side are far apart. */
INLINE void few_sets(float *y, size_t ldy, const uint32_t *x, const uint8_t *w, size_t row_bytes, size_t n, const int n_row, const int sets)
{
    __m512 sum[2][SLM2_FEW];
    const char *next = (const char *)w + (size_t)sets * LANES * row_bytes;
    UNROLL for (int s = 0; s < sets; s++) {
        UNROLL for (int r = 0; r < n_row; r++) sum[s][r] = _mm512_setzero_ps();
    }
    for (size_t left = n; left > 0; left -= slm2_min_size(BLOCK, left), x += n_row * PAIRS, w += BLOCK * sizeof(uint16_t)) {
        UNROLL for (int s = 0; s < sets; s++) {
            __m512i t[LANES];
            UNROLL for (int i = 0; i < LANES; i++, next += 64) _mm_prefetch(next, _MM_HINT_T0);
            load_block(t, w + (size_t)s * LANES * row_bytes, row_bytes, left);
            few_block(sum[s], x, t, n_row);
        }
    }
    UNROLL for (int s = 0; s < sets; s++) {
        UNROLL for (int r = 0; r < n_row; r++) _mm512_storeu_ps(y + (size_t)r * ldy + s * LANES, sum[s][r]);
    }
}

/* Fewer than 16 outputs. */
static void few_part(float *y, size_t ldy, const uint32_t *x, size_t n_row, const uint8_t *w, size_t row_bytes, size_t n_out, size_t n)
{
    for (size_t r = 0; r < n_row; r++) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t i = 0; i < n; i += BLOCK) {
            __m512i t[LANES];
            load_part(t, w + i * sizeof(uint16_t), row_bytes, n_out, n - i);
            few_block(&sum, x + i / BLOCK * n_row * PAIRS + r * PAIRS, t, 1);
        }
        _mm512_mask_storeu_ps(y + r * ldy, first16(n_out), sum);
    }
}

/* Two sets at a time for few rows, so that one chain does not wait for itself. */
#define FEW(nr)                                                                                                            \
    static void few_##nr(float *y, size_t ldy, const uint32_t *x, const uint8_t *w, size_t row_bytes, size_t n_set, size_t n) \
    {                                                                                                                      \
        for (; nr <= 4 && n_set >= 2; n_set -= 2, y += GROUP, w += GROUP * row_bytes)                                      \
            few_sets(y, ldy, x, w, row_bytes, n, nr, 2);                                                                   \
        for (; n_set > 0; n_set--, y += LANES, w += LANES * row_bytes) few_sets(y, ldy, x, w, row_bytes, n, nr, 1);        \
    }
FEW(1) FEW(2) FEW(3) FEW(4) FEW(5) FEW(6) FEW(7) FEW(8) FEW(9) FEW(10) FEW(11) FEW(12) FEW(13) FEW(14) FEW(15) FEW(16)

static void few(float *y, size_t ldy, const void *x, size_t n_row, const void *w, size_t row_bytes, size_t n_out, size_t n)
{
    static void (*const rows[SLM2_FEW])(float *, size_t, const uint32_t *, const uint8_t *, size_t, size_t, size_t) = {
        few_1, few_2, few_3, few_4, few_5, few_6, few_7, few_8, few_9, few_10, few_11, few_12, few_13, few_14, few_15, few_16};
    size_t n_set = n_out / LANES, rest = n_out % LANES;
    if (n_row == 0) return;
    rows[n_row - 1](y, ldy, x, w, row_bytes, n_set, n);
    if (rest) few_part(y + n_set * LANES, ldy, x, n_row, (const uint8_t *)w + n_set * LANES * row_bytes, row_bytes, rest, n);
}

/* ---- matrices as gradients need them ------------------------------------------------------------------------------- */

/* Rows k, k + 1 of b become pairs: groups of 32 columns, the last of 16 or 32.  An odd end is filled with zeros. */
static void pack_b(__m512i *to, const uint16_t *b, size_t ldb, size_t n, size_t k)
{
    const __m512i lo = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i hi = _mm512_add_epi16(lo, _mm512_set1_epi16(LANES));
    size_t n_pair = div_up(k, 2);
    for (size_t p = 0; p < n_pair; p++) {
        const uint16_t *even = b + 2 * p * ldb, *odd = even + ldb;
        bool has_odd = 2 * p + 1 < k;
        for (size_t j = 0; j < n; j += GROUP) {
            __mmask32 mask = first32(n - j);
            size_t nv = n - j > LANES ? 2 : 1;
            __m512i *at = to + j / LANES * n_pair + p * nv;
            _mm_prefetch((const char *)(even + AHEAD * ldb + j), _MM_HINT_T0);
            _mm_prefetch((const char *)(odd + AHEAD * ldb + j), _MM_HINT_T0);
            __m512i e = _mm512_maskz_loadu_epi16(mask, even + j), d = has_odd ? _mm512_maskz_loadu_epi16(mask, odd + j) : _mm512_setzero_si512();
            _mm512_store_si512(at, _mm512_permutex2var_epi16(e, lo, d));
            if (nv == 2) _mm512_store_si512(at + 1, _mm512_permutex2var_epi16(e, hi, d));
        }
    }
}

/* m rows of A whose pairs lie together, in tiles of MR: [block][row][16 pairs]; a tile's missing rows repeat the last one. */
static void pack_a_rows(uint32_t *to, const uint16_t *a, size_t a_m, size_t m, size_t k)
{
    for (size_t i0 = 0; i0 < m; i0 += MR) {
        for (size_t l = 0; l < k; l += BLOCK) {
            __mmask32 mask = first32(k - l);
            for (size_t i = i0; i < i0 + MR; i++, to += PAIRS)
                _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(mask, a + slm2_min_size(i, m - 1) * a_m + l));
        }
    }
}

/* m columns of A, which runs along them, in tiles of MR: [pair][row]; a tile's missing rows are zeros.  All tiles of a pair at
 * once: rows of A may be pages apart, so their lines do not stay in a cache for the next tile. */
static void pack_a_columns(uint32_t *to, const uint16_t *a, size_t a_k, size_t m, size_t k)
{
    size_t a_tile = div_up(k, 2) * MR;
    for (size_t l = 0; l < k; l += 2, to += MR) {
        for (size_t i = 0; i < m; i += MR) {
            const uint16_t *at = a + l * a_k + i;
            __mmask16 mask = first16(slm2_min_size(m - i, MR));
            _mm_prefetch((const char *)(at + AHEAD * a_k), _MM_HINT_T0);
            _mm_prefetch((const char *)(at + (AHEAD + 1) * a_k), _MM_HINT_T0);
            __m512i e = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at));
            __m512i d = l + 1 < k ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at + a_k)) : _mm512_setzero_si512();
            _mm512_mask_storeu_epi32(to + i / MR * a_tile, first16(MR), _mm512_or_si512(e, _mm512_slli_epi32(d, 16)));
        }
    }
}

/* Up to MC rows of packed A by packed B. */
static void nn_block(float *c, size_t ldc, const uint32_t *a, bool columns, const __m512i *b, size_t m, size_t n, size_t k, bool start)
{
    size_t n_pair = div_up(k, 2), a_tile = (columns ? n_pair : div_up(k, BLOCK) * PAIRS) * MR;
    for (size_t j = 0; j < n; j += GROUP) {
        size_t some = slm2_min_size(GROUP, n - j), nv = div_up(some, LANES);
        __mmask16 last = first16(some - (nv - 1) * LANES);
        const __m512i *group = b + j / LANES * n_pair;
        for (size_t i = 0; i < m; i += MR) {
            float *to = c + i * ldc + j;
            size_t rows = slm2_min_size(MR, m - i);
            struct pairs at = {a + i / MR * a_tile, MR * PAIRS};
            if (columns && nv == 2) tile(to, ldc, at, 1, MR, group, n_pair, rows, last, start, MR, 2);
            else if (columns) tile(to, ldc, at, 1, MR, group, n_pair, rows, last, start, MR, 1);
            else if (nv == 2) tile(to, ldc, at, LANES, 1, group, n_pair, rows, last, start, MR, 2);
            else tile(to, ldc, at, LANES, 1, group, n_pair, rows, last, start, MR, 1);
        }
    }
}

/* Takes 376 KiB of the stack. */
static void gemm_nn_bf16(float *c, size_t ldc, const uint16_t *a, size_t a_m, size_t a_k, const uint16_t *b, size_t ldb, size_t m, size_t n,
                         size_t k, bool accumulate)
{
    __m512i bp[NC / LANES * KC / 2];
    uint32_t ap[MC * KC / 2] __attribute__((aligned(64)));
    const bool columns = a_k != 1;
    if (k == 0 && !accumulate) {
        for (size_t i = 0; i < m; i++) memset(c + i * ldc, 0, n * sizeof *c);
    }
    for (size_t j = 0; j < n; j += NC) {
        size_t nt = slm2_min_size(NC, n - j);
        for (size_t l = 0; l < k; l += KC) {
            size_t kt = slm2_min_size(KC, k - l);
            pack_b(bp, b + l * ldb + j, ldb, nt, kt);
            for (size_t i = 0; i < m; i += MC) {
                size_t mt = slm2_min_size(MC, m - i);
                if (columns) pack_a_columns(ap, a + i + l * a_k, a_k, mt, kt);
                else pack_a_rows(ap, a + i * a_m + l, a_m, mt, kt);
                nn_block(c + i * ldc + j, ldc, ap, columns, bp, mt, nt, kt, l == 0 && !accumulate);
            }
        }
    }
}

void slm2_kernels_fill_bf16(struct slm2_kernels *k)
{
    static const struct slm2_product product = {
        .x_bytes = x_bytes,
        .x_pack = x_pack,
        .w_bytes = w_bytes,
        .w_pack = w_pack,
        .mul = mul,
        .few = few,
    };
    slm2_kernels_extend(k, "bf16");
    k->product[SLM2_BF16] = &product;
    k->gemm_nn_bf16 = gemm_nn_bf16;
}

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_bf16(struct slm2_kernels *k) { (void)k; }
#endif
