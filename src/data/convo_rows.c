/* convo_rows.c - packing by best fit, longest first. */
#include "data/convo_rows.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "data/records.h"

static int length(const struct slm2_convos *c, int convo) { return (int)(c->start[convo + 1] - c->start[convo]); }

/* ---- what a pass sees ------------------------------------------------------------------------------------------------------- */
static int64_t drawn_of(const struct slm2_convo_count *s) { return llround(s->repeat * (double)s->n); }

/* The conversations of all data sets, each as often as its set says; what is left of a part is drawn by the seed. */
static slm2_status draw(const struct slm2_convos *c, uint64_t seed, struct slm2_convo_rows *r, struct slm2_err *err)
{
    int64_t total = 0, at = 0;
    uint32_t *part = malloc(((size_t)c->n + 1) * sizeof *part);
    r->drawn = calloc((size_t)c->n_set + 1, sizeof *r->drawn);
    for (int k = 0; r->drawn && k < c->n_set; k++) total += r->drawn[k] = drawn_of(&c->set[k]);
    if (total < INT_MAX) r->member = malloc(((size_t)total + 1) * sizeof *r->member);
    if (!part || !r->drawn || !r->member) {
        free(part);
        return total < INT_MAX ? slm2_fail(err, SLM2_ENOMEM, "out of memory for packing %lld conversations", (long long)total) : slm2_fail(err, SLM2_ELIMIT, "a pass of %lld conversations, at most %d", (long long)total, INT_MAX - 1);
    }
    for (int k = 0; k < c->n_set; k++) {
        const struct slm2_convo_count *s = &c->set[k];
        int64_t whole = s->n ? r->drawn[k] / s->n : 0, rest = s->n ? r->drawn[k] % s->n : 0;
        for (int64_t w = 0; w < whole; w++)
            for (int i = 0; i < s->n; i++) r->member[at++] = s->first + i;
        for (int i = 0; i < s->n; i++) part[i] = (uint32_t)i;
        if (rest) slm2_rng_permute(seed, SLM2_RNG_SPLIT, (uint64_t)k, part, (uint32_t)s->n);
        for (int64_t i = 0; i < rest; i++) r->member[at++] = s->first + (int)part[i];
    }
    free(part);
    r->n_member = (int)total;
    return SLM2_OK;
}

/* ---- best fit ---------------------------------------------------------------------------------------------------------------- */
/* Rows by the room they have left: a chain for each room, and a bit for each chain that is not empty. */
struct bins {
    int cap;        /* room of an empty row */
    int *head;      /* [cap + 1] a row with that much room, -1: none */
    int *next;      /* [rows] another with the same */
    uint64_t *bits; /* [cap / 64 + 1] */
    int n_rows;
};

static void push_row(struct bins *b, int row, int room)
{
    b->next[row] = b->head[room];
    b->head[room] = row;
    b->bits[room / 64] |= (uint64_t)1 << room % 64;
}

/* Takes out the row with the least room of at least need, or opens one; its room is in *room. */
static int pop_row(struct bins *b, int need, int *room)
{
    int last = b->cap / 64;
    uint64_t word = b->bits[need / 64] & (UINT64_MAX << need % 64);
    int i = need / 64;
    while (!word && i < last) word = b->bits[++i];
    if (!word) {
        *room = b->cap;
        return b->n_rows++;
    }
    *room = i * 64 + __builtin_ctzll(word);
    int row = b->head[*room];
    b->head[*room] = b->next[row];
    if (b->head[*room] < 0) b->bits[i] &= ~((uint64_t)1 << *room % 64);
    return row;
}

/* order[n]: members by length, longest first, equal ones as in `by`. */
static slm2_status longest_first(const struct slm2_convos *c, const struct slm2_convo_rows *r, const uint32_t *by, int longest, uint32_t *order, struct slm2_err *err)
{
    int *at = calloc((size_t)longest + 2, sizeof *at);
    if (!at) return slm2_fail(err, SLM2_ENOMEM, "out of memory for lengths");
    for (int i = 0; i < r->n_member; i++) at[longest - length(c, r->member[i]) + 1]++;
    for (int i = 0; i <= longest; i++) at[i + 1] += at[i];
    for (int i = 0; i < r->n_member; i++) order[at[longest - length(c, r->member[by[i]])]++] = by[i];
    free(at);
    return SLM2_OK;
}

/* row_of[member]: where each goes. */
static void best_fit(const struct slm2_convos *c, const struct slm2_convo_rows *r, const uint32_t *order, struct bins *b, int *row_of)
{
    for (int i = 0; i <= b->cap; i++) b->head[i] = -1;
    for (int i = 0; i < r->n_member; i++) {
        int need = length(c, r->member[order[i]]) - !r->joined, room;
        int row = pop_row(b, need, &room);
        row_of[order[i]] = row;
        push_row(b, row, room - need);
    }
}

slm2_status slm2_convos_pack(const struct slm2_convos *c, uint64_t seed, bool joined, struct slm2_convo_rows *r, struct slm2_err *err)
{
    *r = (struct slm2_convo_rows){.joined = joined};
    slm2_status st = draw(c, seed, r, err);
    size_t n = (size_t)r->n_member;
    struct bins b = {.cap = c->n_ctx + joined}; /* joined, one token more: the row's last is a target only */
    uint32_t *by = malloc((n + 1) * sizeof *by), *order = malloc((n + 1) * sizeof *order);
    int *row_of = malloc((n + 1) * sizeof *row_of), *member = malloc((n + 1) * sizeof *member);
    b.head = malloc(((size_t)b.cap + 1) * sizeof *b.head);
    b.next = malloc((n + 1) * sizeof *b.next);
    b.bits = calloc((size_t)b.cap / 64 + 1, sizeof *b.bits);
    r->first = calloc(n + 2, sizeof *r->first);
    if (st == SLM2_OK && (!by || !order || !row_of || !member || !b.head || !b.next || !b.bits || !r->first)) st = slm2_fail(err, SLM2_ENOMEM, "out of memory for packing %zu conversations", n);
    if (st != SLM2_OK) goto done;
    for (size_t i = 0; i < n; i++) by[i] = (uint32_t)i;
    if (seed) slm2_rng_permute(seed, SLM2_RNG_SHUFFLE, 0, by, (uint32_t)n);
    st = longest_first(c, r, by, c->n_ctx + 1, order, err);
    if (st != SLM2_OK) goto done;
    best_fit(c, r, order, &b, row_of);
    r->n_rows = b.n_rows;
    for (size_t i = 0; i < n; i++) {
        r->first[row_of[i] + 1]++;
        r->n_used += length(c, r->member[i]) - !joined;
    }
    if (joined) r->n_used -= r->n_rows;
    for (int k = 0; k < r->n_rows; k++) r->first[k + 1] += r->first[k];
    for (int k = 0; k < r->n_rows; k++) b.next[k] = r->first[k]; /* next free member of each row */
    for (size_t i = 0; i < n; i++) member[b.next[row_of[by[i]]]++] = r->member[by[i]];
    free(r->member);
    r->member = member;
    member = NULL;
done:
    free(by);
    free(order);
    free(row_of);
    free(member);
    free(b.head);
    free(b.next);
    free(b.bits);
    if (st != SLM2_OK) slm2_convo_rows_free(r);
    return st;
}

void slm2_convo_rows_free(struct slm2_convo_rows *r)
{
    if (!r) return;
    free(r->first);
    free(r->member);
    free(r->drawn);
    *r = (struct slm2_convo_rows){0};
}

double slm2_convo_rows_fill(const struct slm2_convos *c, const struct slm2_convo_rows *r)
{
    return r->n_rows ? (double)r->n_used / ((double)r->n_rows * c->n_ctx) : 0;
}

/* ---- rows into batches -------------------------------------------------------------------------------------------------------- */
int slm2_convos_count_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row)
{
    int n = 0;
    for (int k = r->first[row]; k < r->first[row + 1]; k++) {
        int m = r->member[k];
        bool predicted = r->joined && k > r->first[row]; /* its first token is */
        for (int64_t i = c->start[m] + !predicted; i < c->start[m + 1]; i++) n += c->mask[i] != 0;
    }
    return n;
}

/* One sequence, made where the batch keeps it: a training step allocates nothing. */
static slm2_status add_joined(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row, float weight, struct slm2_batch *b, struct slm2_err *err)
{
    int n = -1, room = b->max_tok - b->n_tok;
    for (int k = r->first[row]; k < r->first[row + 1]; k++) n += length(c, r->member[k]);
    if (n > room) return slm2_fail(err, SLM2_ELIMIT, "batch is full: %d tokens and %d more, at most %d", b->n_tok, n, b->max_tok);
    int32_t *ids = b->ids + b->n_tok, *target = b->target + b->n_tok;
    float *w = b->weight + b->n_tok;
    int at = 0;
    for (int k = r->first[row]; k < r->first[row + 1]; k++) {
        int m = r->member[k];
        for (int64_t i = c->start[m]; i < c->start[m + 1]; i++, at++) {
            if (at < n) ids[at] = c->ids[i];
            if (at == 0) continue;
            target[at - 1] = c->mask[i] ? c->ids[i] : -1;
            w[at - 1] = c->mask[i] ? weight : 0.0f;
        }
    }
    return slm2_batch_add(b, ids, target, w, n, err);
}

slm2_status slm2_convos_add_row(const struct slm2_convos *c, const struct slm2_convo_rows *r, int row, float weight, struct slm2_batch *b, struct slm2_err *err)
{
    if (r->joined) return add_joined(c, r, row, weight, b, err);
    for (int k = r->first[row]; k < r->first[row + 1]; k++) {
        int64_t at = c->start[r->member[k]];
        SLM2_TRY(slm2_records_add(b, c->ids + at, c->mask + at, length(c, r->member[k]), weight, err));
    }
    return SLM2_OK;
}
