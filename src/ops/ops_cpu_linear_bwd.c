/* ops_cpu_linear_bwd.c - the gradients of y = x w^T + b on kernels and threads.
 *
 * Outputs are cut into tiles; a tile is summed whole by one thread, one chain an element in ascending order: so neither the tile nor the
 * number of threads shows in the result.  Two bf16 matrices are multiplied as they are where the processor can (gemm_nn_bf16); else panels of both
 * become floats in scratch (gemm_nn).  A tile of 480 x 256 floats takes half of a second cache of 1 MiB; its height is what packing a row of w or x is shared by. */
#include <assert.h>
#include <omp.h>

#include "ops/ops_cpu.h"

enum {
    TILE_ROWS = 480, TILE_COLS = 256, /* of dx and dw; whole tiles of the kernels */
    UNIT = 12,                        /* cuts between rows are multiples of it, the height of a kernel's tile */
    SHARES = 4,                       /* the number of cuts is a multiple of it, so that 2 or 4 threads get equal shares */
    SUM = 256,                        /* elements of a sum whose floats lie in scratch at a time */
    BIAS_COLS = 64,
};

static int div_up(int a, int b) { return (a + b - 1) / b; }

size_t slm2_cpu_linear_bwd_floats(void)
{
    return TILE_ROWS * TILE_COLS + TILE_ROWS * SUM + SUM * TILE_COLS;
}

/* Rows [at, at + n) of piece i of n_piece nearly equal ones. */
struct cut { int at, n; };

static int cuts(int n_row) { return n_row <= TILE_ROWS / 2 ? 1 : div_up(div_up(n_row, TILE_ROWS), SHARES) * SHARES; }

static struct cut cut(int n_row, int i, int n_piece)
{
    int units = div_up(n_row, UNIT), from = (int)((int64_t)units * i / n_piece) * UNIT, to = (int)((int64_t)units * (i + 1) / n_piece) * UNIT;
    return (struct cut){from, slm2_min_int(to, n_row) - from};
}

static bool both_bf16(const struct slm2_ctx *c, const struct slm2_mat *a, const struct slm2_mat *b)
{
    return c->k->gemm_nn_bf16 && a->dtype == SLM2_BF16 && b->dtype == SLM2_BF16;
}

/* out (= or +=) dy[r0 .. r0+m, all] w[all, i0 .. i0+n) */
static void dx_sums(struct slm2_ctx *c, float *out, size_t ldc, bool accumulate, const struct slm2_mat *dy, const struct slm2_mat *w, int r0, int m, int i0,
                    int n, float *tmp)
{
    float *dy_tmp = tmp, *w_tmp = dy_tmp + TILE_ROWS * SUM;
    size_t lda, ldb;
    if (both_bf16(c, dy, w)) {
        c->k->gemm_nn_bf16(out, ldc, slm2_cpu_at(dy, r0, 0), (size_t)dy->stride, 1, slm2_cpu_at(w, 0, i0), (size_t)w->stride, (size_t)m, (size_t)n,
                           (size_t)w->n_row, accumulate);
        return;
    }
    for (int o = 0; o < w->n_row; o += SUM) {
        int k = slm2_min_int(SUM, w->n_row - o);
        const float *a = slm2_cpu_panel(c, dy, r0, m, o, k, dy_tmp, &lda), *b = slm2_cpu_panel(c, w, o, k, i0, n, w_tmp, &ldb);
        c->k->gemm_nn(out, ldc, a, lda, 1, b, ldb, (size_t)m, (size_t)n, (size_t)k, accumulate || o > 0);
    }
}

/* dx[r0 .. r0+m, i0 .. i0+n) (= or +=) dy w, all outputs in ascending order */
static void dx_tile(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, const struct slm2_mat *dy, const struct slm2_mat *w, int r0, int m,
                    int i0, int n, float *tmp)
{
    size_t ldc = dx->dtype == SLM2_F32 ? (size_t)dx->stride : (size_t)n;
    float *out = slm2_cpu_dest(dx, r0, i0, tmp);
    if (accumulate && dx->dtype != SLM2_F32) slm2_cpu_panel(c, dx, r0, m, i0, n, out, &ldc);
    dx_sums(c, out, ldc, accumulate, dy, w, r0, m, i0, n, tmp + TILE_ROWS * TILE_COLS);
    for (int r = 0; r < m; r++) slm2_cpu_store(c, dx, r0 + r, i0, n, out + (size_t)r * ldc);
}

/* dw[o0 .. o0+m, i0 .. i0+n) += dy^T x, all rows in ascending order */
static void dw_tile(struct slm2_ctx *c, struct slm2_mat *dw, const struct slm2_mat *dy, const struct slm2_mat *x, int o0, int m, int i0, int n,
                    float *tmp)
{
    float *dy_tmp = tmp, *x_tmp = tmp + SUM * TILE_ROWS, *out = slm2_cpu_at(dw, o0, i0);
    size_t ldc = (size_t)dw->stride, lda, ldb;
    if (both_bf16(c, dy, x)) {
        c->k->gemm_nn_bf16(out, ldc, slm2_cpu_at(dy, 0, o0), 1, (size_t)dy->stride, slm2_cpu_at(x, 0, i0), (size_t)x->stride, (size_t)m, (size_t)n,
                           (size_t)dy->n_row, true);
        return;
    }
    for (int r = 0; r < dy->n_row; r += SUM) {
        int k = slm2_min_int(SUM, dy->n_row - r);
        const float *a = slm2_cpu_panel(c, dy, r, k, o0, m, dy_tmp, &lda), *b = slm2_cpu_panel(c, x, r, k, i0, n, x_tmp, &ldb);
        c->k->gemm_nn(out, ldc, a, 1, lda, b, ldb, (size_t)m, (size_t)n, (size_t)k, true);
    }
}

/* db[o0 .. o0+n) += column sums of dy, rows in order, in double */
static void db_tile(struct slm2_ctx *c, float *db, const struct slm2_mat *dy, int o0, int n)
{
    double sum[BIAS_COLS] = {0};
    float tmp[BIAS_COLS];
    for (int r = 0; r < dy->n_row; r++) {
        const float *row = slm2_cpu_load(c, dy, r, o0, n, tmp);
#pragma omp simd
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
        int n_i = div_up(dx->n_col, TILE_COLS), n_r = cuts(n_row);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < n_r * n_i; t++) {
            struct cut r = cut(n_row, t / n_i, n_r);
            int i = t % n_i * TILE_COLS;
            if (r.n > 0) dx_tile(c, dx, accumulate, dy, w, r.at, r.n, i, slm2_min_int(TILE_COLS, dx->n_col - i), c->scratch[omp_get_thread_num()]);
        }
    }
    if (dw) {
        int n_i = div_up(dw->n_col, TILE_COLS), n_o = cuts(n_out);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < n_o * n_i; t++) {
            struct cut o = cut(n_out, t / n_i, n_o);
            int i = t % n_i * TILE_COLS;
            if (o.n > 0) dw_tile(c, dw, dy, x, o.at, o.n, i, slm2_min_int(TILE_COLS, dw->n_col - i), c->scratch[omp_get_thread_num()]);
        }
    }
    if (db) {
        float *sums = db->data;
        int n_o = div_up(n_out, BIAS_COLS);
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < n_o; t++) db_tile(c, sums, dy, t * BIAS_COLS, slm2_min_int(BIAS_COLS, n_out - t * BIAS_COLS));
    }
}
