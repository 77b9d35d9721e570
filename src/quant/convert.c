/* convert.c - moves the parameters of a model between forms, tensor by tensor and a few rows at a time: memory stays small
 * whatever the model's size.  Everything is checked before the first byte is written. */
#include "quant/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "quant/convert_impl.h"

#define CHUNK_ELEMS ((size_t)1 << 18) /* converted at once, at least one row */

struct slm2_convert_opts slm2_convert_opts_default(void)
{
    return (struct slm2_convert_opts){.dtype = SLM2_KEEP, .embed_dtype = SLM2_KEEP, .head_dtype = SLM2_KEEP};
}

void slm2_convert_report_free(struct slm2_convert_report *r)
{
    for (int i = 0; i < r->n; i++) free(r->v[i].name);
    free(r->v);
    *r = (struct slm2_convert_report){0};
}

/* ---- the source --------------------------------------------------------------------------------------------------------- */
static void source_close(struct convert_source *s)
{
    slm2_params_list_free(&s->params);
    slm2_tensors_free(&s->hf);
    slm2_gguf_free(&s->gguf);
}

static slm2_status source_open(struct convert_source *s, const char *path, struct slm2_err *err)
{
    char file[4096];
    json_t *j = NULL;
    slm2_status st;
    *s = (struct convert_source){.path = path, .is_gguf = !slm2_path_is_dir(path)};
    if (s->is_gguf) {
        if ((st = slm2_gguf_open(&s->gguf, path, err)) != SLM2_OK || (st = slm2_config_from_gguf(&s->cfg, &s->gguf, path, err)) != SLM2_OK) goto done;
        if ((st = slm2_gguf_get_f32_or(&s->gguf, "slm2.initializer_range", s->cfg.init_std, &s->cfg.init_std, err)) != SLM2_OK) goto done;
        s->ts = &s->gguf.tensors;
    } else {
        if ((st = slm2_path_join(file, sizeof file, path, "config.json", err)) != SLM2_OK || (st = slm2_json_read(&j, file, 1 << 20, err)) != SLM2_OK) goto done;
        if ((st = slm2_config_from_json(&s->cfg, j, file, err)) != SLM2_OK || (st = slm2_safetensors_open(&s->hf, path, err)) != SLM2_OK) goto done;
        s->ts = &s->hf;
    }
    st = slm2_params_list(&s->params, &s->cfg, err);
done:
    json_decref(j);
    if (st != SLM2_OK) source_close(s);
    return st;
}

static int n_parts(const struct convert_source *s, const struct slm2_param *p) { return s->is_gguf ? 1 : slm2_param_hf_parts(p); }

/* Checks that t has the rows and columns that the config asks of p (or of a part of it). */
static slm2_status check_shape(const struct convert_source *s, const struct slm2_param *p, const struct slm2_tensor *t, int n_row, struct slm2_err *err)
{
    bool two = p->is_matrix || n_row > 1 || (s->is_gguf && slm2_param_hf_parts(p) > 1);
    int64_t rows = two ? t->dim[0] : 1, cols = two ? t->dim[1] : t->dim[0];
    char shape[96];
    slm2_tensor_shape(t, shape);
    if (!slm2_quant_readable(t->dtype)) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has type %s, want floats", s->path, t->name, t->type_name);
    if (!p->is_matrix && slm2_dtype_info[t->dtype].block_elems > 1)
        return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has type %s, want F32, F16 or BF16 for a vector", s->path, t->name, t->type_name);
    if (t->n_dim == (two ? 2 : 1) && rows == n_row && cols == p->n_col) return SLM2_OK;
    if (two) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has shape %s, the config says [%d, %d]", s->path, t->name, shape, n_row, p->n_col);
    return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\" has shape %s, the config says [%d]", s->path, t->name, shape, p->n_col);
}

/* The source tensor of a part of p. */
static slm2_status source_part(const struct convert_source *s, const struct slm2_param *p, int part, const struct slm2_tensor **t, struct slm2_err *err)
{
    char name[128];
    if (s->is_gguf) slm2_param_gguf_name(p, name);
    else slm2_param_hf_name(p, part, name);
    SLM2_TRY(slm2_tensors_get(s->ts, name, s->path, t, err));
    return check_shape(s, p, *t, n_parts(s, p) > 1 ? 1 : p->n_row, err);
}

/* ---- one tensor to write -------------------------------------------------------------------------------------------------- */
struct piece { const uint8_t *data; size_t n; }; /* n elements of the source, in order */
struct job {
    enum slm2_dtype from, to;
    size_t row; /* elements of a row: the unit of conversion */
    struct piece *pieces;
    int n_pieces;
    struct slm2_quant_error error;
    struct conversion *all;
};
struct conversion {
    const struct convert_source *s;
    const struct slm2_convert_opts *o;
    bool to_gguf;
    struct job *jobs;
    struct slm2_tensor *out;
    int n, cap;
    size_t bytes_in, bytes_out, bytes_done;
};

/* Converts rows [0, n_rows) at in to out; err[r] receives the loss of row r. */
static void convert_rows(const struct job *j, const uint8_t *in, uint8_t *out, size_t n_rows, float *scratch, struct slm2_quant_error *row_error)
{
    size_t in_bytes = slm2_dtype_bytes(j->from, j->row), out_bytes = slm2_dtype_bytes(j->to, j->row);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < n_rows; r++) {
        float *x = scratch + 2 * r * j->row, *y = x + j->row;
        slm2_dequant_row(j->from, in + r * in_bytes, x, j->row);
        slm2_quant_row(j->to, x, out + r * out_bytes, j->row);
        slm2_dequant_row(j->to, out + r * out_bytes, y, j->row);
        row_error[r] = (struct slm2_quant_error){0};
        slm2_quant_error_add(&row_error[r], x, y, j->row);
    }
}

static slm2_status fill(void *user, const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *err)
{
    struct job *j = user;
    size_t rows_at_once = CHUNK_ELEMS / j->row + 1, in_bytes = slm2_dtype_bytes(j->from, j->row), out_bytes = slm2_dtype_bytes(j->to, j->row);
    struct conversion *c = j->all;
    slm2_status st = SLM2_OK;
    if (c->o->progress) c->o->progress((double)c->bytes_done / (double)c->bytes_out, t->name, c->o->user);
    c->bytes_done += t->bytes;
    if (j->from == j->to) {
        for (int i = 0; i < j->n_pieces; i++) slm2_out_write(o, j->pieces[i].data, slm2_dtype_bytes(j->from, j->pieces[i].n));
        return SLM2_OK;
    }
    uint8_t *out = malloc(rows_at_once * out_bytes);
    float *scratch = malloc(rows_at_once * 2 * j->row * sizeof *scratch);
    struct slm2_quant_error *row_error = malloc(rows_at_once * sizeof *row_error);
    if (!out || !scratch || !row_error) st = slm2_fail(err, SLM2_ENOMEM, "no memory to convert tensor \"%s\"", t->name);
    for (int i = 0; i < j->n_pieces && st == SLM2_OK; i++) {
        size_t n_rows = j->pieces[i].n / j->row;
        for (size_t r = 0; r < n_rows; r += rows_at_once) {
            size_t m = slm2_min_size(rows_at_once, n_rows - r);
            convert_rows(j, j->pieces[i].data + r * in_bytes, out, m, scratch, row_error);
            for (size_t k = 0; k < m; k++) slm2_quant_error_merge(&j->error, &row_error[k]);
            slm2_out_write(o, out, m * out_bytes);
        }
    }
    if (st == SLM2_OK && j->error.n_bad) {
        st = slm2_fail(err, SLM2_EFORMAT, "tensor \"%s\": %zu of %zu numbers are not finite, or too large for %s; choose F32 or BF16", t->name, j->error.n_bad,
                       j->error.n, t->type_name);
    }
    free(out);
    free(scratch);
    free(row_error);
    return st;
}

/* True when every number of the piece survives the narrower type. */
static bool narrows(enum slm2_dtype from, enum slm2_dtype to, const struct piece *p)
{
    for (size_t i = 0; i < p->n; i++) {
        float x, y;
        uint8_t narrow[4];
        slm2_dequant_row(from, p->data + slm2_dtype_bytes(from, i), &x, 1);
        slm2_quant_row(to, &x, narrow, 1);
        slm2_dequant_row(to, narrow, &y, 1);
        if (memcmp(&x, &y, sizeof x)) return false;
    }
    return true;
}

/* The type that the matrices of the result have when none is asked for. */
static enum slm2_dtype plain_type(enum slm2_dtype t) { return slm2_dtype_info[t].block_elems == 1 ? t : SLM2_F16; }

static enum slm2_dtype matrix_type(const struct conversion *c, const struct slm2_param *p, enum slm2_dtype from)
{
    enum slm2_dtype want = c->o->dtype;
    if (p->kind == SLM2_P_EMBED && c->o->embed_dtype != SLM2_KEEP) want = c->o->embed_dtype;
    if (p->kind == SLM2_P_HEAD && c->o->head_dtype != SLM2_KEEP) want = c->o->head_dtype;
    if (want == SLM2_KEEP) want = c->to_gguf ? from : plain_type(from);
    return (size_t)p->n_col % slm2_dtype_info[want].block_elems ? SLM2_F16 : want;
}

static enum slm2_dtype vector_type(const struct conversion *c, const struct job *j, enum slm2_dtype base)
{
    if (c->to_gguf) return SLM2_F32;
    if (c->o->dtype != SLM2_KEEP) return base;
    if (!c->s->is_gguf) return j->from;
    for (int i = 0; i < j->n_pieces; i++) {
        if (!narrows(j->from, base, &j->pieces[i])) return SLM2_F32;
    }
    return base;
}

/* Appends the tensor that holds parts [first, first + n) of p in the result. */
static slm2_status add_job(struct conversion *c, const struct slm2_param *p, int first, int n, enum slm2_dtype base, struct slm2_err *err)
{
    struct job *j = &c->jobs[c->n];
    struct slm2_tensor *out = &c->out[c->n];
    const struct slm2_tensor *t = NULL;
    char name[128], *copy;
    j->all = c;
    j->row = (size_t)p->n_col;
    j->pieces = calloc((size_t)n, sizeof *j->pieces);
    if (!j->pieces) return slm2_fail(err, SLM2_ENOMEM, "no memory for the list of tensors");
    for (int i = 0; i < n; i++) {
        SLM2_TRY(source_part(c->s, p, first + i, &t, err));
        if (i > 0 && t->dtype != j->from) return slm2_fail(err, SLM2_EFORMAT, "%s: tensor \"%s\": its type differs from its neighbours'", c->s->path, t->name);
        j->from = t->dtype;
        bool all = !c->s->is_gguf || c->to_gguf || slm2_param_hf_parts(p) == 1; /* else: one head of a GGUF tensor */
        size_t skip = all ? 0 : slm2_dtype_bytes(t->dtype, (size_t)(first + i) * j->row);
        j->pieces[i] = (struct piece){(const uint8_t *)t->data + skip, all ? slm2_tensor_n_elems(t) : j->row};
        c->bytes_in += slm2_dtype_bytes(t->dtype, j->pieces[i].n);
    }
    j->n_pieces = n;
    j->to = p->is_matrix ? matrix_type(c, p, j->from) : vector_type(c, j, base);
    bool two = p->is_matrix || (c->to_gguf && slm2_param_hf_parts(p) > 1);
    int64_t dim[2] = {two ? p->n_row : p->n_col, p->n_col};
    if (c->to_gguf) slm2_param_gguf_name(p, name);
    else slm2_param_hf_name(p, first, name);
    if (!(copy = strdup(name))) return slm2_fail(err, SLM2_ENOMEM, "no memory for the list of tensors");
    slm2_status st = slm2_tensor_init(out, copy, j->to, two ? 2 : 1, dim, NULL, err);
    out->name = copy;
    out->fill = fill;
    out->user = j;
    c->bytes_out += out->bytes;
    c->n++;
    return st;
}

/* Lists every tensor of the result; checks every tensor of the source. */
static slm2_status plan(struct conversion *c, struct slm2_err *err)
{
    const struct slm2_params *ps = &c->s->params;
    const struct slm2_tensor *q;
    for (int i = 0; i < ps->n; i++) c->cap += slm2_param_hf_parts(&ps->v[i]);
    c->jobs = calloc((size_t)c->cap, sizeof *c->jobs);
    c->out = calloc((size_t)c->cap, sizeof *c->out);
    if (!c->jobs || !c->out) return slm2_fail(err, SLM2_ENOMEM, "no memory for the list of tensors");
    const struct slm2_param *pq = slm2_params_get(ps, SLM2_P_Q_W, 0);
    SLM2_TRY(source_part(c->s, pq, 0, &q, err));
    enum slm2_dtype base = matrix_type(c, pq, q->dtype);
    int used = 0;
    for (int i = 0; i < ps->n; i++) {
        const struct slm2_param *p = &ps->v[i];
        int parts = slm2_param_hf_parts(p);
        used += n_parts(c->s, p);
        if (c->to_gguf) {
            SLM2_TRY(add_job(c, p, 0, n_parts(c->s, p), base, err));
        } else {
            for (int k = 0; k < parts; k++) SLM2_TRY(add_job(c, p, k, 1, base, err));
        }
    }
    if (used < c->s->ts->n) slm2_log(SLM2_WARN, "%s: %d tensors are no part of the model and are left out", c->s->path, c->s->ts->n - used);
    return SLM2_OK;
}

static void conversion_free(struct conversion *c)
{
    for (int i = 0; i < c->cap; i++) {
        if (c->jobs) free(c->jobs[i].pieces);
        if (c->out) free(c->out[i].name);
    }
    free(c->jobs);
    free(c->out);
}

/* ---- results -------------------------------------------------------------------------------------------------------------- */
static const char *last_part(const char *path, char out[256])
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    snprintf(out, 256, "%.*s", (int)slm2_min_size(n - from, 255), path + from);
    size_t len = strlen(out);
    if (len > 5 && !strcmp(out + len - 5, ".gguf")) out[len - 5] = 0;
    return out;
}

static uint32_t file_type(enum slm2_dtype t) /* llama.cpp's numbers of general.file_type; the ones with an M for K types */
{
    static const uint8_t number[SLM2_N_DTYPE] = {[SLM2_F16] = 1,   [SLM2_BF16] = 32, [SLM2_Q8_0] = 7,  [SLM2_Q4_0] = 2,
                                                 [SLM2_Q4_1] = 3, [SLM2_Q4_K] = 15, [SLM2_Q5_K] = 17, [SLM2_Q6_K] = 18};
    return number[t];
}

static slm2_status write_gguf(struct conversion *c, const char *path, char note[96], struct slm2_err *err)
{
    const struct slm2_config *cfg = &c->s->cfg;
    struct slm2_gguf_writer *w;
    char name[256];
    enum slm2_dtype base = SLM2_F32;
    SLM2_TRY(slm2_gguf_writer_new(&w, err));
    for (int i = 0; i < c->n; i++) {
        if (!strcmp(c->out[i].name, "blk.0.attn_q.weight")) base = c->jobs[i].to;
    }
    slm2_gguf_put_str(w, "general.architecture", "stablelm");
    const struct slm2_gguf_kv *old = c->s->is_gguf ? slm2_gguf_find(&c->s->gguf, "general.name") : NULL;
    if (c->o->name) slm2_gguf_put_str(w, "general.name", c->o->name);
    else if (old && old->type == SLM2_GGUF_STR) slm2_gguf_put_kv(w, old);
    else slm2_gguf_put_str(w, "general.name", last_part(c->s->path, name));
    slm2_gguf_put_u32(w, "general.file_type", file_type(base));
    if (slm2_dtype_info[base].block_elems > 1) slm2_gguf_put_u32(w, "general.quantization_version", 2);
    slm2_gguf_put_u32(w, "stablelm.vocab_size", (uint32_t)cfg->vocab_size);
    slm2_gguf_put_u32(w, "stablelm.context_length", (uint32_t)cfg->n_ctx);
    slm2_gguf_put_u32(w, "stablelm.embedding_length", (uint32_t)cfg->hidden_size);
    slm2_gguf_put_u32(w, "stablelm.block_count", (uint32_t)cfg->n_layer);
    slm2_gguf_put_u32(w, "stablelm.feed_forward_length", (uint32_t)cfg->intermediate_size);
    slm2_gguf_put_u32(w, "stablelm.rope.dimension_count", (uint32_t)cfg->n_rot);
    if (cfg->rope_theta < 10000 || cfg->rope_theta > 10000) slm2_gguf_put_f32(w, "stablelm.rope.freq_base", cfg->rope_theta);
    slm2_gguf_put_u32(w, "stablelm.attention.head_count", (uint32_t)cfg->n_head);
    slm2_gguf_put_u32(w, "stablelm.attention.head_count_kv", (uint32_t)cfg->n_kv_head);
    slm2_gguf_put_bool(w, "stablelm.use_parallel_residual", cfg->parallel_residual);
    slm2_gguf_put_f32(w, "stablelm.attention.layer_norm_epsilon", cfg->norm_eps);
    if (cfg->init_std < 0.02f || cfg->init_std > 0.02f) slm2_gguf_put_f32(w, "slm2.initializer_range", cfg->init_std);
    slm2_status st = convert_put_vocab(w, c->s, c->o, note, err);
    for (int i = 0; i < c->n; i++) slm2_gguf_add_tensor(w, &c->out[i]);
    if (st == SLM2_OK) st = slm2_gguf_writer_save(w, path, err);
    slm2_gguf_writer_free(w);
    return st;
}

static slm2_status write_hf(struct conversion *c, const char *dir, char note[96], struct slm2_err *err)
{
    struct slm2_config cfg = c->s->cfg;
    char path[4096];
    slm2_status st;
    enum slm2_dtype base = SLM2_F32;
    for (int i = 0; i < c->n; i++) {
        if (slm2_dtype_info[c->jobs[i].to].block_elems > 1)
            return slm2_fail(err, SLM2_EUSAGE, "%s: a Hugging Face folder holds F32, F16 or BF16; write a .gguf file for %s", dir, c->out[i].type_name);
        if (!strcmp(c->out[i].name, "model.layers.0.self_attn.q_proj.weight")) base = c->jobs[i].to;
    }
    cfg.torch_dtype = base == SLM2_F16 ? SLM2_CFG_F16 : base == SLM2_BF16 ? SLM2_CFG_BF16 : SLM2_CFG_F32;
    SLM2_TRY(slm2_dir_make(dir, err));
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "generation_config.json", err));
    json_t *gen = json_pack("{s:b, s:i, s:i}", "_from_model_config", 1, "bos_token_id", cfg.bos_id, "eos_token_id", cfg.eos_id), *j = slm2_config_to_json(&cfg);
    if (!gen || !j) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for config.json", dir);
    else st = slm2_json_write(gen, path, err);
    if (st == SLM2_OK) st = convert_write_vocab(dir, c->s, c->o, note, err);
    if (st == SLM2_OK) st = slm2_safetensors_write_sharded(dir, c->out, c->n, c->o->max_shard_bytes, err);
    if (st == SLM2_OK) st = slm2_path_join(path, sizeof path, dir, "config.json", err);
    if (st == SLM2_OK) st = slm2_json_write(j, path, err); /* last: a folder without it is no model */
    json_decref(gen);
    json_decref(j);
    return st;
}

static slm2_status make_report(const struct conversion *c, struct slm2_convert_report *r, struct slm2_err *err)
{
    r->v = calloc((size_t)slm2_max_int(c->n, 1), sizeof *r->v);
    if (!r->v) return slm2_fail(err, SLM2_ENOMEM, "no memory for the report");
    r->bytes_in = c->bytes_in;
    r->bytes_out = c->bytes_out;
    for (; r->n < c->n; r->n++) {
        struct slm2_convert_tensor *t = &r->v[r->n];
        const struct job *j = &c->jobs[r->n];
        *t = (struct slm2_convert_tensor){.name = strdup(c->out[r->n].name), .from = j->from, .to = j->to, .bytes = c->out[r->n].bytes, .error = j->error};
        t->n_elems = (int64_t)slm2_tensor_n_elems(&c->out[r->n]);
        if (!t->name) return slm2_fail(err, SLM2_ENOMEM, "no memory for the report");
    }
    return SLM2_OK;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

slm2_status slm2_convert(const char *in, const char *out, const struct slm2_convert_opts *opts, struct slm2_convert_report *report, struct slm2_err *err)
{
    struct slm2_convert_opts o = opts ? *opts : slm2_convert_opts_default();
    struct convert_source s;
    struct slm2_convert_report r = {0};
    size_t len = strlen(out);
    slm2_status st;
    const enum slm2_dtype asked[] = {o.dtype, o.embed_dtype, o.head_dtype};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        if (asked[i] == SLM2_KEEP || slm2_quant_supported(asked[i])) continue;
        if (!slm2_quant_readable(asked[i])) return slm2_fail(err, SLM2_EUSAGE, "weights cannot be %s", slm2_dtype_info[asked[i]].name);
        return slm2_fail(err, SLM2_EUSAGE, "cannot make %s yet, llama.cpp's quantiser can; want F32, F16, BF16, Q8_0, Q4_0 or Q4_1", slm2_dtype_info[asked[i]].name);
    }
    if (same_file(in, out)) return slm2_fail(err, SLM2_EUSAGE, "%s is both source and result; name another result", in);
    if (!slm2_path_exists(in)) return slm2_fail(err, SLM2_EIO, "%s: there is no such folder or file", in);
    SLM2_TRY(source_open(&s, in, err));
    struct conversion c = {.s = &s, .o = &o, .to_gguf = len > 5 && !strcmp(out + len - 5, ".gguf")};
    st = plan(&c, err);
    if (st == SLM2_OK) st = c.to_gguf ? write_gguf(&c, out, r.vocabulary, err) : write_hf(&c, out, r.vocabulary, err);
    if (st == SLM2_OK && report) st = make_report(&c, &r, err);
    conversion_free(&c);
    source_close(&s);
    if (st == SLM2_OK && report) *report = r;
    else slm2_convert_report_free(&r);
    return st;
}
