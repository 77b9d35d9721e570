/* show.c - requests and lists as text and as JSON lines. */
#include "eval/show.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "eval/task_impl.h"

static const char *text_of(const struct slm2_buf *b) { return b->v ? b->v : ""; }

/* What counts as right: a number, marks of all choices, or a text. */
static json_t *gold_of(const struct slm2_task *t, size_t i, const struct slm2_requests *r)
{
    const json_t *marks = slm2_template_lookup(slm2_task_item(t, i), t->gold, strcspn(t->gold, "|"));
    if (t->kind == SLM2_TASK_CHOICE) return json_is_array(marks) ? json_deep_copy(marks) : json_integer(r->gold);
    struct slm2_buf text = {0};
    slm2_buf_puts(&text, json_string_value(json_array_get(r->answers, 0)));
    for (int k = 0; k < t->normalise.n; k++)
        if (slm2_filter_apply(slm2_str_at(&t->normalise, k), &text, NULL) != SLM2_OK) text.failed = true;
    if (t->kind == SLM2_TASK_WORD && slm2_filter_apply("lstrip", &text, NULL) != SLM2_OK) text.failed = true;
    json_t *j = text.failed ? NULL : json_stringn(text_of(&text), text.n);
    slm2_buf_free(&text);
    return j;
}

static json_t *request_json(const struct slm2_task *t, const struct slm2_request *q)
{
    json_t *until = json_array();
    if (t->kind != SLM2_TASK_GENERATE) {
        json_decref(until);
        return json_pack("[s%, s%]", text_of(&q->context), q->context.n, text_of(&q->continuation), q->continuation.n);
    }
    for (int k = 0; k < t->stop.n; k++) json_array_append_new(until, json_string(slm2_str_at(&t->stop, k)));
    return json_pack("[s%, {s:o, s:i}]", text_of(&q->context), q->context.n, "until", until, "max_gen_toks", t->max_new);
}

json_t *slm2_show_item(const struct slm2_task *t, size_t i, const struct slm2_requests *r)
{
    json_t *shots = json_array(), *requests = json_array();
    for (int k = 0; k < t->n_shot; k++)
        if (r->shots[k] != SLM2_NO_SHOT) json_array_append_new(shots, json_integer(r->shots[k]));
    for (int k = 0; k < r->n; k++) json_array_append_new(requests, request_json(t, &r->v[k]));
    return json_pack("{s:s, s:I, s:o, s:o, s:o}", "task", t->name, "item", (json_int_t)t->order[i], "fewshot_pool_indices", shots, "requests", requests, "gold", gold_of(t, i, r));
}

static void put_text(const struct slm2_task *t, size_t i, const struct slm2_requests *r, struct slm2_buf *out)
{
    slm2_buf_printf(out, "---- %s, item %u, %d examples\n%s", t->name, t->order[i], t->n_shot, text_of(&r->v[0].context));
    for (int k = 0; k < r->n; k++) {
        const char *mark = t->kind == SLM2_TASK_CHOICE && r->v[k].is_true ? "*" : " ";
        if (t->kind == SLM2_TASK_GENERATE) slm2_buf_printf(out, "\n  right: %s", json_string_value(json_array_get(r->answers, 0)));
        else if (*t->contexts) slm2_buf_printf(out, "\n%s [...%.60s] + [%s]", mark, text_of(&r->v[k].context) + (r->v[k].context.n > 60 ? r->v[k].context.n - 60 : 0), text_of(&r->v[k].continuation));
        else slm2_buf_printf(out, "\n%s [%s]", mark, text_of(&r->v[k].continuation));
    }
    slm2_buf_putc(out, '\n');
}

static slm2_status show_task(const struct slm2_task *t, bool json, struct slm2_buf *out, struct slm2_err *err)
{
    if (t->kind == SLM2_TASK_PERPLEXITY) {
        if (!json) slm2_buf_printf(out, "---- %s: whole texts of %s\n", t->name, slm2_str_at(&t->data, 0));
        return slm2_buf_check(out, err);
    }
    for (size_t i = 0; i < t->n; i++) {
        struct slm2_requests r;
        SLM2_TRY(slm2_task_requests(t, i, &r, err));
        if (json) {
            json_t *j = slm2_show_item(t, i, &r);
            if (j) slm2_json_dump(j, out);
            else out->failed = true;
            slm2_buf_putc(out, '\n');
            json_decref(j);
        } else put_text(t, i, &r, out);
        slm2_requests_free(&r);
    }
    return slm2_buf_check(out, err);
}

slm2_status slm2_show(const struct slm2_suite *s, const char *data_dir, double limit, int64_t seed, bool json, struct slm2_buf *out, struct slm2_err *err)
{
    for (int i = 0; i < s->n_task; i++) {
        const struct slm2_suite_task *which = &s->task[i];
        struct slm2_task t;
        SLM2_TRY(slm2_task_open(&t, which->path, &(struct slm2_task_opts){.data_dir = data_dir, .part = which->part, .n_shot = which->n_shot, .rules = which->rules, .limit = limit, .seed = seed}, err));
        slm2_status st = show_task(&t, json, out, err);
        slm2_task_free(&t);
        SLM2_TRY(st);
    }
    return SLM2_OK;
}

/* ---- lists ---------------------------------------------------------------------------------------------------------------- */
static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_yaml(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && e->d_name[0] != '.' && strcmp(e->d_name + n - 4, ".yml") == 0;
}

static slm2_status list_task(const char *path, const char *name, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_task t;
    SLM2_TRY(slm2_task_define(&t, path, NULL, err));
    slm2_buf_printf(out, "%-20s %5d  ", name, t.n_shot);
    for (int i = 0; i < t.metrics.n; i++) slm2_buf_printf(out, "%s%s", i ? ", " : "", slm2_str_at(&t.metrics, i));
    slm2_buf_printf(out, "; %s", slm2_str_at(&t.data, 0));
    if (t.each.n) slm2_buf_printf(out, "; %d tasks %s", t.each.n, t.name);
    slm2_buf_putc(out, '\n');
    slm2_task_free(&t);
    return slm2_buf_check(out, err);
}

static slm2_status list_group(const char *name, const char *folder, struct slm2_buf *out, struct slm2_err *err)
{
    struct slm2_suite s;
    slm2_status st = slm2_suite_open(&s, &name, 1, folder, -1, err);
    if (st == SLM2_OK) slm2_buf_printf(out, "%-20s group  %s; %d tasks\n", name, s.group[s.n_group - 1].title, s.n_task);
    slm2_suite_free(&s);
    return st;
}

static slm2_status list_folder(const char *folder, bool groups, struct slm2_buf *out, struct slm2_err *err)
{
    char dir[4096], path[4096], name[256];
    struct dirent **list;
    if (snprintf(dir, sizeof dir, groups ? "%s/groups" : "%s", folder) >= (int)sizeof dir) return slm2_fail(err, SLM2_ELIMIT, "%.80s...: the path is too long", folder);
    int n = scandir(dir, &list, is_yaml, by_name);
    if (n < 0) return groups ? SLM2_OK : slm2_fail_errno(err, "%s", dir);
    slm2_status st = SLM2_OK;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%.*s", (int)strlen(list[i]->d_name) - 4, list[i]->d_name);
        if (st == SLM2_OK) st = slm2_path_join(path, sizeof path, dir, list[i]->d_name, err);
        if (st == SLM2_OK) st = groups ? list_group(name, folder, out, err) : list_task(path, name, out, err);
        free(list[i]);
    }
    free(list);
    return st;
}

slm2_status slm2_show_list(const char *folder, struct slm2_buf *out, struct slm2_err *err)
{
    if (!folder) folder = "configs/tasks";
    slm2_buf_printf(out, "%-20s %5s  %s\n", "name", "shots", "metrics; data");
    SLM2_TRY(list_folder(folder, true, out, err));
    SLM2_TRY(list_folder(folder, false, out, err));
    return slm2_buf_check(out, err);
}
