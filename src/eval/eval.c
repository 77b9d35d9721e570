/* eval.c - runs tasks: answers to values of each item, these to figures with standard errors, those to the averages of groups. */
#include "eval/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/answers.h"
#include "eval/form.h"
#include "eval/metric.h"
#include "eval/report.h"
#include "eval/suite.h"

enum { MAX_METRICS = 16 };

struct run { /* of one task */
    const struct slm2_eval_args *args;
    const struct slm2_task *t;
    struct slm2_kept *kept;
    struct slm2_eval_result *result;
    struct slm2_answers answers;
    size_t n_cut;              /* of the answers' requests */
    int n_metric;
    char metric[MAX_METRICS][SLM2_EVAL_NAME]; /* "acc"; of a named filter "exact_match,strict-match" */
    size_t n;        /* items */
    double *value;   /* [n * n_metric] */
    json_t *samples; /* or NULL */
    size_t n_doc;    /* documents seen, also those without a token to predict */
};

static const char *str_at(const struct slm2_conf_list *l, int i) { return ((char **)l->items)[i]; }
static const struct slm2_answer_filter *filter_at(const struct slm2_task *t, int i) { return &((const struct slm2_answer_filter *)t->filters.items)[i]; }

static void name_metric(char out[SLM2_EVAL_NAME], const char *metric, const struct slm2_answer_filter *f)
{
    snprintf(out, SLM2_EVAL_NAME, f && *f->name ? "%s,%.40s" : "%s", metric, f ? f->name : "");
}

/* "TASK.PART" of a `group` field's value; part NULL: "TASK".  False: it does not fit. */
static bool name_part(char out[SLM2_EVAL_NAME], const char *task, const char *part)
{
    int n = snprintf(out, SLM2_EVAL_NAME, "%s%s%s", task, part ? "." : "", part ? part : "");
    return n > 0 && n < SLM2_EVAL_NAME;
}

/* A cut name would make two parts one. */
static slm2_status check_parts(const struct slm2_task *t, struct slm2_err *err)
{
    char name[SLM2_EVAL_NAME];
    for (size_t i = 0; i < t->n && *t->group; i++) {
        const char *part = json_string_value(json_object_get(slm2_task_item(t, i), t->group));
        if (part && !name_part(name, t->name, part))
            return slm2_fail(err, SLM2_EFORMAT, "%s: item %zu: group: \"%.40s...\" is %zu bytes long, want %zu at most; shorten the field's values or group by another", t->name, i, part, strlen(part), SLM2_EVAL_NAME - 2 - strlen(t->name));
    }
    return SLM2_OK;
}

static void choose_metrics(struct run *r)
{
    bool generates = r->t->kind == SLM2_TASK_GENERATE;
    for (int f = 0; f < (generates ? r->t->filters.n : 1); f++)
        for (int i = 0; i < r->t->metrics.n && r->n_metric < MAX_METRICS; i++) name_metric(r->metric[r->n_metric++], str_at(&r->t->metrics, i), generates ? filter_at(r->t, f) : NULL);
}

/* ---- values of an item ---------------------------------------------------------------------------------------------------- */
/* A sample of item i; f NULL: of log-likelihoods. */
static slm2_status put_sample(struct run *r, size_t i, const struct slm2_requests *q, const struct slm2_answer *v, const struct slm2_answer_filter *f, const struct slm2_buf *filtered, struct slm2_err *err)
{
    struct slm2_eval_sample s = {.t = r->t, .item = i, .q = q, .answer = v, .filter = f ? f->name : "", .filtered = filtered};
    if (!r->samples) return SLM2_OK;
    for (int k = 0; k < r->n_metric; k++) {
        const char *comma = strchr(r->metric[k], ',');
        if (f && strcmp(comma ? comma + 1 : "", f->name) != 0) continue;
        s.metric[s.n_metric] = r->metric[k];
        s.value[s.n_metric++] = r->value[i * (size_t)r->n_metric + (size_t)k];
    }
    json_t *j = slm2_eval_sample_json(&s);
    return j && !json_array_append_new(r->samples, j) ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the samples");
}

static void set_value(struct run *r, size_t item, const char *metric, double v)
{
    for (int k = 0; k < r->n_metric; k++)
        if (strcmp(r->metric[k], metric) == 0) r->value[item * (size_t)r->n_metric + (size_t)k] = v;
}

static slm2_status judge_choice(struct run *r, size_t i, const struct slm2_requests *q, const struct slm2_answer *v, struct slm2_err *err)
{
    size_t n = (size_t)q->n, *chars = calloc(2 * n + 1, sizeof *chars), *bytes = chars + n;
    double *ll = calloc(n + 1, sizeof *ll);
    bool *is_true = calloc(n + 1, sizeof *is_true);
    slm2_status st = chars && ll && is_true ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %zu answers", n);
    for (size_t k = 0; k < n && st == SLM2_OK; k++) {
        ll[k] = v[k].ll;
        chars[k] = q->v[k].n_chars;
        bytes[k] = q->v[k].n_bytes;
        is_true[k] = q->v[k].is_true;
    }
    if (st == SLM2_OK) {
        set_value(r, i, "acc", (int)slm2_eval_pick(ll, NULL, n) == q->gold);
        set_value(r, i, "acc_norm", (int)slm2_eval_pick(ll, chars, n) == q->gold);
        set_value(r, i, "acc_bytes", (int)slm2_eval_pick(ll, bytes, n) == q->gold);
        set_value(r, i, "mc1", (int)slm2_eval_pick(ll, NULL, n) == q->gold);
        set_value(r, i, "mc2", slm2_eval_mc2(ll, is_true, n));
        st = put_sample(r, i, q, v, NULL, NULL, err);
    }
    free(chars);
    free(ll);
    free(is_true);
    return st;
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

/* Every way from the text to an answer: values, and a sample for each. */
static slm2_status judge_text(struct run *r, size_t i, const struct slm2_requests *q, const struct slm2_answer *v, struct slm2_err *err)
{
    static const char *const names[] = {"exact_match", "contains", "prefix_match"};
    struct slm2_buf filtered = {0};
    slm2_status st = SLM2_OK;
    for (int f = 0; f < r->t->filters.n && st == SLM2_OK; f++) {
        bool match[3];
        char name[SLM2_EVAL_NAME];
        st = slm2_eval_match(r->t, filter_at(r->t, f), v->text, v->n_text, q->answers, match, &filtered, err);
        for (int k = 0; k < 3 && st == SLM2_OK; k++) {
            name_metric(name, names[k], filter_at(r->t, f));
            set_value(r, i, name, match[k]);
        }
        if (st == SLM2_OK) st = put_sample(r, i, q, v, filter_at(r->t, f), &filtered, err);
    }
    slm2_buf_free(&filtered);
    return st;
}

static slm2_status judge(struct run *r, size_t i, struct slm2_err *err)
{
    const struct slm2_answer *v = r->answers.v + r->answers.first[i];
    struct slm2_requests q;
    SLM2_TRY(slm2_task_requests(r->t, i, &q, err));
    slm2_status st = SLM2_OK;
    if (r->t->kind == SLM2_TASK_GENERATE) st = judge_text(r, i, &q, v, err);
    else if (r->t->kind == SLM2_TASK_CHOICE) st = judge_choice(r, i, &q, v, err);
    else {
        set_value(r, i, "acc", v->is_greedy);
        set_value(r, i, "perplexity", v->ll); /* of words: figures are made of their log-likelihoods */
        st = put_sample(r, i, &q, v, NULL, NULL, err);
    }
    slm2_requests_free(&q);
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

/* A sample of a document, with the text that was scored. */
static slm2_status put_document(void *user, const json_t *record, const char *text, size_t n, const struct slm2_ppl *one, struct slm2_err *err)
{
    struct run *r = user;
    struct slm2_buf scored = {0};
    size_t doc_id = r->n_doc++;
    if (one->n_docs == 0) return SLM2_OK;
    bool wikitext = strcmp(r->t->form, "wikitext") == 0;
    slm2_status st = wikitext ? slm2_form_wikitext(text, n, &scored, err) : SLM2_OK;
    if (st != SLM2_OK) return st;
    json_t *j = slm2_eval_document_json(r->t, doc_id, record, wikitext ? scored.v : text, wikitext ? scored.n : n, one);
    slm2_buf_free(&scored);
    return j && !json_array_append_new(r->samples, j) ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the samples");
}

static slm2_status run_perplexity(struct run *r, struct slm2_err *err)
{
    const struct slm2_eval_args *a = r->args;
    struct slm2_ppl_opts o = slm2_ppl_opts_default();
    o.backend = a->backend;
    o.isa = a->isa;
    o.exact = a->exact;
    o.n_threads = a->n_threads;
    o.n_ctx = r->t->n_ctx;
    o.stride = r->t->stride;
    o.wikitext = strcmp(r->t->form, "wikitext") == 0;
    if (a->limit > 0 && a->limit < 1) {
        SLM2_TRY(slm2_perplexity_count((const char *const *)r->t->data.items, r->t->data.n, &o, &o.max_docs, err));
        o.max_docs = (int64_t)ceil((double)o.max_docs * a->limit);
    } else o.max_docs = (int64_t)a->limit;
    o.kept = r->kept;
    o.interrupt = a->interrupt;
    o.on_doc = r->samples ? put_document : NULL;
    o.user = r;
    struct slm2_ppl_result *p = calloc(1, sizeof *p);
    if (!p) return slm2_fail(err, SLM2_ENOMEM, "no memory for the languages");
    slm2_status st = slm2_perplexity_files(a->model, a->tok, (const char *const *)r->t->data.items, r->t->data.n, &o, p, err);
    if (st == SLM2_OK) st = put_ppl(r, r->t->name, &p->all, err);
    for (int i = 0; i < p->n_lang && *r->t->group && st == SLM2_OK; i++) {
        char name[SLM2_EVAL_NAME];
        name_part(name, r->t->name, p->lang[i].lang);
        st = put_ppl(r, name, &p->lang[i].p, err);
    }
    free(p);
    return st;
}

/* ---- figures ----------------------------------------------------------------------------------------------------------------- */
static slm2_status put_figure(struct run *r, const char *name, const char *metric, const double *v, size_t n, struct slm2_err *err)
{
    struct slm2_eval_metric m = {.value = slm2_eval_mean(v, n), .stderr_ = slm2_eval_stderr(v, n), .n = (int64_t)n, .n_shot = r->t->n_shot};
    if (strcmp(metric, "perplexity") == 0) {
        int iters = r->args->bootstrap_iters < 0 ? 0 : r->args->bootstrap_iters > 0 ? r->args->bootstrap_iters : SLM2_BOOTSTRAP_ITERS;
        m.value = slm2_eval_perplexity(v, n);
        m.lower_is_better = true;
        SLM2_TRY(slm2_eval_perplexity_stderr(v, n, iters, r->args->n_threads, &m.stderr_, err));
    }
    return slm2_eval_put(r->result, &m, name, metric, err);
}

static const char *part_of(const struct run *r, size_t i) { return json_string_value(json_object_get(slm2_task_item(r->t, i), r->t->group)); }

/* Every metric over the items whose `group` field has this value (NULL: all). */
static slm2_status put_means(struct run *r, const char *part, struct slm2_err *err)
{
    char name[SLM2_EVAL_NAME];
    name_part(name, r->t->name, part);
    double *v = calloc(r->n + 1, sizeof *v);
    slm2_status st = v ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %zu values", r->n);
    for (int k = 0; k < r->n_metric && st == SLM2_OK; k++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n; i++) {
            const char *p = part ? part_of(r, i) : NULL;
            if (!part || (p && strcmp(p, part) == 0)) v[n++] = r->value[i * (size_t)r->n_metric + (size_t)k];
        }
        st = put_figure(r, name, r->metric[k], v, n, err);
    }
    free(v);
    return st;
}

static slm2_status put_parts(struct run *r, struct slm2_err *err)
{
    slm2_status st = put_means(r, NULL, err);
    for (size_t i = 0; i < r->n && *r->t->group && st == SLM2_OK; i++) {
        const char *p = part_of(r, i);
        bool first = p != NULL;
        for (size_t k = 0; k < i && first; k++) {
            const char *other = part_of(r, k);
            first = !other || strcmp(other, p) != 0;
        }
        if (first) st = put_means(r, p, err);
    }
    return st;
}

static slm2_status run_items(struct run *r, struct slm2_err *err)
{
    slm2_status st = slm2_answers_get(&r->answers, r->args, r->t, r->kept, err);
    for (size_t i = 0; i < r->n && st == SLM2_OK; i++) st = judge(r, i, err);
    if (st == SLM2_OK) st = put_parts(r, err);
    r->n_cut = r->answers.n_cut;
    r->result->n_asked += (int64_t)r->answers.n;
    r->result->n_kept += (int64_t)r->answers.n_kept;
    r->result->work.n_passes += r->answers.work.n_passes;
    r->result->work.n_tokens += r->answers.work.n_tokens;
    r->result->work.n_asked += r->answers.work.n_asked;
    slm2_answers_free(&r->answers);
    return st;
}

/* Opens a task as this model can do it. */
static slm2_status open_task(const struct slm2_eval_args *a, const struct slm2_suite_task *which, struct slm2_task *t, int *wanted_new, struct slm2_err *err)
{
    SLM2_TRY(slm2_task_open(t, which->path, &(struct slm2_task_opts){.data_dir = a->data_dir, .part = which->part, .n_shot = which->n_shot, .rules = which->rules, .limit = a->limit, .seed = a->seed}, err));
    *wanted_new = t->max_new;
    t->max_new = slm2_min_int(t->max_new, slm2_max_int(a->model->cfg.n_ctx / 2, 1)); /* the prompt needs room, too */
    t->n_ctx = slm2_min_int(t->n_ctx < 0 ? a->model->cfg.n_ctx : t->n_ctx ? t->n_ctx : 2048, a->model->cfg.n_ctx); /* 0 as in perplexity.h */
    slm2_status st = check_parts(t, err);
    if (st != SLM2_OK) slm2_task_free(t);
    return st;
}

/* What would fail a task fails before the first is computed. */
static slm2_status check_task(const struct slm2_eval_args *a, const struct slm2_suite_task *which, struct slm2_err *err)
{
    struct slm2_task t;
    int wanted_new;
    if (a->interrupt && *a->interrupt) return slm2_fail(err, SLM2_ESTOP, "%s: stopped", which->name);
    SLM2_TRY(open_task(a, which, &t, &wanted_new, err));
    slm2_task_free(&t);
    return SLM2_OK;
}

static slm2_status run_task(const struct slm2_eval_args *a, const struct slm2_suite_task *which, const json_t *key, struct slm2_eval_result *result, struct slm2_err *err)
{
    struct slm2_task t;
    if (a->interrupt && *a->interrupt) return slm2_fail(err, SLM2_ESTOP, "%s: stopped", which->name);
    int wanted_new;
    SLM2_TRY(open_task(a, which, &t, &wanted_new, err));
    if (t.kind == SLM2_TASK_GENERATE && wanted_new > t.max_new)
        slm2_log(SLM2_WARN, "%s: answers of up to %d tokens instead of %d: half of the model's context of %d is for the prompt", t.name, t.max_new, wanted_new, a->model->cfg.n_ctx);
    struct run r = {.args = a, .t = &t, .result = result, .n = t.n};
    slm2_status st = SLM2_OK;
    int first = result->n;
    double start = slm2_now_s();
    choose_metrics(&r);
    r.value = calloc(r.n * (size_t)r.n_metric + 1, sizeof *r.value);
    r.samples = a->samples ? json_array() : NULL;
    if (!r.value) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory for %zu items", t.name, r.n);
    if (st == SLM2_OK && key) st = slm2_kept_open(&r.kept, a->keep, t.name, key, err);
    if (st == SLM2_OK) st = t.kind == SLM2_TASK_PERPLEXITY ? run_perplexity(&r, err) : run_items(&r, err);
    slm2_progress_end();
    if (st == SLM2_OK) st = slm2_eval_record(a, &t, first, slm2_now_s() - start, r.n_cut, r.samples, result, err);
    else slm2_wrap(err, st, "%s", which->path);
    slm2_kept_close(r.kept);
    free(r.value);
    json_decref(r.samples);
    slm2_task_free(&t);
    return st;
}

/* ---- groups -------------------------------------------------------------------------------------------------------------------- */
static const struct slm2_eval_metric *find(const struct slm2_eval_result *r, const char *task, const char *metric)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->v[i].task, task) == 0 && (!*metric || strcmp(r->v[i].metric, metric) == 0)) return &r->v[i];
    return NULL;
}

struct members { double value[512], se[512], n[512]; size_t k; char metric[SLM2_EVAL_NAME]; bool lower, mixed; };

/* The figures that a group averages; deep: those of the tasks below its member groups. */
static slm2_status collect(const struct slm2_suite *s, const struct slm2_suite_group *g, bool deep, const struct slm2_eval_result *r, struct members *m, struct slm2_err *err)
{
    for (int i = 0; i < g->n; i++) {
        const struct slm2_suite_member *x = &g->member[i];
        if (x->is_group && deep) {
            SLM2_TRY(collect(s, &s->group[x->index], true, r, m, err));
            continue;
        }
        const char *name = x->is_group ? s->group[x->index].name : s->task[x->index].name;
        const struct slm2_eval_metric *f = find(r, name, x->metric);
        if (!f) return slm2_fail(err, SLM2_EFORMAT, "group %s: %s has no figure \"%s\"", g->name, name, x->metric);
        if (m->k == sizeof m->value / sizeof m->value[0]) return slm2_fail(err, SLM2_ELIMIT, "group %s: more than %zu members", g->name, m->k);
        if (m->k == 0) snprintf(m->metric, sizeof m->metric, "%s", f->metric);
        else if (strcmp(m->metric, f->metric) != 0) snprintf(m->metric, sizeof m->metric, "average");
        if (m->k == 0) m->lower = f->lower_is_better;
        m->mixed = m->mixed || m->lower != f->lower_is_better;
        m->value[m->k] = f->value;
        m->se[m->k] = f->stderr_;
        m->n[m->k++] = (double)f->n;
    }
    return SLM2_OK;
}

static slm2_status put_group(const struct slm2_suite *s, const struct slm2_suite_group *g, struct slm2_eval_result *r, struct slm2_err *err)
{
    struct members m = {.k = 0};
    bool by_items = g->average == SLM2_AVERAGE_ITEMS;
    SLM2_TRY(collect(s, g, by_items, r, &m, err));
    if (m.k == 0 || m.mixed) return SLM2_OK; /* an accuracy and a perplexity have no mean */
    double sum = 0, n = 0;
    for (size_t i = 0; i < m.k; i++) {
        sum += by_items ? m.value[i] * m.n[i] : m.value[i];
        n += m.n[i];
    }
    struct slm2_eval_metric f = {.value = sum / (by_items ? n : (double)m.k), .stderr_ = by_items ? slm2_eval_pooled_stderr(m.se, m.n, m.k) : slm2_eval_mean_stderr(m.se, m.k),
                                 .n = (int64_t)n, .n_shot = -1, .lower_is_better = m.lower, .is_group = true};
    return slm2_eval_put(r, &f, g->name, m.metric, err);
}

/* ---- all --------------------------------------------------------------------------------------------------------------------------- */
/* What, besides a request, decides the bits of its answer. */
static slm2_status key_of(const struct slm2_eval_args *a, json_t **key, struct slm2_err *err)
{
    char hex[65], tok_hex[65];
    struct slm2_ctx c;
    SLM2_TRY(slm2_model_key(a->model, hex, err));
    SLM2_TRY(slm2_tok_hash(a->tok, tok_hex, err));
    SLM2_TRY(slm2_ctx_init(&c, &(struct slm2_ctx_opts){.backend = a->backend, .isa = a->isa, .n_threads = 1, .exact = a->exact}, err));
    *key = json_pack("{s:s, s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:s}", "model", hex, "tokenizer", tok_hex, "backend", c.ops->name, "isa", c.k->variant, "exact", a->exact, "n_ctx", a->model->cfg.n_ctx, "eos", slm2_tok_eos(a->tok), "eval_version",
                     SLM2_EVAL_VERSION, "program", SLM2_VERSION);
    slm2_ctx_free(&c);
    return *key ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the key of the answers");
}

slm2_status slm2_eval(const struct slm2_eval_args *a, struct slm2_eval_result *result, struct slm2_err *err)
{
    struct slm2_suite suite = {0};
    json_t *key = NULL;
    double start = slm2_now_s();
    *result = (struct slm2_eval_result){0};
    slm2_status st = slm2_eval_begin(a, result, err);
    if (st == SLM2_OK) st = slm2_suite_open(&suite, a->tasks, a->n_tasks, a->task_dir, a->n_shot, err);
    if (st == SLM2_OK && a->keep) st = key_of(a, &key, err);
    for (int i = 0; i < suite.n_task && suite.n_task > 1 && st == SLM2_OK; i++) {
        st = check_task(a, &suite.task[i], err);
        slm2_progress("checking the tasks", (double)(i + 1) / suite.n_task, "%s", suite.task[i].name);
    }
    slm2_progress_end();
    for (int i = 0; i < suite.n_task && st == SLM2_OK; i++) st = run_task(a, &suite.task[i], key, result, err);
    int first = result->n;
    for (int i = 0; i < suite.n_group && st == SLM2_OK; i++) st = put_group(&suite, &suite.group[i], result, err);
    result->seconds = slm2_now_s() - start;
    if (st == SLM2_OK) st = slm2_eval_record_groups(a, &suite, first, result, err);
    slm2_suite_free(&suite);
    json_decref(key);
    return st;
}
