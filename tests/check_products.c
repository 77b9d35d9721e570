/* check_products.c - the products of weights in blocks and in bf16 (struct slm2_product) of every instruction set that this machine has, against double.
 *
 * check_products [--seed N]     SLM2_ISA=scalar|avx2|avx512|neon restricts it to one set
 *
 * Whole numbers and scales that are powers of two come first: nothing is rounded, so results must be equal bit for bit to sums of the widened
 * weights.  Then random numbers, within a bound that follows from the roundings of the chain.  few() and mul() must agree in every bit, wherever a
 * panel or a batch is cut.  Every array ends at a page that may not be touched and begins after a band that must not change. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "kernels/kernels.h"
#include "ops/ops.h"
#include "quant/quant.h"

static const struct slm2_kernels *K, *S; /* under test; scalar */
static uint64_t seed = 1;
static int n_bad; /* of the running check */

static void bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void bad(const char *fmt, ...)
{
    va_list ap;
    if (n_bad++ >= 3) return;
    printf("    ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* ---- arrays that end at a forbidden page ------------------------------------------------------------------------------ */
enum { SLOT_X, SLOT_PACKED, SLOT_W, SLOT_PANEL, SLOT_Y, SLOT_Y2, N_SLOT, SLOT_BYTES = 1 << 22, GUARD = 1 << 16, BAND = 64 };
static uint8_t *slot_end[N_SLOT], *slot_at[N_SLOT];

static void slots_init(void)
{
    for (int s = 0; s < N_SLOT; s++) {
        uint8_t *p = mmap(NULL, SLOT_BYTES + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + SLOT_BYTES, GUARD, PROT_NONE) != 0) abort();
        slot_end[s] = p + SLOT_BYTES;
    }
}

/* Bytes of slot s up to the forbidden page, or up to a multiple of `align` before it; filled with 0xff (NaN), the bands around them too. */
static void *slot_aligned(int s, size_t bytes, size_t align)
{
    if (bytes + BAND + align > SLOT_BYTES) abort();
    uint8_t *p = slot_end[s] - slm2_align_up(bytes, align);
    memset(p - BAND, 0xff, (size_t)(slot_end[s] - p) + BAND);
    return slot_at[s] = p;
}
static void *slot(int s, size_t bytes) { return slot_aligned(s, bytes, 1); }

/* The band before the slot, and what alignment left behind it. */
static void bands(int s, size_t bytes, const char *what)
{
    for (const uint8_t *p = slot_at[s] - BAND; p < slot_at[s]; p++)
        if (*p != 0xff) bad("%s: written before its beginning", what);
    for (const uint8_t *p = slot_at[s] + bytes; p < slot_end[s]; p++)
        if (*p != 0xff) bad("%s: written beyond its end", what);
}

/* ---- inputs --------------------------------------------------------------------------------------------------------------- */
static uint32_t draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}
static uint32_t below(uint32_t n) { return (uint32_t)((uint64_t)draw() * n >> 32); }
static float unit(void) { return (float)(int32_t)draw() * 0x1p-31f; }

enum kind { WHOLE, REAL };
static const enum slm2_dtype types[] = {SLM2_Q8_0, SLM2_Q4_0, SLM2_Q4_1, SLM2_Q4_K, SLM2_Q5_K, SLM2_Q6_K, SLM2_BF16};
enum { N_TYPE = sizeof types / sizeof *types };

/* One block of type t at p: any bytes, but scales are 1, 2 or small whole numbers, or finite. */
static void put_block(uint8_t *p, enum slm2_dtype t, enum kind kind)
{
    size_t bytes = slm2_dtype_info[t].block_bytes;
    union {
        struct slm2_block_q8_0 q8_0;
        struct slm2_block_q4_0 q4_0;
        struct slm2_block_q4_1 q4_1;
        struct slm2_block_q4_k q4_k;
        struct slm2_block_q5_k q5_k;
        struct slm2_block_q6_k q6_k;
        uint16_t bf16;
        uint8_t bytes[256];
    } b;
    uint16_t d = slm2_f32_to_f16(kind == WHOLE ? 1.0f + (float)below(2) : unit()), m = slm2_f32_to_f16(kind == WHOLE ? (float)below(5) - 2.0f : unit());
    for (size_t i = 0; i < bytes; i++) b.bytes[i] = (uint8_t)(draw() >> 24);
    if (t == SLM2_Q8_0) b.q8_0.d = d;
    else if (t == SLM2_Q4_0) b.q4_0.d = d;
    else if (t == SLM2_Q4_1) b.q4_1.d = d, b.q4_1.m = m;
    else if (t == SLM2_Q4_K) b.q4_k.d = d, b.q4_k.dmin = m;
    else if (t == SLM2_Q5_K) b.q5_k.d = d, b.q5_k.dmin = m;
    else if (t == SLM2_Q6_K) {
        b.q6_k.d = d;
        for (int i = 0; i < 16 && kind == WHOLE; i++) b.q6_k.scales[i] = (int8_t)(below(9) - 4);
    } else b.bf16 = slm2_f32_to_bf16(kind == WHOLE ? (float)below(33) - 16.0f : unit());
    memcpy(p, &b, bytes);
}

/* An activation row.  WHOLE: in blocks of 32 with 127 times a power of two as the largest, so that the codes are the numbers themselves. */
static void put_x(float *x, enum slm2_dtype t, size_t n, enum kind kind)
{
    for (size_t i = 0; i < n; i += SLM2_QK) {
        float scale = kind == WHOLE ? (float)(1 << below(2)) : 1.0f;
        for (size_t j = i; j < i + SLM2_QK && j < n; j++) x[j] = kind == REAL ? unit() : t == SLM2_BF16 ? (float)below(17) - 8.0f : scale * ((float)below(31) - 15.0f);
        if (kind == WHOLE && t != SLM2_BF16) x[i + below(SLM2_QK)] = (below(2) ? 127.0f : -127.0f) * scale;
    }
}

/* One product: n_row rows of x, n_out rows of w that lie `gap` bytes further apart than they are long. */
struct problem {
    enum slm2_dtype t;
    const struct slm2_product *p;
    size_t n_row, n_out, n, row_bytes, x_bytes, panel_bytes;
    float *x;
    uint8_t *w;
    void *packed, *panel;
};

static struct problem problem_new(enum slm2_dtype t, size_t n_row, size_t n_out, size_t n, size_t gap, enum kind kind)
{
    const struct slm2_product *p = K->product[t];
    size_t block = slm2_dtype_info[t].block_elems, bytes = slm2_dtype_info[t].block_bytes, row = slm2_dtype_bytes(t, n);
    struct problem q = {.t = t, .p = p, .n_row = n_row, .n_out = n_out, .n = n, .row_bytes = row + gap, .x_bytes = p->x_bytes(n_row, n), .panel_bytes = p->w_bytes(n_out, n)};
    q.x = slot(SLOT_X, n_row * n * sizeof *q.x);
    q.w = slot(SLOT_W, (n_out - 1) * q.row_bytes + row);
    for (size_t r = 0; r < n_row; r++) put_x(q.x + r * n, t, n, kind);
    for (size_t o = 0; o < n_out; o++)
        for (size_t b = 0; b < n / block; b++) put_block(q.w + o * q.row_bytes + b * bytes, t, kind);
    q.packed = slot_aligned(SLOT_PACKED, q.x_bytes, 4);
    q.panel = slot_aligned(SLOT_PANEL, q.panel_bytes, 64);
    return q;
}

/* After the weights or x were changed, too. */
static void pack(const struct problem *q)
{
    for (size_t r = q->n_row; r-- > 0;) q->p->x_pack(q->packed, q->n_row, r, q->x + r * q->n, q->n);
    q->p->w_pack(q->panel, q->w, q->row_bytes, q->n_out, q->n);
    bands(SLOT_PACKED, q->x_bytes, "x_pack");
    bands(SLOT_PANEL, q->panel_bytes, "w_pack");
}

static float *product_mul(const struct problem *q, size_t ldy)
{
    size_t bytes = ((q->n_row - 1) * ldy + q->n_out) * sizeof(float);
    float *y = slot(SLOT_Y, bytes);
    q->p->mul(y, ldy, q->packed, q->n_row, 0, q->n_row, q->panel, q->n_out, q->n);
    bands(SLOT_Y, bytes, "mul");
    return y;
}

static float *product_few(const struct problem *q, size_t ldy)
{
    size_t bytes = ((q->n_row - 1) * ldy + q->n_out) * sizeof(float);
    float *y = slot(SLOT_Y2, bytes);
    q->p->few(y, ldy, q->packed, q->n_row, q->w, q->row_bytes, q->n_out, q->n);
    bands(SLOT_Y2, bytes, "few");
    return y;
}

static bool same(float a, float b) { return memcmp(&a, &b, 4) == 0 || (isnan(a) && isnan(b)); }

/* Activation i of row r after packing, by the definition, which check_x_pack holds the tables to. */
static void rounded_x(const struct problem *q, size_t r, double *v)
{
    static struct slm2_block_x8 b[16];
    if (q->t == SLM2_BF16) {
        for (size_t i = 0; i < q->n; i++) v[i] = (double)slm2_bf16_to_f32(slm2_f32_to_bf16(q->x[r * q->n + i]));
        return;
    }
    S->product[SLM2_Q8_0]->x_pack(b, 1, 0, q->x + r * q->n, q->n);
    for (size_t i = 0; i < q->n; i++) v[i] = (double)b[i / SLM2_QK].d * b[i / SLM2_QK].q[i % SLM2_QK];
}

/* ---- checks ---------------------------------------------------------------------------------------------------------------- */
static const size_t rows_tried[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 23, 31, 33, 48, 63, 64, 65, 70};
static const size_t outs_tried[] = {1, 3, 7, 15, 16, 17, 31, 32, 33, 49, 63, 64, 65, 69, 70};
enum { N_ROWS = sizeof rows_tried / sizeof *rows_tried, N_OUTS = sizeof outs_tried / sizeof *outs_tried };

/* Lengths: block multiples up to 512; for BF16 all kinds of remainders. */
static size_t length(enum slm2_dtype t, unsigned i)
{
    static const size_t odd[] = {1, 2, 3, 31, 32, 33, 63, 65, 127, 130, 257, 511, 512};
    size_t block = slm2_dtype_info[t].block_elems;
    return block == 1 ? odd[i % 13] : block * (1 + i % (512 / block));
}

/* Row o of the weights as numbers; a: without the minima of its type, which are the second f16 of a block in all types that have any. */
static void widen(const struct problem *q, size_t o, float *u, float *a)
{
    static uint8_t row[4096];
    size_t bytes = slm2_dtype_bytes(q->t, q->n), block = slm2_dtype_info[q->t].block_bytes;
    memcpy(row, q->w + o * q->row_bytes, bytes);
    S->to_f32[q->t](u, row, q->n);
    if (q->t == SLM2_Q4_1 || q->t == SLM2_Q4_K || q->t == SLM2_Q5_K)
        for (size_t b = 0; b < bytes; b += block) row[b + 2] = row[b + 3] = 0;
    S->to_f32[q->t](a, row, q->n);
}

/* Against double.  Exact where the sum of all magnitudes stays below 2^24 and all are whole.  Else an output is a chain of at most `steps` additions
 * (of blocks of 16, or of elements in bf16), each rounding what came before it, of terms that were rounded twice:
 * |error| <= (steps + 4) 2^-24 sum |terms|, with the term of a minimum apart; bf16 arithmetic may take denormals for 0. */
static void check_values(enum slm2_dtype t)
{
    static double v[512];
    static float u[512], a[512];
    int n_exact = 0;
    for (unsigned it = 0; it < 120; it++) {
        enum kind kind = it % 2 ? REAL : WHOLE;
        size_t n_row = rows_tried[below(N_ROWS)], n_out = outs_tried[below(N_OUTS)], n = length(t, it / 2);
        struct problem q = problem_new(t, n_row, n_out, n, 0, kind);
        pack(&q);
        const float *y = product_mul(&q, n_out);
        for (size_t r = 0; r < n_row; r++) {
            rounded_x(&q, r, v);
            for (size_t o = 0; o < n_out; o++) {
                double want = 0, size = 0, got = (double)y[r * n_out + o], steps = (double)n / (t == SLM2_BF16 ? 1 : 16);
                widen(&q, o, u, a);
                for (size_t i = 0; i < n; i++) {
                    double code = (double)a[i] * v[i], min = ((double)u[i] - (double)a[i]) * v[i];
                    want += code + min;
                    size += fabs(code) + fabs(min);
                }
                bool exact = kind == WHOLE && size < 0x1p24;
                n_exact += exact;
                if (!(fabs(got - want) <= (exact ? 0 : (steps + 4) * 0x1p-24 * size + (double)n * 0x1p-126)))
                    bad("%zu x %zu x %zu [%zu][%zu] %s: %.9g, want %.9g", n_row, n_out, n, r, o, exact ? "exact" : "real", got, want);
            }
        }
    }
    if (n_exact < 1000) bad("only %d sums were exact", n_exact);
}

/* few() is mul(), and mul() is the same wherever rows of x or of w are cut, whatever ldy, however far the rows of w lie apart. */
static void check_bits(enum slm2_dtype t)
{
    for (unsigned it = 0; it < 160; it++) {
        size_t n_row = it < 32 ? 1 + it / 2 : rows_tried[below(N_ROWS)], n_out = outs_tried[it < 30 ? it / 2 : below(N_OUTS)], n = length(t, it);
        size_t ldy = n_out + below(5), gap = it % 3 * 2 * (size_t)below(20);
        struct problem q = problem_new(t, n_row, n_out, n, gap, REAL);
        pack(&q);
        const float *y = product_mul(&q, ldy);
        if (n_row <= SLM2_FEW) {
            const float *few = product_few(&q, ldy);
            for (size_t r = 0; r < n_row; r++)
                for (size_t o = 0; o < ldy && r * ldy + o < (n_row - 1) * ldy + n_out; o++) {
                    float want = y[r * ldy + o];
                    if (!same(few[r * ldy + o], want)) bad("few %zu x %zu x %zu [%zu][%zu]: %.9g, mul %.9g", n_row, n_out, n, r, o, (double)few[r * ldy + o], (double)want);
                    if (o >= n_out && !isnan(want)) bad("%zu x %zu x %zu: written between rows of y", n_row, n_out, n);
                }
        }
        /* a part of the rows, a part of the outputs; and one row packed alone */
        size_t r0 = below((uint32_t)n_row), m = 1 + below((uint32_t)(n_row - r0)), o0 = below((uint32_t)n_out), part = 1 + below((uint32_t)(n_out - o0));
        q.panel_bytes = q.p->w_bytes(part, n);
        q.panel = slot_aligned(SLOT_PANEL, q.panel_bytes, 64);
        q.p->w_pack(q.panel, q.w + o0 * q.row_bytes, q.row_bytes, part, n);
        bands(SLOT_PANEL, q.panel_bytes, "w_pack");
        float *z = slot(SLOT_Y2, m * part * sizeof *z);
        q.p->mul(z, part, q.packed, n_row, r0, m, q.panel, part, n);
        for (size_t i = 0; i < m * part; i++)
            if (!same(z[i], y[(r0 + i / part) * ldy + o0 + i % part])) bad("%zu x %zu x %zu: rows %zu + %zu, outputs %zu + %zu have other bits", n_row, n_out, n, r0, m, o0, part);
        q.x_bytes = q.p->x_bytes(1, n);
        q.packed = slot_aligned(SLOT_PACKED, q.x_bytes, 4);
        q.p->x_pack(q.packed, 1, 0, q.x + r0 * n, n);
        z = slot(SLOT_Y2, n_out * sizeof *z);
        q.p->few(z, n_out, q.packed, 1, q.w, q.row_bytes, n_out, n);
        for (size_t o = 0; o < n_out; o++)
            if (!same(z[o], y[r0 * ldy + o])) bad("%zu x %zu x %zu: row %zu alone has other bits", n_row, n_out, n, r0);
    }
}

/* Nothing to do is done: no rows of x, no rows of w, no elements (all outputs 0). */
static void check_empty(enum slm2_dtype t)
{
    const struct slm2_product *p = K->product[t];
    float x[1] = {0}, y[4] = {7, 7, 7, 7};
    size_t n = slm2_dtype_info[t].block_elems;
    struct problem q = problem_new(t, 1, 2, n, 0, REAL);
    pack(&q);
    p->mul(y, 2, q.packed, 1, 0, 0, q.panel, 2, n);
    p->mul(y, 2, q.packed, 1, 0, 1, q.panel, 0, n);
    p->few(y, 2, q.packed, 1, q.w, q.row_bytes, 0, n);
    p->few(y, 2, q.packed, 0, q.w, q.row_bytes, 2, n);
    for (int i = 0; i < 4; i++)
        if (y[i] < 7 || y[i] > 7) bad("an empty product wrote");
    p->x_pack(x, 1, 0, x, 0);
    p->mul(y, 2, x, 1, 0, 1, q.panel, 2, 0);
    p->few(y + 2, 2, x, 1, q.w, q.row_bytes, 2, 0);
    for (int i = 0; i < 4; i++)
        if (y[i] < 0 || y[i] > 0) bad("a sum of nothing is %g", (double)y[i]);
}

/* Files may hold anything: NaN and infinity as scales, codes of -128.  The row that they are in is not finite, every other one is untouched. */
static void check_hostile(enum slm2_dtype t)
{
    static const uint16_t scales[] = {0x7c00, 0xfc00, 0x7e00, 0xffff, 0x7bff, 0x8001};
    size_t block = slm2_dtype_info[t].block_elems, bytes = slm2_dtype_info[t].block_bytes, n = block == 1 ? 66 : 512;
    for (unsigned it = 0; it < 60; it++) {
        size_t n_row = 1 + below(SLM2_FEW), n_out = outs_tried[below(N_OUTS)], victim = below((uint32_t)n_out);
        struct problem q = problem_new(t, n_row, n_out, n, 0, REAL);
        pack(&q);
        static float before[SLM2_FEW * 70];
        memcpy(before, product_mul(&q, n_out), n_row * n_out * sizeof *before);
        uint8_t *b = q.w + victim * q.row_bytes + below((uint32_t)(n / block)) * bytes;
        memset(b, t == SLM2_Q8_0 ? 0x80 : 0xff, bytes);
        uint16_t h = scales[it % 6];
        if (t == SLM2_BF16) h = it % 6 == 4 ? 0x7f7f : (uint16_t)(h | 0x7f80 * (it % 6 != 5));
        memcpy(b + (t == SLM2_Q6_K ? bytes - 2 : 0), &h, 2);
        if (t == SLM2_Q4_1 || t == SLM2_Q4_K || t == SLM2_Q5_K) memset(b + 2, 0, 2);
        pack(&q);
        const float *y = product_mul(&q, n_out), *few = product_few(&q, n_out);
        for (size_t i = 0; i < n_row * n_out; i++) {
            if (!same(y[i], few[i])) bad("scale %04x: few %g, mul %g", h, (double)few[i], (double)y[i]);
            if (i % n_out != victim && !same(y[i], before[i])) bad("scale %04x in row %zu reached output %zu", h, victim, i % n_out);
            if (i % n_out == victim && it % 6 < 4 && isfinite(y[i])) bad("scale %04x was lost: %g", h, (double)y[i]);
        }
    }
}

/* ---- activations ----------------------------------------------------------------------------------------------------------- */
/* The definition again, in other words: d = max |x| / 127; the code is the whole number nearest to x / d, the even one of two.  A block that holds a
 * NaN or an infinity has d = NaN and codes 0; one whose d rounds to 0 is all zeros. */
static struct slm2_block_x8 x8_of(const float *x)
{
    struct slm2_block_x8 b = {0};
    float most = 0;
    for (int i = 0; i < SLM2_QK; i++) {
        if (!isfinite(x[i])) return (struct slm2_block_x8){.d = NAN};
        if (fabsf(x[i]) > most) most = fabsf(x[i]);
    }
    b.d = most / 127;
    for (int i = 0; i < SLM2_QK && b.d > 0; i++) {
        float v = x[i] / b.d, down = floorf(v), rest = v - down;
        int q = (int)down;
        if (rest > 0.5f || (!(rest < 0.5f) && q % 2 != 0)) q++;
        q = q > 127 ? 127 : q < -127 ? -127 : q;
        b.q[i] = (int8_t)q;
        b.sum[i / 16] = (int16_t)(b.sum[i / 16] + q);
    }
    return b;
}

static void check_x_pack(enum slm2_dtype t)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 0x1p-126f, 0x1p-149f, -0x1p-140f, 0.0f, -0.0f, 127, -127, 0.5f, 1.5f, -2.5f, 1};
    if (t == SLM2_BF16) return; /* its form belongs to each table */
    for (unsigned it = 0; it < 400; it++) {
        size_t n_row = rows_tried[below(N_ROWS)], n = SLM2_QK * (1 + below(8)), bytes = K->product[t]->x_bytes(n_row, n);
        float *x = slot(SLOT_X, n_row * n * sizeof *x), size = ldexpf(1, (int)below(300) - 150);
        if (bytes != n_row * (n / SLM2_QK) * sizeof(struct slm2_block_x8)) bad("x_bytes of %zu x %zu: %zu", n_row, n, bytes);
        for (size_t i = 0; i < n_row * n; i++) x[i] = it % 4 == 0 ? (float)below(255) - 127.0f : it % 4 == 1 ? odd[3 + below(13)] : unit() * size;
        for (size_t i = 0; it % 4 == 3 && i < n_row; i++) x[below((uint32_t)(n_row * n))] = odd[below(16)];
        for (size_t i = 0; it % 4 == 0 && i < n_row * n; i += SLM2_QK) { /* halves: codes of x / 1 */
            x[i] = 127;
            for (size_t j = 1; j < SLM2_QK; j++) x[i + j] = ((float)below(507) - 253.0f) / 2;
        }
        for (size_t i = 0; it % 8 == 2 && i < SLM2_QK; i++) x[i] = 0;
        struct slm2_block_x8 *b = slot_aligned(SLOT_PACKED, bytes, 4);
        for (size_t r = n_row; r-- > 0;) K->product[t]->x_pack(b, n_row, r, x + r * n, n);
        bands(SLOT_PACKED, bytes, "x_pack");
        for (size_t r = 0; r < n_row; r++)
            for (size_t k = 0; k < n / SLM2_QK; k++) {
                struct slm2_block_x8 want = x8_of(x + r * n + k * SLM2_QK), got = b[k * n_row + r];
                if (!same(want.d, got.d)) bad("row %zu block %zu: d = %.9g, want %.9g", r, k, (double)got.d, (double)want.d);
                else if (memcmp(want.q, got.q, sizeof want.q)) bad("row %zu block %zu (d = %.9g): codes begin %d %d %d, want %d %d %d", r, k, (double)got.d, got.q[0], got.q[1], got.q[2], want.q[0], want.q[1], want.q[2]);
                else if (got.sum[0] != want.sum[0] || got.sum[1] != want.sum[1]) bad("row %zu block %zu: sums %d %d, want %d %d", r, k, got.sum[0], got.sum[1], want.sum[0], want.sum[1]);
            }
    }
}

/* A NaN or an infinity among the activations makes every output of its row NaN or infinite, and no other. */
static void check_not_finite(enum slm2_dtype t)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    for (unsigned it = 0; it < 40; it++) {
        size_t n_row = 1 + below(SLM2_FEW), n_out = outs_tried[below(N_OUTS)], n = length(t, it), victim = below((uint32_t)n_row);
        struct problem q = problem_new(t, n_row, n_out, n, 0, REAL);
        q.x[victim * n + below((uint32_t)n)] = odd[it % 3];
        for (size_t i = 0; t == SLM2_BF16 && i < n_out * n; i++) /* infinity times 0 is NaN, times anything else infinity: no zeros */
            if (!(((uint16_t *)(void *)q.w)[i] & 0x7f80)) ((uint16_t *)(void *)q.w)[i] = 0x3f80;
        pack(&q);
        const float *y = product_mul(&q, n_out), *few = product_few(&q, n_out);
        for (size_t i = 0; i < n_row * n_out; i++) {
            if (!same(y[i], few[i])) bad("few %g, mul %g", (double)few[i], (double)y[i]);
            if (isfinite(y[i]) == (i / n_out == victim)) bad("%g in row %zu: output of row %zu is %g", (double)odd[it % 3], victim, i / n_out, (double)y[i]);
        }
    }
}

/* to_f32 of every table has the bits of slm2_dequant_row, and so has the element that the slow operations read */
static void check_to_f32(enum slm2_dtype t)
{
    static float u[1024], want[1024], slow[1024];
    for (unsigned it = 0; it < 50; it++) {
        size_t n = slm2_dtype_info[t].block_elems * (1 + below(4)), bytes = slm2_dtype_bytes(t, n);
        uint8_t *w = slot(SLOT_W, bytes);
        for (size_t b = 0; b < bytes; b += slm2_dtype_info[t].block_bytes) put_block(w + b, t, REAL);
        K->to_f32[t](u, w, n);
        slm2_dequant_row(t, w, want, n);
        struct slm2_mat table = slm2_mat_of(w, t, 1, (int)n), y = slm2_mat_of(slow, SLM2_F32, 1, (int)n);
        slm2_ops_ref.embed(NULL, &y, &table, &(int32_t){0});
        for (size_t i = 0; i < n; i++)
            if (!same(slow[i], want[i])) bad("ops_ref [%zu] of %zu: %.9g, want %.9g", i, n, (double)slow[i], (double)want[i]);
            else if (!same(u[i], want[i])) bad("to_f32 [%zu] of %zu: %.9g, want %.9g", i, n, (double)u[i], (double)want[i]);
    }
}

static const struct { const char *name; void (*fn)(enum slm2_dtype t); } checks[] = {
    {"to_f32", check_to_f32},   {"x_pack", check_x_pack},   {"values", check_values},         {"bits", check_bits},
    {"empty", check_empty},     {"hostile", check_hostile}, {"not finite", check_not_finite},
};

int main(int argc, char **argv)
{
    static const char *const isas[] = {"scalar", "avx2", "avx512", "neon"};
    struct slm2_err err;
    const char *only = getenv("SLM2_ISA");
    int n_pass = 0, n_fail = 0;
    if (argc == 3 && !strcmp(argv[1], "--seed")) seed = strtoull(argv[2], NULL, 10);
    slots_init();
    if (slm2_kernels_get(&S, "scalar", &err) != SLM2_OK) abort();
    for (int i = 0; i < 4; i++) {
        if ((only && *only && strcmp(only, isas[i])) || slm2_kernels_get(&K, isas[i], &err) != SLM2_OK) continue;
        for (int k = 0; k < N_TYPE; k++) {
            enum slm2_dtype t = types[k];
            const char *name = slm2_dtype_info[t].name;
            if (!K->product[t]) {
                printf("  skipped %s %s: no product, weights are widened\n", isas[i], name);
                continue;
            }
            if (i > 0 && K->product[t] == S->product[t]) {
                printf("FAILED %s %s: it has the scalar product\n", isas[i], name);
                n_fail++;
                continue;
            }
            for (size_t c = 0; c < sizeof checks / sizeof *checks; c++) {
                n_bad = 0;
                checks[c].fn(t);
                if (n_bad) printf("FAILED %s %s %s: %d\n", isas[i], name, checks[c].name, n_bad);
                n_bad ? n_fail++ : n_pass++;
            }
        }
    }
    printf("%d passed, %d failed\n", n_pass, n_fail);
    return n_fail != 0;
}
