/* harness.c - our results under the harness's names. */
#include "eval/harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/num.h"
#include "eval/metric.h"
#include "eval/report.h"
#include "eval/task.h"

/* "exact_match,strict-match" in its two parts; "acc" has the filter "none". */
static void split_metric(const char *metric, char name[SLM2_EVAL_NAME], const char **filter)
{
    size_t n = strcspn(metric, ",");
    snprintf(name, SLM2_EVAL_NAME, "%.*s", (int)n, metric);
    *filter = metric[n] ? metric + n + 1 : "none";
}

/* Since v0.4 TruthfulQA's mc2 is the "acc" of a task of its own. */
static void name_as_harness(const struct slm2_eval_result *r, const char *task, char name[SLM2_EVAL_NAME])
{
    char whole[SLM2_EVAL_NAME]; /* of a part */
    snprintf(whole, sizeof whole, "%.*s", (int)strcspn(task, "."), task);
    const char *rules = json_string_value(json_object_get(json_object_get(json_object_get(r->json, "configs"), whole), "rules"));
    if (strcmp(name, "mc2") != 0 || !rules || strcmp(rules, slm2_task_rules[SLM2_RULES_V04]) != 0) return;
    if (isnan(slm2_eval_figure(r, task, "acc", NULL))) snprintf(name, SLM2_EVAL_NAME, "acc");
}

static void put_metric(const struct slm2_eval_result *r, json_t *entry, json_t *better, const struct slm2_eval_metric *m)
{
    char name[SLM2_EVAL_NAME], key[3 * SLM2_EVAL_NAME];
    const char *filter;
    split_metric(m->metric, name, &filter);
    name_as_harness(r, m->task, name);
    snprintf(key, sizeof key, "%s,%s", name, filter);
    json_object_set_new(entry, key, slm2_json_real(m->value, "N/A"));
    snprintf(key, sizeof key, "%s_stderr,%s", name, filter);
    json_object_set_new(entry, key, slm2_json_real(m->stderr_, "N/A"));
    json_object_set_new(better, name, json_boolean(!m->lower_is_better));
}

/* The member of that name, a new object where there is none. */
static json_t *member(json_t *j, const char *name)
{
    if (!json_object_get(j, name)) json_object_set_new(j, name, json_object());
    return json_object_get(j, name);
}

/* results, groups, higher_is_better, n-samples */
static void put_figures(json_t *j, const struct slm2_eval_result *r)
{
    json_t *results = member(j, "results"), *groups = member(j, "groups"), *better = member(j, "higher_is_better"), *n_samples = member(j, "n-samples");
    for (int i = 0; i < r->n; i++) {
        const struct slm2_eval_metric *m = &r->v[i];
        json_t *entry = json_object_get(results, m->task);
        if (!entry) {
            entry = json_pack("{s:s, s:s, s:I}", "name", m->task, "alias", m->task, "sample_len", (json_int_t)m->n);
            json_object_set_new(results, m->task, entry);
        }
        put_metric(r, entry, member(better, m->task), m);
        if (m->is_group) {
            json_object_set(groups, m->task, entry);
            continue;
        }
        const json_t *all = json_object_get(json_object_get(json_object_get(r->json, "configs"), m->task), "n_items");
        json_object_set_new(n_samples, m->task, json_pack("{s:I, s:I}", "original", json_is_integer(all) ? json_integer_value(all) : (json_int_t)m->n, "effective", (json_int_t)m->n));
    }
}

/* What the harness says of a task that we do not call so. */
static json_t *configs(const struct slm2_eval_result *r)
{
    static const struct { const char *kind, *type; } types[] = {{"choice", "multiple_choice"}, {"word", "loglikelihood"}, {"generate", "generate_until"}, {"perplexity", "loglikelihood_rolling"}};
    json_t *all = json_deep_copy(json_object_get(r->json, "configs")), *task;
    const char *name;
    json_object_foreach(all, name, task)
    {
        const char *kind = json_string_value(json_object_get(task, "kind"));
        json_t *metrics = json_array();
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            if (kind && strcmp(kind, types[i].kind) == 0) json_object_set_new(task, "output_type", json_string(types[i].type));
        for (int i = 0; i < r->n; i++) {
            char metric[SLM2_EVAL_NAME];
            const char *filter;
            split_metric(r->v[i].metric, metric, &filter);
            if (strcmp(r->v[i].task, name) != 0) continue;
            name_as_harness(r, name, metric);
            bool sums = strstr(metric, "_perplexity") || strcmp(metric, "bits_per_byte") == 0;
            json_array_append_new(metrics, json_pack("{s:s, s:s, s:b}", "metric", metric, "aggregation", sums ? metric : strcmp(metric, "perplexity") == 0 ? "perplexity" : "mean", "higher_is_better", !r->v[i].lower_is_better));
        }
        json_object_set_new(task, "metric_list", metrics);
        json_object_set_new(task, "repeats", json_integer(1));
        json_object_set_new(task, "metadata", json_pack("{s:O}", "version", json_object_get(task, "version")));
    }
    return all;
}

/* Of each task with samples: SHA-256 over the hashes of its documents, prompts and targets. */
static json_t *task_hashes(const json_t *samples)
{
    static const char *const parts[] = {"doc_hash", "prompt_hash", "target_hash"};
    json_t *all = json_object(), *list, *one;
    const char *name;
    json_object_foreach((json_t *)(uintptr_t)samples, name, list)
    {
        struct slm2_buf text = {0};
        char hex[65];
        size_t i;
        json_array_foreach(list, i, one)
            for (size_t k = 0; k < 3; k++) {
                const char *hash = json_string_value(json_object_get(one, parts[k]));
                if (hash) slm2_buf_puts(&text, hash);
            }
        slm2_sha256_hex(text.v ? text.v : "", text.n, hex);
        json_object_set_new(all, name, json_string(hex));
        slm2_buf_free(&text);
    }
    return all;
}

/* The seed that all tasks drew their examples with; null when they differ (configs say each). */
static json_t *fewshot_seed(const struct slm2_eval_result *r)
{
    const json_t *seed = NULL, *task;
    const char *name;
    json_object_foreach(json_object_get(r->json, "configs"), name, task)
    {
        const json_t *own = json_object_get(task, "fewshot_seed");
        if (own && seed && !json_equal(own, seed)) return json_null();
        if (own) seed = own;
    }
    return seed ? json_deep_copy(seed) : json_null();
}

static json_t *config(const struct slm2_eval_result *r, const struct slm2_eval_args *a)
{
    const struct slm2_param *p = slm2_params_get(&a->model->params, SLM2_P_Q_W, 0);
    json_t *j = json_pack("{s:s, s:s, s:I, s:s, s:i, s:n, s:n}", "model", "slm2", "model_args", a->model_name ? a->model_name : "", "model_num_parameters", (json_int_t)a->model->params.n_elem, "model_dtype",
                          slm2_dtype_info[p->w.dtype].name, "batch_size", a->batch_tokens, "use_cache", "gen_kwargs");
    if (a->adapter && *a->adapter) json_object_set_new(j, "model_args", json_sprintf("%s,peft=%s", a->model_name ? a->model_name : "", a->adapter));
    json_object_set_new(j, "batch_sizes", json_array());
    json_object_set_new(j, "device", json_string(a->backend ? a->backend : "cpu"));
    json_object_set_new(j, "limit", a->limit > 0 ? slm2_eval_limit_json(a->limit) : json_null());
    json_object_set_new(j, "bootstrap_iters", json_integer(a->bootstrap_iters < 0 ? 0 : a->bootstrap_iters > 0 ? a->bootstrap_iters : SLM2_BOOTSTRAP_ITERS));
    static const struct { const char *key; int value; } seeds[] = {{"random_seed", 0}, {"numpy_seed", 1234}, {"torch_seed", 1234}};
    for (size_t i = 0; i < 3; i++) json_object_set_new(j, seeds[i].key, json_integer(seeds[i].value));
    json_object_set_new(j, "fewshot_seed", fewshot_seed(r));
    json_object_set_new(j, "exact", json_boolean(a->exact));
    return j;
}

json_t *slm2_harness_json(const struct slm2_eval_result *r, const struct slm2_eval_args *a)
{
    static const char *const same[] = {"group_subtasks", "versions", "n-shot"};
    json_t *j = json_object();
    char text[40];
    int32_t eos = slm2_tok_eos(a->tok);
    size_t n_eos = 0;
    const char *eos_text = eos >= 0 ? (const char *)slm2_tok_bytes(a->tok, eos, &n_eos) : NULL;
    put_figures(j, r);
    for (size_t i = 0; i < 3; i++) json_object_set(j, same[i], json_object_get(r->json, same[i]));
    json_object_set_new(j, "configs", configs(r));
    json_object_set_new(j, "config", config(r, a));
    json_object_set_new(j, "git_hash", json_null());
    json_object_set_new(j, "date", json_real((double)time(NULL)));
    json_object_set_new(j, "lm_eval_version", json_string("slm2 " SLM2_VERSION));
    json_object_set_new(j, "transformers_version", json_null());
    snprintf(text, sizeof text, "%d", (int)eos);
    static const char *const tokens[] = {"tokenizer_pad_token", "tokenizer_bos_token", "tokenizer_eos_token"}; /* of this family all three are one */
    for (size_t i = 0; i < 3; i++) json_object_set_new(j, tokens[i], eos_text ? json_pack("[s%, s]", eos_text, n_eos, text) : json_null());
    json_object_set_new(j, "eot_token_id", json_integer(eos));
    json_object_set_new(j, "max_length", json_integer(a->model->cfg.n_ctx));
    json_object_set_new(j, "task_hashes", r->samples ? task_hashes(r->samples) : json_object());
    json_object_set_new(j, "model_source", json_string("slm2"));
    json_object_set_new(j, "model_name", json_string(a->model_name ? a->model_name : ""));
    json_object_set_new(j, "chat_template", json_null());
    snprintf(text, sizeof text, "%.3f", r->seconds);
    json_object_set_new(j, "total_evaluation_time_seconds", json_string(text));
    return j;
}

static slm2_status write_samples(const json_t *list, const char *path, struct slm2_err *err)
{
    struct slm2_out *o;
    struct slm2_buf line = {0};
    const json_t *one;
    size_t i;
    SLM2_TRY(slm2_out_open(&o, path, err));
    json_array_foreach(list, i, one)
    {
        slm2_buf_clear(&line);
        slm2_json_dump(one, &line);
        slm2_buf_putc(&line, '\n');
        slm2_out_write(o, line.v, line.n);
    }
    slm2_status st = slm2_buf_check(&line, err);
    slm2_buf_free(&line);
    if (st == SLM2_OK) return slm2_out_commit(o, err);
    slm2_out_abort(o);
    return st;
}

slm2_status slm2_harness_write(const struct slm2_eval_result *r, const struct slm2_eval_args *a, const char *dir, char *path, size_t cap, struct slm2_err *err)
{
    char when[64], name[200];
    struct timespec now;
    struct tm t;
    json_t *list;
    const char *task;
    clock_gettime(CLOCK_REALTIME, &now);
    size_t n = localtime_r(&now.tv_sec, &t) ? strftime(when, sizeof when, "%Y-%m-%dT%H-%M-%S", &t) : 0;
    snprintf(when + n, sizeof when - n, ".%06ld", now.tv_nsec / 1000);
    SLM2_TRY(slm2_dir_make(dir, err));
    json_object_foreach(r->samples, task, list)
    {
        char file[4096];
        snprintf(name, sizeof name, "samples_%.100s_%s.jsonl", task, when);
        SLM2_TRY(slm2_path_join(file, sizeof file, dir, name, err));
        SLM2_TRY(write_samples(list, file, err));
    }
    snprintf(name, sizeof name, "results_%s.json", when);
    SLM2_TRY(slm2_path_join(path, cap, dir, name, err));
    json_t *j = slm2_harness_json(r, a);
    slm2_status st = j ? slm2_json_write(j, path, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the results");
    json_decref(j);
    return st;
}
