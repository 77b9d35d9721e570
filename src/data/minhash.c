/* minhash.c - signatures, and an open-addressing table of bands. */
#include "data/minhash.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/rng.h"
#include "base/scratch.h"
#include "tok/tok.h"

enum { NEAR_PROBES = 256, EMPTY = 0xffff };
#define MIX UINT64_C(0x9e3779b97f4a7c15)

struct hash { uint64_t a, b; };     /* x -> a x + b modulo 2^64, a odd: a permutation of the shingles' hashes */
struct bucket { uint32_t tag; uint32_t text; }; /* text: its number + 1; 0: a free slot */
struct slm2_near {
    struct slm2_near_opts o;
    struct hash *hash;              /* [n_hash] */
    struct slm2_scratch sigs;       /* uint16_t [n][n_hash] */
    struct slm2_scratch table;      /* struct bucket [cap], of all bands together */
    size_t cap, used;
    int64_t n;
    const char *dir;                /* borrowed */
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

double slm2_near_probability(const struct slm2_near_opts *o, double similarity)
{
    return 1 - pow(1 - pow(similarity, (double)o->n_hash / o->n_band), o->n_band);
}

/* ---- signatures ------------------------------------------------------------------------------------------------------------- */
static bool is_alone(int32_t cp) /* scripts without spaces: a character is a word */
{
    return (cp >= 0x2e80 && cp <= 0x9fff) || (cp >= 0xac00 && cp <= 0xd7af) || (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0x20000 && cp <= 0x3ffff);
}

/* The letter or digit in lower case; -1 for anything else. */
static int32_t fold(int32_t cp)
{
    if (cp < 0) return -1;
    if (cp < 0x80) {
        int low = cp | 0x20;
        return low >= 'a' && low <= 'z' ? low : cp >= '0' && cp <= '9' ? cp : -1;
    }
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NO ? utf8proc_tolower(cp) : -1;
}

/* Hashes of the words, uint64_t each, into words. */
static void hash_words(const char *text, size_t n, struct slm2_buf *words)
{
    uint64_t h = 0;
    slm2_buf_clear(words);
    for (size_t i = 0; i <= n;) {
        int32_t cp = -1;
        size_t k = 1;
        if (i < n && (uint8_t)text[i] < 0x80) cp = (uint8_t)text[i];
        else if (i < n) k = slm2_utf8_next((const uint8_t *)text + i, n - i, &cp);
        int32_t low = fold(cp);
        if ((low < 0 || is_alone(low)) && h) {
            h = mix(h);
            slm2_buf_put(words, &h, sizeof h);
            h = 0;
        }
        if (low >= 0) h = (h + (uint64_t)low + 1) * MIX;
        i += k;
    }
}

slm2_status slm2_near_sign(const struct slm2_near *near, const char *text, size_t n, struct slm2_buf *words, uint16_t *sig, struct slm2_err *err)
{
    uint64_t least[SLM2_NEAR_MAX_HASH];
    int n_hash = near->o.n_hash;
    hash_words(text, n, words);
    SLM2_TRY(slm2_buf_check(words, err));
    size_t n_word = words->n / sizeof(uint64_t), width = (size_t)near->o.shingle;
    for (int i = 0; i < n_hash; i++) sig[i] = EMPTY;
    if (n_word == 0) return SLM2_OK;
    if (width > n_word) width = n_word; /* a short text is one shingle */
    for (int i = 0; i < n_hash; i++) least[i] = UINT64_MAX;
    for (size_t at = 0; at + width <= n_word; at++) {
        uint64_t x = 0;
        for (size_t k = 0; k < width; k++) {
            uint64_t word;
            memcpy(&word, words->v + (at + k) * sizeof word, sizeof word);
            x = (x ^ word) * MIX;
            x ^= x >> 29;
        }
        for (int i = 0; i < n_hash; i++) {
            uint64_t v = near->hash[i].a * x + near->hash[i].b;
            least[i] = v < least[i] ? v : least[i];
        }
    }
    for (int i = 0; i < n_hash; i++) sig[i] = (uint16_t)mix(least[i]); /* the upper bits of a least value say little */
    return SLM2_OK;
}

/* ---- the index -------------------------------------------------------------------------------------------------------------- */
static uint64_t band_key(const struct slm2_near *near, const uint16_t *sig, int band)
{
    int rows = near->o.n_hash / near->o.n_band;
    uint64_t h = (uint64_t)band + 1;
    for (int i = 0; i < rows; i++) h = mix(h * MIX + sig[band * rows + i]);
    return h;
}

static struct bucket *buckets(const struct slm2_near *near) { return (struct bucket *)(void *)near->table.p; }
static const uint16_t *sig_of(const struct slm2_near *near, int64_t text) { return (const uint16_t *)(const void *)near->sigs.p + text * near->o.n_hash; }

static double similarity(const struct slm2_near *near, const uint16_t *a, const uint16_t *b)
{
    int equal = 0;
    for (int i = 0; i < near->o.n_hash; i++) equal += a[i] == b[i];
    return (double)equal / near->o.n_hash;
}

static bool has_words(const struct slm2_near *near, const uint16_t *sig)
{
    for (int i = 0; i < near->o.n_hash; i++) {
        if (sig[i] != EMPTY) return true;
    }
    return false;
}

struct slm2_near_match slm2_near_find(const struct slm2_near *near, const uint16_t *sig)
{
    struct slm2_near_match found = {-1, 0};
    if (!has_words(near, sig)) return found;
    for (int band = 0; band < near->o.n_band; band++) {
        uint64_t key = band_key(near, sig, band);
        uint32_t tag = (uint32_t)(key >> 32);
        int probes = 0;
        for (size_t i = key & (near->cap - 1); buckets(near)[i].text && probes < NEAR_PROBES; i = (i + 1) & (near->cap - 1)) {
            const struct bucket *b = &buckets(near)[i];
            int64_t text = (int64_t)b->text - 1;
            if (b->tag != tag) continue;
            probes++;
            if (found.text >= 0 && text >= found.text) continue;
            double s = similarity(near, sig, sig_of(near, text));
            if (s >= near->o.threshold) found = (struct slm2_near_match){text, s};
        }
    }
    return found;
}

static void place(struct slm2_near *near, int64_t text)
{
    for (int band = 0; band < near->o.n_band; band++) {
        uint64_t key = band_key(near, sig_of(near, text), band);
        size_t i = key & (near->cap - 1);
        while (buckets(near)[i].text) i = (i + 1) & (near->cap - 1);
        buckets(near)[i] = (struct bucket){(uint32_t)(key >> 32), (uint32_t)text + 1};
        near->used++;
    }
}

/* A table of cap slots, filled again from the signatures, in their order. */
static slm2_status rebuild(struct slm2_near *near, size_t cap, struct slm2_err *err)
{
    slm2_scratch_close(&near->table);
    SLM2_TRY(slm2_scratch_open(&near->table, near->dir, err));
    SLM2_TRY(slm2_scratch_grow(&near->table, cap * sizeof(struct bucket), err));
    near->cap = cap;
    near->used = 0;
    for (int64_t i = 0; i < near->n; i++) {
        if (has_words(near, sig_of(near, i))) place(near, i);
    }
    return SLM2_OK;
}

slm2_status slm2_near_add(struct slm2_near *near, const uint16_t *sig, struct slm2_err *err)
{
    size_t row = (size_t)near->o.n_hash * sizeof *sig, need = ((size_t)near->n + 1) * row;
    if (near->n >= UINT32_MAX - 1) return slm2_fail(err, SLM2_ELIMIT, "near_dup: more than %" PRIu32 " documents in one folder", UINT32_MAX - 1);
    if (need > near->sigs.n) SLM2_TRY(slm2_scratch_grow(&near->sigs, near->sigs.n ? 2 * near->sigs.n : 1024 * row, err));
    if (2 * (near->used + (size_t)near->o.n_band) > near->cap) SLM2_TRY(rebuild(near, 2 * near->cap, err));
    memcpy(near->sigs.p + (size_t)near->n * row, sig, row);
    if (has_words(near, sig)) place(near, near->n);
    near->n++;
    return SLM2_OK;
}

int64_t slm2_near_n(const struct slm2_near *near) { return near->n; }
const uint16_t *slm2_near_signatures(const struct slm2_near *near, int64_t from) { return sig_of(near, from); }

slm2_status slm2_near_open(struct slm2_near **out, const struct slm2_near_opts *o, const char *dir, struct slm2_err *err)
{
    *out = NULL;
    if (o->n_hash < 1 || o->n_hash > SLM2_NEAR_MAX_HASH || o->n_band < 1 || o->n_hash % o->n_band || o->shingle < 1) {
        return slm2_fail(err, SLM2_EUSAGE, "near_dup: %d hashes in %d bands of shingles of %d words: want 1 to 1024 hashes, and bands that divide them", o->n_hash, o->n_band,
                         o->shingle);
    }
    struct slm2_near *near = calloc(1, sizeof *near);
    if (near) near->hash = calloc((size_t)o->n_hash, sizeof *near->hash);
    if (!near || !near->hash) {
        slm2_near_close(near);
        return slm2_fail(err, SLM2_ENOMEM, "out of memory for %d hashes", o->n_hash);
    }
    near->o = *o;
    near->dir = dir;
    for (int i = 0; i < o->n_hash; i++) {
        near->hash[i].a = slm2_rng_u64((uint64_t)o->seed, SLM2_RNG_MINHASH, (uint64_t)i, 0) | 1;
        near->hash[i].b = slm2_rng_u64((uint64_t)o->seed, SLM2_RNG_MINHASH, (uint64_t)i, 1);
    }
    size_t cap = 4096;
    while (cap < 4 * (size_t)o->n_band) cap *= 2;
    slm2_status st = slm2_scratch_open(&near->sigs, dir, err);
    if (st == SLM2_OK) st = rebuild(near, cap, err);
    if (st != SLM2_OK) {
        slm2_near_close(near);
        return st;
    }
    *out = near;
    return SLM2_OK;
}

void slm2_near_close(struct slm2_near *near)
{
    if (!near) return;
    slm2_scratch_close(&near->sigs);
    slm2_scratch_close(&near->table);
    free(near->hash);
    free(near);
}
