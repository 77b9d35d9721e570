/* ops_cpu_linear.c - y = x w^T + b on kernels and threads.
 *
 * Three ways, by the type of w.  A type with a product (kernels.h): activations are packed once for all threads, then each thread takes its
 * outputs, from w as it lies for few rows, else through panels sized for the second cache.  Other types, and all when the context is to be
 * exact: gemv_w for few rows where there is one, else F32 panels of w and gemm_nt.
 * Each gives an output the same bits alone and among others: so neither tiles nor the number of threads show in the result. */
#include <assert.h>
#include <omp.h>

#include "ops/ops_cpu.h"

enum {
    FEW_ROWS = 4,           /* up to here w is read where it lies, by gemv_w */
    GEMV_COLS = 32,         /* outputs of one piece of that */
    W_FLOATS = 128 * 1024,  /* a panel of w rows */
    X_FLOATS = 64 * 1024,   /* a panel of x rows */
    MAX_PANEL = 128,        /* rows of a panel */
    ROW_CHUNK = 512,        /* x rows of one piece of work */

    PANEL_BYTES = 512 * 1024, /* products: a panel of w, half of the second cache */
    PANEL_UNIT = 32,          /* its rows are a multiple of this */
    PANEL_MOST = 512,
    MUL_ROWS = 96,            /* rows between two looks at y */
};

static int div_up(int a, int b) { return (a + b - 1) / b; }

static int panel_rows(int n_col, int floats)
{
    int n = floats / n_col & ~3;
    return slm2_max_int(4, slm2_min_int(n, MAX_PANEL));
}

/* No product spends more than 2 bytes and a little on an element of w. */
static size_t product_panel_bytes(size_t n_in) { return PANEL_BYTES + PANEL_UNIT * (2 * n_in + 64); }

size_t slm2_cpu_linear_floats(size_t max_row)
{
    size_t exact = (size_t)W_FLOATS + X_FLOATS + 8 * max_row + MAX_PANEL * MAX_PANEL;
    size_t product = product_panel_bytes(max_row) / sizeof(float) + MUL_ROWS * PANEL_MOST + max_row;
    return exact > product ? exact : product;
}

const float *slm2_cpu_panel(const struct slm2_ctx *c, const struct slm2_mat *m, int row, int n_row, int col, int n_col, float *tmp, size_t *ld)
{
    if (m->dtype == SLM2_F32) {
        *ld = (size_t)m->stride;
        return slm2_cpu_at(m, row, col);
    }
    *ld = (size_t)n_col;
    for (int r = 0; r < n_row; r++) c->k->to_f32[m->dtype](tmp + (size_t)r * (size_t)n_col, slm2_cpu_at(m, row + r, col), (size_t)n_col);
    return tmp;
}

static void add_bias(float *y, size_t ld, int n_row, int n_col, const float *bias)
{
    for (int r = 0; r < n_row; r++) {
        float *row = y + (size_t)r * ld;
#pragma omp simd
        for (int o = 0; o < n_col; o++) row[o] += bias[o];
    }
}

/* Columns [o0, o0 + n) of y for a few rows: w is read from memory once, as it lies. */
static void linear_few(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const float *bias, int o0, int n,
                       float *tmp)
{
    float out[FEW_ROWS][GEMV_COLS];
    for (int r = 0; r < x->n_row; r++) {
        const float *row = slm2_cpu_load(c, x, r, 0, w->n_col, tmp);
        c->k->gemv_w[w->dtype](out[r], row, slm2_cpu_at(w, o0, 0), slm2_mat_row_bytes(w), (size_t)n, (size_t)w->n_col);
    }
    if (bias) add_bias(&out[0][0], GEMV_COLS, x->n_row, n, bias + o0);
    for (int r = 0; r < x->n_row; r++) c->k->from_f32[y->dtype](slm2_cpu_at(y, r, o0), out[r], (size_t)n);
}

/* Rows [r0, r0 + m) of y, columns [o0, o0 + n). */
static void linear_tile(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const float *bias, int r0, int m,
                        int o0, int n, float *tmp)
{
    int n_in = w->n_col, x_rows = panel_rows(n_in, X_FLOATS);
    float *w_tmp = tmp, *x_tmp = w_tmp + (size_t)panel_rows(n_in, W_FLOATS) * (size_t)n_in, *y_tmp = x_tmp + (size_t)x_rows * (size_t)n_in;
    size_t ldw, ldx, ldy = y->dtype == SLM2_F32 ? (size_t)y->stride : (size_t)n;
    const float *wp = slm2_cpu_panel(c, w, o0, n, 0, n_in, w_tmp, &ldw);
    for (int r = r0; r < r0 + m; r += x_rows) {
        int rows = slm2_min_int(x_rows, r0 + m - r);
        const float *xp = slm2_cpu_panel(c, x, r, rows, 0, n_in, x_tmp, &ldx);
        float *yp = slm2_cpu_dest(y, r, o0, y_tmp);
        c->k->gemm_nt(yp, ldy, xp, ldx, wp, ldw, (size_t)rows, (size_t)n, (size_t)n_in, false);
        if (bias) add_bias(yp, ldy, rows, n, bias + o0);
        for (int i = 0; i < rows; i++) slm2_cpu_store(c, y, r + i, o0, n, yp + (size_t)i * ldy);
    }
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

/* The first of n things that part i of n_part does, in units. */
static int share(int n, int unit, int i, int n_part)
{
    int n_unit = div_up(n, unit);
    return slm2_min_int(n, (int)((int64_t)n_unit * i / n_part) * unit);
}

/* What a thread keeps in scratch: a panel of w, a piece of y that is not F32, a row of x that is not F32. */
struct product_tmp {
    void *panel;
    float *y, *x;
};

static struct product_tmp product_tmp(struct slm2_ctx *c, int n_in)
{
    float *p = c->scratch[omp_get_thread_num()], *y = p + product_panel_bytes((size_t)n_in) / sizeof(float);
    return (struct product_tmp){p, y, y + MUL_ROWS * PANEL_MOST};
}

/* Few rows: outputs [o0, o1) from w as it lies. */
static void product_few(struct slm2_ctx *c, const struct slm2_product *p, struct slm2_mat *y, const void *xp, const struct slm2_mat *w,
                        const float *bias, int o0, int o1, float *y_tmp)
{
    int piece = y->dtype == SLM2_F32 ? o1 - o0 : PANEL_MOST;
    for (int o = o0; o < o1; o += piece) {
        int n = slm2_min_int(piece, o1 - o);
        size_t ldy = y->dtype == SLM2_F32 ? (size_t)y->stride : PANEL_MOST;
        float *to = slm2_cpu_dest(y, 0, o, y_tmp);
        p->few(to, ldy, xp, (size_t)y->n_row, slm2_cpu_at(w, o, 0), slm2_mat_row_bytes(w), (size_t)n, (size_t)w->n_col);
        if (bias) add_bias(to, ldy, y->n_row, n, bias + o);
        for (int r = 0; r < y->n_row; r++) slm2_cpu_store(c, y, r, o, n, to + (size_t)r * ldy);
    }
}

static int product_panel_rows(const struct slm2_product *p, int n_in, int n_out)
{
    int most = (int)((size_t)PANEL_BYTES / p->w_bytes(PANEL_UNIT, (size_t)n_in)) * PANEL_UNIT;
    most = slm2_max_int(PANEL_UNIT, slm2_min_int(most, PANEL_MOST));
    return div_up(div_up(n_out, div_up(n_out, most)), PANEL_UNIT) * PANEL_UNIT; /* panels of one size */
}

/* Outputs [o0, o1) of rows [r0, r1) of a chunk that begins at row `row` of y and has n_row rows. */
static void product_many(struct slm2_ctx *c, const struct slm2_product *p, struct slm2_mat *y, const void *xp, const struct slm2_mat *w,
                         const float *bias, int row, int n_row, int r0, int r1, int o0, int o1, const struct product_tmp *tmp)
{
    size_t n_in = (size_t)w->n_col;
    if (o0 == o1 || r0 == r1) return;
    int panel = product_panel_rows(p, w->n_col, o1 - o0);
    for (int o = o0; o < o1; o += panel) {
        int n = slm2_min_int(panel, o1 - o);
        size_t ldy = y->dtype == SLM2_F32 ? (size_t)y->stride : (size_t)n;
        p->w_pack(tmp->panel, slm2_cpu_at(w, o, 0), slm2_mat_row_bytes(w), (size_t)n, n_in);
        for (int r = r0; r < r1; r += MUL_ROWS) {
            int m = slm2_min_int(MUL_ROWS, r1 - r);
            float *to = slm2_cpu_dest(y, row + r, o, tmp->y);
            p->mul(to, ldy, xp, (size_t)n_row, (size_t)r, (size_t)m, tmp->panel, (size_t)n, n_in);
            if (bias) add_bias(to, ldy, m, n, bias + o);
            for (int i = 0; i < m; i++) slm2_cpu_store(c, y, row + r + i, o, n, to + (size_t)i * ldy);
        }
    }
}

/* Into how many parts rows are cut, besides outputs: many threads would find too few outputs to share. */
static int row_parts(int n_row, int n_out, int n_thread)
{
    int n = 1;
    while (n_thread % (2 * n) == 0 && div_up(n_out, PANEL_UNIT) * n < 4 * n_thread && n_row / (2 * n) >= MUL_ROWS) n *= 2;
    return n;
}

static void product_linear(struct slm2_ctx *c, const struct slm2_product *p, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w,
                           const float *bias)
{
    size_t n_in = (size_t)w->n_col;
    int n_out = w->n_row, n_row = x->n_row;
    bool few = n_row <= SLM2_FEW;
    int fit = (int)slm2_min_size(c->shared_bytes / p->x_bytes(1, n_in), ROW_CHUNK), n_chunk = div_up(n_row, slm2_max_int(fit, 1));
    int chunk = div_up(n_row, n_chunk);
    assert(slm2_cpu_linear_floats(n_in) <= c->scratch_floats && fit > 0 && (!few || n_chunk == 1));
#pragma omp parallel num_threads(c->n_threads)
    {
        const int n_thread = omp_get_num_threads(), t = omp_get_thread_num(), parts = row_parts(chunk, n_out, n_thread);
        const struct product_tmp tmp = product_tmp(c, w->n_col);
        for (int row = 0; row < n_row; row += chunk) {
            int m = slm2_min_int(chunk, n_row - row);
            if (row > 0) {
#pragma omp barrier
            }
#pragma omp for schedule(static)
            for (int r = 0; r < m; r++) {
                p->x_pack(c->shared, (size_t)m, (size_t)r, slm2_cpu_load(c, x, row + r, 0, w->n_col, tmp.x), n_in);
            }
            if (few) {
                product_few(c, p, y, c->shared, w, bias, share(n_out, PANEL_UNIT, t, n_thread), share(n_out, PANEL_UNIT, t + 1, n_thread), tmp.y);
            } else {
                int i = t % parts, j = t / parts, n_part = n_thread / parts;
                product_many(c, p, y, c->shared, w, bias, row, m, share(m, 12, i, parts), share(m, 12, i + 1, parts), share(n_out, PANEL_UNIT, j, n_part),
                             share(n_out, PANEL_UNIT, j + 1, n_part), &tmp);
            }
        }
    }
}

/* NULL: all numbers stay as they are */
static const struct slm2_product *product_of(const struct slm2_ctx *c, const struct slm2_mat *x, const struct slm2_mat *w)
{
    bool nothing_lost = x->dtype == SLM2_BF16 && w->dtype == SLM2_BF16;
    return !c->exact || nothing_lost ? c->k->product[w->dtype] : NULL;
}

void slm2_cpu_linear(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const struct slm2_mat *b)
{
    const float *bias = b ? b->data : NULL;
    int n_out = w->n_row, n_row = x->n_row;
    if (n_row == 0 || n_out == 0) return;
    const struct slm2_product *p = product_of(c, x, w);
    if (p && w->n_col > 0) {
        product_linear(c, p, y, x, w, bias);
        return;
    }
    if (n_row <= FEW_ROWS && c->k->gemv_w[w->dtype]) {
        assert((size_t)w->n_col <= c->scratch_floats);
        int n_piece = div_up(n_out, GEMV_COLS);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int i = 0; i < n_piece; i++) {
            int o = i * GEMV_COLS;
            linear_few(c, y, x, w, bias, o, slm2_min_int(GEMV_COLS, n_out - o), c->scratch[omp_get_thread_num()]);
        }
        return;
    }
    int panel = panel_rows(w->n_col, W_FLOATS), n_panel = div_up(n_out, panel), n_chunk = div_up(n_row, ROW_CHUNK);
    assert(slm2_cpu_linear_floats((size_t)w->n_col) <= c->scratch_floats);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
    for (int i = 0; i < n_panel * n_chunk; i++) {
        int o = i / n_chunk * panel, r = i % n_chunk * ROW_CHUNK;
        linear_tile(c, y, x, w, bias, r, slm2_min_int(ROW_CHUNK, n_row - r), o, slm2_min_int(panel, n_out - o),
                    c->scratch[omp_get_thread_num()]);
    }
}
