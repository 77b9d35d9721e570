/* answers.c - requests to tokens, tokens to answers, answers to the journal. */
#include "eval/answers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/score.h"
#include "infer/generate.h"
#include "tok/chat.h"

struct asked { size_t at; int n_context, n_continuation; }; /* tokens lie in ids from at */

struct asking {
    const struct slm2_eval_args *args;
    const struct slm2_task *t;
    struct slm2_kept *kept;
    struct slm2_answers *out;
    struct asked *v;        /* [out->n] */
    size_t cap;
    struct slm2_ids ids;
    char (*id)[SLM2_KEPT_ID]; /* [out->n], with kept */
    size_t *open, n_open;   /* requests that are not answered */
    struct slm2_score *score; /* [n_open] */
    size_t done;
};

static slm2_status stopped(const struct asking *a, struct slm2_err *err)
{
    return a->args->interrupt && *a->args->interrupt ? slm2_fail(err, SLM2_ESTOP, "%s: stopped", a->t->name) : SLM2_OK;
}

/* ---- requests ------------------------------------------------------------------------------------------------------------ */
static slm2_status add_request(struct asking *a, const struct slm2_request *r, struct slm2_err *err)
{
    struct slm2_ids context = {0}, continuation = {0};
    if (a->out->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 256;
        struct asked *v = realloc(a->v, cap * sizeof *v);
        if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu requests", cap);
        a->v = v;
        a->cap = cap;
    }
    slm2_status st = slm2_request_encode(a->t, a->args->tok, r, &context, &continuation, err);
    a->v[a->out->n] = (struct asked){a->ids.n, (int)context.n, (int)continuation.n};
    for (size_t i = 0; i < context.n && st == SLM2_OK; i++) st = slm2_ids_push(&a->ids, context.v[i], err);
    for (size_t i = 0; i < continuation.n && st == SLM2_OK; i++) st = slm2_ids_push(&a->ids, continuation.v[i], err);
    a->out->n++;
    slm2_ids_free(&context);
    slm2_ids_free(&continuation);
    return st;
}

static slm2_status add_all(struct asking *a, struct slm2_err *err)
{
    a->out->first = calloc(a->t->n + 1, sizeof *a->out->first);
    if (!a->out->first) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu items", a->t->n);
    for (size_t i = 0; i < a->t->n; i++) {
        struct slm2_requests q;
        SLM2_TRY(stopped(a, err));
        SLM2_TRY(slm2_task_requests(a->t, i, &q, err));
        slm2_status st = SLM2_OK;
        for (int k = 0; k < q.n && st == SLM2_OK; k++) st = add_request(a, &q.v[k], err);
        slm2_requests_free(&q);
        if (st != SLM2_OK) return slm2_wrap(err, st, "item %zu", i);
        a->out->first[i + 1] = a->out->n;
        slm2_progress(a->t->name, 0, "reading %zu of %zu", i + 1, a->t->n);
    }
    a->out->v = calloc(a->out->n + 1, sizeof *a->out->v);
    a->open = calloc(a->out->n + 1, sizeof *a->open);
    return a->out->v && a->open ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %zu answers", a->out->n);
}

/* ---- former answers -------------------------------------------------------------------------------------------------------- */
/* What is done with a request: all that decides its answer besides its tokens and the key of the file. */
static slm2_status kind_of(const struct asking *a, struct slm2_buf *kind, struct slm2_err *err)
{
    if (a->t->kind != SLM2_TASK_GENERATE) {
        slm2_buf_puts(kind, "score");
        return slm2_buf_check(kind, err);
    }
    slm2_buf_printf(kind, "generate %d %s", a->t->max_new, a->t->chat);
    for (int i = 0; i < a->t->stop.n; i++) {
        const char *stop = ((char *const *)a->t->stop.items)[i];
        slm2_buf_printf(kind, " %zu:%s", strlen(stop), stop);
    }
    return slm2_buf_check(kind, err);
}

static bool take_kept(struct slm2_answer *v, const json_t *j, bool generates)
{
    const json_t *text = json_object_get(j, "text"), *ll = json_object_get(j, "ll"), *greedy = json_object_get(j, "greedy");
    if (generates && json_is_string(text)) {
        v->n_text = json_string_length(text);
        v->text = malloc(v->n_text + 1);
        if (v->text) memcpy(v->text, json_string_value(text), v->n_text + 1);
        return v->text != NULL;
    }
    if (generates || !json_is_real(ll) || !json_is_boolean(greedy)) return false;
    v->ll = json_real_value(ll);
    v->is_greedy = json_is_true(greedy);
    return true;
}

/* Whether a request loses its beginning, as score.c and prompt_length cut. */
static bool is_cut(const struct asking *a, const struct asked *r)
{
    int room = a->args->model->cfg.n_ctx;
    if (a->t->kind == SLM2_TASK_GENERATE) return r->n_context > room - a->t->max_new;
    return r->n_context + r->n_continuation > room + 1; /* the last token is not read */
}

static void count_cut(struct asking *a)
{
    for (size_t i = 0; i < a->out->n; i++) a->out->n_cut += is_cut(a, &a->v[i]);
    if (a->out->n_cut > 0)
        slm2_log(SLM2_WARN, "%s: %zu of %zu requests are longer than the model's context of %d tokens and lose their beginning, examples first; fewer examples (--n-shot) fit", a->t->name, a->out->n_cut, a->out->n,
                 a->args->model->cfg.n_ctx);
}

static slm2_status recall(struct asking *a, struct slm2_err *err)
{
    struct slm2_buf kind = {0};
    slm2_status st = kind_of(a, &kind, err);
    if (a->kept && !(a->id = calloc(a->out->n + 1, sizeof *a->id))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for %zu requests", a->out->n);
    for (size_t i = 0; i < a->out->n && st == SLM2_OK; i++) {
        const struct asked *r = &a->v[i];
        if (a->kept) {
            slm2_kept_id(a->id[i], kind.v, a->ids.v + r->at, (size_t)r->n_context, a->ids.v + r->at + r->n_context, (size_t)r->n_continuation);
            const json_t *j = slm2_kept_find(a->kept, a->id[i]);
            if (j && take_kept(&a->out->v[i], j, a->t->kind == SLM2_TASK_GENERATE)) {
                a->out->n_kept++;
                continue;
            }
        }
        a->open[a->n_open++] = i;
    }
    slm2_buf_free(&kind);
    return st;
}

static slm2_status keep(struct asking *a, size_t i, struct slm2_err *err)
{
    const struct slm2_answer *v = &a->out->v[i];
    if (!a->kept) return SLM2_OK;
    if (v->text) return slm2_kept_put(a->kept, a->id[i], json_pack("{s:s%}", "text", v->text, v->n_text), err);
    if (!isfinite(v->ll)) return SLM2_OK; /* JSON has no such number: it is computed again */
    return slm2_kept_put(a->kept, a->id[i], json_pack("{s:f, s:b}", "ll", v->ll, "greedy", v->is_greedy), err);
}

/* After a pass: what is there is kept, the bar moves, whoever wants to stop may. */
static slm2_status pause(struct asking *a, struct slm2_err *err)
{
    if (a->kept) SLM2_TRY(slm2_kept_sync(a->kept, err));
    slm2_progress(a->t->name, (double)a->done / (double)slm2_max_size(a->n_open, 1), "%zu of %zu requests", a->done, a->n_open);
    return stopped(a, err);
}

/* ---- log-likelihoods --------------------------------------------------------------------------------------------------------- */
static slm2_status on_score(void *user, int k, struct slm2_err *err)
{
    struct asking *a = user;
    if (k < 0) return pause(a, err);
    struct slm2_answer *v = &a->out->v[a->open[k]];
    v->ll = a->score[k].loglikelihood;
    v->is_greedy = a->score[k].is_greedy;
    a->done++;
    return keep(a, a->open[k], err);
}

static slm2_status score_open(struct asking *a, struct slm2_err *err)
{
    const struct slm2_eval_args *args = a->args;
    struct slm2_scorer *s;
    struct slm2_scorer_opts so = {.backend = args->backend, .isa = args->isa, .exact = args->exact, .one_by_one = args->one_by_one, .n_threads = args->n_threads, .batch_tokens = args->batch_tokens, .prefix_id = -1};
    int32_t eos = slm2_tok_eos(args->tok);
    if (eos >= 0 && eos < args->model->cfg.vocab_size) so.prefix_id = eos;
    if (a->n_open > INT32_MAX) return slm2_fail(err, SLM2_ELIMIT, "%zu requests are too many", a->n_open);
    a->score = calloc(a->n_open + 1, sizeof *a->score);
    if (!a->score) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu requests", a->n_open);
    for (size_t k = 0; k < a->n_open; k++) {
        const struct asked *r = &a->v[a->open[k]];
        a->score[k] = (struct slm2_score){.context = a->ids.v + r->at, .n_context = r->n_context, .continuation = a->ids.v + r->at + r->n_context, .n_continuation = r->n_continuation};
    }
    SLM2_TRY(slm2_scorer_new(&s, args->model, &so, err));
    slm2_status st = slm2_score(s, a->score, (int)a->n_open, &(struct slm2_score_watch){on_score, a}, err);
    a->out->work = slm2_scorer_work(s);
    slm2_scorer_free(s);
    return st;
}

/* ---- generated text ------------------------------------------------------------------------------------------------------------ */
enum { MOST_AT_ONCE = 16, ROUND = 64 }; /* sequences of the engine; answers between two syncs of what is kept */
static const size_t cache_bytes = (size_t)2 << 30; /* of keys and values: fewer sequences where prompts are long */

struct generator {
    struct slm2_engine *engine;
    struct slm2_gen_opts opts;
    struct slm2_sampler_opts greedy;
    int32_t stop_ids[2];
};

/* The tokens of a prompt that are fed: its end matters most. */
static int prompt_length(const struct asking *a, const struct asked *r)
{
    return slm2_min_int(r->n_context, a->args->model->cfg.n_ctx - a->t->max_new);
}

/* As many sequences as memory and requests make useful. */
static slm2_status engine_open(struct generator *g, const struct asking *a, struct slm2_err *err)
{
    const struct slm2_eval_args *args = a->args;
    const struct slm2_config *cfg = &args->model->cfg;
    struct slm2_engine_setup setup = {.isa = args->isa, .backend = args->backend, .exact = args->exact, .kv_dtype = slm2_engine_kv_auto(args->model, args->exact)};
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    int longest = 1;
    for (size_t k = 0; k < a->n_open; k++) longest = slm2_max_int(longest, prompt_length(a, &a->v[a->open[k]]));
    eo.n_threads = args->n_threads;
    eo.n_ctx = slm2_min_int(cfg->n_ctx, longest + a->t->max_new);
    size_t bytes = slm2_dtype_bytes(setup.kv_dtype, 2 * (size_t)cfg->n_layer * (size_t)slm2_config_kv_dim(cfg) * (size_t)eo.n_ctx);
    eo.n_seq = (int)slm2_min_size(slm2_max_size(cache_bytes / bytes, 1), slm2_min_size(MOST_AT_ONCE, a->n_open));
    if (args->one_by_one) eo.n_seq = 1;
    return slm2_engine_new_setup(&g->engine, args->model, &eo, &setup, err);
}

static slm2_status generator_open(struct generator *g, const struct asking *a, struct slm2_err *err)
{
    const struct slm2_eval_args *args = a->args;
    const struct slm2_task *t = a->t;
    *g = (struct generator){.opts = {.n_max = t->max_new, .n_stop = t->stop.n, .stop = (const char *const *)t->stop.items, .stop_ids = g->stop_ids, .interrupt = args->interrupt}};
    g->greedy = slm2_sampler_opts_default();
    g->greedy.temperature = 0;
    g->greedy.repetition_penalty = 1;
    int32_t eos = slm2_tok_eos(args->tok), turn = -1;
    if (*t->chat) turn = slm2_chat_stop_id(args->tok, strcmp(t->chat, slm2_chat_names[SLM2_CHAT_CHATML]) == 0 ? SLM2_CHAT_CHATML : SLM2_CHAT_ZEPHYR);
    if (eos >= 0) g->stop_ids[g->opts.n_stop_ids++] = eos;
    if (turn >= 0 && turn != eos) g->stop_ids[g->opts.n_stop_ids++] = turn;
    if (t->max_new >= args->model->cfg.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "%s: max_new %d leaves no room for the prompt in the model's context of %d", t->name, t->max_new, args->model->cfg.n_ctx);
    return engine_open(g, a, err);
}

/* The text of an answer, as Python's decoders give it: U+FFFD for bytes that are not UTF-8. */
static slm2_status take_text(struct slm2_answer *v, const struct slm2_buf *text, struct slm2_err *err)
{
    struct slm2_buf clean = {0};
    slm2_utf8_clean(text->v, text->n, &clean);
    slm2_buf_puts(&clean, "");
    slm2_status st = slm2_buf_check(&clean, err);
    if (st == SLM2_OK) {
        v->text = clean.v; /* memory of malloc; a NUL may stand in it */
        v->n_text = clean.n;
    } else slm2_buf_free(&clean);
    return st;
}

/* Requests open[k .. k + n) at once. */
static slm2_status generate_round(struct asking *a, struct generator *g, size_t k, int n, struct slm2_err *err)
{
    struct slm2_gen_job job[ROUND] = {{0}};
    const int32_t none = a->args->model->cfg.eos_id;
    for (int i = 0; i < n; i++) {
        const struct asked *r = &a->v[a->open[k + (size_t)i]];
        int length = prompt_length(a, r);
        job[i] = (struct slm2_gen_job){.ids = r->n_context ? a->ids.v + r->at + (r->n_context - length) : &none, .n_ids = slm2_max_int(length, 1), .sampler = g->greedy};
    }
    slm2_status st = slm2_generate_many(g->engine, a->args->tok, &g->opts, job, n, err);
    for (int i = 0; i < n; i++) {
        size_t at = a->open[k + (size_t)i];
        bool done = st == SLM2_OK && job[i].end != SLM2_GEN_INTERRUPT;
        if (done) st = take_text(&a->out->v[at], &job[i].text, err);
        if (done && st == SLM2_OK) st = keep(a, at, err);
        a->done += done;
        slm2_buf_free(&job[i].text);
    }
    return st == SLM2_OK ? pause(a, err) : st;
}

static slm2_status generate_open(struct asking *a, struct slm2_err *err)
{
    struct generator g;
    slm2_status st = generator_open(&g, a, err);
    for (size_t k = 0; k < a->n_open && st == SLM2_OK; k += ROUND) st = generate_round(a, &g, k, (int)slm2_min_size(ROUND, a->n_open - k), err);
    slm2_engine_free(g.engine);
    return st;
}

/* ---- all ---------------------------------------------------------------------------------------------------------------------- */
slm2_status slm2_answers_get(struct slm2_answers *out, const struct slm2_eval_args *args, const struct slm2_task *t, struct slm2_kept *kept, struct slm2_err *err)
{
    *out = (struct slm2_answers){0};
    struct asking a = {.args = args, .t = t, .kept = kept, .out = out};
    slm2_status st = add_all(&a, err);
    if (st == SLM2_OK) count_cut(&a);
    if (st == SLM2_OK) st = recall(&a, err);
    if (st == SLM2_OK && a.n_open > 0) st = t->kind == SLM2_TASK_GENERATE ? generate_open(&a, err) : score_open(&a, err);
    slm2_progress_end();
    free(a.v);
    free(a.id);
    free(a.open);
    free(a.score);
    slm2_ids_free(&a.ids);
    return st;
}

void slm2_answers_free(struct slm2_answers *a)
{
    for (size_t i = 0; a->v && i < a->n; i++) free(a->v[i].text);
    free(a->v);
    free(a->first);
    *a = (struct slm2_answers){0};
}
