/* step.c - one training step: gradients summed in the order of the micro-batches, one global norm, one walk over the parameters. */
#include "train/step.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"

struct slm2_optim slm2_optim_adamw(void)
{
    return (struct slm2_optim){.kind = SLM2_ADAMW, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_grad_norm = 1.0f};
}

struct slm2_optim slm2_optim_rmsprop(void)
{
    return (struct slm2_optim){.kind = SLM2_RMSPROP, .alpha = 0.99f, .eps = 1e-8f};
}

/* Rows of logits at a time.  Each chunk reads and writes the head's gradient once, 8 hidden_size bytes a word of the vocabulary; a row of logits takes 4 and is
 * passed a few times.  So as many rows as the model is wide keep the two in balance; beyond 512 (196 MiB of logits for 100,352 words) nothing is gained. */
static int default_logit_rows(int hidden_size, int max_tok)
{
    return slm2_min_int(max_tok, slm2_max_int(64, slm2_min_int(512, hidden_size)));
}

slm2_status slm2_trainer_new(struct slm2_trainer **out, const struct slm2_trainer_opts *o, struct slm2_err *err)
{
    *out = NULL;
    struct slm2_trainer *t = calloc(1, sizeof *t);
    if (!t) return slm2_fail(err, SLM2_ENOMEM, "no memory for the trainer");
    t->optim = o->optim;
    t->precision = o->precision;
    t->seed = o->seed;
    t->max_tok = o->max_tok;

    slm2_status st = slm2_ctx_init(&t->ctx, &o->ctx, err);
    if (st == SLM2_OK) st = slm2_model_trainable(&t->model, o->model_path, o->cfg, o->seed, o->precision, err);
    if (st == SLM2_OK) {
        int rows = o->max_logit_rows ? o->max_logit_rows : default_logit_rows(t->model->cfg.hidden_size, o->max_tok);
        st = slm2_acts_new(&t->acts, t->model, &t->ctx, o->recompute ? SLM2_RECOMPUTE : SLM2_KEEP_ALL,
                           o->precision == SLM2_BF16_MIXED ? SLM2_BF16 : SLM2_F32, o->max_tok, rows, err);
    }
    if (st == SLM2_OK) {
        size_t flat = slm2_arena_piece(t->model->params.flat_elems * sizeof(float)), row = slm2_arena_piece((size_t)o->max_tok * sizeof(float));
        int n_state = o->optim.kind == SLM2_ADAMW ? 2 : 1;
        st = slm2_arena_init(&t->mem, flat * (size_t)n_state + 2 * row, "optimizer state", err);
        if (st == SLM2_OK) {
            if (n_state == 2) t->exp_avg = slm2_arena_take(&t->mem, flat);
            t->exp_avg_sq = slm2_arena_take(&t->mem, flat);
            t->lp = slm2_arena_take(&t->mem, row);
            t->argmax = slm2_arena_take(&t->mem, row);
        }
    }
    if (st != SLM2_OK) {
        slm2_trainer_free(t);
        return st;
    }
    *out = t;
    return SLM2_OK;
}

void slm2_trainer_free(struct slm2_trainer *t)
{
    if (!t) return;
    slm2_acts_free(t->acts);
    slm2_model_free(t->model);
    slm2_arena_free(&t->mem);
    slm2_ctx_free(&t->ctx);
    free(t);
}

size_t slm2_trainer_bytes(const struct slm2_trainer *t)
{
    return slm2_acts_bytes(t->acts) + t->model->weights.size + t->model->vectors.size + t->mem.size;
}

void slm2_trainer_begin(struct slm2_trainer *t)
{
    t->ctx.ops->zero(&t->ctx, slm2_model_grad(t->model), t->model->params.flat_elems * sizeof(float));
    t->loss = 0;
}

/* Rows in order, in double: the same for any number of threads. */
static double weighted_nll(const struct slm2_trainer *t, const struct slm2_batch *b)
{
    double sum = 0;
    for (int r = 0; r < b->n_tok; r++)
        if (b->target[r] >= 0) sum -= (double)b->weight[r] * (double)t->lp[r];
    return sum;
}

void slm2_trainer_accumulate(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_forward(t->model, t->acts, b, NULL, NULL);
    slm2_model_backward(t->model, t->acts, b, t->lp, NULL);
    t->loss += weighted_nll(t, b);
}

void slm2_trainer_forward(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_forward(t->model, t->acts, b, NULL, NULL);
    slm2_model_logprob(t->model, t->acts, b, t->lp, NULL);
}

void slm2_trainer_backward(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_backward(t->model, t->acts, b, t->lp, NULL);
    t->loss += weighted_nll(t, b);
}

slm2_status slm2_trainer_update(struct slm2_trainer *t, double lr, struct slm2_step_stats *stats, struct slm2_err *err)
{
    const struct slm2_ops *ops = t->ctx.ops;
    const struct slm2_optim *o = &t->optim;
    const struct slm2_params *ps = &t->model->params;
    double norm = sqrt(slm2_sum_sq(&t->ctx, slm2_model_grad(t->model), ps->flat_elems));
    double clip = o->max_grad_norm > 0 ? fmin(1.0, (double)o->max_grad_norm / (norm + 1e-6)) : 1.0;
    *stats = (struct slm2_step_stats){.loss = t->loss, .grad_norm = norm, .clip = clip, .lr = lr};
    if (!isfinite(norm) || !isfinite(t->loss))
        return slm2_fail(err, SLM2_EFORMAT, "step %lld: loss %g and gradient norm %g are not both finite; lower the learning rate or resume an earlier checkpoint",
                         (long long)t->n_update, t->loss, norm);
    for (int i = 0; i < ps->n; i++) {
        const struct slm2_param *p = &ps->v[i];
        size_t n = (size_t)p->n_row * (size_t)p->n_col;
        if (o->kind == SLM2_ADAMW)
            ops->adamw(&t->ctx, p->master, t->exp_avg + p->at, t->exp_avg_sq + p->at, p->grad, n, (float)clip, (float)lr, o->beta1, o->beta2, o->eps,
                       p->is_matrix ? o->weight_decay : 0.0f, t->n_update + 1);
        else
            ops->rmsprop(&t->ctx, p->master, t->exp_avg_sq + p->at, p->grad, n, (float)clip, (float)lr, o->alpha, o->eps);
    }
    slm2_model_refresh(t->model, &t->ctx);
    t->n_update++;
    return SLM2_OK;
}

double slm2_trainer_evaluate(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_forward(t->model, t->acts, b, NULL, NULL);
    slm2_model_logprob(t->model, t->acts, b, t->lp, t->argmax);
    return weighted_nll(t, b);
}
