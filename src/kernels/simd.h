/* simd.h - the kernels written once over a vector type; kernels_avx2.c and kernels_avx512.c each define the vector and include it.
 *
 * The including file defines, all static inline, so that no wide instruction leaves it:
 *   LANES (8, 16), vf (a vector of floats) and v_zero v_set1 v_load v_store v_load_n v_store_n (the first n lanes, 0 < n <= LANES;
 *   the others read as 0) v_add v_sub v_mul v_div v_sqrt v_fma(a, b, c) = a b + c, v_max (b when one is NaN), v_abs, v_round,
 *   v_scale2(x, n) = x 2^n, v_zero_below(y, x, lo): y but 0 where x < lo, v_if_ge0(x, a, b);
 *   v_sum: adds lanes j and j + LANES/2, then the halves of that, down to one; v_fold(acc[LANES]): lane i = v_sum(acc[i]), the same
 *   additions; vd (LANES/2 doubles) and v_lo v_hi d_zero d_set1 d_add d_sub d_fma d_sum;
 *   ld_T(row, i) for T = f32 f16 bf16: elements i .. i + LANES of a row of weights; ld_T_n(row, i, n): the first n from i; ld_q8_0(row, i), i a
 *   multiple of LANES; st_f16 st_f16_n st_bf16 st_bf16_n.
 *
 * Why dot(), gemv and gemm_nt agree bit for bit: each of their outputs is one vector accumulator that starts at 0, takes elements
 * i .. i + LANES in ascending order by fma, the last ones padded with zeros, and is summed by the additions of v_sum.  Speed
 * comes from several independent outputs at a time, never from a second accumulator for one output. */
#include "base/num.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

/* ---- dot and gemv: rows of plain weights -------------------------------------------------------------------- */

/* GEMV_ROWS rows at a time, each with its accumulator, so that x is loaded once for all and the chains of fma overlap; the rows
 * left over repeat the last one.  Rows are short for a hardware prefetcher, so every step asks for its share of the next rows, which
 * lie behind these (asking beyond the end of the matrix does no harm). */
enum { GEMV_ROWS = 8 };
INLINE void prefetch(const uint8_t *p, size_t bytes)
{
    UNROLL for (size_t q = 0; q < bytes; q += 64) __builtin_prefetch(p + q, 0, 2); /* into L2 */
}

#define DOT_W(T, BYTES)                                                                                                    \
    static float dot_##T(const float *x, const void *w, size_t n)                                                          \
    {                                                                                                                      \
        vf acc = v_zero();                                                                                                 \
        size_t i = 0;                                                                                                      \
        for (; i + LANES <= n; i += LANES) acc = v_fma(v_load(x + i), ld_##T(w, i), acc);                                  \
        if (i < n) acc = v_fma(v_load_n(x + i, n - i), ld_##T##_n(w, i, n - i), acc);                                      \
        return v_sum(acc);                                                                                                 \
    }                                                                                                                      \
    static void gemv_##T(float *y, const float *x, const void *w, size_t row_bytes, size_t n_out, size_t n)                \
    {                                                                                                                      \
        const uint8_t *base = w;                                                                                           \
        for (size_t o = 0; o < n_out; o += GEMV_ROWS) {                                                                    \
            size_t n_row = slm2_min_size(GEMV_ROWS, n_out - o), i = 0;                                                     \
            const uint8_t *row[GEMV_ROWS];                                                                                 \
            vf acc[LANES];                                                                                                 \
            UNROLL for (int r = 0; r < LANES; r++) acc[r] = v_zero();                                                      \
            UNROLL for (size_t r = 0; r < GEMV_ROWS; r++) row[r] = base + (o + slm2_min_size(r, n_row - 1)) * row_bytes;   \
            const uint8_t *next = base + (o + GEMV_ROWS) * row_bytes;                                                      \
            for (; i + LANES <= n; i += LANES, next += GEMV_ROWS * (BYTES)) {                                              \
                vf xv = v_load(x + i);                                                                                     \
                prefetch(next, GEMV_ROWS * (BYTES));                                                                       \
                UNROLL for (int r = 0; r < GEMV_ROWS; r++) acc[r] = v_fma(xv, ld_##T(row[r], i), acc[r]);                  \
            }                                                                                                              \
            if (i < n) {                                                                                                   \
                vf xv = v_load_n(x + i, n - i);                                                                            \
                UNROLL for (int r = 0; r < GEMV_ROWS; r++) acc[r] = v_fma(xv, ld_##T##_n(row[r], i, n - i), acc[r]);       \
            }                                                                                                              \
            v_store_n(y + o, v_fold(acc), n_row);                                                                          \
        }                                                                                                                  \
    }
DOT_W(f32, LANES * 4)
DOT_W(f16, LANES * 2)
DOT_W(bf16, LANES * 2)

static float dot(const float *x, const float *y, size_t n) { return dot_f32(x, y, n); }

#define TO_F32(T)                                                                                                          \
    static void T##_to_f32(float *y, const void *x, size_t n)                                                              \
    {                                                                                                                      \
        size_t i = 0;                                                                                                      \
        for (; i + LANES <= n; i += LANES) v_store(y + i, ld_##T(x, i));                                                   \
        if (i < n) v_store_n(y + i, ld_##T##_n(x, i, n - i), n - i);                                                       \
    }
#define ld_q8_0_n(x, i, n) v_zero() /* rows are whole blocks */
TO_F32(f16)
TO_F32(bf16)
TO_F32(q8_0)

static void f16_from_f32(void *y, const float *x, size_t n)
{
    uint16_t *h = y;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) st_f16(h + i, v_load(x + i));
    if (i < n) st_f16_n(h + i, v_load_n(x + i, n - i), n - i);
}

static void bf16_from_f32(void *y, const float *x, size_t n)
{
    uint16_t *h = y;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) st_bf16(h + i, v_load(x + i));
    if (i < n) st_bf16_n(h + i, v_load_n(x + i, n - i), n - i);
}

/* ---- c = a b^T ---------------------------------------------------------------------------------------------------- */

/* A tile is NT_M rows of a by NT_N rows of b, or one row by LANES: LANES accumulators, which v_fold turns into LANES sums, row by
 * row.  Cache plan: rows of a that stay in L2; in them, blocks of NT_BM by NT_BN rows by NT_K of k, NT_BN short so that
 * rows a multiple of 4 KiB apart do not push each other out of L1; accumulators are parked from one piece of k to the next. */
enum { NT_N = 4, NT_M = LANES / NT_N, NT_BM = 64, NT_BN = LANES / 2, NT_K = 1024, NT_TILES = NT_BM / NT_M * (NT_BN / NT_N) };
enum { NT_A_FLOATS = 128 * 1024 };

/* nm rows of a by nn rows of b, of which m x n exist: the rows beyond repeat the last one. */
INLINE void nt_mul(vf acc[LANES], const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k, const int nm,
                   const int nn)
{
    const float *ap[LANES], *bp[LANES];
    size_t l = 0;
    UNROLL for (int i = 0; i < nm; i++) ap[i] = a + slm2_min_size((size_t)i, m - 1) * lda;
    UNROLL for (int j = 0; j < nn; j++) bp[j] = b + slm2_min_size((size_t)j, n - 1) * ldb;
    for (; l + LANES <= k; l += LANES) {
        vf av[NT_M];
        UNROLL for (int i = 0; i < nm; i++) av[i] = v_load(ap[i] + l);
        UNROLL for (int j = 0; j < nn; j++) {
            vf bv = v_load(bp[j] + l);
            UNROLL for (int i = 0; i < nm; i++) acc[i * nn + j] = v_fma(av[i], bv, acc[i * nn + j]);
        }
    }
    if (l < k) {
        vf av[NT_M];
        UNROLL for (int i = 0; i < nm; i++) av[i] = v_load_n(ap[i] + l, k - l);
        UNROLL for (int j = 0; j < nn; j++) {
            vf bv = v_load_n(bp[j] + l, k - l);
            UNROLL for (int i = 0; i < nm; i++) acc[i * nn + j] = v_fma(av[i], bv, acc[i * nn + j]);
        }
    }
}

INLINE void nt_put(float *c, size_t ldc, const vf acc[LANES], size_t m, size_t n, bool accumulate, const int nm, const int nn)
{
    float sum[LANES];
    vf s = v_fold(acc);
    if (m == (size_t)nm && n == (size_t)nn) {
        if (accumulate) {
            UNROLL for (int i = 0; i < nm; i++) memcpy(sum + i * nn, c + (size_t)i * ldc, (size_t)nn * sizeof *c);
            s = v_add(v_load(sum), s);
        }
        v_store(sum, s);
        UNROLL for (int i = 0; i < nm; i++) memcpy(c + (size_t)i * ldc, sum + i * nn, (size_t)nn * sizeof *c);
        return;
    }
    v_store(sum, s);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) c[i * ldc + j] = accumulate ? c[i * ldc + j] + sum[i * (size_t)nn + j] : sum[i * (size_t)nn + j];
}

/* m x n of c, m <= NT_BM, n <= NT_BN */
static void nt_block(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k,
                     bool accumulate)
{
    float parked[NT_TILES][LANES * LANES];
    size_t l0 = 0;
    do {
        size_t kt = slm2_min_size(NT_K, k - l0), tile = 0;
        for (size_t i = 0; i < m; i += NT_M) {
            size_t mt = slm2_min_size(NT_M, m - i);
            for (size_t j = 0; j < n; j += NT_N, tile++) {
                size_t nt = slm2_min_size(NT_N, n - j);
                vf acc[LANES];
                UNROLL for (int q = 0; q < LANES; q++) acc[q] = l0 ? v_load(parked[tile] + q * LANES) : v_zero();
                nt_mul(acc, a + i * lda + l0, lda, b + j * ldb + l0, ldb, mt, nt, kt, NT_M, NT_N);
                if (l0 + kt == k) {
                    nt_put(c + i * ldc + j, ldc, acc, mt, nt, accumulate, NT_M, NT_N);
                } else {
                    UNROLL for (int q = 0; q < LANES; q++) v_store(parked[tile] + q * LANES, acc[q]);
                }
            }
        }
        l0 += kt;
    } while (l0 < k);
}

static void gemm_nt(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k,
                    bool accumulate)
{
    size_t mb = NT_A_FLOATS / (k + 1) / NT_BM * NT_BM;
    if (mb < NT_BM) mb = NT_BM;
    if (m == 1) {
        for (size_t j = 0; j < n; j += LANES) {
            size_t nt = slm2_min_size(LANES, n - j);
            vf acc[LANES];
            UNROLL for (int q = 0; q < LANES; q++) acc[q] = v_zero();
            nt_mul(acc, a, lda, b + j * ldb, ldb, 1, nt, k, 1, LANES);
            nt_put(c + j, ldc, acc, 1, nt, accumulate, 1, LANES);
        }
        return;
    }
    for (size_t i0 = 0; i0 < m; i0 += mb) {
        size_t i1 = slm2_min_size(i0 + mb, m);
        for (size_t j = 0; j < n; j += NT_BN)
            for (size_t i = i0; i < i1; i += NT_BM)
                nt_block(c + i * ldc + j, ldc, a + i * lda, lda, b + j * ldb, ldb, slm2_min_size(NT_BM, i1 - i), slm2_min_size(NT_BN, n - j),
                         k, accumulate);
    }
}

/* ---- c = a b ------------------------------------------------------------------------------------------------------ */

/* A tile is NN_M rows of c by NN_V vectors of its columns, one fma chain an element, k ascending.  Blocks: NN_K of k; b's NN_K x
 * NN_N piece is copied next to itself for L1, since its own rows may be pages apart; so is a's when its rows run along k. */
enum { NN_M = 6, NN_N = NN_V * LANES, NN_K = 128, NN_A = 48, NN_ROWS = 192 };

INLINE vf load_edge(const float *p, int v, int nv, size_t last) { return v == nv - 1 && last ? v_load_n(p, last) : v_load(p); }
INLINE void store_edge(float *p, vf x, int v, int nv, size_t last)
{
    if (v == nv - 1 && last) v_store_n(p, x, last);
    else v_store(p, x);
}

/* nv vectors a row, the last of `last` elements (0: whole); m real rows, those beyond repeat the last: the same value twice. */
INLINE void tile_nn(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t k,
                    bool first, const int nm, const int nv, size_t last)
{
    vf acc[NN_M][NN_V];
    float *cp[NN_M];
    size_t ai[NN_M];
    UNROLL for (int i = 0; i < nm; i++) {
        size_t r = slm2_min_size((size_t)i, m - 1);
        cp[i] = c + r * ldc;
        ai[i] = r * a_m;
        UNROLL for (int v = 0; v < nv; v++) acc[i][v] = first ? v_zero() : load_edge(cp[i] + v * LANES, v, nv, last);
    }
    for (size_t l = 0; l < k; l++) {
        vf bv[NN_V];
        UNROLL for (int v = 0; v < nv; v++) bv[v] = load_edge(b + v * LANES, v, nv, last);
        UNROLL for (int i = 0; i < nm; i++) {
            vf av = v_set1(a[ai[i]]);
            UNROLL for (int v = 0; v < nv; v++) acc[i][v] = v_fma(av, bv[v], acc[i][v]);
        }
        a += a_k;
        b += ldb;
    }
    UNROLL for (int i = 0; i < nm; i++) {
        UNROLL for (int v = 0; v < nv; v++) store_edge(cp[i] + v * LANES, acc[i][v], v, nv, last);
    }
}

#define TILE_NN(nm, nv, last) tile_nn(c, ldc, a, a_m, a_k, b, ldb, m, k, first, nm, nv, last)
#define TILE_NN_CASE(nv)                                                                                                   \
    case nv:                                                                                                               \
        if (m == 1) TILE_NN(1, nv, last);                                                                                  \
        else if (last) TILE_NN(NN_M, nv, last);                                                                            \
        else TILE_NN(NN_M, nv, 0);                                                                                         \
        break

static void tile_nn_any(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t n,
                        size_t k, bool first)
{
    size_t last = n % LANES;
    switch ((n + LANES - 1) / LANES) {
        TILE_NN_CASE(1);
        TILE_NN_CASE(2);
#if NN_V > 2
        TILE_NN_CASE(3);
        TILE_NN_CASE(4);
#endif
    }
}

/* a piece of a matrix, rows of n floats set close together, n <= ld_to */
static void copy_rows(float *to, size_t ld_to, const float *from, size_t ld_from, size_t n_row, size_t n)
{
    for (size_t r = 0; r < n_row; r++, to += ld_to, from += ld_from) {
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) v_store(to + i, v_load(from + i));
        if (i < n) v_store_n(to + i, v_load_n(from + i, n - i), n - i);
    }
}

static void gemm_nn(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t n,
                    size_t k, bool accumulate)
{
    float ab[NN_K * NN_A], bb[NN_K * NN_N];
    const bool copy_a = a_m == 1 && a_k != 1 && n > NN_N && m > 1, copy_b = m > 4 * NN_M && ldb > NN_N;
    const size_t mb = copy_a ? NN_A : NN_ROWS;

    if (k == 0 && !accumulate)
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) c[i * ldc + j] = 0.0f;
    for (size_t i0 = 0; i0 < m; i0 += mb) {
        size_t mt = slm2_min_size(mb, m - i0);
        for (size_t l0 = 0; l0 < k; l0 += NN_K) {
            size_t kt = slm2_min_size(NN_K, k - l0), at_m = a_m, at_k = a_k;
            const float *at = a + i0 * a_m + l0 * a_k;
            if (copy_a) {
                copy_rows(ab, NN_A, at, a_k, kt, mt);
                at = ab;
                at_k = NN_A;
            }
            for (size_t j0 = 0; j0 < n; j0 += NN_N) {
                size_t nt = slm2_min_size(NN_N, n - j0), ldbt = ldb;
                const float *bt = b + l0 * ldb + j0;
                if (copy_b) {
                    copy_rows(bb, NN_N, bt, ldb, kt, nt);
                    bt = bb;
                    ldbt = NN_N;
                }
                for (size_t i = 0; i < mt; i += NN_M)
                    tile_nn_any(c + (i0 + i) * ldc + j0, ldc, at + i * at_m, at_m, at_k, bt, ldbt, slm2_min_size(NN_M, mt - i), nt,
                                kt, l0 == 0 && !accumulate);
            }
        }
    }
}

/* ---- one query over a cache --------------------------------------------------------------------------------------- */

/* GEMV_ROWS rows at a time: few enough pages for the processor to follow each, and head after head runs along them.  Each head asks for its like
 * in the rows that come next. */
enum { SUM_V = 8 }; /* vectors of a head that are summed at a time */

/* ELEMS elements of a row take BYTES */
#define HEADS(T, ELEMS, BYTES)                                                                                             \
    INLINE void ask_##T(const uint8_t *row, size_t row_bytes, size_t n_row, size_t at, size_t n)                           \
    {                                                                                                                      \
        const uint8_t *p = row + GEMV_ROWS * row_bytes + at / (ELEMS) * (BYTES);                                           \
        const size_t bytes = n / (ELEMS) * (BYTES);                                                                        \
        for (size_t r = 0; r < n_row; r++, p += row_bytes)                                                                 \
            for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);                                        \
    }                                                                                                                      \
    static void heads_dot_##T(float *s, size_t lds, const float *q, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row) \
    {                                                                                                                      \
        const uint8_t *base = rows;                                                                                        \
        for (size_t r0 = 0; r0 < n_row; r0 += GEMV_ROWS, base += GEMV_ROWS * row_bytes) {                                  \
            const size_t m = slm2_min_size(GEMV_ROWS, n_row - r0);                                                         \
            const uint8_t *row[GEMV_ROWS];                                                                                 \
            UNROLL for (size_t r = 0; r < GEMV_ROWS; r++) row[r] = base + slm2_min_size(r, m - 1) * row_bytes;             \
            for (size_t h = 0; h < n_head; h++) {                                                                          \
                const size_t at = (h0 + h) / group * n;                                                                    \
                const float *x = q + h * n;                                                                                \
                vf acc[LANES];                                                                                             \
                size_t i = 0;                                                                                              \
                ask_##T(base, row_bytes, m, at, n);                                                                        \
                UNROLL for (int r = 0; r < LANES; r++) acc[r] = v_zero();                                                  \
                for (; i + LANES <= n; i += LANES) {                                                                       \
                    vf xv = v_load(x + i);                                                                                 \
                    UNROLL for (int r = 0; r < GEMV_ROWS; r++) acc[r] = v_fma(xv, ld_##T(row[r], at + i), acc[r]);         \
                }                                                                                                          \
                if (i < n) {                                                                                               \
                    vf xv = v_load_n(x + i, n - i);                                                                        \
                    UNROLL for (int r = 0; r < GEMV_ROWS; r++) acc[r] = v_fma(xv, ld_##T##_n(row[r], at + i, n - i), acc[r]); \
                }                                                                                                          \
                v_store_n(s + h * lds + r0, v_fold(acc), m);                                                               \
            }                                                                                                              \
        }                                                                                                                  \
    }                                                                                                                      \
    static void heads_sum_##T(float *y, const float *p, size_t ldp, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row) \
    {                                                                                                                      \
        const uint8_t *base = rows;                                                                                        \
        for (size_t r0 = 0; r0 < n_row; r0 += GEMV_ROWS, base += GEMV_ROWS * row_bytes) {                                  \
            const size_t m = slm2_min_size(GEMV_ROWS, n_row - r0);                                                         \
            for (size_t h = 0; h < n_head; h++) {                                                                          \
                const size_t at = (h0 + h) / group * n;                                                                    \
                const float *w = p + h * ldp + r0;                                                                         \
                float *out = y + h * n;                                                                                    \
                size_t i = 0;                                                                                              \
                ask_##T(base, row_bytes, m, at, n);                                                                        \
                for (; i + SUM_V * LANES <= n; i += SUM_V * LANES) {                                                       \
                    vf acc[SUM_V];                                                                                         \
                    UNROLL for (int v = 0; v < SUM_V; v++) acc[v] = v_load(out + i + v * LANES);                           \
                    for (size_t r = 0; r < m; r++) {                                                                       \
                        vf wv = v_set1(w[r]);                                                                              \
                        UNROLL for (size_t v = 0; v < SUM_V; v++) acc[v] = v_fma(wv, ld_##T(base + r * row_bytes, at + i + v * LANES), acc[v]); \
                    }                                                                                                      \
                    UNROLL for (int v = 0; v < SUM_V; v++) v_store(out + i + v * LANES, acc[v]);                           \
                }                                                                                                          \
                for (; i + LANES <= n; i += LANES) {                                                                       \
                    vf acc = v_load(out + i);                                                                              \
                    for (size_t r = 0; r < m; r++) acc = v_fma(v_set1(w[r]), ld_##T(base + r * row_bytes, at + i), acc);   \
                    v_store(out + i, acc);                                                                                 \
                }                                                                                                          \
                if (i < n) {                                                                                               \
                    vf acc = v_load_n(out + i, n - i);                                                                     \
                    for (size_t r = 0; r < m; r++) acc = v_fma(v_set1(w[r]), ld_##T##_n(base + r * row_bytes, at + i, n - i), acc); \
                    v_store_n(out + i, acc, n - i);                                                                        \
                }                                                                                                          \
            }                                                                                                              \
        }                                                                                                                  \
    }
HEADS(f32, 1, sizeof(float))
HEADS(f16, 1, sizeof(uint16_t))
HEADS(bf16, 1, sizeof(uint16_t))
HEADS(q8_0, SLM2_QK, sizeof(struct slm2_block_q8_0))

/* ---- rows --------------------------------------------------------------------------------------------------------- */

/* for each vector of a row: BODY with loads L(p) and stores S(p, v), then once more for the last n < LANES elements */
#define FULL(p) v_load((p) + i)
#define FULL_ST(p, v) v_store((p) + i, v)
#define PART(p) v_load_n((p) + i, n - i)
#define PART_ST(p, v) v_store_n((p) + i, v, n - i)
#define EACH(BODY)                                                                                                         \
    do {                                                                                                                   \
        size_t i = 0;                                                                                                      \
        for (; i + LANES <= n; i += LANES) BODY(FULL, FULL_ST)                                                             \
        if (i < n) BODY(PART, PART_ST)                                                                                     \
    } while (0)

static void axpy(float *y, float a, const float *x, size_t n)
{
    vf av = v_set1(a);
#define BODY(L, S) { S(y, v_fma(av, L(x), L(y))); }
    EACH(BODY);
#undef BODY
}

static void scale(float *y, float a, size_t n)
{
    vf av = v_set1(a);
#define BODY(L, S) { S(y, v_mul(av, L(y))); }
    EACH(BODY);
#undef BODY
}

static void add(float *y, const float *a, const float *b, size_t n)
{
#define BODY(L, S) { S(y, v_add(L(a), L(b))); }
    EACH(BODY);
#undef BODY
}

static float max(const float *x, size_t n)
{
    float m = -INFINITY, lane[LANES];
    size_t i = 0;
    if (n >= LANES) {
        vf acc = v_load(x);
        for (i = LANES; i + LANES <= n; i += LANES) acc = v_max(v_load(x + i), acc);
        v_store(lane, acc);
        for (int j = 0; j < LANES; j++) m = lane[j] > m ? lane[j] : m;
    }
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* exp(x) for x <= 0: x = n ln 2 + r, |r| <= 0.347, Taylor's polynomial of degree 7 in r (rest under r^8/8! < 6e-9), times 2^n.
 * n LN2_HI is exact: LN2_HI has 9 bits.  NaN stays NaN; below ln 2^-126 the result is 0. */
#define LN2_HI 0.693359375f
#define LN2_LO -2.12194440e-4f
INLINE vf v_exp(vf x)
{
    const vf lo = v_set1(-87.33654f);
    vf n = v_round(v_mul(v_max(lo, x), v_set1(1.44269504f)));
    vf r = v_fma(n, v_set1(-LN2_HI), x), p = v_set1(1.0f / 5040.0f);
    r = v_fma(n, v_set1(-LN2_LO), r);
    p = v_fma(p, r, v_set1(1.0f / 720.0f));
    p = v_fma(p, r, v_set1(1.0f / 120.0f));
    p = v_fma(p, r, v_set1(1.0f / 24.0f));
    p = v_fma(p, r, v_set1(1.0f / 6.0f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_zero_below(v_scale2(p, n), x, lo);
}

static float exp_sum(float *y, const float *x, float m, size_t n)
{
    const vf mv = v_set1(m);
    vf acc = v_zero();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf e = v_exp(v_sub(v_load(x + i), mv));
        v_store(y + i, e);
        acc = v_add(acc, e);
    }
    if (i < n) {
        v_store_n(y + i, v_exp(v_sub(v_load_n(x + i, n - i), mv)), n - i);
        acc = v_add(acc, v_load_n(y + i, n - i));
    }
    return v_sum(acc);
}

static double sum_sq(const float *x, size_t n)
{
    vd lo = d_zero(), hi = d_zero();
    size_t i = 0;
    for (; i < n; i += LANES) {
        vf v = i + LANES <= n ? v_load(x + i) : v_load_n(x + i, n - i);
        vd a = v_lo(v), b = v_hi(v);
        lo = d_fma(a, a, lo);
        hi = d_fma(b, b, hi);
    }
    return d_sum(d_add(lo, hi));
}

static void moments(const float *x, size_t n, float *mean, float *var)
{
    vd lo = d_zero(), hi = d_zero();
    size_t i, whole = n / LANES * LANES;
    double s, q, mu;

    for (i = 0; i < whole; i += LANES) {
        vf v = v_load(x + i);
        lo = d_add(lo, v_lo(v));
        hi = d_add(hi, v_hi(v));
    }
    s = d_sum(d_add(lo, hi));
    for (; i < n; i++) s += (double)x[i];
    mu = n ? s / (double)n : 0.0;

    vd muv = d_set1(mu);
    lo = hi = d_zero();
    for (i = 0; i < whole; i += LANES) {
        vf v = v_load(x + i);
        vd a = d_sub(v_lo(v), muv), b = d_sub(v_hi(v), muv);
        lo = d_fma(a, a, lo);
        hi = d_fma(b, b, hi);
    }
    q = d_sum(d_add(lo, hi));
    for (; i < n; i++) q += ((double)x[i] - mu) * ((double)x[i] - mu);
    *mean = (float)mu;
    *var = n ? (float)(q / (double)n) : 0.0f;
}

/* sigmoid(g) and 1 - sigmoid(g), both without cancellation: exp only of what is not positive */
INLINE vf v_sigmoid(vf g, vf *not_s)
{
    const vf one = v_set1(1.0f);
    vf e = v_exp(v_sub(v_zero(), v_abs(g))), d = v_add(one, e), near = v_div(one, d), far = v_div(e, d);
    *not_s = v_if_ge0(g, far, near);
    return v_if_ge0(g, near, far);
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
#define BODY(L, S)                                                                                                         \
    {                                                                                                                      \
        vf g = L(gate), not_s;                                                                                             \
        S(y, v_mul(v_mul(g, v_sigmoid(g, &not_s)), L(up)));                                                                \
    }
    EACH(BODY);
#undef BODY
}

/* silu(g) = g s;  silu'(g) = s + g s (1 - s) */
static void swiglu_bwd(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n)
{
#define BODY(L, S)                                                                                                         \
    {                                                                                                                      \
        vf g = L(gate), u = L(up), d = L(dy), not_s, s = v_sigmoid(g, &not_s), gs = v_mul(g, s);                           \
        S(dgate, v_mul(v_mul(d, u), v_add(s, v_mul(gs, not_s))));                                                          \
        S(dup, v_mul(d, gs));                                                                                              \
    }
    EACH(BODY);
#undef BODY
}

static void adamw(float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2, float eps,
                  float wd, float bc1, float bc2)
{
    const vf keep = v_set1(1.0f - lr * wd), a1 = v_set1(1.0f - b1), a2 = v_set1(1.0f - b2), b1v = v_set1(b1), b2v = v_set1(b2);
    const vf clipv = v_set1(clip), lrv = v_set1(lr), epsv = v_set1(eps), bc1v = v_set1(bc1), bc2v = v_set1(bc2);
#define BODY(L, S)                                                                                                         \
    {                                                                                                                      \
        vf gc = v_mul(L(g), clipv);                                                                                        \
        vf mt = v_add(v_mul(b1v, L(m)), v_mul(a1, gc));                                                                    \
        vf vt = v_add(v_mul(b2v, L(v)), v_mul(a2, v_mul(gc, gc)));                                                         \
        vf step = v_div(v_div(mt, bc1v), v_add(v_sqrt(v_div(vt, bc2v)), epsv));                                            \
        S(m, mt);                                                                                                          \
        S(v, vt);                                                                                                          \
        S(p, v_sub(v_mul(L(p), keep), v_mul(lrv, step)));                                                                  \
    }
    EACH(BODY);
#undef BODY
}

static void rmsprop(float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps)
{
    const vf a = v_set1(1.0f - alpha), av = v_set1(alpha), clipv = v_set1(clip), lrv = v_set1(lr), epsv = v_set1(eps);
#define BODY(L, S)                                                                                                         \
    {                                                                                                                      \
        vf gc = v_mul(L(g), clipv);                                                                                        \
        vf vt = v_add(v_mul(av, L(v)), v_mul(a, v_mul(gc, gc)));                                                           \
        S(v, vt);                                                                                                          \
        S(p, v_sub(L(p), v_mul(lrv, v_div(gc, v_add(v_sqrt(vt), epsv)))));                                                 \
    }
    EACH(BODY);
#undef BODY
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

static void fill_simd(struct slm2_kernels *k, const char *name)
{
    k->name = name;
    snprintf(k->variant, sizeof k->variant, "%s", name);
    k->dot = dot;
#define PER_TYPE(t, T)                                                                                                     \
    k->dot_w[t] = dot_##T;                                                                                                 \
    k->gemv_w[t] = gemv_##T;
    PER_TYPE(SLM2_F32, f32)
    PER_TYPE(SLM2_F16, f16)
    PER_TYPE(SLM2_BF16, bf16)
#undef PER_TYPE
#define PER_TYPE(t, T)                                                                                                     \
    k->heads_dot[t] = heads_dot_##T;                                                                                       \
    k->heads_sum[t] = heads_sum_##T;
    PER_TYPE(SLM2_F32, f32)
    PER_TYPE(SLM2_F16, f16)
    PER_TYPE(SLM2_BF16, bf16)
    PER_TYPE(SLM2_Q8_0, q8_0)
    k->to_f32[SLM2_Q8_0] = q8_0_to_f32;
    k->to_f32[SLM2_F16] = f16_to_f32;
    k->to_f32[SLM2_BF16] = bf16_to_f32;
    k->from_f32[SLM2_F16] = f16_from_f32;
    k->from_f32[SLM2_BF16] = bf16_from_f32;
    k->product[SLM2_BF16] = NULL; /* widened: the fp32 kernels are faster than the scalar product */
    k->gemm_nt = gemm_nt;
    k->gemm_nn = gemm_nn;
    k->axpy = axpy;
    k->scale = scale;
    k->add = add;
    k->max = max;
    k->exp_sum = exp_sum;
    k->sum_sq = sum_sq;
    k->moments = moments;
    k->swiglu = swiglu;
    k->swiglu_bwd = swiglu_bwd;
    k->adamw = adamw;
    k->rmsprop = rmsprop;
}
