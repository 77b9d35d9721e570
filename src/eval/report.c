/* report.c - what evaluation hands out: figures, the JSON of the harness's form, a table, the ledger. */
#include "eval/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* ---- figures --------------------------------------------------------------------------------------------------------------- */
slm2_status slm2_eval_put(struct slm2_eval_result *r, const struct slm2_eval_metric *m, const char *task, const char *metric, struct slm2_err *err)
{
    struct slm2_eval_metric *v = realloc(r->v, sizeof *v * ((size_t)r->n + 1));
    if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for the figures");
    r->v = v;
    v[r->n] = *m;
    snprintf(v[r->n].task, sizeof v->task, "%s", task);
    snprintf(v[r->n].metric, sizeof v->metric, "%s", metric);
    r->n++;
    return SLM2_OK;
}

double slm2_eval_figure(const struct slm2_eval_result *r, const char *task, const char *metric, double *stderr_)
{
    for (int i = 0; i < r->n; i++) {
        if ((task && strcmp(r->v[i].task, task) != 0) || (metric && strcmp(r->v[i].metric, metric) != 0)) continue;
        if (stderr_) *stderr_ = r->v[i].stderr_;
        return r->v[i].value;
    }
    if (stderr_) *stderr_ = (double)NAN;
    return (double)NAN;
}

void slm2_eval_result_free(struct slm2_eval_result *r)
{
    free(r->v);
    json_decref(r->json);
    json_decref(r->samples);
    *r = (struct slm2_eval_result){0};
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------------- */
json_t *slm2_eval_limit_json(double limit) { return limit > 0 && limit < 1 ? json_real(limit) : json_integer((json_int_t)limit); }

slm2_status slm2_eval_begin(const struct slm2_eval_args *a, struct slm2_eval_result *r, struct slm2_err *err)
{
    static const char *const parts[] = {"results", "groups", "group_subtasks", "versions", "n-shot", "n-samples", "higher_is_better", "configs"};
    r->json = json_object();
    r->samples = a->samples ? json_object() : NULL;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) json_object_set_new(r->json, parts[i], json_object());
    json_t *config = json_pack("{s:s, s:s, s:i, s:o, s:o, s:I, s:i}", "model", a->model_name ? a->model_name : "", "program", "slm2 " SLM2_VERSION, "eval_version", SLM2_EVAL_VERSION, "limit",
                               slm2_eval_limit_json(a->limit), "n_shot", a->n_shot < 0 ? json_null() : json_integer(a->n_shot), "seed", (json_int_t)a->seed, "n_ctx", a->model->cfg.n_ctx);
    if (config && a->adapter && *a->adapter) json_object_set_new(config, "adapter", json_string(a->adapter));
    if (!config || json_object_set_new(r->json, "config", config)) return slm2_fail(err, SLM2_ENOMEM, "no memory for the result");
    return SLM2_OK;
}

static json_t *strings_json(const struct slm2_conf_list *l)
{
    json_t *list = json_array();
    for (int i = 0; i < l->n; i++) json_array_append_new(list, json_string(((char **)l->items)[i]));
    return list;
}

static json_t *filters_json(const struct slm2_task *t)
{
    json_t *list = json_array();
    for (int i = 0; i < t->filters.n; i++) {
        const struct slm2_answer_filter *f = &((const struct slm2_answer_filter *)t->filters.items)[i];
        json_array_append_new(list, json_pack("{s:s, s:o}", "name", f->name, "steps", strings_json(&f->steps)));
    }
    return list;
}

static json_t *task_json(const struct slm2_eval_args *a, const struct slm2_task *t, double seconds, size_t n_cut)
{
    json_t *j = json_pack("{s:s, s:s, s:i, s:o, s:i, s:s, s:I, s:f}", "task", t->name, "kind", slm2_task_kinds[t->kind], "version", t->version, "data", strings_json(&t->data), "num_fewshot", t->n_shot, "rules",
                          slm2_task_rules[t->rules], "seed", (json_int_t)t->seed, "seconds", seconds);
    bool asks = t->kind != SLM2_TASK_PERPLEXITY;
    const struct { const char *key, *value; } texts[] = {{"doc_to_text", t->prompt}, {"description", t->description}, {"doc_to_target", !asks ? "" : t->kind == SLM2_TASK_WORD ? t->target : t->gold},
                                                         {"target_delimiter", t->delimiter}, {"fewshot_delimiter", asks ? t->separator : ""}, {"chat_template", t->chat}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (*texts[i].value) json_object_set_new(j, texts[i].key, json_string(texts[i].value));
    if (t->kind == SLM2_TASK_CHOICE) json_object_set_new(j, "doc_to_choice", *t->contexts ? json_string(t->contexts) : t->choices.n == 1 ? json_string(*(char **)t->choices.items) : strings_json(&t->choices));
    if (t->items) json_object_set_new(j, "n_items", json_integer((json_int_t)json_array_size(t->items)));
    if (t->kind == SLM2_TASK_PERPLEXITY) {
        json_object_set_new(j, "n_ctx", json_integer(t->n_ctx));
        json_object_set_new(j, "stride", json_integer(t->stride));
    } else {
        json_object_set_new(j, "truncated", json_integer((json_int_t)n_cut));
        json_object_set_new(j, "fewshot_seed", json_integer((json_int_t)slm2_task_draw_seed(t, a->seed)));
    }
    if (t->n_skipped) json_object_set_new(j, "skipped", json_integer((json_int_t)t->n_skipped));
    if (t->kind != SLM2_TASK_GENERATE) return j;
    json_object_set_new(j, "until", strings_json(&t->stop));
    json_object_set_new(j, "filters", filters_json(t));
    json_object_set_new(j, "normalise", strings_json(&t->normalise));
    json_object_set_new(j, "max_gen_toks", json_integer(t->max_new));
    return j;
}

/* A figure and its error, into an entry of the results and into the ledger. */
static void put_figure(const struct slm2_eval_args *a, json_t *entry, const struct slm2_eval_metric *m)
{
    char key[4 * SLM2_EVAL_NAME];
    json_object_set_new(entry, m->metric, slm2_json_real(m->value, "N/A"));
    snprintf(key, sizeof key, "%s_stderr", m->metric);
    json_object_set_new(entry, key, slm2_json_real(m->stderr_, "N/A"));
    if (!a->ledger) return;
    const char *prefix = a->prefix ? a->prefix : "";
    snprintf(key, sizeof key, "%.40seval.%s.%s", prefix, m->task, m->metric);
    if (isfinite(m->value)) slm2_ledger_figure(a->ledger, key, m->value);
    snprintf(key, sizeof key, "%.40seval.%s.%s_stderr", prefix, m->task, m->metric);
    if (isfinite(m->stderr_)) slm2_ledger_figure(a->ledger, key, m->stderr_);
}

slm2_status slm2_eval_record(const struct slm2_eval_args *a, const struct slm2_task *t, int first, double seconds, size_t n_cut, json_t *samples, struct slm2_eval_result *r, struct slm2_err *err)
{
    json_t *results = json_object_get(r->json, "results");
    for (int i = first; i < r->n; i++) {
        const struct slm2_eval_metric *m = &r->v[i];
        json_t *task = json_object_get(results, m->task);
        if (!task) {
            task = json_pack("{s:s}", "alias", m->task);
            json_object_set_new(results, m->task, task);
            json_object_set_new(json_object_get(r->json, "versions"), m->task, json_integer(t->version));
            json_object_set_new(json_object_get(r->json, "n-shot"), m->task, json_integer(t->n_shot));
            json_object_set_new(json_object_get(r->json, "n-samples"), m->task, json_integer(m->n));
            json_object_set_new(json_object_get(r->json, "higher_is_better"), m->task, json_object());
        }
        put_figure(a, task, m);
        json_object_set_new(json_object_get(json_object_get(r->json, "higher_is_better"), m->task), m->metric, json_boolean(!m->lower_is_better));
    }
    if (samples && json_object_set(r->samples, t->name, samples)) return slm2_fail(err, SLM2_ENOMEM, "no memory for the samples");
    json_t *config = task_json(a, t, seconds, n_cut);
    if (!config || json_object_set_new(json_object_get(r->json, "configs"), t->name, config)) return slm2_fail(err, SLM2_ENOMEM, "no memory for the result");
    return SLM2_OK;
}

static json_t *names_of(const struct slm2_suite *s, const char *group)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n_group; i++)
        for (int k = 0; strcmp(s->group[i].name, group) == 0 && k < s->group[i].n; k++) {
            const struct slm2_suite_member *m = &s->group[i].member[k];
            json_array_append_new(list, json_string(m->is_group ? s->group[m->index].name : s->task[m->index].name));
        }
    return list;
}

slm2_status slm2_eval_record_groups(const struct slm2_eval_args *a, const struct slm2_suite *s, int first, struct slm2_eval_result *r, struct slm2_err *err)
{
    for (int i = first; i < r->n; i++) {
        const struct slm2_eval_metric *m = &r->v[i];
        json_t *entry = json_pack("{s:s}", "alias", m->task);
        if (!entry) return slm2_fail(err, SLM2_ENOMEM, "no memory for the result");
        put_figure(a, entry, m);
        json_object_set(json_object_get(r->json, "results"), m->task, entry);
        json_object_set_new(json_object_get(r->json, "groups"), m->task, entry);
        json_object_set_new(json_object_get(r->json, "group_subtasks"), m->task, names_of(s, m->task));
        json_object_set_new(json_object_get(r->json, "n-samples"), m->task, json_integer(m->n));
    }
    json_object_set_new(r->json, "seconds", json_real(r->seconds));
    json_object_set_new(r->json, "requests", json_pack("{s:I, s:I, s:I, s:I, s:I}", "all", (json_int_t)r->n_asked, "kept", (json_int_t)r->n_kept, "passes", (json_int_t)r->work.n_passes, "tokens_asked",
                                                       (json_int_t)r->work.n_asked, "tokens_computed", (json_int_t)r->work.n_tokens));
    return SLM2_OK;
}

/* ---- table ------------------------------------------------------------------------------------------------------------------- */
void slm2_eval_table(const struct slm2_eval_result *r, struct slm2_buf *out)
{
    int task = 4, metric = 6;
    for (int i = 0; i < r->n; i++) {
        task = (int)strlen(r->v[i].task) > task ? (int)strlen(r->v[i].task) : task;
        metric = (int)strlen(r->v[i].metric) > metric ? (int)strlen(r->v[i].metric) : metric;
    }
    slm2_buf_printf(out, "%-*s  %5s  %6s  %-*s  %12s    %s\n", task, "task", "shots", "items", metric, "metric", "value", "stderr");
    for (int i = 0; i < r->n; i++) {
        const struct slm2_eval_metric *m = &r->v[i];
        bool same = i > 0 && strcmp(m->task, r->v[i - 1].task) == 0;
        if (same) slm2_buf_printf(out, "%-*s  %5s  %6s", task, "", "", "");
        else if (m->is_group) slm2_buf_printf(out, "%-*s  %5s  %6lld", task, m->task, "", (long long)m->n);
        else slm2_buf_printf(out, "%-*s  %5d  %6lld", task, m->task, m->n_shot, (long long)m->n);
        slm2_buf_printf(out, "  %-*s  %12.*f", metric, m->metric, m->value < 1e6 ? 4 : 0, m->value);
        if (isfinite(m->stderr_)) slm2_buf_printf(out, "  ± %.4f", m->stderr_);
        slm2_buf_putc(out, '\n');
    }
}
