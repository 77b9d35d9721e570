/* kernels_scalar.c - every kernel in plain C: complete, portable, and what the others are checked against.
 *
 * Sums run in 4 lanes, element i in lane i mod 4, added as (0 + 2) + (1 + 3); products are rounded before they are added. */
#include "base/num.h"
#include "kernels/kernels.h"

#include <math.h>

enum { LANES = 4 };

static float fold(const float s[LANES]) { return (s[0] + s[2]) + (s[1] + s[3]); }

static float dot(const float *x, const float *y, size_t n)
{
    float s[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) s[j] += x[i + j] * y[i + j];
    for (size_t j = 0; i + j < n; j++) s[j] += x[i + j] * y[i + j];
    return fold(s);
}

/* ---- element types ------------------------------------------------------------------------------------------------ */

static void f32_to_f32(float *y, const void *x, size_t n)
{
    if (n) memmove(y, x, n * sizeof *y);
}

static void f16_to_f32(float *y, const void *x, size_t n)
{
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i++) y[i] = slm2_f16_to_f32(h[i]);
}

static void bf16_to_f32(float *y, const void *x, size_t n)
{
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i++) y[i] = slm2_bf16_to_f32(h[i]);
}

static void f32_from_f32(void *y, const float *x, size_t n)
{
    if (n) memmove(y, x, n * sizeof *x);
}

static void f16_from_f32(void *y, const float *x, size_t n)
{
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) h[i] = slm2_f32_to_f16(x[i]);
}

static void bf16_from_f32(void *y, const float *x, size_t n)
{
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) h[i] = slm2_f32_to_bf16(x[i]);
}

static void q8_0_from_f32(void *y, const float *x, size_t n)
{
    struct slm2_block_q8_0 *b = y;
    for (size_t i = 0; i < n; i += SLM2_QK, b++) {
        float largest = 0;
        bool finite = true;
        for (size_t j = 0; j < SLM2_QK; j++) {
            largest = fmaxf(largest, fabsf(x[i + j]));
            finite = finite && isfinite(x[i + j]);
        }
        b->d = slm2_f32_to_f16(finite ? largest / 127.0f : NAN);
        float by = finite && b->d ? 127.0f / largest : 0.0f; /* a scale that rounds to 0 loses the block */
        for (size_t j = 0; j < SLM2_QK; j++) b->q[j] = finite ? (int8_t)nearbyintf(x[i + j] * by) : 0;
    }
}

/* ---- products with rows of plain types ---------------------------------------------------------------------------- */

/* Widens PIECE elements at a time; lanes go on from piece to piece because PIECE is a multiple of LANES. */
enum { PIECE = 256 };

static float dot_packed(const float *x, const void *w, size_t n, enum slm2_dtype t, void (*unpack)(float *, const void *, size_t))
{
    float s[LANES] = {0}, u[PIECE];
    const uint8_t *p = w;
    for (size_t i = 0; i < n; i += PIECE) {
        size_t m = slm2_min_size(PIECE, n - i), j = 0;
        unpack(u, p + slm2_dtype_bytes(t, i), m);
        for (; j + LANES <= m; j += LANES)
            for (size_t l = 0; l < LANES; l++) s[l] += x[i + j + l] * u[j + l];
        for (size_t l = 0; j + l < m; l++) s[l] += x[i + j + l] * u[j + l];
    }
    return fold(s);
}

#define DOT_W(name, type)                                                                                                   \
    static float dot_##name(const float *x, const void *w, size_t n) { return dot_packed(x, w, n, type, name##_to_f32); }   \
    static void gemv_##name(float *y, const float *x, const void *w, size_t row_bytes, size_t n_out, size_t n)              \
    {                                                                                                                       \
        for (size_t o = 0; o < n_out; o++) y[o] = dot_##name(x, (const uint8_t *)w + o * row_bytes, n);                     \
    }
DOT_W(f32, SLM2_F32)
DOT_W(f16, SLM2_F16)
DOT_W(bf16, SLM2_BF16)

/* ---- weights in blocks ---------------------------------------------------------------------------------------------- */

/* 32 elements of a row of any block type: x[i] = d[i / 16] * q[i] + m.  Zero points are taken off; d[0] = d[1] but in Q6_K; m is 0 in types without
 * a minimum.  A panel of a product is nothing but these. */
struct codes {
    int8_t q[SLM2_QK];
    float d[2], m;
};
/* b: which 32 elements of the row */
typedef void unpack_fn(struct codes *c, const void *row, size_t b);

static void unpack_q8_0(struct codes *c, const void *row, size_t b)
{
    const struct slm2_block_q8_0 *w = (const struct slm2_block_q8_0 *)row + b;
    memcpy(c->q, w->q, sizeof c->q);
    c->d[0] = c->d[1] = slm2_f16_to_f32(w->d);
    c->m = 0.0f;
}

static void unpack_q4_0(struct codes *c, const void *row, size_t b)
{
    const struct slm2_block_q4_0 *w = (const struct slm2_block_q4_0 *)row + b;
    for (int i = 0; i < SLM2_QK / 2; i++) {
        c->q[i] = (int8_t)((w->q[i] & 15) - 8);
        c->q[i + SLM2_QK / 2] = (int8_t)((w->q[i] >> 4) - 8);
    }
    c->d[0] = c->d[1] = slm2_f16_to_f32(w->d);
    c->m = 0.0f;
}

static void unpack_q4_1(struct codes *c, const void *row, size_t b)
{
    const struct slm2_block_q4_1 *w = (const struct slm2_block_q4_1 *)row + b;
    for (int i = 0; i < SLM2_QK / 2; i++) {
        c->q[i] = (int8_t)(w->q[i] & 15);
        c->q[i + SLM2_QK / 2] = (int8_t)(w->q[i] >> 4);
    }
    c->d[0] = c->d[1] = slm2_f16_to_f32(w->d);
    c->m = slm2_f16_to_f32(w->m);
}

/* Scale and minimum of group g of 8 in Q4_K and Q5_K: 6 bits each.  Both products are exact in fp32: 11 bits by 6. */
static void k_scales(struct codes *c, const uint8_t s[12], int g, uint16_t d, uint16_t dmin)
{
    int scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    int min = g < 4 ? s[g + 4] & 63 : (s[g + 4] >> 4) | (s[g] >> 6) << 4;
    c->d[0] = c->d[1] = slm2_f16_to_f32(d) * (float)scale;
    c->m = -(slm2_f16_to_f32(dmin) * (float)min);
}

enum { GROUPS = SLM2_QKK / SLM2_QK }; /* of 32 elements in a block of 256 */

static void unpack_q4_k(struct codes *c, const void *row, size_t b)
{
    const struct slm2_block_q4_k *w = (const struct slm2_block_q4_k *)row + b / GROUPS;
    int g = (int)(b % GROUPS), shift = g % 2 * 4;
    for (int i = 0; i < SLM2_QK; i++) c->q[i] = (int8_t)(w->q[g / 2 * SLM2_QK + i] >> shift & 15);
    k_scales(c, w->scales, g, w->d, w->dmin);
}

static void unpack_q5_k(struct codes *c, const void *row, size_t b)
{
    const struct slm2_block_q5_k *w = (const struct slm2_block_q5_k *)row + b / GROUPS;
    int g = (int)(b % GROUPS), shift = g % 2 * 4;
    for (int i = 0; i < SLM2_QK; i++) c->q[i] = (int8_t)((w->q[g / 2 * SLM2_QK + i] >> shift & 15) | (w->high[i] >> g & 1) << 4);
    k_scales(c, w->scales, g, w->d, w->dmin);
}

static void unpack_q6_k(struct codes *c, const void *row, size_t b)
{
    const struct slm2_block_q6_k *w = (const struct slm2_block_q6_k *)row + b / GROUPS;
    int g = (int)(b % GROUPS), half = g / 4, j = g % 4;
    const uint8_t *low = w->low + 64 * half + 32 * (j & 1), *high = w->high + 32 * half;
    for (int i = 0; i < SLM2_QK; i++) c->q[i] = (int8_t)((low[i] >> (j < 2 ? 0 : 4) & 15) + 16 * (high[i] >> 2 * j & 3) - 32);
    for (int i = 0; i < 2; i++) c->d[i] = slm2_f16_to_f32(w->d) * (float)w->scales[2 * g + i];
    c->m = 0.0f;
}

/* d q is exact, so that adding m rounds once: fused or not, the bits are the same */
static void blocks_to_f32(float *y, const void *x, size_t n, unpack_fn *unpack, bool minimum)
{
    struct codes c;
    for (size_t i = 0; i < n; i += SLM2_QK) {
        unpack(&c, x, i / SLM2_QK);
        for (size_t j = 0; j < SLM2_QK; j++) {
            float v = c.d[j / 16] * (float)c.q[j];
            y[i + j] = minimum ? v + c.m : v;
        }
    }
}

/* ---- activations in blocks, products with weights in blocks ------------------------------------------------------------- */

static size_t x8_bytes(size_t n_row, size_t n) { return n_row * (n / SLM2_QK) * sizeof(struct slm2_block_x8); }

static void x8_pack_block(struct slm2_block_x8 *b, const float *x)
{
    float largest = 0.0f, d;
    bool finite = true;
    for (int i = 0; i < SLM2_QK; i++) {
        finite = finite && isfinite(x[i]);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    *b = (struct slm2_block_x8){.d = NAN}; /* NaN and infinity go on as NaN, in every output of the row */
    if (!finite) return;
    b->d = d = largest / 127.0f;
    if (d == 0.0f) return;
    for (int i = 0; i < SLM2_QK; i++) {
        float q = fminf(127.0f, fmaxf(-127.0f, nearbyintf(x[i] / d))); /* beyond only where d is denormal, and so not exact */
        b->q[i] = (int8_t)q;
        b->sum[i / 16] = (int16_t)(b->sum[i / 16] + b->q[i]);
    }
}

static void x8_pack(void *to, size_t n_row, size_t r, const float *x, size_t n)
{
    struct slm2_block_x8 *b = (struct slm2_block_x8 *)to + r;
    for (size_t i = 0; i < n; i += SLM2_QK, b += n_row) x8_pack_block(b, x + i);
}

static int dot_16(const int8_t *a, const int8_t *b)
{
    int s = 0;
    for (int i = 0; i < 16; i++) s += a[i] * b[i];
    return s;
}

/* One block of an output's chain, as kernels.h has it.  two_scales: Q6_K. */
static float add_block(float acc, const struct codes *w, const struct slm2_block_x8 *x, bool two_scales, bool minimum)
{
    int s0 = dot_16(w->q, x->q), s1 = dot_16(w->q + 16, x->q + 16);
    if (two_scales) {
        acc += (float)s0 * (w->d[0] * x->d);
        acc += (float)s1 * (w->d[1] * x->d);
    } else {
        acc += (float)(s0 + s1) * (w->d[0] * x->d);
    }
    if (minimum) acc += (float)(x->sum[0] + x->sum[1]) * x->d * w->m;
    return acc;
}

static size_t codes_bytes(size_t n_out, size_t n) { return n_out * (n / SLM2_QK) * sizeof(struct codes); }

static void codes_pack(void *panel, const void *w, size_t row_bytes, size_t n_out, size_t n, unpack_fn *unpack)
{
    struct codes *c = panel;
    for (size_t o = 0; o < n_out; o++)
        for (size_t b = 0; b < n / SLM2_QK; b++) unpack(c++, (const uint8_t *)w + o * row_bytes, b);
}

static void codes_mul(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, size_t m, const struct codes *w, size_t n_out, size_t n,
                      bool two_scales, bool minimum)
{
    size_t n_block = n / SLM2_QK;
    for (size_t o = 0; o < n_out; o++, w += n_block) {
        for (size_t i = 0; i < m; i++) {
            float acc = 0.0f;
            for (size_t b = 0; b < n_block; b++) acc = add_block(acc, w + b, x + b * n_row + i, two_scales, minimum);
            y[i * ldy + o] = acc;
        }
    }
}

static void codes_few(float *y, size_t ldy, const struct slm2_block_x8 *x, size_t n_row, const void *w, size_t row_bytes, size_t n_out, size_t n,
                      unpack_fn *unpack, bool two_scales, bool minimum)
{
    for (size_t o = 0; o < n_out; o++) {
        float acc[SLM2_FEW] = {0};
        for (size_t b = 0; b < n / SLM2_QK; b++) {
            struct codes c;
            unpack(&c, (const uint8_t *)w + o * row_bytes, b);
            for (size_t i = 0; i < n_row; i++) acc[i] = add_block(acc[i], &c, x + b * n_row + i, two_scales, minimum);
        }
        for (size_t i = 0; i < n_row; i++) y[i * ldy + o] = acc[i];
    }
}

#define BLOCK_TYPE(name, two_scales, minimum)                                                                                                 \
    static void name##_to_f32(float *y, const void *x, size_t n) { blocks_to_f32(y, x, n, unpack_##name, minimum); }                          \
    static void name##_w_pack(void *panel, const void *w, size_t row_bytes, size_t n_out, size_t n)                                           \
    {                                                                                                                                         \
        codes_pack(panel, w, row_bytes, n_out, n, unpack_##name);                                                                             \
    }                                                                                                                                         \
    static void name##_mul(float *y, size_t ldy, const void *x, size_t n_row, size_t r0, size_t m, const void *panel, size_t n_out, size_t n) \
    {                                                                                                                                         \
        codes_mul(y, ldy, (const struct slm2_block_x8 *)x + r0, n_row, m, panel, n_out, n, two_scales, minimum);                              \
    }                                                                                                                                         \
    static void name##_few(float *y, size_t ldy, const void *x, size_t n_row, const void *w, size_t row_bytes, size_t n_out, size_t n)        \
    {                                                                                                                                         \
        codes_few(y, ldy, x, n_row, w, row_bytes, n_out, n, unpack_##name, two_scales, minimum);                                              \
    }                                                                                                                                         \
    static const struct slm2_product name##_product = {x8_bytes, x8_pack, codes_bytes, name##_w_pack, name##_mul, name##_few};
BLOCK_TYPE(q8_0, false, false)
BLOCK_TYPE(q4_0, false, false)
BLOCK_TYPE(q4_1, false, true)
BLOCK_TYPE(q4_k, false, true)
BLOCK_TYPE(q5_k, false, true)
BLOCK_TYPE(q6_k, true, false)

/* ---- one query over a cache ---------------------------------------------------------------------------------------- */

static float dot_q8_0(const float *x, const void *w, size_t n) { return dot_packed(x, w, n, SLM2_Q8_0, q8_0_to_f32); }

static void heads_dot(float *s, size_t lds, const float *q, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row,
                      float (*dot_of)(const float *, const void *, size_t), enum slm2_dtype t)
{
    const uint8_t *row = rows;
    for (size_t r = 0; r < n_row; r++, row += row_bytes)
        for (size_t h = 0; h < n_head; h++) s[h * lds + r] = dot_of(q + h * n, row + slm2_dtype_bytes(t, (h0 + h) / group * n), n);
}

static void heads_sum(float *y, const float *p, size_t ldp, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row,
                      void (*unpack)(float *, const void *, size_t), enum slm2_dtype t)
{
    float u[PIECE];
    const uint8_t *row = rows;
    for (size_t r = 0; r < n_row; r++, row += row_bytes) {
        for (size_t h = 0; h < n_head; h++) {
            for (size_t i = 0; i < n; i += PIECE) {
                size_t m = slm2_min_size(PIECE, n - i);
                unpack(u, row + slm2_dtype_bytes(t, (h0 + h) / group * n + i), m);
                for (size_t j = 0; j < m; j++) y[h * n + i + j] += p[h * ldp + r] * u[j];
            }
        }
    }
}

#define HEADS(name, type)                                                                                                                                    \
    static void heads_dot_##name(float *s, size_t lds, const float *q, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row) \
    {                                                                                                                                                        \
        heads_dot(s, lds, q, h0, n_head, group, n, rows, row_bytes, n_row, dot_##name, type);                                                                \
    }                                                                                                                                                        \
    static void heads_sum_##name(float *y, const float *p, size_t ldp, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row) \
    {                                                                                                                                                        \
        heads_sum(y, p, ldp, h0, n_head, group, n, rows, row_bytes, n_row, name##_to_f32, type);                                                             \
    }
HEADS(f32, SLM2_F32)
HEADS(f16, SLM2_F16)
HEADS(bf16, SLM2_BF16)
HEADS(q8_0, SLM2_Q8_0)

/* ---- products of bf16 ----------------------------------------------------------------------------------------------------- */

/* Packed activations and panels are rows of bf16, one after the other. */
static size_t bf16_bytes(size_t n_row, size_t n) { return n_row * n * sizeof(uint16_t); }

static void bf16_x_pack(void *to, size_t n_row, size_t r, const float *x, size_t n)
{
    (void)n_row;
    bf16_from_f32((uint16_t *)to + r * n, x, n);
}

static void bf16_w_pack(void *panel, const void *w, size_t row_bytes, size_t n_out, size_t n)
{
    for (size_t o = 0; o < n_out && n; o++) memcpy((uint16_t *)panel + o * n, (const uint8_t *)w + o * row_bytes, n * sizeof(uint16_t));
}

/* products of two bf16 are exact in fp32 */
static float bf16_dot(const uint16_t *x, const uint16_t *w, size_t n)
{
    float acc = 0.0f;
    size_t i = 0;
    for (; i + 2 <= n; i += 2)
        acc += slm2_bf16_to_f32(x[i]) * slm2_bf16_to_f32(w[i]) + slm2_bf16_to_f32(x[i + 1]) * slm2_bf16_to_f32(w[i + 1]);
    return i < n ? acc + slm2_bf16_to_f32(x[i]) * slm2_bf16_to_f32(w[i]) : acc;
}

static void bf16_few(float *y, size_t ldy, const void *x, size_t n_row, const void *w, size_t row_bytes, size_t n_out, size_t n)
{
    for (size_t o = 0; o < n_out; o++)
        for (size_t i = 0; i < n_row; i++) y[i * ldy + o] = bf16_dot((const uint16_t *)x + i * n, (const void *)((const uint8_t *)w + o * row_bytes), n);
}

static void bf16_mul(float *y, size_t ldy, const void *x, size_t n_row, size_t r0, size_t m, const void *panel, size_t n_out, size_t n)
{
    (void)n_row;
    bf16_few(y, ldy, (const uint16_t *)x + r0 * n, m, panel, n * sizeof(uint16_t), n_out, n);
}

static const struct slm2_product bf16_product = {bf16_bytes, bf16_x_pack, bf16_bytes, bf16_w_pack, bf16_mul, bf16_few};

/* ---- matrices ----------------------------------------------------------------------------------------------------- */

static void gemm_nt(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k,
                    bool accumulate)
{
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < m; i++) {
            float s = dot(a + i * lda, b + j * ldb, k);
            c[i * ldc + j] = accumulate ? c[i * ldc + j] + s : s;
        }
    }
}

static void gemm_nn(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t n,
                    size_t k, bool accumulate)
{
    for (size_t i = 0; i < m; i++) {
        float *row = c + i * ldc;
        if (!accumulate)
            for (size_t j = 0; j < n; j++) row[j] = 0.0f;
        for (size_t l = 0; l < k; l++) {
            float s = a[i * a_m + l * a_k];
            for (size_t j = 0; j < n; j++) row[j] += s * b[l * ldb + j];
        }
    }
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void scale(float *y, float a, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] *= a;
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static float max(const float *x, size_t n)
{
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static float exp_sum(float *y, const float *x, float m, size_t n)
{
    float s[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - m);
        s[i % LANES] += y[i];
    }
    return fold(s);
}

static double sum_sq(const float *x, size_t n)
{
    double s[LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % LANES] += (double)x[i] * (double)x[i];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static void moments(const float *x, size_t n, float *mean, float *var)
{
    double s[LANES] = {0}, q[LANES] = {0}, mu;
    for (size_t i = 0; i < n; i++) s[i % LANES] += (double)x[i];
    mu = n ? ((s[0] + s[2]) + (s[1] + s[3])) / (double)n : 0.0;
    for (size_t i = 0; i < n; i++) q[i % LANES] += ((double)x[i] - mu) * ((double)x[i] - mu);
    *mean = (float)mu;
    *var = n ? (float)(((q[0] + q[2]) + (q[1] + q[3])) / (double)n) : 0.0f;
}

/* sigmoid(g) and 1 - sigmoid(g), both without cancellation: exp only of what is not positive */
static void sigmoid(float g, float *s, float *not_s)
{
    float e = expf(-fabsf(g)), near = 1.0f / (1.0f + e), far = e / (1.0f + e);
    *s = g >= 0.0f ? near : far;
    *not_s = g >= 0.0f ? far : near;
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s, not_s;
        sigmoid(gate[i], &s, &not_s);
        y[i] = gate[i] * s * up[i];
    }
}

/* silu(g) = g s;  silu'(g) = s + g s (1 - s) */
static void swiglu_bwd(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dy[i], s, not_s;
        sigmoid(g, &s, &not_s);
        dgate[i] = d * u * (s + g * s * not_s);
        dup[i] = d * (g * s);
    }
}

static void adamw(float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2, float eps,
                  float wd, float bc1, float bc2)
{
    float keep = 1.0f - lr * wd, a1 = 1.0f - b1, a2 = 1.0f - b2;
    for (size_t i = 0; i < n; i++) {
        float gc = g[i] * clip;
        m[i] = b1 * m[i] + a1 * gc;
        v[i] = b2 * v[i] + a2 * (gc * gc);
        p[i] = p[i] * keep - lr * ((m[i] / bc1) / (sqrtf(v[i] / bc2) + eps));
    }
}

static void rmsprop(float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps)
{
    float a = 1.0f - alpha;
    for (size_t i = 0; i < n; i++) {
        float gc = g[i] * clip;
        v[i] = alpha * v[i] + a * (gc * gc);
        p[i] = p[i] - lr * (gc / (sqrtf(v[i]) + eps));
    }
}

void slm2_kernels_fill_scalar(struct slm2_kernels *k)
{
    *k = (struct slm2_kernels){
        .name = "scalar",
        .variant = "scalar",
        .dot = dot,
        .dot_w = {[SLM2_F32] = dot_f32, [SLM2_F16] = dot_f16, [SLM2_BF16] = dot_bf16},
        .gemv_w = {[SLM2_F32] = gemv_f32, [SLM2_F16] = gemv_f16, [SLM2_BF16] = gemv_bf16},
        .heads_dot = {[SLM2_F32] = heads_dot_f32, [SLM2_F16] = heads_dot_f16, [SLM2_BF16] = heads_dot_bf16, [SLM2_Q8_0] = heads_dot_q8_0},
        .heads_sum = {[SLM2_F32] = heads_sum_f32, [SLM2_F16] = heads_sum_f16, [SLM2_BF16] = heads_sum_bf16, [SLM2_Q8_0] = heads_sum_q8_0},
        .product = {[SLM2_BF16] = &bf16_product, [SLM2_Q8_0] = &q8_0_product, [SLM2_Q4_0] = &q4_0_product, [SLM2_Q4_1] = &q4_1_product,
                    [SLM2_Q4_K] = &q4_k_product, [SLM2_Q5_K] = &q5_k_product, [SLM2_Q6_K] = &q6_k_product},
        .gemm_nt = gemm_nt,
        .gemm_nn = gemm_nn,
        .to_f32 = {[SLM2_F32] = f32_to_f32, [SLM2_F16] = f16_to_f32, [SLM2_BF16] = bf16_to_f32, [SLM2_Q8_0] = q8_0_to_f32,
                   [SLM2_Q4_0] = q4_0_to_f32, [SLM2_Q4_1] = q4_1_to_f32, [SLM2_Q4_K] = q4_k_to_f32, [SLM2_Q5_K] = q5_k_to_f32,
                   [SLM2_Q6_K] = q6_k_to_f32},
        .from_f32 = {[SLM2_F32] = f32_from_f32, [SLM2_F16] = f16_from_f32, [SLM2_BF16] = bf16_from_f32, [SLM2_Q8_0] = q8_0_from_f32},
        .axpy = axpy,
        .scale = scale,
        .add = add,
        .max = max,
        .exp_sum = exp_sum,
        .sum_sq = sum_sq,
        .moments = moments,
        .swiglu = swiglu,
        .swiglu_bwd = swiglu_bwd,
        .adamw = adamw,
        .rmsprop = rmsprop,
    };
}
