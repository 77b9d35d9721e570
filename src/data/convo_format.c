/* convo_format.c - the published shapes of fine-tuning records, as rows of a table and one walk over the turns. */
#include "data/convo_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tok/pystr.h"

const char *const slm2_convo_formats[] = {"messages", "ultrachat_200k", "wizardlm_evol_instruct_v2", "slimorca", "sharegpt_openchat", "capybara", "deita_10k", "metamathqa", NULL};

enum spelling { ROLE = 1, FROM = 2 }; /* {"role": user, "content"}; {"from": human, "value"} */
static const struct shape {
    const char *list[2]; /* key of the turns, and another that is taken too */
    int spelling;        /* 0: pairs or single fields, not turns */
    bool any_order;
} shapes[SLM2_CONVO_N_FORMAT] = {
    [SLM2_CONVO_MESSAGES] = {{"messages"}, ROLE, true},
    [SLM2_CONVO_ULTRACHAT] = {{"messages"}, ROLE, false},
    [SLM2_CONVO_WIZARDLM] = {{"conversations"}, FROM, false},
    [SLM2_CONVO_SLIMORCA] = {{"conversations"}, FROM, false},
    [SLM2_CONVO_SHAREGPT] = {{"items", "conversations"}, ROLE | FROM, false},
    [SLM2_CONVO_CAPYBARA] = {{"conversation"}, 0, false},
    [SLM2_CONVO_DEITA] = {{"conversations"}, FROM, false},
    [SLM2_CONVO_METAMATH] = {{NULL}, 0, false},
};

static const char *type_name(const json_t *j)
{
    if (!j) return "missing";
    switch (json_typeof(j)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "unknown";
}

static bool is_blank(const char *s, size_t n) { return slm2_py_rstrip(s, n) == 0; }

/* The record under work, for messages: "FILE: line 3: conversations[2].value". */
struct place { const char *what, *list; size_t i; };

static slm2_status bad(const struct place *p, const char *key, struct slm2_err *err, const char *is)
{
    if (!p->list) return slm2_fail(err, SLM2_EFORMAT, "%s: %s: %s", p->what, key, is);
    return slm2_fail(err, SLM2_EFORMAT, "%s: %s[%zu].%s: %s", p->what, p->list, p->i, key, is);
}

static slm2_status bad_type(const struct place *p, const char *key, const json_t *j, struct slm2_err *err)
{
    char is[64];
    snprintf(is, sizeof is, "%s, want a string", type_name(j));
    return bad(p, key, err, is);
}

static bool has_filler(const struct slm2_convo_msgs *m) { return m->n == 1 && m->n_messages == 0 && m->v[0].n == 0; }

static slm2_status add(struct slm2_convo_msgs *m, const char *role, const char *text, size_t n, bool learn, struct slm2_err *err)
{
    if (has_filler(m) && strcmp(role, "system") == 0) m->n = 0; /* a system message of its own */
    if (m->n == m->cap) {
        int cap = m->cap ? 2 * m->cap : 16; /* the reader's limit on bytes keeps the count far from INT_MAX */
        struct slm2_msg *v = realloc(m->v, (size_t)cap * sizeof *v);
        if (v) m->v = v;
        uint8_t *l = realloc(m->learn, (size_t)cap);
        if (l) m->learn = l;
        if (!v || !l) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d messages", cap);
        m->cap = cap;
    }
    m->v[m->n] = (struct slm2_msg){role, text, n};
    m->learn[m->n++] = learn;
    if (strcmp(role, "system") != 0) m->n_messages++;
    if (strcmp(role, "user") == 0) m->n_exchanges++;
    return SLM2_OK;
}

/* A text of a published set: user and assistant say something; an empty system message is none. */
static slm2_status add_text(struct slm2_convo_msgs *m, const char *role, const json_t *text, const char *key, bool learn, const struct place *p, struct slm2_err *err)
{
    if (!json_is_string(text)) return bad_type(p, key, text, err);
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);
    if (is_blank(s, n)) return strcmp(role, "system") == 0 ? SLM2_OK : bad(p, key, err, "is blank");
    return add(m, role, s, n, learn, err);
}

static const char *known_role(const char *name, int spelling)
{
    static const struct { const char *name, *role; int spelling; } roles[] = {
        {"system", "system", ROLE | FROM}, {"user", "user", ROLE}, {"assistant", "assistant", ROLE}, {"human", "user", FROM}, {"gpt", "assistant", FROM}};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if ((roles[i].spelling & spelling) && strcmp(roles[i].name, name) == 0) return roles[i].role;
    }
    return NULL;
}

static slm2_status weight_of(const json_t *turn, bool *learn, const struct place *p, struct slm2_err *err)
{
    const json_t *w = json_object_get(turn, "weight");
    if (!w || json_is_null(w)) return SLM2_OK;
    double v = json_is_number(w) ? json_number_value(w) : -1;
    *learn = v > 0.5;
    return v == 0 || v == 1 ? SLM2_OK : bad(p, "weight", err, "want 0, 1 or null");
}

/* A member that says something: converters write null where a record lacks what others have. */
static const json_t *given(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

static slm2_status add_turn(struct slm2_convo_msgs *m, const struct shape *s, const json_t *turn, const struct place *p, struct slm2_err *err)
{
    if (!json_is_object(turn)) return slm2_fail(err, SLM2_EFORMAT, "%s: %s[%zu]: %s, want an object", p->what, p->list, p->i, type_name(turn));
    bool from = (s->spelling & FROM) && (given(turn, "from") || !(s->spelling & ROLE));
    bool value = (s->spelling & FROM) && (given(turn, "value") || !(s->spelling & ROLE) || (from && !given(turn, "content")));
    const char *role_key = from ? "from" : "role", *text_key = value ? "value" : "content";
    const json_t *name = json_object_get(turn, role_key), *text = json_object_get(turn, text_key);
    if (!json_is_string(name)) return bad_type(p, role_key, name, err);
    const char *role = json_string_value(name);
    bool learn = strcmp(role, "assistant") == 0;
    if (s->any_order) { /* whatever the template makes of it */
        if (strlen(role) != json_string_length(name)) return bad(p, role_key, err, "has a NUL character");
        if (!json_is_string(text)) return bad_type(p, text_key, text, err);
        SLM2_TRY(weight_of(turn, &learn, p, err));
        size_t n = json_string_length(text);
        return n == 0 && strcmp(role, "system") == 0 ? SLM2_OK : add(m, role, json_string_value(text), n, learn, err);
    }
    role = known_role(role, s->spelling);
    if (!role) {
        char is[160];
        snprintf(is, sizeof is, "\"%.40s\", want system, %s", json_string_value(name), s->spelling == ROLE ? "user or assistant" : s->spelling == FROM ? "human or gpt" : "user, human, assistant or gpt");
        return bad(p, role_key, err, is);
    }
    learn = strcmp(role, "assistant") == 0;
    SLM2_TRY(weight_of(turn, &learn, p, err));
    bool first = m->n_messages == 0;
    if (strcmp(role, "system") == 0) {
        if (p->i > 0 || (m->n > 0 && !has_filler(m))) return bad(p, role_key, err, "a system message, want it first and once");
    } else if (strcmp(role, first || strcmp(m->v[m->n - 1].role, "assistant") == 0 ? "user" : "assistant") != 0) {
        return bad(p, role_key, err, first ? "the assistant begins, want the user" : "the same speaker twice, want user and assistant in turn");
    }
    return add_text(m, role, text, text_key, learn, p, err);
}

static slm2_status add_list(struct slm2_convo_msgs *m, enum slm2_convo_format format, const json_t *record, const char *what, struct slm2_err *err)
{
    const struct shape *s = &shapes[format];
    const char *key = s->list[1] && !given(record, s->list[0]) && given(record, s->list[1]) ? s->list[1] : s->list[0];
    const json_t *list = json_object_get(record, key), *turn;
    struct place p = {what, key, 0};
    if (!json_is_array(list)) return slm2_fail(err, SLM2_EFORMAT, "%s: %s: %s, want an array of turns", what, key, type_name(list));
    json_array_foreach(list, p.i, turn) {
        if (format != SLM2_CONVO_CAPYBARA) {
            SLM2_TRY(add_turn(m, s, turn, &p, err));
            continue;
        }
        if (!json_is_object(turn)) return slm2_fail(err, SLM2_EFORMAT, "%s: %s[%zu]: %s, want an object", what, key, p.i, type_name(turn));
        SLM2_TRY(add_text(m, "user", json_object_get(turn, "input"), "input", false, &p, err));
        SLM2_TRY(add_text(m, "assistant", json_object_get(turn, "output"), "output", true, &p, err));
    }
    return SLM2_OK;
}

slm2_status slm2_convo_from_json(struct slm2_convo_msgs *m, enum slm2_convo_format format, bool empty_system, const json_t *record, const char *what, struct slm2_err *err)
{
    const struct place p = {.what = what};
    m->n = m->n_messages = m->n_exchanges = 0;
    if (empty_system) SLM2_TRY(add(m, "system", "", 0, false, err));
    if (format == SLM2_CONVO_METAMATH) {
        SLM2_TRY(add_text(m, "user", json_object_get(record, "query"), "query", false, &p, err));
        return add_text(m, "assistant", json_object_get(record, "response"), "response", true, &p, err);
    }
    const json_t *system = format == SLM2_CONVO_SHAREGPT ? json_object_get(record, "system") : NULL;
    if (system && !json_is_null(system)) SLM2_TRY(add_text(m, "system", system, "system", false, &p, err));
    SLM2_TRY(add_list(m, format, record, what, err));
    if (shapes[format].any_order) return SLM2_OK;
    for (int i = 0; i < m->n; i++) {
        if (strcmp(m->v[i].role, "assistant") == 0) return SLM2_OK;
    }
    return slm2_fail(err, SLM2_EFORMAT, "%s: the assistant says nothing", what);
}

void slm2_convo_msgs_free(struct slm2_convo_msgs *m)
{
    free(m->v);
    free(m->learn);
    *m = (struct slm2_convo_msgs){0};
}
