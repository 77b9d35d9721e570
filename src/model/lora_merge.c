/* lora_merge.c - the weights that base model and adapter are together, written as a model of its own. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "io/safetensors.h"
#include "model/lora.h"
#include "tok/chat.h"
#include "tok/tok.h"

enum { ROWS = 128 }; /* of a matrix merged at a time */
static const size_t shard_max_bytes = (size_t)5 << 30; /* as model/load.c */

struct merge {
    struct slm2_ctx *c;
    const struct slm2_model *m;
    float *delta; /* [ROWS, widest matrix] s B A */
    void *out;    /* the same in the type of W */
    int done, n;  /* tensors */
};
struct piece { /* what fill needs of one matrix */
    struct merge *all;
    const struct slm2_param *w, *A;
};

/* Rows of W + s B A: delta = B A as a product (the gradient of x in y = x A' with dy = B), then one rounding. */
static slm2_status fill(void *user, const struct slm2_tensor *t, struct slm2_out *o, struct slm2_err *err)
{
    const struct piece *p = user;
    struct merge *g = p->all;
    const struct slm2_param *w = p->w, *B = p->A + 1;
    const struct slm2_ops *op = g->c->ops;
    (void)err;
    for (int r = 0; r < w->n_row; r += ROWS) {
        int n = slm2_min_int(ROWS, w->n_row - r);
        struct slm2_mat b = slm2_mat_rows(&B->w, r, n), from = slm2_mat_rows(&w->w, r, n);
        struct slm2_mat delta = slm2_mat_of(g->delta, SLM2_F32, n, w->n_col), to = slm2_mat_of(g->out, w->w.dtype, n, w->n_col);
        op->linear_bwd(g->c, &delta, false, NULL, NULL, &b, NULL, &p->A->w);
        op->scale(g->c, &delta, g->m->lora->scale);
        op->add(g->c, &to, &from, &delta);
        slm2_out_write(o, to.data, slm2_dtype_bytes(to.dtype, (size_t)n * (size_t)w->n_col));
    }
    slm2_progress("merge", (double)++g->done / g->n, "%s", t->name);
    return SLM2_OK;
}

/* The tensors of the base model in their order; those with an adapter are made by fill. */
static slm2_status write_weights(struct merge *g, const char *out, struct slm2_err *err)
{
    const struct slm2_tensors *ts = g->m->files;
    const struct slm2_params *ps = &g->m->params;
    struct slm2_tensor *v = calloc((size_t)ts->n, sizeof *v);
    struct piece *pieces = calloc((size_t)ps->n, sizeof *pieces);
    char name[128];
    slm2_status st = v && pieces ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the list of tensors");
    if (st == SLM2_OK) memcpy(v, ts->v, (size_t)ts->n * sizeof *v);
    for (int i = 0; st == SLM2_OK && i < ps->n; i++) {
        const struct slm2_param *w = &ps->v[i], *A = w->layer < 0 ? NULL : slm2_lora_get(g->m->lora, w->kind, w->layer);
        if (!A) continue;
        slm2_param_hf_name(w, 0, name);
        struct slm2_tensor *t = &v[slm2_tensors_find(ts, name) - ts->v];
        pieces[i] = (struct piece){g, w, A};
        t->data = NULL;
        t->fill = fill;
        t->user = &pieces[i];
        g->n++;
    }
    if (st == SLM2_OK) st = slm2_safetensors_write_sharded(out, v, ts->n, shard_max_bytes, err);
    slm2_progress_end();
    free(v);
    free(pieces);
    return st;
}

/* Calls for each file of a vocabulary in a folder: copied to `to`, or removed where `to` is NULL. */
static slm2_status each_vocab_file(const char *from, const char *to, bool with_jinja, struct slm2_err *err)
{
    DIR *d = opendir(from);
    slm2_status st = d ? SLM2_OK : slm2_fail_errno(err, "%s: cannot list the folder", from);
    for (struct dirent *f; st == SLM2_OK && (f = readdir(d));) {
        char path[4096];
        if (!slm2_tok_is_file(f->d_name)) continue;
        if (to && (with_jinja || strcmp(f->d_name, "chat_template.jinja") != 0)) st = slm2_file_copy(from, to, f->d_name, true, err);
        if (!to && (st = slm2_path_join(path, sizeof path, from, f->d_name, err)) == SLM2_OK && remove(path)) st = slm2_fail_errno(err, "%s: cannot be removed", path);
    }
    if (d) closedir(d);
    return st;
}

/* The vocabulary and the template that commands with --adapter would use (slm2_tok_of_model).  Where they come from two folders, the template goes into a file
 * of its own, which is read before the one in tokenizer_config.json.  config.json comes last: without it a folder is no model. */
static slm2_status copy_files(const char *base, const char *adapter, const char *out, struct slm2_err *err)
{
    enum slm2_chat_template t;
    bool own_vocab = slm2_tok_in_dir(adapter), own_template = slm2_chat_detect(adapter, &t);
    const char *vocab = own_vocab ? adapter : base, *template = own_template ? adapter : base;
    SLM2_TRY(each_vocab_file(out, NULL, true, err)); /* of a model that was there before */
    SLM2_TRY(each_vocab_file(vocab, out, vocab == template, err));
    if (vocab != template && slm2_chat_detect(template, &t)) {
        char path[4096];
        const char *jinja = slm2_chat_jinja(t);
        SLM2_TRY(slm2_path_join(path, sizeof path, out, "chat_template.jinja", err));
        SLM2_TRY(slm2_file_write(path, jinja, strlen(jinja), err));
    }
    SLM2_TRY(slm2_file_copy(base, out, "generation_config.json", false, err));
    return slm2_file_copy(base, out, "config.json", true, err);
}

static bool same_place(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

slm2_status slm2_lora_merge(const char *base, const char *adapter, const char *out, struct slm2_ctx *c, struct slm2_err *err)
{
    struct merge g = {.c = c};
    struct slm2_model *m;
    if (!slm2_path_is_dir(base)) return slm2_fail(err, SLM2_EUSAGE, "%s: merging wants the base model as a Hugging Face folder; make one of a GGUF file with `slm2 convert`", base);
    if (same_place(base, out) || same_place(adapter, out)) return slm2_fail(err, SLM2_EUSAGE, "%s: the merged model would overwrite what it is made of; name another folder", out);
    SLM2_TRY(slm2_model_open(&m, base, err));
    g.m = m;
    slm2_status st = slm2_lora_open(m, adapter, false, err);
    size_t widest = (size_t)slm2_max_int(slm2_max_int(m->cfg.hidden_size, m->cfg.intermediate_size), slm2_config_q_dim(&m->cfg));
    if (st == SLM2_OK) st = slm2_ctx_reserve(c, slm2_ops_scratch_floats((int)widest, 1, m->cfg.head_dim), err);
    g.delta = malloc(ROWS * widest * sizeof *g.delta);
    g.out = malloc(ROWS * widest * sizeof *g.delta);
    if (st == SLM2_OK && (!g.delta || !g.out)) st = slm2_fail(err, SLM2_ENOMEM, "no memory to merge matrices");
    if (st == SLM2_OK) st = slm2_dir_make(out, err);
    if (st == SLM2_OK) st = write_weights(&g, out, err);
    if (st == SLM2_OK) st = copy_files(base, adapter, out, err);
    free(g.delta);
    free(g.out);
    slm2_model_free(m);
    return st;
}
