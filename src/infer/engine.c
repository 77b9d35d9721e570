/* engine.c - sequences that grow token by token over one model: a slot of the key/value cache each.
 * Everything is allocated by slm2_engine_new; feeding and decoding allocate nothing.  A call that fails moves no sequence. */
#include "infer/engine.h"

#include <stdlib.h>

#include "base/num.h"

enum { LOGIT_ROWS = 16 }; /* rows of the head computed at once */

struct slm2_engine {
    const struct slm2_model *m;
    struct slm2_ctx ctx;
    struct slm2_acts *acts;
    struct slm2_kv kv;
    struct slm2_batch batch;
    int32_t *slot;   /* [max(n_seq, 1)] cache slot of each sequence of the batch */
    int32_t *n_past; /* [n_seq] */
    bool *busy;      /* [n_seq] scratch of step: sequences named so far */
    int n_ctx, n_seq, n_batch, step_rows; /* step_rows: sequences of one pass in step */
};

struct slm2_engine_opts slm2_engine_opts_default(void)
{
    return (struct slm2_engine_opts){.n_ctx = 0, .n_seq = 1, .n_batch = 512, .n_threads = 0};
}

slm2_status slm2_engine_new(struct slm2_engine **e, const struct slm2_model *m, const struct slm2_engine_opts *o, struct slm2_err *err)
{
    return slm2_engine_new_setup(e, m, o, NULL, err);
}

enum slm2_dtype slm2_engine_kv_auto(const struct slm2_model *m, bool exact)
{
    enum slm2_dtype t = slm2_params_get(&m->params, SLM2_P_Q_W, 0)->w.dtype;
    return exact || t == SLM2_F32 ? SLM2_F32 : t == SLM2_F16 ? SLM2_F16 : SLM2_BF16;
}

static bool kv_supported(enum slm2_dtype t, int head_dim)
{
    return t == SLM2_F32 || t == SLM2_F16 || t == SLM2_BF16 || (t == SLM2_Q8_0 && head_dim % SLM2_QK == 0);
}

slm2_status slm2_engine_new_setup(struct slm2_engine **out, const struct slm2_model *m, const struct slm2_engine_opts *o, const struct slm2_engine_setup *setup, struct slm2_err *err)
{
    const struct slm2_config *cfg = &m->cfg;
    struct slm2_engine_setup best = {.kv_dtype = slm2_engine_kv_auto(m, false)};
    if (!setup) setup = &best;
    *out = NULL;
    if (o->n_ctx < 0 || o->n_ctx > cfg->n_ctx)
        return slm2_fail(err, SLM2_EUSAGE, "engine: n_ctx is %d, this model allows 1 to %d (0: all of it)", o->n_ctx, cfg->n_ctx);
    if (o->n_seq < 1 || o->n_seq > 4096) return slm2_fail(err, SLM2_EUSAGE, "engine: n_seq is %d, want 1 to 4096", o->n_seq);
    if (o->n_batch < 1 || o->n_batch > 65536) return slm2_fail(err, SLM2_EUSAGE, "engine: n_batch is %d, want 1 to 65536", o->n_batch);
    if (!kv_supported(setup->kv_dtype, cfg->head_dim))
        return slm2_fail(err, SLM2_EUSAGE, "engine: the cache holds F32, F16, BF16 or, when the heads' size (here %d) is a multiple of %d, Q8_0; not %s", cfg->head_dim, SLM2_QK, slm2_dtype_info[setup->kv_dtype].name);

    struct slm2_engine *e = calloc(1, sizeof *e);
    if (!e) return slm2_fail(err, SLM2_ENOMEM, "engine: no memory");
    e->m = m;
    e->n_ctx = o->n_ctx ? o->n_ctx : cfg->n_ctx;
    e->n_seq = o->n_seq;
    e->n_batch = slm2_min_int(o->n_batch, e->n_ctx);
    e->step_rows = slm2_min_int(e->n_seq, 64);
    int max_tok = slm2_max_int(e->n_batch, e->step_rows);
    int widest = slm2_max_int(slm2_max_int(cfg->vocab_size, cfg->intermediate_size), cfg->hidden_size);

    slm2_status st = SLM2_OK;
    e->slot = calloc((size_t)e->n_seq, sizeof *e->slot);
    e->n_past = calloc((size_t)e->n_seq, sizeof *e->n_past);
    e->busy = calloc((size_t)e->n_seq, sizeof *e->busy);
    if (!e->slot || !e->n_past || !e->busy) st = slm2_fail(err, SLM2_ENOMEM, "engine: no memory for %d sequences", e->n_seq);
    if (!st) st = slm2_ctx_init(&e->ctx, &(struct slm2_ctx_opts){.backend = setup->backend, .isa = setup->isa, .n_threads = o->n_threads, .exact = setup->exact}, err);
    if (!st) st = slm2_ctx_reserve(&e->ctx, slm2_ops_scratch_floats(widest, e->n_ctx, cfg->head_dim), err);
    if (!st) st = slm2_acts_new(&e->acts, m, &e->ctx, SLM2_INFER, SLM2_F32, max_tok, slm2_min_int(max_tok, LOGIT_ROWS), err);
    if (!st) st = slm2_kv_init(&e->kv, cfg, e->n_seq, e->n_ctx, setup->kv_dtype, err);
    if (!st) st = slm2_batch_init(&e->batch, max_tok, e->step_rows, err);
    if (st) {
        slm2_engine_free(e);
        return st;
    }
    *out = e;
    return SLM2_OK;
}

void slm2_engine_free(struct slm2_engine *e)
{
    if (!e) return;
    slm2_batch_free(&e->batch);
    slm2_kv_free(&e->kv);
    slm2_acts_free(e->acts);
    slm2_ctx_free(&e->ctx);
    free(e->busy);
    free(e->n_past);
    free(e->slot);
    free(e);
}

int slm2_engine_n_past(const struct slm2_engine *e, int seq)
{
    return seq >= 0 && seq < e->n_seq ? e->n_past[seq] : 0;
}

void slm2_engine_rewind(struct slm2_engine *e, int seq, int n_past)
{
    if (seq < 0 || seq >= e->n_seq || n_past >= e->n_past[seq]) return;
    e->n_past[seq] = n_past < 0 ? 0 : n_past; /* rows behind it are overwritten when their positions come again */
}

int slm2_engine_n_ctx(const struct slm2_engine *e)
{
    return e->n_ctx;
}

int slm2_engine_vocab_size(const struct slm2_engine *e)
{
    return e->m->cfg.vocab_size;
}

int slm2_engine_n_seq(const struct slm2_engine *e)
{
    return e->n_seq;
}

int slm2_engine_n_threads(const struct slm2_engine *e)
{
    return e->ctx.n_threads;
}

size_t slm2_engine_kv_bytes(const struct slm2_engine *e, int n_tok)
{
    size_t row = 0;
    for (int i = 0; i < e->m->cfg.n_layer; i++) row += slm2_mat_row_bytes(&e->kv.k[i]) + slm2_mat_row_bytes(&e->kv.v[i]);
    return row * (size_t)n_tok;
}

/* ---- checks before anything moves --------------------------------------------------------------------------------- */
static slm2_status check_seq(const struct slm2_engine *e, int seq, int n_tok, struct slm2_err *err)
{
    if (seq < 0 || seq >= e->n_seq) return slm2_fail(err, SLM2_EUSAGE, "engine: sequence %d, this engine has 0 to %d", seq, e->n_seq - 1);
    if (n_tok > e->n_ctx - e->n_past[seq])
        return slm2_fail(err, SLM2_ELIMIT, "the context is full: %d tokens and %d new ones, it holds %d", e->n_past[seq], n_tok, e->n_ctx);
    return SLM2_OK;
}

static slm2_status check_ids(const struct slm2_engine *e, const int32_t *tok, int n, struct slm2_err *err)
{
    for (int i = 0; i < n; i++)
        if (tok[i] < 0 || tok[i] >= e->m->cfg.vocab_size)
            return slm2_fail(err, SLM2_EUSAGE, "token %d of the input is id %d, this model knows 0 to %d", i, tok[i], e->m->cfg.vocab_size - 1);
    return SLM2_OK;
}

/* ---- feeding ------------------------------------------------------------------------------------------------------ */
/* One sequence, at most n_batch tokens, in range. */
static void feed_chunk(struct slm2_engine *e, int seq, const int32_t *tok, int n)
{
    struct slm2_batch *b = &e->batch;
    b->n_tok = n;
    b->n_seq = 1;
    b->cu_seqlens[0] = 0;
    b->cu_seqlens[1] = n;
    for (int i = 0; i < n; i++) {
        b->ids[i] = tok[i];
        b->position[i] = e->n_past[seq] + i;
        b->target[i] = -1;
        b->weight[i] = 0.0f;
    }
    e->slot[0] = seq;
    slm2_model_forward(e->m, e->acts, b, &e->kv, e->slot);
    e->n_past[seq] += n;
}

static slm2_status feed(struct slm2_engine *e, int seq, const int32_t *tok, int n_tok, float *last, float *all, struct slm2_err *err)
{
    SLM2_TRY(check_seq(e, seq, n_tok, err));
    if (n_tok < 0 || (n_tok == 0 && (last || all))) return slm2_fail(err, SLM2_EUSAGE, "engine: no token to compute logits of");
    SLM2_TRY(check_ids(e, tok, n_tok, err));
    size_t vocab = (size_t)e->m->cfg.vocab_size;
    for (int at = 0; at < n_tok; at += e->n_batch) {
        int n = slm2_min_int(e->n_batch, n_tok - at);
        feed_chunk(e, seq, tok + at, n);
        for (int row = 0; all && row < n; row += LOGIT_ROWS)
            slm2_model_logits(e->m, e->acts, row, slm2_min_int(LOGIT_ROWS, n - row), all + (size_t)(at + row) * vocab);
        if (last && at + n == n_tok) slm2_model_logits(e->m, e->acts, n - 1, 1, last);
    }
    return SLM2_OK;
}

slm2_status slm2_engine_feed(struct slm2_engine *e, int seq, const int32_t *tok, int n_tok, float *logits, struct slm2_err *err)
{
    return feed(e, seq, tok, n_tok, logits, NULL, err);
}

slm2_status slm2_engine_feed_all(struct slm2_engine *e, int seq, const int32_t *tok, int n_tok, float *logits, struct slm2_err *err)
{
    return feed(e, seq, tok, n_tok, NULL, logits, err);
}

/* Everything that step promises about its arguments; leaves busy cleared. */
static slm2_status check_step(struct slm2_engine *e, int n, const int *seq, const int32_t *tok, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    int named = 0;
    if (n < 0 || n > e->n_seq) return slm2_fail(err, SLM2_EUSAGE, "engine: a step of %d sequences, this engine has %d", n, e->n_seq);
    for (; !st && named < n; named++) {
        if ((st = check_seq(e, seq[named], 1, err)) != SLM2_OK) break;
        if (e->busy[seq[named]]) {
            st = slm2_fail(err, SLM2_EUSAGE, "engine: sequence %d twice in one step", seq[named]);
            break;
        }
        e->busy[seq[named]] = true;
    }
    for (int i = 0; i < named; i++) e->busy[seq[i]] = false;
    return st ? st : check_ids(e, tok, n, err);
}

slm2_status slm2_engine_step(struct slm2_engine *e, int n, const int *seq, const int32_t *tok, float *logits, struct slm2_err *err)
{
    SLM2_TRY(check_step(e, n, seq, tok, err));
    struct slm2_batch *b = &e->batch;
    size_t vocab = (size_t)e->m->cfg.vocab_size;
    for (int at = 0; at < n; at += e->step_rows) {
        int rows = slm2_min_int(e->step_rows, n - at);
        b->n_tok = b->n_seq = rows;
        b->cu_seqlens[0] = 0;
        for (int i = 0; i < rows; i++) {
            b->ids[i] = tok[at + i];
            b->position[i] = e->n_past[seq[at + i]]++;
            b->target[i] = -1;
            b->weight[i] = 0.0f;
            b->cu_seqlens[i + 1] = i + 1;
            e->slot[i] = seq[at + i];
        }
        slm2_model_forward(e->m, e->acts, b, &e->kv, e->slot);
        for (int row = 0; row < rows; row += LOGIT_ROWS)
            slm2_model_logits(e->m, e->acts, row, slm2_min_int(LOGIT_ROWS, rows - row), logits + (size_t)(at + row) * vocab);
    }
    return SLM2_OK;
}
