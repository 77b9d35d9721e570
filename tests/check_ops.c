/* check_ops.c - the cpu backend against ref for every operation, odd shapes, each instruction set, 1, 2 and 3 threads (bit for bit the
 * same); ref's gradients against central differences; one token alone against the same token in a prompt, bit for bit.
 *
 * A case runs one op on seeded inputs and emits its outputs with a tolerance.  Small-integer inputs make sums exact in any order, so
 * there the tolerance is 0.  Rows are longer than their columns: the gap holds NaN, which must be neither read nor changed. */
#include "slm2_test.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "ops/ops.h"

#define EPS 5.9604645e-8 /* 2^-24: half a unit of the last place of 1 in F32 */

enum fill { REAL, WHOLE }; /* uniform in [-1, 1), or whole numbers from -2 to 2 */
enum { MAX_PIECES = 64, GAP = 3, MAX_TRIES = 12 };

/* ---- inputs and outputs of a case ----------------------------------------------------------------------------------- */
struct bench {
    struct slm2_ctx *c;
    uint64_t seed;
    void *piece[MAX_PIECES];
    int n_piece;
    float *out; /* emitted outputs and what they may differ by */
    double *tol;
    size_t n_out, cap;
};

static double draw(struct bench *b, enum fill fill)
{
    b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
    uint32_t u = (uint32_t)(b->seed >> 33);
    return fill == REAL ? (double)u / 1073741824.0 - 1 : (double)(u % 5) - 2;
}

static void *take(struct bench *b, size_t bytes)
{
    void *p = malloc(bytes + 64);
    assert_non_null(p);
    assert_true(b->n_piece < MAX_PIECES);
    memset(p, 0xff, bytes + 64); /* NaN in F32, F16 and BF16 */
    return b->piece[b->n_piece++] = p;
}

static void set_elem(struct slm2_mat *m, int r, int i, double v)
{
    size_t at = (size_t)r * (size_t)m->stride + (size_t)i;
    if (m->dtype == SLM2_F32) ((float *)m->data)[at] = (float)v;
    else if (m->dtype == SLM2_BF16) ((uint16_t *)m->data)[at] = slm2_f32_to_bf16((float)v);
    else ((uint16_t *)m->data)[at] = slm2_f32_to_f16((float)v);
}

/* A matrix of any type; packed types get random codes and, when whole, the scale 1. */
static struct slm2_mat mat(struct bench *b, enum slm2_dtype t, int n_row, int n_col, enum fill fill)
{
    bool packed = t == SLM2_Q8_0 || t == SLM2_Q4_0;
    struct slm2_mat m = {NULL, t, n_row, n_col, packed ? n_col : n_col + GAP};
    m.data = take(b, slm2_dtype_bytes(t, (size_t)n_row * (size_t)m.stride));
    if (!packed) {
        for (int r = 0; r < n_row; r++) {
            for (int i = 0; i < n_col; i++) set_elem(&m, r, i, draw(b, fill));
        }
        return m;
    }
    size_t n_block = (size_t)n_row * (size_t)n_col / SLM2_QK;
    for (size_t k = 0; k < n_block; k++) {
        struct slm2_block_q8_0 *q8 = (struct slm2_block_q8_0 *)m.data + k;
        struct slm2_block_q4_0 *q4 = (struct slm2_block_q4_0 *)m.data + k;
        uint16_t d = slm2_f32_to_f16(fill == WHOLE ? 1.0f : (float)draw(b, REAL) * (t == SLM2_Q8_0 ? 0.01f : 0.15f));
        if (t == SLM2_Q8_0) q8->d = d;
        else q4->d = d;
        for (int i = 0; i < SLM2_QK; i++) {
            if (t == SLM2_Q8_0) q8->q[i] = (int8_t)(fill == WHOLE ? draw(b, WHOLE) : 127 * draw(b, REAL));
            else if (i < SLM2_QK / 2) q4->q[i] = (uint8_t)(int)(128 + 127 * draw(b, REAL));
        }
    }
    return m;
}

static float *vec(struct bench *b, size_t n, enum fill fill)
{
    float *v = take(b, n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (float)draw(b, fill);
    return v;
}

static void emit_one(struct bench *b, float v, double tol)
{
    if (b->n_out == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 4096;
        b->out = realloc(b->out, b->cap * sizeof *b->out);
        b->tol = realloc(b->tol, b->cap * sizeof *b->tol);
        assert_true(b->out && b->tol);
    }
    b->out[b->n_out] = v;
    b->tol[b->n_out++] = tol;
}

static void emit_vec(struct bench *b, const float *v, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++) emit_one(b, v[i], tol);
}

/* The whole matrix with its gaps.  BF16: two roundings of nearly the same number differ by at most one unit, 2^-7 of it. */
static void emit(struct bench *b, const struct slm2_mat *m, double tol)
{
    for (size_t i = 0; i < (size_t)m->n_row * (size_t)m->stride; i++) {
        float v = m->dtype == SLM2_F32 ? ((const float *)m->data)[i]
                  : m->dtype == SLM2_F16 ? slm2_f16_to_f32(((const uint16_t *)m->data)[i])
                                         : slm2_bf16_to_f32(((const uint16_t *)m->data)[i]);
        emit_one(b, v, m->dtype == SLM2_F32 || tol == 0 ? tol : tol + fabs((double)v) * 0x1p-7);
    }
}

static void reset(struct bench *b)
{
    while (b->n_piece > 0) free(b->piece[--b->n_piece]);
    b->n_out = 0;
}

static void bench_free(struct bench *b)
{
    reset(b);
    free(b->out);
    free(b->tol);
}

/* ---- backends ------------------------------------------------------------------------------------------------------- */
static struct slm2_ctx ref_ctx, cpu_ctx[MAX_TRIES];
static int n_cpu; /* three thread counts for each instruction set, in this order */

static int open_backends(void **state)
{
    (void)state;
    static const char *const isa[] = {"scalar", "avx2", "avx512", "neon"};
    struct slm2_err err;
    struct slm2_ctx_opts o = {.backend = "ref", .n_threads = 1};
    if (slm2_ctx_init(&ref_ctx, &o, &err)) return -1;
    for (int k = 0; k < 4; k++) {
        for (int t = 1; t <= 3; t++) {
            o = (struct slm2_ctx_opts){.isa = isa[k], .n_threads = t};
            slm2_status st = slm2_ctx_init(&cpu_ctx[n_cpu], &o, &err);
            if (st == SLM2_EUSAGE) {
                printf("skipped: %s\n", err.msg);
                break;
            }
            if (st || slm2_ctx_reserve(&cpu_ctx[n_cpu], slm2_ops_scratch_floats(4500, 300, 160), &err)) return -1;
            n_cpu++;
        }
    }
    return n_cpu > 0 ? 0 : -1;
}

static int close_backends(void **state)
{
    (void)state;
    slm2_ctx_free(&ref_ctx);
    while (n_cpu > 0) slm2_ctx_free(&cpu_ctx[--n_cpu]);
    return 0;
}

typedef void case_fn(struct bench *b, int variant);

static void compare(const struct bench *got, const struct bench *want, const struct bench *one, const char *what, int variant)
{
    assert_int_equal(got->n_out, want->n_out);
    for (size_t i = 0; i < want->n_out; i++) {
        float g = got->out[i], w = want->out[i];
        bool same = !memcmp(&g, &w, sizeof g) || g == w;
        if (!same && !(fabs((double)g - (double)w) <= want->tol[i])) {
            fail_msg("%s, variant %d, %s, %d threads: output %zu is %.9g, ref has %.9g, tolerance %.3g", what, variant, got->c->k->name,
                     got->c->n_threads, i, (double)g, (double)w, want->tol[i]);
        }
        if (memcmp(&g, one->out + i, sizeof g) != 0) {
            fail_msg("%s, variant %d, %s: output %zu is %.9g with %d threads, %.9g with one", what, variant, got->c->k->name, i, (double)g,
                     got->c->n_threads, (double)one->out[i]);
        }
    }
}

/* Runs the case on ref and on every cpu context. */
static void against_ref(case_fn *fn, const char *what, int n_variant)
{
    for (int variant = 0; variant < n_variant; variant++) {
        struct bench want = {.c = &ref_ctx, .seed = (uint64_t)variant + 1}, one = {0};
        fn(&want, variant);
        assert_true(want.n_out > 0);
        for (int i = 0; i < n_cpu; i++) {
            struct bench got = {.c = &cpu_ctx[i], .seed = (uint64_t)variant + 1};
            fn(&got, variant);
            if (cpu_ctx[i].n_threads == 1) {
                bench_free(&one);
                one = got;
                compare(&got, &want, &one, what, variant);
            } else {
                compare(&got, &want, &one, what, variant);
                bench_free(&got);
            }
        }
        bench_free(&one);
        bench_free(&want);
    }
}

/* ---- cases ---------------------------------------------------------------------------------------------------------- */
static const enum slm2_dtype weight_types[] = {SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_Q8_0, SLM2_Q4_0};
static const int linear_shapes[][3] = {{1, 37, 64}, {3, 100, 96}, {4, 33, 32}, {5, 70, 160}, {37, 203, 96}, {530, 41, 32}, {9, 150, 4128}};

static void linear_case(struct bench *b, int variant)
{
    enum fill fill = variant & 1 ? REAL : WHOLE;
    enum slm2_dtype act = variant & 2 ? SLM2_BF16 : SLM2_F32, type = weight_types[variant / 4 % 5];
    const int *s = linear_shapes[variant / 20];
    bool blocks = type == SLM2_Q8_0 || type == SLM2_Q4_0;
    int n_in = s[2] - (blocks ? 0 : 5);
    struct slm2_mat x = mat(b, act, s[0], n_in, fill), w = mat(b, type, s[1], n_in, fill), bias = mat(b, SLM2_F32, 1, s[1], fill), y = mat(b, act, s[0], s[1], fill);
    struct slm2_mat fast = mat(b, act, s[0], s[1], fill);
    double exact_tol = fill == WHOLE ? 0 : 4 * EPS * n_in;
    b->c->exact = true;
    b->c->ops->linear(b->c, &y, &x, &w, variant % 3 ? &bias : NULL);
    emit(b, &y, exact_tol);
    b->c->exact = false;
    b->c->ops->linear(b->c, &fast, &x, &w, variant % 3 ? &bias : NULL);
    /* Activations lose up to half of max|x| / 127 in blocks, 2^-9 of themselves in bf16 (nothing if they are whole); errors of either sign add up
     * as their root mean square; this is 6 times that, with weights up to 1, or whole codes up to 8 and activations up to 2. */
    double rounding = blocks ? (fill == WHOLE ? 0x1p-3 : 0x1p-7) : type == SLM2_BF16 && fill == REAL ? 0x1p-8 : 0;
    emit(b, &fast, exact_tol + rounding * sqrt((double)n_in));
}
static void linear(void **state)
{
    (void)state;
    against_ref(linear_case, "linear", 20 * 7);
}

static void linear_bwd_case(struct bench *b, int variant)
{
    static const int shapes[][3] = {{1, 7, 5}, {33, 300, 37}, {300, 70, 290}, {67, 530, 32}, {2, 64, 256}};
    enum fill fill = variant & 1 ? REAL : WHOLE;
    enum slm2_dtype act = variant & 2 ? SLM2_BF16 : SLM2_F32, type = variant & 4 ? SLM2_BF16 : SLM2_F32;
    const int *s = shapes[variant / 8];
    struct slm2_mat x = mat(b, act, s[0], s[2], fill), w = mat(b, type, s[1], s[2], fill), dy = mat(b, act, s[0], s[1], fill);
    struct slm2_mat dx = mat(b, act, s[0], s[2], fill), dw = mat(b, SLM2_F32, s[1], s[2], fill), db = mat(b, SLM2_F32, 1, s[1], fill);
    bool all = variant % 3 != 2;
    b->c->ops->linear_bwd(b->c, &dx, variant % 3 == 0, all ? &dw : NULL, all ? &db : NULL, &dy, &x, &w);
    emit(b, &dx, fill == WHOLE ? 0 : 4 * EPS * s[1]);
    emit(b, &dw, fill == WHOLE ? 0 : 4 * EPS * s[0]);
    emit(b, &db, fill == WHOLE ? 0 : 4 * EPS * s[0]);
}
static void linear_bwd(void **state)
{
    (void)state;
    against_ref(linear_bwd_case, "linear_bwd", 8 * 5);
}

static void layer_norm_case(struct bench *b, int variant)
{
    static const int shapes[][3] = {{1, 33, 1}, {7, 128, 1}, {40, 64, 4}, {300, 1001, 1}}; /* rows, columns, gamma rows */
    enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32;
    const int *s = shapes[variant / 4];
    struct slm2_mat x = mat(b, act, s[0], s[1], REAL), y = mat(b, act, s[0], s[1], REAL), gamma = mat(b, SLM2_F32, s[2], s[1], REAL);
    struct slm2_mat beta = mat(b, SLM2_F32, s[2], s[1], REAL), dy = mat(b, act, s[0], s[1], REAL), dx = mat(b, act, s[0], s[1], REAL);
    struct slm2_mat dgamma = mat(b, SLM2_F32, s[2], s[1], REAL), dbeta = mat(b, SLM2_F32, s[2], s[1], REAL);
    float *mean = vec(b, (size_t)s[0], REAL), *rstd = vec(b, (size_t)s[0], REAL);
    const struct slm2_ops *ops = b->c->ops;
    bool with_beta = variant & 2;
    ops->layer_norm(b->c, &y, mean, rstd, &x, &gamma, with_beta ? &beta : NULL, 1e-5f);
    emit(b, &y, 32 * EPS);
    emit_vec(b, mean, (size_t)s[0], 4 * EPS);
    emit_vec(b, rstd, (size_t)s[0], 16 * EPS);
    ops->layer_norm_bwd(b->c, &dx, variant & 1, &dgamma, with_beta ? &dbeta : NULL, &dy, &x, mean, rstd, &gamma);
    emit(b, &dx, 64 * EPS);
    emit(b, &dgamma, 8 * EPS * (s[0] / s[2] + 8));
    emit(b, &dbeta, 8 * EPS * (s[0] / s[2] + 8));
    ops->layer_norm(b->c, &x, NULL, NULL, &x, &gamma, with_beta ? &beta : NULL, 1e-5f); /* in place */
    emit(b, &x, 32 * EPS);
}
static void layer_norm(void **state)
{
    (void)state;
    against_ref(layer_norm_case, "layer_norm", 16);
}

static void rope_case(struct bench *b, int variant)
{
    static const int shapes[][4] = {{1, 1, 8, 2}, {5, 3, 20, 10}, {70, 4, 64, 16}, {300, 2, 80, 80}}; /* rows, heads, head_dim, n_rot */
    const int *s = shapes[variant / 4];
    struct slm2_mat x = mat(b, variant & 1 ? SLM2_BF16 : SLM2_F32, s[0], s[1] * s[2], REAL);
    int32_t position[300];
    for (int r = 0; r < s[0]; r++) position[r] = r % 7 ? r * 13 : 4095;
    b->c->ops->rope(b->c, &x, s[1], s[3], 10000.0f, variant & 2 ? -1 : 1, position);
    emit(b, &x, 6 * EPS);
}
static void rope(void **state)
{
    (void)state;
    against_ref(rope_case, "rope", 16);
}

/* Keys and values of these types are multiplied in bf16 where the processor can and head_dim allows, unless the context is exact. */
static bool rounds(enum slm2_dtype kv, int head_dim, bool exact) { return (kv == SLM2_BF16 || kv == SLM2_Q8_0) && head_dim % 32 == 0 && !exact; }

/* Rows [from, to) become NaN */
static void spoil(struct slm2_mat *m, int from, int to)
{
    for (int r = from; r < to; r++) {
        struct slm2_block_q8_0 *b = (void *)((uint8_t *)m->data + (size_t)r * slm2_mat_row_bytes(m));
        for (int j = 0; j < m->n_col; j++) {
            if (m->dtype == SLM2_Q8_0) b[j / SLM2_QK].d = 0x7e00;
            else set_elem(m, r, j, (double)NAN);
        }
    }
}

static const enum slm2_dtype cache_types[] = {SLM2_F32, SLM2_F16, SLM2_BF16, SLM2_Q8_0};

/* Sequences of these lengths, several query rows each, over the keys that lie before.  The backend keeps the state of 96 lines: 98 heads do
 * not fit and are halved, and the longest sequence has one block of rows and some more, at least those beyond two tiles of 64 or one of 128 keys. */
static void attn_case(struct bench *b, int variant)
{
    static const int heads[][3] = {{1, 1, 8}, {4, 2, 16}, {6, 2, 33}, {3, 1, 160}, {3, 3, 64}, {8, 2, 32}, {98, 1, 32}}; /* n_head, n_kv_head, head_dim */
    static const int lens[] = {5, 0, 1, 40, 17, 150};
    const int *s = heads[variant / 16];
    enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32, kv = cache_types[variant / 2 % 4];
    bool exact = variant & 8;
    if (kv == SLM2_Q8_0 && s[2] % SLM2_QK) kv = SLM2_BF16;
    int n_kv = 0, n_tok = 0, rows = slm2_max_int(24, 96 * s[1] / s[0] + 8);
    int32_t cu[7] = {0}, start[6], position[220];
    for (int i = 0; i < 6; i++) {
        start[i] = n_kv + 2; /* two rows between sequences that nobody may read */
        n_kv += lens[i] + 2;
        int first = i == 5 ? lens[i] - rows : lens[i] / 3; /* some keys are already in the cache */
        for (int p = first; p < lens[i]; p++) position[n_tok++] = p;
        cu[i + 1] = n_tok;
    }
    struct slm2_mat q = mat(b, act, n_tok, s[0] * s[2], REAL), k = mat(b, kv, n_kv, s[1] * s[2], REAL), v = mat(b, kv, n_kv, s[1] * s[2], REAL);
    struct slm2_mat o = mat(b, act, n_tok, s[0] * s[2], REAL);
    for (int i = 0; i < 6; i++) {
        spoil(&k, start[i] - 2, start[i]);
        spoil(&v, start[i] - 2, start[i]);
    }
    float *lse = vec(b, (size_t)n_tok * (size_t)s[0], REAL);
    const struct slm2_seqs seqs = {.n_seq = 6, .cu_seqlens = cu, .kv_start = start, .position = position};
    b->c->exact = exact;
    b->c->ops->attn(b->c, &o, lse, &q, &k, &v, s[0], s[1], &seqs);
    b->c->exact = false;
    bool bf16 = rounds(kv, s[2], exact); /* queries, weights and unpacked Q8_0 lose up to 2^-9 of themselves; scores are below 3 */
    emit(b, &o, bf16 ? 0x1p-7 : 64 * EPS);
    emit_vec(b, lse, (size_t)n_tok * (size_t)s[0], bf16 ? 0x1p-7 : 32 * EPS);
}
static void attn(void **state)
{
    (void)state;
    against_ref(attn_case, "attn", 16 * 7);
}

static void attn_bwd_case(struct bench *b, int variant)
{
    static const int heads[][3] = {{1, 1, 8}, {4, 2, 16}, {6, 2, 33}, {2, 2, 70}, {2, 2, 64}, {4, 2, 96}};
    static const int32_t cu[] = {0, 5, 5, 6, 40, 180};
    enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32;
    const int *s = heads[variant / 4];
    bool exact = variant & 2;
    int n_tok = 180, n_q = s[0] * s[2], n_k = s[1] * s[2];
    int32_t position[180];
    for (int i = 0; i < 5; i++) {
        for (int r = cu[i]; r < cu[i + 1]; r++) position[r] = r - cu[i];
    }
    struct slm2_mat q = mat(b, act, n_tok, n_q, REAL), k = mat(b, act, n_tok, n_k, REAL), v = mat(b, act, n_tok, n_k, REAL);
    struct slm2_mat o = mat(b, act, n_tok, n_q, REAL), do_ = mat(b, act, n_tok, n_q, REAL);
    struct slm2_mat dq = mat(b, act, n_tok, n_q, REAL), dk = mat(b, act, n_tok, n_k, REAL), dv = mat(b, act, n_tok, n_k, REAL);
    float *lse = vec(b, (size_t)(n_tok * s[0]), REAL);
    const struct slm2_seqs seqs = {.n_seq = 5, .cu_seqlens = cu, .kv_start = cu, .position = position};
    ref_ctx.ops->attn(&ref_ctx, &o, lse, &q, &k, &v, s[0], s[1], &seqs); /* the same o and lse for both */
    b->c->exact = exact;
    b->c->ops->attn_bwd(b->c, &dq, &dk, &dv, &do_, &o, lse, &q, &k, &v, s[0], s[1], &seqs);
    b->c->exact = false;
    bool bf16 = rounds(act, s[2], exact); /* p and ds lose up to 2^-9 of themselves; the sums of their sizes along a column are below 4 */
    emit(b, &dq, bf16 ? 0x1p-8 : 200 * EPS);
    emit(b, &dk, bf16 ? 0x1p-7 : 400 * EPS);
    emit(b, &dv, bf16 ? 0x1p-7 : 200 * EPS);
}
static void attn_bwd(void **state)
{
    (void)state;
    against_ref(attn_bwd_case, "attn_bwd", 4 * 6);
}

static void elements_case(struct bench *b, int variant)
{
    static const int shapes[][2] = {{1, 1}, {3, 77}, {9, 1030}};
    enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32, other = variant & 2 ? SLM2_BF16 : SLM2_F32;
    const int *s = shapes[variant / 4];
    const struct slm2_ops *ops = b->c->ops;
    struct slm2_mat x = mat(b, act, s[0], s[1], REAL), z = mat(b, act, s[0], s[1], REAL), y = mat(b, act, s[0], s[1], REAL), d = mat(b, act, s[0], s[1], REAL);
    struct slm2_mat dx = mat(b, act, s[0], s[1], REAL), dz = mat(b, act, s[0], s[1], REAL);
    set_elem(&x, 0, 0, 30.0);
    set_elem(&x, s[0] - 1, s[1] - 1, -60.0);
    ops->swiglu(b->c, &y, &x, &z);
    emit(b, &y, 30 * 24 * EPS);
    ops->swiglu_bwd(b->c, &dx, &dz, &d, &x, &z);
    emit(b, &dx, 64 * EPS);
    emit(b, &dz, 30 * 24 * EPS);
    ops->add(b->c, &z, &z, &d);
    emit(b, &z, 0);
    ops->scale(b->c, &z, 0.7f);
    emit(b, &z, 0); /* one product, rounded once */
    struct slm2_mat copy = mat(b, other, s[0], s[1], REAL), cache = mat(b, other, 20, s[1], REAL);
    ops->copy(b->c, &copy, &x);
    emit(b, &copy, 0);
    int32_t index[9] = {7, 3, 19, 0, 1, 2, 11, 12, 4};
    ops->scatter(b->c, &cache, &x, index);
    emit(b, &cache, 0);
    struct slm2_mat wide = mat(b, act, s[0], 96, REAL), packed = mat(b, SLM2_Q8_0, 20, 96, REAL), back = mat(b, SLM2_F32, 20, 96, REAL);
    int32_t all[20];
    for (int i = 0; i < 20; i++) all[i] = i;
    ops->scatter(b->c, &packed, &wide, index);
    ops->embed(b->c, &back, &packed, all); /* unpacks it */
    emit(b, &back, 0);
    ops->zero(b->c, cache.data, slm2_dtype_bytes(other, (size_t)s[1]));
    emit(b, &cache, 0);
}
static void elements(void **state)
{
    (void)state;
    against_ref(elements_case, "swiglu, add, scale, copy, scatter, zero", 12);
}

static void embed_case(struct bench *b, int variant)
{
    enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32, type = weight_types[variant / 2];
    int32_t ids[200];
    struct slm2_mat table = mat(b, type, 11, 96, REAL), y = mat(b, act, 200, 96, REAL), dtable = mat(b, SLM2_F32, 11, 96, WHOLE), dy = mat(b, act, 200, 96, WHOLE);
    for (int r = 0; r < 200; r++) ids[r] = r * r % 11; /* every id many times */
    b->c->ops->embed(b->c, &y, &table, ids);
    emit(b, &y, 0);
    b->c->ops->embed_bwd(b->c, &dtable, &dy, ids);
    emit(b, &dtable, 0);
}
static void embed(void **state)
{
    (void)state;
    against_ref(embed_case, "embed", 10);
}

static void logprob_case(struct bench *b, int variant)
{
    int n_row = variant & 1 ? 5 : 1, n_col = variant & 2 ? 20011 : 37;
    struct slm2_mat x = mat(b, SLM2_F32, n_row, n_col, REAL), dx = mat(b, SLM2_F32, n_row, n_col, REAL);
    int32_t target[5] = {3, -1, 0, n_col - 1, 9}, argmax[5];
    float lp[5], weight[5] = {1.0f, 2.0f, -0.5f, 0.25f, 0.0f};
    for (int r = 0; r < n_row; r++) {
        for (int i = 0; i < n_col; i++) set_elem(&x, r, i, 20 * draw(b, REAL));
        set_elem(&x, r, 17, 25.0); /* a tie: the lower index counts */
        set_elem(&x, r, 30, 25.0);
    }
    b->c->ops->logprob(b->c, lp, NULL, NULL, &x, target, NULL);
    emit_vec(b, lp, (size_t)n_row, 45 * 2 * EPS);
    b->c->ops->logprob(b->c, lp, argmax, &dx, &x, target, weight);
    emit_vec(b, lp, (size_t)n_row, 45 * 2 * EPS);
    emit(b, &dx, 32 * EPS);
    for (int r = 0; r < n_row; r++) {
        assert_int_equal(argmax[r], 17);
        for (int i = 0; (target[r] < 0 || weight[r] == 0) && i < n_col; i++) assert_true(((float *)dx.data)[(size_t)r * (size_t)dx.stride + (size_t)i] == 0);
    }
    b->c->ops->logprob(b->c, lp, argmax, &x, &x, target, weight); /* in place */
    emit(b, &x, 32 * EPS);
}
static void logprob(void **state)
{
    (void)state;
    against_ref(logprob_case, "logprob", 4);
}

static void optimizer_case(struct bench *b, int variant)
{
    size_t n = variant == 0 ? 1 : variant == 1 ? 1003 : 200001;
    float *p = vec(b, n, REAL), *m = vec(b, n, REAL), *v = vec(b, n, REAL), *g = vec(b, n, REAL);
    for (size_t i = 0; i < n; i++) v[i] = v[i] * v[i] + 0.01f;
    const struct slm2_ops *ops = b->c->ops;
    double sum = slm2_sum_sq(b->c, g, n);
    emit_one(b, (float)sum, 2 * EPS * sum);
    ops->adamw(b->c, p, m, v, g, n, 0.7f, 1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 3);
    emit_vec(b, p, n, 16 * EPS);
    emit_vec(b, m, n, 4 * EPS);
    emit_vec(b, v, n, 4 * EPS);
    ops->rmsprop(b->c, p, v, g, n, 0.7f, 1e-3f, 0.99f, 1e-8f);
    emit_vec(b, p, n, 16 * EPS);
    emit_vec(b, v, n, 4 * EPS);
}
static void optimizers(void **state)
{
    (void)state;
    against_ref(optimizer_case, "sum_sq, adamw, rmsprop", 3);
}

/* ---- ref's gradients against differences ---------------------------------------------------------------------------- */
struct slope {
    void (*forward)(void *arg);
    void *arg;
    const struct slm2_mat *y, *dy; /* L = sum of y dy */
};

static double loss(const struct slope *f)
{
    double sum = 0;
    f->forward(f->arg);
    for (int r = 0; r < f->y->n_row; r++) {
        const float *y = (const float *)f->y->data + (size_t)r * (size_t)f->y->stride, *dy = (const float *)f->dy->data + (size_t)r * (size_t)f->dy->stride;
        for (int i = 0; i < f->y->n_col; i++) sum += (double)y[i] * (double)dy[i];
    }
    return sum;
}

/* dL/dx by a difference of fourth order with h = 1/32: what is cut off is about h^4, F32 outputs add about 1e-7 / h. */
static void check_slope(const struct slope *f, struct slm2_mat *x, const struct slm2_mat *dx, double tol, const char *what)
{
    const float h = 1.0f / 32;
    for (int r = 0; r < x->n_row; r++) {
        for (int i = 0; i < x->n_col; i++) {
            float *at = (float *)x->data + (size_t)r * (size_t)x->stride + i, old = *at;
            double l[5];
            for (int k = -2; k <= 2; k++) {
                *at = old + (float)k * h;
                l[k + 2] = loss(f);
            }
            *at = old;
            double want = (8 * (l[3] - l[1]) - (l[4] - l[0])) / (12 * (double)h), got = (double)((const float *)dx->data)[(size_t)r * (size_t)dx->stride + (size_t)i];
            if (!(fabs(got - want) <= tol)) fail_msg("%s: row %d, column %d: gradient %.9g, difference %.9g", what, r, i, got, want);
        }
    }
    loss(f);
}

struct three { struct slm2_mat y, a, b, d; const struct slm2_seqs *seqs; float *mean, *rstd; };

static void forward_linear(void *arg)
{
    struct three *t = arg;
    ref_ctx.ops->linear(&ref_ctx, &t->y, &t->a, &t->b, &t->d);
}
static void forward_norm(void *arg)
{
    struct three *t = arg;
    ref_ctx.ops->layer_norm(&ref_ctx, &t->y, t->mean, t->rstd, &t->a, &t->b, &t->d, 1e-5f);
}
static void forward_swiglu(void *arg)
{
    struct three *t = arg;
    ref_ctx.ops->swiglu(&ref_ctx, &t->y, &t->a, &t->b);
}
static void forward_attn(void *arg)
{
    struct three *t = arg;
    ref_ctx.ops->attn(&ref_ctx, &t->y, t->mean, &t->a, &t->b, &t->d, 4, 2, t->seqs);
}

static void gradients(void **state)
{
    (void)state;
    struct bench b = {.c = &ref_ctx, .seed = 5};
    const struct slm2_ops *ops = ref_ctx.ops;
    const double tol = 2e-4;
    struct slm2_mat zero[6];
#define F32(n_row, n_col) mat(&b, SLM2_F32, n_row, n_col, REAL)
#define ZERO(i, like) (zero[i] = F32((like).n_row, (like).n_col), clear(&zero[i]), &zero[i])
#define clear(m) memset((m)->data, 0, (size_t)(m)->n_row * slm2_mat_row_bytes(m))
    struct three t = {.y = F32(4, 5), .a = F32(4, 7), .b = F32(5, 7), .d = F32(1, 5)};
    struct slm2_mat dy = F32(4, 5);
    struct slope f = {forward_linear, &t, &t.y, &dy};
    ops->linear_bwd(&ref_ctx, ZERO(0, t.a), true, ZERO(1, t.b), ZERO(2, t.d), &dy, &t.a, &t.b);
    check_slope(&f, &t.a, &zero[0], tol, "linear dx");
    check_slope(&f, &t.b, &zero[1], tol, "linear dw");
    check_slope(&f, &t.d, &zero[2], tol, "linear db");

    t = (struct three){.y = F32(6, 9), .a = F32(6, 9), .b = F32(2, 9), .d = F32(2, 9), .mean = vec(&b, 6, REAL), .rstd = vec(&b, 6, REAL)};
    dy = F32(6, 9);
    f.forward = forward_norm;
    forward_norm(&t);
    ops->layer_norm_bwd(&ref_ctx, ZERO(0, t.a), false, ZERO(1, t.b), ZERO(2, t.d), &dy, &t.a, t.mean, t.rstd, &t.b);
    check_slope(&f, &t.a, &zero[0], tol, "layer_norm dx");
    check_slope(&f, &t.b, &zero[1], tol, "layer_norm dgamma");
    check_slope(&f, &t.d, &zero[2], tol, "layer_norm dbeta");

    t = (struct three){.y = F32(3, 7), .a = F32(3, 7), .b = F32(3, 7)};
    dy = F32(3, 7);
    f.forward = forward_swiglu;
    ops->swiglu_bwd(&ref_ctx, ZERO(0, t.a), ZERO(1, t.b), &dy, &t.a, &t.b);
    check_slope(&f, &t.a, &zero[0], tol, "swiglu dgate");
    check_slope(&f, &t.b, &zero[1], tol, "swiglu dup");

    const int32_t cu[] = {0, 4, 5, 9}, position[] = {0, 1, 2, 3, 0, 0, 1, 2, 3};
    const struct slm2_seqs seqs = {.n_seq = 3, .cu_seqlens = cu, .kv_start = cu, .position = position};
    t = (struct three){.y = F32(9, 12), .a = F32(9, 12), .b = F32(9, 6), .d = F32(9, 6), .seqs = &seqs, .mean = vec(&b, 36, REAL)};
    dy = F32(9, 12);
    f.forward = forward_attn;
    forward_attn(&t);
    ops->attn_bwd(&ref_ctx, ZERO(0, t.a), ZERO(1, t.b), ZERO(2, t.d), &dy, &t.y, t.mean, &t.a, &t.b, &t.d, 4, 2, &seqs);
    check_slope(&f, &t.a, &zero[0], tol, "attn dq");
    check_slope(&f, &t.b, &zero[1], tol, "attn dk");
    check_slope(&f, &t.d, &zero[2], tol, "attn dv");
#undef F32
#undef ZERO
#undef clear
    bench_free(&b);
}

static struct slm2_mat *nll_x;
static int32_t nll_target[3] = {2, -1, 6};
static float nll_weight[3] = {0.7f, 1.0f, -1.5f};
static void forward_nll(void *arg)
{
    struct slm2_mat *y = arg;
    ref_ctx.ops->logprob(&ref_ctx, y->data, NULL, NULL, nll_x, nll_target, NULL);
}

/* dlogits is the gradient of -sum weight lp; rope's backward is its inverse. */
static void gradients_of_logprob_and_rope(void **state)
{
    (void)state;
    struct bench b = {.c = &ref_ctx, .seed = 6};
    struct slm2_mat x = mat(&b, SLM2_F32, 3, 9, REAL), dx = mat(&b, SLM2_F32, 3, 9, REAL), lp = slm2_mat_of(vec(&b, 3, REAL), SLM2_F32, 1, 3);
    float minus[3] = {-nll_weight[0], -nll_weight[1], -nll_weight[2]}, ignored[3];
    struct slm2_mat dy = slm2_mat_of(minus, SLM2_F32, 1, 3);
    struct slope f = {forward_nll, &lp, &lp, &dy};
    nll_x = &x;
    ref_ctx.ops->logprob(&ref_ctx, ignored, NULL, &dx, &x, nll_target, nll_weight);
    check_slope(&f, &x, &dx, 2e-4, "logprob dlogits");

    struct slm2_mat z = mat(&b, SLM2_F32, 5, 40, REAL);
    float before[200], *after = z.data;
    int32_t position[5] = {0, 1, 77, 4000, 3};
    for (int r = 0; r < 5; r++) memcpy(before + r * 40, after + (size_t)r * (size_t)z.stride, 40 * sizeof *before);
    ref_ctx.ops->rope(&ref_ctx, &z, 2, 10, 10000.0f, 1, position);
    ref_ctx.ops->rope(&ref_ctx, &z, 2, 10, 10000.0f, -1, position);
    for (int r = 0; r < 5; r++) {
        for (int i = 0; i < 40; i++) assert_true(fabs((double)(after[(size_t)r * (size_t)z.stride + (size_t)i] - before[r * 40 + i])) <= 8 * EPS);
    }
    bench_free(&b);
}

/* ---- one row alone and among others --------------------------------------------------------------------------------- */
static void row_of_linear(void **state)
{
    (void)state;
    for (int i = 0; i < n_cpu; i++) {
        for (int variant = 0; variant < 20; variant++) {
            struct bench b = {.c = &cpu_ctx[i], .seed = (uint64_t)variant};
            enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32, type = weight_types[variant / 2 % 5];
            int n_in = variant < 10 ? 96 : 2080;
            struct slm2_mat x = mat(&b, act, 41, n_in, REAL), w = mat(&b, type, 70, n_in, REAL), y = mat(&b, act, 41, 70, REAL), one = mat(&b, act, 41, 70, REAL);
            struct slm2_mat bias = mat(&b, SLM2_F32, 1, 70, REAL);
            b.c->ops->linear(b.c, &y, &x, &w, &bias);
            for (int r = 0; r < 41; r += 1 + r % 4) { /* one to four rows at a time */
                int n = slm2_min_int(1 + r % 4, 41 - r);
                struct slm2_mat xr = slm2_mat_rows(&x, r, n), yr = slm2_mat_rows(&one, r, n);
                b.c->ops->linear(b.c, &yr, &xr, &w, &bias);
            }
            for (int r = 0; r < 41; r++) {
                size_t at = (size_t)r * slm2_mat_row_bytes(&y);
                assert_memory_equal((uint8_t *)one.data + at, (uint8_t *)y.data + at, slm2_dtype_bytes(act, 70));
            }
            bench_free(&b);
        }
    }
}

enum { ROW_N = 290, ROW_FROM = 13, ROW_HEADS = 4 };

/* Each token by itself, as decoding does: later keys are not there yet. */
static void attn_alone(struct slm2_ctx *c, struct slm2_mat *o, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, const int32_t *position, const int32_t *start)
{
    for (int r = 0; r < ROW_N; r++) {
        int32_t cu[] = {0, 1};
        struct slm2_mat qr = slm2_mat_rows(q, r, 1), or = slm2_mat_rows(o, r, 1), kr = *k, vr = *v;
        struct slm2_seqs s = {.n_seq = 1, .cu_seqlens = cu, .kv_start = start, .position = position + r};
        kr.n_row = vr.n_row = ROW_FROM + r + 1;
        c->ops->attn(c, &or, NULL, &qr, &kr, &vr, ROW_HEADS, 2, &s);
    }
}

/* All tokens in one batch, cut into sequences over the same keys: n_seq = 1 is a prompt, n_seq = ROW_N a batch of single tokens. */
static void attn_cut(struct slm2_ctx *c, struct slm2_mat *o, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, const int32_t *position, int n_seq)
{
    int32_t cu[ROW_N + 1], start[ROW_N];
    for (int s = 0; s <= n_seq; s++) cu[s] = ROW_N * s / n_seq;
    for (int s = 0; s < n_seq; s++) start[s] = ROW_FROM;
    struct slm2_seqs seqs = {.n_seq = n_seq, .cu_seqlens = cu, .kv_start = start, .position = position};
    c->ops->attn(c, o, NULL, q, k, v, ROW_HEADS, 2, &seqs);
}

/* The same with the keys in pieces that lie anywhere: on both sides of tiles' ends, of one row, in another order. */
static void attn_pieces(struct bench *b, struct slm2_mat *o, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, const int32_t *position, int n_seq)
{
    static const struct slm2_run pieces[] = {{200, 50}, {0, 128}, {140, 1}, {260, 60}, {142, ROW_N - 239}}; /* to row, so many */
    enum { N = sizeof pieces / sizeof pieces[0] };
    int32_t cu[ROW_N + 1], runs[ROW_N + 1];
    struct slm2_run run[ROW_N * N];
    struct slm2_mat kp = mat(b, k->dtype, 320, k->n_col, REAL), vp = mat(b, v->dtype, 320, v->n_col, REAL);
    for (int i = 0, from = ROW_FROM; i < N; from += pieces[i++].n) {
        memcpy(slm2_mat_rows(&kp, pieces[i].row, 1).data, slm2_mat_rows(k, from, 1).data, slm2_mat_row_bytes(k) * (size_t)pieces[i].n);
        memcpy(slm2_mat_rows(&vp, pieces[i].row, 1).data, slm2_mat_rows(v, from, 1).data, slm2_mat_row_bytes(v) * (size_t)pieces[i].n);
    }
    for (int s = 0; s <= n_seq; s++) cu[s] = ROW_N * s / n_seq, runs[s] = s * N;
    for (int i = 0; i < n_seq * N; i++) run[i] = pieces[i % N];
    struct slm2_seqs seqs = {.n_seq = n_seq, .cu_seqlens = cu, .position = position, .run = run, .cu_runs = runs};
    b->c->ops->attn(b->c, o, NULL, q, &kp, &vp, ROW_HEADS, 2, &seqs);
}

static void row_of_attn(void **state)
{
    (void)state;
    static const int cuts[] = {3, 37, ROW_N}, head_dims[] = {20, 64};
    int32_t position[ROW_N], start[] = {ROW_FROM};
    for (int r = 0; r < ROW_N; r++) position[r] = r;
    for (int i = 0; i < n_cpu; i++) {
        for (int variant = 0; variant < 16; variant++) {
            struct bench b = {.c = &cpu_ctx[i], .seed = (uint64_t)variant};
            enum slm2_dtype act = variant & 1 ? SLM2_BF16 : SLM2_F32, kv = cache_types[variant / 4];
            int hd = head_dims[variant / 2 % 2];
            if (kv == SLM2_Q8_0 && hd % SLM2_QK) continue;
            struct slm2_mat q = mat(&b, act, ROW_N, ROW_HEADS * hd, REAL), k = mat(&b, kv, ROW_N + ROW_FROM, 2 * hd, REAL), v = mat(&b, kv, ROW_N + ROW_FROM, 2 * hd, REAL);
            struct slm2_mat whole = mat(&b, act, ROW_N, ROW_HEADS * hd, REAL), o = mat(&b, act, ROW_N, ROW_HEADS * hd, REAL);
            attn_cut(b.c, &whole, &q, &k, &v, position, 1);
            for (int cut = 0; cut <= 6; cut++) {
                if (cut > 3 && (kv == SLM2_BF16 || kv == SLM2_Q8_0)) break; /* the bf16 form takes keys in one piece */
                if (cut > 3) attn_pieces(&b, &o, &q, &k, &v, position, cuts[cut - 4]);
                else if (cut) attn_cut(b.c, &o, &q, &k, &v, position, cuts[cut - 1]);
                else attn_alone(b.c, &o, &q, &k, &v, position, start);
                for (int r = 0; r < ROW_N; r++) {
                    size_t at = (size_t)r * slm2_mat_row_bytes(&o);
                    assert_memory_equal((uint8_t *)o.data + at, (uint8_t *)whole.data + at, slm2_dtype_bytes(act, (size_t)(ROW_HEADS * hd)));
                    memset((uint8_t *)o.data + at, 0, slm2_dtype_bytes(act, (size_t)(ROW_HEADS * hd)));
                }
            }
            bench_free(&b);
        }
    }
}

static void context_refuses_bad_options(void **state)
{
    (void)state;
    struct slm2_ctx c;
    struct slm2_err err;
    assert_int_equal(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.backend = "gpu"}, &err), SLM2_EUSAGE);
    assert_non_null(strstr(err.msg, "\"gpu\""));
    assert_int_equal(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.n_threads = -1}, &err), SLM2_EUSAGE);
    assert_int_equal(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.isa = "mmx"}, &err), SLM2_EUSAGE);
    slm2_ctx_free(&c);
    assert_int_equal(slm2_ctx_init(&c, NULL, &err), SLM2_OK);
    assert_true(c.n_threads >= 1);
    assert_int_equal(slm2_ctx_reserve(&c, SIZE_MAX / 4, &err), SLM2_ELIMIT);
    assert_int_equal(slm2_ctx_reserve(&c, 1000, &err), SLM2_OK);
    assert_true(c.scratch_floats >= 1000);
    slm2_ctx_free(&c);
    slm2_ctx_free(NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(linear),
    cmocka_unit_test(linear_bwd),
    cmocka_unit_test(layer_norm),
    cmocka_unit_test(rope),
    cmocka_unit_test(attn),
    cmocka_unit_test(attn_bwd),
    cmocka_unit_test(elements),
    cmocka_unit_test(embed),
    cmocka_unit_test(logprob),
    cmocka_unit_test(optimizers),
    cmocka_unit_test(gradients),
    cmocka_unit_test(gradients_of_logprob_and_rope),
    cmocka_unit_test(row_of_linear),
    cmocka_unit_test(row_of_attn),
    cmocka_unit_test(context_refuses_bad_options),
};

int main(void)
{
    int n_tests = (int)(sizeof tests / sizeof *tests), n_failed = cmocka_run_group_tests(tests, open_backends, close_backends);
    if (n_failed < 0 || n_failed > n_tests) n_failed = n_tests; /* the group could not be set up */
    printf("%d passed, %d failed\n", n_tests - n_failed, n_failed);
    return n_failed != 0;
}
