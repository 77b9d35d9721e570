/* ctx.c - picks the backend and the kernels, counts the threads, owns their scratch.  Nothing here runs while a model does. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ops/ops.h"
#include "ops/ops_cpu.h"

/* SHARED_BYTES: activations that linear packs at a time, if this is more than a thread's scratch, which holds a few of the widest rows; what is
 * never touched costs nothing */
enum { MAX_THREADS = 1024, SCRATCH_ALIGN = 64, SHARED_BYTES = 16 << 20 };

slm2_status slm2_ctx_init(struct slm2_ctx *c, const struct slm2_ctx_opts *o, struct slm2_err *err)
{
    static const struct slm2_ctx_opts defaults;
    if (!o) o = &defaults;
    *c = (struct slm2_ctx){0};
    const struct slm2_ops *ops = !o->backend || !strcmp(o->backend, "cpu") ? &slm2_ops_cpu
                                 : !strcmp(o->backend, "ref")              ? &slm2_ops_ref
                                                                           : NULL;
    if (!ops) return slm2_fail(err, SLM2_EUSAGE, "backend \"%s\" is unknown, want cpu or ref", o->backend);
    if (o->n_threads < 0 || o->n_threads > MAX_THREADS) {
        return slm2_fail(err, SLM2_EUSAGE, "%d threads asked for, want 0 (one per core) to %d", o->n_threads, MAX_THREADS);
    }
    SLM2_TRY(slm2_kernels_get(&c->k, o->isa, err));
    c->ops = ops;
    c->exact = o->exact;
    c->n_threads = o->n_threads ? o->n_threads : slm2_min_int(omp_get_num_procs(), MAX_THREADS);
    c->scratch = calloc((size_t)c->n_threads, sizeof *c->scratch);
    if (!c->scratch) return slm2_fail(err, SLM2_ENOMEM, "no memory for the scratch table of %d threads", c->n_threads);
    return SLM2_OK;
}

slm2_status slm2_ctx_reserve(struct slm2_ctx *c, size_t scratch_floats, struct slm2_err *err)
{
    if (scratch_floats <= c->scratch_floats) return SLM2_OK;
    size_t bytes;
    if (scratch_floats > SIZE_MAX / 2 / sizeof(float)) return slm2_fail(err, SLM2_ELIMIT, "scratch of %zu floats is too large", scratch_floats);
    bytes = slm2_align_up(scratch_floats * sizeof(float), SCRATCH_ALIGN);
    for (int t = 0; t < c->n_threads; t++) {
        float *p = aligned_alloc(SCRATCH_ALIGN, bytes);
        if (!p) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu bytes of scratch per thread (%d threads); use fewer threads", bytes, c->n_threads);
        free(c->scratch[t]);
        c->scratch[t] = p;
    }
    c->scratch_floats = bytes / sizeof(float);
    size_t shared = bytes > SHARED_BYTES ? bytes : SHARED_BYTES;
    void *p = aligned_alloc(SCRATCH_ALIGN, shared);
    if (!p) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu bytes of packed activations", shared);
    free(c->shared);
    c->shared = p;
    c->shared_bytes = shared;
    return SLM2_OK;
}

void slm2_ctx_free(struct slm2_ctx *c)
{
    if (!c) return;
    for (int t = 0; c->scratch && t < c->n_threads; t++) free(c->scratch[t]);
    free(c->scratch);
    free(c->shared);
    *c = (struct slm2_ctx){0};
}

double slm2_sum_sq(struct slm2_ctx *c, const float *x, size_t n)
{
    enum { PARTS = 512 };
    double part[PARTS], sum = 0;
    for (size_t at = 0; at < n; at += (size_t)PARTS * SLM2_SQ_CHUNK) {
        size_t k = slm2_min_size(n - at, (size_t)PARTS * SLM2_SQ_CHUNK);
        c->ops->sum_sq(c, part, x + at, k);
        for (size_t i = 0; i * SLM2_SQ_CHUNK < k; i++) sum += part[i];
    }
    return sum;
}

size_t slm2_ops_scratch_floats(int max_row, int n_ctx, int head_dim)
{
    size_t linear = slm2_cpu_linear_floats((size_t)max_row), attn = slm2_cpu_attn_floats((size_t)n_ctx, (size_t)head_dim);
    size_t rows = SLM2_CPU_ROWS * (size_t)max_row;
    size_t n = linear > attn ? linear : attn, back = slm2_cpu_linear_bwd_floats();
    n = n > back ? n : back;
    return n > rows ? n : rows;
}
