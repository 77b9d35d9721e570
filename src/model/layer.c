/* layer.c - one layer, forward and backward, as the equations say it.
 *
 *   ln1 = LayerNorm(x)
 *   q, k, v = ln1 Wq' + bq, ln1 Wk' + bk, ln1 Wv' + bv;   12B: q, k = LayerNorm of each head
 *   q, k = RoPE(q), RoPE(k)                               the first n_rot of head_dim
 *   att = softmax(q k' / sqrt(head_dim)) v                causal, inside a sequence
 *   mid = x + att Wo'
 *   ln2 = LayerNorm(mid)                                  12B, parallel residual: ln2 = ln1
 *   out = mid + (silu(ln2 Wgate') * (ln2 Wup')) Wdown'
 *
 * An adapter (lora.h) adds its part to any of these products.
 * Where results go is the plan's business (acts.h); what attention sees, the batch's (ops.h, struct slm2_seqs). */
#include "model/acts.h"
#include "model/lora.h"

static const struct slm2_mat *weight(const struct slm2_model *m, enum slm2_param_kind kind, int l)
{
    const struct slm2_param *p = slm2_params_get(&m->params, kind, l);
    return p ? &p->w : NULL;
}

/* The gradient as a matrix in g; NULL when the config has no such parameter, or it is frozen. */
static struct slm2_mat *grad(const struct slm2_model *m, enum slm2_param_kind kind, int l, struct slm2_mat *g)
{
    const struct slm2_param *p = slm2_params_get(&m->params, kind, l);
    if (!p || !p->grad) return NULL;
    *g = slm2_mat_of(p->grad, SLM2_F32, p->n_row, p->n_col);
    return g;
}

/* Rows [T, n_head * head_dim] seen as [T * n_head, head_dim]. */
static struct slm2_mat heads(const struct slm2_mat *x, int head_dim)
{
    return slm2_mat_of(x->data, x->dtype, x->n_row * (x->n_col / head_dim), head_dim);
}

static const enum slm2_param_kind NO_BIAS = SLM2_N_PARAM_KIND;

/* y = x W' + b, and the adapter's s (x A') B' */
static void linear(const struct slm2_model *m, struct slm2_acts *a, int l, struct slm2_mat *y, const struct slm2_mat *x, enum slm2_param_kind w, enum slm2_param_kind b)
{
    a->c->ops->linear(a->c, y, x, weight(m, w, l), b == NO_BIAS ? NULL : weight(m, b, l));
    slm2_lora_forward(m, a, w, l, y, x);
}

/* dW += dy' x, db += sums of dy, the adapter's gradients; then dx (= or +=) dy W and the adapter's part.  dx may be the memory of x. */
static void linear_bwd(const struct slm2_model *m, struct slm2_acts *a, int l, struct slm2_mat *dx, bool accumulate, const struct slm2_mat *dy, const struct slm2_mat *x,
                       enum slm2_param_kind w, enum slm2_param_kind b)
{
    const struct slm2_ops *op = a->c->ops;
    struct slm2_mat dw, db;
    op->linear_bwd(a->c, NULL, false, grad(m, w, l, &dw), b == NO_BIAS ? NULL : grad(m, b, l, &db), dy, x, weight(m, w, l));
    slm2_lora_backward(m, a, w, l, dy, x);
    op->linear_bwd(a->c, dx, accumulate, NULL, NULL, dy, x, weight(m, w, l));
    slm2_lora_backward_dx(m, a, w, l, dx);
}

void slm2_layer_forward(const struct slm2_model *m, struct slm2_acts *a, int l, const struct slm2_seqs *seqs, const struct slm2_kv *kv)
{
    const struct slm2_config *cfg = &m->cfg;
    struct slm2_ctx *c = a->c;
    const struct slm2_ops *op = c->ops;
    struct slm2_layer_acts *s = &a->layer[l];
    const struct slm2_mat *x = &a->x[l];

    op->layer_norm(c, &s->ln1, s->mean1, s->rstd1, x, weight(m, SLM2_P_NORM1_W, l), weight(m, SLM2_P_NORM1_B, l), cfg->norm_eps);
    linear(m, a, l, &s->q_raw, &s->ln1, SLM2_P_Q_W, SLM2_P_Q_B);
    linear(m, a, l, &s->k_raw, &s->ln1, SLM2_P_K_W, SLM2_P_K_B);
    linear(m, a, l, &s->v, &s->ln1, SLM2_P_V_W, SLM2_P_V_B);
    if (cfg->qk_norm) {
        struct slm2_mat q_raw = heads(&s->q_raw, cfg->head_dim), k_raw = heads(&s->k_raw, cfg->head_dim);
        struct slm2_mat q = heads(&s->q, cfg->head_dim), k = heads(&s->k, cfg->head_dim);
        op->layer_norm(c, &q, s->q_mean, s->q_rstd, &q_raw, weight(m, SLM2_P_Q_NORM, l), NULL, cfg->norm_eps);
        op->layer_norm(c, &k, s->k_mean, s->k_rstd, &k_raw, weight(m, SLM2_P_K_NORM, l), NULL, cfg->norm_eps);
    }
    op->rope(c, &s->q, cfg->n_head, cfg->n_rot, cfg->rope_theta, 1, seqs->position);
    op->rope(c, &s->k, cfg->n_kv_head, cfg->n_rot, cfg->rope_theta, 1, seqs->position);

    const struct slm2_mat *keys = &s->k, *values = &s->v;
    if (kv) {
        op->scatter(c, &kv->k[l], &s->k, a->kv_index);
        op->scatter(c, &kv->v[l], &s->v, a->kv_index);
        keys = &kv->k[l];
        values = &kv->v[l];
    }
    op->attn(c, &s->att, s->lse, &s->q, keys, values, cfg->n_head, cfg->n_kv_head, seqs);
    linear(m, a, l, &a->tmp, &s->att, SLM2_P_O_W, NO_BIAS);
    op->add(c, &s->mid, x, &a->tmp);

    if (!cfg->parallel_residual)
        op->layer_norm(c, &s->ln2, s->mean2, s->rstd2, &s->mid, weight(m, SLM2_P_NORM2_W, l), weight(m, SLM2_P_NORM2_B, l), cfg->norm_eps);
    linear(m, a, l, &s->gate, &s->ln2, SLM2_P_GATE_W, NO_BIAS);
    linear(m, a, l, &s->up, &s->ln2, SLM2_P_UP_W, NO_BIAS);
    op->swiglu(c, &a->h, &s->gate, &s->up);
    linear(m, a, l, &a->tmp, &a->h, SLM2_P_DOWN_W, NO_BIAS);
    op->add(c, &a->x[l + 1], &s->mid, &a->tmp);
}

/* a->dx holds the gradient of the layer's output and then of its input.  Each residual passes it on unchanged; each branch adds
 * its own part. */
void slm2_layer_backward(struct slm2_model *m, struct slm2_acts *a, int l, const struct slm2_seqs *seqs)
{
    const struct slm2_config *cfg = &m->cfg;
    struct slm2_ctx *c = a->c;
    const struct slm2_ops *op = c->ops;
    struct slm2_layer_acts *s = &a->layer[l];
    struct slm2_mat dw, db;

    /* MLP branch; h is made again from gate and up */
    op->swiglu(c, &a->h, &s->gate, &s->up);
    linear_bwd(m, a, l, &a->h, false, &a->dx, &a->h, SLM2_P_DOWN_W, NO_BIAS); /* h becomes dh */
    op->swiglu_bwd(c, &a->dgate, &a->dup, &a->h, &s->gate, &s->up);
    linear_bwd(m, a, l, &a->dln, false, &a->dgate, &s->ln2, SLM2_P_GATE_W, NO_BIAS);
    linear_bwd(m, a, l, &a->dln, true, &a->dup, &s->ln2, SLM2_P_UP_W, NO_BIAS);
    if (!cfg->parallel_residual)
        op->layer_norm_bwd(c, &a->dx, true, grad(m, SLM2_P_NORM2_W, l, &dw), grad(m, SLM2_P_NORM2_B, l, &db), &a->dln, &s->mid, s->mean2, s->rstd2, weight(m, SLM2_P_NORM2_W, l));

    /* attention branch; with the parallel residual dln goes on to collect the gradient of the one norm */
    linear_bwd(m, a, l, &a->datt, false, &a->dx, &s->att, SLM2_P_O_W, NO_BIAS);
    op->attn_bwd(c, &a->dq, &a->dk, &a->dv, &a->datt, &s->att, s->lse, &s->q, &s->k, &s->v, cfg->n_head, cfg->n_kv_head, seqs);
    op->rope(c, &a->dq, cfg->n_head, cfg->n_rot, cfg->rope_theta, -1, seqs->position);
    op->rope(c, &a->dk, cfg->n_kv_head, cfg->n_rot, cfg->rope_theta, -1, seqs->position);
    if (cfg->qk_norm) {
        struct slm2_mat q_raw = heads(&s->q_raw, cfg->head_dim), k_raw = heads(&s->k_raw, cfg->head_dim);
        struct slm2_mat dq = heads(&a->dq, cfg->head_dim), dk = heads(&a->dk, cfg->head_dim);
        op->layer_norm_bwd(c, &dq, false, grad(m, SLM2_P_Q_NORM, l, &dw), NULL, &dq, &q_raw, s->q_mean, s->q_rstd, weight(m, SLM2_P_Q_NORM, l));
        op->layer_norm_bwd(c, &dk, false, grad(m, SLM2_P_K_NORM, l, &dw), NULL, &dk, &k_raw, s->k_mean, s->k_rstd, weight(m, SLM2_P_K_NORM, l));
    }
    linear_bwd(m, a, l, &a->dln, cfg->parallel_residual, &a->dq, &s->ln1, SLM2_P_Q_W, SLM2_P_Q_B);
    linear_bwd(m, a, l, &a->dln, true, &a->dk, &s->ln1, SLM2_P_K_W, SLM2_P_K_B);
    linear_bwd(m, a, l, &a->dln, true, &a->dv, &s->ln1, SLM2_P_V_W, SLM2_P_V_B);
    op->layer_norm_bwd(c, &a->dx, true, grad(m, SLM2_P_NORM1_W, l, &dw), grad(m, SLM2_P_NORM1_B, l, &db), &a->dln, &a->x[l], s->mean1, s->rstd1, weight(m, SLM2_P_NORM1_W, l));
}
