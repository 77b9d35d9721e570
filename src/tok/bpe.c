/* bpe.c - byte-pair encoding of one piece: from single bytes, the adjacent pair of the lowest rank (leftmost of equals) merges
 * until no pair is a token.  Short pieces scan for the lowest rank; long ones keep pairs in a heap over a linked list, a window at a time. */
#include "tok/tok_impl.h"

#include <stdlib.h>

#define SHORT 64 /* bytes up to which scanning beats a heap */

static int32_t pair_rank(const struct slm2_tok *tok, const uint8_t *s, int32_t a, int32_t b, size_t n, int32_t limit, int32_t *merged)
{
    int32_t rank = TOK_NO_RANK;
    if (tok->explicit_merges) {
        if (tok->n_pair_slot == 0) return rank;
        uint64_t h = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9e3779b97f4a7c15u;
        for (uint32_t i = (uint32_t)(h >> 32) & (tok->n_pair_slot - 1); tok->pair[i].a >= 0; i = (i + 1) & (tok->n_pair_slot - 1))
            if (tok->pair[i].a == a && tok->pair[i].b == b) {
                *merged = tok->pair[i].id;
                rank = tok->pair[i].rank;
                break;
            }
    } else {
        int32_t id = tok_find(tok, s, n);
        if (id >= 0) rank = *merged = id;
    }
    return rank < limit ? rank : TOK_NO_RANK;
}

static size_t merge_short(const struct slm2_tok *tok, const uint8_t *s, size_t n, int32_t limit, int32_t *id)
{
    uint8_t at[SHORT + 1];                  /* where symbol i begins; at[m] is the end */
    int32_t rank[SHORT], merged[SHORT];     /* of the pair (i, i+1) */
    size_t m = n;
    for (size_t i = 0; i <= n; i++) at[i] = (uint8_t)i;
    for (size_t i = 0; i < n; i++) id[i] = tok->byte_id[s[i]];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = pair_rank(tok, s + i, id[i], id[i + 1], 2, limit, &merged[i]);
    while (m > 1) {
        size_t k = 0;
        for (size_t i = 1; i + 1 < m; i++)
            if (rank[i] < rank[k]) k = i;
        if (rank[k] == TOK_NO_RANK) break;
        id[k] = merged[k];
        m--;
        memmove(id + k + 1, id + k + 2, (m - k - 1) * sizeof *id);
        memmove(at + k + 1, at + k + 2, m - k);
        if (k + 1 < m) {
            memmove(rank + k + 1, rank + k + 2, (m - k - 2) * sizeof *rank);
            memmove(merged + k + 1, merged + k + 2, (m - k - 2) * sizeof *merged);
            rank[k] = pair_rank(tok, s + at[k], id[k], id[k + 1], (size_t)(at[k + 2] - at[k]), limit, &merged[k]);
        }
        if (k > 0) rank[k - 1] = pair_rank(tok, s + at[k - 1], id[k - 1], id[k], (size_t)(at[k + 1] - at[k - 1]), limit, &merged[k - 1]);
    }
    return m;
}

/* ---- long pieces ---------------------------------------------------------------------------------------------------
 * A window at a time, so that the work stays in the cache and grows with the text alone.  Why the seams are exact:
 *
 *   The tokens of a text between two of its token ends are what those bytes give alone: no merge ever crossed these ends, and which
 *   of two merges comes first does not depend on what lies beside them.  Turned round: when every two neighbours of a row of tokens
 *   are what their own bytes give, the row is what all the bytes give; the first merge across an end would have happened in the
 *   pair alone.  So if the tokens of [a, c) and those of [b, d), a <= b < c <= d, have one token in common, the former's up to that
 *   one and the latter's behind it are the tokens of [a, d).
 *
 * A window begins at a token end some way back in what is done, and the common token is nearly always its first.  Where there is
 * none the window doubles and stays so: n log n at worst. */

/* A symbol of a window, named by the position of its first byte; next == n: the last one. */
struct symbol { uint32_t prev, next; int32_t id, rank, merged; }; /* rank, merged: of the pair with the next; rank TOK_NO_RANK: none */

struct window {
    struct symbol *y; /* [size] */
    uint64_t *heap;   /* [2 size] of (rank << 32 | position), least first; n - 1 pairs, and each merge takes one entry and adds at most two */
    int32_t *id;      /* [size] the result */
    size_t n_heap;
};

static void sift_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t v = h[i];
    for (size_t c; (c = 4 * i + 1) < n; i = c) {
        size_t end = c + 4 < n ? c + 4 : n;
        for (size_t k = c + 1; k < end; k++)
            if (h[k] < h[c]) c = k;
        if (h[c] >= v) break;
        h[i] = h[c];
    }
    h[i] = v;
}

static void heap_push(uint64_t *h, size_t *n, uint64_t v)
{
    size_t i = (*n)++;
    for (; i > 0 && h[(i - 1) / 4] > v; i = (i - 1) / 4) h[i] = h[(i - 1) / 4];
    h[i] = v;
}

static void pair_update(const struct slm2_tok *tok, const uint8_t *s, struct window *w, uint32_t n, uint32_t p, int32_t limit)
{
    struct symbol *y = w->y, *a = &y[p];
    a->rank = TOK_NO_RANK;
    if (a->next >= n) return;
    a->rank = pair_rank(tok, s + p, a->id, y[a->next].id, y[a->next].next - p, limit, &a->merged);
    if (a->rank != TOK_NO_RANK) heap_push(w->heap, &w->n_heap, (uint64_t)(uint32_t)a->rank << 32 | p);
}

/* The ids of s[0..n) into w->id; their number.  Heap entries that no longer hold are dropped when they come up. */
static size_t merge_window(const struct slm2_tok *tok, const uint8_t *s, uint32_t n, int32_t limit, struct window *w)
{
    struct symbol *y = w->y;
    size_t m = 0;
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) y[i] = (struct symbol){.prev = i - 1, .next = i + 1, .id = tok->byte_id[s[i]], .rank = TOK_NO_RANK};
    for (uint32_t i = 0; i + 1 < n; i++) pair_update(tok, s, w, n, i, limit);
    while (w->n_heap > 0) {
        uint64_t top = w->heap[0];
        w->heap[0] = w->heap[--w->n_heap];
        if (w->n_heap) sift_down(w->heap, w->n_heap, 0);
        uint32_t p = (uint32_t)top, q;
        if (y[p].rank != (int32_t)(top >> 32)) continue; /* merged away or paired otherwise since */
        q = y[p].next;
        y[p].id = y[p].merged;
        y[p].next = y[q].next;
        y[q].rank = TOK_NO_RANK;
        if (y[p].next < n) y[y[p].next].prev = p;
        pair_update(tok, s, w, n, p, limit);
        if (p > 0) pair_update(tok, s, w, n, y[p].prev, limit);
    }
    for (uint32_t p = 0; p < n; p = y[p].next) w->id[m++] = y[p].id;
    return m;
}

/* done[k..n_done) and id[0..n) begin at the same byte: where a token is common to both, its index in each; false: nowhere */
static bool common_token(const struct slm2_tok *tok, const int32_t *done, size_t *k, size_t n_done, const int32_t *id, size_t *j, size_t n)
{
    size_t at_done = 0, at = 0;
    for (*j = 0; *k < n_done && *j < n;) {
        if (at_done == at && done[*k] == id[*j]) return true;
        bool step_done = at_done <= at, step = at <= at_done;
        if (step_done) at_done += tok->e[done[(*k)++]].n;
        if (step) at += tok->e[id[(*j)++]].n;
    }
    return false;
}

static bool window_alloc(struct window *w, size_t size)
{
    free(w->heap);
    w->heap = malloc(size * (2 * sizeof *w->heap + sizeof *w->y + sizeof *w->id));
    if (!w->heap) return false;
    w->y = (struct symbol *)(w->heap + 2 * size);
    w->id = (int32_t *)(w->y + size);
    return true;
}

slm2_status tok_bpe_long(const struct slm2_tok *tok, const uint8_t *s, size_t n, int32_t limit, size_t size, int32_t *out, size_t *n_out, uint64_t *work,
                         struct slm2_err *err)
{
    struct window w = {0};
    size_t done = 0, m = 0; /* out[0..m) are the tokens of s[0..done) */
    bool fits = false;
    slm2_status st = SLM2_OK;
    if (size > n) size = n;
    while (done < n) {
        if (!fits && !window_alloc(&w, size)) {
            st = slm2_fail(err, SLM2_ENOMEM, "tokenize: no memory for %zu bytes of a piece", size);
            break;
        }
        size_t from = done, k = m, j = 0, end;
        while (k > 0 && (size == n || done - from < size / 4)) /* the last attempt begins at 0 and always fits */
            from -= tok->e[out[--k]].n;
        end = n - from < size ? n : from + size;
        fits = end > done;
        if (fits) {
            size_t c = merge_window(tok, s + from, (uint32_t)(end - from), limit, &w);
            *work += end - from;
            fits = from == 0 || common_token(tok, out, &k, m, w.id, &j, c);
            if (fits) {
                memcpy(out + k, w.id + j, (c - j) * sizeof *out);
                m = k + c - j;
                done = end;
            }
        }
        if (!fits) size = n / 2 < size ? n : 2 * size;
    }
    free(w.heap);
    *n_out = m;
    return st;
}

slm2_status tok_bpe(const struct slm2_tok *tok, const uint8_t *s, size_t n, int32_t limit, int32_t *out, size_t *n_out, struct slm2_err *err)
{
    uint64_t work = 0;
    if (n > SHORT) return tok_bpe_long(tok, s, n, limit, TOK_WINDOW, out, n_out, &work, err);
    *n_out = n ? merge_short(tok, s, n, limit, out) : 0;
    return SLM2_OK;
}

slm2_status tok_merges(const struct slm2_tok *tok, struct tok_merge **merge, int32_t *n, struct slm2_err *err)
{
    size_t room = (size_t)(tok->explicit_merges ? tok->n_merge : tok->n_vocab) + 1;
    struct tok_merge *v = malloc(room * sizeof *v);
    int32_t *part = malloc(((size_t)tok->max_len + 1) * sizeof *part), k = 0;
    slm2_status st = SLM2_OK;
    if (!v || !part) {
        st = slm2_fail(err, SLM2_ENOMEM, "tokenizer: no memory for the list of merges");
        goto done;
    }
    if (tok->explicit_merges) {
        memcpy(v, tok->merge, (size_t)tok->n_merge * sizeof *v);
        k = tok->n_merge;
    } else {
        /* The pair that makes a token is what merging its bytes ends in when only lower ranks may merge: inside any text,
         * nothing else can stand there when the token's turn comes.  A token that does not end in two parts is only ever
         * met as a whole piece, and has no merge. */
        for (int32_t id = 0; id < tok->n_vocab && st == SLM2_OK; id++) {
            size_t n_part = 0;
            if (tok->e[id].kind != TOK_NORMAL || tok->e[id].n < 2) continue;
            st = tok_bpe(tok, (const uint8_t *)tok->text.v + tok->e[id].at, tok->e[id].n, id, part, &n_part, err);
            if (n_part == 2) v[k++] = (struct tok_merge){part[0], part[1], id};
        }
    }
    if (st != SLM2_OK) goto done;
    *merge = v;
    *n = k;
    v = NULL;
done:
    free(part);
    free(v);
    return st;
}
