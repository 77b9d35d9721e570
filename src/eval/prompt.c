/* prompt.c - from a record to its requests: examples, question, choices, and the ids of both sides. */
#include <stdlib.h>
#include <string.h>

#include "data/records.h"
#include "tok/pystr.h"
#include "eval/task_impl.h"
#include "tok/chat.h"

/* ---- choices and right answers ------------------------------------------------------------------------------------------- */
struct picked { json_t *texts; bool *is_true; size_t n, gold; }; /* texts: new array of strings; is_true: [n] */

static void picked_free(struct picked *p)
{
    json_decref(p->texts);
    free(p->is_true);
    *p = (struct picked){0};
}

/* A member of item as a new JSON string; NULL: it is missing or no text. */
static json_t *string_of(const json_t *value, const char *field)
{
    struct slm2_buf b = {0};
    json_t *j = slm2_template_value(value, field, &b) ? json_stringn(b.v ? b.v : "", b.n) : NULL;
    slm2_buf_free(&b);
    return j;
}

static const json_t *member(const json_t *item, const char *field) { return slm2_template_lookup(item, field, strcspn(field, "|")); }

/* names: one field with a list, or several templates. */
static slm2_status list_of(const struct slm2_conf_list *names, const json_t *item, const char *what, json_t **out, struct slm2_err *err)
{
    const char *field = slm2_str_at(names, 0);
    const json_t *list = names->n == 1 ? member(item, field) : NULL;
    size_t n = names->n == 1 ? json_array_size(list) : (size_t)names->n;
    json_t *texts = json_array();
    slm2_status st = SLM2_OK;
    if (n < 2) st = slm2_fail(err, SLM2_EFORMAT, "field \"%s\" is no list of at least two %s", field, what);
    for (size_t i = 0; i < n && st == SLM2_OK; i++) {
        json_t *text = NULL;
        if (names->n == 1) {
            if (!(text = string_of(json_array_get(list, i), field))) st = slm2_fail(err, SLM2_EFORMAT, "field \"%s\": number %zu is no string", field, i);
        } else {
            struct slm2_buf b = {0};
            st = slm2_template_fill(slm2_str_at(names, (int)i), item, &b, err);
            text = json_stringn(b.v ? b.v : "", b.n);
            slm2_buf_free(&b);
        }
        if (st == SLM2_OK && json_array_append_new(texts, text)) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the %s", what);
        else if (st != SLM2_OK) json_decref(text);
    }
    if (st == SLM2_OK) *out = texts;
    else json_decref(texts);
    return st;
}

static size_t index_in(const json_t *texts, const char *s)
{
    size_t i, n = json_array_size(texts);
    for (i = 0; i < n; i++)
        if (strcmp(json_string_value(json_array_get(texts, i)), s) == 0) break;
    return i;
}

/* What a key names that is of another kind than the labels, as where a set has both: "C" of 1, 2, 3, or "3" of A, B, C. */
static size_t place_of(const char *s, size_t n)
{
    if (!s[0] || s[1]) return n;
    return s[0] >= 'A' && s[0] <= 'Z' ? (size_t)(s[0] - 'A') : s[0] >= '1' && s[0] <= '9' ? (size_t)(s[0] - '1') : n;
}

/* A whole number, whatever type a converter made of it: 1, 1.0 or true; n: none. */
static size_t index_of(const json_t *v, size_t n)
{
    double x = json_is_boolean(v) ? json_is_true(v) : json_is_number(v) ? json_number_value(v) : -1;
    return x >= 0 && x < (double)n && x == (double)(size_t)x ? (size_t)x : n;
}

/* Number of the right one of p->texts: by its label, number, text or letter. */
static slm2_status find_gold(const struct slm2_task *t, const json_t *item, struct picked *p, struct slm2_err *err)
{
    size_t n = p->n, digits = strspn(t->gold, "0123456789");
    const json_t *right = member(item, t->gold);
    p->gold = n;
    if (digits > 0 && !t->gold[digits]) p->gold = (size_t)strtoul(t->gold, NULL, 10);
    else if (json_is_array(right)) {
        if (json_array_size(right) != n) return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" has %zu marks for %zu answers", t->gold, json_array_size(right), n);
        for (size_t i = n; i-- > 0;) {
            p->is_true[i] = index_of(json_array_get(right, i), 2) == 1;
            if (p->is_true[i]) p->gold = i;
        }
    } else if (right) {
        bool whole = json_is_real(right) && index_of(right, 1000) < 1000; /* 3.0 is the label "3" */
        json_t *text = whole ? json_sprintf("%.0f", json_real_value(right)) : string_of(right, t->gold), *labels = NULL;
        const char *s = text ? json_string_value(text) : "";
        if (t->labels.n == 1) {
            slm2_status st = list_of(&t->labels, item, "labels", &labels, err);
            if (st != SLM2_OK) {
                json_decref(text);
                return st;
            }
            p->gold = index_in(labels, s);
            const char *first = json_string_value(json_array_get(labels, 0));
            bool other_kind = first && (*first >= '0' && *first <= '9') != (*s >= '0' && *s <= '9');
            if (p->gold == json_array_size(labels)) p->gold = other_kind ? place_of(s, n) : n; /* labels may be fewer than answers */
            json_decref(labels);
        } else if (t->labels.n > 1) {
            for (int i = t->labels.n; i-- > 0;)
                if (strcmp(slm2_str_at(&t->labels, i), s) == 0) p->gold = (size_t)i;
        } else if (!json_is_string(right)) {
            p->gold = index_of(right, n);
        } else { /* a text comes before its number: choices may be numbers */
            p->gold = index_in(p->texts, s);
            if (p->gold == n && *s && strspn(s, "0123456789") == strlen(s)) p->gold = (size_t)strtoul(s, NULL, 10);
            else if (p->gold == n) p->gold = place_of(s, n);
        }
        json_decref(text);
    }
    if (p->gold >= n) return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" names none of the %zu answers; want %s", t->gold, n, t->labels.n ? "one of the labels" : "a number from 0, a letter from A, or the text");
    p->is_true[p->gold] = true;
    return SLM2_OK;
}

static slm2_status pick(const struct slm2_task *t, const json_t *item, struct picked *p, struct slm2_err *err)
{
    char *field = t->contexts;
    struct slm2_conf_list one = {&field, 1};
    *p = (struct picked){0};
    SLM2_TRY(list_of(*t->contexts ? &one : &t->choices, item, *t->contexts ? "contexts" : "answers", &p->texts, err));
    p->n = json_array_size(p->texts);
    p->is_true = calloc(p->n, sizeof *p->is_true);
    slm2_status st = p->is_true ? find_gold(t, item, p, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the answers");
    if (st != SLM2_OK) picked_free(p);
    return st;
}

/* Accepted answers of a generation task: a new array. */
static slm2_status answers_of(const struct slm2_task *t, const json_t *item, json_t **answers, struct slm2_err *err)
{
    const json_t *v = member(item, t->gold);
    json_t *list = json_array();
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        json_t *text = string_of(json_is_array(v) ? json_array_get(v, i) : v, t->gold);
        if (!json_string_length(text)) {
            json_decref(text);
            break;
        }
        json_array_append_new(list, text);
    }
    if (n == 0 || json_array_size(list) != n) {
        json_decref(list);
        return slm2_fail(err, SLM2_EFORMAT, "field \"%s\" is no answer: want a text, a number or a list of them", t->gold);
    }
    *answers = list;
    return SLM2_OK;
}

/* ---- one question and its answer -------------------------------------------------------------------------------------------- */
static slm2_status put_string(const json_t *s, struct slm2_buf *out, struct slm2_err *err)
{
    slm2_buf_put(out, json_string_value(s), json_string_length(s));
    return slm2_buf_check(out, err);
}

/* The question of an example; partial evaluation: the context that is right. */
static slm2_status put_question(const struct slm2_task *t, const json_t *item, struct slm2_buf *out, struct slm2_err *err)
{
    struct picked p;
    if (t->kind != SLM2_TASK_CHOICE || !*t->contexts) return slm2_template_fill(t->prompt, item, out, err);
    SLM2_TRY(pick(t, item, &p, err));
    slm2_status st = put_string(json_array_get(p.texts, p.gold), out, err);
    picked_free(&p);
    return st;
}

/* The right answer of an example, without the delimiter. */
static slm2_status put_answer(const struct slm2_task *t, const json_t *item, struct slm2_buf *out, struct slm2_err *err)
{
    struct picked p;
    json_t *answers;
    if (t->kind == SLM2_TASK_WORD || *t->contexts) return slm2_template_fill(t->target, item, out, err);
    if (t->kind == SLM2_TASK_CHOICE) {
        SLM2_TRY(pick(t, item, &p, err));
        slm2_status st = put_string(json_array_get(p.texts, p.gold), out, err);
        picked_free(&p);
        return st;
    }
    SLM2_TRY(answers_of(t, item, &answers, err));
    slm2_status st = put_string(json_array_get(answers, 0), out, err);
    json_decref(answers);
    return st;
}

slm2_status slm2_task_check_record(const struct slm2_task *t, const json_t *item, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    slm2_status st = json_is_object(item) ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "not a JSON object");
    if (st == SLM2_OK) st = slm2_template_fill(t->description, item, &text, err);
    if (st == SLM2_OK) st = put_question(t, item, &text, err);
    if (st == SLM2_OK) st = put_answer(t, item, &text, err);
    slm2_buf_free(&text);
    return st;
}

/* ---- contexts ---------------------------------------------------------------------------------------------------------------- */
/* NULL: one too few was drawn */
static const json_t *shot_of(const struct slm2_task *t, size_t i, int k) { return json_array_get(t->pool, t->shot[i * (size_t)t->n_shot + (size_t)k]); }

/* Everything in front of the item's own question. */
static slm2_status put_examples(const struct slm2_task *t, size_t i, struct slm2_buf *out, struct slm2_err *err)
{
    SLM2_TRY(slm2_template_fill(t->description, slm2_task_item(t, i), out, err));
    for (int k = 0; k < t->n_shot; k++) {
        const json_t *shot = shot_of(t, i, k);
        if (!shot) continue;
        SLM2_TRY(put_question(t, shot, out, err));
        /* a word brings its own space; v0.4 adds another all the same, in examples only */
        if (t->kind != SLM2_TASK_WORD || t->rules == SLM2_RULES_V04) slm2_buf_puts(out, t->delimiter);
        SLM2_TRY(put_answer(t, shot, out, err));
        slm2_buf_puts(out, t->separator);
    }
    return slm2_buf_check(out, err);
}

/* A conversation's text: examples are earlier turns. */
struct turn { struct slm2_buf text; const char *role; };

static slm2_status render(const struct slm2_task *t, const struct turn *turns, int n, struct slm2_buf *text, struct slm2_err *err)
{
    enum slm2_chat_template tmpl;
    SLM2_TRY(slm2_records_template(t->chat, &tmpl, err));
    struct slm2_msg *msgs = calloc((size_t)n, sizeof *msgs);
    if (!msgs) return slm2_fail(err, SLM2_ENOMEM, "no memory for a conversation");
    for (int i = 0; i < n; i++) msgs[i] = (struct slm2_msg){turns[i].role, turns[i].text.v ? turns[i].text.v : "", turns[i].text.n};
    slm2_chat_render(tmpl, msgs, n, true, text);
    free(msgs);
    return slm2_buf_check(text, err);
}

static slm2_status put_chat(const struct slm2_task *t, size_t i, struct slm2_buf *out, struct slm2_err *err)
{
    int n = 0, most = 2 * t->n_shot + 2;
    struct turn *turns = calloc((size_t)most, sizeof *turns);
    slm2_status st = turns ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for a conversation");
    if (st == SLM2_OK && *t->description) {
        turns[n].role = "system";
        st = slm2_template_fill(t->description, slm2_task_item(t, i), &turns[n++].text, err);
    }
    for (int k = 0; k < t->n_shot && st == SLM2_OK; k++) {
        if (!shot_of(t, i, k)) continue;
        turns[n].role = "user";
        st = put_question(t, shot_of(t, i, k), &turns[n++].text, err);
        turns[n].role = "assistant";
        if (st == SLM2_OK) st = put_answer(t, shot_of(t, i, k), &turns[n++].text, err);
    }
    if (st == SLM2_OK) {
        turns[n].role = "user";
        st = slm2_template_fill(t->prompt, slm2_task_item(t, i), &turns[n++].text, err);
    }
    if (st == SLM2_OK) st = render(t, turns, n, out, err);
    for (int k = 0; turns && k < most; k++) slm2_buf_free(&turns[k].text);
    free(turns);
    return st;
}

/* ---- requests ------------------------------------------------------------------------------------------------------------------ */
void slm2_requests_free(struct slm2_requests *r)
{
    for (int i = 0; i < r->n; i++) {
        slm2_buf_free(&r->v[i].context);
        slm2_buf_free(&r->v[i].continuation);
    }
    free(r->v);
    json_decref(r->answers);
    *r = (struct slm2_requests){0};
}

static slm2_status make(struct slm2_requests *r, size_t n, struct slm2_err *err)
{
    r->v = calloc(n, sizeof *r->v);
    if (!r->v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu requests", n);
    r->n = (int)n;
    return SLM2_OK;
}

static slm2_status choice_requests(const struct slm2_task *t, const json_t *item, const struct slm2_buf *before, const struct picked *p, struct slm2_requests *r, struct slm2_err *err)
{
    SLM2_TRY(make(r, p->n, err));
    r->gold = (int)p->gold;
    for (size_t k = 0; k < p->n; k++) {
        struct slm2_request *q = &r->v[k];
        const json_t *text = json_array_get(p->texts, k);
        slm2_buf_put(&q->context, before->v ? before->v : "", before->n);
        if (*t->contexts) SLM2_TRY(put_string(text, &q->context, err));
        else if (!*t->chat) SLM2_TRY(slm2_template_fill(t->prompt, item, &q->context, err));
        if (!*t->chat) slm2_buf_puts(&q->continuation, t->delimiter);
        if (*t->contexts) SLM2_TRY(slm2_template_fill(t->target, item, &q->continuation, err));
        else SLM2_TRY(put_string(text, &q->continuation, err));
        q->n_chars = slm2_py_len(json_string_value(text), json_string_length(text));
        q->n_bytes = json_string_length(text);
        q->is_true = p->is_true[k];
        SLM2_TRY(slm2_buf_check(&q->context, err));
        SLM2_TRY(slm2_buf_check(&q->continuation, err));
    }
    return SLM2_OK;
}

static slm2_status one_request(const struct slm2_task *t, const json_t *item, const struct slm2_buf *before, struct slm2_requests *r, struct slm2_err *err)
{
    SLM2_TRY(make(r, 1, err));
    struct slm2_request *q = r->v;
    q->is_true = true;
    slm2_buf_put(&q->context, before->v ? before->v : "", before->n);
    if (!*t->chat) SLM2_TRY(slm2_template_fill(t->prompt, item, &q->context, err));
    if (t->kind == SLM2_TASK_WORD) {
        SLM2_TRY(slm2_template_fill(t->target, item, &q->continuation, err));
        q->n_chars = slm2_py_len(q->continuation.v ? q->continuation.v : "", q->continuation.n);
        q->n_bytes = q->continuation.n;
        r->answers = json_array();
        json_array_append_new(r->answers, json_stringn(q->continuation.v ? q->continuation.v : "", q->continuation.n));
        if (json_array_size(r->answers) != 1) return slm2_fail(err, SLM2_ENOMEM, "no memory for an answer");
    } else SLM2_TRY(answers_of(t, item, &r->answers, err));
    return slm2_buf_check(&q->context, err);
}

slm2_status slm2_task_requests(const struct slm2_task *t, size_t i, struct slm2_requests *r, struct slm2_err *err)
{
    const json_t *item = slm2_task_item(t, i);
    struct slm2_buf before = {0};
    struct picked p = {0};
    *r = (struct slm2_requests){.shots = t->shot + i * (size_t)t->n_shot};
    slm2_status st = *t->chat ? put_chat(t, i, &before, err) : put_examples(t, i, &before, err);
    if (st == SLM2_OK && t->kind == SLM2_TASK_CHOICE) {
        st = pick(t, item, &p, err);
        if (st == SLM2_OK) st = choice_requests(t, item, &before, &p, r, err);
        if (p.texts) picked_free(&p);
    } else if (st == SLM2_OK) st = one_request(t, item, &before, r, err);
    slm2_buf_free(&before);
    if (st != SLM2_OK) slm2_requests_free(r);
    return st;
}

slm2_status slm2_request_encode(const struct slm2_task *t, const struct slm2_tok *tok, const struct slm2_request *r, struct slm2_ids *context, struct slm2_ids *ids, struct slm2_err *err)
{
    int flags = slm2_tok_flags_default(tok);
    const char *text = r->context.v ? r->context.v : "", *answer = r->continuation.v ? r->continuation.v : "";
    if (*t->chat) {
        SLM2_TRY(slm2_tok_encode(tok, text, r->context.n, flags | SLM2_TOK_SPECIAL, context, err));
        return slm2_tok_encode(tok, answer, r->continuation.n, flags, ids, err);
    }
    /* a tokenizer puts a space in front of the word it belongs to; without an answer nothing can take it over */
    size_t n = r->continuation.n ? slm2_py_rstrip(text, r->context.n) : r->context.n, before = context->n;
    struct slm2_buf whole = {0};
    struct slm2_ids both = {0};
    slm2_buf_put(&whole, text, r->context.n);
    slm2_buf_put(&whole, answer, r->continuation.n);
    slm2_status st = slm2_buf_check(&whole, err);
    if (st == SLM2_OK) st = slm2_tok_encode(tok, text, n, flags, context, err);
    if (st == SLM2_OK && r->continuation.n) st = slm2_tok_encode(tok, whole.v, whole.n, flags, &both, err);
    size_t first = ids->n;
    for (size_t i = context->n - before; i < both.n && st == SLM2_OK; i++) st = slm2_ids_push(ids, both.v[i], err);
    if (st == SLM2_OK && r->continuation.n && ids->n == first) st = slm2_tok_encode(tok, answer, r->continuation.n, flags, ids, err); /* it melted into the context's last token */
    slm2_buf_free(&whole);
    slm2_ids_free(&both);
    return st;
}
