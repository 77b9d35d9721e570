/* order.c - permutations of documents with running sums of their lengths, made, kept and mapped. */
#include "data/order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "data/aside.h"

struct head { char magic[16]; uint64_t digest, n_doc, sum; }; /* sum: of the arrays */
static const char magic[16] = "slm2-order 1\n";

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

int64_t slm2_order_doc_tokens(const struct slm2_shard *s, uint32_t doc)
{
    int64_t n = 0, end = slm2_shard_doc(s, (int64_t)doc + 1);
    for (int64_t q = slm2_shard_doc(s, doc); q < end; q++) n += slm2_shard_size(s, q);
    return n;
}

uint64_t slm2_order_digest(const struct slm2_shard *s)
{
    uint64_t h = mix((uint64_t)s->n_doc, (uint64_t)s->n_seq);
    for (int64_t i = 0; i < s->n_doc; i++) h = mix(h, (uint64_t)slm2_order_doc_tokens(s, (uint32_t)i));
    return h;
}

static uint64_t full_digest(const struct slm2_order_of *of, int64_t epoch)
{
    return mix(mix(mix(mix(of->digest, of->seed), of->source), (uint64_t)epoch), of->keep);
}

static size_t starts_bytes(uint32_t n) { return ((size_t)n + 1) * sizeof(int64_t); }

/* start[n + 1] and then doc[n] into p. */
static void fill(const struct slm2_order_of *of, int64_t epoch, void *p)
{
    uint32_t n = (uint32_t)of->shard->n_doc;
    int64_t *start = p, at = 0;
    uint32_t *doc = (uint32_t *)(void *)((char *)p + starts_bytes(n));
    if (of->keep) {
        for (uint32_t i = 0; i < n; i++) doc[i] = i;
    } else {
        slm2_rng_permute(of->seed, SLM2_RNG_SHUFFLE, of->source << 48 | (uint64_t)epoch, doc, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        start[i] = at;
        at += slm2_order_doc_tokens(of->shard, doc[i]);
    }
    start[n] = at;
}

static void point_to(struct slm2_order *o, const void *p, uint32_t n, int64_t epoch)
{
    o->start = p;
    o->doc = (const uint32_t *)(const void *)((const char *)p + starts_bytes(n));
    o->epoch = epoch;
}

/* Of start[n + 1] and doc[n]; *inside: they never fall, and name documents. */
static uint64_t sum_of(const struct slm2_order *o, uint32_t n, bool *inside)
{
    uint64_t h = (uint64_t)o->start[0];
    *inside = h == 0;
    for (uint32_t i = 0; i < n; i++) {
        *inside = *inside && o->start[i + 1] >= o->start[i] && o->doc[i] < n;
        h = mix(mix(h, (uint64_t)o->start[i + 1]), o->doc[i]);
    }
    return h;
}

static bool is_sound(const struct slm2_map *m, const struct slm2_order_of *of, uint64_t digest)
{
    struct head h;
    struct slm2_order o;
    bool inside;
    uint32_t n = (uint32_t)of->shard->n_doc;
    if (m->n != sizeof h + starts_bytes(n) + (size_t)n * sizeof(uint32_t)) return false;
    memcpy(&h, m->p, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) != 0 || h.digest != digest || h.n_doc != n) return false;
    point_to(&o, m->p + sizeof h, n, 0);
    return sum_of(&o, n, &inside) == h.sum && inside && o.start[n] == of->shard->n_tok;
}

static bool map_file(struct slm2_order *o, const struct slm2_order_of *of, const char *path, int64_t epoch)
{
    uint64_t digest = full_digest(of, epoch);
    if (!slm2_path_exists(path) || slm2_map_open(&o->file, path, NULL) != SLM2_OK) return false;
    if (is_sound(&o->file, of, digest)) {
        point_to(o, o->file.p + sizeof(struct head), (uint32_t)of->shard->n_doc, epoch);
        return true;
    }
    slm2_map_close(&o->file);
    o->file = (struct slm2_map){0};
    return false;
}

/* Written under a name of this process, then renamed: several may make the same file at once. */
static slm2_status write_file(const struct slm2_order_of *of, const char *path, const struct slm2_order *o, struct slm2_err *err)
{
    bool inside;
    uint32_t n = (uint32_t)of->shard->n_doc;
    struct head h = {.digest = full_digest(of, o->epoch), .n_doc = n, .sum = sum_of(o, n, &inside)};
    char own[4096];
    struct slm2_out *out;
    memcpy(h.magic, magic, sizeof magic);
    SLM2_TRY(slm2_aside_name(own, sizeof own, path, err));
    SLM2_TRY(slm2_dir_make(of->dir, err));
    SLM2_TRY(slm2_out_open(&out, own, err));
    slm2_out_write(out, &h, sizeof h);
    slm2_out_write(out, o->start, starts_bytes(n));
    slm2_out_write(out, o->doc, (size_t)n * sizeof *o->doc);
    SLM2_TRY(slm2_out_commit(out, err));
    if (rename(own, path) == 0) return SLM2_OK;
    slm2_status st = slm2_fail_errno(err, "%s: cannot be renamed to %s", own, path);
    remove(own);
    return st;
}

slm2_status slm2_order_open(struct slm2_order *o, const struct slm2_order_of *of, int64_t epoch, struct slm2_err *err)
{
    char path[4096] = "";
    struct slm2_err why = {0};
    uint32_t n = (uint32_t)of->shard->n_doc;
    size_t bytes = starts_bytes(n) + (size_t)n * sizeof(uint32_t);
    slm2_order_close(o);
    if (of->dir) {
        int k = snprintf(path, sizeof path, "%s/%" PRIu64 "-%" PRId64 ".order", of->dir, of->source, epoch);
        if (k < 0 || (size_t)k >= sizeof path) return slm2_fail(err, SLM2_ELIMIT, "%.200s...: path is too long", of->dir);
        slm2_aside_clean(of->dir, ".order");
        if (map_file(o, of, path, epoch)) return SLM2_OK;
    }
    o->memory = malloc(bytes);
    if (!o->memory) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for the order of %" PRIu32 " documents", of->name, n);
    fill(of, epoch, o->memory);
    point_to(o, o->memory, n, epoch);
    if (!of->dir) return SLM2_OK;
    if (write_file(of, path, o, &why) != SLM2_OK) {
        slm2_log(SLM2_WARN, "%s; the order of %s is kept in memory only", why.msg, of->name);
        return SLM2_OK;
    }
    struct slm2_order mapped = {.epoch = -1};
    if (map_file(&mapped, of, path, epoch)) {
        slm2_order_close(o);
        *o = mapped;
    }
    return SLM2_OK;
}

void slm2_order_close(struct slm2_order *o)
{
    free(o->memory);
    if (o->file.n) slm2_map_close(&o->file);
    *o = (struct slm2_order){.epoch = -1};
}
