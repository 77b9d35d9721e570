/* perplexity.c - texts to token windows to sums, kept by language; the measures are ratios of these sums. */
#include "eval/perplexity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "data/corpus.h"
#include "eval/form.h"
#include "tok/pystr.h"

/* ---- measures -------------------------------------------------------------------------------------------------------- */
double slm2_ppl_token(const struct slm2_ppl *p) { return exp(-p->sum_logprob / (double)p->n_tokens); }
double slm2_ppl_word(const struct slm2_ppl *p) { return exp(-p->sum_logprob / (double)p->n_words); }
double slm2_ppl_byte(const struct slm2_ppl *p) { return exp(-p->sum_logprob / (double)p->n_bytes); }
double slm2_ppl_bits_per_byte(const struct slm2_ppl *p) { return -p->sum_logprob / ((double)p->n_bytes * log(2.0)); }

/* Ratio estimate R = sum x / sum y over n documents: variance n / (n - 1) sum (x - R y)^2 / (sum y)^2. */
double slm2_ppl_bits_stderr(const struct slm2_ppl *p)
{
    double n = (double)p->n_docs, y = (double)p->n_bytes, r = -p->sum_logprob / y;
    double residual = p->nll2 - 2 * r * p->nll_bytes + r * r * p->bytes2;
    return p->n_docs < 2 || p->n_bytes == 0 ? (double)NAN : sqrt(n / (n - 1) * fmax(residual, 0)) / y / log(2.0);
}

void slm2_ppl_add(struct slm2_ppl *sum, const struct slm2_ppl *p)
{
    sum->sum_logprob += p->sum_logprob;
    sum->n_docs += p->n_docs;
    sum->n_tokens += p->n_tokens;
    sum->n_words += p->n_words;
    sum->n_bytes += p->n_bytes;
    sum->nll2 += p->nll2;
    sum->nll_bytes += p->nll_bytes;
    sum->bytes2 += p->bytes2;
}

/* ---- texts ------------------------------------------------------------------------------------------------------------- */
static int64_t count_words(const char *text, size_t n)
{
    int64_t words = 0;
    bool in_word = false;
    for (size_t at = 0; at < n;) {
        int32_t c;
        at += slm2_utf8_next((const uint8_t *)text + at, n - at, &c);
        bool space = slm2_py_isspace(c);
        words += !space && !in_word;
        in_word = !space;
    }
    return words;
}

/* Of one document: what the standard error is made of. */
static void put_squares(struct slm2_ppl *one)
{
    one->nll2 = one->sum_logprob * one->sum_logprob;
    one->nll_bytes = -one->sum_logprob * (double)one->n_bytes;
    one->bytes2 = (double)one->n_bytes * (double)one->n_bytes;
}

slm2_status slm2_perplexity_text(struct slm2_scorer *s, const struct slm2_tok *tok, const char *text, size_t n, const char *original, size_t n_original, int n_ctx, int stride, int64_t max_tokens, struct slm2_ppl *p, struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    struct slm2_buf cut = {0};
    struct slm2_ppl one = {.n_docs = 1};
    slm2_status st = slm2_tok_encode(tok, text, n, slm2_tok_flags_default(tok), &ids, err);
    if (st != SLM2_OK) goto done;
    if (max_tokens > 0 && ids.n > (size_t)max_tokens) { /* what is left out must not count as text */
        ids.n = (size_t)max_tokens;
        if ((st = slm2_tok_decode(tok, ids.v, ids.n, &cut, err)) != SLM2_OK || (st = slm2_buf_check(&cut, err)) != SLM2_OK) goto done;
        text = cut.v;
        n = cut.n;
        original = NULL;
    }
    if (ids.n == 0) goto done;
    if ((st = slm2_score_stream(s, ids.v, ids.n, n_ctx, stride, &one.sum_logprob, NULL, NULL, err)) != SLM2_OK) goto done;
    one.n_tokens = (int64_t)ids.n;
    one.n_bytes = (int64_t)(original ? n_original : n);
    one.n_words = original ? (int64_t)slm2_py_split_count(original, n_original) : count_words(text, n);
    put_squares(&one);
    slm2_ppl_add(p, &one);
done:
    slm2_ids_free(&ids);
    slm2_buf_free(&cut);
    return st;
}

/* ---- files ------------------------------------------------------------------------------------------------------------- */
struct slm2_ppl_opts slm2_ppl_opts_default(void)
{
    return (struct slm2_ppl_opts){0};
}

/* "a/b/de.jsonl.gz" -> "de" */
static void name_of(const char *path, char *out, size_t cap)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(out, cap, "%.*s", (int)slm2_min_size(strcspn(name, "."), cap - 1), name);
}

static struct slm2_ppl *lang_slot(struct slm2_ppl_result *r, const char *lang)
{
    char name[sizeof r->lang[0].lang];
    snprintf(name, sizeof name, "%.31s", *lang ? lang : "other");
    for (int i = 0; i < r->n_lang; i++)
        if (strcmp(r->lang[i].lang, name) == 0) return &r->lang[i].p;
    if (r->n_lang == SLM2_PPL_MAX_LANGS) return &r->lang[r->n_lang - 1].p;
    struct slm2_ppl_lang *l = &r->lang[r->n_lang++];
    snprintf(l->lang, sizeof l->lang, "%s", r->n_lang == SLM2_PPL_MAX_LANGS ? "other" : name);
    return &l->p;
}

static bool enough(const struct slm2_ppl_opts *o, const struct slm2_ppl_result *r)
{
    return (o->max_docs > 0 && r->n_seen >= o->max_docs) || (o->max_tokens > 0 && r->all.n_tokens >= o->max_tokens);
}

/* One document into *one. */
static slm2_status measure_doc(struct slm2_scorer *s, const struct slm2_tok *tok, const struct slm2_doc *doc, const struct slm2_ppl_opts *o, const struct slm2_ppl_result *r, struct slm2_ppl *one, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    int64_t left = o->max_tokens > 0 ? o->max_tokens - r->all.n_tokens : 0;
    if (!o->wikitext) return slm2_perplexity_text(s, tok, doc->text, doc->n, NULL, 0, r->n_ctx, o->stride, left, one, err);
    slm2_status st = slm2_form_wikitext(doc->text, doc->n, &text, err);
    if (st == SLM2_OK) st = slm2_perplexity_text(s, tok, text.v ? text.v : "", text.n, doc->text, doc->n, r->n_ctx, o->stride, left, one, err);
    slm2_buf_free(&text);
    return st;
}

/* The same, from a former run where that had it. */
static slm2_status measure(struct slm2_scorer *s, const struct slm2_tok *tok, const struct slm2_doc *doc, const struct slm2_ppl_opts *o, const struct slm2_ppl_result *r, struct slm2_ppl *one, struct slm2_err *err)
{
    char kind[200], id[SLM2_KEPT_ID], hex[65];
    json_int_t tokens, words, bytes;
    if (o->interrupt && *o->interrupt) return slm2_fail(err, SLM2_ESTOP, "stopped");
    if (!o->kept) return measure_doc(s, tok, doc, o, r, one, err);
    struct slm2_ids ids = {0}; /* tell one tokenizer from another */
    slm2_status st = slm2_tok_encode(tok, doc->text, doc->n, slm2_tok_flags_default(tok), &ids, err);
    slm2_sha256_hex(doc->text, doc->n, hex);
    snprintf(kind, sizeof kind, "perplexity %d %d %d %lld %s", r->n_ctx, o->stride, o->wikitext, (long long)(o->max_tokens > 0 ? o->max_tokens - r->all.n_tokens : 0), hex);
    slm2_kept_id(id, kind, ids.v, ids.n, NULL, 0);
    slm2_ids_free(&ids);
    if (st != SLM2_OK) return st;
    json_t *j = (json_t *)(uintptr_t)slm2_kept_find(o->kept, id);
    if (j && json_unpack(j, "{s:f, s:I, s:I, s:I}", "sum_logprob", &one->sum_logprob, "tokens", &tokens, "words", &words, "bytes", &bytes) == 0) {
        *one = (struct slm2_ppl){.sum_logprob = one->sum_logprob, .n_docs = 1, .n_tokens = tokens, .n_words = words, .n_bytes = bytes};
        put_squares(one);
        return SLM2_OK;
    }
    SLM2_TRY(measure_doc(s, tok, doc, o, r, one, err));
    if (one->n_docs != 1 || !isfinite(one->sum_logprob)) return SLM2_OK; /* nothing to keep, or no number of JSON's */
    j = json_pack("{s:f, s:I, s:I, s:I}", "sum_logprob", one->sum_logprob, "tokens", (json_int_t)one->n_tokens, "words", (json_int_t)one->n_words, "bytes", (json_int_t)one->n_bytes);
    SLM2_TRY(slm2_kept_put(o->kept, id, j, err));
    return slm2_kept_sync(o->kept, err);
}

static const struct slm2_fields pages = {.text = "page", .id = "id", .lang = "lang", .license = "license"}; /* of wikitext */

static slm2_status open_corpus(struct slm2_corpus **c, const char *path, const struct slm2_ppl_opts *o, struct slm2_err *err)
{
    return slm2_corpus_open(c, path, o->jsonl ? SLM2_CORPUS_JSONL : SLM2_CORPUS_AUTO, (size_t)1 << 30, err);
}

slm2_status slm2_perplexity_count(const char *const *paths, int n_paths, const struct slm2_ppl_opts *o, int64_t *n, struct slm2_err *err)
{
    *n = 0;
    for (int i = 0; i < n_paths; i++) {
        struct slm2_corpus *c;
        struct slm2_raw raw;
        struct slm2_doc doc;
        bool more = true;
        SLM2_TRY(open_corpus(&c, paths[i], o, err));
        slm2_status st;
        while ((st = slm2_corpus_read(c, &raw, &more, err)) == SLM2_OK && more) {
            json_t *root = NULL;
            slm2_corpus_judge(&raw, o->wikitext ? &pages : NULL, &doc, &root);
            *n += doc.verdict == SLM2_LINE_OK || doc.verdict == SLM2_LINE_EMPTY;
            json_decref(root);
        }
        slm2_corpus_close(c);
        SLM2_TRY(st);
    }
    return SLM2_OK;
}

static slm2_status measure_file(struct slm2_scorer *s, const struct slm2_tok *tok, const char *path, const struct slm2_ppl_opts *o, struct slm2_ppl_result *r, struct slm2_err *err)
{
    struct slm2_corpus *c;
    struct slm2_doc doc;
    struct slm2_raw raw;
    json_t *root = NULL;
    char name[32];
    bool more = true;
    name_of(path, name, sizeof name);
    SLM2_TRY(open_corpus(&c, path, o, err));
    slm2_status st = SLM2_OK;
    while (!enough(o, r)) {
        json_decref(root);
        root = NULL;
        if ((st = slm2_corpus_read(c, &raw, &more, err)) != SLM2_OK || !more) break;
        slm2_corpus_judge(&raw, o->wikitext ? &pages : NULL, &doc, &root);
        r->n_bad += slm2_verdict_is_bad(doc.verdict);
        r->n_seen += doc.verdict == SLM2_LINE_OK || doc.verdict == SLM2_LINE_EMPTY;
        struct slm2_ppl one = {0};
        if (doc.verdict == SLM2_LINE_EMPTY && o->on_doc && (st = o->on_doc(o->user, root, "", 0, &one, err)) != SLM2_OK) break;
        if (doc.verdict != SLM2_LINE_OK) continue;
        if ((st = measure(s, tok, &doc, o, r, &one, err)) != SLM2_OK) {
            slm2_wrap(err, st, "%s: line %llu", path, (unsigned long long)doc.line);
            break;
        }
        if (o->on_doc && (st = o->on_doc(o->user, root, doc.text, doc.n, &one, err)) != SLM2_OK) break;
        slm2_ppl_add(&r->all, &one);
        slm2_ppl_add(lang_slot(r, doc.lang ? doc.lang : o->lang ? o->lang : name), &one);
        slm2_progress(name, slm2_corpus_fraction(c), "%.4f bits per byte", slm2_ppl_bits_per_byte(&r->all));
    }
    slm2_progress_end();
    json_decref(root);
    slm2_corpus_close(c);
    return st;
}

slm2_status slm2_perplexity_files(const struct slm2_model *m, const struct slm2_tok *tok, const char *const *paths, int n_paths, const struct slm2_ppl_opts *o, struct slm2_ppl_result *r, struct slm2_err *err)
{
    struct slm2_scorer *s;
    double start = slm2_now_s();
    *r = (struct slm2_ppl_result){.n_ctx = o->n_ctx ? o->n_ctx : slm2_min_int(m->cfg.n_ctx, 2048), .stride = o->stride};
    if (o->stride < -1 || (o->stride > 0 && o->stride >= r->n_ctx))
        return slm2_fail(err, SLM2_EUSAGE, "a stride of %d tokens, want less than the window's %d, or 0 for disjoint windows", o->stride, r->n_ctx);
    struct slm2_scorer_opts so = slm2_scorer_opts_default();
    so.backend = o->backend;
    so.isa = o->isa;
    so.exact = o->exact;
    so.n_threads = o->n_threads;
    so.max_len = r->n_ctx;
    int32_t eos = slm2_tok_eos(tok);
    if (eos >= 0 && eos < m->cfg.vocab_size) so.prefix_id = eos;
    SLM2_TRY(slm2_scorer_new(&s, m, &so, err));
    slm2_status st = SLM2_OK;
    for (int i = 0; i < n_paths && st == SLM2_OK; i++) st = measure_file(s, tok, paths[i], o, r, err);
    slm2_scorer_free(s);
    if (st == SLM2_OK && r->all.n_tokens == 0) st = slm2_fail(err, SLM2_EFORMAT, "%s: no text to measure%s", n_paths ? paths[0] : "perplexity", r->n_bad ? o->wikitext ? "; want JSON lines {\"page\": ...}" : "; want JSON lines {\"text\": ...}, or a .txt file" : "");
    r->seconds = slm2_now_s() - start;
    return st;
}

slm2_status slm2_perplexity_file(const struct slm2_model *m, const struct slm2_tok *tok, const char *path, const struct slm2_ppl_opts *o, struct slm2_ppl_result *r, struct slm2_err *err)
{
    return slm2_perplexity_files(m, tok, &path, 1, o, r, err);
}

/* ---- results ------------------------------------------------------------------------------------------------------------ */
static void set_real(json_t *j, const char *key, double v)
{
    json_object_set_new(j, key, slm2_json_real(v, "N/A"));
}

json_t *slm2_ppl_json(const struct slm2_ppl *p)
{
    json_t *j = json_object();
    set_real(j, "bits_per_byte", slm2_ppl_bits_per_byte(p));
    set_real(j, "bits_per_byte_stderr", slm2_ppl_bits_stderr(p));
    set_real(j, "token_perplexity", slm2_ppl_token(p));
    set_real(j, "word_perplexity", slm2_ppl_word(p));
    set_real(j, "byte_perplexity", slm2_ppl_byte(p));
    set_real(j, "loglikelihood", p->sum_logprob);
    json_object_set_new(j, "documents", json_integer(p->n_docs));
    json_object_set_new(j, "tokens", json_integer(p->n_tokens));
    json_object_set_new(j, "words", json_integer(p->n_words));
    json_object_set_new(j, "bytes", json_integer(p->n_bytes));
    return j;
}

json_t *slm2_ppl_result_json(const struct slm2_ppl_result *r)
{
    json_t *j = slm2_ppl_json(&r->all), *langs = json_object();
    for (int i = 0; i < r->n_lang; i++) json_object_set_new(langs, r->lang[i].lang, slm2_ppl_json(&r->lang[i].p));
    json_object_set_new(j, "languages", langs);
    json_object_set_new(j, "n_ctx", json_integer(r->n_ctx));
    json_object_set_new(j, "stride", json_integer(r->stride));
    json_object_set_new(j, "bad_lines", json_integer(r->n_bad));
    set_real(j, "seconds", r->seconds);
    return j;
}

static void put_line(struct slm2_buf *out, const char *name, const struct slm2_ppl *p)
{
    char se[32] = "-";
    double v = slm2_ppl_bits_stderr(p);
    if (isfinite(v)) snprintf(se, sizeof se, "%.4f", v);
    slm2_buf_printf(out, "%-16s %9lld %10lld %11lld %13.4f %9s %15.3f %17.6g\n", name, (long long)p->n_docs, (long long)p->n_tokens, (long long)p->n_bytes, slm2_ppl_bits_per_byte(p), se,
                    slm2_ppl_token(p), slm2_ppl_word(p));
}

void slm2_ppl_table(const struct slm2_ppl_result *r, struct slm2_buf *out)
{
    slm2_buf_printf(out, "%-16s %9s %10s %11s %13s %9s %15s %17s\n", "language", "documents", "tokens", "bytes", "bits per byte", "stderr", "perplexity/tok", "perplexity/word");
    for (int i = 0; i < r->n_lang; i++) put_line(out, r->lang[i].lang, &r->lang[i].p);
    if (r->n_lang != 1) put_line(out, "all", &r->all);
}
