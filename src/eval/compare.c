/* compare.c - a reference and others beside it see the same windows; their logits are compared a few rows at a time, each row by one thread, and
 * added up in order: the result does not depend on the threads. */
#include "eval/compare.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/corpus.h"

enum { ROWS = 32 }; /* positions whose logits are held at once */

/* ---- measures ------------------------------------------------------------------------------------------------------- */
/* A distribution over the vocabulary: exponentials are most of the work, so each is computed once, also of a reference with many beside it. */
struct dist {
    const float *logits;
    double *p;   /* [n] probabilities */
    double norm; /* log of the sum of exp(logits) */
    int top;     /* place of the largest */
};
static struct dist dist_of(const float *v, int n, double *p)
{
    struct dist d = {.logits = v, .p = p};
    double sum = 0;
    for (int i = 1; i < n; i++)
        if (v[i] > v[d.top]) d.top = i;
    for (int i = 0; i < n; i++) sum += p[i] = exp((double)v[i] - (double)v[d.top]);
    for (int i = 0; i < n; i++) p[i] /= sum;
    d.norm = log(sum) + (double)v[d.top];
    return d;
}

static double larger(double a, double b) { return isnan(a) || a >= b ? a : b; } /* NaN stays */

static struct slm2_compare_row compare_dists(const struct dist *ref, const struct dist *d, int n, int32_t target)
{
    struct slm2_compare_row r = {.ref_logprob = (double)ref->logits[target] - ref->norm, .logprob = (double)d->logits[target] - d->norm, .same_top = ref->top == d->top};
    for (int i = 0; i < n; i++) {
        double log_p = (double)ref->logits[i] - ref->norm, log_q = (double)d->logits[i] - d->norm, p = ref->p[i], q = d->p[i];
        /* q - p sums to 0: with it each term is 0 or more, and small divergences do not drown in what cancels */
        r.kl += (p > 0 ? p * (log_p - log_q) : 0) + (q - p);
        r.difference = larger(r.difference, fabs(p - q));
    }
    return r;
}

struct slm2_compare_row slm2_compare_logits(const float *ref, const float *logits, int n, int32_t target, double *work)
{
    struct dist p = dist_of(ref, n, work), q = dist_of(logits, n, work + n);
    return compare_dists(&p, &q, n, target);
}

void slm2_compare_add(struct slm2_compare *c, const struct slm2_compare_row *row)
{
    c->n_tokens++;
    c->n_same_top += row->same_top;
    c->sum_kl += row->kl;
    c->sum_kl2 += row->kl * row->kl;
    c->max_kl = larger(c->max_kl, row->kl);
    c->sum_difference2 += row->difference * row->difference;
    c->max_difference = larger(c->max_difference, row->difference);
    c->ref_sum_logprob += row->ref_logprob;
    c->sum_logprob += row->logprob;
}

double slm2_compare_kl(const struct slm2_compare *c) { return c->sum_kl / (double)c->n_tokens; }
double slm2_compare_rms(const struct slm2_compare *c) { return sqrt(c->sum_difference2 / (double)c->n_tokens); }

double slm2_compare_kl_stderr(const struct slm2_compare *c)
{
    double n = (double)c->n_tokens, mean = c->sum_kl / n;
    return c->n_tokens < 2 ? (double)NAN : sqrt(fmax(c->sum_kl2 / n - mean * mean, 0) / (n - 1));
}

double slm2_quantile(const double *v, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t below = (size_t)at, above = slm2_min_size(below + 1, n - 1);
    return v[below] + (at - (double)below) * (v[above] - v[below]);
}

/* ---- sides ---------------------------------------------------------------------------------------------------------- */
struct side {
    const struct slm2_model *m;
    const char *path;  /* of logits, or NULL */
    FILE *file;
    struct slm2_ctx ctx;
    struct slm2_acts *acts;
    float *logits;     /* [ROWS, vocab_size] */
    double *kl;        /* [n_kl] of every position so far; not of the reference */
    size_t n_kl, cap_kl;
};

static slm2_status side_open(struct side *s, const struct slm2_compare_side *in, int vocab_size, int n_ctx, const struct slm2_ppl_opts *o, struct slm2_err *err)
{
    size_t bytes;
    if (!slm2_mul_size((size_t)ROWS * sizeof(float), (size_t)vocab_size, &bytes) || !(s->logits = malloc(bytes))) return slm2_fail(err, SLM2_ENOMEM, "no memory for logits of %d ids", vocab_size);
    if (in->logits) {
        s->path = in->logits;
        s->file = fopen(in->logits, "rb");
        return s->file ? SLM2_OK : slm2_fail_errno(err, "%s: cannot be opened", in->logits);
    }
    s->m = in->m;
    const struct slm2_config *cfg = &s->m->cfg;
    if (cfg->vocab_size != vocab_size) return slm2_fail(err, SLM2_EUSAGE, "the models have %d and %d ids: their distributions cannot be compared", vocab_size, cfg->vocab_size);
    if (n_ctx > cfg->n_ctx) return slm2_fail(err, SLM2_EUSAGE, "a window of %d tokens, one of the models allows 1 to %d", n_ctx, cfg->n_ctx);
    int widest = slm2_max_int(slm2_max_int(vocab_size, cfg->intermediate_size), cfg->hidden_size);
    SLM2_TRY(slm2_ctx_init(&s->ctx, &(struct slm2_ctx_opts){.backend = o->backend, .isa = o->isa, .n_threads = o->n_threads, .exact = in->exact}, err));
    SLM2_TRY(slm2_ctx_reserve(&s->ctx, slm2_ops_scratch_floats(widest, n_ctx, cfg->head_dim), err));
    return slm2_acts_new(&s->acts, s->m, &s->ctx, SLM2_INFER, SLM2_F32, n_ctx, ROWS, err);
}

static void side_close(struct side *s)
{
    if (s->file) fclose(s->file);
    slm2_acts_free(s->acts);
    slm2_ctx_free(&s->ctx);
    free(s->logits);
    free(s->kl);
}

static slm2_status side_keep(struct side *s, double kl, struct slm2_err *err)
{
    if (s->n_kl == s->cap_kl) {
        size_t cap = s->cap_kl ? 2 * s->cap_kl : 4096;
        double *v = realloc(s->kl, cap * sizeof *v);
        if (!v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu divergences", cap);
        s->kl = v;
        s->cap_kl = cap;
    }
    s->kl[s->n_kl++] = kl;
    return SLM2_OK;
}

/* ascending; what is no number last, so that a bad position is seen in the upper quantiles */
static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

static void side_quantiles(struct side *s, struct slm2_compare *c)
{
    qsort(s->kl, s->n_kl, sizeof *s->kl, by_size);
    c->median_kl = slm2_quantile(s->kl, s->n_kl, 0.5);
    c->p99_kl = slm2_quantile(s->kl, s->n_kl, 0.99);
}

static slm2_status side_logits(struct side *s, int row, int n, int vocab_size, struct slm2_err *err)
{
    if (!s->file) {
        slm2_model_logits(s->m, s->acts, row, n, s->logits);
        return SLM2_OK;
    }
    if (fread(s->logits, sizeof *s->logits * (size_t)vocab_size, (size_t)n, s->file) == (size_t)n) return SLM2_OK;
    return ferror(s->file) ? slm2_fail_errno(err, "%s: cannot be read", s->path)
                           : slm2_fail(err, SLM2_EFORMAT, "%s: ends too early, want a row of %d floats for each token of the text", s->path, vocab_size);
}

/* ---- texts ---------------------------------------------------------------------------------------------------------- */
struct group {
    struct side ref, *side; /* side[n_side] */
    int n_side, vocab_size, n_threads;
    int32_t prefix_id;
    struct slm2_batch batch;
    struct slm2_ids x; /* the prefix token and a document */
    struct slm2_compare_row *rows; /* [n_side, ROWS] */
    double *work;      /* [n_threads, 2, vocab_size] */
};

/* The first n rows of everybody's logits into rows, a row by one thread. */
static void compare_rows(struct group *p, const int32_t *target, int n)
{
#pragma omp parallel for num_threads(p->n_threads) schedule(static)
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)p->vocab_size;
        double *work = p->work + (size_t)omp_get_thread_num() * 2 * (size_t)p->vocab_size;
        struct dist ref = dist_of(p->ref.logits + at, p->vocab_size, work);
        for (int k = 0; k < p->n_side; k++) {
            struct dist d = dist_of(p->side[k].logits + at, p->vocab_size, work + p->vocab_size);
            p->rows[k * ROWS + i] = compare_dists(&ref, &d, p->vocab_size, target[i]);
        }
    }
}

/* x[0 .. n_input) predicts x[1 .. n_input]; the last n_scored positions are compared, c[n_side] receives them. */
static slm2_status compare_window(struct group *p, const int32_t *x, int n_input, int n_scored, struct slm2_compare *c, struct slm2_err *err)
{
    slm2_batch_clear(&p->batch);
    SLM2_TRY(slm2_batch_add(&p->batch, x, NULL, NULL, n_input, err));
    slm2_model_forward(p->ref.m, p->ref.acts, &p->batch, NULL, NULL);
    for (int k = 0; k < p->n_side; k++)
        if (!p->side[k].file) slm2_model_forward(p->side[k].m, p->side[k].acts, &p->batch, NULL, NULL);
    for (int row = n_input - n_scored; row < n_input; row += ROWS) {
        int n = slm2_min_int(ROWS, n_input - row);
        SLM2_TRY(side_logits(&p->ref, row, n, p->vocab_size, err));
        for (int k = 0; k < p->n_side; k++) SLM2_TRY(side_logits(&p->side[k], row, n, p->vocab_size, err));
        compare_rows(p, x + row + 1, n);
        for (int k = 0; k < p->n_side; k++)
            for (int i = 0; i < n; i++) {
                slm2_compare_add(&c[k], &p->rows[k * ROWS + i]);
                SLM2_TRY(side_keep(&p->side[k], p->rows[k * ROWS + i].kl, err));
            }
    }
    return SLM2_OK;
}

/* The windows are those of slm2_score_stream. */
static slm2_status compare_text(struct group *p, const struct slm2_tok *tok, const char *text, size_t len, int64_t max_tokens, struct slm2_compare *c, struct slm2_err *err)
{
    p->x.n = 0;
    SLM2_TRY(slm2_ids_push(&p->x, p->prefix_id, err));
    SLM2_TRY(slm2_tok_encode(tok, text, len, slm2_tok_flags_default(tok), &p->x, err));
    size_t n = p->x.n - 1, window = (size_t)c->n_ctx, stride = (size_t)c->stride;
    if (max_tokens > 0) n = slm2_min_size(n, (size_t)max_tokens);
    for (size_t i = 0; i <= n; i++)
        if (p->x.v[i] < 0 || p->x.v[i] >= p->vocab_size)
            return slm2_fail(err, SLM2_EFORMAT, "token %zu is id %d, the models know 0 to %d; is the tokenizer another model's?", i, p->x.v[i], p->vocab_size - 1);
    for (int k = 0; k < p->n_side; k++) c[k].n_docs += n > 0;
    for (size_t done = 0, k = 0; done < n; k++) {
        size_t begin = stride ? k * stride : done, last = slm2_min_size(begin + window - (stride > 0), n);
        SLM2_TRY(compare_window(p, p->x.v + begin, (int)(last - begin), (int)(last - done), c, err));
        done = last;
    }
    return SLM2_OK;
}

static slm2_status compare_file(struct group *p, const struct slm2_tok *tok, const char *path, const struct slm2_ppl_opts *o, struct slm2_compare *c, struct slm2_err *err)
{
    struct slm2_corpus *corpus;
    struct slm2_doc doc;
    bool more = true;
    SLM2_TRY(slm2_corpus_open(&corpus, path, o->jsonl ? SLM2_CORPUS_JSONL : SLM2_CORPUS_AUTO, (size_t)1 << 30, err));
    slm2_status st = SLM2_OK;
    while (!(o->max_docs > 0 && c->n_docs >= o->max_docs) && !(o->max_tokens > 0 && c->n_tokens >= o->max_tokens)) {
        if ((st = slm2_corpus_next(corpus, &doc, &more, err)) != SLM2_OK || !more) break;
        for (int k = 0; k < p->n_side; k++) c[k].n_bad += slm2_verdict_is_bad(doc.verdict);
        if (doc.verdict != SLM2_LINE_OK) continue;
        if (o->interrupt && *o->interrupt) {
            st = slm2_fail(err, SLM2_ESTOP, "stopped");
            break;
        }
        st = compare_text(p, tok, doc.text, doc.n, o->max_tokens > 0 ? o->max_tokens - c->n_tokens : 0, c, err);
        if (st != SLM2_OK) {
            slm2_wrap(err, st, "%s: line %llu", path, (unsigned long long)doc.line);
            break;
        }
        slm2_progress("compare", slm2_corpus_fraction(corpus), "KL %.3g", slm2_compare_kl(c));
    }
    slm2_progress_end();
    slm2_corpus_close(corpus);
    return st;
}

static slm2_status at_end(const struct side *s, struct slm2_err *err)
{
    return !s->file || fgetc(s->file) == EOF ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "%s: holds more rows than the text has tokens", s->path);
}

slm2_status slm2_compare_files(const struct slm2_compare_side *ref, const struct slm2_compare_side *side, int n_side, const struct slm2_tok *tok, const char *const *paths, int n_paths,
                               const struct slm2_ppl_opts *o, struct slm2_compare *c, struct slm2_err *err)
{
    const struct slm2_config *cfg = &ref->m->cfg;
    double start = slm2_now_s();
    int n_ctx = o->n_ctx ? o->n_ctx : slm2_min_int(cfg->n_ctx, 2048);
    int32_t eos = slm2_tok_eos(tok);
    struct group p = {.n_side = n_side, .vocab_size = cfg->vocab_size, .prefix_id = eos >= 0 && eos < cfg->vocab_size ? eos : cfg->eos_id};
    if (n_ctx < 1) return slm2_fail(err, SLM2_EUSAGE, "a window of %d tokens, want at least 1", n_ctx);
    if (o->stride < 0 || (o->stride > 0 && o->stride >= n_ctx))
        return slm2_fail(err, SLM2_EUSAGE, "a stride of %d tokens, want less than the window's %d, or 0 for disjoint windows", o->stride, n_ctx);
    if (!(p.side = calloc((size_t)n_side, sizeof *p.side))) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d models", n_side);
    slm2_status st = side_open(&p.ref, ref, p.vocab_size, n_ctx, o, err);
    for (int k = 0; k < n_side; k++) {
        c[k] = (struct slm2_compare){.n_ctx = n_ctx, .stride = o->stride};
        if (st == SLM2_OK) st = side_open(&p.side[k], &side[k], p.vocab_size, n_ctx, o, err);
    }
    if (st == SLM2_OK) st = slm2_batch_init(&p.batch, n_ctx, 1, err);
    p.n_threads = p.ref.ctx.n_threads;
    p.rows = calloc((size_t)n_side * ROWS, sizeof *p.rows);
    if (st == SLM2_OK) p.work = calloc((size_t)p.n_threads * 2 * (size_t)p.vocab_size, sizeof *p.work);
    if (st == SLM2_OK && (!p.rows || !p.work)) st = slm2_fail(err, SLM2_ENOMEM, "no memory to compare distributions over %d ids", p.vocab_size);
    for (int i = 0; i < n_paths && st == SLM2_OK; i++) st = compare_file(&p, tok, paths[i], o, c, err);
    if (st == SLM2_OK && c->n_tokens == 0) st = slm2_fail(err, SLM2_EFORMAT, "%s: no text to measure%s", n_paths ? paths[0] : "perplexity", c->n_bad ? "; want JSON lines {\"text\": ...}, or a .txt file" : "");
    for (int k = 0; k < n_side; k++) {
        if (st == SLM2_OK) st = at_end(&p.side[k], err);
        if (st == SLM2_OK) side_quantiles(&p.side[k], &c[k]);
        c[k].seconds = slm2_now_s() - start;
        side_close(&p.side[k]);
    }
    side_close(&p.ref);
    slm2_batch_free(&p.batch);
    slm2_ids_free(&p.x);
    free(p.side);
    free(p.rows);
    free(p.work);
    return st;
}

/* ---- results -------------------------------------------------------------------------------------------------------- */
static void set_real(json_t *j, const char *key, double v)
{
    json_object_set_new(j, key, slm2_json_real(v, "N/A"));
}

static double perplexity(double sum_logprob, int64_t n) { return exp(-sum_logprob / (double)n); }

json_t *slm2_compare_json(const struct slm2_compare *c)
{
    json_t *j = json_object();
    set_real(j, "kl", slm2_compare_kl(c));
    set_real(j, "kl_stderr", slm2_compare_kl_stderr(c));
    set_real(j, "kl_median", c->median_kl);
    set_real(j, "kl_99", c->p99_kl);
    set_real(j, "kl_max", c->max_kl);
    set_real(j, "probability_difference_max", c->max_difference);
    set_real(j, "probability_difference_rms", slm2_compare_rms(c));
    set_real(j, "top1_agreement", (double)c->n_same_top / (double)c->n_tokens);
    set_real(j, "token_perplexity", perplexity(c->sum_logprob, c->n_tokens));
    set_real(j, "reference_token_perplexity", perplexity(c->ref_sum_logprob, c->n_tokens));
    json_object_set_new(j, "tokens", json_integer(c->n_tokens));
    json_object_set_new(j, "documents", json_integer(c->n_docs));
    json_object_set_new(j, "bad_lines", json_integer(c->n_bad));
    json_object_set_new(j, "n_ctx", json_integer(c->n_ctx));
    json_object_set_new(j, "stride", json_integer(c->stride));
    set_real(j, "seconds", c->seconds);
    return j;
}

void slm2_compare_text(const struct slm2_compare *c, struct slm2_buf *out)
{
    slm2_buf_printf(out, "tokens                  %12lld   in %lld documents\n", (long long)c->n_tokens, (long long)c->n_docs);
    slm2_buf_printf(out, "KL(reference || model)  %12.4e   nats, standard error %.1e\n", slm2_compare_kl(c), slm2_compare_kl_stderr(c));
    slm2_buf_printf(out, "  of the positions      %12.4e   median, 99 %% %.4e, largest %.4e\n", c->median_kl, c->p99_kl, c->max_kl);
    slm2_buf_printf(out, "probability difference  %12.4e   largest of any token; %.4e rms of the positions' largest\n", c->max_difference, slm2_compare_rms(c));
    slm2_buf_printf(out, "same most probable      %12.2f %% of the positions\n", 100.0 * (double)c->n_same_top / (double)c->n_tokens);
    slm2_buf_printf(out, "perplexity              %12.4f   reference %.4f\n", perplexity(c->sum_logprob, c->n_tokens), perplexity(c->ref_sum_logprob, c->n_tokens));
}
