/* dataset.c - what a built folder holds: its manifest, statistics of its token files. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/build.h"
#include "data/shard.h"

enum { MAX_PATH = 4096, MAX_SOURCES = 4096, PIECE = 65536 };
#define MAX_MANIFEST ((size_t)256 << 20)
static const char *const splits[SLM2_N_DATA_SPLIT] = {"train", "val"};
static const char *const tails[SLM2_N_DATA_SPLIT] = {"", ".val"};

/* ---- the manifest --------------------------------------------------------------------------------------------------------- */
slm2_status slm2_dataset_manifest(const char *dir, json_t **j, char hex[65], struct slm2_err *err)
{
    char path[MAX_PATH];
    struct slm2_buf text = {0};
    const char *format;
    SLM2_TRY(slm2_path_join(path, sizeof path, dir, "manifest.json", err));
    if (!slm2_path_exists(dir)) return slm2_fail(err, SLM2_EIO, "%s: no such data folder; `slm2 data build CONFIG.yml` makes it, or name another", dir);
    if (slm2_path_is_dir(dir) && !slm2_path_exists(path)) {
        return slm2_fail(err, SLM2_EIO, "%s: no manifest.json: not a data folder, or its build was interrupted; run `slm2 data build` again", dir);
    }
    *j = NULL;
    slm2_status st = slm2_file_read(&text, path, MAX_MANIFEST, err);
    if (st == SLM2_OK) st = slm2_json_parse(j, text.v, text.n, path, err);
    if (st == SLM2_OK) st = slm2_json_get_str(*j, "format", path, &format, err);
    if (st == SLM2_OK && strcmp(format, "slm2-data") != 0) st = slm2_fail(err, SLM2_EFORMAT, "%s: format is \"%.40s\", want \"slm2-data\"", path, format);
    if (st == SLM2_OK && hex) slm2_sha256_hex(text.v, text.n, hex);
    if (st != SLM2_OK) {
        json_decref(*j);
        *j = NULL;
    }
    slm2_buf_free(&text);
    return st;
}

static slm2_status get_pair(const json_t *obj, const char *key, const char *what, int64_t out[SLM2_N_DATA_SPLIT], struct slm2_err *err)
{
    const json_t *p = json_object_get(obj, key);
    if (!json_is_object(p)) return slm2_fail(err, SLM2_EFORMAT, "%s: %s: missing, want {\"train\", \"val\"}", what, key);
    for (int i = 0; i < SLM2_N_DATA_SPLIT; i++) SLM2_TRY(slm2_json_get_int(p, splits[i], what, 0, INT64_MAX, &out[i], err));
    return SLM2_OK;
}

/* A name from a manifest becomes part of a path: nothing but what a build allows. */
static bool is_plain_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 200 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == n && name[0] != '.';
}

static slm2_status take_source(struct slm2_dataset_source *s, const json_t *j, const char *dir, struct slm2_err *err)
{
    const char *name, *lang, *license, *file, *hex;
    char path[MAX_PATH], leaf[512];
    const json_t *out;
    size_t i;
    SLM2_TRY(slm2_json_get_str(j, "name", dir, &name, err));
    if (!is_plain_name(name)) return slm2_fail(err, SLM2_EFORMAT, "%s: source \"%.100s\": not a name of a source", dir, name);
    SLM2_TRY(slm2_json_get_str(j, "lang", name, &lang, err));
    SLM2_TRY(slm2_json_get_str(j, "license", name, &license, err));
    SLM2_TRY(slm2_json_get_real_or(j, "weight", name, 0, &s->weight, err));
    s->name = strdup(name);
    s->lang = strdup(lang);
    s->license = strdup(license);
    if (!s->name || !s->lang || !s->license) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", dir);
    SLM2_TRY(get_pair(j, "documents", name, s->n_doc, err));
    SLM2_TRY(get_pair(j, "tokens", name, s->n_tok, err));
    SLM2_TRY(get_pair(j, "bytes", name, s->n_bytes, err));
    SLM2_TRY(get_pair(j, "characters", name, s->n_chars, err));
    for (int k = 0; k < SLM2_N_DATA_SPLIT; k++) {
        if (s->n_doc[k] == 0) continue;
        snprintf(leaf, sizeof leaf, "%.200s%s", name, tails[k]);
        SLM2_TRY(slm2_path_join(path, sizeof path, dir, leaf, err));
        if (!(s->prefix[k] = strdup(path))) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", dir);
        snprintf(leaf, sizeof leaf, "%.200s%s.bin", name, tails[k]);
        json_array_foreach(json_object_get(j, "outputs"), i, out) {
            file = json_string_value(json_object_get(out, "file"));
            hex = json_string_value(json_object_get(out, "sha256"));
            if (file && hex && strcmp(file, leaf) == 0) snprintf(s->sha256[k], sizeof s->sha256[k], "%s", hex);
        }
    }
    return SLM2_OK;
}

static slm2_status take_all(struct slm2_dataset *d, const json_t *j, const char *dir, struct slm2_err *err)
{
    const json_t *tok = json_object_get(j, "tokenizer"), *sources = json_object_get(j, "sources");
    int64_t vocab_size, eos;
    if (!json_is_object(tok) || !json_is_array(sources) || json_array_size(sources) > MAX_SOURCES) {
        return slm2_fail(err, SLM2_EFORMAT, "%s/manifest.json: wants \"tokenizer\" and at most %d \"sources\"", dir, MAX_SOURCES);
    }
    SLM2_TRY(slm2_json_get_int(tok, "vocab_size", dir, 1, INT32_MAX, &vocab_size, err));
    SLM2_TRY(slm2_json_get_int(tok, "eos", dir, -1, vocab_size - 1, &eos, err));
    d->vocab_size = (int32_t)vocab_size;
    d->eos = (int32_t)eos;
    d->n = (int)json_array_size(sources);
    d->v = calloc((size_t)d->n + 1, sizeof *d->v);
    if (!d->v) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for %d sources", dir, d->n);
    for (int i = 0; i < d->n; i++) SLM2_TRY(take_source(&d->v[i], json_array_get(sources, (size_t)i), dir, err));
    return SLM2_OK;
}

slm2_status slm2_dataset_open(struct slm2_dataset *d, const char *dir, struct slm2_err *err)
{
    json_t *j;
    *d = (struct slm2_dataset){0};
    SLM2_TRY(slm2_dataset_manifest(dir, &j, d->manifest_sha256, err));
    slm2_status st = take_all(d, j, dir, err);
    json_decref(j);
    if (st != SLM2_OK) slm2_dataset_free(d);
    return st;
}

void slm2_dataset_free(struct slm2_dataset *d)
{
    if (!d) return;
    for (int i = 0; d->v && i < d->n; i++) {
        struct slm2_dataset_source *s = &d->v[i];
        free(s->name);
        free(s->lang);
        free(s->license);
        for (int k = 0; k < SLM2_N_DATA_SPLIT; k++) free(s->prefix[k]);
    }
    free(d->v);
    *d = (struct slm2_dataset){0};
}

/* ---- statistics ----------------------------------------------------------------------------------------------------------- */
static void count_lengths(struct slm2_data_stats *s, const struct slm2_shard *sh)
{
    for (int64_t d = 0; d < sh->n_doc; d++) {
        int64_t n = 0;
        for (int64_t q = slm2_shard_doc(sh, d); q < slm2_shard_doc(sh, d + 1); q++) n += slm2_shard_size(sh, q);
        int k = 0;
        while (k < 31 && n >> (k + 1)) k++;
        s->length[k]++;
        if (d == 0 || n < s->min_len) s->min_len = n;
        if (n > s->max_len) s->max_len = n;
    }
}

slm2_status slm2_data_stats(struct slm2_data_stats *s, const char *prefix, const struct slm2_tok *tok, struct slm2_err *err)
{
    struct slm2_shard sh;
    *s = (struct slm2_data_stats){0};
    SLM2_TRY(slm2_shard_open(&sh, prefix, err));
    slm2_status st = SLM2_OK;
    int32_t n_vocab = slm2_tok_n_vocab(tok), *piece = malloc(PIECE * sizeof *piece);
    int64_t *count = calloc((size_t)n_vocab + 1, sizeof *count);
    if (!piece || !count) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for the counts", prefix);
    for (int64_t at = 0; st == SLM2_OK && at < sh.n_tok; at += PIECE) {
        int64_t n = sh.n_tok - at < PIECE ? sh.n_tok - at : PIECE;
        slm2_shard_read(&sh, at, n, piece);
        for (int64_t i = 0; i < n; i++) {
            if (piece[i] < 0 || piece[i] >= n_vocab) {
                st = slm2_fail(err, SLM2_EFORMAT, "%s.bin: token %" PRId64 " has id %" PRId32 ", the vocabulary has %" PRId32 "; name the right one with --vocab", prefix, at + i,
                               piece[i], n_vocab);
                break;
            }
            count[piece[i]]++;
        }
    }
    if (st == SLM2_OK) {
        s->n_doc = sh.n_doc;
        s->n_tok = sh.n_tok;
        count_lengths(s, &sh);
        for (int32_t id = 0; id < n_vocab; id++) {
            size_t n = 0;
            if (!count[id]) continue;
            double p = (double)count[id] / (double)sh.n_tok;
            s->n_distinct++;
            s->entropy_nats -= p * log(p);
            if (slm2_tok_bytes(tok, id, &n) && !slm2_tok_is_special(tok, id)) s->n_bytes += count[id] * (int64_t)n;
        }
        if (s->n_bytes) s->bits_per_byte = s->entropy_nats * (double)s->n_tok / (log(2.0) * (double)s->n_bytes);
    }
    free(piece);
    free(count);
    slm2_shard_close(&sh);
    return st;
}
