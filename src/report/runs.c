/* runs.c - reads ledgers and JSON files into memory.  Only the curves stay in the ledgers, to be read one at a time. */
#include "report/runs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_PATH_LEN = 4096, MAX_JSON = 64 << 20 };

/* ---- rows ---------------------------------------------------------------------------------------------------------------- */
static void take_row(void *user, int n_col, const char *const *text)
{
    struct slm2_rows *t = user;
    if (t->failed) return;
    if (t->n_row == 0) t->n_col = n_col;
    int used = t->n_row * t->n_col;
    if (used + n_col > t->cap) {
        int cap = t->cap ? t->cap * 2 : 64;
        char **v = t->n_row < 1 << 24 ? realloc(t->v, (size_t)cap * sizeof *v) : NULL;
        if (!v) {
            t->failed = true;
            return;
        }
        t->v = v;
        t->cap = cap;
    }
    for (int i = 0; i < n_col; i++) {
        t->v[used + i] = text[i] ? strdup(text[i]) : NULL;
        if (text[i] && !t->v[used + i]) t->failed = true;
    }
    t->n_row++;
}

static void rows_free(struct slm2_rows *t)
{
    for (int i = 0; i < t->n_row * t->n_col; i++) free(t->v[i]);
    free(t->v);
    *t = (struct slm2_rows){0};
}

const char *slm2_rows_text(const struct slm2_rows *t, int row, int col)
{
    const char *s = row >= 0 && row < t->n_row && col >= 0 && col < t->n_col ? t->v[row * t->n_col + col] : NULL;
    return s ? s : "";
}

double slm2_rows_number(const struct slm2_rows *t, int row, int col)
{
    const char *s = slm2_rows_text(t, row, col);
    char *end;
    double v = strtod(s, &end);
    return *s && !*end ? v : (double)NAN;
}

static int row_of(const struct slm2_rows *t, const char *key)
{
    for (int i = 0; i < t->n_row; i++)
        if (strcmp(slm2_rows_text(t, i, 0), key) == 0) return i;
    return -1;
}

const char *slm2_rows_find(const struct slm2_rows *t, const char *key)
{
    return slm2_rows_text(t, row_of(t, key), 1);
}

double slm2_report_figure(const struct slm2_report_run *run, const char *key)
{
    return slm2_rows_number(&run->figure, row_of(&run->figure, key), 1);
}

double slm2_report_last(const struct slm2_report_run *run, const char *metric)
{
    return slm2_rows_number(&run->metric, row_of(&run->metric, metric), 2);
}

double slm2_report_first(const struct slm2_report_run *run, const char *metric)
{
    return slm2_rows_number(&run->metric, row_of(&run->metric, metric), 3);
}

const struct slm2_report_run *slm2_report_stage(const struct slm2_report_runs *r, const char *stage)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->run[i].stage, stage) == 0) return &r->run[i];
    return NULL;
}

const char *slm2_report_setting(const char *dump, const char *section, const char *key, char *out, size_t cap)
{
    size_t n_key = strlen(key), indent = 0, n;
    bool inside = section == NULL;
    snprintf(out, cap, "%s", "");
    for (const char *s = dump; *s; s += n + (s[n] == '\n')) {
        size_t at = strspn(s, " ");
        n = strcspn(s, "\n");
        if (section && at == 0) {
            inside = n == strlen(section) + 1 && strncmp(s, section, n - 1) == 0 && s[n - 1] == ':';
            indent = 0;
            continue;
        }
        if (section && !indent) indent = at; /* that of the mapping's first line */
        if (!inside || at != indent || n < at + n_key + 1 || strncmp(s + at, key, n_key) || s[at + n_key] != ':') continue;
        const char *v = s + at + n_key + 1, *end = s + n;
        while (v < end && *v == ' ') v++;
        if (end - v >= 2 && *v == '"' && end[-1] == '"') v++, end--;
        snprintf(out, cap, "%.*s", (int)(end - v), v);
        return out;
    }
    return out;
}

/* ---- one run ---------------------------------------------------------------------------------------------------------------- */
static slm2_status read_tables(struct slm2_report_run *run, struct slm2_err *err)
{
    const struct { struct slm2_rows *rows; const char *sql; } query[] = {
        {&run->run, "SELECT key, value FROM run ORDER BY key"},
        {&run->figure, "SELECT key, value, text FROM figure ORDER BY key"},
        {&run->source, "SELECT name, weight, planned, drawn FROM source ORDER BY planned DESC, name"},
        {&run->file, "SELECT path, source, sha256, bytes, tokens, documents, language, licence FROM data_file ORDER BY source, path"},
        {&run->event, "SELECT time, step, kind, text FROM event ORDER BY rowid"},
        {&run->metric, "SELECT name, (SELECT max(step) FROM metric WHERE name = m.name),"
                       " (SELECT value FROM metric WHERE name = m.name AND value IS NOT NULL ORDER BY step DESC LIMIT 1),"
                       " (SELECT value FROM metric WHERE name = m.name AND value IS NOT NULL ORDER BY step LIMIT 1)"
                       " FROM (SELECT DISTINCT name FROM metric) AS m ORDER BY name"},
    };
    for (size_t i = 0; i < sizeof query / sizeof query[0]; i++) {
        SLM2_TRY(slm2_ledger_query(run->ledger, query[i].sql, NULL, take_row, query[i].rows, err));
        if (query[i].rows->failed) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory for its ledger", run->dir);
    }
    return SLM2_OK;
}

static slm2_status add_run(struct slm2_report_runs *r, const char *dir, const char *path, const struct slm2_energy_terms *terms, struct slm2_err *err)
{
    if (r->n == r->cap) {
        int cap = r->cap ? r->cap * 2 : 8;
        struct slm2_report_run *v = r->n < 10000 ? realloc(r->run, (size_t)cap * sizeof *v) : NULL;
        if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d runs", cap);
        r->run = v;
        r->cap = cap;
    }
    struct slm2_report_run *run = &r->run[r->n++];
    *run = (struct slm2_report_run){.dir = strdup(dir)};
    if (!run->dir) return slm2_fail(err, SLM2_ENOMEM, "no memory for %s", dir);
    SLM2_TRY(slm2_ledger_open_read(&run->ledger, path, err));
    SLM2_TRY(read_tables(run, err));
    const char *stage = slm2_rows_find(&run->run, "stage");
    if (!(run->stage = strdup(*stage ? stage : "run"))) return slm2_fail(err, SLM2_ENOMEM, "no memory for %s", dir);
    SLM2_TRY(slm2_ledger_cost(run->ledger, &run->cost, err));
    struct slm2_rows found = {0};
    SLM2_TRY(slm2_ledger_query(run->ledger, "SELECT 1 FROM sqlite_master WHERE name = 'energy'", NULL, take_row, &found, err));
    run->sampled = found.n_row > 0;
    rows_free(&found);
    run->energy = slm2_energy_of(&run->cost, terms);
    return SLM2_OK;
}

static slm2_status read_json(json_t **j, const char *dir, const char *name, struct slm2_err *err)
{
    char path[MAX_PATH_LEN];
    json_t *fresh;
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, name, err));
    if (!slm2_path_exists(path)) return SLM2_OK;
    SLM2_TRY(slm2_json_read(&fresh, path, MAX_JSON, err));
    json_decref(*j);
    *j = fresh;
    return SLM2_OK;
}

static slm2_status add_folder(struct slm2_report_runs *r, const char *dir, const struct slm2_energy_terms *terms, struct slm2_err *err)
{
    static const char *const stage[] = {"pretrain", "sft", "dpo", "selfknow"};
    char path[MAX_PATH_LEN], sub[MAX_PATH_LEN];
    int before = r->n;
    if (!slm2_path_is_dir(dir)) return slm2_fail(err, SLM2_EUSAGE, "%s: no such folder; want the folder of a run", dir);
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "run.sqlite", err));
    if (slm2_path_exists(path)) SLM2_TRY(add_run(r, dir, path, terms, err));
    for (size_t i = 0; i < sizeof stage / sizeof stage[0]; i++) {
        SLM2_TRY(slm2_path_join(sub, sizeof sub, dir, stage[i], err));
        SLM2_TRY(slm2_path_join(path, sizeof path, sub, "run.sqlite", err));
        if (slm2_path_exists(path)) SLM2_TRY(add_run(r, sub, path, terms, err));
    }
    if (r->n == before) return slm2_fail(err, SLM2_EUSAGE, "%s: holds no run.sqlite, nor does pretrain/, sft/, dpo/ or selfknow/ in it", dir);
    SLM2_TRY(read_json(&r->eval, dir, "eval.json", err));
    SLM2_TRY(read_json(&r->mtbench, dir, "mtbench.json", err));
    SLM2_TRY(read_json(&r->compare, dir, "compare.json", err));
    return read_json(&r->manifest, dir, "data/manifest.json", err);
}

slm2_status slm2_report_runs_open(struct slm2_report_runs *r, const char *const *dirs, int n, const struct slm2_energy_terms *terms, struct slm2_err *err)
{
    *r = (struct slm2_report_runs){0};
    if (n < 1) return slm2_fail(err, SLM2_EUSAGE, "a report needs the folder of at least one run");
    for (int i = 0; i < n; i++) SLM2_TRY(add_folder(r, dirs[i], terms, err));
    return SLM2_OK;
}

void slm2_report_runs_free(struct slm2_report_runs *r)
{
    for (int i = 0; i < r->n; i++) {
        struct slm2_report_run *run = &r->run[i];
        slm2_ledger_close(run->ledger, NULL);
        struct slm2_rows *const all[] = {&run->run, &run->figure, &run->source, &run->file, &run->event, &run->metric};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) rows_free(all[k]);
        free(run->dir);
        free(run->stage);
    }
    free(r->run);
    json_decref(r->eval);
    json_decref(r->manifest);
    json_decref(r->mtbench);
    json_decref(r->compare);
    *r = (struct slm2_report_runs){0};
}
