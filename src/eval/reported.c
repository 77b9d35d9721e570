/* reported.c - reads the published tables and writes both beside each other. */
#include "eval/reported.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

/* ---- reading -------------------------------------------------------------------------------------------------------------- */
static bool numbers(const json_t *list, size_t n, bool null_too)
{
    size_t i;
    const json_t *v;
    if (json_array_size(list) != n) return false;
    json_array_foreach(list, i, v)
        if (!json_is_number(v) && !(null_too && json_is_null(v))) return false;
    return true;
}

static slm2_status check_table(const json_t *t, const char *path, size_t at, struct slm2_err *err)
{
    const json_t *columns = json_object_get(t, "columns"), *rows = json_object_get(t, "rows"), *x;
    size_t i, n = json_array_size(columns);
    if (!*slm2_json_str(t, "group") || n == 0 || !json_is_array(rows)) return slm2_fail(err, SLM2_EFORMAT, "%s: table %zu: want \"group\", \"columns\" and \"rows\"", path, at);
    json_array_foreach(columns, i, x)
        if (!*slm2_json_str(x, "title") || !*slm2_json_str(x, "task") || !*slm2_json_str(x, "metric")) return slm2_fail(err, SLM2_EFORMAT, "%s: %s: column %zu: want \"title\", \"task\" and \"metric\"", path, slm2_json_str(t, "group"), i);
    json_array_foreach(rows, i, x)
    {
        const json_t *se = json_object_get(x, "stderr");
        if (!*slm2_json_str(x, "model") || !numbers(json_object_get(x, "values"), n, false) || (se && !numbers(se, n, true)))
            return slm2_fail(err, SLM2_EFORMAT, "%s: %s: row %zu: want \"model\" and %zu numbers in \"values\", as many in \"stderr\" if it is there", path, slm2_json_str(t, "group"), i, n);
    }
    return SLM2_OK;
}

slm2_status slm2_reported_read(json_t **tables, const char *path, struct slm2_err *err)
{
    json_t *j = NULL;
    const json_t *t;
    size_t i;
    *tables = NULL;
    SLM2_TRY(slm2_json_read(&j, path, 16 << 20, err));
    json_t *list = json_object_get(j, "tables");
    slm2_status st = json_is_array(list) ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "%s: no list \"tables\"", path);
    json_array_foreach(list, i, t)
        if (st == SLM2_OK) st = check_table(t, path, i, err);
    if (st == SLM2_OK) *tables = json_incref(list);
    json_decref(j);
    return st;
}

/* ---- writing -------------------------------------------------------------------------------------------------------------- */
struct figure { double value, se; int n_shot; bool there; };

static struct figure find(const struct slm2_eval_result *r, const char *task, const char *metric, double scale)
{
    for (int i = 0; i < r->n; i++) {
        const struct slm2_eval_metric *m = &r->v[i];
        if (strcmp(m->task, task) == 0 && (!*metric || strcmp(m->metric, metric) == 0)) return (struct figure){m->value * scale, m->stderr_ * scale, m->n_shot, true};
    }
    return (struct figure){(double)NAN, (double)NAN, -1, false};
}

static bool same_shots(const struct figure *f, const json_t *column)
{
    const json_t *n = json_object_get(column, "n_shot");
    return f->n_shot < 0 || !json_is_integer(n) || json_integer_value(n) == f->n_shot;
}

static void put_ours(struct slm2_buf *out, const struct figure *f, const json_t *column)
{
    if (!f->there) slm2_buf_puts(out, " |");
    else {
        slm2_buf_printf(out, " %.2f", f->value);
        if (isfinite(f->se)) slm2_buf_printf(out, " ± %.2f", f->se);
        if (column && !same_shots(f, column)) slm2_buf_printf(out, " (%d-shot)", f->n_shot);
        slm2_buf_puts(out, " |");
    }
}

static void put_difference(struct slm2_buf *out, const struct figure *f, double theirs, double their_se)
{
    double se = sqrt(f->se * f->se + their_se * their_se);
    if (f->there && isfinite(se) && se > 0) slm2_buf_printf(out, " %+.1f |", (f->value - theirs) / se);
    else slm2_buf_puts(out, " |");
}

static void put_row(struct slm2_buf *out, const json_t *row)
{
    const json_t *average = json_object_get(row, "average"), *values = json_object_get(row, "values"), *v;
    size_t i;
    slm2_buf_printf(out, "| %s%s%s%s | %s |", slm2_json_str(row, "model"), *slm2_json_str(row, "note") ? " (" : "", slm2_json_str(row, "note"), *slm2_json_str(row, "note") ? ")" : "", slm2_json_str(row, "size"));
    if (json_is_number(average)) slm2_buf_printf(out, " %.2f |", json_number_value(average));
    else slm2_buf_puts(out, " |");
    json_array_foreach(values, i, v) slm2_buf_printf(out, " %.5g |", json_number_value(v));
    slm2_buf_printf(out, " %s |\n", slm2_json_str(row, "mark"));
}

/* The average of our group, where it was asked for. */
static struct figure our_average(const struct slm2_eval_result *r, const json_t *table, double scale)
{
    for (int i = 0; i < r->n; i++)
        if (r->v[i].is_group && strcmp(r->v[i].task, slm2_json_str(table, "group")) == 0) return (struct figure){r->v[i].value * scale, r->v[i].stderr_ * scale, -1, true};
    return (struct figure){(double)NAN, (double)NAN, -1, false};
}

static void put_table(struct slm2_buf *out, const struct slm2_eval_result *r, const json_t *t, const char *name)
{
    const json_t *columns = json_object_get(t, "columns"), *rows = json_object_get(t, "rows"), *x, *row;
    double scale = strcmp(slm2_json_str(t, "unit"), "percent") == 0 ? 100 : 1;
    struct figure average = our_average(r, t, scale);
    bool any = false;
    size_t i, k;
    json_array_foreach(columns, i, x) any = any || find(r, slm2_json_str(x, "task"), slm2_json_str(x, "metric"), scale).there;
    if (!any) return;
    slm2_buf_printf(out, "## %s\n\n%s. Published: %s.\n\n| model | size | average |", slm2_json_str(t, "title"), slm2_json_str(t, "unit"), slm2_json_str(t, "source"));
    json_array_foreach(columns, i, x) slm2_buf_printf(out, " %s |", slm2_json_str(x, "title"));
    slm2_buf_puts(out, " |\n|---|---|---|");
    for (i = 0; i <= json_array_size(columns); i++) slm2_buf_puts(out, "---|");
    slm2_buf_printf(out, "\n| **%s** | |", name);
    put_ours(out, &average, NULL);
    json_array_foreach(columns, i, x)
    {
        struct figure f = find(r, slm2_json_str(x, "task"), slm2_json_str(x, "metric"), scale);
        put_ours(out, &f, x);
    }
    slm2_buf_puts(out, " measured |\n");
    json_array_foreach(rows, k, row)
    {
        const json_t *their = json_object_get(row, "average");
        if (!json_is_true(json_object_get(row, "own"))) continue;
        slm2_buf_printf(out, "| difference to %s%s%s%s, in standard errors | |", slm2_json_str(row, "model"), *slm2_json_str(row, "note") ? " (" : "", slm2_json_str(row, "note"), *slm2_json_str(row, "note") ? ")" : "");
        if (json_is_number(their)) put_difference(out, &average, json_number_value(their), 0);
        else slm2_buf_puts(out, " |");
        json_array_foreach(columns, i, x)
        {
            struct figure f = find(r, slm2_json_str(x, "task"), slm2_json_str(x, "metric"), scale);
            f.there = f.there && same_shots(&f, x);
            put_difference(out, &f, json_number_value(json_array_get(json_object_get(row, "values"), i)), json_number_value(json_array_get(json_object_get(row, "stderr"), i)));
        }
        slm2_buf_puts(out, " |\n");
    }
    json_array_foreach(rows, k, row) put_row(out, row);
    slm2_buf_putc(out, '\n');
}

slm2_status slm2_reported_markdown(const struct slm2_eval_result *r, const json_t *tables, const char *name, struct slm2_buf *out, struct slm2_err *err)
{
    const json_t *t, *limit = json_object_get(json_object_get(r->json, "config"), "limit");
    size_t i;
    slm2_buf_printf(out, "# Evaluation of %s\n\n", name);
    if (json_integer_value(limit) > 0) slm2_buf_printf(out, "Only the first %lld items of each task.\n\n", (long long)json_integer_value(limit));
    if (json_real_value(limit) > 0) slm2_buf_printf(out, "Only the first %g %% of the items of each task.\n\n", 100 * json_real_value(limit));
    json_array_foreach(tables, i, t) put_table(out, r, t, name);
    slm2_buf_puts(out, "## All figures\n\n| task | shots | items | metric | value | standard error |\n|---|---|---|---|---|---|\n");
    for (int k = 0; k < r->n; k++) {
        const struct slm2_eval_metric *m = &r->v[k];
        slm2_buf_printf(out, "| %s |", m->task);
        if (m->is_group) slm2_buf_puts(out, " |");
        else slm2_buf_printf(out, " %d |", m->n_shot);
        slm2_buf_printf(out, " %lld | %s | %.4f |", (long long)m->n, m->metric, m->value);
        if (isfinite(m->stderr_)) slm2_buf_printf(out, " %.4f |\n", m->stderr_);
        else slm2_buf_puts(out, " |\n");
    }
    return slm2_buf_check(out, err);
}
