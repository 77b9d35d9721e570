/* eval.c - runs tasks: items to scores or answers, these to figures with standard errors. */
#include "eval/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/report.h"
#include "eval/suite.h"
#include "infer/generate.h"
#include "tok/chat.h"

enum { MAX_METRICS = 16 };

struct run { /* of one task */
    const struct slm2_eval_args *args;
    const struct slm2_task *t;
    struct slm2_eval_result *result;
    int n_metric;
    char metric[MAX_METRICS][SLM2_EVAL_NAME]; /* "acc"; of a named filter "exact_match,strict-match" */
    size_t n;        /* items */
    double *value;   /* [n * n_metric] */
    json_t *samples; /* or NULL */
};

static const char *str_at(const struct slm2_conf_list *l, int i) { return ((char **)l->items)[i]; }

static slm2_status stopped(const struct run *r, struct slm2_err *err)
{
    return r->args->interrupt && *r->args->interrupt ? slm2_fail(err, SLM2_ESTOP, "%s: stopped", r->t->name) : SLM2_OK;
}

static const struct slm2_answer_filter *filter_at(const struct slm2_task *t, int i) { return &((const struct slm2_answer_filter *)t->filters.items)[i]; }

static void name_metric(char out[SLM2_EVAL_NAME], const char *metric, const struct slm2_answer_filter *f)
{
    snprintf(out, SLM2_EVAL_NAME, f && *f->name ? "%s,%.40s" : "%s", metric, f ? f->name : "");
}

static void choose_metrics(struct run *r)
{
    bool generates = r->t->kind == SLM2_TASK_GENERATE;
    for (int f = 0; f < (generates ? r->t->filters.n : 1); f++)
        for (int i = 0; i < r->t->metrics.n && r->n_metric < MAX_METRICS; i++) name_metric(r->metric[r->n_metric++], str_at(&r->t->metrics, i), generates ? filter_at(r->t, f) : NULL);
}

static void set_value(struct run *r, size_t item, const char *metric, double v)
{
    for (int k = 0; k < r->n_metric; k++)
        if (strcmp(r->metric[k], metric) == 0) r->value[item * (size_t)r->n_metric + (size_t)k] = v;
}

/* ---- multiple choice ---------------------------------------------------------------------------------------------------- */
size_t slm2_eval_pick(const double *loglikelihood, const size_t *length, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        double a = loglikelihood[i], b = loglikelihood[best];
        if (length) { /* nothing at all: -inf, never the best */
            a /= (double)length[i];
            b /= (double)length[best];
        }
        if (a > b) best = i;
    }
    return best;
}

struct choice_memory { /* [n] of one item */
    struct slm2_ids *context, *ids;
    struct slm2_score *score;
    double *ll;
    size_t *n_chars, *n_bytes;
    size_t n;
};

static void choice_free(struct choice_memory *m)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->context) slm2_ids_free(&m->context[i]);
        if (m->ids) slm2_ids_free(&m->ids[i]);
    }
    free(m->context);
    free(m->ids);
    free(m->score);
    free(m->ll);
    free(m->n_chars);
    free(m->n_bytes);
}

static slm2_status choice_score(struct run *r, struct slm2_scorer *s, const struct slm2_requests *q, struct choice_memory *m, struct slm2_err *err)
{
    size_t n = m->n = (size_t)q->n;
    m->context = calloc(n, sizeof *m->context);
    m->ids = calloc(n, sizeof *m->ids);
    m->score = calloc(n, sizeof *m->score);
    m->ll = calloc(n, sizeof *m->ll);
    m->n_chars = calloc(n, sizeof *m->n_chars);
    m->n_bytes = calloc(n, sizeof *m->n_bytes);
    if (!m->context || !m->ids || !m->score || !m->ll || !m->n_chars || !m->n_bytes) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu answers", n);
    for (size_t i = 0; i < n; i++) {
        SLM2_TRY(slm2_request_encode(r->t, r->args->tok, &q->v[i], &m->context[i], &m->ids[i], err));
        m->n_chars[i] = q->v[i].n_chars;
        m->n_bytes[i] = q->v[i].n_bytes;
        m->score[i] = (struct slm2_score){.context = m->context[i].v, .n_context = (int)m->context[i].n, .continuation = m->ids[i].v, .n_continuation = (int)m->ids[i].n};
    }
    SLM2_TRY(slm2_score(s, m->score, (int)n, NULL, err));
    for (size_t i = 0; i < n; i++) m->ll[i] = m->score[i].loglikelihood;
    return SLM2_OK;
}

/* Probability of the true answers among all. */
static double mc2(const struct slm2_requests *q, const double *ll)
{
    double most = ll[0], right = 0, all = 0;
    for (int i = 1; i < q->n; i++) most = fmax(most, ll[i]);
    for (int i = 0; i < q->n; i++) {
        double p = exp(ll[i] - most);
        all += p;
        if (q->v[i].is_true) right += p;
    }
    return right / all;
}

static slm2_status choice_item(struct run *r, struct slm2_scorer *s, size_t i, struct slm2_err *err)
{
    struct choice_memory m = {0};
    struct slm2_requests q;
    SLM2_TRY(slm2_task_requests(r->t, i, &q, err));
    slm2_status st = choice_score(r, s, &q, &m, err);
    if (st == SLM2_OK && r->t->kind == SLM2_TASK_WORD) {
        set_value(r, i, "acc", m.score[0].is_greedy);
        set_value(r, i, "perplexity", m.ll[0]);
    } else if (st == SLM2_OK) {
        set_value(r, i, "acc", (int)slm2_eval_pick(m.ll, NULL, m.n) == q.gold);
        set_value(r, i, "acc_norm", (int)slm2_eval_pick(m.ll, m.n_chars, m.n) == q.gold);
        set_value(r, i, "acc_bytes", (int)slm2_eval_pick(m.ll, m.n_bytes, m.n) == q.gold);
        set_value(r, i, "mc2", mc2(&q, m.ll));
    }
    if (st == SLM2_OK && r->samples) {
        json_t *requests = json_array(), *ll = json_array();
        for (int k = 0; k < q.n; k++) {
            json_array_append_new(requests, json_pack("[s%, s%]", q.v[k].context.v ? q.v[k].context.v : "", q.v[k].context.n, q.v[k].continuation.v ? q.v[k].continuation.v : "", q.v[k].continuation.n));
            json_array_append_new(ll, json_real(m.ll[k]));
        }
        json_array_append_new(r->samples, json_pack("{s:I, s:o, s:o, s:i, s:I, s:I}", "item", (json_int_t)i, "requests", requests, "loglikelihood", ll, "gold", q.gold, "pick",
                                                    (json_int_t)slm2_eval_pick(m.ll, NULL, m.n), "pick_norm", (json_int_t)slm2_eval_pick(m.ll, m.n_chars, m.n)));
    }
    choice_free(&m);
    slm2_requests_free(&q);
    return st;
}

static slm2_status run_choice(struct run *r, struct slm2_err *err)
{
    const struct slm2_eval_args *a = r->args;
    struct slm2_scorer *s;
    struct slm2_scorer_opts so = {.backend = a->backend, .isa = a->isa, .exact = a->exact, .n_threads = a->n_threads, .batch_tokens = a->batch_tokens, .prefix_id = -1};
    int32_t eos = slm2_tok_eos(a->tok);
    if (eos >= 0 && eos < a->model->cfg.vocab_size) so.prefix_id = eos;
    SLM2_TRY(slm2_scorer_new(&s, a->model, &so, err));
    slm2_status st = SLM2_OK;
    for (size_t i = 0; i < r->n && st == SLM2_OK; i++) {
        st = stopped(r, err);
        if (st == SLM2_OK) st = choice_item(r, s, i, err);
        slm2_progress(r->t->name, (double)(i + 1) / (double)r->n, "%zu of %zu", i + 1, r->n);
    }
    slm2_scorer_free(s);
    return st;
}

/* ---- generation ----------------------------------------------------------------------------------------------------------- */
struct generator {
    struct slm2_engine *engine;
    struct slm2_sampler *sampler;
    struct slm2_gen_opts opts;
    int32_t stop_ids[2];
};

static slm2_status generator_open(struct generator *g, const struct run *r, struct slm2_err *err)
{
    const struct slm2_eval_args *a = r->args;
    const struct slm2_task *t = r->t;
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    struct slm2_engine_setup setup = {.isa = a->isa, .backend = a->backend, .exact = a->exact, .kv_dtype = slm2_engine_kv_auto(a->model, a->exact)};
    struct slm2_sampler_opts greedy = slm2_sampler_opts_default();
    eo.n_threads = a->n_threads;
    greedy.temperature = 0;
    greedy.repetition_penalty = 1;
    *g = (struct generator){.opts = {.n_max = t->max_new, .n_stop = t->stop.n, .stop = (const char *const *)t->stop.items, .stop_ids = g->stop_ids, .interrupt = a->interrupt}};
    int32_t eos = slm2_tok_eos(a->tok), turn = -1;
    if (*t->chat) turn = slm2_chat_stop_id(a->tok, strcmp(t->chat, slm2_chat_names[SLM2_CHAT_CHATML]) == 0 ? SLM2_CHAT_CHATML : SLM2_CHAT_ZEPHYR);
    if (eos >= 0) g->stop_ids[g->opts.n_stop_ids++] = eos;
    if (turn >= 0 && turn != eos) g->stop_ids[g->opts.n_stop_ids++] = turn;
    if (t->max_new >= a->model->cfg.n_ctx) return slm2_fail(err, SLM2_EUSAGE, "%s: max_new %d leaves no room for the prompt in the model's context of %d", t->name, t->max_new, a->model->cfg.n_ctx);
    SLM2_TRY(slm2_engine_new_setup(&g->engine, a->model, &eo, &setup, err));
    return slm2_sampler_new(&g->sampler, slm2_min_int(a->model->cfg.vocab_size, slm2_tok_n_vocab(a->tok)), &greedy, err);
}

/* Filters the answer and compares: exact_match, contains, prefix_match. */
slm2_status slm2_eval_match(const struct slm2_task *t, const struct slm2_answer_filter *f, const char *text, size_t n, const json_t *answers, bool match[3], struct slm2_buf *filtered, struct slm2_err *err)
{
    struct slm2_buf gold = {0};
    slm2_status st = SLM2_OK;
    match[0] = match[1] = match[2] = false;
    slm2_buf_clear(filtered);
    slm2_buf_put(filtered, text, n);
    for (int i = 0; i < f->steps.n && st == SLM2_OK; i++) st = slm2_filter_apply(str_at(&f->steps, i), filtered, err);
    for (int i = 0; i < t->normalise.n && st == SLM2_OK; i++) st = slm2_filter_apply(str_at(&t->normalise, i), filtered, err);
    slm2_buf_puts(filtered, "");
    for (size_t k = 0; k < json_array_size(answers) && st == SLM2_OK; k++) {
        const json_t *a = json_array_get(answers, k);
        slm2_buf_clear(&gold);
        slm2_buf_put(&gold, json_string_value(a), json_string_length(a));
        for (int i = 0; i < t->normalise.n && st == SLM2_OK; i++) st = slm2_filter_apply(str_at(&t->normalise, i), &gold, err);
        if (st != SLM2_OK || (st = slm2_buf_check(&gold, err)) != SLM2_OK) break;
        bool prefix = filtered->n >= gold.n && memcmp(filtered->v, gold.v, gold.n) == 0;
        match[0] = match[0] || (prefix && filtered->n == gold.n);
        match[2] = match[2] || prefix;
        for (size_t at = 0; at + gold.n <= filtered->n && !match[1]; at++) match[1] = memcmp(filtered->v + at, gold.v, gold.n) == 0;
    }
    slm2_buf_free(&gold);
    return st == SLM2_OK ? slm2_buf_check(filtered, err) : st;
}

/* A JSON string; bytes that are not UTF-8 become '?'. */
static json_t *text_json(const struct slm2_buf *b)
{
    struct slm2_buf clean = {0};
    for (size_t at = 0; at < b->n;) {
        int32_t c;
        size_t len = slm2_utf8_next((const uint8_t *)b->v + at, b->n - at, &c);
        slm2_buf_put(&clean, c < 0 ? "?" : b->v + at, len);
        at += len;
    }
    json_t *j = json_stringn(clean.v ? clean.v : "", clean.n);
    slm2_buf_free(&clean);
    return j;
}

/* Every way from the text to an answer: values, and a sample for each. */
static slm2_status judge(struct run *r, size_t i, const struct slm2_requests *q, const struct slm2_buf *text, struct slm2_err *err)
{
    static const char *const names[] = {"exact_match", "contains", "prefix_match"};
    struct slm2_buf answer = {0};
    slm2_status st = SLM2_OK;
    for (int f = 0; f < r->t->filters.n && st == SLM2_OK; f++) {
        bool match[3];
        char name[SLM2_EVAL_NAME];
        st = slm2_eval_match(r->t, filter_at(r->t, f), text->v ? text->v : "", text->n, q->answers, match, &answer, err);
        for (int k = 0; k < 3 && st == SLM2_OK; k++) {
            name_metric(name, names[k], filter_at(r->t, f));
            set_value(r, i, name, match[k]);
        }
        if (st == SLM2_OK && r->samples)
            json_array_append_new(r->samples, json_pack("{s:I, s:s%, s:O, s:o, s:s, s:o, s:b}", "item", (json_int_t)i, "prompt", q->v[0].context.v ? q->v[0].context.v : "", q->v[0].context.n, "answers", q->answers,
                                                        "text", text_json(text), "filter", filter_at(r->t, f)->name, "filtered", text_json(&answer), "exact_match", match[0]));
    }
    slm2_buf_free(&answer);
    return st;
}

static slm2_status generate_item(struct run *r, struct generator *g, size_t i, struct slm2_err *err)
{
    struct slm2_ids context = {0}, none = {0};
    struct slm2_gen_result out = {0};
    struct slm2_requests q;
    SLM2_TRY(slm2_task_requests(r->t, i, &q, err));
    slm2_status st = slm2_request_encode(r->t, r->args->tok, &q.v[0], &context, &none, err);
    if (st == SLM2_OK && context.n == 0) st = slm2_ids_push(&context, r->args->model->cfg.eos_id, err);
    if (st != SLM2_OK) goto done;
    size_t room = (size_t)(r->args->model->cfg.n_ctx - r->t->max_new);
    if (context.n > room) { /* the end of the prompt matters most */
        memmove(context.v, context.v + (context.n - room), room * sizeof *context.v);
        context.n = room;
    }
    slm2_engine_rewind(g->engine, 0, 0);
    if ((st = slm2_generate(g->engine, 0, g->sampler, r->args->tok, &g->opts, &context, &out, err)) == SLM2_OK) st = judge(r, i, &q, &out.text, err);
done:
    slm2_buf_free(&out.text);
    slm2_ids_free(&context);
    slm2_ids_free(&none);
    slm2_requests_free(&q);
    return st;
}

static slm2_status run_generate(struct run *r, struct slm2_err *err)
{
    struct generator g;
    slm2_status st = generator_open(&g, r, err);
    for (size_t i = 0; i < r->n && st == SLM2_OK; i++) {
        st = stopped(r, err);
        if (st == SLM2_OK) st = generate_item(r, &g, i, err);
        slm2_progress(r->t->name, (double)(i + 1) / (double)r->n, "%zu of %zu", i + 1, r->n);
    }
    slm2_sampler_free(g.sampler);
    slm2_engine_free(g.engine);
    return st;
}

/* ---- perplexity ------------------------------------------------------------------------------------------------------------- */
static slm2_status put_ppl(struct run *r, const char *name, const struct slm2_ppl *p, struct slm2_err *err)
{
    for (int k = 0; k < r->n_metric; k++) {
        const char *m = r->metric[k];
        double v = strcmp(m, "bits_per_byte") == 0 ? slm2_ppl_bits_per_byte(p) : strcmp(m, "token_perplexity") == 0 ? slm2_ppl_token(p) : strcmp(m, "word_perplexity") == 0 ? slm2_ppl_word(p) : slm2_ppl_byte(p);
        double se = strcmp(m, "bits_per_byte") == 0 ? slm2_ppl_bits_stderr(p) : (double)NAN;
        SLM2_TRY(slm2_eval_put(r->result, &(struct slm2_eval_metric){.value = v, .stderr_ = se, .n = p->n_docs, .lower_is_better = true}, name, m, err));
    }
    return SLM2_OK;
}

static slm2_status run_perplexity(struct run *r, struct slm2_err *err)
{
    const struct slm2_eval_args *a = r->args;
    struct slm2_ppl_opts o = slm2_ppl_opts_default();
    o.backend = a->backend;
    o.isa = a->isa;
    o.n_threads = a->n_threads;
    o.n_ctx = r->t->n_ctx ? slm2_min_int(r->t->n_ctx, a->model->cfg.n_ctx) : 0;
    o.stride = r->t->stride;
    o.wikitext = strcmp(r->t->form, "wikitext") == 0;
    o.max_docs = a->limit;
    struct slm2_ppl_result *p = calloc(1, sizeof *p);
    if (!p) return slm2_fail(err, SLM2_ENOMEM, "no memory for the languages");
    slm2_status st = stopped(r, err);
    if (st == SLM2_OK) st = slm2_perplexity_files(a->model, a->tok, (const char *const *)r->t->data.items, r->t->data.n, &o, p, err);
    if (st == SLM2_OK) st = put_ppl(r, r->t->name, &p->all, err);
    for (int i = 0; i < p->n_lang && *r->t->group && st == SLM2_OK; i++) {
        char name[SLM2_EVAL_NAME];
        snprintf(name, sizeof name, "%.40s.%.20s", r->t->name, p->lang[i].lang);
        st = put_ppl(r, name, &p->lang[i].p, err);
    }
    if (st == SLM2_OK && r->samples) json_array_append_new(r->samples, slm2_ppl_result_json(p));
    free(p);
    return st;
}

/* ---- figures ----------------------------------------------------------------------------------------------------------------- */
/* The mean over the items whose group has this value (NULL: all), and its standard error. */
static slm2_status put_means(struct run *r, const char *group, struct slm2_err *err)
{
    char name[SLM2_EVAL_NAME];
    snprintf(name, sizeof name, group ? "%.40s.%.20s" : "%.40s", r->t->name, group);
    for (int k = 0; k < r->n_metric; k++) {
        double sum = 0, sq = 0, n = 0;
        for (int pass = 0; pass < 2; pass++) {
            double mean = pass ? sum / n : 0;
            for (size_t i = 0; i < r->n; i++) {
                const char *g = json_string_value(json_object_get(slm2_task_item(r->t, i), r->t->group));
                double v = r->value[i * (size_t)r->n_metric + (size_t)k];
                if (group && (!g || strcmp(g, group) != 0)) continue;
                if (pass) sq += (v - mean) * (v - mean);
                else {
                    sum += v;
                    n++;
                }
            }
        }
        struct slm2_eval_metric m = {.value = sum / n, .stderr_ = n > 1 ? sqrt(sq / (n - 1) / n) : (double)NAN, .n = (int64_t)n, .n_shot = r->t->n_shot};
        if (strcmp(r->metric[k], "perplexity") == 0) { /* of words: the values are their log-likelihoods */
            m.value = exp(-m.value);
            m.stderr_ = (double)NAN;
            m.lower_is_better = true;
        }
        SLM2_TRY(slm2_eval_put(r->result, &m, name, r->metric[k], err));
    }
    return SLM2_OK;
}

static slm2_status put_groups(struct run *r, struct slm2_err *err)
{
    slm2_status st = put_means(r, NULL, err);
    for (size_t i = 0; i < r->n && *r->t->group && st == SLM2_OK; i++) {
        const char *g = json_string_value(json_object_get(slm2_task_item(r->t, i), r->t->group));
        bool first = g != NULL;
        for (size_t k = 0; k < i && first; k++) {
            const char *other = json_string_value(json_object_get(slm2_task_item(r->t, k), r->t->group));
            first = !other || strcmp(other, g) != 0;
        }
        if (first) st = put_means(r, g, err);
    }
    return st;
}

static slm2_status run_task(const struct slm2_eval_args *a, const struct slm2_suite_task *which, struct slm2_eval_result *result, struct slm2_err *err)
{
    struct slm2_task t;
    SLM2_TRY(slm2_task_open(&t, which->path, &(struct slm2_task_opts){.data_dir = a->data_dir, .part = which->part, .n_shot = which->n_shot, .rules = which->rules, .limit = a->limit, .seed = a->seed}, err));
    struct run r = {.args = a, .t = &t, .result = result, .n = t.n};
    slm2_status st = SLM2_OK;
    int first = result->n;
    double start = slm2_now_s();
    choose_metrics(&r);
    r.value = calloc(r.n * (size_t)r.n_metric + 1, sizeof *r.value);
    r.samples = a->samples ? json_array() : NULL;
    if (!r.value) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %zu items", t.name, r.n);
    else if (t.kind == SLM2_TASK_PERPLEXITY) st = run_perplexity(&r, err);
    else {
        st = t.kind == SLM2_TASK_GENERATE ? run_generate(&r, err) : run_choice(&r, err);
        if (st == SLM2_OK) st = put_groups(&r, err);
    }
    slm2_progress_end();
    if (st == SLM2_OK) st = slm2_eval_record(a, &t, first, slm2_now_s() - start, r.samples, result, err);
    else slm2_wrap(err, st, "%s", which->path);
    free(r.value);
    json_decref(r.samples);
    slm2_task_free(&t);
    return st;
}

slm2_status slm2_eval(const struct slm2_eval_args *a, struct slm2_eval_result *result, struct slm2_err *err)
{
    struct slm2_suite suite = {0};
    *result = (struct slm2_eval_result){0};
    slm2_status st = slm2_eval_begin(a, result, err);
    if (st == SLM2_OK) st = slm2_suite_open(&suite, a->tasks, a->n_tasks, a->task_dir, a->n_shot < 0 ? 0 : a->n_shot > 0 ? a->n_shot : -1, err);
    for (int i = 0; i < suite.n_task && st == SLM2_OK; i++) st = run_task(a, &suite.task[i], result, err);
    slm2_suite_free(&suite);
    return st;
}
