/* mtbench_score.c - judgements to means: all, by turn, by category. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/journal.h"
#include "base/json.h"
#include "eval/mtbench.h"

struct sum { double total; int n, unrated; };
struct sums { struct sum turn[SLM2_MT_TURNS]; };

static void add(struct sums *s, int turn, double score)
{
    if (score < 0) s->turn[turn].unrated++;
    else s->turn[turn].total += score, s->turn[turn].n++;
}

static json_t *mean(double total, int n) { return n ? json_real(total / n) : json_null(); }

static json_t *sums_json(const struct sums *s)
{
    const struct sum *a = &s->turn[0], *b = &s->turn[1];
    return json_pack("{s:o, s:o, s:o, s:i, s:i}", "score", mean(a->total + b->total, a->n + b->n), "first_turn", mean(a->total, a->n), "second_turn", mean(b->total, b->n), "ratings", a->n + b->n, "unrated",
                     a->unrated + b->unrated);
}

struct judgement {
    const struct slm2_mt_question *q;
    const char *model, *judge; /* borrowed from the record */
    int turn;
    double score;
};

static slm2_status read_one(const struct slm2_mt_data *d, const json_t *r, const char *what, struct judgement *j, struct slm2_err *err)
{
    int64_t id, turn;
    *j = (struct judgement){.judge = json_string_value(json_array_get(json_object_get(r, "judge"), 0))};
    SLM2_TRY(slm2_json_get_int(r, "question_id", what, 0, INT64_MAX, &id, err));
    SLM2_TRY(slm2_json_get_int(r, "turn", what, 1, SLM2_MT_TURNS, &turn, err));
    SLM2_TRY(slm2_json_get_str(r, "model", what, &j->model, err));
    if (!j->judge) return slm2_fail(err, SLM2_EFORMAT, "%s: judge: want [name, prompt]", what);
    const json_t *score = json_object_get(r, "score");
    if (!json_is_number(score)) return slm2_fail(err, SLM2_EFORMAT, "%s: score: want a number, -1 for none", what);
    j->turn = (int)turn - 1;
    j->score = json_number_value(score);
    for (int i = 0; i < d->n; i++)
        if (d->v[i].id == id) j->q = &d->v[i];
    return j->q ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "%s: question %lld is none of the questions", what, (long long)id);
}

/* The only judge of the file, or the one that was asked for. */
static slm2_status choose_judge(const json_t *records, const char *path, const char **judge, struct slm2_err *err)
{
    const char *first = NULL;
    for (size_t i = 0; i < json_array_size(records); i++) {
        const char *by = json_string_value(json_array_get(json_object_get(json_array_get(records, i), "judge"), 0));
        if (!by) continue;
        if (*judge && !strcmp(by, *judge)) return SLM2_OK;
        if (!*judge && first && strcmp(by, first)) return slm2_fail(err, SLM2_EUSAGE, "%s: holds judgements of %s and of %s; name one with --judge", path, first, by);
        if (!first) first = by;
    }
    if (!first) return slm2_fail(err, SLM2_EFORMAT, "%s: holds no judgement", path);
    if (*judge) return slm2_fail(err, SLM2_EUSAGE, "%s: holds no judgement of %s; its first is of %s", path, *judge, first);
    *judge = first;
    return SLM2_OK;
}

static bool same(const struct judgement *a, const struct judgement *b)
{
    return a->q == b->q && a->turn == b->turn && !strcmp(a->model, b->model) && !strcmp(a->judge, b->judge);
}

/* One model's sums, from all judgements. */
static json_t *model_json(const struct slm2_mt_data *d, const struct judgement *v, size_t n, const char *model)
{
    struct sums all = {0};
    json_t *categories = json_object();
    for (int i = 0; i < d->n; i++) {
        const char *category = d->v[i].category;
        struct sums of = {0};
        if (json_object_get(categories, category)) continue;
        for (size_t k = 0; k < n; k++)
            if (!strcmp(v[k].model, model) && !strcmp(v[k].q->category, category)) add(&of, v[k].turn, v[k].score);
        for (int t = 0; t < SLM2_MT_TURNS; t++) {
            all.turn[t].total += of.turn[t].total;
            all.turn[t].n += of.turn[t].n;
            all.turn[t].unrated += of.turn[t].unrated;
        }
        if (of.turn[0].n + of.turn[0].unrated + of.turn[1].n + of.turn[1].unrated) json_object_set_new(categories, category, sums_json(&of));
    }
    json_t *j = json_pack("{s:s}", "model", model), *sums = sums_json(&all);
    json_object_update(j, sums);
    json_decref(sums);
    json_object_set_new(j, "categories", categories);
    return j;
}

slm2_status slm2_mt_scores(const struct slm2_mt_data *d, const char *path, const char *judge, json_t **scores, struct slm2_err *err)
{
    json_t *records, *models = json_array();
    struct judgement *v = NULL;
    char what[300];
    size_t n = 0;
    *scores = NULL;
    slm2_status st = slm2_journal_read(path, &records, err);
    if (st != SLM2_OK) {
        json_decref(models);
        return st;
    }
    st = choose_judge(records, path, &judge, err);
    if (st == SLM2_OK && !(v = calloc(json_array_size(records), sizeof *v))) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    for (size_t i = 0; st == SLM2_OK && i < json_array_size(records); i++) {
        snprintf(what, sizeof what, "%.250s: record %zu", path, i + 1);
        if ((st = read_one(d, json_array_get(records, i), what, &v[n], err)) != SLM2_OK) break;
        if (strcmp(v[n].judge, judge)) continue;
        for (size_t k = 0; k < n && st == SLM2_OK; k++)
            if (same(&v[k], &v[n])) st = slm2_fail(err, SLM2_EFORMAT, "%s: turn %d of question %lld of %s is judged twice", what, v[n].turn + 1, (long long)v[n].q->id, v[n].model);
        n++;
    }
    for (size_t i = 0; st == SLM2_OK && i < n; i++) {
        bool seen = false;
        for (size_t k = 0; k < i; k++) seen = seen || !strcmp(v[k].model, v[i].model);
        if (!seen) json_array_append_new(models, model_json(d, v, n, v[i].model));
    }
    if (st == SLM2_OK && !(*scores = json_pack("{s:s, s:O}", "judge", judge, "models", models))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the scores");
    free(v);
    json_decref(models);
    json_decref(records);
    return st;
}

void slm2_mt_published(json_t *scores, const json_t *tables)
{
    size_t i, k;
    json_t *t, *row;
    json_array_foreach(tables, i, t) {
        if (strcmp(slm2_json_str(t, "group"), "mt_bench")) continue;
        json_t *rows = json_array();
        json_array_foreach(json_object_get(t, "rows"), k, row) {
            json_array_append_new(rows, json_pack("{s:s, s:s, s:O, s:b}", "model", slm2_json_show_text(row, "model"), "size", slm2_json_str(row, "size"), "score",
                                                  json_array_get(json_object_get(row, "values"), 0), "unchecked", !strcmp(slm2_json_str(row, "mark"), "M")));
        }
        json_object_set_new(scores, "published", json_pack("{s:s, s:s, s:o}", "title", slm2_json_show_text(t, "title"), "source", slm2_json_str(t, "source"), "rows", rows));
        return;
    }
}

/* ---- table ------------------------------------------------------------------------------------------------------------------ */
static void put_line(struct slm2_buf *out, const char *name, const json_t *s)
{
    static const char *const key[] = {"score", "first_turn", "second_turn"};
    slm2_buf_printf(out, "  %-14s", name);
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        const json_t *v = json_object_get(s, key[i]);
        if (json_is_number(v)) slm2_buf_printf(out, "  %11.2f", json_number_value(v));
        else slm2_buf_printf(out, "  %11s", "-");
    }
    slm2_buf_printf(out, "  %7lld  %7lld\n", (long long)json_integer_value(json_object_get(s, "ratings")), (long long)json_integer_value(json_object_get(s, "unrated")));
}

void slm2_mt_table(const json_t *scores, struct slm2_buf *out)
{
    size_t i;
    json_t *m, *s;
    const char *name;
    json_array_foreach(json_object_get(scores, "models"), i, m) {
        slm2_buf_printf(out, "%s%s, judged by %s\n", i ? "\n" : "", json_string_value(json_object_get(m, "model")), json_string_value(json_object_get(scores, "judge")));
        slm2_buf_printf(out, "  %-14s  %11s  %11s  %11s  %7s  %7s\n", "category", "score", "first turn", "second turn", "ratings", "unrated");
        json_object_foreach(json_object_get(m, "categories"), name, s) put_line(out, name, s);
        put_line(out, "all", m);
    }
    const json_t *published = json_object_get(scores, "published");
    if (published) slm2_buf_printf(out, "\npublished: %s\n", slm2_json_show_text(published, "title"));
    json_array_foreach(json_object_get(published, "rows"), i, m)
        slm2_buf_printf(out, "  %-26s %7.2f%s\n", slm2_json_show_text(m, "model"), slm2_json_show_number(m, "score"), json_is_true(json_object_get(m, "unchecked")) ? "  from memory, unchecked" : "");
}
