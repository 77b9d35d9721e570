/* dedup.c - hashes of texts in an open-addressing table that doubles when half full. */
#include "data/dedup.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tok/tok.h"

struct slm2_text_key slm2_bytes_key(const void *bytes, size_t n)
{
    struct slm2_text_key k;
    char hex[65];
    slm2_sha256_hex(bytes, n, hex);
    hex[32] = 0;
    k.b = strtoull(hex + 16, NULL, 16);
    hex[16] = 0;
    k.a = strtoull(hex, NULL, 16);
    if (!k.a && !k.b) k.b = 1;
    return k;
}

slm2_status slm2_text_key(const char *text, size_t n, struct slm2_buf *nfc, struct slm2_text_key *k, struct slm2_err *err)
{
    bool changed;
    slm2_buf_clear(nfc);
    SLM2_TRY(slm2_nfc(text, n, nfc, &changed, err));
    *k = changed ? slm2_bytes_key(nfc->v, nfc->n) : slm2_bytes_key(text, n);
    return SLM2_OK;
}

static struct slm2_text_key *slots(const struct slm2_seen *s) { return (struct slm2_text_key *)(void *)s->table.p; }
static bool is_empty(const struct slm2_text_key *k) { return !k->a && !k->b; }

/* Where k is or would be. */
static struct slm2_text_key *slot_of(const struct slm2_seen *s, struct slm2_text_key k)
{
    struct slm2_text_key *v = slots(s);
    size_t i = k.a & (s->cap - 1);
    while (!is_empty(&v[i]) && (v[i].a != k.a || v[i].b != k.b)) i = (i + 1) & (s->cap - 1);
    return &v[i];
}

slm2_status slm2_seen_open(struct slm2_seen *s, const char *dir, struct slm2_err *err)
{
    *s = (struct slm2_seen){.cap = 4096, .dir = dir};
    SLM2_TRY(slm2_scratch_open(&s->table, dir, err));
    return slm2_scratch_grow(&s->table, s->cap * sizeof(struct slm2_text_key), err);
}

bool slm2_seen_has(const struct slm2_seen *s, struct slm2_text_key k) { return !is_empty(slot_of(s, k)); }

static slm2_status enlarge(struct slm2_seen *s, struct slm2_err *err)
{
    struct slm2_seen larger = {.n = s->n, .cap = 2 * s->cap, .dir = s->dir};
    SLM2_TRY(slm2_scratch_open(&larger.table, s->dir, err));
    slm2_status st = slm2_scratch_grow(&larger.table, larger.cap * sizeof(struct slm2_text_key), err);
    if (st != SLM2_OK) {
        slm2_scratch_close(&larger.table);
        return st;
    }
    for (size_t i = 0; i < s->cap; i++) {
        struct slm2_text_key k = slots(s)[i];
        if (!is_empty(&k)) *slot_of(&larger, k) = k;
    }
    slm2_scratch_close(&s->table);
    *s = larger;
    return SLM2_OK;
}

slm2_status slm2_seen_add(struct slm2_seen *s, struct slm2_text_key k, struct slm2_err *err)
{
    if (2 * (s->n + 1) > s->cap) SLM2_TRY(enlarge(s, err));
    struct slm2_text_key *slot = slot_of(s, k);
    if (is_empty(slot)) s->n++;
    *slot = k;
    return SLM2_OK;
}

void slm2_seen_close(struct slm2_seen *s) { slm2_scratch_close(&s->table); }
