/* shard.c - reads and writes .bin/.idx token files; a mapped index is checked number by number before anything is taken from it. */
#include "data/shard.h"

#include <endian.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/reader.h"

static const char magic[9] = "MMIDIDX\0"; /* 7 letters and two zero bytes */
enum { HEADER_BYTES = 9 + 8 + 1 + 8 + 8 };
#define MAX_DOCS UINT32_MAX

static int32_t get_i32(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, 4);
    return (int32_t)le32toh(u);
}

static int64_t get_i64(const uint8_t *p)
{
    uint64_t u;
    memcpy(&u, p, 8);
    return (int64_t)le64toh(u);
}

int32_t slm2_shard_size(const struct slm2_shard *s, int64_t seq) { return get_i32(s->sizes + 4 * seq); }
int64_t slm2_shard_start(const struct slm2_shard *s, int64_t seq) { return get_i64(s->pointers + 8 * seq) / (int64_t)s->token_bytes; }
int64_t slm2_shard_doc(const struct slm2_shard *s, int64_t doc) { return get_i64(s->doc_idx + 8 * doc); }

void slm2_shard_read(const struct slm2_shard *s, int64_t at, int64_t n, int32_t *out)
{
    const uint8_t *p = s->bin.p + (size_t)at * s->token_bytes;
    if (s->type == SLM2_SHARD_I32) {
        for (int64_t i = 0; i < n; i++) out[i] = get_i32(p + 4 * i);
    } else {
        for (int64_t i = 0; i < n; i++) out[i] = p[2 * i] | p[2 * i + 1] << 8;
    }
}

/* ---- the index ---------------------------------------------------------------------------------------------------------- */
static void check_sequences(struct slm2_rd *r, struct slm2_shard *s, uint64_t bin_bytes)
{
    uint64_t at = 0; /* sizes are below 2^31 and there are at most n_idx / 12 of them: no overflow */
    for (int64_t i = 0; i < s->n_seq; i++) {
        int32_t size = slm2_shard_size(s, i);
        int64_t pointer = get_i64(s->pointers + 8 * i);
        if (size < 0) {
            slm2_rd_fail(r, "sequence %" PRId64 " has %" PRId32 " tokens", i, size);
            return;
        }
        if ((uint64_t)pointer != at) {
            slm2_rd_fail(r, "sequence %" PRId64 " is said to start at byte %" PRId64 ", the sizes before it say %" PRIu64, i, pointer, at);
            return;
        }
        at += (uint64_t)size * s->token_bytes;
    }
    if (at != bin_bytes) {
        slm2_rd_fail(r, "the index describes %" PRIu64 " bytes of tokens, the .bin file has %" PRIu64 "; rebuild both", at, bin_bytes);
        return;
    }
    s->n_tok = (int64_t)(at / s->token_bytes);
}

static void check_documents(struct slm2_rd *r, const struct slm2_shard *s)
{
    int64_t before = 0;
    for (int64_t i = 0; i <= s->n_doc; i++) {
        int64_t first = slm2_shard_doc(s, i);
        if (first < before || first > s->n_seq || (i == 0 && first != 0)) {
            slm2_rd_fail(r, "document %" PRId64 " starts at sequence %" PRId64 ", want %" PRId64 " to %" PRId64, i, first, before, i ? s->n_seq : 0);
            return;
        }
        before = first;
    }
    if (before != s->n_seq) slm2_rd_fail(r, "the documents end at sequence %" PRId64 " of %" PRId64, before, s->n_seq);
}

slm2_status slm2_shard_parse(struct slm2_shard *s, const void *idx, size_t n_idx, const void *bin, size_t n_bin, const char *what, struct slm2_err *err)
{
    struct slm2_rd r;
    struct slm2_err why = {0};
    *s = (struct slm2_shard){.bin = {bin, n_bin}, .idx = {idx, n_idx}};
    slm2_rd_init(&r, idx, n_idx, what);
    const uint8_t *m = slm2_rd_bytes(&r, sizeof magic);
    if (m && memcmp(m, magic, sizeof magic) != 0) slm2_rd_fail(&r, "is not a token index: it does not begin with MMIDIDX and two zero bytes");
    uint64_t version = slm2_rd_u64(&r);
    if (slm2_rd_ok(&r) && version != 1) slm2_rd_fail(&r, "version %" PRIu64 ", want 1", version);
    uint8_t type = slm2_rd_u8(&r);
    if (slm2_rd_ok(&r) && type != SLM2_SHARD_I32 && type != SLM2_SHARD_U16) slm2_rd_fail(&r, "tokens of type %d, want 4 (int32) or 8 (uint16)", type);
    s->type = (enum slm2_shard_type)type;
    s->token_bytes = type == SLM2_SHARD_I32 ? 4 : 2;
    uint64_t n_seq = slm2_rd_u64(&r), n_entry = slm2_rd_u64(&r);
    if (slm2_rd_ok(&r) && (n_seq > MAX_DOCS || n_entry > (uint64_t)MAX_DOCS + 1 || n_entry == 0)) {
        slm2_rd_fail(&r, "%" PRIu64 " sequences and %" PRIu64 " document entries, want at most %" PRIu32 " and 1 to one more", n_seq, n_entry, MAX_DOCS);
    }
    if (slm2_rd_ok(&r) && n_idx != HEADER_BYTES + n_seq * 12 + n_entry * 8) {
        slm2_rd_fail(&r, "%" PRIu64 " sequences and %" PRIu64 " document entries make %" PRIu64 " bytes, the file has %zu", n_seq, n_entry,
                     HEADER_BYTES + n_seq * 12 + n_entry * 8, n_idx);
    }
    if (slm2_rd_ok(&r)) { /* bounded above: only then does the subtraction stay in range */
        s->n_seq = (int64_t)n_seq;
        s->n_doc = (int64_t)n_entry - 1;
    }
    s->sizes = slm2_rd_bytes(&r, n_seq * 4);
    s->pointers = slm2_rd_bytes(&r, n_seq * 8);
    s->doc_idx = slm2_rd_bytes(&r, n_entry * 8);
    if (slm2_rd_ok(&r)) check_sequences(&r, s, n_bin);
    if (slm2_rd_ok(&r)) check_documents(&r, s);
    slm2_status st = slm2_rd_status(&r, &why);
    if (st != SLM2_OK) {
        *s = (struct slm2_shard){0};
        if (err) *err = why;
    }
    return st;
}

slm2_status slm2_shard_open(struct slm2_shard *s, const char *prefix, struct slm2_err *err)
{
    char name[2][4096];
    struct slm2_map idx = {0}, bin = {0};
    *s = (struct slm2_shard){0};
    for (int i = 0; i < 2; i++) {
        int n = snprintf(name[i], sizeof name[i], "%s.%s", prefix, i ? "bin" : "idx");
        if (n < 0 || (size_t)n >= sizeof name[i]) return slm2_fail(err, SLM2_ELIMIT, "%.200s...: path is too long", prefix);
    }
    slm2_status st = slm2_map_open(&idx, name[0], err);
    if (st == SLM2_OK) st = slm2_map_open(&bin, name[1], err);
    if (st == SLM2_OK) st = slm2_shard_parse(s, idx.p, idx.n, bin.p, bin.n, name[0], err);
    if (st != SLM2_OK) {
        if (idx.n) slm2_map_close(&idx);
        if (bin.n) slm2_map_close(&bin);
    }
    return st;
}

void slm2_shard_close(struct slm2_shard *s)
{
    if (!s) return;
    if (s->bin.n) slm2_map_close(&s->bin);
    if (s->idx.n) slm2_map_close(&s->idx);
    *s = (struct slm2_shard){0};
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */
struct slm2_shard_out {
    struct slm2_out *bin;
    char *prefix;
    enum slm2_shard_type type;
    int32_t *sizes; /* [n] tokens of each document, as counted */
    size_t n, cap;
    int64_t n_tok;
};

slm2_status slm2_shard_out_open(struct slm2_shard_out **out, const char *prefix, enum slm2_shard_type type, struct slm2_err *err)
{
    char path[4096];
    *out = NULL;
    int n = snprintf(path, sizeof path, "%s.bin", prefix);
    if (n < 0 || (size_t)n >= sizeof path) return slm2_fail(err, SLM2_ELIMIT, "%.200s...: path is too long", prefix);
    struct slm2_shard_out *w = calloc(1, sizeof *w);
    if (!w || !(w->prefix = strdup(prefix))) {
        free(w);
        return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", path);
    }
    w->type = type;
    slm2_status st = slm2_out_open(&w->bin, path, err);
    if (st == SLM2_OK) slm2_out_hash(w->bin);
    if (st != SLM2_OK) {
        slm2_shard_out_abort(w);
        return st;
    }
    *out = w;
    return SLM2_OK;
}

slm2_status slm2_shard_out_add(struct slm2_shard_out *w, const int32_t *ids, size_t n, struct slm2_err *err)
{
    uint8_t piece[4096];
    int32_t most = w->type == SLM2_SHARD_I32 ? INT32_MAX : UINT16_MAX;
    if (n > INT32_MAX) return slm2_fail(err, SLM2_ELIMIT, "%s: a document of %zu tokens, at most %d", w->prefix, n, INT32_MAX);
    if (w->n >= MAX_DOCS) return slm2_fail(err, SLM2_ELIMIT, "%s: more than %" PRIu32 " documents; split the source", w->prefix, MAX_DOCS);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] > most) return slm2_fail(err, SLM2_ELIMIT, "%s: token id %" PRId32 ", want 0 to %" PRId32, w->prefix, ids[i], most);
    }
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 1024;
        int32_t *p = realloc(w->sizes, cap * sizeof *p);
        if (!p) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for %zu documents", w->prefix, cap);
        w->sizes = p;
        w->cap = cap;
    }
    for (size_t i = 0, k = 0; i < n; i++) {
        uint32_t le = htole32((uint32_t)ids[i]);
        memcpy(piece + k, &le, w->type == SLM2_SHARD_I32 ? 4 : 2);
        k += w->type == SLM2_SHARD_I32 ? 4 : 2;
        if (k == sizeof piece || i + 1 == n) {
            slm2_out_write(w->bin, piece, k);
            k = 0;
        }
    }
    w->sizes[w->n++] = (int32_t)n;
    w->n_tok += (int64_t)n;
    return SLM2_OK;
}


static void put_u64(struct slm2_out *o, uint64_t v)
{
    v = htole64(v);
    slm2_out_write(o, &v, 8);
}

static slm2_status write_index(const struct slm2_shard_out *w, struct slm2_err *err)
{
    char path[4096];
    struct slm2_out *o;
    uint8_t type = (uint8_t)w->type;
    uint64_t at = 0;
    snprintf(path, sizeof path, "%s.idx", w->prefix); /* as long as the .bin that was opened */
    SLM2_TRY(slm2_out_open(&o, path, err));
    slm2_out_write(o, magic, sizeof magic);
    put_u64(o, 1);
    slm2_out_write(o, &type, 1);
    put_u64(o, w->n);
    put_u64(o, w->n + 1);
    for (size_t i = 0; i < w->n; i++) {
        uint32_t le = htole32((uint32_t)w->sizes[i]);
        slm2_out_write(o, &le, 4);
    }
    for (size_t i = 0; i < w->n; i++) {
        put_u64(o, at);
        at += (uint64_t)w->sizes[i] * (type == SLM2_SHARD_I32 ? 4 : 2);
    }
    for (size_t i = 0; i <= w->n; i++) put_u64(o, i);
    return slm2_out_commit(o, err);
}

void slm2_shard_out_sha256(struct slm2_shard_out *w, char hex[65]) { slm2_out_sha256(w->bin, hex); }

slm2_status slm2_shard_out_commit(struct slm2_shard_out *w, struct slm2_err *err)
{
    char idx[4096];
    /* an index of an earlier build must not stand beside the new tokens, whatever moment this is cut off */
    snprintf(idx, sizeof idx, "%s.idx", w->prefix);
    remove(idx);
    slm2_status st = slm2_out_commit(w->bin, err);
    w->bin = NULL;
    if (st == SLM2_OK) st = write_index(w, err);
    slm2_shard_out_abort(w);
    return st;
}

void slm2_shard_out_abort(struct slm2_shard_out *w)
{
    if (!w) return;
    slm2_out_abort(w->bin);
    free(w->prefix);
    free(w->sizes);
    free(w);
}
