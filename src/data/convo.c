/* convo.c - conversations to ids and masks, packed whole into rows by first fit. */
#include "data/convo.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "data/records.h"
#include "tok/chat.h"

struct slm2_convo_opts slm2_convo_opts_default(void) { return (struct slm2_convo_opts){.chat = "zephyr", .n_ctx = 4096}; }

/* ---- reading -------------------------------------------------------------------------------------------------------------- */
struct loader {
    struct slm2_convos *c;
    const struct slm2_tok *tok;
    const struct slm2_convo_opts *o;
    struct slm2_chat_opts chat;
    struct slm2_ids ids, one; /* of all, of the conversation under work */
    struct slm2_buf mask, one_mask, start;
};

static slm2_status keep(struct loader *l, struct slm2_err *err)
{
    size_t n = l->one.n, n_learnt = 0, most = (size_t)l->o->n_ctx + 1;
    if (l->one_mask.n != n) return slm2_fail(err, SLM2_EFORMAT, "%zu ids and %zu mask bytes", n, l->one_mask.n);
    if (l->o->all_tokens) memset(l->one_mask.v, 1, n);
    bool cut = n > most;
    if (cut) n = most;
    for (size_t i = 1; i < n; i++) n_learnt += l->one_mask.v[i] != 0; /* nothing predicts the first token */
    if (n_learnt == 0) {
        l->c->n_no_answer++;
        return SLM2_OK;
    }
    l->c->n_truncated += cut;
    if (l->c->n == INT_MAX) return slm2_fail(err, SLM2_ELIMIT, "more than %d conversations", INT_MAX);
    for (size_t i = 0; i < n; i++) SLM2_TRY(slm2_ids_push(&l->ids, l->one.v[i], err));
    slm2_buf_put(&l->mask, l->one_mask.v, n);
    int64_t end = (int64_t)l->ids.n;
    slm2_buf_put(&l->start, &end, sizeof end);
    l->c->n++;
    return SLM2_OK;
}

static slm2_status take_record(void *user, json_t *j, const char *what, struct slm2_err *err)
{
    struct loader *l = user;
    struct slm2_msgs m = {0};
    SLM2_TRY(slm2_msgs_from_json(&m, j, what, err));
    if (l->o->max_messages > 0 && m.n > l->o->max_messages) {
        l->c->n_too_many_messages++;
        slm2_msgs_free(&m);
        return SLM2_OK;
    }
    l->one.n = 0;
    slm2_buf_clear(&l->one_mask);
    slm2_status st = slm2_chat_encode(l->tok, &l->chat, m.v, m.n, &l->one, &l->one_mask, err);
    if (st == SLM2_OK) st = slm2_buf_check(&l->one_mask, err);
    if (st == SLM2_OK) st = keep(l, err);
    slm2_msgs_free(&m);
    return st;
}

slm2_status slm2_convos_load(struct slm2_convos *c, const char *const *paths, int n_paths, const struct slm2_tok *tok, const struct slm2_convo_opts *o,
                             struct slm2_err *err)
{
    enum slm2_chat_template tmpl;
    *c = (struct slm2_convos){.n_ctx = o->n_ctx};
    SLM2_TRY(slm2_records_template(o->chat, &tmpl, err));
    if (o->n_ctx < 1 || o->n_ctx > 1 << 24) return slm2_fail(err, SLM2_EUSAGE, "n_ctx %d, want 1 to %d", o->n_ctx, 1 << 24);
    if (slm2_chat_stop_id(tok, tmpl) < 0) return slm2_fail(err, SLM2_EUSAGE, "the vocabulary lacks the token that ends a turn of %s", o->chat);
    struct loader l = {.c = c, .tok = tok, .o = o, .chat = slm2_chat_opts_default(tmpl)};
    int64_t zero = 0;
    slm2_status st = SLM2_OK;
    slm2_buf_put(&l.start, &zero, sizeof zero);
    for (int i = 0; st == SLM2_OK && i < n_paths; i++) st = slm2_records_read(paths[i], o->max_line_bytes, o->bad_is_fatal, take_record, &l, &c->n_bad, err);
    if (st == SLM2_OK) st = slm2_buf_check(&l.start, err);
    if (st == SLM2_OK) st = slm2_buf_check(&l.mask, err);
    slm2_ids_free(&l.one);
    slm2_buf_free(&l.one_mask);
    /* the arrays change owner */
    c->ids = l.ids.v;
    c->n_tok = l.ids.n;
    c->mask = (uint8_t *)l.mask.v;
    c->start = (int64_t *)(void *)l.start.v;
    if (st != SLM2_OK) slm2_convos_free(c);
    return st;
}

void slm2_convos_free(struct slm2_convos *c)
{
    if (!c) return;
    free(c->ids);
    free(c->mask);
    free(c->start);
    *c = (struct slm2_convos){0};
}

/* ---- packing -------------------------------------------------------------------------------------------------------------- */
static int places(const struct slm2_convos *c, int convo) { return (int)(c->start[convo + 1] - c->start[convo] - 1); }

/* tree[1] is the root of the largest room over leaves tree[leaves + row]: the first row with enough room is found in log n steps. */
static int first_fit(int *tree, int leaves, int need)
{
    int at = 1;
    while (at < leaves) at = tree[2 * at] >= need ? 2 * at : 2 * at + 1;
    int row = at - leaves;
    tree[at] -= need;
    for (at /= 2; at >= 1; at /= 2) tree[at] = tree[2 * at] > tree[2 * at + 1] ? tree[2 * at] : tree[2 * at + 1];
    return row;
}

slm2_status slm2_convos_pack(const struct slm2_convos *c, uint64_t seed, uint64_t epoch, struct slm2_convo_rows *r, struct slm2_err *err)
{
    size_t n = (size_t)c->n, leaves = 1;
    *r = (struct slm2_convo_rows){0};
    while (leaves < n) leaves *= 2;
    uint32_t *order = malloc((n + 1) * sizeof *order);
    int *row_of = malloc((n + 1) * sizeof *row_of), *tree = malloc(2 * leaves * sizeof *tree);
    r->first = calloc(n + 2, sizeof *r->first);
    r->member = malloc((n + 1) * sizeof *r->member);
    slm2_status st = SLM2_OK;
    if (!order || !row_of || !tree || !r->first || !r->member) {
        st = slm2_fail(err, SLM2_ENOMEM, "out of memory for packing %d conversations", c->n);
        goto done;
    }
    for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    if (seed) slm2_rng_permute(seed, SLM2_RNG_SHUFFLE, epoch, order, (uint32_t)n);
    for (size_t i = 0; i < 2 * leaves; i++) tree[i] = c->n_ctx;
    for (size_t i = 0; i < n; i++) { /* a row of its own always has room: a conversation is at most n_ctx places */
        row_of[i] = first_fit(tree, (int)leaves, places(c, (int)order[i]));
        if (row_of[i] >= r->n_rows) r->n_rows = row_of[i] + 1;
        r->first[row_of[i] + 1]++;
    }
    for (int k = 0; k < r->n_rows; k++) r->first[k + 1] += r->first[k];
    for (int k = 0; k < r->n_rows; k++) tree[k] = r->first[k]; /* next free member of each row; leaves >= n_rows */
    for (size_t i = 0; i < n; i++) r->member[tree[row_of[i]]++] = (int)order[i];
done:
    free(order);
    free(row_of);
    free(tree);
    if (st != SLM2_OK) slm2_convo_rows_free(r);
    return st;
}

void slm2_convo_rows_free(struct slm2_convo_rows *r)
{
    if (!r) return;
    free(r->first);
    free(r->member);
    *r = (struct slm2_convo_rows){0};
}

int slm2_convos_count(const struct slm2_convos *c, int convo)
{
    int n = 0;
    for (int64_t i = c->start[convo] + 1; i < c->start[convo + 1]; i++) n += c->mask[i] != 0;
    return n;
}

int slm2_convos_count_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row)
{
    int n = 0;
    for (int i = r->first[row]; i < r->first[row + 1]; i++) n += slm2_convos_count(c, r->member[i]);
    return n;
}

slm2_status slm2_convos_add(const struct slm2_convos *c, int convo, float weight, struct slm2_batch *b, struct slm2_err *err)
{
    int64_t at = c->start[convo];
    return slm2_records_add(b, c->ids + at, c->mask + at, places(c, convo) + 1, weight, err);
}

slm2_status slm2_convos_add_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row, float weight, struct slm2_batch *b, struct slm2_err *err)
{
    for (int i = r->first[row]; i < r->first[row + 1]; i++) SLM2_TRY(slm2_convos_add(c, r->member[i], weight, b, err));
    return SLM2_OK;
}
