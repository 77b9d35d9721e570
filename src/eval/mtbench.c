/* mtbench.c - MT-Bench's questions, reference answers and judge prompts; from these what a judge is shown. */
#include "eval/mtbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/journal.h"
#include "eval/task.h"

enum { MAX_QUESTIONS = 100000 };

double slm2_mt_temperature(const char *category)
{
    static const struct { const char *name; double temperature; } table[] = {
        {"writing", 0.7}, {"roleplay", 0.7}, {"extraction", 0}, {"math", 0}, {"coding", 0}, {"reasoning", 0}, {"stem", 0.1}, {"humanities", 0.1}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(category, table[i].name) == 0) return table[i].temperature;
    return 0.7;
}

bool slm2_mt_needs_reference(const char *category)
{
    return strcmp(category, "math") == 0 || strcmp(category, "reasoning") == 0 || strcmp(category, "coding") == 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */
/* The records of a file into d->owner; where it comes from is said when it is not there. */
static slm2_status load(struct slm2_mt_data *d, const char *path, const char *what, json_t **records, struct slm2_err *err)
{
    *records = NULL;
    if (!slm2_path_exists(path))
        return slm2_fail(err, SLM2_EIO, "%s: no such file; want MT-Bench's %s from lm-sys/FastChat (fastchat/llm_judge/data, Apache-2.0): one JSON object a line; docs/MTBENCH.md tells which file goes where", path, what);
    SLM2_TRY(slm2_journal_read(path, records, err));
    if (json_array_size(*records) == 0 || json_array_size(*records) > MAX_QUESTIONS) {
        slm2_status st = slm2_fail(err, SLM2_EFORMAT, "%s: holds %zu records, want 1 to %d", path, json_array_size(*records), MAX_QUESTIONS);
        json_decref(*records);
        return st;
    }
    return json_array_append_new(d->owner, *records) ? slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path) : SLM2_OK;
}

/* The two strings of record.turns, or of record.choices[0].turns. */
static slm2_status two_turns(const json_t *turns, const char *what, const char *text[SLM2_MT_TURNS], struct slm2_err *err)
{
    for (int t = 0; t < SLM2_MT_TURNS; t++) {
        text[t] = json_string_value(json_array_get(turns, (size_t)t));
        if (!text[t]) return slm2_fail(err, SLM2_EFORMAT, "%s: turns: want %d strings", what, SLM2_MT_TURNS);
        if (strlen(text[t]) != json_string_length(json_array_get(turns, (size_t)t))) return slm2_fail(err, SLM2_EFORMAT, "%s: turns[%d] holds a NUL character", what, t);
    }
    return SLM2_OK;
}

static struct slm2_mt_question *find(const struct slm2_mt_data *d, int64_t id)
{
    for (int i = 0; i < d->n; i++)
        if (d->v[i].id == id) return &d->v[i];
    return NULL;
}

static slm2_status read_questions(struct slm2_mt_data *d, const char *path, struct slm2_err *err)
{
    json_t *records;
    char what[300];
    SLM2_TRY(load(d, path, "questions (mt_bench/question.jsonl)", &records, err));
    size_t n = json_array_size(records);
    if (!(d->v = calloc(n, sizeof *d->v))) return slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    for (size_t i = 0; i < n; i++) {
        const json_t *r = json_array_get(records, i);
        struct slm2_mt_question q;
        memset(&q, 0, sizeof q);
        snprintf(what, sizeof what, "%.250s: record %zu", path, i + 1);
        SLM2_TRY(slm2_json_get_int(r, "question_id", what, 0, INT64_MAX, &q.id, err));
        SLM2_TRY(slm2_json_get_str(r, "category", what, &q.category, err));
        SLM2_TRY(two_turns(json_object_get(r, "turns"), what, q.turn, err));
        SLM2_TRY(slm2_json_get_real_or(r, "required_temperature", what, slm2_mt_temperature(q.category), &q.temperature, err));
        if (q.temperature < 0 || q.temperature > 100) return slm2_fail(err, SLM2_EFORMAT, "%s: required_temperature is %g, want 0 to 100", what, q.temperature);
        if (find(d, q.id)) return slm2_fail(err, SLM2_EFORMAT, "%s: question_id %lld is there twice", what, (long long)q.id);
        d->v[d->n++] = q;
    }
    return SLM2_OK;
}

static slm2_status read_references(struct slm2_mt_data *d, const char *path, struct slm2_err *err)
{
    json_t *records;
    char what[300];
    SLM2_TRY(load(d, path, "reference answers (mt_bench/reference_answer/gpt-4.jsonl)", &records, err));
    for (size_t i = 0; i < json_array_size(records); i++) {
        const json_t *r = json_array_get(records, i);
        int64_t id;
        snprintf(what, sizeof what, "%.250s: record %zu", path, i + 1);
        SLM2_TRY(slm2_json_get_int(r, "question_id", what, 0, INT64_MAX, &id, err));
        struct slm2_mt_question *q = find(d, id);
        if (q) SLM2_TRY(two_turns(json_object_get(json_array_get(json_object_get(r, "choices"), 0), "turns"), what, q->reference, err));
    }
    for (int i = 0; i < d->n; i++)
        if (slm2_mt_needs_reference(d->v[i].category) && !d->v[i].reference[0])
            return slm2_fail(err, SLM2_EFORMAT, "%s: no reference answer to question %lld, which is of category %s", path, (long long)d->v[i].id, d->v[i].category);
    return SLM2_OK;
}

static slm2_status read_prompts(struct slm2_mt_data *d, const char *path, struct slm2_err *err)
{
    static const char *const name[2][SLM2_MT_TURNS] = {{"single-v1", "single-v1-multi-turn"}, {"single-math-v1", "single-math-v1-multi-turn"}};
    json_t *records;
    char what[300];
    SLM2_TRY(load(d, path, "judge prompts (judge_prompts.jsonl)", &records, err));
    for (int k = 0; k < 2 * SLM2_MT_TURNS; k++) {
        struct slm2_mt_prompt *p = &d->prompt[k / 2][k % 2];
        for (size_t i = 0; i < json_array_size(records) && !p->name; i++) {
            const json_t *r = json_array_get(records, i);
            const char *is = json_string_value(json_object_get(r, "name"));
            if (!is || strcmp(is, name[k / 2][k % 2])) continue;
            snprintf(what, sizeof what, "%.200s: prompt %s", path, is);
            SLM2_TRY(slm2_json_get_str(r, "system_prompt", what, &p->system, err));
            SLM2_TRY(slm2_json_get_str(r, "prompt_template", what, &p->user, err));
            if (slm2_template_check(p->user, err) != SLM2_OK) return slm2_wrap(err, SLM2_EFORMAT, "%s", what);
            p->name = is;
        }
        if (!p->name) return slm2_fail(err, SLM2_EFORMAT, "%s: no prompt of name %s", path, name[k / 2][k % 2]);
    }
    return SLM2_OK;
}

slm2_status slm2_mt_read(struct slm2_mt_data *d, const char *questions, const char *prompts, const char *references, struct slm2_err *err)
{
    *d = (struct slm2_mt_data){.owner = json_array()};
    slm2_status st = d->owner ? read_questions(d, questions, err) : slm2_fail(err, SLM2_ENOMEM, "%s: no memory", questions);
    if (st == SLM2_OK && prompts) st = read_prompts(d, prompts, err);
    if (st == SLM2_OK && references) st = read_references(d, references, err);
    if (st != SLM2_OK) slm2_mt_data_free(d);
    return st;
}

void slm2_mt_data_free(struct slm2_mt_data *d)
{
    free(d->v);
    json_decref(d->owner);
    *d = (struct slm2_mt_data){0};
}

/* ---- what the judge is shown --------------------------------------------------------------------------------------------- */
slm2_status slm2_mt_user_prompt(const struct slm2_mt_data *d, const struct slm2_mt_question *q, int turn, const json_t *answers, const struct slm2_mt_prompt **prompt, struct slm2_buf *out, struct slm2_err *err)
{
    bool with = slm2_mt_needs_reference(q->category);
    json_t *fields = json_object();
    const struct { const char *name; json_t *value; } field[] = {
        {"question", json_string(q->turn[0])}, {"question_1", json_string(q->turn[0])}, {"question_2", json_string(q->turn[1])},
        {"answer", json_incref(json_array_get(answers, 0))}, {"answer_1", json_incref(json_array_get(answers, 0))}, {"answer_2", json_incref(json_array_get(answers, 1))},
        {"ref_answer_1", with ? json_string(q->reference[0]) : NULL}, {"ref_answer_2", with ? json_string(q->reference[1]) : NULL}};
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
        if (field[i].value) json_object_set_new(fields, field[i].name, field[i].value);
    *prompt = &d->prompt[with][turn];
    slm2_status st = slm2_template_fill((*prompt)->user, fields, out, err);
    if (st == SLM2_OK) st = slm2_buf_check(out, err);
    json_decref(fields);
    return st == SLM2_OK ? st : slm2_wrap(err, st, "judge prompt %s", (*prompt)->name);
}

/* ---- the rating ------------------------------------------------------------------------------------------------------------ */
/* `depth` brackets, digits, perhaps a point and more digits, `depth` brackets, at text[at]; the number, or -1. */
static double bracketed(const char *text, size_t n, size_t at, size_t depth)
{
    char number[32];
    size_t k = at, begin;
    while (k < n && k - at < depth && text[k] == '[') k++;
    if (k - at < depth) return -1;
    begin = k;
    while (k < n && text[k] >= '0' && text[k] <= '9') k++;
    if (k == begin) return -1;
    if (k < n && text[k] == '.') k++;
    while (k < n && text[k] >= '0' && text[k] <= '9') k++;
    if (n - k < depth || memcmp(text + k, "]]", depth) || k - begin >= sizeof number) return -1;
    memcpy(number, text + begin, k - begin);
    number[k - begin] = '\0';
    return strtod(number, NULL);
}

double slm2_mt_rating(const char *text, size_t n)
{
    for (size_t depth = 2; depth >= 1; depth--)
        for (size_t at = 0; at < n; at++) {
            double v = bracketed(text, n, at, depth);
            if (v >= 0) return v;
        }
    return -1;
}
