/* task.c - reads a task and writes its prompts.  Every setting is a row of the table below; anything else in the YAML is an error. */
#include "eval/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "data/records.h"
#include "tok/chat.h"

const char *const slm2_task_kinds[] = {"choice", "generate", "perplexity", NULL};
static const char *const metric_names[][5] = { /* the first of each kind is the default */
    {"acc", "acc_norm", NULL}, {"exact_match", "contains", "prefix_match", NULL}, {"bits_per_byte", "token_perplexity", "word_perplexity", "byte_perplexity", NULL}};

#define ROW(f, kind, low, high, default_, text) {.name = #f, .type = SLM2_OPT_##kind, .offset = offsetof(struct slm2_task, f), .lo = low, .hi = high, .def = default_, .help = text}
const struct slm2_opt slm2_task_settings[] = {
    ROW(name, STR, 0, 0, "!", "name in the results"),
    {.name = "kind", .type = SLM2_OPT_ENUM, .offset = offsetof(struct slm2_task, kind), .def = "choice", .help = "choice, generate or perplexity", .choices = slm2_task_kinds},
    ROW(version, INT, 0, 1 << 20, "1", "raise it when a change of the task changes its figures"),
    ROW(data, STRS, 0, 0, "[]", "JSONL files of items; perplexity: text or JSONL files"),
    ROW(prompt, STR, 0, 0, NULL, "what stands before the answer, with {field} of the item"),
    ROW(description, STR, 0, 0, NULL, "text in front of everything; chat: the system message"),
    ROW(choices, STR, 0, 0, "choices", "choice: field with the list of answers"),
    ROW(gold, STR, 0, 0, "answer", "field of the right answer: choice: its number from 0, its letter or its text; generate: a string or a list of them"),
    ROW(delimiter, STR, 0, 0, " ", "between prompt and answer; not in a chat"),
    ROW(separator, STR, 0, 0, "\n\n", "behind each example; not in a chat"),
    ROW(n_shot, INT, 0, 256, "0", "examples with their answers in front of each item"),
    ROW(shots, STR, 0, 0, NULL, "JSONL file of the examples; default: the other items"),
    ROW(seed, INT64, 0, 9007199254740991.0, "1234", "decides which examples"),
    ROW(group, STR, 0, 0, NULL, "field by whose value the figures are given too, as NAME.VALUE"),
    ROW(chat, STR, 0, 0, NULL, "zephyr or chatml: the prompt is a user's message; default: plain text"),
    ROW(metrics, STRS, 0, 0, "[]", "choice: acc, acc_norm; generate: exact_match, contains, prefix_match; perplexity: bits_per_byte, token_perplexity, word_perplexity, byte_perplexity; default: all"),
    ROW(stop, STRS, 0, 0, "[]", "generate: strings that end an answer"),
    ROW(filters, STRS, 0, 0, "[]", "generate: what makes the answer out of the text, see filter.c"),
    ROW(max_new, INT, 1, 65536, "32", "generate: most tokens of an answer"),
    ROW(n_ctx, INT, 0, 1 << 20, "0", "perplexity: tokens of a window; 0: the model's context, at most 2048"),
    ROW(stride, INT, 0, 1 << 20, "0", "perplexity: tokens from window to window; 0: disjoint"),
    {.name = NULL},
};

static const char *str_at(const struct slm2_conf_list *l, int i) { return ((char **)l->items)[i]; }

/* ---- templates --------------------------------------------------------------------------------------------------------- */
/* The member that name[n] means, or NULL: "a", "a.b", "a.0". */
static const json_t *lookup(const json_t *item, const char *name, size_t n)
{
    while (item && n > 0) {
        const char *dot = memchr(name, '.', n);
        size_t len = dot ? (size_t)(dot - name) : n;
        char key[128];
        if (len >= sizeof key) return NULL;
        memcpy(key, name, len);
        key[len] = '\0';
        if (json_is_array(item)) {
            char *end;
            unsigned long i = strtoul(key, &end, 10);
            item = *end == '\0' && len > 0 ? json_array_get(item, i) : NULL;
        } else item = json_object_get(item, key);
        name += len + (dot != NULL);
        n -= len + (dot != NULL);
    }
    return item;
}

static bool put_value(const json_t *v, struct slm2_buf *out)
{
    if (json_is_string(v)) slm2_buf_put(out, json_string_value(v), json_string_length(v));
    else if (json_is_number(v) || json_is_boolean(v)) slm2_json_dump(v, out);
    else return false;
    return true;
}

/* item NULL: only checks */
static slm2_status fill(const char *tmpl, const json_t *item, struct slm2_buf *out, struct slm2_err *err)
{
    for (const char *s = tmpl; *s;) {
        if ((*s == '{' || *s == '}') && s[1] == *s) {
            if (out) slm2_buf_putc(out, *s);
            s += 2;
        } else if (*s == '}') {
            return slm2_fail(err, SLM2_EFORMAT, "template: '}' without '{' at byte %td of \"%.80s\"; a brace itself is written \"}}\"", s - tmpl, tmpl);
        } else if (*s == '{') {
            size_t n = strcspn(s + 1, "{}");
            if (s[1 + n] != '}' || n == 0) return slm2_fail(err, SLM2_EFORMAT, "template: '{' at byte %td of \"%.80s\" begins no {field}; a brace itself is written \"{{\"", s - tmpl, tmpl);
            const json_t *v = item ? lookup(item, s + 1, n) : NULL;
            if (item && !v) return slm2_fail(err, SLM2_EFORMAT, "template: the item has no field \"%.*s\"", (int)n, s + 1);
            if (item && !put_value(v, out)) return slm2_fail(err, SLM2_EFORMAT, "template: field \"%.*s\" is neither text nor a number", (int)n, s + 1);
            s += n + 2;
        } else {
            if (out) slm2_buf_putc(out, *s);
            s++;
        }
    }
    return out ? slm2_buf_check(out, err) : SLM2_OK;
}

slm2_status slm2_template_fill(const char *tmpl, const json_t *item, struct slm2_buf *out, struct slm2_err *err) { return fill(tmpl, item, out, err); }
slm2_status slm2_template_check(const char *tmpl, struct slm2_err *err) { return fill(tmpl, NULL, NULL, err); }

/* ---- items ---------------------------------------------------------------------------------------------------------------- */
const json_t *slm2_task_item(const struct slm2_task *t, size_t i) { return json_array_get(t->items, i); }

slm2_status slm2_task_choices(const struct slm2_task *t, const json_t *item, const json_t **choices, size_t *gold, struct slm2_err *err)
{
    const json_t *list = lookup(item, t->choices, strlen(t->choices)), *right = lookup(item, t->gold, strlen(t->gold));
    size_t n = json_array_size(list);
    if (n < 2) return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" is no list of at least two answers", t->choices);
    for (size_t i = 0; i < n; i++)
        if (!json_string_length(json_array_get(list, i))) return slm2_fail(err, SLM2_EFORMAT, "field \"%s\": answer %zu is empty or no string", t->choices, i);
    *choices = list;
    *gold = n;
    if (json_is_integer(right) && json_integer_value(right) >= 0) *gold = (size_t)json_integer_value(right);
    else if (json_is_string(right)) {
        const char *s = json_string_value(right);
        for (size_t i = n; i-- > 0;)
            if (strcmp(s, json_string_value(json_array_get(list, i))) == 0) *gold = i;
        if (*gold == n && s[0] >= 'A' && s[0] <= 'Z' && !s[1]) *gold = (size_t)(s[0] - 'A');
    }
    if (*gold >= n) return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" names none of the %zu answers; want a number from 0, a letter from A, or the text", t->gold, n);
    return SLM2_OK;
}

slm2_status slm2_task_answers(const struct slm2_task *t, const json_t *item, json_t **answers, struct slm2_err *err)
{
    const json_t *v = lookup(item, t->gold, strlen(t->gold));
    json_t *list = json_array();
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        struct slm2_buf text = {0};
        bool ok = put_value(json_is_array(v) ? json_array_get(v, i) : v, &text) && !text.failed && text.n > 0;
        if (ok) json_array_append_new(list, json_stringn(text.v, text.n));
        slm2_buf_free(&text);
        if (!ok) break;
    }
    if (n == 0 || json_array_size(list) != n) {
        json_decref(list);
        return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" is no answer: want a text, a number or a list of them", t->gold);
    }
    *answers = list;
    return SLM2_OK;
}

/* The text of an item's right answer. */
static slm2_status right_answer(const struct slm2_task *t, const json_t *item, struct slm2_buf *out, struct slm2_err *err)
{
    if (t->kind == SLM2_TASK_CHOICE) {
        const json_t *choices;
        size_t gold;
        SLM2_TRY(slm2_task_choices(t, item, &choices, &gold, err));
        slm2_buf_puts(out, json_string_value(json_array_get(choices, gold)));
    } else {
        json_t *answers;
        SLM2_TRY(slm2_task_answers(t, item, &answers, err));
        slm2_buf_puts(out, json_string_value(json_array_get(answers, 0)));
        json_decref(answers);
    }
    return slm2_buf_check(out, err);
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------- */
struct loading { struct slm2_task *t; json_t *list; };

static slm2_status take(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct loading *l = user;
    struct slm2_buf text = {0};
    slm2_status st = json_is_object(j) ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "not a JSON object");
    if (st == SLM2_OK) st = slm2_template_fill(l->t->prompt, j, &text, err);
    if (st == SLM2_OK) st = right_answer(l->t, j, &text, err);
    slm2_buf_free(&text);
    if (st == SLM2_OK && json_array_append(l->list, j)) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the items");
    return st == SLM2_OK ? st : slm2_wrap(err, st, "%s", what);
}

/* A data file as it is named, or beside the task's definition. */
static slm2_status find_data(const struct slm2_task *t, const char *name, char *out, size_t cap, struct slm2_err *err)
{
    char dir[2048];
    const char *slash = strrchr(t->path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - t->path) : 1, slash ? t->path : ".");
    if (slm2_path_exists(name) || *name == '/') {
        if (snprintf(out, cap, "%s", name) >= (int)cap) return slm2_fail(err, SLM2_ELIMIT, "%.80s...: the path is too long", name);
        return SLM2_OK;
    }
    SLM2_TRY(slm2_path_join(out, cap, dir, name, err));
    if (!slm2_path_exists(out)) return slm2_fail(err, SLM2_EIO, "%s: data: no file %s, neither from here nor beside the task", t->path, name);
    return SLM2_OK;
}

static slm2_status read_items(struct slm2_task *t, const char *name, json_t *list, struct slm2_err *err)
{
    char path[4096];
    struct loading l = {t, list};
    int64_t n_bad = 0;
    SLM2_TRY(find_data(t, name, path, sizeof path, err));
    return slm2_records_read(path, 0, true, take, &l, &n_bad, err);
}

/* Paths of texts are made final once, so that whoever measures need not search. */
static slm2_status settle_paths(struct slm2_task *t, struct slm2_err *err)
{
    for (int i = 0; i < t->data.n; i++) {
        char path[4096], **slot = &((char **)t->data.items)[i];
        SLM2_TRY(find_data(t, *slot, path, sizeof path, err));
        char *copy = strdup(path);
        if (!copy) return slm2_fail(err, SLM2_ENOMEM, "no memory for a path");
        free(*slot);
        *slot = copy;
    }
    return SLM2_OK;
}

static slm2_status check(const struct slm2_task *t, struct slm2_err *err)
{
    for (const char *s = t->name; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_' || *s == '-'))
            return slm2_fail(err, SLM2_EFORMAT, "name: \"%.60s\", want letters, digits, _ and -", t->name);
    if (strlen(t->name) > 40) return slm2_fail(err, SLM2_EFORMAT, "name: more than 40 bytes");
    if (t->data.n == 0) return slm2_fail(err, SLM2_EFORMAT, "data: no file is named");
    for (int i = 0; i < t->metrics.n; i++) {
        bool known = false;
        for (int k = 0; metric_names[t->kind][k]; k++) known = known || strcmp(metric_names[t->kind][k], str_at(&t->metrics, i)) == 0;
        if (!known) return slm2_fail(err, SLM2_EFORMAT, "metrics: a task of kind %s has no \"%.40s\"", slm2_task_kinds[t->kind], str_at(&t->metrics, i));
    }
    if (t->kind == SLM2_TASK_PERPLEXITY) return SLM2_OK;
    if (!*t->prompt) return slm2_fail(err, SLM2_EFORMAT, "prompt: missing; want a text with {field} of the items");
    SLM2_TRY(slm2_template_check(t->prompt, err));
    for (int i = 0; i < t->filters.n; i++) SLM2_TRY(slm2_filter_check(str_at(&t->filters, i), err));
    enum slm2_chat_template tmpl;
    return *t->chat ? slm2_records_template(t->chat, &tmpl, err) : SLM2_OK;
}

slm2_status slm2_task_open(struct slm2_task *t, const char *path, struct slm2_err *err)
{
    memset(t, 0, sizeof *t);
    slm2_conf_init(slm2_task_settings, t);
    slm2_status st = slm2_conf_yaml(slm2_task_settings, t, path, err);
    t->path = strdup(path);
    t->items = json_array();
    if (st == SLM2_OK && (!t->path || !t->items)) st = slm2_fail(err, SLM2_ENOMEM, "%s: no memory", path);
    if (st == SLM2_OK && (st = slm2_conf_required(slm2_task_settings, t, err)) != SLM2_OK) slm2_wrap(err, st, "%s", path);
    if (st == SLM2_OK && (st = check(t, err)) != SLM2_OK) slm2_wrap(err, st, "%s", path);
    if (st == SLM2_OK && t->kind == SLM2_TASK_PERPLEXITY) st = settle_paths(t, err);
    else if (st == SLM2_OK) {
        for (int i = 0; i < t->data.n && st == SLM2_OK; i++) st = read_items(t, str_at(&t->data, i), t->items, err);
        if (st == SLM2_OK && json_array_size(t->items) == 0) st = slm2_fail(err, SLM2_EFORMAT, "%s: data: no item in %s", path, str_at(&t->data, 0));
        if (st == SLM2_OK) t->pool = *t->shots ? json_array() : json_incref(t->items);
        if (st == SLM2_OK && *t->shots) st = read_items(t, t->shots, t->pool, err);
    }
    if (st != SLM2_OK) slm2_task_free(t);
    return st;
}

void slm2_task_free(struct slm2_task *t)
{
    slm2_conf_free(slm2_task_settings, t);
    json_decref(t->items);
    json_decref(t->pool);
    free(t->path);
    memset(t, 0, sizeof *t);
}

/* ---- prompts ----------------------------------------------------------------------------------------------------------------- */
slm2_status slm2_task_shots(const struct slm2_task *t, size_t i, int n_shot, int64_t seed, uint32_t *idx, struct slm2_err *err)
{
    uint32_t n = (uint32_t)json_array_size(t->pool);
    bool own = t->pool == t->items;
    if ((uint32_t)n_shot > n - (own && n > 0)) return slm2_fail(err, SLM2_EUSAGE, "%s: %d examples wanted, there are %u", t->name, n_shot, n - (own && n > 0));
    if (n_shot == 0) return SLM2_OK;
    uint32_t *order = malloc(sizeof *order * n);
    if (!order) return slm2_fail(err, SLM2_ENOMEM, "no memory for the order of %u examples", n);
    slm2_rng_permute((uint64_t)t->seed + (uint64_t)seed, SLM2_RNG_FEWSHOT, i, order, n);
    for (int k = 0, at = 0; k < n_shot; at++)
        if (!own || order[at] != i) idx[k++] = order[at];
    free(order);
    return SLM2_OK;
}

/* A conversation's text: examples are earlier turns. */
struct turn { struct slm2_buf text; const char *role; };

static slm2_status render(const struct slm2_task *t, struct turn *turns, int n, struct slm2_buf *text, struct slm2_err *err)
{
    enum slm2_chat_template tmpl;
    SLM2_TRY(slm2_records_template(t->chat, &tmpl, err));
    struct slm2_msg *msgs = calloc((size_t)n, sizeof *msgs);
    if (!msgs) return slm2_fail(err, SLM2_ENOMEM, "no memory for a conversation");
    for (int i = 0; i < n; i++) msgs[i] = (struct slm2_msg){turns[i].role, turns[i].text.v, turns[i].text.n};
    slm2_chat_render(tmpl, msgs, n, true, text);
    free(msgs);
    return slm2_buf_check(text, err);
}

static slm2_status put_turn(struct turn *turns, int *n, const char *role, const char *plain, struct slm2_err *err)
{
    turns[*n].role = role;
    slm2_buf_puts(&turns[*n].text, plain);
    return slm2_buf_check(&turns[(*n)++].text, err);
}

static slm2_status question(const struct slm2_task *t, const json_t *item, struct turn *turns, int *n, struct slm2_buf *text, struct slm2_err *err)
{
    if (!*t->chat) return slm2_template_fill(t->prompt, item, text, err);
    SLM2_TRY(put_turn(turns, n, "user", "", err));
    return slm2_template_fill(t->prompt, item, &turns[*n - 1].text, err);
}

static slm2_status answer(const struct slm2_task *t, const json_t *item, struct turn *turns, int *n, struct slm2_buf *text, struct slm2_err *err)
{
    if (*t->chat) {
        SLM2_TRY(put_turn(turns, n, "assistant", "", err));
        return right_answer(t, item, &turns[*n - 1].text, err);
    }
    slm2_buf_puts(text, t->delimiter);
    SLM2_TRY(right_answer(t, item, text, err));
    slm2_buf_puts(text, t->separator);
    return slm2_buf_check(text, err);
}

slm2_status slm2_task_prompt(const struct slm2_task *t, size_t i, int n_shot, int64_t seed, struct slm2_buf *text, struct slm2_err *err)
{
    int n = 0, most = 2 * n_shot + 2;
    uint32_t *idx = calloc((size_t)n_shot + 1, sizeof *idx);
    struct turn *turns = calloc((size_t)most, sizeof *turns);
    slm2_status st = idx && turns ? slm2_task_shots(t, i, n_shot, seed, idx, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for a prompt");
    if (st == SLM2_OK && *t->description) {
        if (*t->chat) st = put_turn(turns, &n, "system", t->description, err);
        else slm2_buf_puts(text, t->description);
    }
    for (int k = 0; k < n_shot && st == SLM2_OK; k++) {
        const json_t *shot = json_array_get(t->pool, idx[k]);
        st = question(t, shot, turns, &n, text, err);
        if (st == SLM2_OK) st = answer(t, shot, turns, &n, text, err);
    }
    if (st == SLM2_OK) st = question(t, slm2_task_item(t, i), turns, &n, text, err);
    if (st == SLM2_OK && *t->chat) st = render(t, turns, n, text, err);
    for (int k = 0; turns && k < most; k++) slm2_buf_free(&turns[k].text);
    free(turns);
    free(idx);
    return st == SLM2_OK ? slm2_buf_check(text, err) : st;
}

slm2_status slm2_task_encode(const struct slm2_task *t, const struct slm2_tok *tok, const char *prompt, size_t n_prompt, const char *continuation, struct slm2_ids *context, struct slm2_ids *ids, struct slm2_err *err)
{
    int flags = slm2_tok_flags_default(tok);
    size_t n = strlen(continuation);
    if (*t->chat) {
        SLM2_TRY(slm2_tok_encode(tok, prompt, n_prompt, flags | SLM2_TOK_SPECIAL, context, err));
        return slm2_tok_encode(tok, continuation, n, flags, ids, err);
    }
    size_t text = n_prompt;
    while (n > 0 && text > 0 && prompt[text - 1] == ' ') text--; /* a tokenizer puts a space in front of the word it belongs to */
    struct slm2_buf whole = {0};
    struct slm2_ids both = {0};
    slm2_buf_put(&whole, prompt, n_prompt);
    slm2_buf_put(&whole, continuation, n);
    slm2_status st = slm2_buf_check(&whole, err);
    if (st == SLM2_OK) st = slm2_tok_encode(tok, whole.v ? whole.v : "", text, flags, context, err);
    if (st == SLM2_OK && n > 0) st = slm2_tok_encode(tok, whole.v, whole.n, flags, &both, err);
    for (size_t i = context->n; i < both.n && st == SLM2_OK; i++) st = slm2_ids_push(ids, both.v[i], err);
    if (st == SLM2_OK && n > 0 && ids->n == 0) st = slm2_tok_encode(tok, continuation, n, flags, ids, err); /* the answer melted into the prompt's last token */
    slm2_buf_free(&whole);
    slm2_ids_free(&both);
    return st;
}
