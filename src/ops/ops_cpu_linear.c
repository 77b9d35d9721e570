/* ops_cpu_linear.c - y = x w^T + b and its gradients on kernels and threads.
 *
 * Outputs are cut into tiles; a tile is summed whole by one thread.  gemm_nt and gemv_w give each output the bits of dot(), gemm_nn
 * one chain in ascending order: so neither the tile nor the number of threads shows in the result, and one row alone gives what
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
    DX_ROWS = 64, DX_COLS = 256, DX_SUM = 256, /* tile of dx, and how many outputs are summed at a time */
    DW_ROWS = 64, DW_COLS = 256, DW_SUM = 256, /* tile of dw, and how many rows are summed at a time */
};

static int div_up(int a, int b) { return (a + b - 1) / b; }

static int panel_rows(int n_col, int floats)
{
    int n = floats / n_col & ~3;
    return slm2_max_int(4, slm2_min_int(n, MAX_PANEL));
}

size_t slm2_cpu_linear_floats(size_t max_row)
{
    size_t forward = (size_t)W_FLOATS + X_FLOATS + 8 * max_row + MAX_PANEL * MAX_PANEL;
    size_t dx = DX_ROWS * DX_COLS + DX_ROWS * DX_SUM + DX_SUM * DX_COLS;
    size_t dw = DW_SUM * DW_ROWS + DW_SUM * DW_COLS;
    size_t most = forward > dx ? forward : dx;
    return most > dw ? most : dw;
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

/* ---- backward ------------------------------------------------------------------------------------------------------- */
/* dx[r0 .. r0+m, i0 .. i0+n) (= or +=) dy w, all outputs in ascending order */
static void dx_tile(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, const struct slm2_mat *dy, const struct slm2_mat *w, int r0, int m,
                    int i0, int n, float *tmp)
{
    float *dx_tmp = tmp, *dy_tmp = dx_tmp + DX_ROWS * DX_COLS, *w_tmp = dy_tmp + DX_ROWS * DX_SUM;
    size_t ldc = dx->dtype == SLM2_F32 ? (size_t)dx->stride : (size_t)n, lda, ldb;
    float *out = slm2_cpu_dest(dx, r0, i0, dx_tmp);
    if (accumulate && dx->dtype != SLM2_F32) slm2_cpu_panel(c, dx, r0, m, i0, n, dx_tmp, &ldc);
    for (int o = 0; o < w->n_row; o += DX_SUM) {
        int k = slm2_min_int(DX_SUM, w->n_row - o);
        const float *a = slm2_cpu_panel(c, dy, r0, m, o, k, dy_tmp, &lda), *b = slm2_cpu_panel(c, w, o, k, i0, n, w_tmp, &ldb);
        c->k->gemm_nn(out, ldc, a, lda, 1, b, ldb, (size_t)m, (size_t)n, (size_t)k, accumulate || o > 0);
    }
    for (int r = 0; r < m; r++) slm2_cpu_store(c, dx, r0 + r, i0, n, out + (size_t)r * ldc);
}

/* dw[o0 .. o0+m, i0 .. i0+n) += dy^T x, all rows in ascending order */
static void dw_tile(struct slm2_ctx *c, struct slm2_mat *dw, const struct slm2_mat *dy, const struct slm2_mat *x, int o0, int m, int i0, int n,
                    float *tmp)
{
    float *dy_tmp = tmp, *x_tmp = tmp + DW_SUM * DW_ROWS;
    size_t lda, ldb;
    for (int r = 0; r < dy->n_row; r += DW_SUM) {
        int k = slm2_min_int(DW_SUM, dy->n_row - r);
        const float *a = slm2_cpu_panel(c, dy, r, k, o0, m, dy_tmp, &lda), *b = slm2_cpu_panel(c, x, r, k, i0, n, x_tmp, &ldb);
        c->k->gemm_nn(slm2_cpu_at(dw, o0, i0), (size_t)dw->stride, a, 1, lda, b, ldb, (size_t)m, (size_t)n, (size_t)k, true);
    }
}

/* db[o0 .. o0+n) += column sums of dy, rows in order, in double */
static void db_tile(struct slm2_ctx *c, float *db, const struct slm2_mat *dy, int o0, int n)
{
    double sum[DW_ROWS] = {0};
    float tmp[DW_ROWS];
    for (int r = 0; r < dy->n_row; r++) {
        const float *row = slm2_cpu_load(c, dy, r, o0, n, tmp);
        for (int o = 0; o < n; o++) sum[o] += (double)row[o];
    }
    for (int o = 0; o < n; o++) db[o0 + o] += (float)sum[o];
}

void slm2_cpu_linear_bwd(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dw, struct slm2_mat *db,
                         const struct slm2_mat *dy, const struct slm2_mat *x, const struct slm2_mat *w)
{
    int n_row = dy->n_row, n_out = dy->n_col;
    if (n_row == 0) return;
    assert(slm2_cpu_linear_floats(0) <= c->scratch_floats);
    if (dx) {
        int n_i = div_up(dx->n_col, DX_COLS), n_r = div_up(n_row, DX_ROWS);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < n_r * n_i; t++) {
            int r = t / n_i * DX_ROWS, i = t % n_i * DX_COLS;
            dx_tile(c, dx, accumulate, dy, w, r, slm2_min_int(DX_ROWS, n_row - r), i, slm2_min_int(DX_COLS, dx->n_col - i),
                    c->scratch[omp_get_thread_num()]);
        }
    }
    if (dw) {
        int n_i = div_up(dw->n_col, DW_COLS), n_o = div_up(n_out, DW_ROWS);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < n_o * n_i; t++) {
            int o = t / n_i * DW_ROWS, i = t % n_i * DW_COLS;
            dw_tile(c, dw, dy, x, o, slm2_min_int(DW_ROWS, n_out - o), i, slm2_min_int(DW_COLS, dw->n_col - i), c->scratch[omp_get_thread_num()]);
        }
    }
    if (db) {
        float *sums = db->data;
        int n_o = div_up(n_out, DW_ROWS);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < n_o; t++) db_tile(c, sums, dy, t * DW_ROWS, slm2_min_int(DW_ROWS, n_out - t * DW_ROWS));
    }
}
