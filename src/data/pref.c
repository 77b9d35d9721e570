/* pref.c - the shapes of preference records, one table; the filters, one list. */
#include "data/pref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tok/pystr.h"

const char *const slm2_pref_formats[] = {"pairs", "ultrafeedback_binarized_cleaned", "orca_dpo_pairs", "orca_dpo_pairs_rated", NULL}; /* as enum slm2_pref_format */
const char *const slm2_pref_verdicts[] = {"keep", "invalid", "tie", "duplicate_content", "low_score", "in_gsm8k_train", "duplicate_pair", NULL};

/* Where the prompt stands, and what the answers are. */
static const struct shape {
    const char *prompt[4];
    bool texts, lists;
} shapes[] = {
    [SLM2_PREF_PAIRS] = {{"prompt", "question", "input"}, true, true},
    [SLM2_PREF_ULTRAFEEDBACK] = {{"prompt"}, false, true},
    [SLM2_PREF_ORCA] = {{"question"}, true, false},
    [SLM2_PREF_ORCA_RATED] = {{"input"}, true, false},
};

static struct slm2_msg message_of(const char *role, const json_t *text)
{
    return (struct slm2_msg){.role = role, .content = json_string_value(text), .n = json_string_length(text)};
}

static bool same_text(const struct slm2_msg *x, const struct slm2_msg *y) { return x->n == y->n && memcmp(x->content, y->content, x->n) == 0; }

/* Without outer white space, as Python's strip leaves it. */
static struct slm2_msg trimmed(struct slm2_msg m)
{
    m.n = slm2_py_rstrip(m.content, m.n);
    size_t from = slm2_py_lstrip(m.content, m.n);
    m.content += from;
    m.n -= from;
    return m;
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------- */
/* An answer: its message, and in *before what its list says before it. */
static slm2_status read_answer(const struct shape *s, const json_t *record, const char *key, struct slm2_msgs *before, struct slm2_msg *answer, const char *what, struct slm2_err *err)
{
    json_t *j = json_object_get(record, key);
    if (s->texts && json_is_string(j)) *answer = message_of("assistant", j);
    else if (s->lists && json_is_array(j) && json_array_size(j)) {
        SLM2_TRY(slm2_msgs_from_json(before, j, what, err));
        *answer = before->v[--before->n];
        if (strcmp(answer->role, "assistant") != 0) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\": the last message is of role \"%.40s\", want assistant", what, key, answer->role);
    } else {
        return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is %s, want %s%s%s", what, key, !j ? "missing" : json_is_array(j) && !json_array_size(j) ? "an empty list" : "of another kind", s->texts ? "a text" : "",
                         s->texts && s->lists ? " or " : "", s->lists ? "messages" : "");
    }
    if (trimmed(*answer).n == 0) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is empty", what, key);
    return SLM2_OK;
}

static bool same_messages(const struct slm2_msgs *x, const struct slm2_msgs *y)
{
    if (x->n != y->n) return false;
    for (int i = 0; i < x->n; i++) {
        if (strcmp(x->v[i].role, y->v[i].role) != 0 || !same_text(&x->v[i], &y->v[i])) return false;
    }
    return true;
}

/* What stands before the answers: that of their own lists, else messages or a text under one of the shape's names, which the published shapes
 * must have in any case. */
static slm2_status read_prompt(struct slm2_pref *p, const struct shape *s, json_t *record, const struct slm2_msgs before[2], struct slm2_msgs *list, const char *what,
                               struct slm2_err *err)
{
    const json_t *system = json_object_get(record, "system");
    json_t *prompt = NULL;
    for (int i = 0; (!prompt || json_is_null(prompt)) && s->prompt[i]; i++) prompt = json_object_get(record, s->prompt[i]);
    bool own = before[0].n > 0 || before[1].n > 0, is_text = json_is_string(prompt) && trimmed(message_of("user", prompt)).n;
    if (own && !same_messages(&before[0], &before[1])) return slm2_fail(err, SLM2_EFORMAT, "%s: chosen and rejected do not answer the same prompt", what);
    if (!is_text && !(s->texts && s->lists)) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is missing, empty or not a text", what, s->prompt[0]);
    if (!own && s->lists && json_is_array(prompt)) SLM2_TRY(slm2_msgs_from_json(list, prompt, what, err));
    const struct slm2_msgs *from = own ? &before[0] : list;
    if (from->n == 0 && !(is_text && s->texts)) return slm2_fail(err, SLM2_EFORMAT, "%s: no prompt: want \"%s\" as text or messages, or answers that begin with it", what, s->prompt[0]);
    p->v = calloc((size_t)from->n + 3, sizeof *p->v);
    if (!p->v) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", what);
    for (int i = 0; i < from->n; i++) p->v[p->n++] = from->v[i];
    if (from->n) return SLM2_OK;
    if (json_is_string(system) && json_string_length(system)) p->v[p->n++] = message_of("system", system);
    p->v[p->n++] = message_of("user", prompt);
    return SLM2_OK;
}

static slm2_status read_score(const json_t *record, const char *key, double *score, const char *what, struct slm2_err *err)
{
    const json_t *j = json_object_get(record, key);
    if (!j || json_is_null(j)) return SLM2_OK;
    if (!json_is_number(j)) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is not a number", what, key);
    *score = json_number_value(j);
    return SLM2_OK;
}

static slm2_status read_scores(struct slm2_pref *p, const json_t *record, const char *what, struct slm2_err *err)
{
    const json_t *rating = json_object_get(record, "rating"), *r0 = json_array_get(rating, 0), *r1 = json_array_get(rating, 1), *gsm8k = json_object_get(record, "in_gsm8k_train");
    const char *status = json_string_value(json_object_get(record, "status"));
    p->score_chosen = p->score_rejected = (double)NAN;
    SLM2_TRY(read_score(record, "score_chosen", &p->score_chosen, what, err));
    SLM2_TRY(read_score(record, "score_rejected", &p->score_rejected, what, err));
    SLM2_TRY(read_score(record, "chosen_score", &p->score_chosen, what, err));
    p->tie = (status && strcmp(status, "tie") == 0) || p->score_chosen == p->score_rejected; /* never of two that are not given */
    if (json_is_number(r0) && json_is_number(r1)) p->tie |= json_number_value(r0) == json_number_value(r1); /* in the order of the generations */
    p->in_gsm8k_train = json_is_true(gsm8k);
    return SLM2_OK;
}

slm2_status slm2_pref_read(struct slm2_pref *p, enum slm2_pref_format format, json_t *record, const char *what, struct slm2_err *err)
{
    const struct shape *s = &shapes[format];
    struct slm2_msgs before[2] = {{0}, {0}}, list = {0};
    *p = (struct slm2_pref){0};
    slm2_status st = json_is_object(record) ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "%s: not a JSON object", what);
    if (st == SLM2_OK) st = read_answer(s, record, "chosen", &before[0], &p->chosen, what, err);
    if (st == SLM2_OK) st = read_answer(s, record, "rejected", &before[1], &p->rejected, what, err);
    if (st == SLM2_OK) st = read_prompt(p, s, record, before, &list, what, err);
    if (st == SLM2_OK) st = read_scores(p, record, what, err);
    slm2_msgs_free(&before[0]); /* the arrays; the texts are the record's */
    slm2_msgs_free(&before[1]);
    slm2_msgs_free(&list);
    return st;
}

void slm2_pref_free(struct slm2_pref *p)
{
    free(p->v);
    *p = (struct slm2_pref){0};
}

/* ---- judging ----------------------------------------------------------------------------------------------------------------- */
static void put_message(struct slm2_buf *b, const struct slm2_msg *m)
{
    slm2_buf_printf(b, "%s %zu\n", m->role, m->n); /* the length keeps texts apart whatever they hold */
    slm2_buf_put(b, m->content, m->n);
}

slm2_status slm2_pref_judge(const struct slm2_pref *p, const struct slm2_pref_rules *rules, struct slm2_seen *seen, struct slm2_buf *key, enum slm2_pref_verdict *verdict,
                            struct slm2_err *err)
{
    struct slm2_msg chosen = trimmed(p->chosen), rejected = trimmed(p->rejected);
    *verdict = p->tie && !rules->keep_ties                     ? SLM2_PREF_TIE
               : same_text(&chosen, &rejected)                 ? SLM2_PREF_DUPLICATE_CONTENT
               : p->score_chosen < rules->min_score            ? SLM2_PREF_LOW_SCORE
               : p->in_gsm8k_train && !rules->keep_gsm8k_train ? SLM2_PREF_IN_GSM8K_TRAIN
                                                               : SLM2_PREF_KEEP;
    if (*verdict != SLM2_PREF_KEEP || rules->keep_duplicate_pairs) return SLM2_OK;
    slm2_buf_clear(key);
    for (int i = 0; i < p->n; i++) put_message(key, &p->v[i]);
    put_message(key, &p->chosen);
    put_message(key, &p->rejected);
    SLM2_TRY(slm2_buf_check(key, err));
    struct slm2_text_key k = slm2_bytes_key(key->v, key->n);
    if (slm2_seen_has(seen, k)) {
        *verdict = SLM2_PREF_DUPLICATE_PAIR;
        return SLM2_OK;
    }
    return slm2_seen_add(seen, k, err);
}
