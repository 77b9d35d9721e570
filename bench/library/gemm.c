/* gemm.c - the library baseline: oneDNN (bf16) and OpenBLAS (fp32) beside our matrix products, at the layer shapes of the 1.6B model.
 *
 * y[m][n_out] = x[m][n_in] w[n_out][n_in]^T as slm2 calls it, through the op `linear`: packing of weights and activations is part of ours, as it is of
 * theirs.  bf16: activations, weights and results bf16.  The three take turns; best of several rounds.  Not part of the build:
 *
 *   apt-get install libdnnl-dev libopenblas0-openmp libopenblas-dev && make
 *   gcc -O2 -std=gnu17 -fopenmp -Isrc -Iinclude bench/library/gemm.c build/libslm2.a $(pkg-config --libs jansson yaml-0.1 libzstd zlib sqlite3 \
 *       libutf8proc libmd) -ldnnl -lopenblas -lm -o gemm
 *   for t in 1 2; do OMP_NUM_THREADS=$t OPENBLAS_NUM_THREADS=$t ./gemm; done */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "kernels/peak.h"
#include "ops/ops.h"

enum { ROUNDS = 7 };

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "gemm: %s failed\n", what);
    exit(1);
}

static void *block(size_t bytes)
{
    void *p = aligned_alloc(64, slm2_align_up(bytes, 64));
    must(p, "memory");
    return p;
}

/* ---- oneDNN: a matmul primitive, made once per shape; weights in the plain order of the file ------------------------ */
struct dnnl_product { dnnl_primitive_t run; dnnl_stream_t stream; dnnl_memory_t x, w, y; };

static struct dnnl_product dnnl_product(dnnl_engine_t engine, long m, long n_in, long n_out, void *x, void *w, void *y)
{
    struct dnnl_product p;
    dnnl_memory_desc_t xd, wd, yd;
    dnnl_matmul_desc_t d;
    dnnl_primitive_desc_t pd;
    must(!dnnl_memory_desc_init_by_strides(&xd, 2, (dnnl_dims_t){m, n_in}, dnnl_bf16, (dnnl_dims_t){n_in, 1}) &&
         !dnnl_memory_desc_init_by_strides(&wd, 2, (dnnl_dims_t){n_in, n_out}, dnnl_bf16, (dnnl_dims_t){1, n_in}) &&
         !dnnl_memory_desc_init_by_strides(&yd, 2, (dnnl_dims_t){m, n_out}, dnnl_bf16, (dnnl_dims_t){n_out, 1}), "oneDNN descriptors");
    must(!dnnl_matmul_desc_init(&d, &xd, &wd, NULL, &yd) && !dnnl_primitive_desc_create(&pd, &d, NULL, engine, NULL) &&
         !dnnl_primitive_create(&p.run, pd) && !dnnl_stream_create(&p.stream, engine, dnnl_stream_default_flags), "oneDNN matmul");
    must(!dnnl_memory_create(&p.x, &xd, engine, x) && !dnnl_memory_create(&p.w, &wd, engine, w) && !dnnl_memory_create(&p.y, &yd, engine, y), "oneDNN memory");
    dnnl_primitive_desc_destroy(pd);
    return p;
}

static void dnnl_run(const struct dnnl_product *p)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w}, {DNNL_ARG_DST, p->y}};
    must(!dnnl_primitive_execute(p->run, p->stream, 3, args) && !dnnl_stream_wait(p->stream), "oneDNN execute");
}

/* ---- one shape ---------------------------------------------------------------------------------------------------- */
static void shape(struct slm2_ctx *c, dnnl_engine_t engine, int m, int n_in, int n_out, const double peak[])
{
    size_t nx = (size_t)m * (size_t)n_in, nw = (size_t)n_in * (size_t)n_out, ny = (size_t)m * (size_t)n_out;
    float *x = block(4 * nx), *w = block(4 * nw), *y = block(4 * ny), *dw = block(4 * nw);
    uint16_t *xh = block(2 * nx), *wh = block(2 * nw), *yh = block(2 * ny);
    for (size_t i = 0; i < nx; i++) xh[i] = slm2_f32_to_bf16(x[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f);
    for (size_t i = 0; i < nw; i++) wh[i] = slm2_f32_to_bf16(w[i] = (float)(i * 2246822519u % 1000) / 1000 - 0.5f), dw[i] = 0;
    for (size_t i = 0; i < ny; i++) yh[i] = slm2_f32_to_bf16(y[i] = 0.25f);
    struct slm2_mat xm = slm2_mat_of(x, SLM2_F32, m, n_in), wm = slm2_mat_of(w, SLM2_F32, n_out, n_in), ym = slm2_mat_of(y, SLM2_F32, m, n_out);
    struct slm2_mat xb = slm2_mat_of(xh, SLM2_BF16, m, n_in), wb = slm2_mat_of(wh, SLM2_BF16, n_out, n_in), yb = slm2_mat_of(yh, SLM2_BF16, m, n_out);
    struct slm2_mat dm = slm2_mat_of(dw, SLM2_F32, n_out, n_in);
    struct dnnl_product p = dnnl_product(engine, m, n_in, n_out, xh, wh, yh);
    enum { BF16, BF16_DX, BF16_DW, DNNL, FP32, FP32_DX, FP32_DW, BLAS, N };
    static const char *const name[N] = {"bf16", "bf16 dx", "bf16 dw", "oneDNN bf16", "fp32", "fp32 dx", "fp32 dw", "OpenBLAS fp32"};
    double best[N];
    for (int i = 0; i < N; i++) best[i] = HUGE_VAL;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            double start = slm2_now_s();
            if (i == BF16) c->ops->linear(c, &yb, &xb, &wb, NULL);
            if (i == BF16_DX) c->ops->linear_bwd(c, &xb, false, NULL, NULL, &yb, &xb, &wb);
            if (i == BF16_DW) c->ops->linear_bwd(c, NULL, false, &dm, NULL, &yb, &xb, &wb);
            if (i == DNNL) dnnl_run(&p);
            if (i == FP32) c->ops->linear(c, &ym, &xm, &wm, NULL);
            if (i == FP32_DX) c->ops->linear_bwd(c, &xm, false, NULL, NULL, &ym, &xm, &wm);
            if (i == FP32_DW) c->ops->linear_bwd(c, NULL, false, &dm, NULL, &ym, &xm, &wm);
            if (i == BLAS) cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n_out, n_in, 1, x, n_in, w, n_in, 0, y, n_out);
            best[i] = fmin(best[i], slm2_now_s() - start);
        }
        for (size_t i = 0; i < nx; i++) xh[i] = slm2_f32_to_bf16(x[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f); /* dx lies where x was */
    }
    printf("%d threads, m %d, %d -> %d:", c->n_threads, m, n_in, n_out);
    for (int i = 0; i < N; i++) {
        double rate = 2.0 * (double)m * n_in * n_out / best[i];
        printf("  %s %.0f (%.0f %%)", name[i], rate / 1e9, 100 * rate / peak[i < FP32]);
    }
    printf("\n");
    fflush(stdout);
    void *all[] = {x, w, y, dw, xh, wh, yh};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

int main(void)
{
    static const int shapes[][2] = {{2048, 2048}, {2048, 5632}, {5632, 2048}}, rows[] = {512, 4096};
    struct slm2_ctx c;
    struct slm2_err err;
    dnnl_engine_t engine;
    must(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.n_threads = omp_get_max_threads()}, &err) == SLM2_OK, "context");
    must(slm2_ctx_reserve(&c, slm2_ops_scratch_floats(5632, 4096, 64), &err) == SLM2_OK, "scratch");
    must(!dnnl_engine_create(&engine, dnnl_cpu, 0), "oneDNN engine");
    double peak[2] = {0, 0}; /* fp32, bf16 */
    for (int round = 0; round < 20; round++) {
        for (int k = 0; k < 2; k++) {
            double sum = 0;
#pragma omp parallel reduction(+ : sum)
            sum += slm2_peak_measure(slm2_peak_get(c.k), k ? SLM2_PEAK_BF16 : SLM2_PEAK_FP32, 0.01);
            peak[k] = fmax(peak[k], sum);
        }
    }
    printf("%d threads, GFLOP/s (share of the processor's peak: fp32 %.0f, bf16 %.0f)\n", c.n_threads, peak[0] / 1e9, peak[1] / 1e9);
    for (int r = 0; r < 2; r++) {
        for (int s = 0; s < 3; s++) shape(&c, engine, rows[r], shapes[s][0], shapes[s][1], peak);
    }
    slm2_ctx_free(&c);
    return 0;
}
