/* build.c - documents in, token files out: one source after the other, each complete or absent, the manifest last.
 *
 * A source's key is the hash of all that its files depend on: inputs, settings, tokenizer and the key of the source before it
 * (whose documents are not taken twice).  A source whose NAME.json carries the same key is kept. */
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/log.h"
#include "data/build_impl.h"
#include "data/verify.h"

enum { MAX_PATH = 4096 };
#define FORM_VERSION 2

const char *const slm2_data_stages[SLM2_N_STAGE] = {"read", "parse", "hash", "filter", "minhash", "dedup", "tokenize", "write"};

static const struct slm2_data_source_opts *source_opts(const struct slm2_builder *b, int i) { return (const struct slm2_data_source_opts *)b->o->sources.items + i; }
static const char *source_path(const struct slm2_data_source_opts *s, int i) { return ((char *const *)s->path.items)[i]; }

static slm2_status file_name(const struct slm2_builder *b, const char *name, const char *tail, char path[MAX_PATH], struct slm2_err *err)
{
    char leaf[512];
    snprintf(leaf, sizeof leaf, "%.400s%s", name, tail);
    return slm2_path_join(path, MAX_PATH, b->o->out, leaf, err);
}

static bool counts_init(struct slm2_build_counts *c)
{
    *c = (struct slm2_build_counts){.languages = json_object(), .licenses = json_object(), .first_bad = json_array(), .first_near = json_array(), .identified = json_object()};
    return c->languages && c->licenses && c->first_bad && c->first_near && c->identified;
}

static void counts_free(struct slm2_build_counts *c)
{
    json_decref(c->languages);
    json_decref(c->licenses);
    json_decref(c->first_bad);
    json_decref(c->first_near);
    json_decref(c->identified);
    *c = (struct slm2_build_counts){0};
}

/* ---- one source ----------------------------------------------------------------------------------------------------------- */
static json_t *pair_of(const int64_t v[SLM2_N_DATA_SPLIT])
{
    return json_pack("{s:I, s:I}", "train", (json_int_t)v[SLM2_SPLIT_TRAIN], "val", (json_int_t)v[SLM2_SPLIT_VAL]);
}

/* hex: the file's SHA-256 when it is known, else NULL. */
static slm2_status file_entry(json_t *list, const char *as, const char *path, const char *hex, struct slm2_err *err)
{
    char made[65];
    struct stat info;
    if (!hex) SLM2_TRY(slm2_sha256_file(path, made, err));
    if (stat(path, &info)) return slm2_fail_errno(err, "%s", path);
    if (json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "file", as, "bytes", (json_int_t)info.st_size, "sha256", hex ? hex : made)))
        return slm2_fail(err, SLM2_EUSAGE, "%s: cannot be listed: its name is not UTF-8, or out of memory", path);
    return SLM2_OK;
}

/* A language or licence that all documents share, else "". */
static const char *the_only(json_t *counted)
{
    void *it = json_object_iter(counted);
    return json_object_size(counted) == 1 && strcmp(json_object_iter_key(it), "unknown") != 0 ? json_object_iter_key(it) : "";
}

/* Commits the token files of a split and lists them; a split without documents has none. */
static slm2_status commit_split(struct slm2_builder *b, const char *name, int split, json_t *outputs, struct slm2_err *err)
{
    static const char *const tails[SLM2_N_DATA_SPLIT][2] = {{".bin", ".idx"}, {".val.bin", ".val.idx"}};
    char path[MAX_PATH], leaf[512], hex[65];
    struct slm2_shard_out *w = b->out[split];
    bool empty = b->c.doc[split] == 0;
    b->out[split] = NULL;
    if (empty) {
        slm2_shard_out_abort(w);
    } else {
        slm2_shard_out_sha256(w, hex);
        SLM2_TRY(slm2_shard_out_commit(w, err));
    }
    for (int k = 0; k < 2; k++) {
        SLM2_TRY(file_name(b, name, tails[split][k], path, err));
        snprintf(leaf, sizeof leaf, "%.400s%s", name, tails[split][k]);
        if (empty) {
            remove(path);
        } else {
            SLM2_TRY(file_entry(outputs, leaf, path, k ? NULL : hex, err));
        }
    }
    return SLM2_OK;
}

/* DIR/NAMEtail from bytes, listed; p NULL: there shall be none. */
static slm2_status commit_state(const struct slm2_builder *b, const char *name, const char *tail, const void *p, size_t n, json_t *outputs, struct slm2_err *err)
{
    char path[MAX_PATH], leaf[512], hex[65];
    SLM2_TRY(file_name(b, name, tail, path, err));
    if (!p) {
        remove(path);
        return SLM2_OK;
    }
    SLM2_TRY(slm2_file_write(path, p, n, err));
    slm2_sha256_hex(p, n, hex);
    snprintf(leaf, sizeof leaf, "%.400s%s", name, tail);
    return file_entry(outputs, leaf, path, hex, err);
}

static size_t sig_bytes(const struct slm2_builder *b) { return (size_t)b->o->near.n_hash * sizeof(uint16_t); }

static slm2_status commit_outputs(struct slm2_builder *b, const char *name, json_t *outputs, struct slm2_err *err)
{
    for (int i = 0; i < SLM2_N_DATA_SPLIT; i++) SLM2_TRY(commit_split(b, name, i, outputs, err));
    const void *keys = b->n_keys ? b->keys.p : (const void *)"";
    SLM2_TRY(commit_state(b, name, ".seen", b->o->dedup ? keys : NULL, b->n_keys * sizeof(struct slm2_text_key), outputs, err));
    if (!b->near) return commit_state(b, name, ".minhash", NULL, 0, outputs, err);
    int64_t n_sig = slm2_near_n(b->near) - b->first_sig;
    const void *sigs = n_sig ? (const void *)slm2_near_signatures(b->near, b->first_sig) : "";
    return commit_state(b, name, ".minhash", sigs, (size_t)n_sig * sig_bytes(b), outputs, err);
}

/* What was left out, and why: in the order in which a document meets the rules. */
static void add_left_out(const struct slm2_builder *b, json_t *e)
{
    const struct slm2_build_counts *c = &b->c;
    json_t *bad = json_object(), *filtered = json_object();
    int64_t n_bad = 0, n_filtered = 0;
    for (int v = SLM2_LINE_INVALID_UTF8; v < SLM2_N_VERDICT; v++) {
        json_object_set_new(bad, slm2_verdict_name((enum slm2_verdict)v), json_integer(c->verdict[v]));
        n_bad += c->verdict[v];
    }
    for (int i = 0; i < SLM2_N_QUALITY_RULE; i++) {
        if (c->filtered[i]) json_object_set_new(filtered, slm2_quality_rule_name((enum slm2_quality_rule)i), json_integer(c->filtered[i]));
        n_filtered += c->filtered[i];
    }
    json_object_set_new(e, "lines", json_integer(c->lines));
    json_object_set_new(e, "empty_lines", json_integer(c->verdict[SLM2_LINE_BLANK]));
    json_object_set_new(e, "empty_texts", json_integer(c->verdict[SLM2_LINE_EMPTY]));
    json_object_set_new(e, "other_records", json_integer(c->verdict[SLM2_LINE_OTHER]));
    json_object_set_new(e, "bad", json_integer(n_bad));
    json_object_set_new(e, "bad_lines", bad);
    json_object_set(e, "first_bad_lines", c->first_bad);
    json_object_set_new(e, "too_short", json_integer(c->too_short));
    json_object_set_new(e, "too_long", json_integer(c->too_long));
    json_object_set_new(e, "duplicates", json_integer(c->duplicates));
    json_object_set_new(e, "near_duplicates", json_integer(c->near_duplicates));
    json_object_set(e, "first_near_duplicates", c->first_near);
    json_object_set_new(e, "filter", json_string(b->filter ? b->filter->name : ""));
    json_object_set_new(e, "filtered", json_integer(n_filtered));
    json_object_set_new(e, "filtered_by", filtered);
}

static json_t *source_entry(const struct slm2_builder *b, const struct slm2_data_source_opts *s, json_t *inputs, json_t *outputs)
{
    json_t *e = json_pack("{s:s, s:s, s:s, s:s, s:O, s:O, s:o, s:o, s:o, s:o}", "name", s->name, "key", b->key, "lang", *s->lang ? s->lang : the_only(b->c.languages), "license",
                          *s->license ? s->license : the_only(b->c.licenses), "inputs", inputs, "outputs", outputs, "documents", pair_of(b->c.doc), "tokens", pair_of(b->c.tok),
                          "bytes", pair_of(b->c.bytes), "characters", pair_of(b->c.chars));
    if (!e) return NULL;
    add_left_out(b, e);
    json_object_set(e, "languages", b->c.languages);
    json_object_set(e, "licenses", b->c.licenses);
    json_object_set(e, "identified", b->c.identified);
    return e;
}

/* The SHA-256 of every file of every source, many at once: hex[k] of the k-th, counted over all sources. */
static slm2_status hash_inputs(struct slm2_builder *b, char (**hex)[65], struct slm2_err *err)
{
    int n = 0, at = 0;
    double from = slm2_now_s();
    for (int i = 0; i < b->o->sources.n; i++) n += source_opts(b, i)->path.n;
    const char **path = malloc(((size_t)n + 1) * sizeof *path);
    slm2_status *st = calloc((size_t)n + 1, sizeof *st);
    *hex = calloc((size_t)n + 1, sizeof **hex);
    slm2_status result = path && st && *hex ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "out of memory for the names of %d files", n);
    for (int i = 0; result == SLM2_OK && i < b->o->sources.n; i++) {
        for (int k = 0; k < source_opts(b, i)->path.n; k++) path[at++] = source_path(source_opts(b, i), k);
    }
#pragma omp parallel for schedule(dynamic) num_threads(b->n_threads)
    for (int i = 0; i < at; i++) st[i] = slm2_sha256_file(path[i], (*hex)[i], NULL);
    for (int i = 0; result == SLM2_OK && i < at; i++) {
        if (st[i] != SLM2_OK) result = slm2_sha256_file(path[i], (*hex)[i], err); /* again, for its message */
    }
    free(path);
    free(st);
    b->speed.inputs_s = slm2_now_s() - from;
    return result;
}

/* b->key becomes the source's key; inputs lists its files, whose hashes are hex[0..). */
static slm2_status make_key(struct slm2_builder *b, const struct slm2_data_source_opts *s, char (*hex)[65], json_t **inputs, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    const struct slm2_data_opts *o = b->o;
    slm2_status st = SLM2_OK;
    *inputs = json_array();
    for (int i = 0; st == SLM2_OK && i < s->path.n; i++) st = file_entry(*inputs, source_path(s, i), source_path(s, i), hex[i], err);
    slm2_buf_printf(&text, "%d\n%s\n%s\n%s\n%d\n%s\n%s\n%.17g\n%d\n", FORM_VERSION, b->key, b->tok_sha256, s->name, s->format, s->lang, s->license,
                    s->val_fraction < 0 ? o->val_fraction : s->val_fraction, s->split);
    slm2_buf_printf(&text, "%s\n%s\n%s\n%s\n", s->text_field, s->id_field, s->lang_field, s->license_field);
    slm2_buf_printf(&text, "%" PRId64 " %d %" PRId64 " %" PRId64 " %" PRId64 " %d %d\n", o->seed, o->on_bad_line, o->min_bytes, o->max_bytes, o->max_line_bytes,
                    o->dedup, o->append_eos);
    if (o->near.threshold > 0)
        slm2_buf_printf(&text, "%.17g %d %d %d %" PRId64 "\n", o->near.threshold, o->near.n_hash, o->near.n_band, o->near.shingle, o->near.seed);
    if (b->filter) slm2_quality_key(b->filter, &text);
    if (b->filter && slm2_quality_needs_langid(b->filter)) slm2_buf_puts(&text, slm2_langid_sha256(b->langid));
    slm2_json_dump(*inputs, &text);
    if (st == SLM2_OK) st = slm2_buf_check(&text, err);
    if (st == SLM2_OK) slm2_sha256_hex(text.v, text.n, b->key);
    slm2_buf_free(&text);
    return st;
}

/* The texts of a kept source count as seen. */
static slm2_status recall_keys(struct slm2_builder *b, const struct slm2_map *m, struct slm2_err *err)
{
    struct slm2_text_key k;
    for (size_t at = 0; at + sizeof k <= m->n; at += sizeof k) {
        memcpy(&k, m->p + at, sizeof k);
        SLM2_TRY(slm2_seen_add(&b->seen, k, err));
    }
    return SLM2_OK;
}

static slm2_status recall_signatures(struct slm2_builder *b, const struct slm2_map *m, struct slm2_err *err)
{
    uint16_t sig[SLM2_NEAR_MAX_HASH];
    size_t row = sig_bytes(b);
    for (size_t at = 0; at + row <= m->n; at += row) {
        memcpy(sig, m->p + at, row);
        SLM2_TRY(slm2_near_add(b->near, sig, err));
    }
    return SLM2_OK;
}

/* Maps the state file NAMEtail when it has the hash that the source's record gives; false: the source must be built again. */
static bool open_state(const struct slm2_builder *b, const json_t *record, const char *name, const char *tail, struct slm2_map *m)
{
    char path[MAX_PATH], leaf[512], hex[65];
    const json_t *f;
    const char *want = NULL;
    size_t i;
    snprintf(leaf, sizeof leaf, "%.400s%s", name, tail);
    json_array_foreach(json_object_get(record, "outputs"), i, f) {
        const char *file = json_string_value(json_object_get(f, "file"));
        if (file && strcmp(file, leaf) == 0) want = json_string_value(json_object_get(f, "sha256"));
    }
    if (!want || file_name(b, name, tail, path, NULL) != SLM2_OK || slm2_map_open(m, path, NULL) != SLM2_OK) return false;
    slm2_sha256_hex(m->p, m->n, hex);
    if (strcmp(hex, want) == 0) return true;
    slm2_map_close(m);
    return false;
}

/* The record of a complete source with this key whose files are there, at their sizes; NULL: there is none. */
static json_t *complete_source(const struct slm2_builder *b, const char *name)
{
    char path[MAX_PATH];
    struct stat info;
    json_t *j = NULL, *f;
    size_t i;
    if (file_name(b, name, ".json", path, NULL) != SLM2_OK || slm2_json_read(&j, path, 64 << 20, NULL) != SLM2_OK) return NULL;
    const char *key = json_string_value(json_object_get(j, "key"));
    bool good = key && strcmp(key, b->key) == 0;
    json_array_foreach(json_object_get(j, "outputs"), i, f) {
        const char *file = json_string_value(json_object_get(f, "file"));
        good = good && file && slm2_path_join(path, sizeof path, b->o->out, file, NULL) == SLM2_OK && !stat(path, &info) &&
               info.st_size == json_integer_value(json_object_get(f, "bytes"));
    }
    if (good) return j;
    json_decref(j);
    return NULL;
}

/* *entry is the record of a source that is kept, with its documents counted as seen; NULL: it must be built. */
static slm2_status keep_source(struct slm2_builder *b, const struct slm2_data_source_opts *s, json_t **entry, struct slm2_err *err)
{
    struct slm2_map keys = {0}, sigs = {0};
    json_t *j = complete_source(b, s->name);
    bool sound = j && (!b->o->dedup || open_state(b, j, s->name, ".seen", &keys)) && (!b->near || open_state(b, j, s->name, ".minhash", &sigs));
    slm2_status st = SLM2_OK;
    if (sound && b->o->dedup) st = recall_keys(b, &keys, err);
    if (st == SLM2_OK && sound && b->near) st = recall_signatures(b, &sigs, err);
    if (keys.n) slm2_map_close(&keys);
    if (sigs.n) slm2_map_close(&sigs);
    *entry = sound && st == SLM2_OK ? json_incref(j) : NULL;
    json_decref(j);
    return st;
}

static slm2_status build_source(struct slm2_builder *b, const struct slm2_data_source_opts *s, json_t *inputs, json_t **entry, struct slm2_err *err)
{
    static const char *const tails[SLM2_N_DATA_SPLIT] = {"", ".val"};
    char path[MAX_PATH];
    json_t *outputs = json_array(), *j = NULL;
    slm2_status st = SLM2_OK;
    b->n_keys = 0;
    b->first_sig = b->near ? slm2_near_n(b->near) : 0;
    if (!counts_init(&b->c)) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", s->name);
    /* the folder is not complete from here on, nor is the source */
    if (st == SLM2_OK && (st = slm2_path_join(path, sizeof path, b->o->out, "manifest.json", err)) == SLM2_OK) remove(path);
    if (st == SLM2_OK && (st = file_name(b, s->name, ".json", path, err)) == SLM2_OK) remove(path);
    /* uint16 would do for small vocabularies; one type for all keeps the files comparable */
    for (int i = 0; st == SLM2_OK && i < SLM2_N_DATA_SPLIT; i++) {
        st = file_name(b, s->name, tails[i], path, err);
        if (st == SLM2_OK) st = slm2_shard_out_open(&b->out[i], path, SLM2_SHARD_I32, err);
    }
    if (st == SLM2_OK) st = slm2_pipeline_run(b, s, err);
    if (st == SLM2_OK) st = commit_outputs(b, s->name, outputs, err);
    if (st == SLM2_OK) {
        j = source_entry(b, s, inputs, outputs);
        if (!j) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for its record", s->name);
    }
    if (st == SLM2_OK && (st = file_name(b, s->name, ".json", path, err)) == SLM2_OK) st = slm2_json_write(j, path, err);
    if (st == SLM2_OK) *entry = json_incref(j);
    for (int i = 0; i < SLM2_N_DATA_SPLIT; i++) {
        slm2_shard_out_abort(b->out[i]);
        b->out[i] = NULL;
    }
    json_decref(j);
    json_decref(outputs);
    counts_free(&b->c);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------ */
static slm2_status check_names(const struct slm2_data_opts *o, struct slm2_err *err)
{
    const struct slm2_data_source_opts *v = o->sources.items;
    for (int i = 0; i < o->sources.n; i++) {
        size_t n = strlen(v[i].name), good = strspn(v[i].name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
        if (n == 0 || n > 100 || good != n) return slm2_fail(err, SLM2_EUSAGE, "source name \"%.100s\": want 1 to 100 letters, digits, - or _", v[i].name);
        if (strcmp(v[i].name, "manifest") == 0) return slm2_fail(err, SLM2_EUSAGE, "a source cannot be called manifest: that file is the folder's");
        for (int k = 0; k < i; k++) {
            if (strcmp(v[i].name, v[k].name) == 0) return slm2_fail(err, SLM2_EUSAGE, "two sources are called %s", v[i].name);
        }
    }
    if (o->min_bytes > o->max_bytes) return slm2_fail(err, SLM2_EUSAGE, "min_bytes %" PRId64 " is above max_bytes %" PRId64, o->min_bytes, o->max_bytes);
    return SLM2_OK;
}

static const struct slm2_quality_opts *find_filter(const struct slm2_data_opts *o, const char *name)
{
    const struct slm2_quality_opts *v = o->filters.items;
    for (int i = 0; i < o->filters.n; i++) {
        if (strcmp(v[i].name, name) == 0) return &v[i];
    }
    return NULL;
}

static const char *filter_name(const struct slm2_data_opts *o, const struct slm2_data_source_opts *s) { return *s->filter ? s->filter : *o->filter ? o->filter : "none"; }
static const struct slm2_quality_opts *filter_of(const struct slm2_data_opts *o, const struct slm2_data_source_opts *s) { return find_filter(o, filter_name(o, s)); }

static slm2_status check_filters(struct slm2_builder *b, struct slm2_err *err)
{
    const struct slm2_data_opts *o = b->o;
    const struct slm2_quality_opts *v = o->filters.items;
    bool langid = false;
    for (int i = 0; i < o->filters.n; i++) {
        if (strcmp(v[i].name, "none") == 0 || find_filter(o, v[i].name) != &v[i]) return slm2_fail(err, SLM2_EUSAGE, "filter %.100s: another one has this name", v[i].name);
        SLM2_TRY(slm2_quality_check(&v[i], err));
    }
    for (int i = 0; i < o->sources.n; i++) {
        const struct slm2_quality_opts *f = filter_of(o, source_opts(b, i));
        const char *name = filter_name(o, source_opts(b, i));
        if (!f && strcmp(name, "none") != 0) return slm2_fail(err, SLM2_EUSAGE, "source %s: filter \"%.100s\" is not in filters", source_opts(b, i)->name, name);
        langid = langid || (f && slm2_quality_needs_langid(f));
    }
    return langid ? slm2_langid_open(&b->langid, NULL, err) : SLM2_OK;
}

/* Hash of all tokens, so that any file form of a vocabulary gives the same. */
static slm2_status hash_tokenizer(struct slm2_builder *b, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    for (int32_t id = 0; id < slm2_tok_n_vocab(b->tok); id++) {
        size_t n = 0;
        const uint8_t *bytes = slm2_tok_bytes(b->tok, id, &n);
        slm2_buf_printf(&text, "%d %d %zu ", (int)id, bytes ? slm2_tok_is_special(b->tok, id) : -1, n);
        if (bytes) slm2_buf_put(&text, bytes, n);
    }
    slm2_status st = slm2_buf_check(&text, err);
    if (st == SLM2_OK) slm2_sha256_hex(text.v, text.n, b->tok_sha256);
    slm2_buf_free(&text);
    return st;
}

static void add_pair(json_t *sum, const json_t *entry, const char *key)
{
    json_t *to = json_object_get(sum, key), *from = json_object_get(entry, key);
    for (int i = 0; i < SLM2_N_DATA_SPLIT; i++) {
        const char *split = i ? "val" : "train";
        json_object_set_new(to, split, json_integer(json_integer_value(json_object_get(to, split)) + json_integer_value(json_object_get(from, split))));
    }
}

static slm2_status write_manifest(struct slm2_builder *b, json_t *sources, struct slm2_err *err)
{
    static const char *const summed[] = {"documents", "tokens", "bytes", "characters"};
    char path[MAX_PATH];
    const struct slm2_data_opts *o = b->o;
    int64_t none[SLM2_N_DATA_SPLIT] = {0};
    json_t *sum = json_object(), *entry, *j;
    size_t i;
    for (int k = 0; k < 4; k++) json_object_set_new(sum, summed[k], pair_of(none));
    json_array_foreach(sources, i, entry) {
        for (int k = 0; k < 4; k++) add_pair(sum, entry, summed[k]);
    }
    j = json_pack("{s:s, s:i, s:s, s:{s:i, s:i, s:s}, s:{s:f, s:I, s:s, s:I, s:I, s:I, s:b, s:b}, s:o, s:O}", "format", "slm2-data", "version", FORM_VERSION, "made_by",
                  "slm2 " SLM2_VERSION, "tokenizer", "vocab_size", (int)slm2_tok_n_vocab(b->tok), "eos", (int)slm2_tok_eos(b->tok), "sha256", b->tok_sha256, "settings",
                  "val_fraction", o->val_fraction, "seed", (json_int_t)o->seed, "on_bad_line", slm2_data_on_bad[o->on_bad_line], "min_bytes", (json_int_t)o->min_bytes, "max_bytes",
                  (json_int_t)o->max_bytes, "max_line_bytes", (json_int_t)o->max_line_bytes, "dedup", o->dedup, "append_eos", o->append_eos, "totals", sum, "sources", sources);
    if (!j) return slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for the manifest", o->out);
    slm2_status st = slm2_path_join(path, sizeof path, o->out, "manifest.json", err);
    if (st == SLM2_OK) st = slm2_json_write(j, path, err);
    json_decref(j);
    return st;
}

static void log_source(const json_t *e, bool kept)
{
    const json_t *doc = json_object_get(e, "documents"), *tok = json_object_get(e, "tokens");
    slm2_log(SLM2_INFO, "%s%s: %" PRId64 " + %" PRId64 " documents (training + held out), %" PRId64 " + %" PRId64 " tokens, %" PRId64 " duplicates, %" PRId64 " near-duplicates, %" PRId64 " filtered, %" PRId64 " bad lines",
             json_string_value(json_object_get(e, "name")), kept ? " (kept)" : "", (int64_t)json_integer_value(json_object_get(doc, "train")),
             (int64_t)json_integer_value(json_object_get(doc, "val")), (int64_t)json_integer_value(json_object_get(tok, "train")),
             (int64_t)json_integer_value(json_object_get(tok, "val")), (int64_t)json_integer_value(json_object_get(e, "duplicates")), (int64_t)json_integer_value(json_object_get(e, "near_duplicates")), (int64_t)json_integer_value(json_object_get(e, "filtered")),
             (int64_t)json_integer_value(json_object_get(e, "bad")));
}

static void close_builder(struct slm2_builder *b)
{
    slm2_seen_close(&b->seen);
    slm2_scratch_close(&b->keys);
    slm2_near_close(b->near);
    slm2_langid_free(b->langid);
    slm2_tok_free(b->tok);
}

static slm2_status open_builder(struct slm2_builder *b, struct slm2_err *err)
{
    const struct slm2_data_opts *o = b->o;
    SLM2_TRY(check_names(o, err));
    SLM2_TRY(check_filters(b, err));
    SLM2_TRY(slm2_tok_open(&b->tok, *o->vocab ? o->vocab : NULL, err));
    SLM2_TRY(hash_tokenizer(b, err));
    SLM2_TRY(slm2_dir_make(o->out, err));
    SLM2_TRY(slm2_seen_open(&b->seen, o->out, err));
    SLM2_TRY(slm2_scratch_open(&b->keys, o->out, err));
    return o->near.threshold > 0 ? slm2_near_open(&b->near, &o->near, o->out, err) : SLM2_OK;
}

slm2_status slm2_data_build(const struct slm2_data_opts *o, struct slm2_err *err)
{
    struct slm2_builder b = {.o = o, .n_threads = o->n_threads ? o->n_threads : omp_get_num_procs()};
    double from = slm2_now_s();
    json_t *sources = json_array();
    char(*hex)[65] = NULL;
    int n_file = 0;
    slm2_status st = sources ? open_builder(&b, err) : slm2_fail(err, SLM2_ENOMEM, "out of memory");
    if (st == SLM2_OK) st = hash_inputs(&b, &hex, err);
    json_t *verified = st == SLM2_OK ? slm2_verified_read(o->out) : NULL;
    for (b.at = 0; st == SLM2_OK && b.at < o->sources.n; b.at++) {
        const struct slm2_data_source_opts *s = source_opts(&b, b.at);
        json_t *inputs = NULL, *entry = NULL;
        b.filter = filter_of(o, s);
        st = make_key(&b, s, hex + n_file, &inputs, err);
        n_file += s->path.n;
        if (st == SLM2_OK) st = keep_source(&b, s, &entry, err);
        bool kept = entry != NULL;
        if (st == SLM2_OK && !kept) st = build_source(&b, s, inputs, &entry, err);
        if (st == SLM2_OK) {
            double n_tok = (double)json_integer_value(json_object_get(json_object_get(entry, "tokens"), "train"));
            log_source(entry, kept);
            if (!kept) slm2_verified_add(verified, o->out, json_object_get(entry, "outputs"));
            json_object_set_new(entry, "weight", json_real(s->weight > 0 ? s->weight : n_tok));
            json_array_append(sources, entry);
        }
        json_decref(entry);
        json_decref(inputs);
    }
    if (st == SLM2_OK) st = write_manifest(&b, sources, err);
    if (st == SLM2_OK && json_object_size(verified)) slm2_verified_write(verified, o->out);
    slm2_progress_end();
    b.speed.n_threads = b.n_threads;
    b.speed.wall_s = slm2_now_s() - from;
    if (o->speed) *o->speed = b.speed;
    close_builder(&b);
    free(hex);
    json_decref(verified);
    json_decref(sources);
    return st;
}
