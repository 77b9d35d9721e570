/* use.c - opens what a command needs to run a model, with the tokenizer that belongs to it. */
#include "cli/use.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/share.h"
#include "io/gguf.h"
#include "model/lora.h"

/* The bundled vocabulary serves a model that brings none, when its ids fit. */
static slm2_status open_tok(struct slm2_use *u, const struct slm2_use_opts *o, struct slm2_err *err)
{
    bool bundled;
    SLM2_TRY(slm2_tok_of_model(&u->tok, &bundled, o->tokenizer, o->adapter, o->model, err));
    if (!bundled || slm2_tok_n_vocab(u->tok) <= slm2_model_vocab_size(u->model)) return SLM2_OK;
    slm2_tok_free(u->tok);
    u->tok = NULL;
    return SLM2_OK;
}

slm2_status slm2_use_open(struct slm2_use *u, const struct slm2_use_opts *o, struct slm2_err *err)
{
    *u = (struct slm2_use){0};
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    eo.n_ctx = o->n_ctx;
    if (o->n_batch) eo.n_batch = o->n_batch;
    eo.n_threads = o->threads;
    if (o->n_seq) eo.n_seq = o->n_seq;
    bool kv_auto = !o->kv || !*o->kv || strcmp(o->kv, "auto") == 0;
    int kv = kv_auto ? 0 : slm2_dtype_from_name(o->kv);
    if (kv < 0) return slm2_fail(err, SLM2_EUSAGE, "the cache type is \"%s\", want auto, f32, f16, bf16 or q8_0", o->kv);
    struct slm2_engine_setup setup = {.isa = slm2_cli_isa(), .exact = o->exact, .kv_dtype = (enum slm2_dtype)kv};
    double start = slm2_now_s();
    slm2_status st = slm2_model_open(&u->model, o->model, err);
    if (!st && o->adapter && *o->adapter) st = slm2_lora_open(u->model, o->adapter, false, err);
    if (!st && kv_auto) setup.kv_dtype = slm2_engine_kv_auto(u->model, o->exact);
    if (!st) st = slm2_engine_new_setup(&u->engine, u->model, &eo, &setup, err);
    u->load_s = slm2_now_s() - start;
    if (!st && !o->no_tokenizer) st = open_tok(u, o, err);
    if (!st && u->tok && slm2_tok_n_vocab(u->tok) > slm2_model_vocab_size(u->model))
        slm2_log(SLM2_WARN, "the tokenizer knows %d ids, the model %d", slm2_tok_n_vocab(u->tok), slm2_model_vocab_size(u->model));
    if (st) slm2_use_free(u);
    return st;
}

void slm2_use_free(struct slm2_use *u)
{
    slm2_engine_free(u->engine);
    slm2_model_free(u->model);
    slm2_tok_free(u->tok);
    *u = (struct slm2_use){0};
}

slm2_status slm2_cli_folder_of(const char *path, struct slm2_err *err)
{
    char dir[4096];
    if (!*path || !strcmp(path, "-")) return SLM2_OK;
    SLM2_TRY(slm2_path_folder(dir, sizeof dir, path, err));
    return slm2_dir_make(dir, err);
}

slm2_status slm2_use_need_tok(const struct slm2_use *u, const char *model, struct slm2_err *err)
{
    if (u->tok) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "%s: no tokenizer beside the model, and the bundled one has more ids than its %d; give --tokenizer, or --ids", model, slm2_model_vocab_size(u->model));
}

slm2_status slm2_use_sampler(const struct slm2_use *u, const struct slm2_use_sampling *o, struct slm2_sampler **s, struct slm2_err *err)
{
    struct slm2_sampler_opts so = {.temperature = o->greedy ? 0.0f : o->temperature, .top_k = o->top_k, .top_p = o->top_p, .min_p = o->min_p,
                                   .repetition_penalty = o->repetition_penalty, .seed = (uint64_t)o->seed};
    int n_vocab = slm2_model_vocab_size(u->model);
    if (u->tok) n_vocab = slm2_min_int(n_vocab, slm2_tok_n_vocab(u->tok));
    return slm2_sampler_new(s, n_vocab, &so, err);
}

slm2_status slm2_use_may_write(const char *out, bool force, struct slm2_err *err)
{
    static const char *const marks[] = {"config.json", SLM2_LORA_CONFIG};
    if (force || !slm2_path_exists(out)) return SLM2_OK;
    if (!slm2_path_is_dir(out)) return slm2_fail(err, SLM2_EUSAGE, "%s: is there already; --force overwrites it", out);
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        char path[4096];
        SLM2_TRY(slm2_path_join(path, sizeof path, out, marks[i], err));
        if (slm2_path_exists(path)) return slm2_fail(err, SLM2_EUSAGE, "%s: holds a model already; --force overwrites it", out);
    }
    return SLM2_OK;
}

const char *const slm2_use_templates[] = {"auto", "zephyr", "chatml", NULL};

enum slm2_chat_template slm2_use_template(int choice, const char *path, const char *adapter, const struct slm2_model *m)
{
    enum slm2_chat_template t = SLM2_CHAT_ZEPHYR;
    char dir[4096];
    if (choice > 0) return (enum slm2_chat_template)(choice - 1);
    if (adapter && *adapter && slm2_chat_detect(adapter, &t)) {
        slm2_log(SLM2_INFO, "%s: the conversation has the form of the adapter's own template, %s (--template names another)", adapter, slm2_chat_names[t]);
        return t;
    }
    if (!m->gguf) {
        if (slm2_path_home(dir, sizeof dir, path, NULL) == SLM2_OK) slm2_chat_detect(dir, &t);
        return t;
    }
    const char *s;
    size_t n;
    struct slm2_buf text = {0};
    if (slm2_gguf_get_str(m->gguf, "tokenizer.chat_template", &s, &n, NULL) != SLM2_OK) return t;
    slm2_buf_put(&text, s, n);
    if (!text.failed && text.n) slm2_chat_detect_text(text.v, &t);
    slm2_buf_free(&text);
    return t;
}

slm2_status slm2_use_split(const struct slm2_conf_list *l, struct slm2_buf *text, const char ***names, int *n, struct slm2_err *err)
{
    int most = 1;
    *n = 0;
    for (int i = 0; i < l->n; i++) {
        slm2_buf_puts(text, ((char **)l->items)[i]);
        slm2_buf_putc(text, ',');
    }
    slm2_buf_puts(text, "");
    SLM2_TRY(slm2_buf_check(text, err));
    for (size_t i = 0; i < text->n; i++) most += text->v[i] == ',';
    *names = calloc((size_t)most, sizeof **names);
    if (!*names) return slm2_fail(err, SLM2_ENOMEM, "no memory for a list of names");
    char *rest = NULL;
    for (char *s = strtok_r(text->v, ",", &rest); s; s = strtok_r(NULL, ",", &rest)) (*names)[(*n)++] = slm2_share_arg(s);
    return SLM2_OK;
}

slm2_status slm2_use_parse_ids(const char *text, struct slm2_ids *ids, struct slm2_err *err)
{
    for (const char *s = text;;) {
        s += strspn(s, " ,[]\t\r\n");
        if (!*s) return SLM2_OK;
        char *end;
        errno = 0;
        long v = strtol(s, &end, 10);
        if (end == s || errno || v < 0 || v > INT32_MAX || (*end && !strchr(" ,[]\t\r\n", *end)))
            return slm2_fail(err, SLM2_EUSAGE, "\"%.20s\" is not a token id; want numbers like \"1 2 3\"", s);
        SLM2_TRY(slm2_ids_push(ids, (int32_t)v, err));
        s = end;
    }
}

json_t *slm2_use_ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}
