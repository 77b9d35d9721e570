/* build.c - documents in, token files out: one source after the other, each complete or absent, the manifest last.
 *
 * A source's key is the hash of all that its files depend on: inputs, settings, tokenizer and the key of the source before it
 * (whose documents are not taken twice).  A source whose NAME.json carries the same key is kept. */
#include "data/build.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/corpus.h"
#include "data/shard.h"
#include "tok/tok.h"

enum { BLOCK_DOCS = 512, BLOCK_BYTES = 8 << 20, FIRST_BAD = 10, MAX_PATH = 4096 };
#define FORM_VERSION 1

/* ---- settings ----------------------------------------------------------------------------------------------------------- */
static const char *const forms[] = {"auto", "jsonl", "text", NULL};
static const char *const splits[] = {"hash", "train", "val", NULL};
static const char *const on_bad[] = {"skip", "fatal", NULL};

#define S(field) offsetof(struct slm2_data_source_opts, field)
static const struct slm2_opt source_table[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = S(name), .def = "!", .help = "name of the source and its files: letters, digits, - and _"},
    {.name = "path", .type = SLM2_OPT_STRS, .offset = S(path), .def = "!", .help = "files to read, in order; plain, .gz or .zst"},
    {.name = "format", .type = SLM2_OPT_ENUM, .offset = S(format), .choices = forms, .def = "auto", .help = "jsonl, text (a file is a document), or by name"},
    {.name = "weight", .type = SLM2_OPT_DOUBLE, .offset = S(weight), .lo = 0, .hi = 1e18, .def = "0", .help = "share of the training tokens; 0: as many as the source has"},
    {.name = "lang", .type = SLM2_OPT_STR, .offset = S(lang), .help = "language of records that name none"},
    {.name = "license", .type = SLM2_OPT_STR, .offset = S(license), .help = "licence of records that name none"},
    {.name = "val_fraction", .type = SLM2_OPT_DOUBLE, .offset = S(val_fraction), .lo = -1, .hi = 1, .def = "-1", .help = "share of documents held out; -1: the common setting"},
    {.name = "split", .type = SLM2_OPT_ENUM, .offset = S(split), .choices = splits, .def = "hash", .help = "hash: by val_fraction; train, val: all of it"},
    {.name = NULL}};
#undef S
#define D(field) offsetof(struct slm2_data_opts, field)
const struct slm2_opt slm2_data_table[] = {
    {.name = "out", .type = SLM2_OPT_STR, .offset = D(out), .def = "!", .help = "folder to build", .alias = 'o'},
    {.name = "vocab", .type = SLM2_OPT_STR, .offset = D(vocab), .help = "tokenizer file or folder; empty: the bundled Arcade100k"},
    {.name = "sources", .type = SLM2_OPT_LIST, .offset = D(sources), .def = "!", .sub = source_table, .sub_size = sizeof(struct slm2_data_source_opts), .help = "what to read"},
    {.name = "val_fraction", .type = SLM2_OPT_DOUBLE, .offset = D(val_fraction), .lo = 0, .hi = 1, .def = "0.01", .help = "share of documents held out for validation"},
    {.name = "seed", .type = SLM2_OPT_INT64, .offset = D(seed), .lo = 0, .hi = 9007199254740991.0, .def = "0", .help = "seed of the validation split"},
    {.name = "on_bad_line", .type = SLM2_OPT_ENUM, .offset = D(on_bad_line), .choices = on_bad, .def = "skip", .help = "skip and count bad lines, or fail at the first"},
    {.name = "min_bytes", .type = SLM2_OPT_INT64, .offset = D(min_bytes), .lo = 0, .hi = 1e15, .def = "1", .help = "shorter documents are left out"},
    {.name = "max_bytes", .type = SLM2_OPT_INT64, .offset = D(max_bytes), .lo = 1, .hi = 1e15, .def = "67108864", .help = "longer documents are left out"},
    {.name = "max_line_bytes", .type = SLM2_OPT_INT64, .offset = D(max_line_bytes), .lo = 1, .hi = 2147483647, .def = "268435456", .help = "longer lines are bad lines"},
    {.name = "dedup", .type = SLM2_OPT_BOOL, .offset = D(dedup), .def = "true", .help = "a text that came before, in any source, is left out"},
    {.name = "append_eos", .type = SLM2_OPT_BOOL, .offset = D(append_eos), .def = "true", .help = "end each document with EOS"},
    {.name = "threads", .type = SLM2_OPT_INT, .offset = D(n_threads), .lo = 0, .hi = 1024, .def = "0", .help = "threads; 0: one per core", .alias = 't'},
    {.name = NULL}};
#undef D

/* ---- the set of texts seen ------------------------------------------------------------------------------------------------ */
struct text_key { uint64_t a, b; }; /* upper half of SHA-256 of the NFC text; never 0, 0 */
struct seen {
    struct text_key *slot; /* [cap], a power of two; open addressing */
    size_t n, cap;
};

static bool key_is(struct text_key x, struct text_key y) { return x.a == y.a && x.b == y.b; }

static struct text_key *seen_slot(const struct seen *s, struct text_key k)
{
    size_t i = k.a & (s->cap - 1);
    while ((s->slot[i].a || s->slot[i].b) && !key_is(s->slot[i], k)) i = (i + 1) & (s->cap - 1);
    return &s->slot[i];
}

/* *is_new false: the key was there already. */
static slm2_status seen_add(struct seen *s, struct text_key k, bool *is_new, struct slm2_err *err)
{
    if (2 * (s->n + 1) > s->cap) {
        struct seen larger = {.n = s->n, .cap = s->cap ? 2 * s->cap : 4096};
        larger.slot = calloc(larger.cap, sizeof *larger.slot);
        if (!larger.slot) return slm2_fail(err, SLM2_ENOMEM, "out of memory for the hashes of %zu documents", larger.cap);
        for (size_t i = 0; i < s->cap; i++) {
            if (s->slot[i].a || s->slot[i].b) *seen_slot(&larger, s->slot[i]) = s->slot[i];
        }
        free(s->slot);
        *s = larger;
    }
    struct text_key *slot = seen_slot(s, k);
    *is_new = !key_is(*slot, k);
    if (*is_new) {
        *slot = k;
        s->n++;
    }
    return SLM2_OK;
}

/* ---- what is counted of a source ------------------------------------------------------------------------------------------ */
struct counts {
    int64_t lines, duplicates, too_short, too_long;
    int64_t verdict[SLM2_N_VERDICT];
    int64_t doc[SLM2_N_DATA_SPLIT], tok[SLM2_N_DATA_SPLIT], bytes[SLM2_N_DATA_SPLIT], chars[SLM2_N_DATA_SPLIT];
    json_t *languages, *licenses, *first_bad; /* documents of each; {file, line, verdict, reason} */
};

struct item { /* a document of a block */
    size_t at, n; /* in block text */
    int split;
    struct slm2_ids ids;
    slm2_status st;
};
struct builder {
    const struct slm2_data_opts *o;
    struct slm2_tok *tok;
    char tok_sha256[65];
    struct seen seen;
    char key[65]; /* of the last source */
    int at;       /* source under work */

    /* of that source */
    struct counts c;
    struct slm2_shard_out *out[SLM2_N_DATA_SPLIT];
    struct slm2_buf keys; /* struct text_key of each document taken, for NAME.seen */
    struct slm2_buf text, nfc;
    struct item *item; /* [BLOCK_DOCS] */
    int n_item;
};

static const struct slm2_data_source_opts *source_opts(const struct builder *b, int i) { return (const struct slm2_data_source_opts *)b->o->sources.items + i; }
static const char *source_path(const struct slm2_data_source_opts *s, int i) { return ((char *const *)s->path.items)[i]; }

static slm2_status file_name(const struct builder *b, const char *name, const char *tail, char path[MAX_PATH], struct slm2_err *err)
{
    char leaf[512];
    snprintf(leaf, sizeof leaf, "%.400s%s", name, tail);
    return slm2_path_join(path, MAX_PATH, b->o->out, leaf, err);
}

static void count_in(json_t *obj, const char *key)
{
    json_object_set_new(obj, key, json_integer(json_integer_value(json_object_get(obj, key)) + 1));
}

static bool counts_init(struct counts *c)
{
    *c = (struct counts){.languages = json_object(), .licenses = json_object(), .first_bad = json_array()};
    return c->languages && c->licenses && c->first_bad;
}

static void counts_free(struct counts *c)
{
    json_decref(c->languages);
    json_decref(c->licenses);
    json_decref(c->first_bad);
    *c = (struct counts){0};
}

/* ---- documents to tokens -------------------------------------------------------------------------------------------------- */
static slm2_status text_hash(struct builder *b, const char *text, size_t n, struct text_key *k, struct slm2_err *err)
{
    char hex[65];
    bool changed;
    slm2_buf_clear(&b->nfc);
    SLM2_TRY(slm2_nfc(text, n, &b->nfc, &changed, err));
    slm2_sha256_hex(changed ? b->nfc.v : text, changed ? b->nfc.n : n, hex);
    hex[32] = 0;
    k->b = strtoull(hex + 16, NULL, 16);
    hex[16] = 0;
    k->a = strtoull(hex, NULL, 16);
    if (!k->a && !k->b) k->b = 1;
    return SLM2_OK;
}

static int split_of(const struct builder *b, const struct slm2_data_source_opts *s, struct text_key k)
{
    if (s->split) return s->split == 1 ? SLM2_SPLIT_TRAIN : SLM2_SPLIT_VAL;
    double fraction = s->val_fraction < 0 ? b->o->val_fraction : s->val_fraction;
    return slm2_rng_uniform((uint64_t)b->o->seed, SLM2_RNG_SPLIT, k.a, k.b) < fraction ? SLM2_SPLIT_VAL : SLM2_SPLIT_TRAIN;
}

/* Tokenises the documents gathered and appends them in order: the result does not depend on the number of threads. */
static slm2_status flush_block(struct builder *b, struct slm2_err *err)
{
    int flags = slm2_tok_flags_default(b->tok), n_threads = b->o->n_threads ? b->o->n_threads : omp_get_num_procs();
    int32_t eos = slm2_tok_eos(b->tok);
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
    for (int i = 0; i < b->n_item; i++) {
        struct item *d = &b->item[i];
        d->ids.n = 0;
        d->st = slm2_tok_encode(b->tok, b->text.v + d->at, d->n, flags, &d->ids, NULL);
        if (d->st == SLM2_OK && b->o->append_eos) d->st = slm2_ids_push(&d->ids, eos, NULL);
    }
    for (int i = 0; i < b->n_item; i++) {
        const struct item *d = &b->item[i];
        if (d->st != SLM2_OK) return slm2_fail(err, d->st, "out of memory while tokenising a document of %zu bytes", d->n);
        SLM2_TRY(slm2_shard_out_add(b->out[d->split], d->ids.v, d->ids.n, err));
        b->c.tok[d->split] += (int64_t)d->ids.n;
    }
    b->n_item = 0;
    slm2_buf_clear(&b->text);
    return SLM2_OK;
}

static int64_t count_chars(const char *text, size_t n)
{
    int64_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)text[i] & 0xc0) != 0x80;
    return k;
}

static slm2_status take_document(struct builder *b, const struct slm2_data_source_opts *s, const struct slm2_doc *doc, struct slm2_err *err)
{
    struct text_key k;
    bool is_new = true;
    if ((int64_t)doc->n < b->o->min_bytes) {
        b->c.too_short++;
        return SLM2_OK;
    }
    if ((int64_t)doc->n > b->o->max_bytes) {
        b->c.too_long++;
        return SLM2_OK;
    }
    SLM2_TRY(text_hash(b, doc->text, doc->n, &k, err));
    if (b->o->dedup) SLM2_TRY(seen_add(&b->seen, k, &is_new, err));
    if (!is_new) {
        b->c.duplicates++;
        return SLM2_OK;
    }
    if (b->o->dedup) slm2_buf_put(&b->keys, &k, sizeof k);
    struct item *d = &b->item[b->n_item++];
    d->at = b->text.n;
    d->n = doc->n;
    d->split = split_of(b, s, k);
    slm2_buf_put(&b->text, doc->text, doc->n);
    SLM2_TRY(slm2_buf_check(&b->text, err));
    b->c.doc[d->split]++;
    b->c.bytes[d->split] += (int64_t)doc->n;
    b->c.chars[d->split] += count_chars(doc->text, doc->n);
    count_in(b->c.languages, doc->lang ? doc->lang : *s->lang ? s->lang : "unknown");
    count_in(b->c.licenses, doc->license ? doc->license : *s->license ? s->license : "unknown");
    if (b->n_item == BLOCK_DOCS || b->text.n >= BLOCK_BYTES) SLM2_TRY(flush_block(b, err));
    return SLM2_OK;
}

static slm2_status take_bad_line(struct builder *b, const char *path, const struct slm2_doc *doc, struct slm2_err *err)
{
    if (b->o->on_bad_line == 1) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: line %" PRIu64 ": %s (%s); repair it or set on_bad_line: skip", path, doc->line, slm2_verdict_name(doc->verdict),
                         doc->reason);
    }
    if (json_array_size(b->c.first_bad) < FIRST_BAD) {
        json_array_append_new(b->c.first_bad, json_pack("{s:s, s:I, s:s, s:s}", "file", path, "line", (json_int_t)doc->line, "verdict",
                                                        slm2_verdict_name(doc->verdict), "reason", doc->reason));
    }
    return SLM2_OK;
}

static slm2_status read_file(struct builder *b, const struct slm2_data_source_opts *s, int file, struct slm2_err *err)
{
    struct slm2_corpus *corpus;
    struct slm2_doc doc = {0};
    bool more;
    const char *path = source_path(s, file);
    SLM2_TRY(slm2_corpus_open(&corpus, path, (enum slm2_corpus_form)s->format, (size_t)b->o->max_line_bytes, err));
    slm2_status st;
    while ((st = slm2_corpus_next(corpus, &doc, &more, err)) == SLM2_OK && more) {
        if (b->o->stop && *b->o->stop) st = slm2_fail(err, SLM2_ESTOP, "stopped in source %s; complete sources are kept, run the same command to go on", s->name);
        if (st == SLM2_OK) {
            b->c.lines++;
            b->c.verdict[doc.verdict]++;
            if (doc.verdict == SLM2_LINE_OK) {
                st = take_document(b, s, &doc, err);
            } else if (slm2_verdict_is_bad(doc.verdict)) {
                st = take_bad_line(b, path, &doc, err);
            }
        }
        if (st != SLM2_OK) break;
        double within = (file + slm2_corpus_fraction(corpus)) / s->path.n;
        slm2_progress("data build", (b->at + within) / b->o->sources.n, "%s  %" PRId64 " documents", s->name, b->c.doc[0] + b->c.doc[1]);
    }
    slm2_corpus_close(corpus);
    return st;
}

/* ---- one source ----------------------------------------------------------------------------------------------------------- */
static json_t *pair_of(const int64_t v[SLM2_N_DATA_SPLIT])
{
    return json_pack("{s:I, s:I}", "train", (json_int_t)v[SLM2_SPLIT_TRAIN], "val", (json_int_t)v[SLM2_SPLIT_VAL]);
}

static slm2_status file_entry(json_t *list, const char *as, const char *path, struct slm2_err *err)
{
    char hex[65];
    struct stat info;
    SLM2_TRY(slm2_sha256_file(path, hex, err));
    if (stat(path, &info)) return slm2_fail_errno(err, "%s", path);
    if (json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "file", as, "bytes", (json_int_t)info.st_size, "sha256", hex)))
        return slm2_fail(err, SLM2_EUSAGE, "%s: cannot be listed: its name is not UTF-8, or out of memory", path);
    return SLM2_OK;
}

/* A language or licence that all documents share, else "". */
static const char *the_only(json_t *counted)
{
    void *it = json_object_iter(counted);
    return json_object_size(counted) == 1 && strcmp(json_object_iter_key(it), "unknown") != 0 ? json_object_iter_key(it) : "";
}

/* Commits the token files and lists them; a split without documents has no files. */
static slm2_status commit_outputs(struct builder *b, const char *name, json_t *outputs, struct slm2_err *err)
{
    static const char *const tails[SLM2_N_DATA_SPLIT][2] = {{".bin", ".idx"}, {".val.bin", ".val.idx"}};
    char path[MAX_PATH], leaf[512];
    for (int i = 0; i < SLM2_N_DATA_SPLIT; i++) {
        struct slm2_shard_out *w = b->out[i];
        b->out[i] = NULL;
        bool empty = b->c.doc[i] == 0;
        if (empty) {
            slm2_shard_out_abort(w);
        } else {
            SLM2_TRY(slm2_shard_out_commit(w, err));
        }
        for (int k = 0; k < 2; k++) {
            SLM2_TRY(file_name(b, name, tails[i][k], path, err));
            snprintf(leaf, sizeof leaf, "%.400s%s", name, tails[i][k]);
            if (empty) {
                remove(path);
            } else {
                SLM2_TRY(file_entry(outputs, leaf, path, err));
            }
        }
    }
    SLM2_TRY(file_name(b, name, ".seen", path, err));
    if (!b->o->dedup) {
        remove(path);
        return SLM2_OK;
    }
    SLM2_TRY(slm2_buf_check(&b->keys, err));
    SLM2_TRY(slm2_file_write(path, b->keys.v ? b->keys.v : "", b->keys.n, err));
    snprintf(leaf, sizeof leaf, "%.400s.seen", name);
    return file_entry(outputs, leaf, path, err);
}

static json_t *source_entry(const struct builder *b, const struct slm2_data_source_opts *s, json_t *inputs, json_t *outputs)
{
    json_t *bad = json_object();
    int64_t n_bad = 0;
    for (int v = SLM2_LINE_INVALID_UTF8; v < SLM2_N_VERDICT; v++) {
        json_object_set_new(bad, slm2_verdict_name((enum slm2_verdict)v), json_integer(b->c.verdict[v]));
        n_bad += b->c.verdict[v];
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:O, s:O, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:O, s:O, s:O}",
                     "name", s->name, "key", b->key, "lang", *s->lang ? s->lang : the_only(b->c.languages), "license", *s->license ? s->license : the_only(b->c.licenses),
                     "inputs", inputs, "outputs", outputs, "documents", pair_of(b->c.doc), "tokens", pair_of(b->c.tok), "bytes", pair_of(b->c.bytes),
                     "characters", pair_of(b->c.chars), "lines", (json_int_t)b->c.lines, "duplicates", (json_int_t)b->c.duplicates,
                     "too_short", (json_int_t)b->c.too_short, "too_long", (json_int_t)b->c.too_long, "empty_lines", (json_int_t)b->c.verdict[SLM2_LINE_BLANK],
                     "empty_texts", (json_int_t)b->c.verdict[SLM2_LINE_EMPTY], "bad", (json_int_t)n_bad, "bad_lines", bad, "first_bad_lines", b->c.first_bad,
                     "languages", b->c.languages, "licenses", b->c.licenses);
}

/* b->key becomes the source's key; inputs lists its files. */
static slm2_status make_key(struct builder *b, const struct slm2_data_source_opts *s, json_t **inputs, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    const struct slm2_data_opts *o = b->o;
    slm2_status st = SLM2_OK;
    *inputs = json_array();
    for (int i = 0; st == SLM2_OK && i < s->path.n; i++) st = file_entry(*inputs, source_path(s, i), source_path(s, i), err);
    slm2_buf_printf(&text, "%d\n%s\n%s\n%s\n%d\n%s\n%s\n%.17g\n%d\n", FORM_VERSION, b->key, b->tok_sha256, s->name, s->format, s->lang, s->license,
                    s->val_fraction < 0 ? o->val_fraction : s->val_fraction, s->split);
    slm2_buf_printf(&text, "%" PRId64 " %d %" PRId64 " %" PRId64 " %" PRId64 " %d %d\n", o->seed, o->on_bad_line, o->min_bytes, o->max_bytes, o->max_line_bytes,
                    o->dedup, o->append_eos);
    slm2_json_dump(*inputs, &text);
    if (st == SLM2_OK) st = slm2_buf_check(&text, err);
    if (st == SLM2_OK) slm2_sha256_hex(text.v, text.n, b->key);
    slm2_buf_free(&text);
    return st;
}

/* Whether the files of a complete source with this key are there, at their sizes; its documents then count as seen. */
static bool keep_source(struct builder *b, const struct slm2_data_source_opts *s, json_t **entry)
{
    char path[MAX_PATH];
    struct slm2_buf keys = {0};
    struct stat info;
    json_t *j = NULL, *f;
    const char *key;
    size_t i;
    bool ok = false, is_new;
    if (file_name(b, s->name, ".json", path, NULL) != SLM2_OK || slm2_json_read(&j, path, 64 << 20, NULL) != SLM2_OK) goto done;
    key = json_string_value(json_object_get(j, "key"));
    if (!key || strcmp(key, b->key) != 0) goto done;
    json_array_foreach(json_object_get(j, "outputs"), i, f) {
        const char *file = json_string_value(json_object_get(f, "file"));
        if (!file || slm2_path_join(path, sizeof path, b->o->out, file, NULL) != SLM2_OK || stat(path, &info) || info.st_size != json_integer_value(json_object_get(f, "bytes")))
            goto done;
    }
    if (b->o->dedup) {
        if (file_name(b, s->name, ".seen", path, NULL) != SLM2_OK || slm2_file_read(&keys, path, SIZE_MAX / 2, NULL) != SLM2_OK) goto done;
        for (size_t at = 0; at + sizeof(struct text_key) <= keys.n; at += sizeof(struct text_key)) {
            struct text_key k;
            memcpy(&k, keys.v + at, sizeof k);
            if (seen_add(&b->seen, k, &is_new, NULL) != SLM2_OK) goto done;
        }
    }
    *entry = json_incref(j);
    ok = true;
done:
    slm2_buf_free(&keys);
    json_decref(j);
    return ok;
}

static slm2_status build_source(struct builder *b, const struct slm2_data_source_opts *s, json_t *inputs, json_t **entry, struct slm2_err *err)
{
    static const char *const tails[SLM2_N_DATA_SPLIT] = {"", ".val"};
    char path[MAX_PATH];
    json_t *outputs = json_array(), *j = NULL;
    slm2_status st = SLM2_OK;
    b->n_item = 0;
    slm2_buf_clear(&b->keys);
    slm2_buf_clear(&b->text);
    if (!counts_init(&b->c)) st = slm2_fail(err, SLM2_ENOMEM, "%s: out of memory", s->name);
    /* the folder is not complete from here on, nor is the source */
    if (st == SLM2_OK && (st = slm2_path_join(path, sizeof path, b->o->out, "manifest.json", err)) == SLM2_OK) remove(path);
    if (st == SLM2_OK && (st = file_name(b, s->name, ".json", path, err)) == SLM2_OK) remove(path);
    /* uint16 would do for small vocabularies; one type for all keeps the files comparable */
    for (int i = 0; st == SLM2_OK && i < SLM2_N_DATA_SPLIT; i++) {
        st = file_name(b, s->name, tails[i], path, err);
        if (st == SLM2_OK) st = slm2_shard_out_open(&b->out[i], path, SLM2_SHARD_I32, err);
    }
    for (int i = 0; st == SLM2_OK && i < s->path.n; i++) st = read_file(b, s, i, err);
    if (st == SLM2_OK) st = flush_block(b, err);
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

/* Hash of all tokens, so that any file form of a vocabulary gives the same. */
static slm2_status hash_tokenizer(struct builder *b, struct slm2_err *err)
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

static slm2_status write_manifest(struct builder *b, json_t *sources, struct slm2_err *err)
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
                  "val_fraction", o->val_fraction, "seed", (json_int_t)o->seed, "on_bad_line", on_bad[o->on_bad_line], "min_bytes", (json_int_t)o->min_bytes, "max_bytes",
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
    slm2_log(SLM2_INFO, "%s%s: %" PRId64 " + %" PRId64 " documents (training + held out), %" PRId64 " + %" PRId64 " tokens, %" PRId64 " duplicates, %" PRId64 " bad lines",
             json_string_value(json_object_get(e, "name")), kept ? " (kept)" : "", (int64_t)json_integer_value(json_object_get(doc, "train")),
             (int64_t)json_integer_value(json_object_get(doc, "val")), (int64_t)json_integer_value(json_object_get(tok, "train")),
             (int64_t)json_integer_value(json_object_get(tok, "val")), (int64_t)json_integer_value(json_object_get(e, "duplicates")),
             (int64_t)json_integer_value(json_object_get(e, "bad")));
}

slm2_status slm2_data_build(const struct slm2_data_opts *o, struct slm2_err *err)
{
    struct builder b = {.o = o};
    json_t *sources = json_array();
    slm2_status st = check_names(o, err);
    if (st == SLM2_OK) st = slm2_tok_open(&b.tok, *o->vocab ? o->vocab : NULL, err);
    if (st == SLM2_OK) st = hash_tokenizer(&b, err);
    if (st == SLM2_OK) st = slm2_dir_make(o->out, err);
    if (st == SLM2_OK && (!(b.item = calloc(BLOCK_DOCS, sizeof *b.item)) || !sources)) st = slm2_fail(err, SLM2_ENOMEM, "out of memory");
    for (b.at = 0; st == SLM2_OK && b.at < o->sources.n; b.at++) {
        const struct slm2_data_source_opts *s = source_opts(&b, b.at);
        json_t *inputs = NULL, *entry = NULL;
        st = make_key(&b, s, &inputs, err);
        bool kept = st == SLM2_OK && keep_source(&b, s, &entry);
        if (st == SLM2_OK && !kept) st = build_source(&b, s, inputs, &entry, err);
        if (st == SLM2_OK) {
            double n_tok = (double)json_integer_value(json_object_get(json_object_get(entry, "tokens"), "train"));
            log_source(entry, kept);
            json_object_set_new(entry, "weight", json_real(s->weight > 0 ? s->weight : n_tok));
            json_array_append(sources, entry);
        }
        json_decref(entry);
        json_decref(inputs);
    }
    if (st == SLM2_OK) st = write_manifest(&b, sources, err);
    slm2_progress_end();
    for (int i = 0; b.item && i < BLOCK_DOCS; i++) slm2_ids_free(&b.item[i].ids);
    free(b.item);
    free(b.seen.slot);
    slm2_buf_free(&b.keys);
    slm2_buf_free(&b.text);
    slm2_buf_free(&b.nfc);
    slm2_tok_free(b.tok);
    json_decref(sources);
    return st;
}
