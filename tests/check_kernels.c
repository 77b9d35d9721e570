/* check_kernels.c - every kernel of every instruction set that this machine has, against the scalar one and against double.
 *
 * check_kernels [--seed N] [--bench]     SLM2_ISA=scalar|avx2|avx512|neon restricts it to one set
 *
 * Small whole numbers come first: their sums are exact in any order, so results must be equal bit for bit.  Then random numbers,
 * within 4 sqrt(n) 2^-24 sum |x y| of double.  What the header promises to be equal is compared by its bits.  Every array ends at
 * a page that may not be touched and begins after a band that must not change, so starts have every alignment and an access
 * beyond the end faults.  Times are printed only after everything passed. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "kernels/kernels.h"

static const struct slm2_kernels *K, *S; /* under test; scalar */
static uint64_t seed = 1;
static int n_bad; /* of the running check */

static bool bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool bad(const char *fmt, ...)
{
    va_list ap;
    if (n_bad++ < 3) {
        printf("    ");
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n");
    }
    return false;
}

/* ---- arrays that end at a forbidden page -------------------------------------------------------------------------- */

enum { N_SLOT = 10, SLOT_BYTES = 1 << 21, BAND = 64 };
static uint8_t *slot_base[N_SLOT];

static void slots_init(void)
{
    for (int s = 0; s < N_SLOT; s++) {
        uint8_t *p = mmap(NULL, SLOT_BYTES + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + SLOT_BYTES, 65536, PROT_NONE) != 0) abort();
        slot_base[s] = p;
    }
}

/* bytes of slot s, filled with 0xff (NaN in every float type), the band before them too */
static void *slot(int s, size_t bytes)
{
    uint8_t *p = slot_base[s] + SLOT_BYTES - bytes;
    if (bytes + BAND > SLOT_BYTES) abort();
    memset(p - BAND, 0xff, bytes + BAND);
    return p;
}

static bool band_ok(const void *p)
{
    const uint8_t *q = p;
    for (int i = 1; i <= BAND; i++)
        if (q[-i] != 0xff) return bad("%d bytes before the output were written", i);
    return true;
}

enum kind { WHOLE, REAL };
static uint32_t draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}
static float draw_f(enum kind kind) { return kind == WHOLE ? (float)(draw() % 9) - 4.0f : (float)(int32_t)draw() * 0x1p-31f; }

static float *floats(int s, size_t n, enum kind kind)
{
    float *x = slot(s, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = draw_f(kind);
    return x;
}

static bool same(float a, float b) { return memcmp(&a, &b, 4) == 0 || (isnan(a) && isnan(b)); }

/* A row of n elements of type t; scales of blocks are small powers of two, or any positive number. */
static const enum slm2_dtype weight_type[] = {SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_Q8_0, SLM2_Q4_0};
enum { N_WEIGHT = 5, N_PLAIN = 3 };
static void weights(void *w, enum slm2_dtype t, size_t n, enum kind kind)
{
    for (size_t i = 0; i < n / slm2_dtype_info[t].block_elems; i++) {
        if (t == SLM2_F32) ((float *)w)[i] = draw_f(kind);
        if (t == SLM2_F16) ((uint16_t *)w)[i] = slm2_f32_to_f16(draw_f(kind));
        if (t == SLM2_BF16) ((uint16_t *)w)[i] = slm2_f32_to_bf16(draw_f(kind));
        if (t == SLM2_Q8_0) {
            struct slm2_block_q8_0 *b = (struct slm2_block_q8_0 *)w + i;
            b->d = slm2_f32_to_f16(kind == WHOLE ? 0.5f : draw_f(kind));
            for (int j = 0; j < SLM2_QK; j++) b->q[j] = (int8_t)(draw() >> 24);
        }
        if (t == SLM2_Q4_0) {
            struct slm2_block_q4_0 *b = (struct slm2_block_q4_0 *)w + i;
            b->d = slm2_f32_to_f16(kind == WHOLE ? 2.0f : draw_f(kind));
            for (int j = 0; j < SLM2_QK / 2; j++) b->q[j] = (uint8_t)(draw() >> 24);
        }
    }
}

/* ---- checks ------------------------------------------------------------------------------------------------------- */

static void check_dot(void)
{
    for (size_t n = 0; n <= 150; n++) {
        for (int kind = WHOLE; kind <= REAL; kind++) {
            float *x = floats(0, n, kind), *y = floats(1, n, kind), got = K->dot(x, y, n);
            double want = 0, size = 0;
            for (size_t i = 0; i < n; i++) {
                want += (double)x[i] * (double)y[i];
                size += fabs((double)x[i] * (double)y[i]);
            }
            if (kind == WHOLE ? (double)got != want : !(fabs((double)got - want) <= 4 * sqrt((double)n) * 0x1p-24 * size))
                bad("dot n=%zu %s: %.9g, want %.9g", n, kind == WHOLE ? "whole" : "real", (double)got, want);
        }
    }
}

static void check_to_f32(void)
{
    for (int it = 0; it < N_WEIGHT; it++) {
        enum slm2_dtype t = weight_type[it];
        size_t block = slm2_dtype_info[t].block_elems;
        for (size_t n = 0; n <= 150; n += block) {
            void *x = slot(0, slm2_dtype_bytes(t, n));
            float *got = slot(1, n * 4), *want = slot(2, n * 4);
            weights(x, t, n, REAL);
            K->to_f32[t](got, x, n);
            S->to_f32[t](want, x, n);
            for (size_t i = 0; i < n; i++)
                if (!same(got[i], want[i])) bad("%s n=%zu [%zu]: %.9g, want %.9g", slm2_dtype_info[t].name, n, i, (double)got[i], (double)want[i]);
            band_ok(got);
        }
    }
    for (int it = 1; it <= 2; it++) { /* every F16 and every BF16 */
        enum slm2_dtype t = weight_type[it];
        uint16_t *x = slot(0, 65536 * 2);
        float *got = slot(1, 65536 * 4);
        for (size_t i = 0; i < 65536; i++) x[i] = (uint16_t)i;
        K->to_f32[t](got, x, 65536);
        for (size_t i = 0; i < 65536; i++) {
            float want = t == SLM2_F16 ? slm2_f16_to_f32(x[i]) : slm2_bf16_to_f32(x[i]);
            if (!same(got[i], want)) bad("%s %04zx: %.9g, want %.9g", slm2_dtype_info[t].name, i, (double)got[i], (double)want);
        }
    }
}

/* Q8_0: the scalar bits, and a value is off by at most half a step and what F16 loses of the step */
static void check_quantise(void)
{
    enum { N = 40 * SLM2_QK };
    float *x = slot(0, N * 4), *back = slot(1, N * 4);
    void *got = slot(2, slm2_dtype_bytes(SLM2_Q8_0, N)), *want = slot(3, slm2_dtype_bytes(SLM2_Q8_0, N));
    for (size_t i = 0; i < N; i++) x[i] = i < SLM2_QK ? 0.0f : ldexpf((float)(int)draw(), -31 - (int)(i / SLM2_QK) % 7);
    K->from_f32[SLM2_Q8_0](got, x, N);
    S->from_f32[SLM2_Q8_0](want, x, N);
    if (memcmp(got, want, slm2_dtype_bytes(SLM2_Q8_0, N))) bad("to Q8_0: not the bits of scalar");
    S->to_f32[SLM2_Q8_0](back, got, N);
    for (size_t i = 0; i < N; i++) {
        float largest = S->max(x + i / SLM2_QK * SLM2_QK, SLM2_QK), least = 0;
        for (size_t j = i / SLM2_QK * SLM2_QK; j < (i / SLM2_QK + 1) * SLM2_QK; j++) least = x[j] < least ? x[j] : least;
        largest = largest > -least ? largest : -least;
        if (!(fabsf(back[i] - x[i]) <= largest * (0.5f / 127 + 0x1p-11f))) bad("to Q8_0 [%zu]: %.9g from %.9g", i, (double)back[i], (double)x[i]);
    }
    band_ok(got);
}

static void check_from_f32(void)
{
    for (int it = 0; it <= 2; it++) {
        enum slm2_dtype t = weight_type[it];
        for (size_t n = 0; n <= 300; n++) {
            float *x = slot(0, n * 4);
            void *got = slot(1, slm2_dtype_bytes(t, n)), *want = slot(2, slm2_dtype_bytes(t, n));
            for (size_t i = 0; i < n; i++) { /* any bits; numbers that F16 can hold; ties of F16 and BF16 */
                uint32_t u = draw();
                if (draw() & 1) u = (u & 0x80ffffffu) | (0x33u + draw() % 20) << 24;
                if (draw() & 1) u = (u & 0xfffff000u) | 0x8000u >> (draw() & 3);
                memcpy(&x[i], &u, 4);
            }
            K->from_f32[t](got, x, n);
            S->from_f32[t](want, x, n);
            for (size_t i = 0; i < n; i++) {
                if (t == SLM2_F32 ? memcmp(&((float *)got)[i], &x[i], 4) != 0 : ((uint16_t *)got)[i] != ((uint16_t *)want)[i]) {
                    if (t != SLM2_F32 && isnan(x[i]) && isnan(t == SLM2_F16 ? slm2_f16_to_f32(((uint16_t *)got)[i]) : slm2_bf16_to_f32(((uint16_t *)got)[i])))
                        continue;
                    bad("to %s n=%zu [%zu] of %.9g (%a)", slm2_dtype_info[t].name, n, i, (double)x[i], (double)x[i]);
                }
            }
            band_ok(got);
        }
    }
}

/* dot_w = to_f32, then dot;  gemv_w = dot_w of each row */
static void check_dot_w(void)
{
    for (int it = 0; it < N_PLAIN; it++) {
        enum slm2_dtype t = weight_type[it];
        for (size_t n = 0; n <= 150; n++) {
            size_t n_out = 1 + draw() % 40, row_bytes = slm2_dtype_bytes(t, n + draw() % 3);
            enum kind kind = draw() & 1 ? REAL : WHOLE;
            uint8_t *w = slot(0, row_bytes * (n_out - 1) + slm2_dtype_bytes(t, n));
            float *x = floats(1, n, kind), *u = slot(2, n * 4), *y = slot(3, n_out * 4);
            for (size_t o = 0; o < n_out; o++) weights(w + o * row_bytes, t, n, kind);
            K->gemv_w[t](y, x, w, row_bytes, n_out, n);
            for (size_t o = 0; o < n_out; o++) {
                float got = K->dot_w[t](x, w + o * row_bytes, n), scalar = S->dot_w[t](x, w + o * row_bytes, n);
                S->to_f32[t](u, w + o * row_bytes, n);
                if (!same(got, K->dot(x, u, n))) bad("dot_w %s n=%zu: %.9g, dot %.9g", slm2_dtype_info[t].name, n, (double)got, (double)K->dot(x, u, n));
                if (!same(got, y[o])) bad("gemv_w %s n=%zu row %zu of %zu: %.9g, dot_w %.9g", slm2_dtype_info[t].name, n, o, n_out, (double)y[o], (double)got);
                if (kind == WHOLE && !same(got, scalar)) bad("dot_w %s n=%zu: %.9g, scalar %.9g", slm2_dtype_info[t].name, n, (double)got, (double)scalar);
            }
            band_ok(y);
        }
        K->gemv_w[t](NULL, NULL, NULL, 0, 0, 1);
    }
}

/* heads_dot = dot of each head on widened rows, heads_sum = gemm_nn accumulating on them: heads that share elements, heads that begin further
 * on, rows beyond a piece */
static void check_heads(void)
{
    static const enum slm2_dtype type[] = {SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_Q8_0};
    for (size_t it = 0; it < sizeof type / sizeof type[0]; it++) {
        enum slm2_dtype t = type[it];
        size_t unit = slm2_dtype_info[t].block_elems;
        for (int round = 0; round < 400; round++) {
            size_t n = unit * (1 + draw() % (unit > 1 ? 8 : 150)), group = 1 + draw() % 3, n_kv = 1 + draw() % 4, h0 = group * (draw() % n_kv), n_head = 1 + draw() % (group * n_kv - h0);
            size_t n_row = draw() % 21, lds = n_row + draw() % 3, row_bytes = slm2_dtype_bytes(t, n * n_kv) + slm2_dtype_bytes(t, unit * (draw() % 2)), used = slm2_dtype_bytes(t, n * n_kv);
            enum kind kind = draw() & 1 ? REAL : WHOLE;
            float *q = floats(0, n_head * n, kind), *s = slot(1, n_head * lds * 4), *u = slot(2, n_row * n * 4), *y = floats(3, n_head * n, kind), *p = floats(4, n_head * lds, kind), *want = slot(5, n * 4);
            uint8_t *rows = slot(6, n_row ? row_bytes * (n_row - 1) + used : 0);
            for (size_t r = 0; r < n_row; r++) {
                if (unit == 1) {
                    weights(rows + r * row_bytes, t, n * n_kv, kind);
                } else {
                    float *x = floats(7, n * n_kv, kind);
                    S->from_f32[t](rows + r * row_bytes, x, n * n_kv);
                }
            }
            K->heads_dot[t](s, lds, q, h0, n_head, group, n, rows, row_bytes, n_row);
            band_ok(s);
            for (size_t h = 0; h < n_head; h++) {
                memcpy(want, y + h * n, n * 4);
                for (size_t r = 0; r < n_row; r++) {
                    S->to_f32[t](u + r * n, rows + r * row_bytes + slm2_dtype_bytes(t, (h0 + h) / group * n), n);
                    float got = s[h * lds + r], dot = K->dot(q + h * n, u + r * n, n);
                    if (!same(got, dot)) bad("heads_dot %s n=%zu head %zu of %zu row %zu of %zu: %.9g, dot %.9g", slm2_dtype_info[t].name, n, h, n_head, r, n_row, (double)got, (double)dot);
                }
                K->gemm_nn(want, n, p + h * lds, lds, 1, u, n, 1, n, n_row, true);
                K->heads_sum[t](y + h * n, p + h * lds, lds, h0 + h, 1, group, n, rows, row_bytes, n_row);
                for (size_t i = 0; i < n; i++)
                    if (!same(y[h * n + i], want[i])) bad("heads_sum %s n=%zu head %zu [%zu]: %.9g, gemm_nn %.9g", slm2_dtype_info[t].name, n, h, i, (double)y[h * n + i], (double)want[i]);
            }
            band_ok(y);
            float *one = floats(8, n_head * n, kind), *all = slot(9, n_head * n * 4);
            memcpy(all, one, n_head * n * 4);
            K->heads_sum[t](all, p, lds, h0, n_head, group, n, rows, row_bytes, n_row);
            for (size_t h = 0; h < n_head; h++) K->heads_sum[t](one + h * n, p + h * lds, lds, h0 + h, 1, group, n, rows, row_bytes, n_row);
            for (size_t i = 0; i < n_head * n; i++)
                if (!same(all[i], one[i])) bad("heads_sum %s n=%zu [%zu]: %.9g with %zu heads, %.9g alone", slm2_dtype_info[t].name, n, i, (double)all[i], n_head, (double)one[i]);
        }
    }
}

/* a matrix of rows of n floats, ld apart, the gaps between them 0xff */
static float *matrix(int s, size_t rows, size_t n, size_t ld, enum kind kind)
{
    float *p = slot(s, rows ? ((rows - 1) * ld + n) * 4 : 0);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) p[r * ld + i] = draw_f(kind);
    return p;
}

static void gaps_ok(const float *p, size_t rows, size_t n, size_t ld)
{
    uint32_t u;
    for (size_t r = 0; r + 1 < rows; r++) {
        for (size_t i = n; i < ld; i++) {
            memcpy(&u, &p[r * ld + i], 4);
            if (u != 0xffffffffu) bad("row %zu: written %zu elements behind its %zu", r, i - n + 1, n);
        }
    }
    band_ok(p);
}

/* Any bytes are blocks of some weights; scales are made finite and small. */
static void any_blocks(uint8_t *w, enum slm2_dtype t, size_t bytes)
{
    static const struct { enum slm2_dtype t; size_t at[2]; int n; } scale[] = {
        {SLM2_Q8_0, {0}, 1}, {SLM2_Q4_0, {0}, 1}, {SLM2_Q4_1, {0, 2}, 2}, {SLM2_Q4_K, {0, 2}, 2}, {SLM2_Q5_K, {0, 2}, 2}, {SLM2_Q6_K, {208}, 1}};
    for (size_t i = 0; i < bytes; i++) w[i] = (uint8_t)(draw() >> 24);
    for (size_t s = 0; s < sizeof scale / sizeof scale[0]; s++) {
        for (size_t i = 0; scale[s].t == t && i < bytes; i += slm2_dtype_info[t].block_bytes) {
            for (int j = 0; j < scale[s].n; j++) {
                uint16_t h = slm2_f32_to_f16(draw_f(REAL));
                memcpy(w + i + scale[s].at[j], &h, 2);
            }
        }
    }
}

/* The activations as they were packed, and how far the chain of sums may be from the exact one. */
static void product_case(enum slm2_dtype t, size_t n_row, size_t n_out, size_t n)
{
    const struct slm2_product *p = K->product[t];
    size_t block = slm2_dtype_info[t].block_bytes, row = slm2_dtype_bytes(t, n), row_bytes = row + block * (draw() % 2), ldy = n_out + draw() % 3;
    float *x = floats(0, n_row * n, REAL), *u = slot(5, n * 4);
    struct slm2_block_x8 *xp = slot(1, p->x_bytes(n_row, n));
    uint8_t *w = slot(2, (n_out - 1) * row_bytes + row), *panel = slot(3, p->w_bytes(n_out, n) + 64);
    float *y = slot(4, ((n_row - 1) * ldy + n_out) * 4), *few = slot(6, ((n_row - 1) * ldy + n_out) * 4);
    for (size_t i = 0; i < 32 && n_row > 1; i++) x[n + i] = 0.0f;
    any_blocks(w, t, (n_out - 1) * row_bytes + row);
    for (size_t r = 0; r < n_row; r++) p->x_pack(xp, n_row, r, x + r * n, n);
    panel += -(uintptr_t)panel % 64;
    p->w_pack(panel, w, row_bytes, n_out, n);
    for (size_t r = 0, m; r < n_row; r += m) {
        m = 1 + draw() % (n_row - r);
        p->mul(y + r * ldy, ldy, xp, n_row, r, m, panel, n_out, n);
    }
    if (n_row <= SLM2_FEW) p->few(few, ldy, xp, n_row, w, row_bytes, n_out, n);
    for (size_t r = 0; r < n_row; r++) {
        for (size_t o = 0; o < n_out; o++) {
            double want = 0, size = 0, most;
            S->to_f32[t](u, w + o * row_bytes, n);
            for (size_t i = 0; i < n; i++) {
                const struct slm2_block_x8 *b = xp + i / SLM2_QK * n_row + r;
                double xi = (double)b->d * b->q[i % SLM2_QK];
                want += xi * (double)u[i];
                size += 64 * (double)b->d * 0.5; /* a minimum and what it is taken from may cancel */
                size += fabs(xi * (double)u[i]);
                if (!(fabs((double)x[r * n + i] - xi) <= 0.501 * (double)b->d)) bad("x_pack %s [%zu,%zu] is %g, not %g", slm2_dtype_info[t].name, r, i, xi, (double)x[r * n + i]);
            }
            most = 2 * sqrt((double)n) * 0x1p-24 * size * (t >= SLM2_Q4_K ? 64 : 1);
            if (!(fabs((double)y[r * ldy + o] - want) <= most))
                bad("mul %s m=%zu n=%zu k=%zu [%zu,%zu]: %.9g, want %.9g +- %g", slm2_dtype_info[t].name, n_row, n_out, n, r, o, (double)y[r * ldy + o], want, most);
            if (n_row <= SLM2_FEW && !same(y[r * ldy + o], few[r * ldy + o]))
                bad("few %s m=%zu n=%zu k=%zu [%zu,%zu]: %.9g, mul %.9g", slm2_dtype_info[t].name, n_row, n_out, n, r, o, (double)few[r * ldy + o], (double)y[r * ldy + o]);
        }
    }
    gaps_ok(y, n_row, n_out, ldy);
    gaps_ok(few, n_row, n_out, ldy);
}

static void check_product(void)
{
    for (int t = SLM2_Q8_0; t <= SLM2_Q6_K; t++) {
        size_t block = slm2_dtype_info[t].block_elems;
        if (!K->product[t]) continue;
        for (size_t m = 1; m <= 20; m++) product_case(t, m, 1 + draw() % 70, block * (1 + draw() % 9));
        product_case(t, 100, 40, 512);
        product_case(t, 13, 150, 1024);
        product_case(t, 1, 33, 4096);
    }
}

static void gemm_nt_case(size_t m, size_t n, size_t k, enum kind kind)
{
    size_t lda = k + draw() % 4, ldb = k + draw() % 4, ldc = n + draw() % 4;
    float *a = matrix(0, m, k, lda, kind), *b = matrix(1, n, k, ldb, kind), *c = matrix(2, m, n, ldc, kind);
    float *was = slot(3, (m * ldc + 1) * 4);
    for (int accumulate = 0; accumulate <= 1; accumulate++) {
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) was[i * ldc + j] = c[i * ldc + j] = draw_f(kind);
        }
        K->gemm_nt(c, ldc, a, lda, b, ldb, m, n, k, accumulate);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) {
                float want = K->dot(a + i * lda, b + j * ldb, k);
                if (accumulate) want = was[i * ldc + j] + want;
                if (!same(c[i * ldc + j], want))
                    bad("gemm_nt m=%zu n=%zu k=%zu acc=%d [%zu,%zu]: %.9g, dot %.9g", m, n, k, accumulate, i, j, (double)c[i * ldc + j], (double)want);
            }
        }
        gaps_ok(c, m, n, ldc);
    }
}

static void check_gemm_nt(void)
{
    static const size_t size[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 33};
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++)
        for (size_t j = 0; j < sizeof size / sizeof size[0]; j++) gemm_nt_case(size[i], size[j], draw() % 70, REAL);
    for (size_t k = 0; k <= 150; k++) gemm_nt_case(1 + draw() % 9, 1 + draw() % 19, k, k & 1 ? REAL : WHOLE);
    gemm_nt_case(150, 70, 128, REAL); /* more than one block of rows and columns */
    gemm_nt_case(90, 37, 2051, REAL);
    gemm_nt_case(530, 9, 128, REAL);
    gemm_nt_case(1, 300, 64, REAL);
}

/* The one chain that the header describes: c (or 0), then a b added for k ascending, fused except in the scalar table. */
static void gemm_nn_case(size_t m, size_t n, size_t k, bool transposed, enum kind kind)
{
    size_t lda = (transposed ? m : k) + draw() % 4, ldb = n + draw() % 4, ldc = n + draw() % 4, a_m = transposed ? 1 : lda, a_k = transposed ? lda : 1;
    float *a = transposed ? matrix(0, k, m, lda, kind) : matrix(0, m, k, lda, kind);
    float *b = matrix(1, k, n, ldb, kind), *c = matrix(2, m, n, ldc, kind), *was = slot(3, (m * ldc + 1) * 4);
    size_t k1 = k ? draw() % (k + 1) : 0;

    for (int accumulate = 0; accumulate <= 2; accumulate++) {
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) was[i * ldc + j] = c[i * ldc + j] = draw_f(kind);
        }
        if (accumulate == 2) { /* in two calls */
            K->gemm_nn(c, ldc, a, a_m, a_k, b, ldb, m, n, k1, true);
            K->gemm_nn(c, ldc, a + k1 * a_k, a_m, a_k, b + k1 * ldb, ldb, m, n, k - k1, true);
        } else {
            K->gemm_nn(c, ldc, a, a_m, a_k, b, ldb, m, n, k, accumulate);
        }
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) {
                float want = accumulate ? was[i * ldc + j] : 0.0f;
                for (size_t l = 0; l < k; l++) {
                    float x = a[i * a_m + l * a_k], y = b[l * ldb + j];
                    want = K == S ? want + x * y : fmaf(x, y, want);
                }
                if (!same(c[i * ldc + j], want))
                    bad("gemm_nn m=%zu n=%zu k=%zu transposed=%d acc=%d [%zu,%zu]: %.9g, want %.9g", m, n, k, transposed, accumulate, i, j,
                        (double)c[i * ldc + j], (double)want);
            }
        }
        gaps_ok(c, m, n, ldc);
    }
}

static void check_gemm_nn(void)
{
    static const size_t size[] = {0, 1, 2, 3, 5, 6, 7, 12, 13, 16, 31, 48, 63, 64, 65, 80, 130};
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++)
        for (size_t j = 0; j < sizeof size / sizeof size[0]; j++) gemm_nn_case(size[i], size[j], draw() % 20, draw() & 1, draw() & 1 ? REAL : WHOLE);
    for (size_t k = 0; k <= 150; k++) gemm_nn_case(1 + draw() % 14, 1 + draw() % 70, k, k & 1, REAL);
    for (int t = 0; t <= 1; t++) {
        gemm_nn_case(200, 70, 130, t, REAL); /* more than one block of rows, of columns and of k */
        gemm_nn_case(97, 137, 300, t, REAL);
        gemm_nn_case(25, 16, 500, t, REAL);
    }
}

static void check_rows(void)
{
    for (size_t n = 0; n <= 150; n++) {
        float *x = floats(0, n, REAL), *y = floats(1, n, REAL), *z = slot(2, n * 4), *was = slot(3, n * 4), a = draw_f(REAL), top = -INFINITY;
        memcpy(was, y, n * 4);
        K->axpy(y, a, x, n);
        for (size_t i = 0; i < n; i++)
            if (!same(y[i], K == S ? was[i] + a * x[i] : fmaf(a, x[i], was[i]))) bad("axpy n=%zu [%zu]", n, i);
        memcpy(was, y, n * 4);
        K->scale(y, a, n);
        for (size_t i = 0; i < n; i++)
            if (!same(y[i], a * was[i])) bad("scale n=%zu [%zu]", n, i);
        K->add(z, x, y, n);
        for (size_t i = 0; i < n; i++)
            if (!same(z[i], x[i] + y[i])) bad("add n=%zu [%zu]", n, i);
        for (size_t i = 0; i < n; i++) {
            z[i] -= 3.0f; /* all negative: a 0 from outside would win */
            if (draw() % 5 == 0) z[i] = -INFINITY;
            if (z[i] > top) top = z[i];
        }
        if (K->max(z, n) != top) bad("max n=%zu: %.9g, want %.9g", n, (double)K->max(z, n), (double)top);
        band_ok(y), band_ok(z);
    }
}

static void check_exp_sum(void)
{
    static const float corner[] = {0.0f, -0.0f, -1e-30f, -0.34657f, -0.34658f, -1.0f, -87.0f, -87.33f, -87.34f, -88.0f, -104.0f, -1e4f, -3e38f, -INFINITY};
    for (size_t n = 0; n <= 600; n++) {
        float *x = slot(0, n * 4), *y = slot(1, n * 4), m = draw_f(REAL);
        double want_sum = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = m - fabsf(draw_f(REAL)) * (draw() & 1 ? 1.0f : 100.0f);
            if (draw() % 8 == 0) x[i] = m + corner[draw() % (sizeof corner / sizeof corner[0])];
            if (x[i] > m) x[i] = m;
        }
        float sum = K->exp_sum(y, x, m, n);
        for (size_t i = 0; i < n; i++) {
            float at = x[i] - m;
            double want = exp((double)at);
            want_sum += (double)y[i];
            if (want < 0x1p-126 ? !(y[i] >= 0 && (double)y[i] <= 0x1p-126) : !(fabs((double)y[i] - want) <= 4e-7 * want))
                bad("exp n=%zu [%zu] of %.9g: %.9g, want %.9g", n, i, (double)at, (double)y[i], want);
        }
        if (!(fabs((double)sum - want_sum) <= 4 * sqrt((double)n) * 0x1p-24 * want_sum)) bad("sum n=%zu: %.9g, want %.9g", n, (double)sum, want_sum);
        band_ok(y);
        if (!same(K->exp_sum(x, x, m, n), sum) || memcmp(x, y, n * 4) != 0) bad("in place n=%zu", n);
        if (n) {
            size_t at = draw() % n;
            x[at] = NAN;
            if (!isnan(K->exp_sum(y, x, m, n)) || !isnan(y[at])) bad("NaN lost n=%zu", n);
        }
    }
}

static void check_sums(void)
{
    for (size_t n = 0; n <= 150; n++) {
        float *x = floats(0, n, REAL), mean, var;
        long double s = 0, q = 0, v = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] += 3.0f;
            s += (long double)x[i];
            q += (long double)x[i] * (long double)x[i];
        }
        if (n) s /= (long double)n;
        for (size_t i = 0; i < n; i++) v += ((long double)x[i] - s) * ((long double)x[i] - s);
        if (n) v /= (long double)n;
        K->moments(x, n, &mean, &var);
        if (fabsl((long double)K->sum_sq(x, n) - q) > 1e-14L * q) bad("sum_sq n=%zu", n);
        if (fabsl((long double)mean - s) > 7e-8L * s || fabsl((long double)var - v) > 7e-8L * v + 1e-28L)
            bad("moments n=%zu: %.9g %.9g, want %.9Lg %.9Lg", n, (double)mean, (double)var, s, v);
    }
}

static void check_swiglu(void)
{
    static const float corner[] = {0.0f, -0.0f, 1e-20f, -1e-20f, 86.0f, -86.0f, 200.0f, -200.0f, 3e38f, -3e38f};
    for (size_t n = 0; n <= 150; n++) {
        float *g = floats(0, n, REAL), *u = floats(1, n, REAL), *dy = floats(2, n, REAL), *y = slot(3, n * 4), *dg = slot(4, n * 4), *du = slot(5, n * 4);
        for (size_t i = 0; i < n; i++) g[i] = draw() % 6 ? g[i] * 20.0f : corner[draw() % (sizeof corner / sizeof corner[0])];
        K->swiglu(y, g, u, n);
        K->swiglu_bwd(dg, du, dy, g, u, n);
        for (size_t i = 0; i < n; i++) {
            double x = (double)g[i], e = exp(-fabs(x)), s = (x >= 0 ? 1 : e) / (1 + e), not_s = (x >= 0 ? e : 1) / (1 + e), silu = x * s;
            double want = silu * (double)u[i], want_u = silu * (double)dy[i], t = (double)dy[i] * (double)u[i], want_g = t * (s + silu * not_s);
            double zero = x < -87 ? 1e-35 : 1e-44; /* may underflow */
            if (!(fabs((double)y[i] - want) <= 1e-6 * fabs(want) + zero)) bad("swiglu n=%zu [%zu] of %.9g: %.9g, want %.9g", n, i, x, (double)y[i], want);
            if (!(fabs((double)du[i] - want_u) <= 1e-6 * fabs(want_u) + zero)) bad("dup n=%zu [%zu] of %.9g: %.9g, want %.9g", n, i, x, (double)du[i], want_u);
            if (!(fabs((double)dg[i] - want_g) <= 1e-6 * fabs(t) * (s + fabs(silu) * not_s) + zero))
                bad("dgate n=%zu [%zu] of %.9g: %.9g, want %.9g", n, i, x, (double)dg[i], want_g);
        }
        band_ok(y), band_ok(dg), band_ok(du);
    }
}

/* the optimizers: the same bits as scalar, and scalar against the equation in double */
static void check_optim(void)
{
    for (size_t n = 0; n <= 150; n++) {
        float *g = floats(0, n, REAL), *st[2][3];
        for (int i = 0; i < 3; i++) {
            st[0][i] = floats(1 + i, n, REAL);
            st[1][i] = slot(4 + i, n * 4);
            for (size_t j = 0; i == 2 && j < n; j++) st[0][i][j] = fabsf(st[0][i][j]);
            memcpy(st[1][i], st[0][i], n * 4);
        }
        float b1 = 0.9f, b2 = 0.95f, clip = 0.7f, lr = 0.01f, eps = 1e-8f, wd = 0.1f, bc1 = 0.271f, bc2 = 0.142625f;
        for (int step = 0; step < 2; step++) {
            for (size_t i = 0; i < n && step == 0 && K == S; i++) {
                double gc = (double)g[i] * (double)clip, m = (double)b1 * (double)st[0][1][i] + (1 - (double)b1) * gc;
                double v = (double)b2 * (double)st[0][2][i] + (1 - (double)b2) * gc * gc;
                double want = (double)st[0][0][i] * (1 - (double)lr * (double)wd) - (double)lr * (m / (double)bc1) / (sqrt(v / (double)bc2) + (double)eps);
                float p = st[0][0][i], mm = st[0][1][i], vv = st[0][2][i];
                K->adamw(&p, &mm, &vv, &g[i], 1, clip, lr, b1, b2, eps, wd, bc1, bc2);
                if (!(fabs((double)p - want) <= 1e-6 * (1 + fabs(want)) && fabs((double)mm - m) <= 1e-6 && fabs((double)vv - v) <= 1e-6))
                    bad("adamw: %.9g, want %.9g", (double)p, want);
                v = (double)b2 * (double)st[0][2][i] + (1 - (double)b2) * gc * gc;
                want = (double)st[0][0][i] - (double)lr * gc / (sqrt(v) + (double)eps);
                p = st[0][0][i], vv = st[0][2][i];
                K->rmsprop(&p, &vv, &g[i], 1, clip, lr, b2, eps);
                if (!(fabs((double)p - want) <= 1e-6 * (1 + fabs(want)))) bad("rmsprop: %.9g, want %.9g", (double)p, want);
            }
            K->adamw(st[0][0], st[0][1], st[0][2], g, n, clip, lr, b1, b2, eps, wd, bc1, bc2);
            S->adamw(st[1][0], st[1][1], st[1][2], g, n, clip, lr, b1, b2, eps, wd, bc1, bc2);
            K->rmsprop(st[0][0], st[0][2], g, n, clip, lr, b2, eps);
            S->rmsprop(st[1][0], st[1][2], g, n, clip, lr, b2, eps);
        }
        for (int i = 0; i < 3; i++) {
            if (memcmp(st[0][i], st[1][i], n * 4) != 0) bad("optimizers n=%zu: state %d is not scalar's", n, i);
            band_ok(st[0][i]);
        }
    }
}

static void check_get(void)
{
    const struct slm2_kernels *k = NULL;
    struct slm2_err err;
    if (slm2_kernels_get(&k, "mmx", &err) != SLM2_EUSAGE || k || !strstr(err.msg, "mmx")) bad("unknown name accepted");
    if (slm2_kernels_get(&k, K->name, &err) != SLM2_OK || k != K) bad("%s not found by its name", K->name);
    for (int t = 0; t < SLM2_N_DTYPE; t++) {
        bool integer = t == SLM2_I32 || t == SLM2_I64 || t == SLM2_U8, plain = t == SLM2_F32 || t == SLM2_F16 || t == SLM2_BF16;
        if (!K->dot_w[t] == plain || !K->gemv_w[t] == plain || !K->to_f32[t] != integer || !K->from_f32[t] == (plain || t == SLM2_Q8_0))
            bad("table entries of type %s", slm2_dtype_info[t].name);
    }
}

static const struct { const char *name; void (*run)(void); } check[] = {
    {"get", check_get},         {"dot", check_dot},         {"to_f32", check_to_f32},   {"from_f32", check_from_f32}, {"to Q8_0", check_quantise}, {"dot_w gemv_w", check_dot_w},
    {"heads_dot heads_sum", check_heads},
    {"products", check_product},
    {"gemm_nt", check_gemm_nt}, {"gemm_nn", check_gemm_nn}, {"axpy scale add max", check_rows}, {"exp_sum", check_exp_sum},
    {"sum_sq moments", check_sums}, {"swiglu", check_swiglu}, {"optimizers", check_optim},
};

/* ---- times -------------------------------------------------------------------------------------------------------- */

static float *bench_mem(size_t n)
{
    float *p = mmap(NULL, n * 4 + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    for (size_t i = 0; i < n; i++) p[i] = (float)(i * 2654435761u % 1024) * 0x1p-10f - 0.5f;
    return p;
}
static void bench_free(float *p, size_t n) { munmap(p, n * 4 + 64); }

/* one thread's processor time: what else runs on the machine does not count */
static double thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define BEST(var, n_try, ...)                                     \
    double var = 1e30;                                            \
    for (int try_ = 0; try_ < (n_try); try_++) {                  \
        double t0 = thread_s();                                   \
        __VA_ARGS__;                                              \
        var = fmin(var, thread_s() - t0);                         \
    }

/* one thread: the caller of a kernel decides on threads */
static void bench_gemm(const char *what, bool nt, size_t m, size_t n, size_t k, bool transposed)
{
    size_t lda = transposed ? m : k;
    float *a = bench_mem(m * k), *b = bench_mem(n * k), *c = bench_mem(m * n);
    BEST(s, m * n * k > (size_t)1 << 30 ? 3 : 20,
         if (nt) K->gemm_nt(c, n, a, k, b, k, m, n, k, false);
         else K->gemm_nn(c, n, a, transposed ? 1 : lda, transposed ? lda : 1, b, n, m, n, k, false))
    printf("  %-7s %-8s m=%zu n=%zu k=%zu%s: %.2f ms, %.1f GFLOP/s\n", nt ? "gemm_nt" : "gemm_nn", what, m, n, k, transposed ? " a^T" : "", s * 1e3,
           2e-9 * (double)m * (double)n * (double)k / s);
    bench_free(a, m * k), bench_free(b, n * k), bench_free(c, m * n);
}

static void bench_gemv(enum slm2_dtype t, size_t n, size_t n_out)
{
    size_t row = slm2_dtype_bytes(t, n), bytes = row * n_out;
    float *x = bench_mem(n), *y = bench_mem(n_out), *w = bench_mem(bytes / 4 + 1);
    enum { CHUNK = 256 };
    BEST(one, 10, K->gemv_w[t](y, x, w, row, n_out, n))
    double all = 1e30;
    for (int try_ = 0; try_ < 10; try_++) {
        double t0 = slm2_now_s();
#pragma omp parallel for schedule(static)
        for (size_t o = 0; o < n_out; o += CHUNK)
            K->gemv_w[t](y + o, x, (const uint8_t *)w + o * row, row, slm2_min_size(CHUNK, n_out - o), n);
        all = fmin(all, slm2_now_s() - t0);
    }
    printf("  gemv_w  %-5s n=%zu n_out=%zu (%zu MiB): %.1f GB/s one thread, %.1f GB/s all threads\n", slm2_dtype_info[t].name, n, n_out, bytes >> 20,
           1e-9 * (double)bytes / one, 1e-9 * (double)bytes / all);
    bench_free(x, n), bench_free(y, n_out), bench_free(w, bytes / 4 + 1);
}

static void bench_rows(void)
{
    enum { N = 8192, REPEAT = 200 };
    float *p = bench_mem(N), *m = bench_mem(N), *v = bench_mem(N), *g = bench_mem(N), mean, var;
    float *hf = bench_mem(N);
    void *h = hf;
    volatile float sink;
    for (int i = 0; i < N; i++) v[i] = fabsf(v[i]);
#define ROW(name, n_array, ...)                                                                                 \
    {                                                                                                           \
        BEST(s, 20, for (int r = 0; r < REPEAT; r++) { __VA_ARGS__; })                                          \
        printf("  %-12s n=%d: %.2f ns an element, %.1f GB/s\n", name, N, 1e9 * s / REPEAT / N, 1e-9 * n_array * 4 * N * REPEAT / s); \
    }
    ROW("dot", 2, sink = K->dot(p, g, N))
    ROW("max", 1, sink = K->max(p, N))
    ROW("exp_sum", 2, sink = K->exp_sum(m, p, 1.0f, N))
    ROW("moments", 2, K->moments(p, N, &mean, &var))
    ROW("sum_sq", 1, sink = (float)K->sum_sq(p, N))
    ROW("swiglu", 3, K->swiglu(m, p, g, N))
    ROW("swiglu_bwd", 5, K->swiglu_bwd(m, p, g, g, v, N))
    ROW("adamw", 7, K->adamw(p, m, v, g, N, 1.0f, 1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, 0.5f))
    ROW("f16->f32", 1.5, K->to_f32[SLM2_F16](p, h, N))
    ROW("f32->bf16", 1.5, K->from_f32[SLM2_BF16](h, g, N))
    (void)sink;
    bench_free(p, N), bench_free(m, N), bench_free(v, N), bench_free(g, N), bench_free(hf, N);
}

/* Products of block types.  mul: the second cache holds the panel; few: w comes from memory, half of it for each of two threads. */
static void bench_product(enum slm2_dtype t, size_t n)
{
    const struct slm2_product *p = K->product[t];
    enum { M = 512, PANEL = 224 };
    size_t row = slm2_dtype_bytes(t, n), n_out = (size_t)128 << 20 >> (row > 1500), bytes = row * (n_out = n_out / row / 64 * 64);
    float *x = bench_mem(M * n), *y = bench_mem(M * n_out / 8), *wf = bench_mem(bytes / 4 + 1), *xf = bench_mem(p->x_bytes(M, n) / 4), *pf = bench_mem(p->w_bytes(PANEL, n) / 4 + 16);
    uint8_t *w = (uint8_t *)wf;
    void *xp = xf, *panel = (uint8_t *)pf + -(uintptr_t)pf % 64;
    BEST(x_s, 5, for (size_t r = 0; r < M; r++) p->x_pack(xp, M, r, x + r * n, n))
    BEST(w_s, 5, p->w_pack(panel, w, row, PANEL, n))
    BEST(mul_s, 8, p->mul(y, PANEL, xp, M, 0, M, panel, PANEL, n))
    printf("  %-5s n=%zu: mul %.0f GOP/s; w_pack %.1f GB/s, x_pack %.1f GB/s; few, one thread:", slm2_dtype_info[t].name, n, 2e-9 * M * PANEL * (double)n / mul_s,
           1e-9 * (double)(PANEL * row) / w_s, 4e-9 * M * (double)n / x_s);
    for (size_t m = 1; m <= SLM2_FEW; m *= 2) {
        for (size_t r = 0; r < m; r++) p->x_pack(xp, m, r, x + r * n, n);
        BEST(few_s, 6, p->few(y, n_out, xp, m, w, row, n_out, n))
        printf(" %zu: %.1f GB/s", m, 1e-9 * (double)bytes / few_s);
    }
    printf("\n");
    bench_free(x, M * n), bench_free(y, M * n_out / 8), bench_free(wf, bytes / 4 + 1), bench_free(xf, p->x_bytes(M, n) / 4), bench_free(pf, p->w_bytes(PANEL, n) / 4 + 16);
}

static void bench(void)
{
    bool slow = K == S;
    printf("%s, times:\n", K->name);
    if (!slow) {
        bench_gemm("logits", true, 512, 25088, 128, false);
        bench_gemm("layer", true, 256, 2048, 2048, false);
        bench_gemm("head", false, 25088, 128, 2048, true);
        bench_gemm("head dx", false, 512, 128, 100352, false);
        bench_gemm("layer dw", false, 2048, 2048, 512, true);
        bench_gemm("layer dx", false, 512, 2048, 2048, false);
    }
    bench_gemm("scores", true, 64, 64, 64, false);
    bench_gemm("cached", true, 1, 1024, 64, false);
    bench_gemm("values", false, 64, 64, 64, false);
    bench_gemm("nano", true, 256, 512, 128, false);
    bench_gemm("nano dw", false, 512, 128, 256, true);
    for (int t = SLM2_Q8_0; t <= SLM2_Q6_K; t++)
        if (K->product[t] && !slow) bench_product(t, 2048);
    for (int it = 0; it < N_PLAIN; it++) bench_gemv(weight_type[it], 2048, slow ? 4096 : 65536);
    bench_rows();
}

int main(int argc, char **argv)
{
    static const char *const isa[] = {"scalar", "avx2", "avx512", "neon"};
    const char *only = getenv("SLM2_ISA");
    int n_pass = 0, n_fail = 0;
    bool times = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) times = true;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) seed = strtoull(argv[++i], NULL, 10);
        else return fprintf(stderr, "usage: check_kernels [--seed N] [--bench]\n"), 2;
    }
    const uint64_t first_seed = seed;
    printf("seed %llu\n", (unsigned long long)seed);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a fault in a kernel comes behind the last "ok" */
    slots_init();
    for (int round = 0; round <= (times ? 1 : 0) && n_fail == 0; round++) {
        for (int i = 0; i < 4; i++) {
            struct slm2_err err;
            if (slm2_kernels_get(&S, "scalar", &err) != SLM2_OK) return 1;
            if (only && strcmp(only, isa[i]) != 0) continue;
            if (slm2_kernels_get(&K, isa[i], &err) != SLM2_OK) {
                if (!round) printf("skipped: %s\n", err.msg);
                continue;
            }
            if (round) bench();
            for (size_t j = 0; !round && j < sizeof check / sizeof check[0]; j++) {
                seed = first_seed; /* the same inputs for every set */
                n_bad = 0;
                check[j].run();
                printf("%s %s: %s\n", K->name, check[j].name, n_bad ? "FAILED" : "ok");
                if (n_bad) n_fail++;
                else n_pass++;
            }
        }
    }
    printf("%d passed, %d failed\n", n_pass, n_fail);
    return n_fail != 0 || n_pass == 0;
}
