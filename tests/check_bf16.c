/* check_bf16.c - products of bf16 numbers on the processor's own bf16 arithmetic, against sums in double.
 *
 * Whole numbers first: their sums are exact in any order, so every bit must be right, on shapes that leave something over everywhere.  Then random
 * numbers: n terms added one after the other in fp32 are within n 2^-24 of sum |x w|.  What the header promises to be equal is compared by its bits.
 * Every array ends at a page that may not be touched. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "kernels/kernels.h"

static const struct slm2_kernels *K;
static const struct slm2_product *P;
static int n_passed, n_failed, n_bad;
static uint64_t seed = 1;

/* ---- arrays that end at a forbidden page -------------------------------------------------------------------------- */
enum { N_SLOT = 8, SLOT_BYTES = 8 << 20 };
static uint8_t *slot_base[N_SLOT];

static void slots_init(void)
{
    for (int s = 0; s < N_SLOT; s++) {
        uint8_t *p = mmap(NULL, SLOT_BYTES + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + SLOT_BYTES, 65536, PROT_NONE) != 0) abort();
        slot_base[s] = p;
    }
}

/* all bits set: NaN in both types */
static void *slot(int s, size_t bytes)
{
    if (bytes > SLOT_BYTES) abort();
    return memset(slot_base[s] + SLOT_BYTES - bytes, 0xff, bytes);
}

enum kind { WHOLE, REAL };
static float draw(enum kind kind)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    uint32_t u = (uint32_t)(seed >> 32);
    return kind == WHOLE ? (float)(u % 9) - 4.0f : (float)(int32_t)u * 0x1p-31f;
}
static float *floats(int s, size_t n, enum kind kind)
{
    float *x = slot(s, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = draw(kind);
    return x;
}
static uint16_t *halves(int s, size_t n, enum kind kind)
{
    uint16_t *x = slot(s, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = slm2_f32_to_bf16(draw(kind));
    return x;
}

static void bad(const char *what, size_t r, size_t o, float got, double want, size_t n_row, size_t n_out, size_t n)
{
    if (n_bad++ < 3) printf("    %s [%zu][%zu] is %.9g, want %.9g (%zu rows, %zu outputs, %zu terms)\n", what, r, o, (double)got, want, n_row, n_out, n);
}

static void report(const char *what)
{
    printf("avx512 %s: %s\n", what, n_bad ? "FAILED" : "ok");
    if (n_bad) n_failed++;
    else n_passed++;
    n_bad = 0;
}

/* ---- y = x w^T ---------------------------------------------------------------------------------------------------- */
struct forward {
    size_t n_row, n_out, n, ldw, ldy;
    float *x, *y;
    uint16_t *w;
    void *xp;
};

static struct forward forward_of(size_t n_row, size_t n_out, size_t n, enum kind kind)
{
    struct forward f = {.n_row = n_row, .n_out = n_out, .n = n, .ldw = n + 3, .ldy = n_out + 2};
    f.x = floats(0, n_row * n, kind);
    f.w = halves(1, (n_out - 1) * f.ldw + n, kind);
    f.xp = slot(2, P->x_bytes(n_row, n));
    for (size_t r = n_row; r-- > 0;) P->x_pack(f.xp, n_row, r, f.x + r * n, n);
    f.y = slot(3, ((n_row - 1) * f.ldy + n_out) * sizeof *f.y);
    return f;
}

static void forward_right(const char *what, const struct forward *f, enum kind kind)
{
    for (size_t r = 0; r < f->n_row; r++) {
        for (size_t o = 0; o < f->n_out; o++) {
            double want = 0, size = 0;
            for (size_t i = 0; i < f->n; i++) {
                double t = (double)slm2_bf16_to_f32(slm2_f32_to_bf16(f->x[r * f->n + i])) * (double)slm2_bf16_to_f32(f->w[o * f->ldw + i]);
                want += t;
                size += fabs(t);
            }
            float got = f->y[r * f->ldy + o];
            if (!(fabs((double)got - want) <= (kind == WHOLE ? 0 : (double)f->n * 0x1p-24 * size))) bad(what, r, o, got, want, f->n_row, f->n_out, f->n);
        }
        for (size_t o = f->n_out; o < f->ldy && r + 1 < f->n_row; o++) {
            if (!isnan(f->y[r * f->ldy + o])) bad("behind a row", r, o, f->y[r * f->ldy + o], 0, f->n_row, f->n_out, f->n);
        }
    }
}

/* Panels of one and of several groups; rows in two pieces. */
static void mul_all(const struct forward *f, size_t panel_rows)
{
    for (size_t o = 0; o < f->n_out; o += panel_rows) {
        size_t n_out = slm2_min_size(panel_rows, f->n_out - o), half = f->n_row / 3;
        uint8_t *panel = slot_base[4]; /* starts on 64 bytes */
        if (P->w_bytes(n_out, f->n) > SLOT_BYTES) abort();
        memset(panel, 0xff, P->w_bytes(n_out, f->n) + 64);
        P->w_pack(panel, f->w + o * f->ldw, f->ldw * sizeof *f->w, n_out, f->n);
        for (int i = 0; i < 64; i++) {
            if (panel[P->w_bytes(n_out, f->n) + (size_t)i] != 0xff) bad("behind a panel", o, (size_t)i, 0, 0, f->n_row, n_out, f->n);
        }
        P->mul(f->y + o, f->ldy, f->xp, f->n_row, 0, half, panel, n_out, f->n);
        P->mul(f->y + half * f->ldy + o, f->ldy, f->xp, f->n_row, half, f->n_row - half, panel, n_out, f->n);
    }
}

static const size_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 77, 511, 512, 515, 1100};
static const size_t outputs[] = {1, 2, 15, 16, 17, 31, 32, 33, 47, 49, 70};
enum { N_LENGTH = sizeof lengths / sizeof *lengths, N_OUTPUT = sizeof outputs / sizeof *outputs };

static void check_forward(void)
{
    static const size_t many[] = {1, 2, 5, 11, 12, 13, 17, 25, 40};
    for (int kind = WHOLE; kind <= REAL; kind++) {
        for (int l = 0; l < N_LENGTH; l++) {
            for (int o = 0; o < N_OUTPUT; o++) {
                for (size_t m = 0; m < sizeof many / sizeof *many; m++) {
                    struct forward f = forward_of(many[m], outputs[o], lengths[l], (enum kind)kind);
                    mul_all(&f, o % 2 ? 32 : 48);
                    forward_right("mul", &f, (enum kind)kind);
                }
            }
        }
        struct forward f = forward_of(600, 33, 70, (enum kind)kind); /* more rows than mul() keeps close at a time */
        mul_all(&f, 64);
        forward_right("mul", &f, (enum kind)kind);
    }
    report("mul");
}

static void check_few(void)
{
    for (size_t n_row = 1; n_row <= SLM2_FEW; n_row++) {
        for (int l = 0; l < N_LENGTH; l++) {
            for (int o = 0; o < N_OUTPUT; o++) {
                struct forward f = forward_of(n_row, outputs[o], lengths[l], WHOLE);
                P->few(f.y, f.ldy, f.xp, n_row, f.w, f.ldw * sizeof *f.w, f.n_out, f.n);
                forward_right("few", &f, WHOLE);
            }
        }
    }
    report("few");
}

/* Whatever is computed beside an output: few rows, many rows, other panels.  Tiny numbers too: their sums fall under the least normal number. */
static void check_few_is_mul(void)
{
    for (size_t n_row = 1; n_row <= SLM2_FEW; n_row++) {
        for (int l = 0; l < N_LENGTH; l++) {
            struct forward f = forward_of(n_row, 49, lengths[l], REAL);
            for (size_t i = 0; n_row % 3 == 0 && i < n_row * f.n; i++) f.x[i] = (float)((double)f.x[i] * 0x1p-120);
            for (size_t r = 0; r < n_row; r++) P->x_pack(f.xp, n_row, r, f.x + r * f.n, f.n);
            size_t bytes = ((n_row - 1) * f.ldy + f.n_out) * sizeof *f.y;
            P->few(f.y, f.ldy, f.xp, n_row, f.w, f.ldw * sizeof *f.w, f.n_out, f.n);
            void *few = memcpy(slot(5, bytes), f.y, bytes);
            mul_all(&f, 32);
            if (memcmp(few, f.y, bytes) != 0) bad("few is not mul", 0, 0, 0, 0, n_row, f.n_out, f.n);
            for (size_t r = 0; r < n_row; r++) { /* each row alone */
                float one[49];
                void *xp = slot(6, P->x_bytes(1, f.n));
                P->x_pack(xp, 1, 0, f.x + r * f.n, f.n);
                P->few(one, 49, xp, 1, f.w, f.ldw * sizeof *f.w, f.n_out, f.n);
                if (memcmp(one, f.y + r * f.ldy, sizeof one) != 0) bad("a row alone", r, 0, 0, 0, n_row, f.n_out, f.n);
            }
        }
    }
    report("few, mul: the same bits");
}

/* Rounding: ties, infinities and NaN, seen through a weight of one. */
static void check_rounding(void)
{
    static const uint32_t bits[] = {0x3f808000u, 0x3f818000u, 0x3f808001u, 0x3f807fffu, 0xbf818000u, 0x7f7fffffu, 0x7f800000u, 0xff800000u, 0x7f800001u, 0x7fc00000u, 0x00800000u, 0x80c18000u, 0x00000000u};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        float x, y = 0;
        uint16_t one = 0x3f80;
        memcpy(&x, &bits[i], 4);
        void *xp = slot(2, P->x_bytes(1, 1));
        P->x_pack(xp, 1, 0, &x, 1);
        P->few(&y, 1, xp, 1, &one, 2, 1, 1);
        float want = slm2_bf16_to_f32(slm2_f32_to_bf16(x));
        if (isnan(want) ? !isnan(y) : y != want) bad("rounded", i, 0, y, (double)want, 1, 1, 1);
    }
    report("x_pack: rounding");
}

/* ---- c (= or +=) a b ---------------------------------------------------------------------------------------------- */
static void gemm_case(size_t m, size_t n, size_t k, bool columns, bool accumulate, enum kind kind)
{
    size_t lda = (columns ? m : k) + 5, ldb = n + 1, ldc = n + 3, bytes = ((m - 1) * ldc + n) * sizeof(float);
    uint16_t *a = halves(0, columns ? (k - 1) * lda + m : (m - 1) * lda + k, kind), *b = halves(1, (k - 1) * ldb + n, kind);
    float *start = floats(2, (m - 1) * ldc + n, kind), *c = memcpy(slot(3, bytes), start, bytes);
    size_t a_m = columns ? 1 : lda, a_k = columns ? lda : 1, cut = k / 3 * 2;
    K->gemm_nn_bf16(c, ldc, a, a_m, a_k, b, ldb, m, n, k, accumulate);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double want = accumulate ? (double)start[i * ldc + j] : 0, size = fabs(want);
            for (size_t l = 0; l < k; l++) {
                double t = (double)slm2_bf16_to_f32(a[i * a_m + l * a_k]) * (double)slm2_bf16_to_f32(b[l * ldb + j]);
                want += t;
                size += fabs(t);
            }
            if (!(fabs((double)c[i * ldc + j] - want) <= (kind == WHOLE ? 0 : (double)(k + 1) * 0x1p-24 * size))) bad("gemm_nn_bf16", i, j, c[i * ldc + j], want, m, n, k);
        }
        for (size_t j = n; j < ldc && i + 1 < m; j++) {
            if (memcmp(&c[i * ldc + j], &start[i * ldc + j], sizeof *c) != 0) bad("behind a row", i, j, c[i * ldc + j], (double)start[i * ldc + j], m, n, k);
        }
    }
    if (cut == 0) return;
    float *two = memcpy(slot(4, bytes), start, bytes); /* two pieces of k give the same bits */
    K->gemm_nn_bf16(two, ldc, a, a_m, a_k, b, ldb, m, n, cut, accumulate);
    K->gemm_nn_bf16(two, ldc, a + cut * a_k, a_m, a_k, b + cut * ldb, ldb, m, n, k - cut, true);
    if (memcmp(two, c, bytes) != 0) bad("gemm_nn_bf16 in two pieces", 0, 0, 0, 0, m, n, k);
}

static void check_gemm(void)
{
    static const size_t rows[] = {1, 2, 7, 12, 13, 24, 35}, columns[] = {1, 5, 16, 17, 32, 33, 63, 70}, terms[] = {1, 2, 3, 16, 31, 32, 33, 45, 130};
    for (int v = 0; v < 8; v++) {
        enum kind kind = v & 1 ? REAL : WHOLE;
        bool along = v & 2, accumulate = v & 4;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            for (size_t j = 0; j < sizeof columns / sizeof *columns; j++) {
                for (size_t l = 0; l < sizeof terms / sizeof *terms; l++) gemm_case(rows[i], columns[j], terms[l], along, accumulate, kind);
            }
        }
        gemm_case(131, 290, 9, along, accumulate, kind); /* beyond one packed piece each way */
        gemm_case(13, 40, 1030, along, accumulate, kind);
    }
    float c[2] = {3, 4};
    K->gemm_nn_bf16(c, 1, NULL, 1, 1, NULL, 1, 2, 1, 0, true);
    if (c[0] != 3 || c[1] != 4) bad("no terms, added", 0, 0, c[0], 3, 2, 1, 0);
    K->gemm_nn_bf16(c, 1, NULL, 1, 1, NULL, 1, 2, 1, 0, false);
    if (c[0] != 0 || c[1] != 0) bad("no terms", 0, 0, c[0], 0, 2, 1, 0);
    report("gemm_nn_bf16");
}

int main(void)
{
    struct slm2_err err;
    if (slm2_kernels_get(&K, "avx512", &err) != SLM2_OK || !K->gemm_nn_bf16) {
        printf("skipped: this processor has no bf16 arithmetic (AVX-512 BF16)\n0 passed, 0 failed\n");
        return 0;
    }
    P = K->product[SLM2_BF16];
    slots_init();
    check_forward();
    check_few();
    check_few_is_mul();
    check_rounding();
    check_gemm();
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed > 0;
}
