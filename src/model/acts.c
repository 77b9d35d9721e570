/* acts.c - lays out the activations of a plan in one arena, in two passes: measure, then hand out. */
#include "model/acts.h"
#include "model/lora.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* In the measuring pass the arena has no base: only sizes add up. */
static void *take(struct slm2_arena *a, size_t bytes)
{
    if (a->base) return slm2_arena_take(a, bytes);
    a->used += slm2_arena_piece(bytes);
    return NULL;
}

static struct slm2_mat mat(struct slm2_arena *a, enum slm2_dtype t, int n_row, int n_col)
{
    return slm2_mat_of(take(a, slm2_dtype_bytes(t, (size_t)n_row * (size_t)n_col)), t, n_row, n_col);
}

static float *floats(struct slm2_arena *a, int n, int per) { return take(a, sizeof(float) * (size_t)n * (size_t)per); }

static void lay_layer(struct slm2_layer_acts *s, struct slm2_arena *a, const struct slm2_config *cfg, enum slm2_dtype t, int T, bool training)
{
    int d = cfg->hidden_size, q_dim = slm2_config_q_dim(cfg), kv_dim = slm2_config_kv_dim(cfg), inter = cfg->intermediate_size;
    s->ln1 = mat(a, t, T, d);
    s->q = mat(a, t, T, q_dim);
    s->k = mat(a, t, T, kv_dim);
    s->v = mat(a, t, T, kv_dim);
    s->q_raw = cfg->qk_norm ? mat(a, t, T, q_dim) : s->q;
    s->k_raw = cfg->qk_norm ? mat(a, t, T, kv_dim) : s->k;
    s->att = mat(a, t, T, q_dim);
    s->mid = mat(a, t, T, d);
    s->ln2 = cfg->parallel_residual ? s->ln1 : mat(a, t, T, d);
    s->gate = mat(a, t, T, inter);
    s->up = mat(a, t, T, inter);
    if (!training) return;
    s->mean1 = floats(a, T, 1);
    s->rstd1 = floats(a, T, 1);
    s->mean2 = floats(a, T, 1);
    s->rstd2 = floats(a, T, 1);
    s->lse = floats(a, T, cfg->n_head);
    if (!cfg->qk_norm) return;
    s->q_mean = floats(a, T, cfg->n_head);
    s->q_rstd = floats(a, T, cfg->n_head);
    s->k_mean = floats(a, T, cfg->n_kv_head);
    s->k_rstd = floats(a, T, cfg->n_kv_head);
}

static void lay(struct slm2_acts *s, const struct slm2_model *m)
{
    const struct slm2_config *cfg = &m->cfg;
    struct slm2_arena *a = &s->mem;
    enum slm2_dtype t = s->dtype;
    int T = s->max_tok, d = cfg->hidden_size, L = cfg->n_layer, q_dim = slm2_config_q_dim(cfg), kv_dim = slm2_config_kv_dim(cfg), inter = cfg->intermediate_size;
    bool training = s->plan != SLM2_INFER;
    for (int l = 0; l <= L; l++) s->x[l] = training || l < 2 ? mat(a, t, T, d) : s->x[l - 2];
    for (int l = 0; l < L; l++)
        if (l == 0 || s->plan == SLM2_KEEP_ALL) lay_layer(&s->layer[l], a, cfg, t, T, training);
        else s->layer[l] = s->layer[0];
    s->h = mat(a, t, T, inter);
    s->tmp = mat(a, t, T, d);
    s->xf = mat(a, t, T, d);
    s->head_x = mat(a, t, s->max_logit_rows, d);
    s->logits = mat(a, SLM2_F32, s->max_logit_rows, cfg->vocab_size);
    s->rows = take(a, sizeof(int32_t) * (size_t)T);
    s->kv_index = take(a, sizeof(int32_t) * (size_t)T);
    s->kv_start = take(a, sizeof(int32_t) * (size_t)T);
    s->head_target = take(a, sizeof(int32_t) * (size_t)s->max_logit_rows);
    s->head_argmax = take(a, sizeof(int32_t) * (size_t)s->max_logit_rows);
    s->head_weight = floats(a, s->max_logit_rows, 1);
    s->head_lp = floats(a, s->max_logit_rows, 1);
    if (m->lora) {
        s->lora_u = mat(a, SLM2_F32, T, m->lora->o.rank);
        s->lora_z = mat(a, SLM2_F32, T, slm2_max_int(slm2_max_int(d, inter), slm2_max_int(q_dim, kv_dim)));
    }
    if (!training) return;
    if (m->lora) s->lora_du = mat(a, SLM2_F32, T, m->lora->o.rank);
    s->mean = floats(a, T, 1);
    s->rstd = floats(a, T, 1);
    s->head_dx = mat(a, t, s->max_logit_rows, d);
    s->dx = mat(a, t, T, d);
    s->dln = mat(a, t, T, d);
    s->datt = mat(a, t, T, q_dim);
    s->dq = mat(a, t, T, q_dim);
    s->dk = mat(a, t, T, kv_dim);
    s->dv = mat(a, t, T, kv_dim);
    s->dgate = mat(a, t, T, inter);
    s->dup = mat(a, t, T, inter);
}

slm2_status slm2_acts_new(struct slm2_acts **out, const struct slm2_model *m, struct slm2_ctx *c, enum slm2_plan plan, enum slm2_dtype dtype, int max_tok, int max_logit_rows, struct slm2_err *err)
{
    const struct slm2_config *cfg = &m->cfg;
    if (max_tok < 1 || max_tok > 1 << 24 || max_logit_rows < 1 || (dtype != SLM2_F32 && dtype != SLM2_BF16))
        return slm2_fail(err, SLM2_EUSAGE, "activations for %d tokens and %d logit rows of type %s: want 1 to %d tokens, F32 or BF16", max_tok, max_logit_rows, slm2_dtype_info[dtype].name, 1 << 24);
    struct slm2_acts *a = calloc(1, sizeof *a);
    slm2_status st = SLM2_ENOMEM;
    if (!a) return slm2_fail(err, st, "no memory for activations");
    *a = (struct slm2_acts){.c = c, .plan = plan, .dtype = dtype, .max_tok = max_tok, .max_logit_rows = slm2_min_int(max_logit_rows, max_tok)};
    a->x = calloc((size_t)cfg->n_layer + 1, sizeof *a->x);
    a->layer = calloc((size_t)cfg->n_layer, sizeof *a->layer);
    if (!a->x || !a->layer) {
        st = slm2_fail(err, SLM2_ENOMEM, "no memory for activations");
        goto done;
    }
    lay(a, m);
    size_t bytes = a->mem.used;
    a->mem.used = 0;
    st = slm2_arena_init(&a->mem, bytes, "activations", err);
    if (st != SLM2_OK) goto done;
    lay(a, m);
    int widest = slm2_max_int(slm2_max_int(cfg->hidden_size, cfg->intermediate_size), slm2_config_q_dim(cfg));
    if (m->lora) widest = slm2_max_int(widest, m->lora->o.rank);
    st = slm2_ctx_reserve(c, slm2_ops_scratch_floats(widest, slm2_max_int(cfg->n_ctx, max_tok), cfg->head_dim), err);
done:
    if (st == SLM2_OK) *out = a;
    else slm2_acts_free(a);
    return st;
}

size_t slm2_acts_bytes(const struct slm2_acts *a) { return a->mem.size; }

void slm2_acts_free(struct slm2_acts *a)
{
    if (!a) return;
    slm2_arena_free(&a->mem);
    free(a->x);
    free(a->layer);
    free(a);
}

void slm2_acts_resize(struct slm2_acts *a, const struct slm2_model *m, int n_tok)
{
    a->n_tok = n_tok;
    for (int l = 0; l <= m->cfg.n_layer; l++) a->x[l].n_row = n_tok;
    for (int l = 0; l < m->cfg.n_layer; l++) {
        struct slm2_layer_acts *s = &a->layer[l];
        struct slm2_mat *v[] = {&s->ln1, &s->q_raw, &s->k_raw, &s->q, &s->k, &s->v, &s->att, &s->mid, &s->ln2, &s->gate, &s->up};
        for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) v[i]->n_row = n_tok;
    }
    struct slm2_mat *v[] = {&a->h, &a->tmp, &a->xf, &a->dx, &a->dln, &a->datt, &a->dq, &a->dk, &a->dv, &a->dgate, &a->dup};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) v[i]->n_row = n_tok;
}

slm2_status slm2_kv_init(struct slm2_kv *kv, const struct slm2_config *cfg, int n_slot, int n_ctx, enum slm2_dtype dtype, struct slm2_err *err)
{
    size_t L = (size_t)cfg->n_layer, kv_dim = (size_t)slm2_config_kv_dim(cfg), rows, elems, bytes;
    memset(kv, 0, sizeof *kv);
    if (!slm2_mul_size((size_t)n_slot, (size_t)n_ctx, &rows) || rows > INT32_MAX || !slm2_mul_size(rows, kv_dim, &elems) || !slm2_mul_size(elems, 2 * L * sizeof(float), &bytes))
        return slm2_fail(err, SLM2_ELIMIT, "a key/value cache of %d sequences of %d tokens is too large", n_slot, n_ctx);
    *kv = (struct slm2_kv){.n_slot = n_slot, .n_ctx = n_ctx};
    kv->k = calloc(2 * L, sizeof *kv->k);
    if (!kv->k) return slm2_fail(err, SLM2_ENOMEM, "no memory for the key/value cache");
    kv->v = kv->k + L;
    size_t piece = slm2_arena_piece(slm2_dtype_bytes(dtype, elems));
    slm2_status st = slm2_arena_init(&kv->mem, 2 * L * piece, "the key/value cache", err);
    if (st != SLM2_OK) {
        slm2_kv_free(kv);
        return st;
    }
    for (size_t i = 0; i < 2 * L; i++) kv->k[i] = slm2_mat_of(slm2_arena_take(&kv->mem, piece), dtype, (int)rows, (int)kv_dim);
    return SLM2_OK;
}

void slm2_kv_move(struct slm2_kv *kv, int to, int from, int n)
{
    size_t bytes = slm2_mat_row_bytes(kv->k);
    for (struct slm2_mat *m = kv->k; m < kv->v + (kv->v - kv->k) && to != from; m++) memmove((uint8_t *)m->data + bytes * (size_t)to, (uint8_t *)m->data + bytes * (size_t)from, bytes * (size_t)n);
}

void slm2_kv_free(struct slm2_kv *kv)
{
    slm2_arena_free(&kv->mem);
    free(kv->k);
    memset(kv, 0, sizeof *kv);
}
