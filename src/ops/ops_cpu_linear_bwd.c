/* ops_cpu_linear_bwd.c - the gradients of y = x w^T + b on kernels and threads.
 *
 * Outputs are cut into tiles; a tile is summed whole by one thread, by gemm_nn, one chain in ascending order: so neither the tile nor the
 * number of threads shows in the result. */
#include <assert.h>
#include <omp.h>

#include "ops/ops_cpu.h"

enum {
    DX_ROWS = 64, DX_COLS = 256, DX_SUM = 256, /* tile of dx, and how many outputs are summed at a time */
    DW_ROWS = 64, DW_COLS = 256, DW_SUM = 256, /* tile of dw, and how many rows are summed at a time */
};

static int div_up(int a, int b) { return (a + b - 1) / b; }

size_t slm2_cpu_linear_bwd_floats(void)
{
    size_t dx = DX_ROWS * DX_COLS + DX_ROWS * DX_SUM + DX_SUM * DX_COLS;
    size_t dw = DW_SUM * DW_ROWS + DW_SUM * DW_COLS;
    return dx > dw ? dx : dw;
}

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
    assert(slm2_cpu_linear_bwd_floats() <= c->scratch_floats);
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
