/* score.c - continuations and windows become sequences of one ragged batch; each remembers where its sums go. */
#include "eval/score.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum { LOGIT_ROWS = 64 }; /* rows of the head computed at once */

struct job { /* a sequence of the batch: its last n_scored rows count */
    int row, n;
    double *sum, *window_sum; /* added to; window_sum may be NULL */
    float *logprobs;          /* [n] or NULL */
    bool *is_greedy;          /* cleared at a miss; or NULL */
};
struct slm2_scorer {
    const struct slm2_model *m;
    struct slm2_ctx ctx;
    struct slm2_acts *acts;
    struct slm2_batch batch;
    struct job *jobs; /* [batch.max_seq] */
    float *lp;        /* [batch.max_tok] */
    int32_t *argmax;  /* [batch.max_tok] */
    int32_t *text;    /* [max_len + 1] context and continuation */
    int32_t *target;  /* [max_len] */
    int max_len;
    int32_t prefix_id;
};

struct slm2_scorer_opts slm2_scorer_opts_default(void)
{
    return (struct slm2_scorer_opts){.prefix_id = -1};
}

slm2_status slm2_scorer_new(struct slm2_scorer **out, const struct slm2_model *m, const struct slm2_scorer_opts *o, struct slm2_err *err)
{
    const struct slm2_config *cfg = &m->cfg;
    int max_len = o->max_len ? o->max_len : cfg->n_ctx;
    int32_t prefix = o->prefix_id < 0 ? cfg->eos_id : o->prefix_id;
    *out = NULL;
    if (max_len < 1 || max_len > cfg->n_ctx) return slm2_fail(err, SLM2_EUSAGE, "a window of %d tokens, this model allows 1 to %d", max_len, cfg->n_ctx);
    if (prefix >= cfg->vocab_size) return slm2_fail(err, SLM2_EUSAGE, "the prefix token is id %d, this model knows 0 to %d", prefix, cfg->vocab_size - 1);
    int max_tok = slm2_max_int(o->batch_tokens > 0 ? o->batch_tokens : 1024, max_len);
    struct slm2_scorer *s = calloc(1, sizeof *s);
    if (!s) return slm2_fail(err, SLM2_ENOMEM, "no memory for scoring");
    s->m = m;
    s->max_len = max_len;
    s->prefix_id = prefix;
    slm2_status st = slm2_ctx_init(&s->ctx, &(struct slm2_ctx_opts){.backend = o->backend, .isa = o->isa, .n_threads = o->n_threads, .exact = o->exact}, err);
    int widest = slm2_max_int(slm2_max_int(cfg->vocab_size, cfg->intermediate_size), cfg->hidden_size);
    if (st == SLM2_OK) st = slm2_ctx_reserve(&s->ctx, slm2_ops_scratch_floats(widest, max_len, cfg->head_dim), err);
    if (st == SLM2_OK) st = slm2_acts_new(&s->acts, m, &s->ctx, SLM2_INFER, SLM2_F32, max_tok, LOGIT_ROWS, err);
    if (st == SLM2_OK) st = slm2_batch_init(&s->batch, max_tok, max_tok, err);
    if (st == SLM2_OK) {
        s->jobs = calloc((size_t)max_tok, sizeof *s->jobs);
        s->lp = calloc((size_t)max_tok, sizeof *s->lp);
        s->argmax = calloc((size_t)max_tok, sizeof *s->argmax);
        s->text = calloc((size_t)max_len + 1, sizeof *s->text);
        s->target = calloc((size_t)max_len, sizeof *s->target);
        if (!s->jobs || !s->lp || !s->argmax || !s->text || !s->target) st = slm2_fail(err, SLM2_ENOMEM, "no memory for scoring %d tokens at once", max_tok);
    }
    if (st == SLM2_OK) *out = s;
    else slm2_scorer_free(s);
    return st;
}

void slm2_scorer_free(struct slm2_scorer *s)
{
    if (!s) return;
    slm2_batch_free(&s->batch);
    slm2_acts_free(s->acts);
    slm2_ctx_free(&s->ctx);
    free(s->jobs);
    free(s->lp);
    free(s->argmax);
    free(s->text);
    free(s->target);
    free(s);
}

int slm2_scorer_max_len(const struct slm2_scorer *s) { return s->max_len; }

/* ---- the batch ------------------------------------------------------------------------------------------------------ */
/* Computes what the batch holds and adds it up. */
static void flush(struct slm2_scorer *s)
{
    const struct slm2_batch *b = &s->batch;
    if (b->n_tok > 0) {
        slm2_model_forward(s->m, s->acts, b, NULL, NULL);
        slm2_model_logprob(s->m, s->acts, b, s->lp, s->argmax);
    }
    for (int k = 0; k < b->n_seq; k++) {
        const struct job *j = &s->jobs[k];
        double sum = 0;
        for (int i = 0; i < j->n; i++) {
            sum += (double)s->lp[j->row + i];
            if (j->logprobs) j->logprobs[i] = s->lp[j->row + i];
            if (j->is_greedy && s->argmax[j->row + i] != b->target[j->row + i]) *j->is_greedy = false;
        }
        *j->sum += sum;
        if (j->window_sum) *j->window_sum += sum;
    }
    slm2_batch_clear(&s->batch);
}

/* A sequence x[0 .. n_input) that predicts x[1 .. n_input]; the last j.n predictions count. */
static slm2_status add(struct slm2_scorer *s, const int32_t *x, int n_input, struct job j, struct slm2_err *err)
{
    if (n_input > s->batch.max_tok - s->batch.n_tok) flush(s);
    for (int i = 0; i < n_input; i++) s->target[i] = i >= n_input - j.n ? x[i + 1] : -1;
    j.row = s->batch.n_tok + n_input - j.n;
    s->jobs[s->batch.n_seq] = j;
    return slm2_batch_add(&s->batch, x, s->target, NULL, n_input, err);
}

static slm2_status check_ids(const struct slm2_scorer *s, const int32_t *ids, size_t n, struct slm2_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= s->m->cfg.vocab_size)
            return slm2_fail(err, SLM2_EFORMAT, "token %zu is id %d, this model knows 0 to %d; is the tokenizer another model's?", i, ids[i], s->m->cfg.vocab_size - 1);
    }
    return SLM2_OK;
}

/* ---- continuations -------------------------------------------------------------------------------------------------- */
static slm2_status add_score(struct slm2_scorer *s, struct slm2_score *v, struct slm2_err *err)
{
    const int32_t *context = v->n_context ? v->context : &s->prefix_id;
    int n_context = v->n_context ? v->n_context : 1, keep = s->max_len + 1;
    if (v->n_continuation < 1) return slm2_fail(err, SLM2_EFORMAT, "a continuation has no token");
    SLM2_TRY(check_ids(s, context, (size_t)n_context, err));
    SLM2_TRY(check_ids(s, v->continuation, (size_t)v->n_continuation, err));
    int from_continuation = slm2_min_int(v->n_continuation, keep), from_context = slm2_min_int(n_context, keep - from_continuation);
    memcpy(s->text, context + (n_context - from_context), sizeof *s->text * (size_t)from_context);
    memcpy(s->text + from_context, v->continuation + (v->n_continuation - from_continuation), sizeof *s->text * (size_t)from_continuation);
    int n_input = from_context + from_continuation - 1;
    v->n_scored = slm2_min_int(v->n_continuation, n_input);
    v->loglikelihood = 0;
    v->is_greedy = true;
    int lost = v->n_continuation - v->n_scored;
    for (int i = 0; v->logprobs && i < lost; i++) v->logprobs[i] = 0;
    return add(s, s->text, n_input, (struct job){.n = v->n_scored, .sum = &v->loglikelihood, .logprobs = v->logprobs ? v->logprobs + lost : NULL, .is_greedy = &v->is_greedy}, err);
}

slm2_status slm2_score(struct slm2_scorer *s, struct slm2_score *v, int n, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    slm2_batch_clear(&s->batch);
    for (int i = 0; i < n && st == SLM2_OK; i++) st = add_score(s, &v[i], err);
    if (st == SLM2_OK) flush(s);
    return st;
}

/* ---- long texts ------------------------------------------------------------------------------------------------------ */
size_t slm2_score_n_windows(size_t n, int window, int stride)
{
    size_t w = (size_t)window, step = stride > 0 ? (size_t)stride : w;
    if (n == 0) return 0;
    if (stride <= 0) return (n + w - 1) / w;
    return n + 1 <= w ? 1 : 1 + (n + 1 - w + step - 1) / step;
}

slm2_status slm2_score_stream(struct slm2_scorer *s, const int32_t *ids, size_t n, int window, int stride, double *sum, float *logprobs, struct slm2_window *windows, struct slm2_err *err)
{
    if (window == 0) window = s->max_len;
    if (window < 1 || window > s->max_len) return slm2_fail(err, SLM2_EUSAGE, "a window of %d tokens, want 1 to %d", window, s->max_len);
    if (stride < 0 || stride >= window + (stride == 0)) return slm2_fail(err, SLM2_EUSAGE, "a stride of %d tokens, want less than the window's %d, or 0 for disjoint windows", stride, window);
    SLM2_TRY(check_ids(s, ids, n, err));
    size_t bytes;
    if (!slm2_mul_size(n + 1, sizeof(int32_t), &bytes)) return slm2_fail(err, SLM2_ELIMIT, "a text of %zu tokens is too long", n);
    int32_t *x = malloc(bytes);
    if (!x) return slm2_fail(err, SLM2_ENOMEM, "no memory for a text of %zu tokens", n);
    x[0] = s->prefix_id;
    if (n) memcpy(x + 1, ids, bytes - sizeof *x);
    slm2_batch_clear(&s->batch);
    *sum = 0;
    slm2_status st = SLM2_OK;
    size_t done = 0; /* tokens predicted so far: x[1 .. done] */
    for (size_t k = 0; done < n && st == SLM2_OK; k++) {
        size_t begin = stride ? k * (size_t)stride : done;
        size_t last = slm2_min_size(begin + (size_t)window - (stride > 0), n); /* the last token this window predicts */
        struct job j = {.n = (int)(last - done), .sum = sum, .logprobs = logprobs ? logprobs + done : NULL};
        if (windows) {
            windows[k] = (struct slm2_window){.n_input = (int)(last - begin) + (stride > 0), .n_scored = j.n};
            j.window_sum = &windows[k].sum_logprob;
        }
        st = add(s, x + begin, (int)(last - begin), j, err);
        done = last;
    }
    if (st == SLM2_OK) flush(s);
    free(x);
    return st;
}
