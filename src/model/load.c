/* load.c - models from files and back: mapped for inference, in memory for training, random, saved in Hugging Face form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/num.h"
#include "base/rng.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/lora.h"

enum { CONFIG_MAX_BYTES = 1 << 20, FILL_ELEMS = 1 << 18 };
static const size_t shard_max_bytes = (size_t)5 << 30; /* as Hugging Face's tools cut them */

/* config.json in the folder path, or beside the file path. */
static slm2_status read_config(struct slm2_config *cfg, const char *path, struct slm2_err *err)
{
    char dir[4096], file[4096];
    json_t *j = NULL;
    SLM2_TRY(slm2_path_home(dir, sizeof dir, path, err));
    SLM2_TRY(slm2_path_join(file, sizeof file, dir, "config.json", err));
    SLM2_TRY(slm2_json_read(&j, file, CONFIG_MAX_BYTES, err));
    slm2_status st = slm2_config_from_json(cfg, j, file, err);
    json_decref(j);
    return st;
}

static slm2_status model_new(struct slm2_model **out, const char *path, struct slm2_err *err)
{
    struct slm2_model *m = calloc(1, sizeof *m);
    if (m && path && !(m->path = strdup(path))) {
        free(m);
        m = NULL;
    }
    if (!m) return slm2_fail(err, SLM2_ENOMEM, "no memory for a model");
    *out = m;
    return SLM2_OK;
}

void slm2_model_free(struct slm2_model *m)
{
    if (!m) return;
    slm2_lora_free(m->lora);
    slm2_params_list_free(&m->params);
    slm2_arena_free(&m->vectors);
    slm2_arena_free(&m->weights);
    free(m->held);
    slm2_tensors_free(m->files);
    free(m->files);
    if (m->gguf) slm2_gguf_free(m->gguf);
    free(m->gguf);
    free(m->path);
    free(m);
}

/* The one tensor of a parameter (for Hugging Face: of its part). */
static slm2_status find(const struct slm2_model *m, const struct slm2_param *p, int part, const struct slm2_tensor **t, struct slm2_err *err)
{
    char name[128];
    if (m->gguf) slm2_param_gguf_name(p, name);
    else slm2_param_hf_name(p, part, name);
    return slm2_tensors_get(m->gguf ? &m->gguf->tensors : m->files, name, m->path, t, err);
}

static slm2_status shape_error(const struct slm2_model *m, const struct slm2_tensor *t, const struct slm2_param *p, struct slm2_err *err)
{
    char got[96];
    slm2_tensor_shape(t, got);
    return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has shape %s, the config says [%d, %d]", m->path, t->name, got, p->n_row, p->n_col);
}

static slm2_status bind_matrix(struct slm2_model *m, struct slm2_param *p, struct slm2_err *err)
{
    const struct slm2_tensor *t;
    SLM2_TRY(find(m, p, 0, &t, err));
    if (t->n_dim != 2 || t->dim[0] != p->n_row || t->dim[1] != p->n_col) return shape_error(m, t, p, err);
    bool usable = t->dtype != SLM2_I32 && t->dtype != SLM2_I64 && t->dtype != SLM2_U8;
    if (!usable) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has type %s, want F32, F16, BF16 or blocks (Q8_0, Q4_K, ...)", m->path, t->name, t->type_name);
    if ((size_t)p->n_col % slm2_dtype_info[t->dtype].block_elems)
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": rows of %d are not whole blocks of %s", m->path, t->name, p->n_col, t->type_name);
    union { const void *in; void *out; } u = {.in = t->data}; /* weights of a mapped model are never written */
    p->w = slm2_mat_of(u.out, t->dtype, p->n_row, p->n_col);
    return SLM2_OK;
}

/* A legal safetensors file may put a tensor at any byte; such a one is copied so that kernels read aligned elements. */
static slm2_status align_matrices(struct slm2_model *m, struct slm2_err *err)
{
    size_t bytes = 0;
    const struct slm2_tensor *t;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < m->params.n; i++) {
            struct slm2_param *p = &m->params.v[i];
            if (!p->is_matrix) continue;
            SLM2_TRY(find(m, p, 0, &t, err));
            if (slm2_tensor_aligned(t)) continue;
            if (pass == 0) bytes += slm2_arena_piece(t->bytes);
            else {
                p->w.data = slm2_arena_take(&m->weights, t->bytes);
                memcpy(p->w.data, t->data, t->bytes);
            }
        }
        if (bytes == 0) return SLM2_OK;
        if (pass == 0) SLM2_TRY(slm2_arena_init(&m->weights, bytes, "unaligned weights", err));
    }
    return SLM2_OK;
}

static slm2_status bind_vector(struct slm2_model *m, struct slm2_param *p, struct slm2_err *err)
{
    const struct slm2_tensor *t;
    float *to = slm2_arena_take(&m->vectors, sizeof(float) * (size_t)p->n_row * (size_t)p->n_col);
    int parts = m->gguf ? 1 : slm2_param_hf_parts(p);
    p->w = slm2_mat_of(to, SLM2_F32, p->n_row, p->n_col);
    for (int part = 0; part < parts; part++) {
        SLM2_TRY(find(m, p, part, &t, err));
        if (m->gguf && p->n_row > 1) { /* GGUF keeps the q/k norms of all heads as one matrix */
            if (t->n_dim != 2 || t->dim[0] != p->n_row || t->dim[1] != p->n_col) return shape_error(m, t, p, err);
            struct slm2_param whole = *p;
            whole.is_matrix = true;
            SLM2_TRY(slm2_params_part_read(&whole, t, to, m->path, err));
        } else SLM2_TRY(slm2_params_part_read(p, t, to + (size_t)part * (size_t)p->n_col, m->path, err));
    }
    return SLM2_OK;
}

/* What is easily taken for a model: the folder of a run, and the LoRA folder that came out of one. */
static slm2_status refuse_lookalike(const char *path, struct slm2_err *err)
{
    char config[4096], adapter[4096], final[4096];
    json_t *j = NULL;
    if (!slm2_path_is_dir(path) || slm2_path_join(config, sizeof config, path, "config.json", NULL) || slm2_path_join(adapter, sizeof adapter, path, SLM2_LORA_CONFIG, NULL)) return SLM2_OK;
    if (slm2_path_exists(config)) return SLM2_OK;
    if (slm2_path_join(final, sizeof final, path, "final", NULL) == SLM2_OK && slm2_path_is_dir(final))
        return slm2_fail(err, SLM2_EUSAGE, "%s: is the folder of a run, not a model; what came out of it is %s", path, final);
    if (!slm2_path_exists(adapter)) return SLM2_OK;
    const char *base = slm2_json_read(&j, adapter, 1 << 20, NULL) == SLM2_OK ? json_string_value(json_object_get(j, "base_model_name_or_path")) : NULL;
    slm2_status st = slm2_fail(err, SLM2_EUSAGE, "%s: is a LoRA adapter, not a model; name its base%s%s as the model and this folder with --adapter (a training stage: lora.adapter), or make one of both with `slm2 merge`",
                               path, base && *base ? ", " : "", base && *base ? base : "");
    json_decref(j);
    return st;
}

slm2_status slm2_model_may_train(const struct slm2_model *m, struct slm2_err *err)
{
    return m->gguf ? slm2_fail(err, SLM2_EUSAGE, "%s: training starts from a Hugging Face folder; make one with `slm2 convert`", m->path) : SLM2_OK;
}

static slm2_status open_files(struct slm2_model *m, struct slm2_err *err)
{
    if (slm2_path_ends(m->path, ".gguf")) {
        if (!(m->gguf = calloc(1, sizeof *m->gguf))) return slm2_fail(err, SLM2_ENOMEM, "no memory for a GGUF file");
        SLM2_TRY(slm2_gguf_open(m->gguf, m->path, err));
        SLM2_TRY(slm2_config_from_gguf(&m->cfg, m->gguf, m->path, err));
    } else {
        if (!slm2_path_exists(m->path)) return slm2_fail(err, SLM2_EIO, "%s: no such file or folder; want a Hugging Face folder, a .safetensors or a .gguf file", m->path);
        SLM2_TRY(refuse_lookalike(m->path, err));
        SLM2_TRY(read_config(&m->cfg, m->path, err));
        if (!(m->files = calloc(1, sizeof *m->files))) return slm2_fail(err, SLM2_ENOMEM, "no memory for a tensor directory");
        SLM2_TRY(slm2_safetensors_open(m->files, m->path, err));
    }
    return slm2_params_list(&m->params, &m->cfg, err);
}

static slm2_status bind_all(struct slm2_model *m, struct slm2_err *err)
{
    size_t vector_bytes = 0;
    for (int i = 0; i < m->params.n; i++)
        if (!m->params.v[i].is_matrix) vector_bytes += slm2_arena_piece(sizeof(float) * (size_t)m->params.v[i].n_row * (size_t)m->params.v[i].n_col);
    SLM2_TRY(slm2_arena_init(&m->vectors, vector_bytes, "norms and biases", err));
    for (int i = 0; i < m->params.n; i++) {
        struct slm2_param *p = &m->params.v[i];
        SLM2_TRY(p->is_matrix ? bind_matrix(m, p, err) : bind_vector(m, p, err));
    }
    return align_matrices(m, err);
}

slm2_status slm2_model_open(struct slm2_model **out, const char *path, struct slm2_err *err)
{
    struct slm2_model *m;
    SLM2_TRY(model_new(&m, path, err));
    slm2_status st = open_files(m, err);
    if (st == SLM2_OK) st = bind_all(m, err);
    if (st != SLM2_OK) {
        slm2_model_free(m);
        return st;
    }
    *out = m;
    return SLM2_OK;
}

int slm2_model_vocab_size(const struct slm2_model *m) { return m->cfg.vocab_size; }
int slm2_model_n_ctx(const struct slm2_model *m) { return m->cfg.n_ctx; }

/* ---- random weights ---------------------------------------------------------------------------------------------------- */

/* Elements [from, from + n) of parameter number index: each a function of (seed, index, element). */
static void random_fill(float *to, const struct slm2_config *cfg, const struct slm2_param *p, int index, uint64_t seed, size_t from, size_t n)
{
    bool norm_weight = p->kind == SLM2_P_NORM1_W || p->kind == SLM2_P_NORM2_W || p->kind == SLM2_P_NORM_W || p->kind == SLM2_P_Q_NORM || p->kind == SLM2_P_K_NORM;
    if (!p->is_matrix) {
        for (size_t i = 0; i < n; i++) to[i] = norm_weight ? 1.0f : 0.0f;
        return;
    }
    float std = cfg->init_std;
    if (p->kind == SLM2_P_O_W || p->kind == SLM2_P_DOWN_W) std = (float)((double)std / __builtin_sqrt(2.0 * cfg->n_layer));
    /* the one parallel region outside ops: 1.6e9 normal numbers, each independent of the others */
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) to[i] = std * slm2_rng_normal(seed, SLM2_RNG_INIT, (uint64_t)index, from + i);
}

/* the first parameter starts at 0 of the flat buffers */
const struct slm2_params *slm2_model_trained(const struct slm2_model *m) { return m->lora ? &m->lora->params : &m->params; }
float *slm2_model_master(const struct slm2_model *m) { return m->own ? m->shard : slm2_model_trained(m)->v[0].master; }
float *slm2_model_grad(const struct slm2_model *m) { return slm2_model_trained(m)->v[0].grad; }

/* One parameter of a model with a shard, from fp32 values: as computed with, and what the shard has of it. */
static void set_param(struct slm2_model *m, struct slm2_param *p, const float *x)
{
    size_t n = (size_t)p->n_row * (size_t)p->n_col, held = 0;
    if (p->w.dtype == SLM2_F32) memcpy(p->w.data, x, 4 * n);
    else
        for (size_t i = 0; i < n; i++) ((uint16_t *)p->w.data)[i] = slm2_f32_to_bf16(x[i]);
    for (int i = 0; i < m->n_own; i++) {
        size_t from = m->own[i].from > p->at ? m->own[i].from : p->at, to = slm2_min_size(m->own[i].to, p->at + n);
        if (from < to) memcpy(m->shard + held + (from - m->own[i].from), x + (from - p->at), 4 * (to - from));
        held += m->own[i].to - m->own[i].from;
    }
}

void slm2_model_set(struct slm2_model *m, const float *flat)
{
    for (int i = 0; i < m->params.n; i++) {
        struct slm2_param *p = &m->params.v[i];
        if (m->own) set_param(m, p, flat + p->at);
        else memcpy(p->master, flat + p->at, 4 * (size_t)p->n_row * (size_t)p->n_col);
    }
    if (!m->own) slm2_model_refresh(m, NULL);
}

/* bf16 weights have their places of the flat buffers; by layer, the layers share one place behind the embedding, and the head stands behind that. */
static size_t bf16_elems(const struct slm2_model *m)
{
    const struct slm2_params *ps = &m->params;
    return m->held ? ps->v[1 + ps->n_per_layer].at + ps->flat_elems - slm2_params_get(ps, SLM2_P_NORM_W, -1)->at : ps->flat_elems;
}

static size_t bf16_at(const struct slm2_model *m, const struct slm2_param *p)
{
    const struct slm2_params *ps = &m->params;
    if (!m->held || p->kind == SLM2_P_EMBED) return p->at;
    int first_layer = p->layer < 0 ? m->cfg.n_layer - 1 : p->layer; /* what stands behind the layers moves as the last of them */
    return p->at - ps->v[1 + first_layer * ps->n_per_layer].at + ps->v[1].at;
}

/* w, master or shard, gradients in one arena; a shard leaves norms and biases without a master, so they get m->vectors. */
static slm2_status lay_weights(struct slm2_model *m, enum slm2_precision precision, struct slm2_err *err)
{
    size_t n = m->params.flat_elems, n_master = n, n_vector = 0, half = precision == SLM2_BF16_MIXED ? slm2_arena_piece(2 * bf16_elems(m)) : 0;
    if (m->own) {
        n_master = 0;
        for (int i = 0; i < m->n_own; i++) n_master += m->own[i].to - m->own[i].from;
        for (int i = 0; i < m->params.n; i++)
            if (!m->params.v[i].is_matrix) n_vector += slm2_arena_piece(4 * (size_t)m->params.v[i].n_row * (size_t)m->params.v[i].n_col);
        SLM2_TRY(slm2_arena_init(&m->vectors, n_vector, "norms and biases", err));
    }
    SLM2_TRY(slm2_arena_init(&m->weights, slm2_arena_piece(4 * n_master) + slm2_arena_piece(4 * n) + half, "weights and gradients", err));
    float *master = slm2_arena_take(&m->weights, 4 * n_master), *grad = slm2_arena_take(&m->weights, 4 * n);
    uint16_t *bf16 = half ? slm2_arena_take(&m->weights, half) : NULL;
    m->shard = m->own ? master : NULL;
    for (int i = 0; i < m->params.n; i++) {
        struct slm2_param *p = &m->params.v[i];
        size_t elems = (size_t)p->n_row * (size_t)p->n_col;
        p->master = m->own ? NULL : master + p->at;
        p->grad = grad + p->at;
        if (bf16 && p->is_matrix) p->w = slm2_mat_of(bf16 + bf16_at(m, p), SLM2_BF16, p->n_row, p->n_col);
        else p->w = slm2_mat_of(m->own ? slm2_arena_take(&m->vectors, 4 * elems) : p->master, SLM2_F32, p->n_row, p->n_col);
    }
    return SLM2_OK;
}

slm2_status slm2_model_trainable(struct slm2_model **out, const char *path, const struct slm2_config *cfg, uint64_t seed, enum slm2_precision precision, struct slm2_err *err)
{
    return slm2_model_trainable_shard(out, path, cfg, seed, precision, NULL, 0, err);
}

static slm2_status trainable(struct slm2_model **out, const char *path, const struct slm2_config *cfg, uint64_t seed, enum slm2_precision precision,
                             const struct slm2_span *own, int n_own, bool by_layer, struct slm2_err *err)
{
    struct slm2_model *m;
    slm2_status st;
    SLM2_TRY(model_new(&m, path ? path : "random", err));
    if (path) {
        st = open_files(m, err);
        if (st == SLM2_OK) st = slm2_model_may_train(m, err);
    } else {
        m->cfg = *cfg;
        st = slm2_config_check(cfg, "model", err);
        if (st == SLM2_OK) st = slm2_params_list(&m->params, &m->cfg, err);
    }
    if (st != SLM2_OK) goto done;

    if (precision == SLM2_BF16_MIXED) {
        m->own = own;
        m->n_own = n_own;
    }
    if (by_layer && !(m->held = malloc(sizeof *m->held))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for a model");
    if (st == SLM2_OK) st = lay_weights(m, precision, err);
    if (st != SLM2_OK) goto done;
    /* gradients mean nothing yet: what is not held whole is made there first */
    float *whole = m->own ? slm2_model_grad(m) : slm2_model_master(m);
    for (int i = 0; !path && i < m->params.n; i++) {
        const struct slm2_param *p = &m->params.v[i];
        random_fill(whole + p->at, &m->cfg, p, i, seed, 0, (size_t)p->n_row * (size_t)p->n_col);
    }
    if (path) {
        st = slm2_params_hf_read(&m->params, m->files, whole, path, err);
        slm2_tensors_free(m->files);
        free(m->files);
        m->files = NULL;
    }
    if (st == SLM2_OK && m->own) slm2_model_set(m, whole);
    else if (st == SLM2_OK) slm2_model_refresh(m, NULL);
done:
    if (st != SLM2_OK) slm2_model_free(m);
    else *out = m;
    return st;
}

slm2_status slm2_model_trainable_shard(struct slm2_model **m, const char *path, const struct slm2_config *cfg, uint64_t seed, enum slm2_precision precision,
                                       const struct slm2_span *own, int n_own, struct slm2_err *err)
{
    return trainable(m, path, cfg, seed, precision, own, n_own, false, err);
}

slm2_status slm2_model_by_layer(struct slm2_model **m, const char *path, const struct slm2_config *cfg, uint64_t seed, struct slm2_err *err)
{
    return trainable(m, path, cfg, seed, SLM2_BF16_MIXED, NULL, 0, true, err);
}

bool slm2_model_is_by_layer(const struct slm2_model *m, const struct slm2_param *p) { return m->held && p->layer >= 0 && p->is_matrix; }

void slm2_model_forget_layer(const struct slm2_model *m)
{
    if (m->held) *m->held = -1;
}

void slm2_model_layer_weights(const struct slm2_model *m, struct slm2_ctx *c, int layer)
{
    if (!m->held || *m->held == layer) return;
    for (int i = 0; i < m->params.n_per_layer; i++) {
        struct slm2_param *p = &m->params.v[1 + layer * m->params.n_per_layer + i];
        struct slm2_mat master = slm2_mat_of(p->master, SLM2_F32, p->n_row, p->n_col);
        if (p->is_matrix) c->ops->copy(c, &p->w, &master);
    }
    *m->held = layer;
}

void slm2_model_refresh(struct slm2_model *m, struct slm2_ctx *c)
{
    const struct slm2_params *ps = slm2_model_trained(m);
    slm2_model_forget_layer(m);
    for (int i = 0; i < ps->n; i++) {
        struct slm2_param *p = &ps->v[i];
        if (p->w.dtype != SLM2_BF16 || slm2_model_is_by_layer(m, p)) continue;
        struct slm2_mat master = slm2_mat_of(p->master, SLM2_F32, p->n_row, p->n_col);
        if (c) c->ops->copy(c, &p->w, &master);
        else
            for (size_t k = 0; k < (size_t)p->n_row * (size_t)p->n_col; k++) ((uint16_t *)p->w.data)[k] = slm2_f32_to_bf16(p->master[k]);
    }
}

/* ---- saving ------------------------------------------------------------------------------------------------------------ */

struct fill { /* where the bytes of a tensor come from: memory, or the random numbers of a parameter */
    const float *from;
    const struct slm2_config *cfg;
    const struct slm2_param *p;
    int index;
    uint64_t seed;
};

static void narrow(void *to, const float *x, size_t n, enum slm2_dtype t)
{
    if (t == SLM2_F32) memcpy(to, x, 4 * n);
    else
        for (size_t i = 0; i < n; i++) ((uint16_t *)to)[i] = t == SLM2_F16 ? slm2_f32_to_f16(x[i]) : slm2_f32_to_bf16(x[i]);
}

static slm2_status fill_tensor(void *user, const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *err)
{
    const struct fill *f = user;
    size_t n = slm2_tensor_n_elems(t);
    float *x = malloc(sizeof(float) * FILL_ELEMS);
    void *y = malloc(sizeof(float) * FILL_ELEMS);
    slm2_status st = x && y ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory to write %s", t->name);
    for (size_t at = 0; at < n && st == SLM2_OK; at += FILL_ELEMS) {
        size_t k = slm2_min_size(n - at, FILL_ELEMS);
        if (f->from) narrow(y, f->from + at, k, t->dtype);
        else {
            random_fill(x, f->cfg, f->p, f->index, f->seed, at, k);
            narrow(y, x, k, t->dtype);
        }
        slm2_out_write(o, y, slm2_dtype_bytes(t->dtype, k));
    }
    free(x);
    free(y);
    return st;
}

static slm2_status write_configs(const struct slm2_config *cfg, const char *dir, enum slm2_dtype dtype, struct slm2_err *err)
{
    char path[4096];
    struct slm2_config c = *cfg;
    c.torch_dtype = dtype == SLM2_F16 ? SLM2_CFG_F16 : dtype == SLM2_BF16 ? SLM2_CFG_BF16 : SLM2_CFG_F32;
    json_t *j = slm2_config_to_json(&c), *g = json_pack("{s:b, s:i, s:i}", "_from_model_config", 1, "bos_token_id", cfg->bos_id, "eos_token_id", cfg->eos_id);
    slm2_status st = j && g ? slm2_path_join(path, sizeof path, dir, "config.json", err) : slm2_fail(err, SLM2_ENOMEM, "no memory for config.json");
    if (st == SLM2_OK) st = slm2_json_write(j, path, err);
    if (st == SLM2_OK) st = slm2_path_join(path, sizeof path, dir, "generation_config.json", err);
    if (st == SLM2_OK) st = slm2_json_write(g, path, err);
    json_decref(j);
    json_decref(g);
    return st;
}

/* Writes the model of cfg: values from the flat buffer, or random ones when it is NULL. */
static slm2_status save(const struct slm2_config *cfg, const struct slm2_params *params, const float *flat, uint64_t seed, const char *dir, enum slm2_dtype dtype, struct slm2_err *err)
{
    int count = 0, i = 0;
    slm2_status st = SLM2_OK;
    if (dtype != SLM2_F32 && dtype != SLM2_F16 && dtype != SLM2_BF16) return slm2_fail(err, SLM2_EUSAGE, "%s: a Hugging Face folder holds F32, F16 or BF16, not %s", dir, slm2_dtype_info[dtype].name);
    for (int k = 0; k < params->n; k++) count += slm2_param_hf_parts(&params->v[k]);
    struct slm2_tensor *v = calloc((size_t)count, sizeof *v);
    struct fill *fills = calloc((size_t)count, sizeof *fills);
    char(*names)[128] = calloc((size_t)count, sizeof *names);
    if (!v || !fills || !names) st = slm2_fail(err, SLM2_ENOMEM, "no memory to save a model");
    for (int k = 0; st == SLM2_OK && k < params->n; k++) {
        const struct slm2_param *p = &params->v[k];
        int parts = slm2_param_hf_parts(p);
        for (int part = 0; part < parts && st == SLM2_OK; part++, i++) {
            int64_t dim[2] = {p->is_matrix ? p->n_row : p->n_col, p->n_col};
            slm2_param_hf_name(p, part, names[i]);
            st = slm2_tensor_init(&v[i], names[i], dtype, p->is_matrix ? 2 : 1, dim, NULL, err);
            fills[i] = (struct fill){flat ? flat + p->at + (size_t)part * (size_t)p->n_col : NULL, cfg, p, k, seed};
            v[i].fill = fill_tensor;
            v[i].user = &fills[i];
        }
    }
    if (st == SLM2_OK) st = slm2_dir_make(dir, err);
    if (st == SLM2_OK) st = write_configs(cfg, dir, dtype, err);
    if (st == SLM2_OK) st = slm2_safetensors_write_sharded(dir, v, count, shard_max_bytes, err);
    free(v);
    free(fills);
    free(names);
    return st;
}

slm2_status slm2_model_save_hf(const struct slm2_model *m, const float *flat, const char *dir, enum slm2_dtype dtype, struct slm2_err *err)
{
    if (!flat) flat = slm2_model_master(m);
    if (!m->params.v[0].grad) return slm2_fail(err, SLM2_EUSAGE, "%s: only a trainable model is saved; use `slm2 convert` for files", dir);
    return save(&m->cfg, &m->params, flat, 0, dir, dtype, err);
}

slm2_status slm2_model_init_to_disk(const struct slm2_config *cfg, const char *dir, enum slm2_dtype dtype, uint64_t seed, struct slm2_err *err)
{
    struct slm2_params params;
    SLM2_TRY(slm2_config_check(cfg, "model", err));
    SLM2_TRY(slm2_params_list(&params, cfg, err));
    slm2_status st = save(cfg, &params, NULL, seed, dir, dtype, err);
    slm2_params_list_free(&params);
    return st;
}
