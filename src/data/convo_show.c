/* convo_show.c - the account of data sets of conversations and their rows, for people and as JSON. */
#include <inttypes.h>

#include "data/convo_rows.h"

static struct slm2_convo_count total_of(const struct slm2_convos *c)
{
    struct slm2_convo_count t = {.name = "total", .n = c->n};
    for (int k = 0; k < c->n_set; k++) {
        const struct slm2_convo_count *s = &c->set[k];
        t.read += s->read;
        for (int i = 0; i < SLM2_CONVO_N_FATE; i++) t.fate[i] += s->fate[i];
        t.truncated += s->truncated;
        t.tokens += s->tokens;
        t.assistant_tokens += s->assistant_tokens;
    }
    return t;
}

static void put_row(struct slm2_buf *out, const struct slm2_convo_count *s, int64_t drawn)
{
    slm2_buf_printf(out, "%-28s %9" PRId64 " %9" PRId64, s->name, s->read, s->fate[SLM2_CONVO_KEPT]);
    for (int i = 1; i < SLM2_CONVO_N_FATE; i++) slm2_buf_printf(out, " %9" PRId64, s->fate[i]);
    slm2_buf_printf(out, " %8" PRId64 " %12" PRId64 " %12" PRId64 " %9" PRId64 "\n", s->truncated, s->tokens, s->assistant_tokens, drawn);
}

void slm2_convos_text(const struct slm2_convos *c, const struct slm2_convo_rows *r, struct slm2_buf *out)
{
    struct slm2_convo_count t = total_of(c);
    slm2_buf_printf(out, "%-28s %9s %9s %9s %9s %9s %9s %9s %8s %12s %12s %9s\n", "data set", "read", "kept", "invalid", "turns", "duplicate", "too long", "no loss", "cut", "tokens", "assistant", "a pass");
    for (int k = 0; k < c->n_set; k++) put_row(out, &c->set[k], r->drawn[k]);
    put_row(out, &t, r->n_member);
    slm2_buf_printf(out, "%d rows of %d tokens%s, %.2f %% of their room used\n", r->n_rows, c->n_ctx, r->joined ? ", conversations joined" : "", 100 * slm2_convo_rows_fill(c, r));
}

static json_t *set_json(const struct slm2_convo_count *s, int64_t drawn)
{
    json_t *j = json_pack("{s:s, s:I}", "name", s->name, "read", (json_int_t)s->read);
    for (int i = 0; j && i < SLM2_CONVO_N_FATE; i++) json_object_set_new(j, slm2_convo_fates[i], json_integer(s->fate[i]));
    const struct { const char *key; int64_t v; } more[] = {{"truncated", s->truncated}, {"tokens", s->tokens}, {"assistant_tokens", s->assistant_tokens}, {"drawn", drawn}};
    for (size_t i = 0; j && i < sizeof more / sizeof more[0]; i++) json_object_set_new(j, more[i].key, json_integer(more[i].v));
    return j;
}

json_t *slm2_convos_json(const struct slm2_convos *c, const struct slm2_convo_rows *r)
{
    struct slm2_convo_count t = total_of(c);
    json_t *list = json_array(), *j;
    for (int k = 0; k < c->n_set; k++) {
        j = set_json(&c->set[k], r->drawn[k]);
        if (j) {
            json_object_set_new(j, "format", json_string(slm2_convo_formats[c->set[k].format]));
            json_object_set_new(j, "repeat", json_real(c->set[k].repeat));
        }
        json_array_append_new(list, j);
    }
    return json_pack("{s:o, s:o, s:i, s:i, s:I, s:f, s:b}", "sets", list, "total", set_json(&t, r->n_member), "rows", r->n_rows, "n_ctx", c->n_ctx, "tokens_used", (json_int_t)r->n_used, "fill",
                     slm2_convo_rows_fill(c, r), "joined", (int)r->joined);
}
