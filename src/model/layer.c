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
 * Where results go is the plan's business (acts.h); what attention sees, the batch's (ops.h, struct slm2_seqs). */
#include "model/acts.h"

static const struct slm2_mat *weight(const struct slm2_model *m, enum slm2_param_kind kind, int l)
{
    const struct slm2_param *p = slm2_params_get(&m->params, kind, l);
    return p ? &p->w : NULL;
}

/* The gradient as a matrix in g; NULL when the config has no such parameter. */
static struct slm2_mat *grad(const struct slm2_model *m, enum slm2_param_kind kind, int l, struct slm2_mat *g)
{
    const struct slm2_param *p = slm2_params_get(&m->params, kind, l);
    if (!p) return NULL;
    *g = slm2_mat_of(p->grad, SLM2_F32, p->n_row, p->n_col);
    return g;
}

/* Rows [T, n_head * head_dim] seen as [T * n_head, head_dim]. */
static struct slm2_mat heads(const struct slm2_mat *x, int head_dim)
{
    return slm2_mat_of(x->data, x->dtype, x->n_row * (x->n_col / head_dim), head_dim);
}

void slm2_layer_forward(const struct slm2_model *m, struct slm2_acts *a, int l, const struct slm2_seqs *seqs, const struct slm2_kv *kv)
{
    const struct slm2_config *cfg = &m->cfg;
    struct slm2_ctx *c = a->c;
    const struct slm2_ops *op = c->ops;
    struct slm2_layer_acts *s = &a->layer[l];
    const struct slm2_mat *x = &a->x[l];

    op->layer_norm(c, &s->ln1, s->mean1, s->rstd1, x, weight(m, SLM2_P_NORM1_W, l), weight(m, SLM2_P_NORM1_B, l), cfg->norm_eps);
    op->linear(c, &s->q_raw, &s->ln1, weight(m, SLM2_P_Q_W, l), weight(m, SLM2_P_Q_B, l));
    op->linear(c, &s->k_raw, &s->ln1, weight(m, SLM2_P_K_W, l), weight(m, SLM2_P_K_B, l));
    op->linear(c, &s->v, &s->ln1, weight(m, SLM2_P_V_W, l), weight(m, SLM2_P_V_B, l));
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
    op->linear(c, &a->tmp, &s->att, weight(m, SLM2_P_O_W, l), NULL);
    op->add(c, &s->mid, x, &a->tmp);

    if (!cfg->parallel_residual)
        op->layer_norm(c, &s->ln2, s->mean2, s->rstd2, &s->mid, weight(m, SLM2_P_NORM2_W, l), weight(m, SLM2_P_NORM2_B, l), cfg->norm_eps);
    op->linear(c, &s->gate, &s->ln2, weight(m, SLM2_P_GATE_W, l), NULL);
    op->linear(c, &s->up, &s->ln2, weight(m, SLM2_P_UP_W, l), NULL);
    op->swiglu(c, &a->h, &s->gate, &s->up);
    op->linear(c, &a->tmp, &a->h, weight(m, SLM2_P_DOWN_W, l), NULL);
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
    op->linear_bwd(c, NULL, false, grad(m, SLM2_P_DOWN_W, l, &dw), NULL, &a->dx, &a->h, weight(m, SLM2_P_DOWN_W, l));
    op->linear_bwd(c, &a->h, false, NULL, NULL, &a->dx, &a->h, weight(m, SLM2_P_DOWN_W, l)); /* h becomes dh */
    op->swiglu_bwd(c, &a->dgate, &a->dup, &a->h, &s->gate, &s->up);
    op->linear_bwd(c, &a->dln, false, grad(m, SLM2_P_GATE_W, l, &dw), NULL, &a->dgate, &s->ln2, weight(m, SLM2_P_GATE_W, l));
    op->linear_bwd(c, &a->dln, true, grad(m, SLM2_P_UP_W, l, &dw), NULL, &a->dup, &s->ln2, weight(m, SLM2_P_UP_W, l));
    if (!cfg->parallel_residual)
        op->layer_norm_bwd(c, &a->dx, true, grad(m, SLM2_P_NORM2_W, l, &dw), grad(m, SLM2_P_NORM2_B, l, &db), &a->dln, &s->mid, s->mean2, s->rstd2, weight(m, SLM2_P_NORM2_W, l));

    /* attention branch; with the parallel residual dln goes on to collect the gradient of the one norm */
    op->linear_bwd(c, &a->datt, false, grad(m, SLM2_P_O_W, l, &dw), NULL, &a->dx, &s->att, weight(m, SLM2_P_O_W, l));
    op->attn_bwd(c, &a->dq, &a->dk, &a->dv, &a->datt, &s->att, s->lse, &s->q, &s->k, &s->v, cfg->n_head, cfg->n_kv_head, seqs);
    op->rope(c, &a->dq, cfg->n_head, cfg->n_rot, cfg->rope_theta, -1, seqs->position);
    op->rope(c, &a->dk, cfg->n_kv_head, cfg->n_rot, cfg->rope_theta, -1, seqs->position);
    if (cfg->qk_norm) {
        struct slm2_mat q_raw = heads(&s->q_raw, cfg->head_dim), k_raw = heads(&s->k_raw, cfg->head_dim);
        struct slm2_mat dq = heads(&a->dq, cfg->head_dim), dk = heads(&a->dk, cfg->head_dim);
        op->layer_norm_bwd(c, &dq, false, grad(m, SLM2_P_Q_NORM, l, &dw), NULL, &dq, &q_raw, s->q_mean, s->q_rstd, weight(m, SLM2_P_Q_NORM, l));
        op->layer_norm_bwd(c, &dk, false, grad(m, SLM2_P_K_NORM, l, &dw), NULL, &dk, &k_raw, s->k_mean, s->k_rstd, weight(m, SLM2_P_K_NORM, l));
    }
    op->linear_bwd(c, &a->dln, cfg->parallel_residual, grad(m, SLM2_P_Q_W, l, &dw), grad(m, SLM2_P_Q_B, l, &db), &a->dq, &s->ln1, weight(m, SLM2_P_Q_W, l));
    op->linear_bwd(c, &a->dln, true, grad(m, SLM2_P_K_W, l, &dw), grad(m, SLM2_P_K_B, l, &db), &a->dk, &s->ln1, weight(m, SLM2_P_K_W, l));
    op->linear_bwd(c, &a->dln, true, grad(m, SLM2_P_V_W, l, &dw), grad(m, SLM2_P_V_B, l, &db), &a->dv, &s->ln1, weight(m, SLM2_P_V_W, l));
    op->layer_norm_bwd(c, &a->dx, true, grad(m, SLM2_P_NORM1_W, l, &dw), grad(m, SLM2_P_NORM1_B, l, &db), &a->dln, &a->x[l], s->mean1, s->rstd1, weight(m, SLM2_P_NORM1_W, l));
}
