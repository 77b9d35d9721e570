/* bench_train.c - how fast the training step is, on random tokens, beside what the processor could do. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "data/pack.h"
#include "kernels/peak.h"
#include "train/pretrain.h"

/* What all threads together can compute in the type that the step multiplies in; best of several short runs, so that a busy machine has a quiet
 * moment for one.  A set without bf16 arithmetic widens: its limit is that of fp32. */
static double measure_peak(const struct slm2_ctx *c, enum slm2_precision precision)
{
    enum { RUNS = 20 };
    const struct slm2_peak *p = slm2_peak_get(c->k);
    enum slm2_peak_kind kind = precision == SLM2_BF16_MIXED && p->compute[SLM2_PEAK_BF16] ? SLM2_PEAK_BF16 : SLM2_PEAK_FP32;
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        double sum = 0;
#pragma omp parallel for schedule(static) num_threads(c->n_threads)
        for (int t = 0; t < c->n_threads; t++) {
            double one = slm2_peak_measure(p, kind, 0.01);
#pragma omp critical
            sum += one;
        }
        best = fmax(best, sum);
    }
    return best;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

slm2_status slm2_bench_train(const struct slm2_pretrain_opts *o, const char *what, int steps, struct slm2_bench_train_result *res, struct slm2_err *err)
{
    struct slm2_config cfg;
    struct slm2_trainer *t = NULL;
    struct slm2_batch batch = {0};
    struct slm2_step_stats stats;
    int32_t *ids = NULL;
    double *took = NULL;
    size_t max_tok, n_tok;
    *res = (struct slm2_bench_train_result){0};
    SLM2_TRY(slm2_config_from_settings(&cfg, &o->model, what, err));
    int n_ctx = o->n_ctx ? o->n_ctx : cfg.n_ctx;
    if (n_ctx > cfg.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "%s: train.n_ctx %d is more than the %d of the model", what, n_ctx, cfg.n_ctx);
    if (!slm2_mul_size((size_t)o->micro_batch, (size_t)n_ctx, &max_tok) || max_tok > INT32_MAX / 2) return slm2_fail(err, SLM2_EUSAGE, "%s: train.micro_batch is too large", what);
    if (!slm2_mul_size(max_tok, (size_t)o->accumulation, &n_tok) || n_tok > INT32_MAX) return slm2_fail(err, SLM2_EUSAGE, "%s: train.accumulation is too large to time", what);
    struct slm2_trainer_opts opts = {.cfg = &cfg, .seed = (uint64_t)o->seed, .precision = (enum slm2_precision)o->precision, .recompute = o->recompute, .by_layer = o->by_layer, .max_tok = (int)max_tok, .n_micro = o->accumulation,
                                     .moments = (enum slm2_moments)o->moments,
                                     .optim = slm2_optim_adamw(), .ctx = {.isa = *o->isa ? o->isa : NULL, .n_threads = o->threads}};
    slm2_status st = slm2_trainer_new(&t, &opts, err);
    if (st == SLM2_OK) st = slm2_batch_init(&batch, (int)max_tok, (int)max_tok, err);
    if (st == SLM2_OK) {
        ids = calloc((size_t)n_ctx + 1, sizeof *ids);
        took = calloc((size_t)steps, sizeof *took);
        if (!ids || !took) st = slm2_fail(err, SLM2_ENOMEM, "no memory for a row");
    }
    for (int row = 0; st == SLM2_OK && row < o->micro_batch; row++) {
        for (int i = 0; i <= n_ctx; i++) ids[i] = (int32_t)slm2_rng_below((uint64_t)o->seed, SLM2_RNG_TEST, (uint64_t)row, (uint64_t)i, (uint64_t)cfg.vocab_size);
        st = slm2_pack_row(&batch, ids, n_ctx, cfg.eos_id, SLM2_PACK_ALL, (float)(1.0 / ((double)max_tok * o->accumulation)), err);
    }
    for (int s = -1; st == SLM2_OK && s < steps; s++) { /* step -1 warms up */
        double start = slm2_now_s();
        slm2_trainer_begin(t);
        for (int k = 0; k < o->accumulation; k++) slm2_trainer_accumulate(t, &batch);
        st = slm2_trainer_update(t, 1e-4, &stats, err);
        if (s >= 0) took[s] = slm2_now_s() - start;
        slm2_progress("bench train", (s + 1.0) / steps, "%.0f tokens/s", (double)max_tok * o->accumulation / (slm2_now_s() - start));
    }
    slm2_progress_end();
    if (st == SLM2_OK) {
        qsort(took, (size_t)steps, sizeof *took, by_value);
        res->n_tok_per_step = (int)n_tok;
        res->step_s = took[0];
        res->median_step_s = took[steps / 2];
        res->tok_per_s = res->n_tok_per_step / took[0];
        res->flops_per_s = res->tok_per_s * slm2_model_flops_per_token(&cfg, n_ctx / 2.0);
        res->peak_flops_per_s = measure_peak(&t->ctx, (enum slm2_precision)o->precision);
        res->mfu = res->flops_per_s / res->peak_flops_per_s;
        res->bytes = slm2_trainer_bytes(t);
    }
    free(ids);
    free(took);
    slm2_batch_free(&batch);
    slm2_trainer_free(t);
    return st;
}
