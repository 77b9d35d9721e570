/* mtbench_answer.c - the model's side: conversations of two turns, many at once.  A conversation is a job of slm2_generate_many that comes back with
 * its second turn; each has draws of its own, so neither the number at once nor a stop in between changes an answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/journal.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/mtbench.h"
#include "infer/generate.h"
#include "model/lora.h"
#include "ops/ops.h"

enum { ID_CHARS = 22 };

struct conversation {
    const struct slm2_mt_question *q;
    int turn;
    struct slm2_ids prompt;
    struct slm2_buf text[SLM2_MT_TURNS]; /* of the turns that are answered */
};
struct run {
    const struct slm2_mt_data *d;
    const struct slm2_mt_answer_args *a;
    struct slm2_mt_answer_done *done;
    struct slm2_engine *engine;
    struct slm2_journal *file;
    char key[65]; /* key_of */
    int max_new;
    struct conversation *v;   /* [n] what is to be made, */
    struct slm2_gen_job *job; /* [n] and its jobs */
    int n;
    double start_s;
};

/* ---- what an answer is a function of --------------------------------------------------------------------------------------- */
static void put_params(struct slm2_buf *b, const struct slm2_params *ps)
{
    char hex[65];
    for (int i = 0; i < ps->n; i++) {
        const struct slm2_param *p = &ps->v[i];
        slm2_sha256_hex(p->w.data, slm2_dtype_bytes(p->w.dtype, (size_t)p->n_row * (size_t)p->n_col), hex);
        slm2_buf_printf(b, "%d %d %d %d %d %d %s\n", (int)p->kind, p->layer, (int)p->part, p->n_row, p->n_col, (int)p->w.dtype, hex);
    }
}

/* All of the weights: of files as everywhere (model.h), in memory their numbers. */
static slm2_status weights_key(const struct slm2_model *m, char hex[65], struct slm2_err *err)
{
    struct slm2_buf b = {0};
    if (m->files || m->gguf) return slm2_model_key(m, hex, err);
    put_params(&b, &m->params);
    if (m->lora) {
        slm2_buf_printf(&b, "adapter %a\n", (double)m->lora->scale);
        put_params(&b, &m->lora->params);
    }
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) slm2_sha256_hex(b.v ? b.v : "", b.n, hex);
    slm2_buf_free(&b);
    return st;
}

/* Model, tokenizer and kernels: with the settings, what decides the bits of an answer. */
static slm2_status key_of(const struct slm2_mt_answer_args *a, char hex[65], struct slm2_err *err)
{
    char model[65], tok[65], all[256];
    struct slm2_ctx c;
    SLM2_TRY(weights_key(a->model, model, err));
    SLM2_TRY(slm2_tok_hash(a->tok, tok, err));
    SLM2_TRY(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.backend = a->backend, .isa = a->isa, .n_threads = 1, .exact = a->exact}, err));
    int n = snprintf(all, sizeof all, "%s %s %d %.40s %.40s %s", model, tok, (int)slm2_tok_eos(a->tok), c.ops->name, c.k->variant, SLM2_VERSION);
    slm2_ctx_free(&c);
    slm2_sha256_hex(all, (size_t)n, hex);
    return SLM2_OK;
}

/* The record's answer_id, 22 characters as shortuuid makes them: a digest of all that decides the answer. */
static void answer_id(const struct run *r, const struct slm2_mt_question *q, char id[ID_CHARS + 1])
{
    static const char alphabet[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    const struct slm2_mt_answer_args *a = r->a;
    struct slm2_buf b = {0};
    char hex[65];
    slm2_buf_printf(&b, "%s %s %d %d %d %.9g %.9g %.9g %lld %d %d;%lld %s;", a->model_id, r->key, (int)a->tmpl, r->max_new, a->top_k, (double)a->top_p, (double)a->repetition_penalty, q->temperature,
                    (long long)a->seed, (int)a->exact, slm2_engine_n_ctx(r->engine), (long long)q->id, q->turn[0]);
    slm2_buf_puts(&b, q->turn[1]);
    slm2_sha256_hex(b.v ? b.v : "", b.n, hex);
    for (int i = 0; i < ID_CHARS; i++) {
        char byte[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        id[i] = alphabet[strtoul(byte, NULL, 16) % (sizeof alphabet - 1)];
    }
    id[ID_CHARS] = '\0';
    slm2_buf_free(&b);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */
static slm2_status find_todo(struct run *r, const json_t *have, struct slm2_err *err)
{
    int n = r->a->limit > 0 && r->a->limit < r->d->n ? (int)r->a->limit : r->d->n;
    char id[ID_CHARS + 1];
    r->done->n_question = n;
    r->v = calloc((size_t)n, sizeof *r->v);
    r->job = calloc((size_t)n, sizeof *r->job);
    if (!r->v || !r->job) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d questions", n);
    for (int i = 0; i < n; i++) {
        const struct slm2_mt_question *q = &r->d->v[i];
        const json_t *found = NULL;
        for (size_t k = 0; k < json_array_size(have) && !found; k++) {
            const json_t *one = json_array_get(have, k);
            if (json_integer_value(json_object_get(one, "question_id")) == q->id) found = one;
        }
        if (!found) {
            r->v[r->n++].q = q;
            continue;
        }
        const char *is = json_string_value(json_object_get(found, "answer_id"));
        answer_id(r, q, id);
        if (!is || strcmp(is, id))
            return slm2_fail(err, SLM2_EUSAGE, "%s: the answer to question %lld was made by another model or with other settings; give another file with --out, or remove this one", r->a->out, (long long)q->id);
        r->done->n_kept++;
    }
    return SLM2_OK;
}

static slm2_status open_all(struct run *r, json_t **have, struct slm2_err *err)
{
    const struct slm2_mt_answer_args *a = r->a;
    const struct slm2_model *m = a->model;
    struct slm2_engine_setup setup = {.isa = a->isa, .backend = a->backend, .exact = a->exact, .kv_dtype = slm2_engine_kv_auto(m, a->exact)};
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    r->max_new = a->max_new > 0 ? a->max_new : 1024;
    eo.n_ctx = a->n_ctx;
    eo.n_seq = a->n_seq > 0 ? a->n_seq : 8;
    eo.n_threads = a->n_threads;
    SLM2_TRY(slm2_engine_new_setup(&r->engine, m, &eo, &setup, err));
    SLM2_TRY(key_of(a, r->key, err));
    SLM2_TRY(slm2_journal_open(&r->file, a->out, have, err));
    return find_todo(r, *have, err);
}

static void close_all(struct run *r)
{
    for (int i = 0; i < r->n; i++) {
        slm2_ids_free(&r->v[i].prompt);
        slm2_buf_free(&r->job[i].text);
        for (int t = 0; t < SLM2_MT_TURNS; t++) slm2_buf_free(&r->v[i].text[t]);
    }
    free(r->v);
    free(r->job);
    slm2_journal_close(r->file);
    slm2_engine_free(r->engine);
}

/* ---- a conversation ------------------------------------------------------------------------------------------------------------ */
/* What leaves room for an answer: all but max_new, at least half of the context. */
static void cut_prompt(struct run *r, struct conversation *s)
{
    size_t n_ctx = (size_t)slm2_engine_n_ctx(r->engine), room = n_ctx - slm2_min_size((size_t)r->max_new, n_ctx / 2);
    if (s->prompt.n <= room) return;
    memmove(s->prompt.v, s->prompt.v + (s->prompt.n - room), room * sizeof *s->prompt.v);
    s->prompt.n = room;
    r->done->n_cut++;
}

static void strip(struct slm2_buf *b)
{
    static const char blank[] = " \t\r\n\v\f";
    size_t from = 0;
    slm2_buf_puts(b, "");
    if (b->failed) return;
    while (b->n > 0 && strchr(blank, b->v[b->n - 1])) b->n--;
    while (from < b->n && strchr(blank, b->v[from])) from++;
    memmove(b->v, b->v + from, b->n - from);
    b->n -= from;
    b->v[b->n] = '\0';
}

/* The prompt of the conversation's turn, and its job. */
static slm2_status ask(struct run *r, struct conversation *c, struct slm2_err *err)
{
    const struct slm2_mt_answer_args *a = r->a;
    struct slm2_chat_opts co = slm2_chat_opts_default(a->tmpl);
    const struct slm2_msg msg[] = {{"user", c->q->turn[0], strlen(c->q->turn[0])}, {"assistant", c->text[0].v, c->text[0].n}, {"user", c->q->turn[1], strlen(c->q->turn[1])}};
    struct slm2_gen_job *job = &r->job[c - r->v];
    co.add_generation_prompt = true;
    c->prompt.n = 0;
    SLM2_TRY(slm2_chat_encode(a->tok, &co, msg, c->turn ? 3 : 1, &c->prompt, NULL, err));
    cut_prompt(r, c);
    r->done->n_prompt += (int64_t)c->prompt.n;
    job->ids = c->prompt.v;
    job->n_ids = (int)c->prompt.n;
    job->sampler = (struct slm2_sampler_opts){.temperature = c->q->temperature < 1e-4 ? 0.0f : (float)c->q->temperature, .top_k = a->top_k, .top_p = a->top_p > 0 ? a->top_p : 1.0f,
                                              .repetition_penalty = a->repetition_penalty > 0 ? a->repetition_penalty : 1.0f,
                                              .seed = ((uint64_t)a->seed << 24) ^ ((uint64_t)c->q->id * SLM2_MT_TURNS + (uint64_t)c->turn)};
    return SLM2_OK;
}

static slm2_status record(struct run *r, const struct conversation *c, struct slm2_err *err)
{
    char id[ID_CHARS + 1];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    answer_id(r, c->q, id);
    json_t *j = json_pack("{s:I, s:s, s:s, s:[{s:i, s:[o, o]}], s:f}", "question_id", (json_int_t)c->q->id, "answer_id", id, "model_id", r->a->model_id, "choices", "index", 0, "turns",
                          slm2_json_text(c->text[0].v, c->text[0].n), slm2_json_text(c->text[1].v, c->text[1].n), "tstamp", (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    slm2_status st = j ? slm2_journal_put(r->file, j, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for an answer");
    json_decref(j);
    r->done->n_new += st == SLM2_OK;
    return st;
}

/* A turn is answered: the next one, or the record. */
static slm2_status on_answer(void *user, struct slm2_gen_job *job, bool *again, struct slm2_err *err)
{
    struct run *r = user;
    struct conversation *c = &r->v[job - r->job];
    r->done->n_token += job->n_new;
    r->done->n_long += job->end == SLM2_GEN_LENGTH || job->end == SLM2_GEN_CONTEXT;
    c->text[c->turn] = job->text;
    job->text = (struct slm2_buf){0};
    strip(&c->text[c->turn]);
    SLM2_TRY(slm2_buf_check(&c->text[c->turn], err));
    *again = ++c->turn < SLM2_MT_TURNS;
    SLM2_TRY(*again ? ask(r, c, err) : record(r, c, err));
    int n = r->done->n_kept + r->done->n_new;
    slm2_progress("answers", (double)n / r->done->n_question, "%d of %d, %.0f tokens/s", n, r->done->n_question, (double)r->done->n_token / (slm2_now_s() - r->start_s));
    return SLM2_OK;
}

static slm2_status run_all(struct run *r, struct slm2_err *err)
{
    const struct slm2_mt_answer_args *a = r->a;
    const int32_t stop[] = {slm2_tok_eos(a->tok), slm2_chat_stop_id(a->tok, a->tmpl)};
    struct slm2_gen_opts o = {.n_max = r->max_new, .stop_ids = stop, .n_stop_ids = 2, .interrupt = a->interrupt, .on_job = on_answer, .user = r};
    for (int i = 0; i < r->n; i++) SLM2_TRY(ask(r, &r->v[i], err));
    SLM2_TRY(slm2_generate_many(r->engine, a->tok, &o, r->job, r->n, err));
    if (r->done->n_kept + r->done->n_new == r->done->n_question) return SLM2_OK;
    return slm2_fail(err, SLM2_ESTOP, "stopped: %s holds %d of %d answers; the same command makes the rest", a->out, r->done->n_kept + r->done->n_new, r->done->n_question);
}

/* The file in the order of the questions, whatever the order in which conversations ended. */
static slm2_status sort_file(const struct run *r, struct slm2_err *err)
{
    json_t *have, *sorted = json_array();
    slm2_status st = sorted ? slm2_journal_read(r->a->out, &have, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the answers");
    if (st == SLM2_OK) {
        for (int i = 0; i < r->d->n; i++)
            for (size_t k = 0; k < json_array_size(have); k++)
                if (json_integer_value(json_object_get(json_array_get(have, k), "question_id")) == r->d->v[i].id) json_array_append(sorted, json_array_get(have, k));
        if (json_array_size(sorted) == json_array_size(have) && !json_equal(sorted, have)) st = slm2_journal_rewrite(r->a->out, sorted, err);
        json_decref(have);
    }
    json_decref(sorted);
    return st;
}

slm2_status slm2_mt_answer(const struct slm2_mt_data *d, const struct slm2_mt_answer_args *a, struct slm2_mt_answer_done *done, struct slm2_err *err)
{
    struct run r = {.d = d, .a = a, .done = done, .start_s = slm2_now_s()};
    json_t *have = NULL;
    *done = (struct slm2_mt_answer_done){0};
    slm2_status st = open_all(&r, &have, err);
    if (st == SLM2_OK) st = run_all(&r, err);
    slm2_progress_end();
    if (st == SLM2_OK && done->n_new > 0) st = sort_file(&r, err);
    done->seconds = slm2_now_s() - r.start_s;
    json_decref(have);
    close_all(&r);
    return st;
}
