/* score.c - requests and windows become pieces: an input and how many of its last rows predict something that counts.
 *
 * Pieces of requests are walked in the order of their tokens, as one walks a tree of common beginnings.  The path is the input of the piece at hand:
 * where in the cache the rows of each of its tokens lie.  The next piece keeps of it what both have in common and adds its own tokens to the
 * batch.  A full batch is computed; the path's rows then move to the front of the cache, all others are forgotten.  A piece that does
 * not fit is cut: its rest goes on from the path in the next batch.  Prefill = decoding, bit for bit, is what makes all this exact.
 * Windows of a long text have no beginnings in common: they go through whole batches without a cache. */
#include "eval/score.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum {
    LOGIT_ROWS = 64, /* rows of the head computed at once */
    MAX_RUNS = 16,   /* pieces that a sequence's keys may lie in; a path of more is shared as far as this goes */
};

struct piece {
    const int32_t *x;       /* [n_input + 1]; the rows up to x[i] predict x[i + 1] */
    int n_input, n_scored, n_left; /* n_left: predictions that are still to come */
    float *lp;              /* [n_scored] */
    bool is_greedy;
    int request;            /* its place in the caller's list */
};
struct pair { int piece, k; }; /* prediction k of a piece */

struct slm2_scorer {
    const struct slm2_model *m;
    struct slm2_ctx ctx;
    struct slm2_acts *acts;
    struct slm2_batch batch;
    struct slm2_kv kv;      /* one slot of kv.n_ctx rows; none until beginnings are shared */
    int max_len, batch_tokens;
    int32_t prefix_id;
    bool one_by_one;
    struct slm2_scorer_work work;
    /* of the batch; [max_tok], predictions [2 * max_tok] */
    int max_tok, n_pair, n_run, n_row; /* n_row: rows of the cache in use */
    struct slm2_run *run;
    int32_t *cu_runs, *at, *pair_row, *pair_target, *argmax;
    struct pair *pair;
    float *lp;
    /* the path; [max_len] */
    const int32_t *path;
    int n_path;
    int32_t *path_at, *path_row; /* cache row; row in the batch, or -1: of an earlier one */
};

struct job { /* pieces being scored */
    struct piece *v;
    float *lp;    /* of all pieces */
    int n;
    bool share;
    struct slm2_score *scores; /* of requests, or NULL */
    const struct slm2_score_watch *watch;
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
    struct slm2_scorer *s = calloc(1, sizeof *s);
    if (!s) return slm2_fail(err, SLM2_ENOMEM, "no memory for scoring");
    *s = (struct slm2_scorer){.m = m, .max_len = max_len, .batch_tokens = o->batch_tokens > 0 ? o->batch_tokens : 1024, .prefix_id = prefix, .one_by_one = o->one_by_one};
    slm2_status st = slm2_ctx_init(&s->ctx, &(struct slm2_ctx_opts){.backend = o->backend, .isa = o->isa, .n_threads = o->n_threads, .exact = o->exact}, err);
    int widest = slm2_max_int(slm2_max_int(cfg->vocab_size, cfg->intermediate_size), cfg->hidden_size);
    if (st == SLM2_OK) st = slm2_ctx_reserve(&s->ctx, slm2_ops_scratch_floats(widest, max_len, cfg->head_dim), err);
    if (st == SLM2_OK) *out = s;
    else slm2_scorer_free(s);
    return st;
}

static void batch_free(struct slm2_scorer *s)
{
    slm2_batch_free(&s->batch);
    slm2_acts_free(s->acts);
    void *owned[] = {s->run, s->cu_runs, s->at, s->pair_row, s->pair_target, s->argmax, s->pair, s->lp, s->path_at, s->path_row};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) free(owned[i]);
    s->acts = NULL;
    s->run = NULL, s->pair = NULL, s->lp = NULL;
    s->cu_runs = s->at = s->pair_row = s->pair_target = s->argmax = s->path_at = s->path_row = NULL;
    s->max_tok = 0;
}

void slm2_scorer_free(struct slm2_scorer *s)
{
    if (!s) return;
    batch_free(s);
    slm2_kv_free(&s->kv);
    slm2_ctx_free(&s->ctx);
    free(s);
}

struct slm2_scorer_work slm2_scorer_work(const struct slm2_scorer *s) { return s->work; }

/* Room for batches of n_tok tokens and, with rows > 0, a cache of so many. */
static slm2_status reserve(struct slm2_scorer *s, int n_tok, int rows, struct slm2_err *err)
{
    if (n_tok > s->max_tok) {
        size_t n = (size_t)n_tok, len = (size_t)s->max_len;
        batch_free(s);
        SLM2_TRY(slm2_acts_new(&s->acts, s->m, &s->ctx, SLM2_INFER, SLM2_F32, n_tok, LOGIT_ROWS, err));
        SLM2_TRY(slm2_batch_init(&s->batch, n_tok, n_tok, err));
        s->run = calloc(n * MAX_RUNS, sizeof *s->run);
        s->cu_runs = calloc(n + 1, sizeof *s->cu_runs);
        s->at = calloc(n, sizeof *s->at);
        s->pair_row = calloc(2 * n, sizeof *s->pair_row);
        s->pair_target = calloc(2 * n, sizeof *s->pair_target);
        s->argmax = calloc(2 * n, sizeof *s->argmax);
        s->pair = calloc(2 * n, sizeof *s->pair);
        s->lp = calloc(2 * n, sizeof *s->lp);
        s->path_at = calloc(len, sizeof *s->path_at);
        s->path_row = calloc(len, sizeof *s->path_row);
        if (!s->run || !s->cu_runs || !s->at || !s->pair_row || !s->pair_target || !s->argmax || !s->pair || !s->lp || !s->path_at || !s->path_row)
            return slm2_fail(err, SLM2_ENOMEM, "no memory for scoring %d tokens at once", n_tok);
        s->max_tok = n_tok;
    }
    if (rows <= s->kv.n_ctx) return SLM2_OK;
    slm2_kv_free(&s->kv);
    return slm2_kv_init(&s->kv, &s->m->cfg, 1, rows, SLM2_F32, err);
}

/* ---- the batch ------------------------------------------------------------------------------------------------------ */
static void finish(struct job *job, struct piece *p)
{
    if (!job->scores) return;
    struct slm2_score *v = &job->scores[p->request];
    v->loglikelihood = 0;
    v->is_greedy = p->is_greedy;
    for (int k = 0; k < p->n_scored; k++) v->loglikelihood += (double)p->lp[k];
    if (v->logprobs) memcpy(v->logprobs + (v->n_continuation - v->n_scored), p->lp, sizeof *p->lp * (size_t)p->n_scored);
}

/* The rows of the path move to the front of the cache. */
static void keep_path(struct slm2_scorer *s)
{
    for (int i = 0, n; i < s->n_path; i += n) {
        for (n = 1; i + n < s->n_path && s->path_at[i + n] == s->path_at[i] + n;) n++;
        slm2_kv_move(&s->kv, i, s->path_at[i], n); /* rows come in ascending order, none before its place on the path */
    }
    for (int i = 0; i < s->n_path; i++) s->path_at[i] = i, s->path_row[i] = -1;
    s->n_row = s->n_path;
}

/* Computes what the batch holds and hands out the answers. */
static slm2_status flush(struct slm2_scorer *s, struct job *job, struct slm2_err *err)
{
    struct slm2_batch *b = &s->batch;
    slm2_status st = SLM2_OK;
    if (b->n_tok > 0) {
        if (job->share) slm2_model_forward_at(s->m, s->acts, b, &s->kv, &(struct slm2_kv_place){s->at, s->run, s->cu_runs});
        else slm2_model_forward(s->m, s->acts, b, NULL, NULL);
        if (s->n_pair > 0) slm2_model_logprob_at(s->m, s->acts, s->pair_row, s->pair_target, s->n_pair, s->lp, s->argmax);
        s->work.n_passes++;
        s->work.n_tokens += b->n_tok;
    }
    for (int i = 0; i < s->n_pair && st == SLM2_OK; i++) {
        struct piece *p = &job->v[s->pair[i].piece];
        p->lp[s->pair[i].k] = s->lp[i];
        if (s->argmax[i] != s->pair_target[i]) p->is_greedy = false;
        if (--p->n_left > 0) continue;
        finish(job, p);
        if (job->watch) st = job->watch->call(job->watch->user, p->request, err);
    }
    if (st == SLM2_OK && b->n_tok > 0 && job->watch) st = job->watch->call(job->watch->user, -1, err);
    slm2_batch_clear(b);
    s->n_pair = s->n_run = 0;
    if (job->share) keep_path(s);
    return st;
}

/* Predictions of piece i at the positions [from, to) of the path, all in the batch. */
static void add_pairs(struct slm2_scorer *s, const struct job *job, int i, int from, int to)
{
    const struct piece *p = &job->v[i];
    int first = p->n_input - p->n_scored;
    for (int pos = slm2_max_int(from, first); pos < to; pos++, s->n_pair++) {
        s->pair[s->n_pair] = (struct pair){i, pos - first};
        s->pair_row[s->n_pair] = s->path_row[pos];
        s->pair_target[s->n_pair] = p->x[pos + 1];
    }
}

/* n tokens of piece i behind the path join batch and path. */
static slm2_status extend(struct slm2_scorer *s, const struct job *job, int i, int n, struct slm2_err *err)
{
    const struct piece *p = &job->v[i];
    struct slm2_batch *b = &s->batch;
    int from = s->n_path, row = b->n_tok;
    SLM2_TRY(slm2_batch_add(b, p->x + from, NULL, NULL, n, err));
    for (int k = 0; k < n; k++) {
        b->position[row + k] = from + k;
        s->path_row[from + k] = row + k;
        s->path_at[from + k] = s->at[row + k] = s->n_row++;
    }
    s->n_path += n;
    for (int k = 0; k < s->n_path; k++) {
        if (k > 0 && s->path_at[k] == s->path_at[k - 1] + 1) s->run[s->n_run - 1].n++;
        else s->run[s->n_run++] = (struct slm2_run){s->path_at[k], 1};
    }
    s->cu_runs[b->n_seq] = s->n_run;
    add_pairs(s, job, i, from, s->n_path);
    return SLM2_OK;
}

/* How much of the path the next piece can use. */
static int common(const struct slm2_scorer *s, const struct piece *p)
{
    int n = 0, first = p->n_input - p->n_scored, most = slm2_min_int(s->n_path, p->n_input);
    while (n < most && p->x[n] == s->path[n]) n++;
    if (n > first && s->path_row[first] < 0) n = first; /* what predicts must be in the batch */
    for (int k = 1, runs = 1; k < n; k++)
        if (s->path_at[k] != s->path_at[k - 1] + 1 && ++runs == MAX_RUNS) return k;
    return n;
}

static slm2_status add(struct slm2_scorer *s, struct job *job, int i, struct slm2_err *err)
{
    const struct piece *p = &job->v[i];
    s->n_path = job->share ? common(s, p) : 0;
    if (s->n_pair > s->max_tok || (!job->share && p->n_input > s->max_tok - s->batch.n_tok)) {
        SLM2_TRY(flush(s, job, err));
        if (job->share) s->n_path = slm2_min_int(s->n_path, p->n_input - p->n_scored);
    }
    s->path = p->x;
    add_pairs(s, job, i, 0, s->n_path);
    while (s->n_path < p->n_input) {
        if (s->batch.n_tok == s->max_tok) SLM2_TRY(flush(s, job, err));
        SLM2_TRY(extend(s, job, i, slm2_min_int(p->n_input - s->n_path, s->max_tok - s->batch.n_tok), err));
    }
    return s->one_by_one ? flush(s, job, err) : SLM2_OK;
}

static int by_tokens(const void *a, const void *b)
{
    const struct piece *p = a, *q = b;
    for (int i = 0; i < p->n_input && i < q->n_input; i++)
        if (p->x[i] != q->x[i]) return p->x[i] < q->x[i] ? -1 : 1;
    if (p->n_input != q->n_input) return p->n_input < q->n_input ? -1 : 1;
    return p->request < q->request ? -1 : p->request > q->request;
}

/* Gives the pieces their places for log p, and scores them. */
static slm2_status run(struct slm2_scorer *s, struct job *job, struct slm2_err *err)
{
    size_t n_lp = 0;
    int longest = 1;
    for (int i = 0; i < job->n; i++) {
        n_lp += (size_t)job->v[i].n_scored;
        longest = slm2_max_int(longest, job->v[i].n_input);
        s->work.n_asked += job->v[i].n_input;
    }
    int n_tok = job->share ? s->batch_tokens : slm2_max_int(s->batch_tokens, longest);
    SLM2_TRY(reserve(s, n_tok, job->share ? slm2_max_int(s->max_tok, n_tok) + longest : 0, err));
    job->lp = malloc(sizeof *job->lp * (n_lp + 1));
    if (!job->lp) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu log-probabilities", n_lp);
    n_lp = 0;
    for (int i = 0; i < job->n; i++) {
        struct piece *p = &job->v[i];
        p->lp = job->lp + n_lp;
        p->n_left = p->n_scored;
        p->is_greedy = true;
        n_lp += (size_t)p->n_scored;
    }
    if (job->share && job->n > 0) qsort(job->v, (size_t)job->n, sizeof *job->v, by_tokens);
    slm2_batch_clear(&s->batch);
    s->n_pair = s->n_run = s->n_row = s->n_path = 0;
    slm2_status st = SLM2_OK;
    for (int i = 0; i < job->n && st == SLM2_OK; i++) st = add(s, job, i, err);
    s->n_path = 0;
    return st == SLM2_OK ? flush(s, job, err) : st;
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
/* The piece of a request; its tokens go to x, which has room for them. */
static void cut(const struct slm2_scorer *s, struct slm2_score *v, struct piece *p, int32_t *x)
{
    const int32_t *context = v->n_context ? v->context : &s->prefix_id;
    int n_context = v->n_context ? v->n_context : 1, keep = s->max_len + 1;
    int from_continuation = slm2_min_int(v->n_continuation, keep), from_context = slm2_min_int(n_context, keep - from_continuation);
    memcpy(x, context + (n_context - from_context), sizeof *x * (size_t)from_context);
    memcpy(x + from_context, v->continuation + (v->n_continuation - from_continuation), sizeof *x * (size_t)from_continuation);
    p->x = x;
    p->n_input = from_context + from_continuation - 1;
    p->n_scored = v->n_scored = slm2_min_int(v->n_continuation, p->n_input);
    for (int i = 0; v->logprobs && i < v->n_continuation - v->n_scored; i++) v->logprobs[i] = 0;
}

slm2_status slm2_score(struct slm2_scorer *s, struct slm2_score *v, int n, const struct slm2_score_watch *watch, struct slm2_err *err)
{
    size_t n_tok = 0;
    for (int i = 0; i < n; i++) {
        if (v[i].n_continuation < 1) return slm2_fail(err, SLM2_EFORMAT, "a continuation has no token");
        SLM2_TRY(check_ids(s, v[i].context, (size_t)v[i].n_context, err));
        SLM2_TRY(check_ids(s, v[i].continuation, (size_t)v[i].n_continuation, err));
        n_tok += (size_t)slm2_min_int(s->max_len, v[i].n_context + v[i].n_continuation) + 1;
    }
    struct job job = {.v = calloc((size_t)n + 1, sizeof *job.v), .n = n, .share = !s->one_by_one, .scores = v, .watch = watch};
    int32_t *x = malloc(sizeof *x * (n_tok + 1)), *at = x;
    slm2_status st = job.v && x ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %d requests of %zu tokens", n, n_tok);
    for (int i = 0; i < n && st == SLM2_OK; i++) {
        cut(s, &v[i], &job.v[i], at);
        at += job.v[i].n_input + 1;
        job.v[i].request = i;
    }
    if (st == SLM2_OK) st = run(s, &job, err);
    free(job.v);
    free(job.lp);
    free(x);
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

/* Adds up: tokens in order in each window, windows in order. */
static void add_up(const struct job *job, int stride, double *sum, float *logprobs, struct slm2_window *windows)
{
    for (int k = 0, done = 0; k < job->n; done += job->v[k++].n_scored) {
        const struct piece *p = &job->v[k];
        double of_window = 0;
        for (int i = 0; i < p->n_scored; i++) of_window += (double)p->lp[i]; /* NOLINT(clang-analyzer-core.uninitialized.Assign): all n_scored were computed */
        *sum += of_window;
        if (windows) windows[k] = (struct slm2_window){.n_input = p->n_input + (stride > 0), .n_scored = p->n_scored, .sum_logprob = of_window};
        if (logprobs) memcpy(logprobs + done, p->lp, sizeof *logprobs * (size_t)p->n_scored);
    }
}

slm2_status slm2_score_stream(struct slm2_scorer *s, const int32_t *ids, size_t n, int window, int stride, double *sum, float *logprobs, struct slm2_window *windows, struct slm2_err *err)
{
    if (window == 0) window = s->max_len;
    if (window < 1 || window > s->max_len) return slm2_fail(err, SLM2_EUSAGE, "a window of %d tokens, want 1 to %d", window, s->max_len);
    if (stride < -1 || stride >= window + (stride == 0)) return slm2_fail(err, SLM2_EUSAGE, "a stride of %d tokens, want less than the window's %d, or 0 for disjoint windows", stride, window);
    SLM2_TRY(check_ids(s, ids, n, err));
    size_t bytes, n_windows = slm2_score_n_windows(n, window, stride);
    if (!slm2_mul_size(n + 1, sizeof(int32_t), &bytes) || n > INT32_MAX) return slm2_fail(err, SLM2_ELIMIT, "a text of %zu tokens is too long", n);
    struct job job = {.v = calloc(n_windows + 1, sizeof *job.v), .n = (int)n_windows};
    int32_t *x = malloc(bytes);
    slm2_status st = x && job.v ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for a text of %zu tokens", n);
    if (st != SLM2_OK) goto done;
    x[0] = s->prefix_id;
    if (n) memcpy(x + 1, ids, bytes - sizeof *x);
    *sum = 0;
    size_t done = 0; /* tokens predicted so far: x[1 .. done] */
    for (int k = 0; k < job.n; k++) {
        size_t begin = stride > 0 ? (size_t)k * (size_t)stride : done;
        size_t last = slm2_min_size(begin + (size_t)window - (stride > 0), n); /* the last token this window predicts */
        if (stride < 0 && k > 0) begin = last - (size_t)window; /* the last window reaches back as far as it is short */
        job.v[k] = (struct piece){.x = x + begin, .n_input = (int)(last - begin), .n_scored = (int)(last - done), .request = k};
        done = last;
    }
    st = run(s, &job, err);
    if (st == SLM2_OK) add_up(&job, stride, sum, logprobs, windows);
done:
    free(job.v);
    free(job.lp);
    free(x);
    return st;
}
