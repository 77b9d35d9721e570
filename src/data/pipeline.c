/* pipeline.c - a source's documents through all stages, block by block, on all threads.
 *
 * While block k is judged and hashed, one thread reads block k + 1 and another writes block k - 1.  Only the decisions that need
 * the documents before (duplicates, near-duplicates) are taken one by one, in order, in between.  Everything else is a function of one document, so that
 * neither the number of threads nor where blocks end can change a byte of the result.  Memory: three blocks, each of about
 * BLOCK_BYTES a thread or one document, with its parsed text and its ids. */
#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/rng.h"
#include "data/build_impl.h"

enum { BLOCK_DOCS = 4096, BLOCK_BYTES = 512 << 10 /* a thread: its texts stay in the cache */, BIG_DOC = 1 << 20, KEEP_IDS = 1 << 18, FIRST_BAD = 10, FIRST_NEAR = 10, N_BLOCK = 3 };

struct item { /* a piece of a file on its way */
    struct slm2_raw raw; /* bytes: set when the block is complete */
    size_t at;           /* of its bytes in the block */
    int file;
    json_t *root;
    struct slm2_doc doc;
    struct slm2_text_key key;
    int64_t chars;
    struct slm2_quality_verdict filter;
    uint16_t *sig; /* [near_dup.hashes] in the block's; NULL: off */
    bool taken;
    int split;
    struct slm2_ids ids;
    slm2_status st; /* of hashing and tokenising */
};
struct block {
    struct slm2_buf bytes;
    struct item *v; /* [BLOCK_DOCS] */
    uint16_t *sigs; /* [BLOCK_DOCS][near_dup.hashes] */
    int n;
    double fraction; /* of the source read when it ended */
};
struct reader {
    struct slm2_corpus *corpus; /* NULL: the next file is to be opened */
    int file;                   /* under reading */
    bool ended;
    slm2_status st;
    struct slm2_err err;
};
struct worker { /* of one thread */
    struct slm2_buf nfc, words;
    struct slm2_quality_work *filter;
    double cpu_s[SLM2_N_STAGE];
    int64_t bytes[SLM2_N_STAGE];
    char apart[64]; /* the next one's cache line */
};
struct pipeline {
    struct slm2_builder *b;
    const struct slm2_data_source_opts *s;
    struct slm2_fields fields;
    struct reader reader;
    struct worker *worker;
    struct block block[N_BLOCK];
    size_t block_bytes;
    slm2_status write_st;
    struct slm2_err write_err;
};

/* ---- the clock of a stage --------------------------------------------------------------------------------------------------- */
static double thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What passed since *from goes to the stage; *from becomes now. */
static void book(struct worker *w, enum slm2_data_stage stage, size_t bytes, double *from)
{
    double now = thread_s();
    w->cpu_s[stage] += now - *from;
    w->bytes[stage] += (int64_t)bytes;
    *from = now;
}

static struct worker *me(const struct pipeline *p) { return &p->worker[omp_get_thread_num()]; }

/* ---- reading ---------------------------------------------------------------------------------------------------------------- */
static slm2_status read_piece(struct pipeline *p, struct block *k, struct slm2_err *err)
{
    struct reader *r = &p->reader;
    const struct slm2_data_opts *o = p->b->o;
    struct slm2_raw raw;
    bool more;
    if (!r->corpus) {
        r->ended = r->file == p->s->path.n;
        if (r->ended) return SLM2_OK;
        SLM2_TRY(slm2_corpus_open(&r->corpus, ((char *const *)p->s->path.items)[r->file], (enum slm2_corpus_form)p->s->format, (size_t)o->max_line_bytes, err));
    }
    SLM2_TRY(slm2_corpus_read(r->corpus, &raw, &more, err));
    k->fraction = (r->file + slm2_corpus_fraction(r->corpus)) / p->s->path.n;
    if (!more) {
        slm2_corpus_close(r->corpus);
        r->corpus = NULL;
        r->file++;
        return SLM2_OK;
    }
    struct item *d = &k->v[k->n++];
    d->raw = raw;
    d->at = k->bytes.n;
    d->file = r->file;
    d->taken = false;
    slm2_buf_put(&k->bytes, raw.bytes, raw.bytes ? raw.n : 0);
    return slm2_buf_check(&k->bytes, err);
}

/* The next pieces of the source into k.  A failure waits in the reader: what came before it is worked on first. */
static void read_block(struct pipeline *p, struct block *k)
{
    struct reader *r = &p->reader;
    const struct slm2_data_opts *o = p->b->o;
    double from = thread_s();
    k->n = 0;
    slm2_buf_clear(&k->bytes);
    if (o->stop && *o->stop && r->st == SLM2_OK) {
        r->st = slm2_fail(&r->err, SLM2_ESTOP, "stopped in source %s; complete sources are kept, run the same command to go on", p->s->name);
    }
    while (r->st == SLM2_OK && !r->ended && k->n < BLOCK_DOCS && k->bytes.n < p->block_bytes) r->st = read_piece(p, k, &r->err);
    for (int i = 0; i < k->n; i++) {
        if (k->v[i].raw.bytes) k->v[i].raw.bytes = k->bytes.v + k->v[i].at;
    }
    book(me(p), SLM2_STAGE_READ, k->bytes.n, &from);
}

/* ---- one document ----------------------------------------------------------------------------------------------------------- */
static int64_t count_chars(const char *text, size_t n)
{
    int64_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)text[i] & 0xc0) != 0x80;
    return k;
}

/* What a document's record or, failing that, its source says; "" when neither does. */
static const char *lang_of(const struct pipeline *p, const struct slm2_doc *doc) { return doc->lang ? doc->lang : p->s->lang; }

static bool has_length(const struct slm2_data_opts *o, const struct slm2_doc *doc)
{
    return (int64_t)doc->n >= o->min_bytes && (int64_t)doc->n <= o->max_bytes;
}

/* All that is known of a document without the others. */
static void prepare(struct pipeline *p, struct item *d)
{
    struct worker *w = me(p);
    const struct slm2_builder *b = p->b;
    double from = thread_s();
    d->st = SLM2_OK;
    slm2_corpus_judge(&d->raw, &p->fields, &d->doc, &d->root);
    book(w, SLM2_STAGE_PARSE, d->raw.n, &from);
    if (d->doc.verdict != SLM2_LINE_OK || !has_length(b->o, &d->doc)) return;
    d->st = slm2_text_key(d->doc.text, d->doc.n, &w->nfc, &d->key, NULL);
    d->chars = count_chars(d->doc.text, d->doc.n);
    book(w, SLM2_STAGE_HASH, d->doc.n, &from);
    d->filter = (struct slm2_quality_verdict){.broken = SLM2_QUALITY_PASSED};
    /* the table stands still meanwhile; what is in it will be left out whatever follows */
    if (d->st != SLM2_OK || (b->o->dedup && slm2_seen_has(&b->seen, d->key))) return;
    if (b->filter) {
        d->st = slm2_quality_judge(b->filter, b->langid, w->filter, d->doc.text, d->doc.n, lang_of(p, &d->doc), &d->filter, NULL);
        book(w, SLM2_STAGE_FILTER, d->doc.n, &from);
    }
    if (b->near && d->st == SLM2_OK && d->filter.broken == SLM2_QUALITY_PASSED) {
        d->st = slm2_near_sign(b->near, d->doc.text, d->doc.n, &w->words, d->sig, NULL);
        book(w, SLM2_STAGE_MINHASH, d->doc.n, &from);
    }
}

static int split_of(const struct pipeline *p, struct slm2_text_key k)
{
    const struct slm2_data_opts *o = p->b->o;
    if (p->s->split) return p->s->split == 1 ? SLM2_SPLIT_TRAIN : SLM2_SPLIT_VAL;
    double fraction = p->s->val_fraction < 0 ? o->val_fraction : p->s->val_fraction;
    return slm2_rng_uniform((uint64_t)o->seed, SLM2_RNG_SPLIT, k.a, k.b) < fraction ? SLM2_SPLIT_VAL : SLM2_SPLIT_TRAIN;
}

static void tokenize(struct pipeline *p, struct item *d, int n_threads)
{
    struct worker *w = me(p);
    double from = thread_s();
    const struct slm2_tok *tok = p->b->tok;
    d->ids.n = 0;
    d->st = slm2_tok_encode_threads(tok, d->doc.text, d->doc.n, slm2_tok_flags_default(tok), n_threads, &d->ids, NULL);
    if (d->st == SLM2_OK && p->b->o->append_eos) d->st = slm2_ids_push(&d->ids, slm2_tok_eos(tok), NULL);
    book(w, SLM2_STAGE_TOKENIZE, d->doc.n, &from);
}

/* ---- decisions, in order ------------------------------------------------------------------------------------------------------ */
static void count_in(json_t *obj, const char *key)
{
    json_object_set_new(obj, key, json_integer(json_integer_value(json_object_get(obj, key)) + 1));
}

static slm2_status take_bad(struct pipeline *p, const struct item *d, struct slm2_err *err)
{
    struct slm2_builder *b = p->b;
    const char *path = ((char *const *)p->s->path.items)[d->file], *name = slm2_verdict_name(d->doc.verdict), *unit = d->raw.form == SLM2_CORPUS_WET ? "record" : "line";
    if (b->o->on_bad_line == 1) {
        return slm2_fail(err, SLM2_EFORMAT, "%s: %s %" PRIu64 ": %s (%s); repair it or set on_bad_line: skip", path, unit, d->doc.line, name, d->doc.reason);
    }
    if (json_array_size(b->c.first_bad) < FIRST_BAD) {
        json_array_append_new(b->c.first_bad, json_pack("{s:s, s:I, s:s, s:s}", "file", path, unit, (json_int_t)d->doc.line, "verdict", name, "reason", d->doc.reason));
    }
    return SLM2_OK;
}

static slm2_status keep_key(struct slm2_builder *b, struct slm2_text_key k, struct slm2_err *err)
{
    size_t need = (b->n_keys + 1) * sizeof k;
    SLM2_TRY(slm2_seen_add(&b->seen, k, err));
    if (need > b->keys.n) SLM2_TRY(slm2_scratch_grow(&b->keys, b->keys.n ? 2 * b->keys.n : 1 << 16, err));
    memcpy(b->keys.p + b->n_keys++ * sizeof k, &k, sizeof k);
    return SLM2_OK;
}

/* Whether the text is nearly one that came before; if not, it is one that later ones are compared with. */
static slm2_status is_near(struct pipeline *p, const struct item *d, bool *near, struct slm2_err *err)
{
    struct slm2_builder *b = p->b;
    struct slm2_near_match m = slm2_near_find(b->near, d->sig);
    *near = m.text >= 0;
    if (!*near) return slm2_near_add(b->near, d->sig, err);
    b->c.near_duplicates++;
    if (json_array_size(b->c.first_near) < FIRST_NEAR) {
        json_array_append_new(b->c.first_near, json_pack("{s:s, s:I, s:s, s:f, s:I}", "file", ((char *const *)p->s->path.items)[d->file], "line", (json_int_t)d->doc.line,
                                                         "id", d->doc.id ? d->doc.id : "", "similarity", m.similarity, "of", (json_int_t)m.text));
    }
    return SLM2_OK;
}

static slm2_status decide(struct pipeline *p, struct item *d, struct slm2_err *err)
{
    struct slm2_builder *b = p->b;
    const struct slm2_doc *doc = &d->doc;
    b->c.lines++;
    b->c.verdict[doc->verdict]++;
    if (slm2_verdict_is_bad(doc->verdict)) return take_bad(p, d, err);
    if (doc->verdict != SLM2_LINE_OK) return SLM2_OK;
    if (!has_length(b->o, doc)) {
        *((int64_t)doc->n < b->o->min_bytes ? &b->c.too_short : &b->c.too_long) += 1;
        return SLM2_OK;
    }
    if (d->st != SLM2_OK) return slm2_fail(err, d->st, "out of memory for a document of %zu bytes", doc->n);
    if (b->o->dedup && slm2_seen_has(&b->seen, d->key)) {
        b->c.duplicates++;
        return SLM2_OK;
    }
    if (d->filter.lang) count_in(b->c.identified, d->filter.lang);
    if (d->filter.broken != SLM2_QUALITY_PASSED) {
        b->c.filtered[d->filter.broken]++;
        return SLM2_OK;
    }
    if (b->near) {
        bool near;
        SLM2_TRY(is_near(p, d, &near, err));
        if (near) return SLM2_OK;
    }
    if (b->o->dedup) SLM2_TRY(keep_key(b, d->key, err));
    d->taken = true;
    d->split = split_of(p, d->key);
    b->c.doc[d->split]++;
    b->c.bytes[d->split] += (int64_t)doc->n;
    b->c.chars[d->split] += d->chars;
    const char *lang = lang_of(p, doc);
    count_in(b->c.languages, *lang ? lang : d->filter.lang ? d->filter.lang : "unknown");
    count_in(b->c.licenses, doc->license ? doc->license : *p->s->license ? p->s->license : "unknown");
    return SLM2_OK;
}

static slm2_status decide_block(struct pipeline *p, struct block *k, struct slm2_err *err)
{
    struct worker *w = &p->worker[0];
    double from = thread_s();
    size_t bytes = 0;
    for (int i = 0; i < k->n; i++) {
        SLM2_TRY(decide(p, &k->v[i], err));
        bytes += k->v[i].doc.n;
    }
    book(w, SLM2_STAGE_DEDUP, bytes, &from);
    return SLM2_OK;
}

/* ---- writing ---------------------------------------------------------------------------------------------------------------- */
static slm2_status write_items(struct pipeline *p, struct block *k, size_t *bytes, struct slm2_err *err)
{
    for (int i = 0; i < k->n; i++) {
        struct item *d = &k->v[i];
        if (!d->taken) continue;
        if (d->st != SLM2_OK) return slm2_fail(err, d->st, "out of memory while tokenising a document of %zu bytes", d->doc.n);
        SLM2_TRY(slm2_shard_out_add(p->b->out[d->split], d->ids.v, d->ids.n, err));
        p->b->c.tok[d->split] += (int64_t)d->ids.n;
        *bytes += d->doc.n;
    }
    return SLM2_OK;
}

static void write_block(struct pipeline *p, struct block *k)
{
    double from = thread_s();
    size_t bytes = 0;
    if (p->write_st == SLM2_OK) p->write_st = write_items(p, k, &bytes, &p->write_err);
    for (int i = 0; i < k->n; i++) {
        struct item *d = &k->v[i];
        json_decref(d->root);
        d->root = NULL;
        if (d->ids.cap > KEEP_IDS) slm2_ids_free(&d->ids); /* or one long document after the other would hold a block's worth each */
    }
    k->n = 0;
    book(me(p), SLM2_STAGE_WRITE, bytes, &from);
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------- */
/* Reading `next`, preparing `now` and writing `done` at once. */
static void work_ahead(struct pipeline *p, struct block *next, struct block *now, struct block *done)
{
#pragma omp parallel num_threads(p->b->n_threads)
    {
#pragma omp single nowait
        read_block(p, next);
#pragma omp single nowait
        write_block(p, done);
#pragma omp for schedule(dynamic)
        for (int i = 0; i < now->n; i++) prepare(p, &now->v[i]);
    }
}

/* Long documents are cut and share the threads, one after the other; the others have one each. */
static void tokenize_block(struct pipeline *p, struct block *k)
{
    for (int i = 0; i < k->n; i++) {
        if (k->v[i].taken && k->v[i].doc.n > BIG_DOC) tokenize(p, &k->v[i], p->b->n_threads);
    }
#pragma omp parallel for schedule(dynamic) num_threads(p->b->n_threads)
    for (int i = 0; i < k->n; i++) {
        if (k->v[i].taken && k->v[i].doc.n <= BIG_DOC) tokenize(p, &k->v[i], 1);
    }
}

static slm2_status run_blocks(struct pipeline *p, struct slm2_err *err)
{
    struct block *done = &p->block[0], *now = &p->block[1], *next = &p->block[2];
    read_block(p, now);
    while (now->n > 0 || done->n > 0) {
        work_ahead(p, next, now, done);
        if (p->write_st != SLM2_OK) break;
        SLM2_TRY(decide_block(p, now, err));
        tokenize_block(p, now);
        slm2_progress("data build", (p->b->at + now->fraction) / p->b->o->sources.n, "%s  %" PRId64 " documents", p->s->name, p->b->c.doc[0] + p->b->c.doc[1]);
        struct block *free_one = done;
        done = now;
        now = next;
        next = free_one;
    }
    slm2_status st = p->write_st != SLM2_OK ? p->write_st : p->reader.st;
    if (st != SLM2_OK && err) *err = p->write_st != SLM2_OK ? p->write_err : p->reader.err;
    return st;
}

static void add_speed(const struct pipeline *p)
{
    for (int t = 0; t < p->b->n_threads; t++) {
        for (int i = 0; i < SLM2_N_STAGE; i++) {
            p->b->speed.cpu_s[i] += p->worker[t].cpu_s[i];
            p->b->speed.bytes[i] += p->worker[t].bytes[i];
        }
    }
}

static bool give_signatures(struct block *k, size_t n_hash)
{
    k->sigs = malloc(BLOCK_DOCS * n_hash * sizeof *k->sigs);
    for (size_t i = 0; k->sigs && i < BLOCK_DOCS; i++) k->v[i].sig = k->sigs + i * n_hash;
    return k->sigs != NULL;
}

slm2_status slm2_pipeline_run(struct slm2_builder *b, const struct slm2_data_source_opts *s, struct slm2_err *err)
{
    struct pipeline p = {.b = b, .s = s, .fields = {s->text_field, s->id_field, s->lang_field, s->license_field}, .block_bytes = (size_t)b->n_threads * BLOCK_BYTES};
    bool room = (p.worker = calloc((size_t)b->n_threads, sizeof *p.worker)) != NULL;
    for (int t = 0; room && b->filter && t < b->n_threads; t++) room = (p.worker[t].filter = slm2_quality_work_new()) != NULL;
    for (int i = 0; i < N_BLOCK; i++) room = (p.block[i].v = calloc(BLOCK_DOCS, sizeof *p.block[i].v)) != NULL && room;
    for (int i = 0; room && b->near && i < N_BLOCK; i++) room = give_signatures(&p.block[i], (size_t)b->o->near.n_hash);
    slm2_status st = room ? run_blocks(&p, err) : slm2_fail(err, SLM2_ENOMEM, "%s: out of memory for %d blocks of documents", s->name, N_BLOCK);
    if (p.worker) add_speed(&p);
    for (int i = 0; i < N_BLOCK; i++) {
        for (int k = 0; p.block[i].v && k < BLOCK_DOCS; k++) {
            slm2_ids_free(&p.block[i].v[k].ids);
            json_decref(p.block[i].v[k].root);
        }
        free(p.block[i].v);
        free(p.block[i].sigs);
        slm2_buf_free(&p.block[i].bytes);
    }
    for (int t = 0; p.worker && t < b->n_threads; t++) {
        slm2_buf_free(&p.worker[t].nfc);
        slm2_buf_free(&p.worker[t].words);
        slm2_quality_work_free(p.worker[t].filter);
    }
    free(p.worker);
    slm2_corpus_close(p.reader.corpus);
    return st;
}
