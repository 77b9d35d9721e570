/* ops_cpu_linear.c - y = x w^T + b on kernels and threads.
 *
 * Outputs are cut into tiles; a tile is summed whole by one thread.  gemm_nt and gemv_w give each output the bits of dot(): so neither the tile nor the number of threads shows in the result, and one row alone gives what
 * it gives among many.  What is not F32 becomes F32 panels in scratch, sized for the second cache. */
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
};

static int div_up(int a, int b) { return (a + b - 1) / b; }

static int panel_rows(int n_col, int floats)
{
    int n = floats / n_col & ~3;
    return slm2_max_int(4, slm2_min_int(n, MAX_PANEL));
}

size_t slm2_cpu_linear_floats(size_t max_row)
{
    return (size_t)W_FLOATS + X_FLOATS + 8 * max_row + MAX_PANEL * MAX_PANEL;
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

void slm2_cpu_linear(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const struct slm2_mat *b)
{
    const float *bias = b ? b->data : NULL;
    int n_out = w->n_row, n_row = x->n_row;
    if (n_row == 0 || n_out == 0) return;
    if (n_row <= FEW_ROWS) {
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
