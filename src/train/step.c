/* step.c - one training step: gradients summed as a tree over the micro-batches, one global norm, one walk over the own parameters. */
#include "train/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
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

/* Elements of the flat buffers of what the options describe: needed before the model, whose master weights are held by shard. */
static slm2_status flat_size(const struct slm2_trainer_opts *o, size_t *n, struct slm2_err *err)
{
    struct slm2_params list;
    struct slm2_model *m = NULL;
    if (o->model_path) SLM2_TRY(slm2_model_open(&m, o->model_path, err));
    slm2_status st = m ? SLM2_OK : slm2_config_check(o->cfg, "model", err);
    if (st == SLM2_OK) st = slm2_params_list(&list, m ? &m->cfg : o->cfg, err);
    if (st == SLM2_OK) {
        *n = list.flat_elems;
        slm2_params_list_free(&list);
    }
    slm2_model_free(m);
    return st;
}

static slm2_status lay_state(struct slm2_trainer *t, const struct slm2_trainer_opts *o, struct slm2_err *err)
{
    size_t shard = slm2_arena_piece(slm2_dtype_bytes(t->moments, t->zero.shard_elems)), flat = slm2_arena_piece(slm2_model_trained(t->model)->flat_elems * sizeof(float));
    size_t row = slm2_arena_piece((size_t)o->max_tok * sizeof(float)), size = (size_t)slm2_block_size(slm2_max_int(o->n_micro, 1), t->zero.comm->n_rank);
    size_t mine = slm2_arena_piece(size * sizeof(double)), all = slm2_arena_piece(size * (size_t)t->zero.comm->n_rank * sizeof(double));
    size_t n_state = o->optim.kind == SLM2_ADAMW ? 2 : 1, piece = t->moments == SLM2_BF16 ? slm2_arena_piece(slm2_min_size(SLM2_MOMENT_PIECE, t->zero.shard_elems) * sizeof(float)) : 0;
    while (o->n_micro && ((t->block.n - 1) >> t->n_spare) > 0) t->n_spare++;
    SLM2_TRY(slm2_arena_init(&t->mem, (shard + piece) * n_state + flat * (size_t)t->n_spare + 2 * row + mine + all, "optimizer state", err));
    if (n_state == 2) t->exp_avg = slm2_arena_take(&t->mem, shard);
    t->exp_avg_sq = slm2_arena_take(&t->mem, shard);
    if (n_state == 2) t->piece = slm2_arena_take(&t->mem, piece);
    t->piece_sq = slm2_arena_take(&t->mem, piece);
    for (int i = 0; i < t->n_spare; i++) t->spare[i] = slm2_arena_take(&t->mem, flat);
    t->lp = slm2_arena_take(&t->mem, row);
    t->argmax = slm2_arena_take(&t->mem, row);
    t->micro_loss = slm2_arena_take(&t->mem, mine);
    t->all_loss = slm2_arena_take(&t->mem, all);
    return SLM2_OK;
}

/* A mapped model and its adapter; the model's products are not rounded further, so that the backward is of what the forward computed. */
static slm2_status open_adapted(struct slm2_trainer *t, const struct slm2_trainer_opts *o, struct slm2_err *err)
{
    if (o->n_micro) return slm2_fail(err, SLM2_EUSAGE, "an adapter is trained by one rank that sums its micro-batches in order");
    SLM2_TRY(slm2_model_open(&t->model, o->model_path, err));
    if (o->adapter) return slm2_lora_open(t->model, o->adapter, true, err);
    SLM2_TRY(slm2_lora_add(t->model, o->lora, true, err));
    slm2_lora_start(t->model->lora, o->seed);
    return SLM2_OK;
}

slm2_status slm2_trainer_new(struct slm2_trainer **out, const struct slm2_trainer_opts *o, struct slm2_err *err)
{
    *out = NULL;
    struct slm2_trainer *t = calloc(1, sizeof *t);
    if (!t) return slm2_fail(err, SLM2_ENOMEM, "no memory for the trainer");
    t->optim = o->optim;
    t->precision = o->precision;
    t->moments = o->moments == SLM2_MOMENTS_BF16 ? SLM2_BF16 : SLM2_F32;
    t->seed = o->seed;
    t->max_tok = o->max_tok;
    t->n_micro = o->n_micro;
    slm2_comm_self(&t->self);
    struct slm2_comm *comm = o->comm ? o->comm : &t->self;
    struct slm2_ctx_opts co = o->ctx;
    bool adapted = o->lora || o->adapter;
    size_t flat = 0;

    slm2_status st = comm->n_rank > 1 && !o->n_micro ? slm2_fail(err, SLM2_EUSAGE, "several ranks need to know how many micro-batches a step has") : SLM2_OK;
    if (st == SLM2_OK && o->by_layer && (adapted || comm->n_rank > 1 || o->precision != SLM2_BF16_MIXED))
        st = slm2_fail(err, SLM2_EUSAGE, "weights by layer are made from all master weights: that wants precision bf16, one rank and no adapter");
    co.exact = co.exact || adapted;
    if (st == SLM2_OK) st = adapted ? open_adapted(t, o, err) : flat_size(o, &flat, err);
    if (st == SLM2_OK && adapted) flat = slm2_model_trained(t->model)->flat_elems;
    if (st == SLM2_OK) st = slm2_zero_init(&t->zero, comm, flat, o->bucket_elems, slm2_max_int(o->n_micro, 1), err);
    if (st == SLM2_OK) st = slm2_ctx_init(&t->ctx, &co, err);
    if (st == SLM2_OK && o->by_layer) st = slm2_model_by_layer(&t->model, o->model_path, o->cfg, o->seed, err);
    else if (st == SLM2_OK && !adapted)
        st = slm2_model_trainable_shard(&t->model, o->model_path, o->cfg, o->seed, o->precision, comm->n_rank > 1 ? t->zero.own : NULL, t->zero.buckets.n, err);
    if (st == SLM2_OK) st = slm2_zero_bind(&t->zero, &t->ctx, t->model, err);
    if (st == SLM2_OK) {
        int rows = o->max_logit_rows ? o->max_logit_rows : default_logit_rows(t->model->cfg.hidden_size, o->max_tok);
        st = slm2_acts_new(&t->acts, t->model, &t->ctx, o->recompute ? SLM2_RECOMPUTE : SLM2_KEEP_ALL,
                           o->precision == SLM2_BF16_MIXED ? SLM2_BF16 : SLM2_F32, o->max_tok, rows, err);
    }
    if (st == SLM2_OK) {
        t->block = o->n_micro ? slm2_block_of(o->n_micro, comm->n_rank, comm->rank) : (struct slm2_block){0, INT32_MAX};
        st = lay_state(t, o, err);
    }
    if (st != SLM2_OK) {
        slm2_trainer_free(t);
        return st;
    }
    *out = t;
    return SLM2_OK;
}

slm2_status slm2_trainer_look(struct slm2_model **m, size_t *bytes, const struct slm2_trainer_opts *o, struct slm2_err *err)
{
    struct slm2_trainer t = {0};
    struct slm2_ctx_opts co = o->ctx;
    bool adapted = o->lora || o->adapter;
    *m = NULL;
    co.exact = co.exact || adapted;
    slm2_status st = adapted ? open_adapted(&t, o, err) : slm2_model_open(&t.model, o->model_path, err);
    if (st == SLM2_OK && !adapted) st = slm2_model_may_train(t.model, err);
    if (st == SLM2_OK) st = slm2_ctx_init(&t.ctx, &co, err);
    if (st == SLM2_OK)
        st = slm2_acts_new(&t.acts, t.model, &t.ctx, o->recompute ? SLM2_RECOMPUTE : SLM2_KEEP_ALL, o->precision == SLM2_BF16_MIXED ? SLM2_BF16 : SLM2_F32, o->max_tok,
                           default_logit_rows(t.model->cfg.hidden_size, o->max_tok), err);
    if (st == SLM2_OK) {
        size_t n = slm2_model_trained(t.model)->flat_elems, state = n * (o->optim.kind == SLM2_ADAMW ? 8 : 4);
        size_t weights = adapted ? t.model->lora->mem.size : n * (o->precision == SLM2_BF16_MIXED ? 10 : 8); /* fp32 weights and gradients; mixed: bf16 weights too */
        *bytes = slm2_acts_bytes(t.acts) + weights + state + 2 * (size_t)o->max_tok * sizeof(float);
        *m = t.model;
        t.model = NULL;
    }
    slm2_acts_free(t.acts);
    slm2_model_free(t.model);
    slm2_ctx_free(&t.ctx);
    return st;
}

void slm2_trainer_free(struct slm2_trainer *t)
{
    if (!t) return;
    slm2_acts_free(t->acts);
    slm2_model_free(t->model);
    slm2_arena_free(&t->mem);
    slm2_zero_free(&t->zero);
    slm2_ctx_free(&t->ctx);
    free(t);
}

size_t slm2_trainer_bytes(const struct slm2_trainer *t)
{
    return slm2_acts_bytes(t->acts) + t->model->weights.size + t->model->vectors.size + (t->model->lora ? t->model->lora->mem.size : 0) + t->mem.size + slm2_zero_bytes(&t->zero);
}

static void zero_grad(struct slm2_trainer *t)
{
    t->ctx.ops->zero(&t->ctx, slm2_model_grad(t->model), slm2_model_trained(t->model)->flat_elems * sizeof(float));
}

void slm2_trainer_begin(struct slm2_trainer *t)
{
    zero_grad(t);
    slm2_zero_begin(&t->zero);
    t->leaf = 0;
    t->loss = 0;
    t->final_from = slm2_model_trained(t->model)->flat_elems;
}

/* ---- the tree ------------------------------------------------------------------------------------------------------------
 * Leaves are the micro-batches; 0+1, 2+3, ... then (01)+(23) ...; what is missing at the end is left out.  Like a binary counter: leaf i closes as many
 * subtrees as i has ones at its end, and waits in the spare of the next level for its right neighbour.  The last leaf adds all that still wait. */
static void add_range(struct slm2_trainer *t, const float *x, size_t from, size_t to)
{
    struct slm2_mat y = slm2_mat_of(slm2_model_grad(t->model) + from, SLM2_F32, 1, (int)(to - from));
    struct slm2_mat a = slm2_mat_of((void *)(uintptr_t)(x + from), SLM2_F32, 1, (int)(to - from));
    t->ctx.ops->add(&t->ctx, &y, &y, &a);
}

/* Walks the parameters, so that no stretch is longer than an operation can say. */
static void add_spare(struct slm2_trainer *t, int level)
{
    const struct slm2_params *ps = slm2_model_trained(t->model);
    for (int i = 0; i < ps->n; i++) add_range(t, t->spare[level], ps->v[i].at, i + 1 < ps->n ? ps->v[i + 1].at : ps->flat_elems);
}

static void close_leaf(struct slm2_trainer *t, int leaf)
{
    const struct slm2_params *ps = slm2_model_trained(t->model);
    int level = 0;
    for (; leaf >> level & 1; level++) add_spare(t, level);
    for (int i = 0; i < ps->n; i++) {
        const struct slm2_param *p = &ps->v[i];
        struct slm2_mat y = slm2_mat_of(t->spare[level] + p->at, SLM2_F32, p->n_row, p->n_col), x = slm2_mat_of(p->grad, SLM2_F32, p->n_row, p->n_col);
        t->ctx.ops->copy(&t->ctx, &y, &x);
    }
    zero_grad(t);
}

/* In the last micro-batch, layer by layer: the sum of this rank is complete from `from` on and may be sent. */
static void on_final(void *user, size_t from)
{
    struct slm2_trainer *t = user;
    int last = t->block.n - 1;
    for (int level = 0; level < t->n_spare; level++)
        if (last >> level & 1) add_range(t, t->spare[level], from, t->final_from);
    t->final_from = from;
    slm2_zero_final(&t->zero, from);
}

static void backward(struct slm2_trainer *t, const struct slm2_batch *b)
{
    const struct slm2_on_final f = {on_final, t};
    if (t->n_micro && t->leaf > 0) close_leaf(t, t->leaf - 1);
    slm2_model_backward(t->model, t->acts, b, t->lp, t->n_micro && t->leaf == t->block.n - 1 ? &f : NULL);
    t->leaf++;
}

/* Rows in order, in double: the same for any number of threads. */
static double weighted_nll(const struct slm2_trainer *t, const struct slm2_batch *b)
{
    double sum = 0;
    for (int r = 0; r < b->n_tok; r++)
        if (b->target[r] >= 0) sum -= (double)b->weight[r] * (double)t->lp[r];
    return sum;
}

static void add_loss(struct slm2_trainer *t, const struct slm2_batch *b)
{
    double loss = weighted_nll(t, b);
    t->loss += loss;
    if (t->n_micro) t->micro_loss[t->leaf - 1] = loss;
}

void slm2_trainer_accumulate(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_forward(t->model, t->acts, b, NULL, NULL);
    backward(t, b);
    add_loss(t, b);
}

void slm2_trainer_forward(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_forward(t->model, t->acts, b, NULL, NULL);
    slm2_model_logprob(t->model, t->acts, b, t->lp, NULL);
}

void slm2_trainer_backward(struct slm2_trainer *t, const struct slm2_batch *b)
{
    backward(t, b);
    add_loss(t, b);
}

/* ---- the update ------------------------------------------------------------------------------------------------------------ */
/* Losses of all micro-batches, added in their order. */
static slm2_status sum_losses(struct slm2_trainer *t, struct slm2_err *err)
{
    struct slm2_comm *c = t->zero.comm;
    size_t size = (size_t)slm2_block_size(t->n_micro, c->n_rank);
    double start = slm2_now_s();
    SLM2_TRY(c->ops->all_gather(c, t->all_loss, t->micro_loss, size * sizeof(double), err));
    if (c->n_rank > 1) t->zero.comm_s += slm2_now_s() - start;
    t->loss = 0;
    for (int i = 0; i < t->n_micro; i++) t->loss += t->all_loss[i];
    return SLM2_OK;
}

slm2_status slm2_trainer_reduce(struct slm2_trainer *t, struct slm2_step_stats *stats, struct slm2_err *err)
{
    const struct slm2_optim *o = &t->optim;
    double sum_sq;
    SLM2_TRY(slm2_zero_reduce(&t->zero, err));
    if (t->n_micro) SLM2_TRY(sum_losses(t, err));
    SLM2_TRY(slm2_zero_norm(&t->zero, &sum_sq, err));
    double norm = sqrt(sum_sq), clip = o->max_grad_norm > 0 ? fmin(1.0, (double)o->max_grad_norm / (norm + 1e-6)) : 1.0;
    *stats = (struct slm2_step_stats){.loss = t->loss, .grad_norm = norm, .clip = clip};
    return SLM2_OK;
}

static void convert(struct slm2_trainer *t, void *to, enum slm2_dtype to_type, void *from, enum slm2_dtype from_type, size_t n)
{
    struct slm2_mat y = slm2_mat_of(to, to_type, 1, (int)n), x = slm2_mat_of(from, from_type, 1, (int)n);
    t->ctx.ops->copy(&t->ctx, &y, &x);
}

static void optimize(struct slm2_trainer *t, float *master, float *exp_avg, float *exp_avg_sq, const float *grad, size_t n, float decay, const struct slm2_step_stats *s)
{
    const struct slm2_ops *ops = t->ctx.ops;
    const struct slm2_optim *o = &t->optim;
    if (o->kind == SLM2_ADAMW) ops->adamw(&t->ctx, master, exp_avg, exp_avg_sq, grad, n, (float)s->clip, (float)s->lr, o->beta1, o->beta2, o->eps, decay, t->n_update + 1);
    else ops->rmsprop(&t->ctx, master, exp_avg_sq, grad, n, (float)s->clip, (float)s->lr, o->alpha, o->eps);
}

/* n elements of a parameter from its element `skip` on; at: their place in the shard. */
static void update_stretch(struct slm2_trainer *t, struct slm2_param *p, size_t skip, size_t n, size_t at, const struct slm2_step_stats *s)
{
    const struct slm2_ops *ops = t->ctx.ops;
    float *master = p->master ? p->master + skip : slm2_model_master(t->model) + at, decay = p->is_matrix ? t->optim.weight_decay : 0.0f;
    if (t->moments == SLM2_F32) optimize(t, master, t->exp_avg ? (float *)t->exp_avg + at : NULL, (float *)t->exp_avg_sq + at, p->grad + skip, n, decay, s);
    for (size_t i = 0; t->moments == SLM2_BF16 && i < n; i += SLM2_MOMENT_PIECE) {
        size_t k = slm2_min_size(SLM2_MOMENT_PIECE, n - i);
        uint16_t *m = t->exp_avg ? (uint16_t *)t->exp_avg + at + i : NULL, *v = (uint16_t *)t->exp_avg_sq + at + i;
        if (m) convert(t, t->piece, SLM2_F32, m, SLM2_BF16, k);
        convert(t, t->piece_sq, SLM2_F32, v, SLM2_BF16, k);
        optimize(t, master + i, t->piece, t->piece_sq, p->grad + skip + i, k, decay, s);
        if (m) convert(t, m, SLM2_BF16, t->piece, SLM2_F32, k);
        convert(t, v, SLM2_BF16, t->piece_sq, SLM2_F32, k);
    }
    if (slm2_model_is_by_layer(t->model, p)) return;
    struct slm2_mat from = slm2_mat_of(master, SLM2_F32, 1, (int)n);
    struct slm2_mat w = slm2_mat_of((uint8_t *)p->w.data + slm2_dtype_bytes(p->w.dtype, skip), p->w.dtype, 1, (int)n);
    if (w.data != from.data) ops->copy(&t->ctx, &w, &from);
}

slm2_status slm2_trainer_apply(struct slm2_trainer *t, double lr, struct slm2_step_stats *stats, struct slm2_err *err)
{
    const struct slm2_params *ps = slm2_model_trained(t->model);
    stats->lr = lr;
    for (int b = 0; b < t->zero.buckets.n; b++) {
        size_t at;
        struct slm2_span s = slm2_zero_part(&t->zero, b, &at);
        for (int i = 0; i < ps->n; i++) {
            struct slm2_param *p = &ps->v[i];
            size_t from = p->at > s.from ? p->at : s.from, to = slm2_min_size(p->at + (size_t)p->n_row * (size_t)p->n_col, s.to);
            if (from < to) update_stretch(t, p, from - p->at, to - from, at + (from - s.from), stats);
        }
    }
    bool mixed = t->precision == SLM2_BF16_MIXED && !t->model->lora; /* the first parameter is a matrix at 0: its weights begin the flat buffer of all */
    SLM2_TRY(slm2_zero_share_flat(&t->zero, ps->v[0].w.data, mixed ? sizeof(uint16_t) : sizeof(float), err));
    SLM2_TRY(slm2_zero_share_vectors(&t->zero, err));
    slm2_model_forget_layer(t->model);
    t->n_update++;
    return SLM2_OK;
}

slm2_status slm2_trainer_update(struct slm2_trainer *t, double lr, struct slm2_step_stats *stats, struct slm2_err *err)
{
    SLM2_TRY(slm2_trainer_reduce(t, stats, err));
    stats->lr = lr;
    if (!isfinite(stats->grad_norm) || !isfinite(stats->loss))
        return slm2_fail(err, SLM2_EFORMAT, "step %lld: loss %g and gradient norm %g are not both finite; lower the learning rate or resume an earlier checkpoint",
                         (long long)t->n_update, stats->loss, stats->grad_norm);
    return slm2_trainer_apply(t, lr, stats, err);
}

/* ---- the whole state ------------------------------------------------------------------------------------------------------- */
static void *state_of(struct slm2_trainer *t, enum slm2_state which)
{
    return which == SLM2_STATE_MASTER ? slm2_model_master(t->model) : which == SLM2_STATE_EXP_AVG ? t->exp_avg : t->exp_avg_sq;
}

static enum slm2_dtype type_of(const struct slm2_trainer *t, enum slm2_state which)
{
    return which == SLM2_STATE_MASTER ? SLM2_F32 : t->moments;
}

/* Whether every rank has all of it anyway, as fp32. */
static bool is_whole(const struct slm2_trainer *t, enum slm2_state which)
{
    return type_of(t, which) == SLM2_F32 && (t->zero.comm->n_rank == 1 || (which == SLM2_STATE_MASTER && !t->model->own));
}

slm2_status slm2_trainer_whole(struct slm2_trainer *t, enum slm2_state which, const float **flat, struct slm2_err *err)
{
    const void *state = state_of(t, which);
    float *room = slm2_trainer_room(t, which);
    *flat = NULL;
    if (!state) return SLM2_OK;
    if (!is_whole(t, which)) SLM2_TRY(slm2_zero_collect(&t->zero, state, type_of(t, which), room, err));
    if (t->zero.comm->rank == 0) *flat = room;
    return SLM2_OK;
}

float *slm2_trainer_room(struct slm2_trainer *t, enum slm2_state which)
{
    void *state = state_of(t, which);
    return !state || is_whole(t, which) ? state : slm2_model_grad(t->model);
}

void slm2_trainer_take(struct slm2_trainer *t, enum slm2_state which)
{
    if (which == SLM2_STATE_MASTER && t->model->own) slm2_model_set(t->model, slm2_model_grad(t->model));
    else if (which == SLM2_STATE_MASTER) slm2_model_refresh(t->model, &t->ctx);
    else if (!is_whole(t, which) && state_of(t, which)) slm2_zero_take(&t->zero, slm2_model_grad(t->model), state_of(t, which), type_of(t, which));
}

double slm2_trainer_evaluate(struct slm2_trainer *t, const struct slm2_batch *b)
{
    slm2_model_forward(t->model, t->acts, b, NULL, NULL);
    slm2_model_logprob(t->model, t->acts, b, t->lp, t->argmax);
    return weighted_nll(t, b);
}
