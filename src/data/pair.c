/* pair.c - preference records to token sequences: prompt and answer are encoded as one conversation, so that tokens are those of
 * the rendered text; the answer is what the chat template's mask marks in the last turn. */
#include "data/pair.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/records.h"

struct slm2_pair_opts slm2_pair_opts_default(void) { return (struct slm2_pair_opts){.chat = "zephyr", .max_len = 1024, .max_prompt = 512}; }

struct span { size_t at; int n, n_prompt; }; /* in ids, whose memory still moves */
struct loader {
    struct slm2_pairs *p;
    const struct slm2_tok *tok;
    const struct slm2_pair_opts *o;
    struct slm2_chat_opts chat;
    struct slm2_ids ids, one;
    struct slm2_buf mask, spans; /* spans: struct span, chosen and rejected in turn */
};

/* A conversation put together of borrowed messages. */
struct talk { struct slm2_msg *v; int n; };

/* ---- a record to two conversations ------------------------------------------------------------------------------------------- */
static struct slm2_msg message_of(const char *role, const json_t *text)
{
    return (struct slm2_msg){.role = role, .content = json_string_value(text), .n = json_string_length(text)};
}

/* Messages before the answer: those of the answer's own list, else those of the prompt, else system and user from text. */
static slm2_status make_talk(struct talk *t, const json_t *record, const struct slm2_msgs *answer, const struct slm2_msgs *prompt, const json_t *answer_text,
                             const char *what, struct slm2_err *err)
{
    const json_t *system = json_object_get(record, "system"), *text = json_object_get(record, "prompt");
    if (!text) text = json_object_get(record, "question");
    if (!text) text = json_object_get(record, "input");
    bool own = answer->n > 1;
    int most = (own ? answer->n : prompt->n) + 3;
    t->v = calloc((size_t)most, sizeof *t->v);
    if (!t->v) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", what);
    if (own) {
        for (int i = 0; i + 1 < answer->n; i++) t->v[t->n++] = answer->v[i];
    } else if (prompt->n) {
        for (int i = 0; i < prompt->n; i++) t->v[t->n++] = prompt->v[i];
    } else if (json_is_string(text) && json_string_length(text)) {
        if (json_is_string(system) && json_string_length(system)) t->v[t->n++] = message_of("system", system);
        t->v[t->n++] = message_of("user", text);
    }
    if (t->n == 0) return slm2_fail(err, SLM2_EFORMAT, "%s: no prompt: want \"prompt\" as text or messages, or messages that begin with it", what);
    t->v[t->n++] = answer->n ? answer->v[answer->n - 1] : message_of("assistant", answer_text);
    if (strcmp(t->v[t->n - 1].role, "assistant") != 0) return slm2_fail(err, SLM2_EFORMAT, "%s: the answer's last message is not the assistant's", what);
    return SLM2_OK;
}

static bool same_text(const struct slm2_msg *x, const struct slm2_msg *y) { return x->n == y->n && memcmp(x->content, y->content, x->n) == 0; }

static bool same_prompt(const struct talk *x, const struct talk *y)
{
    if (x->n != y->n) return false;
    for (int i = 0; i + 1 < x->n; i++) {
        if (strcmp(x->v[i].role, y->v[i].role) != 0 || !same_text(&x->v[i], &y->v[i])) return false;
    }
    return true;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static struct slm2_msg trimmed(struct slm2_msg m)
{
    while (m.n && is_space(m.content[m.n - 1])) m.n--;
    while (m.n && is_space(*m.content)) {
        m.content++;
        m.n--;
    }
    return m;
}

/* ---- conversations to tokens ------------------------------------------------------------------------------------------------- */
/* Appends prompt and answer to ids; what the template writes behind the end of the answer is left out. */
static slm2_status encode(struct loader *l, const struct talk *t, const char *what, struct span *out, struct slm2_err *err)
{
    l->one.n = 0;
    slm2_buf_clear(&l->mask);
    SLM2_TRY(slm2_chat_encode(l->tok, &l->chat, t->v, t->n, &l->one, &l->mask, err));
    SLM2_TRY(slm2_buf_check(&l->mask, err));
    size_t end = l->mask.n, first;
    while (end && !l->mask.v[end - 1]) end--;
    for (first = end; first && l->mask.v[first - 1];) first--;
    if (first == 0 || end > INT_MAX) return slm2_fail(err, SLM2_EFORMAT, "%s: no prompt in front of the answer, or too long", what);
    *out = (struct span){.at = l->ids.n, .n = (int)end, .n_prompt = (int)first};
    for (size_t i = 0; i < end; i++) SLM2_TRY(slm2_ids_push(&l->ids, l->one.v[i], err));
    return SLM2_OK;
}

/* Cuts as the pair needs it: first the beginning of the prompts, then the end of the answers. */
static bool shorten(struct span s[2], const struct slm2_pair_opts *o)
{
    bool cut = false;
    if (s[0].n <= o->max_len && s[1].n <= o->max_len) return false;
    for (int i = 0; i < 2; i++) {
        int extra = s[i].n_prompt - o->max_prompt;
        if (extra > 0) {
            s[i].at += (size_t)extra;
            s[i].n -= extra;
            s[i].n_prompt -= extra;
            cut = true;
        }
        if (s[i].n > o->max_len) {
            s[i].n = o->max_len;
            cut = true;
        }
    }
    return cut;
}

static slm2_status list_or_text(const json_t *record, const char *key, struct slm2_msgs *m, const char *what, struct slm2_err *err)
{
    json_t *j = json_object_get(record, key);
    if (json_is_array(j)) {
        SLM2_TRY(slm2_msgs_from_json(m, j, what, err));
        if (m->n == 0) return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is an empty list", what, key);
        return SLM2_OK;
    }
    if (strcmp(key, "prompt") == 0 || json_is_string(j)) return SLM2_OK;
    return slm2_fail(err, SLM2_EFORMAT, "%s: \"%s\" is missing or neither text nor messages", what, key);
}

static slm2_status take_record(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    static const char *const keys[2] = {"chosen", "rejected"};
    struct loader *l = user;
    struct slm2_msgs prompt = {0}, answer[2] = {{0}, {0}};
    struct talk talk[2] = {{0}, {0}};
    struct span s[2] = {{0}, {0}};
    size_t n_ids = l->ids.n;
    slm2_status st = list_or_text(j, "prompt", &prompt, what, err);
    for (int i = 0; st == SLM2_OK && i < 2; i++) st = list_or_text(j, keys[i], &answer[i], what, err);
    for (int i = 0; st == SLM2_OK && i < 2; i++) st = make_talk(&talk[i], j, &answer[i], &prompt, json_object_get(j, keys[i]), what, err);
    if (st == SLM2_OK && !same_prompt(&talk[0], &talk[1])) st = slm2_fail(err, SLM2_EFORMAT, "%s: chosen and rejected do not answer the same prompt", what);
    if (st != SLM2_OK) goto done;
    struct slm2_msg a = trimmed(talk[0].v[talk[0].n - 1]), b = trimmed(talk[1].v[talk[1].n - 1]);
    if (same_text(&a, &b)) {
        l->p->n_equal++;
        goto done;
    }
    for (int i = 0; st == SLM2_OK && i < 2; i++) st = encode(l, &talk[i], what, &s[i], err);
    if (st == SLM2_OK && l->p->n == INT_MAX) st = slm2_fail(err, SLM2_ELIMIT, "more than %d pairs", INT_MAX);
    if (st == SLM2_OK) {
        l->p->n_truncated += shorten(s, l->o);
        slm2_buf_put(&l->spans, s, sizeof s);
        st = slm2_buf_check(&l->spans, err);
        l->p->n++;
    }
done:
    if (st != SLM2_OK) l->ids.n = n_ids;
    for (int i = 0; i < 2; i++) {
        free(talk[i].v);
        slm2_msgs_free(&answer[i]);
    }
    slm2_msgs_free(&prompt);
    return st;
}

slm2_status slm2_pairs_load(struct slm2_pairs *p, const char *const *paths, int n_paths, const struct slm2_tok *tok, const struct slm2_pair_opts *o,
                            struct slm2_err *err)
{
    enum slm2_chat_template tmpl;
    *p = (struct slm2_pairs){0};
    SLM2_TRY(slm2_records_template(o->chat, &tmpl, err));
    if (o->max_prompt < 1 || o->max_len <= o->max_prompt) {
        return slm2_fail(err, SLM2_EUSAGE, "max_prompt %d and max_len %d: want 1 <= max_prompt < max_len", o->max_prompt, o->max_len);
    }
    if (slm2_chat_stop_id(tok, tmpl) < 0) return slm2_fail(err, SLM2_EUSAGE, "the vocabulary lacks the token that ends a turn of %s", o->chat);
    struct loader l = {.p = p, .tok = tok, .o = o, .chat = slm2_chat_opts_default(tmpl)};
    slm2_status st = SLM2_OK;
    for (int i = 0; st == SLM2_OK && i < n_paths; i++) st = slm2_records_read(paths[i], o->max_line_bytes, o->bad_is_fatal, take_record, &l, &p->n_bad, err);
    p->ids = l.ids.v; /* changes owner */
    p->n_tok = l.ids.n;
    size_t n = (size_t)p->n;
    if (st == SLM2_OK) {
        p->chosen = calloc(n + 1, sizeof *p->chosen);
        p->rejected = calloc(n + 1, sizeof *p->rejected);
        if (!p->chosen || !p->rejected) st = slm2_fail(err, SLM2_ENOMEM, "out of memory for %d pairs", p->n);
    }
    for (size_t i = 0; st == SLM2_OK && i < 2 * n; i++) {
        struct span s;
        memcpy(&s, l.spans.v + i * sizeof s, sizeof s);
        struct slm2_pair_seq *q = i % 2 ? &p->rejected[i / 2] : &p->chosen[i / 2];
        *q = (struct slm2_pair_seq){.ids = p->ids + s.at, .n = s.n, .n_prompt = s.n_prompt};
    }
    slm2_ids_free(&l.one);
    slm2_buf_free(&l.mask);
    slm2_buf_free(&l.spans);
    if (st != SLM2_OK) slm2_pairs_free(p);
    return st;
}

void slm2_pairs_free(struct slm2_pairs *p)
{
    if (!p) return;
    free(p->chosen);
    free(p->rejected);
    free(p->ids);
    *p = (struct slm2_pairs){0};
}

slm2_status slm2_pair_add(struct slm2_batch *b, const struct slm2_pair_seq *s, float weight, struct slm2_err *err)
{
    if (s->n < 2 || s->n_prompt < 1 || s->n_prompt >= s->n) return slm2_fail(err, SLM2_EUSAGE, "a pair of %d tokens with a prompt of %d", s->n, s->n_prompt);
    uint8_t *mask = calloc((size_t)s->n, 1);
    if (!mask) return slm2_fail(err, SLM2_ENOMEM, "out of memory for a sequence of %d tokens", s->n);
    memset(mask + s->n_prompt, 1, (size_t)(s->n - s->n_prompt));
    slm2_status st = slm2_records_add(b, s->ids, mask, s->n, weight, err);
    free(mask);
    return st;
}
