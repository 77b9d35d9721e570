/* task.c - reads a task: its settings, its records, the draw of its examples.  Every setting is a row of the table below; anything else in the
 * YAML is an error. */
#define _GNU_SOURCE /* memmem */
#include "eval/task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/num.h"
#include "data/records.h"
#include "eval/form.h"
#include "eval/pyrandom.h"
#include "tok/pystr.h"
#include "eval/task_impl.h"

const char *const slm2_task_kinds[] = {"choice", "word", "generate", "perplexity", NULL};
const char *const slm2_task_rules[] = {"v0.4", "v0.3", NULL};
enum { RANDOM, FIRST_N };
static const char *const samplers[] = {"random", "first_n", NULL};
static const struct { int n_default; const char *names[5]; } metrics[] = { /* by kind; the first n_default when a task names none */
    {2, {"acc", "acc_norm", "acc_bytes", "mc2", NULL}}, {2, {"acc", "perplexity", NULL}}, {3, {"exact_match", "contains", "prefix_match", NULL}},
    {4, {"bits_per_byte", "token_perplexity", "word_perplexity", "byte_perplexity", NULL}}};

static const struct slm2_opt filter_settings[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = offsetof(struct slm2_answer_filter, name), .help = "figures are METRIC,NAME; default: METRIC"},
    {.name = "steps", .type = SLM2_OPT_STRS, .offset = offsetof(struct slm2_answer_filter, steps), .def = "[]", .help = "filters, see task.h"},
    {.name = NULL},
};

#define ROW(f, kind, low, high, default_, text) {.name = #f, .type = SLM2_OPT_##kind, .offset = offsetof(struct slm2_task, f), .lo = low, .hi = high, .def = default_, .help = text}
#define NAMED(f, default_, text, names) {.name = #f, .type = SLM2_OPT_ENUM, .offset = offsetof(struct slm2_task, f), .def = default_, .help = text, .choices = names}
const struct slm2_opt slm2_task_settings[] = {
    ROW(name, STR, 0, 0, "!", "name in the results; {each} stands for the part"),
    NAMED(kind, "choice", "choice, word, generate or perplexity", slm2_task_kinds),
    ROW(version, INT, 0, 1 << 20, "1", "raise it when a change of the task changes its figures"),
    ROW(each, STRS, 0, 0, "[]", "parts: one task for each, with its name for {each} in name, source, data and shots"),
    ROW(where, STR, 0, 0, NULL, "field of a record that says to which part it belongs"),
    ROW(source, STR, 0, 0, NULL, "where the data comes from and how a record looks; said when a file is missing"),
    ROW(data, STRS, 0, 0, "[]", "JSONL files of records; perplexity: text or JSONL files"),
    ROW(form, STR, 0, 0, NULL, "how published records are made into these fields, see form.h; default: they are taken as they are"),
    ROW(prompt, STR, 0, 0, NULL, "what stands before the answer, with {field}s of the record"),
    ROW(description, STR, 0, 0, NULL, "text in front of everything, with {field}s; chat: the system message"),
    ROW(choices, STRS, 0, 0, "[choices]", "choice: the field with the list of answers, or two and more texts with {field}s"),
    ROW(contexts, STR, 0, 0, NULL, "choice: field with a list of contexts, which then are the choices, before one common target"),
    ROW(target, STR, 0, 0, NULL, "word, and choice with contexts: what is scored behind the context"),
    ROW(gold, STR, 0, 0, "answer", "field of the right answer, or its number: choice: number from 0, label, letter or text, or a list of 0 and 1; generate: a string or a list of them"),
    ROW(labels, STRS, 0, 0, "[]", "choice: names of the answers in gold: the field with the list of them, or two and more texts"),
    ROW(delimiter, STR, 0, 0, " ", "between prompt and answer; not in a chat"),
    ROW(separator, STR, 0, 0, "\n\n", "behind each example; not in a chat"),
    ROW(n_shot, INT, 0, 256, "0", "examples with their answers in front of each item"),
    ROW(shots, STR, 0, 0, NULL, "JSONL file of the examples; default: the other records"),
    NAMED(sampler, "random", "random, or first_n: always the first ones", samplers),
    NAMED(rules, "v0.4", "v0.4, or v0.3: as the Open LLM Leaderboard drew examples", slm2_task_rules),
    ROW(seed, INT64, -1, 9007199254740991.0, "-1", "decides which examples; -1: 1234, by rules v0.3 42"),
    ROW(group, STR, 0, 0, NULL, "field by whose value the figures are given too, as NAME.VALUE"),
    ROW(chat, STR, 0, 0, NULL, "zephyr or chatml: the prompt is a user's message; default: plain text"),
    ROW(metrics, STRS, 0, 0, "[]", "choice: acc, acc_norm, and if named acc_bytes, mc2; word: acc, perplexity; generate: exact_match, contains, prefix_match; "
                                   "perplexity: bits_per_byte, token_perplexity, word_perplexity, byte_perplexity"),
    ROW(stop, STRS, 0, 0, "[]", "generate: strings that end an answer"),
    {.name = "filters", .type = SLM2_OPT_LIST, .offset = offsetof(struct slm2_task, filters), .def = "[]", .help = "generate: ways from the text to the answer; default: one, the text as it is", .sub = filter_settings, .sub_size = sizeof(struct slm2_answer_filter)},
    ROW(normalise, STRS, 0, 0, "[]", "generate: filters of both the filtered answer and the right ones before they are compared"),
    ROW(max_new, INT, 1, 65536, "32", "generate: most tokens of an answer; at most half of the model's context"),
    ROW(n_ctx, INT, -1, 1 << 20, "0", "perplexity: tokens of a window; 0: the model's context, at most 2048; -1: all of it"),
    ROW(stride, INT, -1, 1 << 20, "0", "perplexity: tokens from window to window; 0: disjoint; -1: disjoint, the last with as much context as fits (the harness)"),
    {.name = NULL},
};

static char **slot(struct slm2_conf_list *l, int i) { return &((char **)l->items)[i]; }

/* ---- definitions ----------------------------------------------------------------------------------------------------------- */
static slm2_status no_memory(const struct slm2_task *t, struct slm2_err *err) { return slm2_fail(err, SLM2_ENOMEM, "%s: no memory", t->path ? t->path : "task"); }

/* {each} in *text becomes the part. */
static slm2_status put_part(struct slm2_task *t, char **text, struct slm2_err *err)
{
    static const char mark[] = "{each}";
    struct slm2_buf b = {0};
    const char *s = *text, *at;
    if (!t->part || !strstr(s, mark)) return SLM2_OK;
    for (; (at = strstr(s, mark)); s = at + strlen(mark)) {
        slm2_buf_put(&b, s, (size_t)(at - s));
        slm2_buf_puts(&b, t->part);
    }
    slm2_buf_puts(&b, s);
    if (b.failed) {
        slm2_buf_free(&b);
        return no_memory(t, err);
    }
    free(*text);
    *text = b.v; /* memory of malloc, as all strings of settings are */
    return SLM2_OK;
}

static slm2_status choose_part(struct slm2_task *t, const char *part, struct slm2_err *err)
{
    bool known = false;
    if (!part) return SLM2_OK;
    for (int i = 0; i < t->each.n; i++) known = known || strcmp(slm2_str_at(&t->each, i), part) == 0;
    if (!known) return slm2_fail(err, SLM2_EUSAGE, "the task has no part \"%.60s\"", part);
    if (!(t->part = strdup(part))) return no_memory(t, err);
    SLM2_TRY(put_part(t, &t->name, err));
    SLM2_TRY(put_part(t, &t->source, err));
    SLM2_TRY(put_part(t, &t->shots, err));
    for (int i = 0; i < t->data.n; i++) SLM2_TRY(put_part(t, slot(&t->data, i), err));
    return SLM2_OK;
}

static slm2_status check_name(const struct slm2_task *t, struct slm2_err *err)
{
    static const char letters[] = "{}ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    bool open = t->each.n && !t->part; /* {each} may stand in it */
    size_t n = strlen(t->name);
    if (n > 40 || strspn(t->name, open ? letters : letters + 2) != n) return slm2_fail(err, SLM2_EFORMAT, "name: \"%.60s\", want up to 40 letters, digits, '_' and '-'", t->name);
    if (open && !strstr(t->name, "{each}")) return slm2_fail(err, SLM2_EFORMAT, "name: \"%.60s\" lacks {each}, the parts would all be called so", t->name);
    return SLM2_OK;
}

/* The metrics named, or the default ones of the kind. */
static slm2_status settle_metrics(struct slm2_task *t, struct slm2_err *err)
{
    for (int i = 0; i < t->metrics.n; i++) {
        bool known = false;
        for (int k = 0; metrics[t->kind].names[k]; k++) known = known || strcmp(metrics[t->kind].names[k], slm2_str_at(&t->metrics, i)) == 0;
        if (!known) return slm2_fail(err, SLM2_EFORMAT, "metrics: a task of kind %s has no \"%.40s\"", slm2_task_kinds[t->kind], slm2_str_at(&t->metrics, i));
    }
    if (t->metrics.n) return SLM2_OK;
    int n = metrics[t->kind].n_default;
    if (!(t->metrics.items = calloc((size_t)n, sizeof(char *)))) return no_memory(t, err);
    for (t->metrics.n = 0; t->metrics.n < n; t->metrics.n++)
        if (!(*slot(&t->metrics, t->metrics.n) = strdup(metrics[t->kind].names[t->metrics.n]))) return no_memory(t, err);
    return SLM2_OK;
}

static slm2_status check_filters(struct slm2_task *t, struct slm2_err *err)
{
    if (t->filters.n == 0) {
        struct slm2_answer_filter *f = calloc(1, sizeof *f);
        if (!f) return no_memory(t, err);
        slm2_conf_init(filter_settings, f);
        t->filters = (struct slm2_conf_list){f, 1};
    }
    for (int i = 0; i < t->filters.n; i++) {
        const struct slm2_answer_filter *f = &((const struct slm2_answer_filter *)t->filters.items)[i];
        if (t->filters.n > 1 && !*f->name) return slm2_fail(err, SLM2_EFORMAT, "filters: number %d has no name, which several need", i);
        for (int k = 0; k < f->steps.n; k++) SLM2_TRY(slm2_filter_check(slm2_str_at(&f->steps, k), err));
    }
    for (int i = 0; i < t->normalise.n; i++) SLM2_TRY(slm2_filter_check(slm2_str_at(&t->normalise, i), err));
    return SLM2_OK;
}

static slm2_status check(struct slm2_task *t, struct slm2_err *err)
{
    SLM2_TRY(check_name(t, err));
    if (t->data.n == 0) return slm2_fail(err, SLM2_EFORMAT, "data: missing; want the file of the records");
    if (!slm2_form_known(t->form)) return slm2_fail(err, SLM2_EFORMAT, "form: there is no \"%.40s\", see src/eval/form.h", t->form);
    SLM2_TRY(settle_metrics(t, err));
    if (t->kind == SLM2_TASK_PERPLEXITY) return SLM2_OK;
    bool partial = t->kind == SLM2_TASK_CHOICE && *t->contexts;
    if (!*t->prompt && !partial) return slm2_fail(err, SLM2_EFORMAT, "prompt: missing; want a text with {field} of the records");
    if (!*t->target && (partial || t->kind == SLM2_TASK_WORD)) return slm2_fail(err, SLM2_EFORMAT, "target: missing; want a text with {field} of the records");
    if (t->kind == SLM2_TASK_CHOICE && t->choices.n == 0) return slm2_fail(err, SLM2_EFORMAT, "choices: missing; want a field or two and more texts");
    SLM2_TRY(slm2_template_check(t->prompt, err));
    SLM2_TRY(slm2_template_check(t->description, err));
    SLM2_TRY(slm2_template_check(t->target, err));
    for (int i = 0; i < t->choices.n && t->choices.n > 1; i++) SLM2_TRY(slm2_template_check(slm2_str_at(&t->choices, i), err));
    SLM2_TRY(check_filters(t, err));
    enum slm2_chat_template tmpl;
    if (*t->chat && partial) return slm2_fail(err, SLM2_EFORMAT, "chat: not with contexts, which are no messages");
    return *t->chat ? slm2_records_template(t->chat, &tmpl, err) : SLM2_OK;
}

slm2_status slm2_task_define(struct slm2_task *t, const char *path, const char *part, struct slm2_err *err)
{
    memset(t, 0, sizeof *t);
    slm2_conf_init(slm2_task_settings, t);
    slm2_status st = slm2_conf_yaml(slm2_task_settings, t, path, err);
    if (st == SLM2_OK && !(t->path = strdup(path))) st = no_memory(t, err);
    if (st == SLM2_OK) {
        st = slm2_conf_required(slm2_task_settings, t, err);
        if (st == SLM2_OK) st = choose_part(t, part, err);
        if (st == SLM2_OK) st = check(t, err);
        if (st != SLM2_OK) slm2_wrap(err, st, "%s", path);
    }
    if (st != SLM2_OK) slm2_task_free(t);
    return st;
}

void slm2_task_free(struct slm2_task *t)
{
    slm2_conf_free(slm2_task_settings, t);
    json_decref(t->items);
    json_decref(t->pool);
    free(t->order);
    free(t->shot);
    free(t->path);
    free(t->part);
    memset(t, 0, sizeof *t);
}

int64_t slm2_task_draw_seed(const struct slm2_task *t, int64_t added)
{
    return (int64_t)((uint64_t)(t->seed >= 0 ? t->seed : t->rules == SLM2_RULES_V03 ? 42 : 1234) + (uint64_t)added);
}

const json_t *slm2_task_item(const struct slm2_task *t, size_t i) { return json_array_get(t->items, t->order[i]); }

/* ---- records ----------------------------------------------------------------------------------------------------------------- */
struct loading { struct slm2_task *t; json_t *list; };

static slm2_status take(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct loading *l = user;
    struct slm2_task *t = l->t;
    bool skip = false;
    if (t->part && *t->where) {
        const json_t *v = slm2_template_lookup(j, t->where, strlen(t->where));
        if (!json_is_string(v)) return slm2_fail(err, SLM2_EFORMAT, "%s: field \"%s\" is %s, so the record's part is not known", what, t->where, v ? "no string" : "missing");
        if (strcmp(json_string_value(v), t->part) != 0) return SLM2_OK;
    }
    slm2_status st = slm2_form_apply(t->form, j, &skip, err);
    if (st == SLM2_OK && !skip) st = slm2_task_check_record(t, j, err);
    if (st == SLM2_OK && !skip && json_array_append(l->list, j)) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the items");
    t->n_skipped += skip;
    return st == SLM2_OK ? st : slm2_wrap(err, st, "%s", what);
}

/* Records of one part out of a file with many (57 subjects would parse it 57 times over): lines that do not name the part are passed over
 * unparsed.  *whole: it is no file of lines, and nothing was read. */
static slm2_status read_part(struct loading *l, const char *path, bool *whole, struct slm2_err *err)
{
    const char *part = l->t->part, *line;
    struct slm2_lines *lines;
    size_t n;
    char what[4200];
    SLM2_TRY(slm2_lines_open(&lines, path, err));
    slm2_status st = SLM2_OK;
    *whole = false;
    while (st == SLM2_OK && (st = slm2_lines_next(lines, &line, &n, err)) == SLM2_OK && line) {
        json_t *j;
        bool first = slm2_lines_number(lines) == 1, mark = first && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0;
        if (mark) line += 3, n -= 3;
        size_t blank = slm2_py_lstrip(line, n);
        if (first && blank < n && line[blank] == '[') {
            *whole = true;
            break;
        }
        if (!memmem(line, n, part, strlen(part))) continue;
        snprintf(what, sizeof what, "%s: line %llu", path, (unsigned long long)slm2_lines_number(lines));
        if ((st = slm2_json_parse(&j, line, n, what, err)) != SLM2_OK) break;
        st = take(l, j, what, err);
        json_decref(j);
    }
    slm2_lines_close(lines);
    return st;
}

static slm2_status read_logiqa(struct loading *l, const char *path, struct slm2_err *err)
{
    json_t *list = json_array(), *j;
    size_t i;
    char what[4200];
    slm2_status st = slm2_form_logiqa_text(path, list, err);
    json_array_foreach(list, i, j) {
        snprintf(what, sizeof what, "%s: record %zu", path, i + 1);
        if (st == SLM2_OK) st = take(l, j, what, err);
    }
    json_decref(list);
    return st;
}

/* out[cap]: the file in the data folder, beside the task's definition, or as it is named. */
static slm2_status find_data(const struct slm2_task *t, const char *data_dir, const char *name, char *out, size_t cap, struct slm2_err *err)
{
    char dir[2048];
    SLM2_TRY(slm2_path_folder(dir, sizeof dir, t->path, err));
    const char *places[] = {data_dir && *data_dir ? data_dir : NULL, dir, "."};
    for (int i = *name == '/' ? 2 : 0; i < 3; i++) {
        if (!places[i]) continue;
        if (i == 2 && snprintf(out, cap, "%s", name) >= (int)cap) return slm2_fail(err, SLM2_ELIMIT, "%.80s...: the path is too long", name);
        if (i < 2) SLM2_TRY(slm2_path_join(out, cap, places[i], name, err));
        if (slm2_path_exists(out)) return SLM2_OK;
    }
    return slm2_fail(err, SLM2_EIO, "%s: data: no file %s %s%s, beside the task, or here.%s%s", t->path, name, places[0] ? "in " : "in a data folder (--data-dir)", places[0] ? places[0] : "", *t->source ? " Nothing is downloaded; wanted: " : "", t->source);
}

static slm2_status read_records(struct slm2_task *t, const char *data_dir, const char *name, json_t *list, struct slm2_err *err)
{
    char path[4096];
    struct loading l = {t, list};
    int64_t n_bad = 0;
    size_t stem = strlen(name);
    slm2_status st = find_data(t, data_dir, name, path, sizeof path, err);
    if (st == SLM2_EIO && strcmp(t->form, "logiqa") == 0 && stem > 6 && strcmp(name + stem - 6, ".jsonl") == 0) { /* the form in which it was published */
        char text[2048];
        struct slm2_err no;
        snprintf(text, sizeof text, "%.*s.txt", (int)stem - 6, name);
        if (find_data(t, data_dir, text, path, sizeof path, &no) == SLM2_OK) return read_logiqa(&l, path, err);
    }
    bool whole = true;
    if (st == SLM2_OK && t->part && *t->where) st = read_part(&l, path, &whole, err);
    return st == SLM2_OK && whole ? slm2_records_read(path, 0, true, take, &l, &n_bad, err) : st;
}

/* Paths of texts are made final once, so that whoever measures need not search. */
static slm2_status settle_paths(struct slm2_task *t, const char *data_dir, struct slm2_err *err)
{
    for (int i = 0; i < t->data.n; i++) {
        char path[4096];
        SLM2_TRY(find_data(t, data_dir, slm2_str_at(&t->data, i), path, sizeof path, err));
        char *copy = strdup(path);
        if (!copy) return no_memory(t, err);
        free(*slot(&t->data, i));
        *slot(&t->data, i) = copy;
    }
    return SLM2_OK;
}

static slm2_status read_all(struct slm2_task *t, const struct slm2_task_opts *o, struct slm2_err *err)
{
    if (!(t->items = json_array())) return no_memory(t, err);
    for (int i = 0; i < t->data.n; i++) SLM2_TRY(read_records(t, o->data_dir, slm2_str_at(&t->data, i), t->items, err));
    if (json_array_size(t->items) == 0) return slm2_fail(err, SLM2_EFORMAT, "%s: data: no item%s%s in %s", t->path, t->part ? " of part " : "", t->part ? t->part : "", slm2_str_at(&t->data, 0));
    if (!*t->shots || t->n_shot == 0) {
        t->pool = json_incref(t->items);
        return SLM2_OK;
    }
    size_t n_skipped = t->n_skipped;
    if (!(t->pool = json_array())) return no_memory(t, err);
    SLM2_TRY(read_records(t, o->data_dir, t->shots, t->pool, err));
    t->n_skipped = n_skipped; /* of the items only */
    return SLM2_OK;
}

/* ---- the draw ---------------------------------------------------------------------------------------------------------------- */
/* Examples of one item into idx[n_shot]; drawn[n_shot + 1] is memory.  One more is drawn from the items themselves, should the item be among
 * them; v0.4 leaves out what equals the item from other pools too, and has one too few then. */
static slm2_status draw(const struct slm2_task *t, struct slm2_pyrandom *r, uint32_t item, uint32_t *drawn, uint32_t *idx, struct slm2_err *err)
{
    uint32_t n = (uint32_t)json_array_size(t->pool), k = (uint32_t)t->n_shot, found = 0;
    bool own = t->pool == t->items;
    if (k + own > n) return slm2_fail(err, SLM2_EUSAGE, "%s: %u examples wanted, there are %u; want a larger pool, or fewer by --n-shot", t->name, k, n - (own && n > 0));
    for (uint32_t i = 0; i < k + own; i++) drawn[i] = i; /* first_n */
    if (t->sampler == RANDOM) SLM2_TRY(slm2_pyrandom_sample(r, n, k + own, drawn, err));
    for (uint32_t i = 0; i < k + own && found < k; i++) {
        bool drop = (own || t->rules == SLM2_RULES_V04) && json_equal(json_array_get(t->pool, drawn[i]), json_array_get(t->items, item));
        if (!drop) idx[found++] = drawn[i];
    }
    while (found < k) idx[found++] = SLM2_NO_SHOT;
    return SLM2_OK;
}

static slm2_status draw_all(struct slm2_task *t, const struct slm2_task_opts *o, struct slm2_err *err)
{
    size_t n = json_array_size(t->items), k = (size_t)t->n_shot, bytes;
    struct slm2_pyrandom r;
    if (n > UINT32_MAX || !slm2_mul_size(n * sizeof(uint32_t), k + 1, &bytes)) return slm2_fail(err, SLM2_ELIMIT, "%s: %zu items are too many", t->name, n);
    t->order = malloc(n * sizeof *t->order);
    t->shot = malloc(bytes);
    uint32_t *drawn = calloc(k + 1, sizeof *drawn);
    slm2_status st = SLM2_OK;
    if (!t->order || !t->shot || !drawn) {
        free(drawn);
        return no_memory(t, err);
    }
    for (uint32_t i = 0; i < n; i++) t->order[i] = i;
    slm2_pyrandom_seed(&r, (uint64_t)slm2_task_draw_seed(t, o->seed));
    if (t->rules == SLM2_RULES_V03) slm2_pyrandom_shuffle(&r, t->order, (uint32_t)n);
    double limit = o->limit > 0 && o->limit < 1 ? ceil((double)n * o->limit) : o->limit;
    t->n = limit > 0 && limit < (double)n ? (size_t)limit : n;
    for (size_t i = 0; i < t->n && k && st == SLM2_OK; i++) st = draw(t, &r, t->order[i], drawn, t->shot + i * k, err);
    free(drawn);
    return st;
}

slm2_status slm2_task_open(struct slm2_task *t, const char *path, const struct slm2_task_opts *o, struct slm2_err *err)
{
    static const struct slm2_task_opts none = {.n_shot = -1, .rules = -1};
    if (!o) o = &none;
    SLM2_TRY(slm2_task_define(t, path, o->part, err));
    slm2_status st = SLM2_OK;
    if (t->each.n && !t->part) st = slm2_fail(err, SLM2_EUSAGE, "%s: has %d parts (%s, ...); one must be named", path, t->each.n, slm2_str_at(&t->each, 0));
    if (o->n_shot >= 0) t->n_shot = o->n_shot;
    if (o->rules >= 0) t->rules = o->rules;
    if (t->kind == SLM2_TASK_PERPLEXITY) t->n_shot = 0;
    if (st == SLM2_OK && t->kind == SLM2_TASK_PERPLEXITY) st = settle_paths(t, o->data_dir, err);
    else if (st == SLM2_OK) {
        st = read_all(t, o, err);
        if (st == SLM2_OK) st = draw_all(t, o, err);
    }
    if (st != SLM2_OK) slm2_task_free(t);
    return st;
}
