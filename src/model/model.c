/* model.c - forward and backward of a batch through the whole network: embedding, layers, final norm, head. */
#include "model/model.h"

#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "model/acts.h"

static const struct slm2_mat *weight(const struct slm2_model *m, enum slm2_param_kind kind) { return &slm2_params_get(&m->params, kind, -1)->w; }

/* NULL when the parameter is frozen */
static struct slm2_mat *grad(const struct slm2_model *m, enum slm2_param_kind kind, struct slm2_mat *g)
{
    const struct slm2_param *p = slm2_params_get(&m->params, kind, -1);
    *g = slm2_mat_of(p->grad, SLM2_F32, p->n_row, p->n_col);
    return p->grad ? g : NULL;
}

static struct slm2_seqs seqs_of(const struct slm2_batch *b, const int32_t *kv_start)
{
    return (struct slm2_seqs){.n_seq = b->n_seq, .cu_seqlens = b->cu_seqlens, .kv_start = kv_start, .position = b->position};
}

static void forward(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, const struct slm2_seqs *seqs, const struct slm2_kv *kv)
{
    struct slm2_ctx *c = a->c;
    int L = m->cfg.n_layer;
    c->ops->embed(c, &a->x[0], weight(m, SLM2_P_EMBED), b->ids);
    for (int l = 0; l < L; l++) {
        slm2_model_layer_weights(m, c, l);
        slm2_layer_forward(m, a, l, seqs, kv);
    }
    c->ops->layer_norm(c, &a->xf, a->mean, a->rstd, &a->x[L], weight(m, SLM2_P_NORM_W), weight(m, SLM2_P_NORM_B), m->cfg.norm_eps);
}

void slm2_model_forward(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, const struct slm2_kv *kv, const int32_t *slot)
{
    assert(b->n_tok >= 1 && b->n_tok <= a->max_tok && b->n_seq >= 1 && b->n_seq <= b->n_tok && (!kv || a->plan == SLM2_INFER));
    slm2_acts_resize(a, m, b->n_tok);
    for (int s = 0; s < b->n_seq; s++) {
        a->kv_start[s] = kv ? slot[s] * kv->n_ctx : b->cu_seqlens[s];
        for (int r = b->cu_seqlens[s]; r < b->cu_seqlens[s + 1]; r++) {
            assert(b->ids[r] >= 0 && b->ids[r] < m->cfg.vocab_size && (!kv || b->position[r] < kv->n_ctx));
            a->kv_index[r] = a->kv_start[s] + b->position[r];
        }
    }
    struct slm2_seqs seqs = seqs_of(b, a->kv_start);
    forward(m, a, b, &seqs, kv);
}

void slm2_model_forward_at(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, const struct slm2_kv *kv, const struct slm2_kv_place *place)
{
    assert(b->n_tok >= 1 && b->n_tok <= a->max_tok && b->n_seq >= 1 && b->n_seq <= b->n_tok && a->plan == SLM2_INFER && kv->k->dtype == SLM2_F32);
    slm2_acts_resize(a, m, b->n_tok);
    for (int r = 0; r < b->n_tok; r++) {
        assert(b->ids[r] >= 0 && b->ids[r] < m->cfg.vocab_size && place->at[r] >= 0 && place->at[r] < kv->n_slot * kv->n_ctx);
        a->kv_index[r] = place->at[r];
    }
    struct slm2_seqs seqs = seqs_of(b, NULL);
    seqs.run = place->run;
    seqs.cu_runs = place->cu_runs;
    forward(m, a, b, &seqs, kv);
}

void slm2_model_logits(const struct slm2_model *m, struct slm2_acts *a, int row, int n, float *logits)
{
    assert(row >= 0 && n >= 1 && row + n <= a->n_tok);
    struct slm2_mat x = slm2_mat_rows(&a->xf, row, n), y = slm2_mat_of(logits, SLM2_F32, n, m->cfg.vocab_size);
    a->c->ops->linear(a->c, &y, &x, weight(m, SLM2_P_HEAD), NULL);
}

/* Rows that have a target, in order: only they cost the head's work. */
static int rows_with_target(struct slm2_acts *a, const struct slm2_batch *b)
{
    int n = 0;
    for (int r = 0; r < b->n_tok; r++)
        if (b->target[r] >= 0) a->rows[n++] = r;
    return n;
}

/* Logits of the n gathered rows from rows[] into a->logits. */
static void head_rows(const struct slm2_model *m, struct slm2_acts *a, const int32_t *rows, int n)
{
    struct slm2_ctx *c = a->c;
    a->head_x.n_row = a->logits.n_row = n;
    c->ops->embed(c, &a->head_x, &a->xf, rows); /* gathers rows */
    c->ops->linear(c, &a->logits, &a->head_x, weight(m, SLM2_P_HEAD), NULL);
}

/* The same, with their targets beside them. */
static void head_chunk(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, const int32_t *rows, int n)
{
    for (int i = 0; i < n; i++) {
        a->head_target[i] = b->target[rows[i]];
        a->head_weight[i] = b->weight[rows[i]];
    }
    head_rows(m, a, rows, n);
}

void slm2_model_logprob_at(const struct slm2_model *m, struct slm2_acts *a, const int32_t *row, const int32_t *target, int n, float *lp, int32_t *argmax)
{
    for (int i = 0; i < n; i += a->max_logit_rows) {
        int k = slm2_min_int(n - i, a->max_logit_rows);
        head_rows(m, a, row + i, k);
        a->c->ops->logprob(a->c, lp + i, argmax ? argmax + i : NULL, NULL, &a->logits, target + i, NULL);
    }
}

void slm2_model_logprob(const struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, float *lp, int32_t *argmax)
{
    assert(b->n_tok == a->n_tok);
    int n = rows_with_target(a, b);
    for (int r = 0; r < b->n_tok; r++) {
        lp[r] = 0;
        if (argmax) argmax[r] = -1;
    }
    for (int i = 0; i < n; i += a->max_logit_rows) {
        int k = slm2_min_int(n - i, a->max_logit_rows);
        head_chunk(m, a, b, a->rows + i, k);
        a->c->ops->logprob(a->c, a->head_lp, argmax ? a->head_argmax : NULL, NULL, &a->logits, a->head_target, NULL);
        for (int j = 0; j < k; j++) {
            lp[a->rows[i + j]] = a->head_lp[j];
            if (argmax) argmax[a->rows[i + j]] = a->head_argmax[j];
        }
    }
}

/* The gradient of F32 logits in the type of the activations, each row at the place of its logits. */
static struct slm2_mat gradient_in_place(const struct slm2_mat *logits, enum slm2_dtype type)
{
    struct slm2_mat d = *logits;
    d.dtype = type;
    d.stride = (int)((size_t)logits->stride * sizeof(float) / slm2_dtype_bytes(type, 1));
    return d;
}

/* The head's part: log-probabilities, gradient of lm_head, gradient of the final norm's output into a->dln. */
static void head_backward(struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, float *lp)
{
    struct slm2_ctx *c = a->c;
    struct slm2_mat head, *dw = grad(m, SLM2_P_HEAD, &head);
    int n = rows_with_target(a, b);
    c->ops->zero(c, a->dln.data, slm2_mat_row_bytes(&a->dln) * (size_t)b->n_tok);
    for (int r = 0; lp && r < b->n_tok; r++) lp[r] = 0;
    for (int i = 0; i < n; i += a->max_logit_rows) {
        int k = slm2_min_int(n - i, a->max_logit_rows);
        const int32_t *rows = a->rows + i;
        head_chunk(m, a, b, rows, k);
        struct slm2_mat dlogits = gradient_in_place(&a->logits, a->dtype);
        a->head_dx.n_row = k;
        c->ops->logprob(c, a->head_lp, NULL, &dlogits, &a->logits, a->head_target, a->head_weight);
        c->ops->linear_bwd(c, &a->head_dx, false, dw, NULL, &dlogits, &a->head_x, weight(m, SLM2_P_HEAD));
        c->ops->scatter(c, &a->dln, &a->head_dx, rows);
        for (int j = 0; lp && j < k; j++) lp[rows[j]] = a->head_lp[j];
    }
}

/* The first parameter of a kind and all that lie behind it are final. */
static void tell_final(const struct slm2_model *m, const struct slm2_on_final *f, enum slm2_param_kind first, int layer)
{
    if (f) f->call(f->user, slm2_params_get(&m->params, first, layer)->at);
}

void slm2_model_backward(struct slm2_model *m, struct slm2_acts *a, const struct slm2_batch *b, float *lp, const struct slm2_on_final *on_final)
{
    struct slm2_ctx *c = a->c;
    int L = m->cfg.n_layer;
    assert(a->plan != SLM2_INFER && b->n_tok == a->n_tok);
    struct slm2_seqs seqs = seqs_of(b, a->kv_start);
    struct slm2_mat g[3], *dgamma = grad(m, SLM2_P_NORM_W, &g[0]), *dbeta = grad(m, SLM2_P_NORM_B, &g[1]), *dembed = grad(m, SLM2_P_EMBED, &g[2]);

    head_backward(m, a, b, lp);
    c->ops->layer_norm_bwd(c, &a->dx, false, dgamma, dbeta, &a->dln, &a->x[L], a->mean, a->rstd, weight(m, SLM2_P_NORM_W));
    tell_final(m, on_final, SLM2_P_NORM_W, -1);
    for (int l = L - 1; l >= 0; l--) {
        slm2_model_layer_weights(m, c, l);
        if (a->plan == SLM2_RECOMPUTE && l < L - 1) slm2_layer_forward(m, a, l, &seqs, NULL); /* the last layer's slots are still filled */
        slm2_layer_backward(m, a, l, &seqs);
        tell_final(m, on_final, SLM2_P_NORM1_W, l);
    }
    if (dembed) c->ops->embed_bwd(c, dembed, &a->dx, b->ids);
    tell_final(m, on_final, SLM2_P_EMBED, -1);
}

double slm2_model_flops_per_token(const struct slm2_config *c, double mean_context)
{
    double d = c->hidden_size, q = slm2_config_q_dim(c), kv = slm2_config_kv_dim(c), inter = c->intermediate_size;
    double matrices = c->n_layer * (d * (2 * q + 2 * kv) + 3 * d * inter) + (double)c->vocab_size * d;
    return 6 * matrices + 12 * c->n_layer * q * mean_context; /* forward 2, backward 4; scores and values each 2 q context */
}
