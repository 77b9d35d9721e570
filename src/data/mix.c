/* mix.c - rows of a weighted mix of token files, found by number. */
#include "data/mix.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/order.h"
#include "data/share.h"

#define MAX_ROW (INT64_C(1) << 48)

struct source {
    char *name;
    struct slm2_shard shard;
    uint64_t digest;           /* of the shard, when orders are kept in a folder */
    struct slm2_order held[2]; /* of even and odd epochs: a row may reach into the next */
};
struct slm2_mix {
    struct source *v;
    int n;
    struct slm2_mix_opts o;
    char *index_dir;
    struct slm2_share *share;
};

int slm2_mix_source_of(const struct slm2_mix *m, int64_t i) { return slm2_share_source(m->share, i); }

/* ---- what it gives ----------------------------------------------------------------------------------------------------- */
static slm2_status order_of(struct slm2_mix *m, int s, int64_t epoch, const struct slm2_order **out, struct slm2_err *err)
{
    struct source *v = &m->v[s];
    struct slm2_order *o = &v->held[epoch & 1];
    *out = o;
    if (o->epoch == epoch) return SLM2_OK;
    const struct slm2_order_of of = {.name = v->name, .shard = &v->shard, .digest = v->digest, .seed = m->o.seed, .source = (uint64_t)s, .keep = m->o.keep_order, .dir = m->index_dir};
    return slm2_order_open(o, &of, epoch, err);
}

static uint32_t find_doc(const struct slm2_order *o, uint32_t n, int64_t at)
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
        const struct slm2_order *o;
        int64_t epoch = at / sh->n_tok, rest = at % sh->n_tok;
        SLM2_TRY(order_of(m, s, epoch, &o, err));
        uint32_t d = find_doc(o, (uint32_t)sh->n_doc, rest);
        for (; n > 0 && d < sh->n_doc; d++) {
            int64_t skip = rest - o->start[d], k = o->start[d + 1] - rest;
            if (k > n) k = n;
            /* a file of orders is a cache: nothing may be read by it beyond the document */
            if (o->start[d + 1] - o->start[d] != slm2_order_doc_tokens(sh, o->doc[d])) {
                return slm2_fail(err, SLM2_EFORMAT, "%s: the order of epoch %" PRId64 " in %s is not of these token files; remove it", m->v[s].name, epoch, m->index_dir ? m->index_dir : "memory");
            }
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

/* With shuffle_rows: the rows of each run of slm2_mix_epoch_rows change places among themselves. */
static int64_t place_of(const struct slm2_mix *m, int source, int64_t r)
{
    int64_t n = slm2_mix_epoch_rows(m, source), epoch = r / n;
    if (!m->o.shuffle_rows) return r;
    return epoch * n + (int64_t)slm2_rng_place(m->o.seed, SLM2_RNG_ROWS, (uint64_t)source << 48 | (uint64_t)epoch, (uint64_t)(r % n), (uint64_t)n);
}

slm2_status slm2_mix_source_row(struct slm2_mix *m, int source, int64_t r, int32_t *ids, struct slm2_err *err)
{
    int64_t at;
    int n = m->o.n_ctx;
    if (source < 0 || source >= m->n || r < 0) return slm2_fail(err, SLM2_EUSAGE, "row %" PRId64 " of source %d: there are %d sources", r, source, m->n);
    if (m->v[source].shard.n_tok == 0) return slm2_fail(err, SLM2_EUSAGE, "%s: holds no tokens to draw", m->v[source].name);
    if (__builtin_mul_overflow(place_of(m, source, r), (int64_t)n, &at) || at > INT64_MAX - n - 1) return slm2_fail(err, SLM2_ELIMIT, "row %" PRId64 " is too far", r);
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
    SLM2_TRY(slm2_mix_source_row(m, s, slm2_share_rows(m->share, s, i), ids, err));
    if (source) *source = s;
    return SLM2_OK;
}

/* ---- accounts ---------------------------------------------------------------------------------------------------------- */
int64_t slm2_mix_epoch_rows(const struct slm2_mix *m, int source)
{
    int64_t n = (m->v[source].shard.n_tok - 1) / m->o.n_ctx;
    return n > 0 ? n : 1;
}

double slm2_mix_share(const struct slm2_mix *m, int source) { return slm2_share_of(m->share, source); }
int64_t slm2_mix_source_tokens(const struct slm2_mix *m, int source) { return m->v[source].shard.n_tok; }

struct slm2_mix_drawn slm2_mix_drawn(const struct slm2_mix *m, int source, int64_t n_rows)
{
    struct slm2_mix_drawn d = {.rows = slm2_share_rows(m->share, source, n_rows)};
    int64_t n_tok = m->v[source].shard.n_tok;
    d.tokens = d.rows * m->o.n_ctx;
    d.epochs = n_tok ? (double)d.tokens / (double)n_tok : 0.0;
    return d;
}

/* ---- opening ----------------------------------------------------------------------------------------------------------- */
static slm2_status open_sources(struct slm2_mix *m, const struct slm2_mix_source *v, struct slm2_err *err)
{
    for (int i = 0; i < m->n; i++) {
        struct source *s = &m->v[i];
        s->held[0].epoch = s->held[1].epoch = -1;
        if (!(s->name = strdup(v[i].name))) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", v[i].name);
        SLM2_TRY(slm2_shard_open(&s->shard, v[i].prefix, err));
        if (s->shard.n_tok == 0 && v[i].weight > 0) return slm2_fail(err, SLM2_EUSAGE, "%s: holds no tokens; give it weight 0 or leave it out", v[i].name);
        if (m->index_dir) s->digest = slm2_order_digest(&s->shard);
    }
    return SLM2_OK;
}

static slm2_status open_share(struct slm2_mix *m, const struct slm2_mix_source *v, struct slm2_err *err)
{
    double *weight = malloc((size_t)m->n * sizeof *weight);
    const char **name = malloc((size_t)m->n * sizeof *name);
    for (int i = 0; weight && name && i < m->n; i++) {
        weight[i] = v[i].weight;
        name[i] = v[i].name;
    }
    slm2_status st = weight && name ? slm2_share_open(&m->share, weight, name, m->n, m->o.seed, err) : slm2_fail(err, SLM2_ENOMEM, "out of memory for %d sources", m->n);
    free(weight);
    free(name);
    return st;
}

slm2_status slm2_mix_open(struct slm2_mix **out, const struct slm2_mix_source *v, int n, const struct slm2_mix_opts *o, struct slm2_err *err)
{
    *out = NULL;
    if (n < 1) return slm2_fail(err, SLM2_EUSAGE, "no sources to draw from");
    if (o->n_ctx < 1 || o->n_ctx > 1 << 24) return slm2_fail(err, SLM2_EUSAGE, "n_ctx %d, want 1 to %d", o->n_ctx, 1 << 24);
    struct slm2_mix *m = calloc(1, sizeof *m);
    if (m) m->v = calloc((size_t)n, sizeof *m->v);
    if (!m || !m->v || (o->index_dir && !(m->index_dir = strdup(o->index_dir)))) {
        slm2_mix_close(m);
        return slm2_fail(err, SLM2_ENOMEM, "out of memory for %d sources", n);
    }
    m->n = n;
    m->o = *o;
    slm2_status st = open_share(m, v, err);
    if (st == SLM2_OK) st = open_sources(m, v, err);
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
        for (int k = 0; k < 2; k++) slm2_order_close(&s->held[k]);
        slm2_shard_close(&s->shard);
        free(s->name);
    }
    slm2_share_close(m->share);
    free(m->index_dir);
    free(m->v);
    free(m);
}
