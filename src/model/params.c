/* params.c - the table of parameters, and its walk between Hugging Face tensors and flat buffers. */
#include "model/params.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum dim { ONE, VOCAB, HIDDEN, INTER, Q_DIM, KV_DIM, N_HEAD, N_KV_HEAD, HEAD_DIM };
enum when { ALWAYS, QKV_BIAS, QK_NORM, SEQUENTIAL };

/* One row a kind, in the order of the enum: shape, when it exists.  Matrices decay, vectors do not. */
static const struct { enum dim n_row, n_col; bool is_matrix; enum when when; } shape[SLM2_N_PARAM_KIND] = {
    [SLM2_P_EMBED] = {VOCAB, HIDDEN, true, ALWAYS},
    [SLM2_P_NORM1_W] = {ONE, HIDDEN, false, ALWAYS},
    [SLM2_P_NORM1_B] = {ONE, HIDDEN, false, ALWAYS},
    [SLM2_P_Q_W] = {Q_DIM, HIDDEN, true, ALWAYS},
    [SLM2_P_Q_B] = {ONE, Q_DIM, false, QKV_BIAS},
    [SLM2_P_K_W] = {KV_DIM, HIDDEN, true, ALWAYS},
    [SLM2_P_K_B] = {ONE, KV_DIM, false, QKV_BIAS},
    [SLM2_P_V_W] = {KV_DIM, HIDDEN, true, ALWAYS},
    [SLM2_P_V_B] = {ONE, KV_DIM, false, QKV_BIAS},
    [SLM2_P_Q_NORM] = {N_HEAD, HEAD_DIM, false, QK_NORM},
    [SLM2_P_K_NORM] = {N_KV_HEAD, HEAD_DIM, false, QK_NORM},
    [SLM2_P_O_W] = {HIDDEN, Q_DIM, true, ALWAYS},
    [SLM2_P_NORM2_W] = {ONE, HIDDEN, false, SEQUENTIAL},
    [SLM2_P_NORM2_B] = {ONE, HIDDEN, false, SEQUENTIAL},
    [SLM2_P_GATE_W] = {INTER, HIDDEN, true, ALWAYS},
    [SLM2_P_UP_W] = {INTER, HIDDEN, true, ALWAYS},
    [SLM2_P_DOWN_W] = {HIDDEN, INTER, true, ALWAYS},
    [SLM2_P_NORM_W] = {ONE, HIDDEN, false, ALWAYS},
    [SLM2_P_NORM_B] = {ONE, HIDDEN, false, ALWAYS},
    [SLM2_P_HEAD] = {VOCAB, HIDDEN, true, ALWAYS},
};

static int dim_of(enum dim d, const struct slm2_config *c)
{
    switch (d) {
    case VOCAB: return c->vocab_size;
    case HIDDEN: return c->hidden_size;
    case INTER: return c->intermediate_size;
    case Q_DIM: return slm2_config_q_dim(c);
    case KV_DIM: return slm2_config_kv_dim(c);
    case N_HEAD: return c->n_head;
    case N_KV_HEAD: return c->n_kv_head;
    case HEAD_DIM: return c->head_dim;
    case ONE: break;
    }
    return 1;
}

static bool exists(enum when w, const struct slm2_config *c)
{
    switch (w) {
    case QKV_BIAS: return c->qkv_bias;
    case QK_NORM: return c->qk_norm;
    case SEQUENTIAL: return !c->parallel_residual;
    case ALWAYS: break;
    }
    return true;
}

static void append(struct slm2_params *p, const struct slm2_config *c, enum slm2_param_kind kind, int layer)
{
    if (!exists(shape[kind].when, c)) return;
    struct slm2_param *q = &p->v[p->n++];
    *q = (struct slm2_param){.kind = kind, .layer = layer, .is_matrix = shape[kind].is_matrix};
    q->n_row = dim_of(shape[kind].n_row, c);
    q->n_col = dim_of(shape[kind].n_col, c);
    q->at = p->flat_elems;
    size_t n = (size_t)q->n_row * (size_t)q->n_col; /* both bounded by slm2_config_check: cannot overflow */
    p->n_elem += n;
    p->flat_elems += slm2_align_up(n, 64);
}

slm2_status slm2_params_list(struct slm2_params *p, const struct slm2_config *c, struct slm2_err *err)
{
    memset(p, 0, sizeof *p);
    p->v = calloc((size_t)SLM2_N_PARAM_KIND * (size_t)(c->n_layer + 1), sizeof *p->v);
    if (!p->v) return slm2_fail(err, SLM2_ENOMEM, "no memory for the parameter list");
    append(p, c, SLM2_P_EMBED, -1);
    for (int k = 0; k < SLM2_N_PARAM_KIND; k++) {
        bool in_layer = k >= SLM2_P_NORM1_W && k <= SLM2_P_DOWN_W && exists(shape[k].when, c);
        p->slot[k] = in_layer ? p->n_per_layer++ : -1;
    }
    for (int l = 0; l < c->n_layer; l++)
        for (int k = SLM2_P_NORM1_W; k <= SLM2_P_DOWN_W; k++) append(p, c, (enum slm2_param_kind)k, l);
    for (int k = SLM2_P_NORM_W; k <= SLM2_P_HEAD; k++) append(p, c, (enum slm2_param_kind)k, -1);
    return SLM2_OK;
}

void slm2_params_list_free(struct slm2_params *p)
{
    free(p->v);
    memset(p, 0, sizeof *p);
}

struct slm2_param *slm2_params_get(const struct slm2_params *p, enum slm2_param_kind kind, int layer)
{
    if (kind == SLM2_P_EMBED) return &p->v[0];
    if (kind >= SLM2_P_NORM_W) return &p->v[p->n - (SLM2_N_PARAM_KIND - (int)kind)];
    return p->slot[kind] < 0 ? NULL : &p->v[1 + layer * p->n_per_layer + p->slot[kind]];
}

/* Shape of one Hugging Face tensor of the parameter: a matrix, or a vector of n_col. */
static int hf_shape(const struct slm2_param *p, int64_t dim[2])
{
    dim[0] = p->is_matrix ? p->n_row : p->n_col;
    dim[1] = p->n_col;
    return p->is_matrix ? 2 : 1;
}

slm2_status slm2_params_hf_views(const struct slm2_params *p, int from, const float *flat, struct slm2_tensor **out, int *n, struct slm2_err *err)
{
    int count = 0, i = 0;
    slm2_status st = SLM2_OK;
    for (int k = 0; k < p->n; k++) count += slm2_param_hf_parts(&p->v[k]);
    struct slm2_tensor *v = calloc((size_t)count, sizeof *v);
    if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d tensor names", count);
    for (int k = 0; k < p->n && st == SLM2_OK; k++) {
        const struct slm2_param *q = &p->v[k];
        int parts = slm2_param_hf_parts(q);
        for (int part = 0; part < parts && st == SLM2_OK; part++, i++) {
            char name[128];
            int64_t dim[2];
            int n_dim = hf_shape(q, dim);
            size_t skip = (size_t)part * (size_t)q->n_col;
            enum slm2_dtype t = SLM2_F32;
            const void *data;
            if (flat) data = flat + q->at + skip;
            else if (from == 1) data = q->master + skip;
            else if (from == 2) data = q->grad + skip;
            else t = q->w.dtype, data = (const uint8_t *)q->w.data + slm2_dtype_bytes(t, skip);
            slm2_param_hf_name(q, part, name);
            st = slm2_tensor_init(&v[i], NULL, t, n_dim, dim, data, err);
            if (st == SLM2_OK && !(v[i].name = strdup(name))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for tensor names");
        }
    }
    if (st != SLM2_OK) {
        slm2_hf_views_free(v, count);
        return st;
    }
    *out = v;
    *n = count;
    return SLM2_OK;
}

void slm2_hf_views_free(struct slm2_tensor *v, int n)
{
    for (int i = 0; v && i < n; i++) free(v[i].name);
    free(v);
}

/* Any float type to fp32, element by element and without need of alignment. */
static slm2_status widen(float *y, const struct slm2_tensor *t, size_t n, const char *what, struct slm2_err *err)
{
    const uint8_t *x = t->data;
    if (t->dtype == SLM2_F32) {
        memcpy(y, x, 4 * n);
        return SLM2_OK;
    }
    if (t->dtype != SLM2_F16 && t->dtype != SLM2_BF16)
        return slm2_fail(err, SLM2_EFORMAT, "%s: %s has type %s, want F32, F16 or BF16", what, t->name, t->type_name);
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, x + 2 * i, 2);
        y[i] = t->dtype == SLM2_F16 ? slm2_f16_to_f32(h) : slm2_bf16_to_f32(h);
    }
    return SLM2_OK;
}

slm2_status slm2_params_part_read(const struct slm2_param *p, const struct slm2_tensor *t, float *to, const char *what, struct slm2_err *err)
{
    int64_t dim[2];
    int n_dim = hf_shape(p, dim);
    char got[96];
    if (t->n_dim != n_dim || t->dim[0] != dim[0] || (n_dim == 2 && t->dim[1] != dim[1])) {
        slm2_tensor_shape(t, got);
        if (n_dim == 2) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has shape %s, the config says [%d, %d]", what, t->name, got, (int)dim[0], (int)dim[1]);
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has shape %s, the config says [%d]", what, t->name, got, (int)dim[0]);
    }
    return to ? widen(to, t, slm2_tensor_n_elems(t), what, err) : SLM2_OK;
}

slm2_status slm2_params_hf_read(const struct slm2_params *p, const struct slm2_tensors *ts, float *flat, const char *what, struct slm2_err *err)
{
    for (int k = 0; k < p->n; k++) {
        const struct slm2_param *q = &p->v[k];
        int parts = slm2_param_hf_parts(q);
        for (int part = 0; part < parts; part++) {
            char name[128];
            const struct slm2_tensor *t;
            slm2_param_hf_name(q, part, name);
            SLM2_TRY(slm2_tensors_get(ts, name, what, &t, err));
            SLM2_TRY(slm2_params_part_read(q, t, flat + q->at + (size_t)part * (size_t)q->n_col, what, err));
            slm2_map_forget(t->data, t->bytes); /* a model may fill the memory that its file would take */
        }
    }
    return SLM2_OK;
}
