/* mix.c - rows of a weighted mix of token files, found by number.
 *
 * The numbers that place a row are 64-bit integers modulo 2^64 standing for fractions of 1, so that nothing depends on rounding:
 * x_i = phase + i * GOLDEN, and source s owns [bound[s], bound[s + 1]).  How often x_0 .. x_{n-1} fell below a bound is a sum of
 * floors of an arithmetic progression, which Euclid's algorithm finds in O(log n) steps. */
#include "data/mix.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

__extension__ typedef unsigned __int128 u128;

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio, odd */
#define MAX_ROW (INT64_C(1) << 48)
enum { MAX_SOURCES = 4096 };

struct order { /* one epoch of a source */
    int64_t epoch;  /* -1: none */
    uint32_t *doc;  /* [n_doc] in the order drawn */
    int64_t *start; /* [n_doc + 1] first token of each in the epoch */
};
struct source {
    char *name;
    struct slm2_shard shard;
    double share;
    u128 bound;           /* lower end of its interval, of 2^64 */
    struct order held[2]; /* of even and odd epochs: a row may reach into the next */
};
struct slm2_mix {
    struct source *v;
    int n;
    struct slm2_mix_opts o;
    uint64_t phase;
};

/* ---- which source ------------------------------------------------------------------------------------------------------ */
/* Sum over j < n of floor((a j + b) / m), modulo 2^128.  n <= 2^48, a, b <= 2 m, m <= 2^64. */
static u128 floor_sum(u128 n, u128 m, u128 a, u128 b)
{
    u128 sum = 0;
    for (;;) {
        if (a >= m) {
            /* n (n - 1) is even: halve first to stay exact */
            sum += n * (n - 1) / 2 * (a / m);
            a %= m;
        }
        if (b >= m) {
            sum += n * (b / m);
            b %= m;
        }
        u128 top = a * n + b;
        if (top < m) return sum;
        n = top / m;
        b = top % m;
        u128 swap = m;
        m = a;
        a = swap;
    }
}

/* How many of x_0 .. x_{n-1} lie below bound (of 2^64). */
static int64_t count_below(const struct slm2_mix *m, int64_t n, u128 bound)
{
    const u128 one = (u128)1 << 64;
    if (n <= 0 || bound == 0) return 0;
    if (bound >= one) return n;
    /* a fraction is at or above the bound when adding 1 - bound carries */
    u128 above = floor_sum((u128)n, one, GOLDEN, m->phase + (one - bound)) - floor_sum((u128)n, one, GOLDEN, m->phase);
    return n - (int64_t)above;
}

static int64_t rows_of(const struct slm2_mix *m, int s, int64_t n_rows)
{
    u128 hi = s + 1 < m->n ? m->v[s + 1].bound : (u128)1 << 64;
    return count_below(m, n_rows, hi) - count_below(m, n_rows, m->v[s].bound);
}

int slm2_mix_source_of(const struct slm2_mix *m, int64_t i)
{
    uint64_t x = m->phase + (uint64_t)i * GOLDEN;
    int lo = 0, hi = m->n - 1; /* the last source whose bound is at or below x */
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (m->v[mid].bound <= x) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

/* ---- what it gives ----------------------------------------------------------------------------------------------------- */
static slm2_status make_order(struct slm2_mix *m, int s, int64_t epoch, struct order **out, struct slm2_err *err)
{
    struct source *v = &m->v[s];
    struct order *o = &v->held[epoch & 1];
    uint32_t n = (uint32_t)v->shard.n_doc;
    *out = o;
    if (o->epoch == epoch) return SLM2_OK;
    if (!o->doc) o->doc = malloc(n * sizeof *o->doc);
    if (!o->start) o->start = malloc(((size_t)n + 1) * sizeof *o->start);
    if (!o->doc || !o->start) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for the order of %" PRIu32 " documents", v->name, n);
    if (m->o.keep_order) {
        for (uint32_t i = 0; i < n; i++) o->doc[i] = i;
    } else {
        slm2_rng_permute(m->o.seed, SLM2_RNG_SHUFFLE, (uint64_t)s << 48 | (uint64_t)epoch, o->doc, n);
    }
    int64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        o->start[i] = at;
        int64_t end = slm2_shard_doc(&v->shard, (int64_t)o->doc[i] + 1);
        for (int64_t q = slm2_shard_doc(&v->shard, o->doc[i]); q < end; q++) at += slm2_shard_size(&v->shard, q);
    }
    o->start[n] = at;
    o->epoch = epoch;
    return SLM2_OK;
}

static uint32_t find_doc(const struct order *o, uint32_t n, int64_t at)
{
    uint32_t lo = 0, hi = n - 1; /* the last document that starts at or before it; empty ones before it are passed over */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        if (o->start[mid] <= at) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

/* Tokens at .. at + n of the source's endless stream. */
static slm2_status read_stream(struct slm2_mix *m, int s, int64_t at, int64_t n, int32_t *ids, struct slm2_err *err)
{
    const struct slm2_shard *sh = &m->v[s].shard;
    while (n > 0) {
        struct order *o;
        int64_t epoch = at / sh->n_tok, rest = at % sh->n_tok;
        SLM2_TRY(make_order(m, s, epoch, &o, err));
        uint32_t d = find_doc(o, (uint32_t)sh->n_doc, rest);
        for (; n > 0 && d < sh->n_doc; d++) {
            int64_t skip = rest - o->start[d], k = o->start[d + 1] - rest;
            if (k > n) k = n;
            if (k > 0) {
                /* the sequences of a document lie one behind the other */
                slm2_shard_read(sh, slm2_shard_start(sh, slm2_shard_doc(sh, o->doc[d])) + skip, k, ids);
                ids += k;
                n -= k;
                at += k;
                rest += k;
            }
        }
    }
    return SLM2_OK;
}

slm2_status slm2_mix_source_row(struct slm2_mix *m, int source, int64_t r, int32_t *ids, struct slm2_err *err)
{
    int64_t at;
    int n = m->o.n_ctx;
    if (source < 0 || source >= m->n || r < 0) return slm2_fail(err, SLM2_EUSAGE, "row %" PRId64 " of source %d: there are %d sources", r, source, m->n);
    if (m->v[source].shard.n_tok == 0) return slm2_fail(err, SLM2_EUSAGE, "%s: holds no tokens to draw", m->v[source].name);
    if (__builtin_mul_overflow(r, (int64_t)n, &at) || at > INT64_MAX - n - 1) return slm2_fail(err, SLM2_ELIMIT, "row %" PRId64 " is too far", r);
    SLM2_TRY(read_stream(m, source, at, (int64_t)n + 1, ids, err));
    for (int i = 0; i <= n; i++) {
        if (ids[i] < 0 || ids[i] >= m->o.vocab_size) {
            return slm2_fail(err, SLM2_EFORMAT, "%s: row %" PRId64 " holds token id %" PRId32 ", the vocabulary has %" PRId32 "; build the data with the model's tokenizer",
                             m->v[source].name, r, ids[i], m->o.vocab_size);
        }
    }
    return SLM2_OK;
}

slm2_status slm2_mix_row(struct slm2_mix *m, int64_t i, int32_t *ids, int *source, struct slm2_err *err)
{
    if (i < 0 || i >= MAX_ROW) return slm2_fail(err, SLM2_ELIMIT, "row %" PRId64 ", want 0 to 2^48 - 1", i);
    int s = slm2_mix_source_of(m, i);
    SLM2_TRY(slm2_mix_source_row(m, s, rows_of(m, s, i), ids, err));
    if (source) *source = s;
    return SLM2_OK;
}

/* ---- accounts ---------------------------------------------------------------------------------------------------------- */
int64_t slm2_mix_epoch_rows(const struct slm2_mix *m, int source)
{
    int64_t n = (m->v[source].shard.n_tok - 1) / m->o.n_ctx;
    return n > 0 ? n : 1;
}

int slm2_mix_n_sources(const struct slm2_mix *m) { return m->n; }
const char *slm2_mix_name(const struct slm2_mix *m, int source) { return m->v[source].name; }
double slm2_mix_share(const struct slm2_mix *m, int source) { return m->v[source].share; }
int64_t slm2_mix_source_tokens(const struct slm2_mix *m, int source) { return m->v[source].shard.n_tok; }

struct slm2_mix_drawn slm2_mix_drawn(const struct slm2_mix *m, int source, int64_t n_rows)
{
    struct slm2_mix_drawn d = {.rows = rows_of(m, source, n_rows)};
    int64_t n_tok = m->v[source].shard.n_tok;
    d.tokens = d.rows * m->o.n_ctx;
    d.epochs = n_tok ? (double)d.tokens / (double)n_tok : 0.0;
    return d;
}

/* ---- opening ----------------------------------------------------------------------------------------------------------- */
static slm2_status open_sources(struct slm2_mix *m, const struct slm2_mix_source *v, struct slm2_err *err)
{
    double sum = 0, before = 0;
    for (int i = 0; i < m->n; i++) {
        if (!(v[i].weight >= 0) || !isfinite(v[i].weight)) return slm2_fail(err, SLM2_EUSAGE, "%s: weight %g, want a number from 0", v[i].name, v[i].weight);
        sum += v[i].weight;
    }
    if (!(sum > 0) || !isfinite(sum)) return slm2_fail(err, SLM2_EUSAGE, "the weights of the %d sources sum to %g: nothing to draw", m->n, sum);
    for (int i = 0; i < m->n; i++) {
        struct source *s = &m->v[i];
        s->held[0].epoch = s->held[1].epoch = -1;
        s->share = v[i].weight / sum;
        double at = before / sum * 0x1p64;
        s->bound = at < 0x1p64 ? (u128)(uint64_t)at : (u128)1 << 64;
        before += v[i].weight;
        if (!(s->name = strdup(v[i].name))) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", v[i].name);
        SLM2_TRY(slm2_shard_open(&s->shard, v[i].prefix, err));
        if (s->shard.n_tok == 0 && v[i].weight > 0) return slm2_fail(err, SLM2_EUSAGE, "%s: holds no tokens; give it weight 0 or leave it out", v[i].name);
    }
    return SLM2_OK;
}

slm2_status slm2_mix_open(struct slm2_mix **out, const struct slm2_mix_source *v, int n, const struct slm2_mix_opts *o, struct slm2_err *err)
{
    *out = NULL;
    if (n < 1 || n > MAX_SOURCES) return slm2_fail(err, SLM2_EUSAGE, "%d sources, want 1 to %d", n, MAX_SOURCES);
    if (o->n_ctx < 1 || o->n_ctx > 1 << 24) return slm2_fail(err, SLM2_EUSAGE, "n_ctx %d, want 1 to %d", o->n_ctx, 1 << 24);
    struct slm2_mix *m = calloc(1, sizeof *m);
    if (m) m->v = calloc((size_t)n, sizeof *m->v);
    if (!m || !m->v) {
        free(m);
        return slm2_fail(err, SLM2_ENOMEM, "out of memory for %d sources", n);
    }
    m->n = n;
    m->o = *o;
    m->phase = slm2_rng_u64(o->seed, SLM2_RNG_MIX, 0, 0);
    slm2_status st = open_sources(m, v, err);
    if (st != SLM2_OK) {
        slm2_mix_close(m);
        return st;
    }
    *out = m;
    return SLM2_OK;
}

void slm2_mix_close(struct slm2_mix *m)
{
    if (!m) return;
    for (int i = 0; i < m->n; i++) {
        struct source *s = &m->v[i];
        for (int k = 0; k < 2; k++) {
            free(s->held[k].doc);
            free(s->held[k].start);
        }
        slm2_shard_close(&s->shard);
        free(s->name);
    }
    free(m->v);
    free(m);
}
