/* quant_eval.c - one pass over the text for all files, then the tasks model by model. */
#include "eval/quant_eval.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "eval/suite.h"

/* ---- size ------------------------------------------------------------------------------------------------------------------------ */
/* Of a file; of a folder its .safetensors. */
static slm2_status weight_bytes(const char *path, int64_t *bytes, struct slm2_err *err)
{
    struct stat info;
    *bytes = 0;
    if (stat(path, &info)) return slm2_fail_errno(err, "%s", path);
    if (!S_ISDIR(info.st_mode)) {
        *bytes = info.st_size;
        return SLM2_OK;
    }
    DIR *d = opendir(path);
    if (!d) return slm2_fail_errno(err, "%s", path);
    for (struct dirent *e; (e = readdir(d));)
        if (slm2_path_ends(e->d_name, ".safetensors") && fstatat(dirfd(d), e->d_name, &info, 0) == 0) *bytes += info.st_size;
    closedir(d);
    return SLM2_OK;
}

/* "a/b/model-q8_0.gguf" -> "model-q8_0.gguf", "runs/x/final/" -> "final" */
static json_t *name_json(const char *path)
{
    size_t n = strlen(path), at;
    while (n > 1 && path[n - 1] == '/') n--;
    for (at = n; at > 0 && path[at - 1] != '/';) at--;
    return json_stringn(path + at, n - at);
}

static slm2_status model_json(const char *path, const struct slm2_model *m, json_t **j, struct slm2_err *err)
{
    int64_t bytes;
    double bits = 0, n = 0;
    SLM2_TRY(weight_bytes(path, &bytes, err));
    for (int i = 0; i < m->params.n; i++) {
        const struct slm2_param *p = &m->params.v[i];
        if (!p->is_matrix) continue;
        bits += 8.0 * (double)slm2_mat_row_bytes(&p->w) * p->n_row;
        n += (double)p->n_row * p->n_col;
    }
    *j = json_pack("{s:o, s:I, s:f}", "file", name_json(path), "bytes", (json_int_t)bytes, "bits_per_weight", bits / n);
    return *j ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the result");
}

/* ---- tasks ----------------------------------------------------------------------------------------------------------------------- */
static slm2_status score(const struct slm2_quant_eval_args *a, const char *path, const struct slm2_model *m, bool exact, struct slm2_eval_result *r, struct slm2_err *err)
{
    struct slm2_eval_args e = {.model = m, .tok = a->tok, .model_name = path, .tasks = a->tasks, .n_tasks = a->n_tasks, .task_dir = a->task_dir, .data_dir = a->data_dir, .n_shot = -1, .limit = a->limit, .interrupt = a->text.interrupt, .backend = a->text.backend, .isa = a->text.isa, .exact = exact,
                               .n_threads = a->text.n_threads};
    slm2_status st = slm2_eval(&e, r, err);
    return st == SLM2_OK ? st : slm2_wrap(err, st, "%s", path);
}

/* The passes over the text take long: a task that is not there, or has no data, is found before them. */
static slm2_status check_tasks(const struct slm2_quant_eval_args *a, struct slm2_err *err)
{
    struct slm2_suite s = {0};
    slm2_status st = a->n_tasks ? slm2_suite_open(&s, a->tasks, a->n_tasks, a->task_dir, -1, err) : SLM2_OK;
    for (int i = 0; i < s.n_task && st == SLM2_OK; i++) {
        const struct slm2_suite_task *t = &s.task[i];
        struct slm2_task open;
        st = slm2_task_open(&open, t->path, &(struct slm2_task_opts){.data_dir = a->data_dir, .part = t->part, .n_shot = t->n_shot, .rules = t->rules, .limit = a->limit}, err);
        if (st == SLM2_OK) slm2_task_free(&open);
    }
    slm2_suite_free(&s);
    return st;
}

static json_t *tasks_json(const struct slm2_eval_result *original, const struct slm2_eval_result *r)
{
    json_t *tasks = json_object();
    for (int i = 0; i < r->n; i++) {
        const struct slm2_eval_metric *m = &r->v[i];
        double se, was = slm2_eval_figure(original, m->task, m->metric, &se);
        json_t *task = json_object_get(tasks, m->task);
        if (!task) json_object_set_new(tasks, m->task, task = json_object());
        json_object_set_new(task, m->metric, json_pack("{s:o, s:o, s:o, s:o}", "value", slm2_json_real(m->value, NULL), "original", slm2_json_real(was, NULL), "difference", slm2_json_real(m->value - was, NULL), "stderr", slm2_json_real(se, NULL)));
    }
    return tasks;
}

/* ---- all together ------------------------------------------------------------------------------------------------------------------ */
static slm2_status compare_all(const struct slm2_quant_eval_args *a, struct slm2_model *const *model, struct slm2_compare *c, struct slm2_err *err)
{
    struct slm2_compare_side side[SLM2_QUANT_EVAL_MAX];
    for (int i = 0; i < a->n_files; i++) side[i] = (struct slm2_compare_side){.m = model[i], .exact = a->text.exact};
    return slm2_compare_files(&(struct slm2_compare_side){.m = a->model, .exact = true}, side, a->n_files, a->tok, a->texts, a->n_texts, &a->text, c, err);
}

static slm2_status put_model(const struct slm2_quant_eval_args *a, int i, const struct slm2_model *m, const struct slm2_compare *c, const struct slm2_eval_result *original, json_t *models, struct slm2_err *err)
{
    struct slm2_eval_result r = {0};
    json_t *j = NULL, *compared;
    slm2_status st = model_json(a->files[i], m, &j, err);
    if (st == SLM2_OK && a->n_tasks) st = score(a, a->files[i], m, a->text.exact, &r, err);
    if (st == SLM2_OK) {
        json_object_update(j, compared = slm2_compare_json(c));
        json_decref(compared);
        json_object_set_new(j, "perplexity_ratio", slm2_json_real(exp((c->ref_sum_logprob - c->sum_logprob) / (double)c->n_tokens), NULL));
        if (a->n_tasks) json_object_set_new(j, "tasks", tasks_json(original, &r));
        if (json_array_append(models, j)) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the result");
    }
    slm2_eval_result_free(&r);
    json_decref(j);
    return st;
}

slm2_status slm2_quant_eval(const struct slm2_quant_eval_args *a, json_t **result, struct slm2_err *err)
{
    struct slm2_model *model[SLM2_QUANT_EVAL_MAX] = {0};
    struct slm2_compare c[SLM2_QUANT_EVAL_MAX];
    struct slm2_eval_result original = {0};
    json_t *first = NULL, *models = json_array();
    *result = NULL;
    slm2_status st = SLM2_OK;
    if (a->n_files < 1 || a->n_files > SLM2_QUANT_EVAL_MAX) st = slm2_fail(err, SLM2_EUSAGE, "%d files beside the original, want 1 to %d", a->n_files, SLM2_QUANT_EVAL_MAX);
    if (st == SLM2_OK) st = check_tasks(a, err);
    for (int i = 0; i < a->n_files && st == SLM2_OK; i++) st = slm2_model_open(&model[i], a->files[i], err);
    if (st == SLM2_OK) st = model_json(a->original, a->model, &first, err);
    if (st == SLM2_OK) st = compare_all(a, model, c, err);
    if (st == SLM2_OK && a->n_tasks) st = score(a, a->original, a->model, true, &original, err);
    for (int i = 0; i < a->n_files && st == SLM2_OK; i++) st = put_model(a, i, model[i], &c[i], &original, models, err);
    if (st == SLM2_OK) {
        json_object_set_new(first, "token_perplexity", slm2_json_real(exp(-c[0].ref_sum_logprob / (double)c[0].n_tokens), NULL));
        *result = json_pack("{s:O, s:I, s:I, s:i, s:i, s:O}", "original", first, "tokens", (json_int_t)c[0].n_tokens, "documents", (json_int_t)c[0].n_docs, "n_ctx", c[0].n_ctx, "stride", c[0].stride, "models", models);
        if (!*result) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the result");
    }
    slm2_eval_result_free(&original);
    json_decref(first);
    json_decref(models);
    for (int i = 0; i < SLM2_QUANT_EVAL_MAX; i++) slm2_model_free(model[i]);
    return st;
}

/* ---- table ------------------------------------------------------------------------------------------------------------------------ */
void slm2_quant_eval_table(const json_t *result, struct slm2_buf *out)
{
    const json_t *o = json_object_get(result, "original"), *models = json_object_get(result, "models");
    const char *task, *metric;
    json_t *m, *of_task, *v;
    size_t i;
    slm2_buf_printf(out, "%-28s %9s %8s %11s %9s %10s %10s %10s %10s %9s\n", "file", "MB", "bits/w", "perplexity", "change", "KL mean", "median", "99 %", "max", "same top");
    slm2_buf_printf(out, "%-28.28s %9.2f %8.3f %11.4f\n", slm2_json_show_text(o, "file"), slm2_json_show_number(o, "bytes") / 1e6, slm2_json_show_number(o, "bits_per_weight"), slm2_json_show_number(o, "token_perplexity"));
    json_array_foreach(models, i, m)
        slm2_buf_printf(out, "%-28.28s %9.2f %8.3f %11.4f %+8.3f%% %10.3e %10.3e %10.3e %10.3e %8.2f%%\n", slm2_json_show_text(m, "file"), slm2_json_show_number(m, "bytes") / 1e6, slm2_json_show_number(m, "bits_per_weight"), slm2_json_show_number(m, "token_perplexity"),
                        100 * (slm2_json_show_number(m, "perplexity_ratio") - 1), slm2_json_show_number(m, "kl"), slm2_json_show_number(m, "kl_median"), slm2_json_show_number(m, "kl_99"), slm2_json_show_number(m, "kl_max"), 100 * slm2_json_show_number(m, "top1_agreement"));
    slm2_buf_printf(out, "over %lld tokens in %lld documents; KL(original || file) in nats\n", (long long)slm2_json_show_number(result, "tokens"), (long long)slm2_json_show_number(result, "documents"));
    if (!json_object_get(json_array_get(models, 0), "tasks")) return;
    slm2_buf_printf(out, "\n%-28s %-20s %-16s %10s %10s %11s %9s\n", "file", "task", "metric", "original", "value", "difference", "stderr");
    json_array_foreach(models, i, m)
        json_object_foreach(json_object_get(m, "tasks"), task, of_task)
            json_object_foreach(of_task, metric, v) {
                slm2_buf_printf(out, "%-28.28s %-20.20s %-16.16s %10.4f %10.4f %+11.4f", slm2_json_show_text(m, "file"), task, metric, slm2_json_show_number(v, "original"), slm2_json_show_number(v, "value"), slm2_json_show_number(v, "difference"));
                if (isfinite(slm2_json_show_number(v, "stderr"))) slm2_buf_printf(out, " %9.4f", slm2_json_show_number(v, "stderr"));
                slm2_buf_putc(out, '\n');
            }
}
