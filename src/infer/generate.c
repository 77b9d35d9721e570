/* generate.c - prompt in, answer out.  Text leaves as soon as it is certain and never contains a piece of a stop string. */
#include "infer/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"

const char *slm2_gen_end_name(enum slm2_gen_end end)
{
    static const char *const names[] = {"length", "context", "stop", "stop_string", "interrupt"};
    return names[end];
}

/* ---- stop strings ------------------------------------------------------------------------------------------------- */
/* A stop string that begins at held[at]: whole, or (part) as far as held goes. */
static bool stop_at(const struct slm2_stop_filter *f, size_t at, bool part)
{
    size_t left = f->held.n - at;
    for (int i = 0; i < f->n_stop; i++) {
        size_t n = strlen(f->stop[i]);
        if (n && (part || n <= left) && memcmp(f->held.v + at, f->stop[i], slm2_min_size(n, left)) == 0) return true;
    }
    return false;
}

bool slm2_stop_filter_put(struct slm2_stop_filter *f, const char *text, size_t n, size_t *n_ready)
{
    slm2_buf_put(&f->held, text, n);
    for (size_t at = 0; at < f->held.n; at++)
        if (stop_at(f, at, false)) {
            *n_ready = f->held.n = at;
            return true;
        }
    *n_ready = 0;
    while (*n_ready < f->held.n && !stop_at(f, *n_ready, true)) ++*n_ready;
    return false;
}

void slm2_stop_filter_take(struct slm2_stop_filter *f, size_t n)
{
    if (n) memmove(f->held.v, f->held.v + n, f->held.n - n);
    f->held.n -= n;
}

/* ---- the loop ----------------------------------------------------------------------------------------------------- */
struct writer {
    const struct slm2_gen_opts *o;
    struct slm2_gen_result *result;
    struct slm2_tok_stream stream;
    struct slm2_stop_filter filter;
    struct slm2_buf piece; /* text of one token */
};

/* Gives n held bytes out; false: the receiver has had enough. */
static bool give(struct writer *w, size_t n)
{
    bool more = true;
    if (n) {
        slm2_buf_put(&w->result->text, w->filter.held.v, n);
        if (w->o->on_text) more = w->o->on_text(w->o->user, w->filter.held.v, n);
        slm2_stop_filter_take(&w->filter, n);
    }
    return more;
}

/* The text of one more token; *end is set and true returned when it ends the answer. */
static slm2_status write_token(struct writer *w, int32_t id, bool *ended, struct slm2_err *err)
{
    size_t n_bytes, n_ready = 0;
    if (!slm2_tok_bytes(w->stream.tok, id, &n_bytes)) return SLM2_OK; /* rows of the head beyond the vocabulary have no text */
    slm2_buf_clear(&w->piece);
    SLM2_TRY(slm2_tok_stream_feed(&w->stream, id, &w->piece, err));
    bool stop = slm2_stop_filter_put(&w->filter, w->piece.v, w->piece.n, &n_ready);
    SLM2_TRY(slm2_buf_check(&w->piece, err));
    SLM2_TRY(slm2_buf_check(&w->filter.held, err));
    if (!give(w, n_ready)) {
        w->result->end = SLM2_GEN_INTERRUPT;
        *ended = true;
    }
    if (stop) {
        w->result->end = SLM2_GEN_STOP_STRING;
        *ended = true;
    }
    return slm2_buf_check(&w->result->text, err);
}

/* What was held back: half a character, the beginning of a stop string that never came. */
static slm2_status write_rest(struct writer *w, struct slm2_err *err)
{
    if (w->result->end == SLM2_GEN_STOP_STRING) return SLM2_OK;
    size_t n_ready = 0;
    slm2_buf_clear(&w->piece);
    slm2_tok_stream_flush(&w->stream, &w->piece);
    slm2_stop_filter_put(&w->filter, w->piece.v, w->piece.n, &n_ready);
    give(w, w->filter.held.n);
    return slm2_buf_check(&w->result->text, err);
}

/* log softmax(logits)[id] */
static float logprob(const float *logits, int n, int32_t id)
{
    double max = -HUGE_VAL, sum = 0.0;
    for (int i = 0; i < n; i++) max = fmax(max, (double)logits[i]);
    for (int i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    return (float)((double)logits[id] - max - log(sum));
}

static bool is_stop_id(const struct slm2_gen_opts *o, int32_t id)
{
    for (int i = 0; i < o->n_stop_ids; i++)
        if (o->stop_ids[i] == id) return true;
    return false;
}

/* Draws until something ends the answer.  logits: of the last token fed. */
static slm2_status draw(struct slm2_engine *e, int seq, struct slm2_sampler *sampler, struct writer *w, struct slm2_ids *ids, float *logits, struct slm2_err *err)
{
    const struct slm2_gen_opts *o = w->o;
    struct slm2_gen_result *r = w->result;
    r->end = SLM2_GEN_LENGTH;
    for (bool ended = false; !ended && r->n_new < o->n_max;) {
        if (o->interrupt && *o->interrupt) {
            r->end = SLM2_GEN_INTERRUPT;
            break;
        }
        int32_t id = slm2_sampler_next(sampler, logits, ids->v, ids->n);
        SLM2_TRY(slm2_ids_push(ids, id, err));
        if (o->logprobs) o->logprobs[r->n_new] = logprob(logits, slm2_engine_vocab_size(e), id);
        r->n_new++;
        if (is_stop_id(o, id)) {
            r->end = SLM2_GEN_STOP_ID;
            break;
        }
        if (w->stream.tok) SLM2_TRY(write_token(w, id, &ended, err));
        if (ended || r->n_new == o->n_max) break;
        if (slm2_engine_n_past(e, seq) == slm2_engine_n_ctx(e)) {
            r->end = SLM2_GEN_CONTEXT;
            break;
        }
        SLM2_TRY(slm2_engine_feed(e, seq, &id, 1, logits, err));
    }
    return SLM2_OK;
}

slm2_status slm2_generate(struct slm2_engine *e, int seq, struct slm2_sampler *sampler, const struct slm2_tok *tok, const struct slm2_gen_opts *o,
                          struct slm2_ids *ids, struct slm2_gen_result *result, struct slm2_err *err)
{
    *result = (struct slm2_gen_result){.end = SLM2_GEN_LENGTH};
    size_t n_past = (size_t)slm2_engine_n_past(e, seq);
    if (ids->n <= n_past) return slm2_fail(err, SLM2_EUSAGE, "generate: the prompt is empty, want at least one token");
    if (ids->n - n_past > (size_t)(slm2_engine_n_ctx(e) - slm2_engine_n_past(e, seq)))
        return slm2_fail(err, SLM2_ELIMIT, "the prompt has %zu tokens, the context holds %d", ids->n, slm2_engine_n_ctx(e));

    slm2_status st = SLM2_OK;
    struct writer w = {.o = o, .result = result, .filter = {.stop = o->stop, .n_stop = o->n_stop}};
    float *logits = malloc((size_t)slm2_engine_vocab_size(e) * sizeof *logits);
    if (!logits) {
        st = slm2_fail(err, SLM2_ENOMEM, "generate: no memory for the logits");
        goto done;
    }
    if (tok) slm2_tok_stream_init(&w.stream, tok, !o->keep_special);
    result->n_prompt = (int)(ids->n - n_past);
    double start = slm2_now_s();
    if ((st = slm2_engine_feed(e, seq, ids->v + n_past, result->n_prompt, logits, err)) != SLM2_OK) goto done;
    double fed = slm2_now_s();
    result->prompt_s = fed - start;
    st = draw(e, seq, sampler, &w, ids, logits, err);
    result->decode_s = slm2_now_s() - fed;
    if (!st && tok) st = write_rest(&w, err);
done:
    free(logits);
    slm2_buf_free(&w.piece);
    slm2_buf_free(&w.filter.held);
    return st;
}

/* ---- many at once ------------------------------------------------------------------------------------------------- */
struct slot {
    struct slm2_gen_job *job;      /* NULL: free */
    struct slm2_sampler *sampler;
    struct slm2_gen_result result;
    struct writer w;
    struct slm2_ids ids;           /* prompt and answer of this job, later what the cache still holds */
    const float *logits;           /* of the last token fed, a row of the shared matrix */
    slm2_status st;
    struct slm2_err err;
    bool ended;
};

static void slot_end(struct slot *s)
{
    slm2_sampler_free(s->sampler);
    slm2_buf_free(&s->w.piece);
    slm2_buf_free(&s->w.filter.held);
    s->sampler = NULL;
    s->job = NULL;
}

/* Feeds the job's prompt but for the beginning that the sequence has already. */
static slm2_status slot_begin(struct slot *s, int seq, struct slm2_gen_job *job, struct slm2_engine *e, const struct slm2_tok *tok, const struct slm2_gen_opts *o, float *logits, struct slm2_err *err)
{
    int same = 0, held = slm2_engine_n_past(e, seq);
    if (job->n_ids < 1 || job->n_ids > slm2_engine_n_ctx(e))
        return slm2_fail(err, SLM2_ELIMIT, "the prompt has %d tokens, want 1 to %d, what the context holds", job->n_ids, slm2_engine_n_ctx(e));
    while (same < held && same < job->n_ids - 1 && s->ids.v[same] == job->ids[same]) same++;
    s->ids.n = 0;
    for (int i = 0; i < job->n_ids; i++) SLM2_TRY(slm2_ids_push(&s->ids, job->ids[i], err));
    s->job = job;
    s->ended = false;
    s->result = (struct slm2_gen_result){.end = SLM2_GEN_LENGTH};
    s->w = (struct writer){.o = o, .result = &s->result, .filter = {.stop = o->stop, .n_stop = o->n_stop}};
    slm2_tok_stream_init(&s->w.stream, tok, !o->keep_special);
    SLM2_TRY(slm2_sampler_new(&s->sampler, slm2_engine_vocab_size(e), &job->sampler, err));
    slm2_engine_rewind(e, seq, same);
    s->logits = logits;
    return slm2_engine_feed(e, seq, job->ids + same, job->n_ids - same, logits, err);
}

/* One token of a slot's answer: touches nothing but the slot. */
static slm2_status slot_draw(struct slot *s, const struct slm2_gen_opts *o, int n_ctx, struct slm2_err *err)
{
    int32_t id = slm2_sampler_next(s->sampler, s->logits, s->ids.v, s->ids.n);
    SLM2_TRY(slm2_ids_push(&s->ids, id, err));
    s->result.n_new++;
    if (is_stop_id(o, id)) {
        s->result.end = SLM2_GEN_STOP_ID;
        s->ended = true;
        return SLM2_OK;
    }
    SLM2_TRY(write_token(&s->w, id, &s->ended, err));
    if (!s->ended && s->result.n_new < o->n_max && (int)s->ids.n > n_ctx) s->result.end = SLM2_GEN_CONTEXT;
    s->ended = s->ended || s->result.n_new >= o->n_max || (int)s->ids.n > n_ctx;
    return SLM2_OK;
}

/* *again: the job has another prompt. */
static slm2_status slot_finish(struct slot *s, const struct slm2_gen_opts *o, bool *again, struct slm2_err *err)
{
    struct slm2_gen_job *job = s->job;
    slm2_status st = write_rest(&s->w, err);
    job->end = s->result.end;
    job->n_new = s->result.n_new;
    job->text = s->result.text;
    s->result.text = (struct slm2_buf){0};
    slot_end(s);
    *again = false;
    return st == SLM2_OK && o->on_job && job->end != SLM2_GEN_INTERRUPT ? o->on_job(o->user, job, again, err) : st;
}

slm2_status slm2_generate_many(struct slm2_engine *e, const struct slm2_tok *tok, const struct slm2_gen_opts *opts, struct slm2_gen_job *v, int n, struct slm2_err *err)
{
    int n_seq = slm2_min_int(slm2_engine_n_seq(e), n), next = 0, open = 0, n_ctx = slm2_engine_n_ctx(e);
    size_t vocab = (size_t)slm2_engine_vocab_size(e);
    struct slm2_gen_opts plain = *opts, *o = &plain;
    slm2_status st = SLM2_OK;
    if (n < 1) return SLM2_OK;
    o->on_text = NULL;
    struct slot *slots = calloc((size_t)n_seq, sizeof *slots);
    float *logits = malloc(2 * (size_t)n_seq * vocab * sizeof *logits); /* rows of a step, in its order; rows of prompts, a slot each */
    int *seq = malloc((size_t)n_seq * sizeof *seq);
    int32_t *id = malloc((size_t)n_seq * sizeof *id);
    if (!slots || !logits || !seq || !id) st = slm2_fail(err, SLM2_ENOMEM, "generate: no memory for the logits of %d sequences", n_seq);
    for (int i = 0; st == SLM2_OK && i < n_seq; i++) slm2_engine_rewind(e, i, 0); /* what others left there is not known */
    while (st == SLM2_OK && (next < n || open)) {
        int n_step = 0;
        bool interrupted = o->interrupt && *o->interrupt;
        for (int i = 0; st == SLM2_OK && i < n_seq && next < n && !interrupted; i++) {
            if (slots[i].job) continue;
            st = slot_begin(&slots[i], i, &v[next++], e, tok, o, logits + (size_t)(n_seq + i) * vocab, err);
            open++;
        }
        if (interrupted) {
            for (; next < n; next++) v[next].end = SLM2_GEN_INTERRUPT;
            for (int i = 0; i < n_seq; i++)
                if (slots[i].job) slots[i].result.end = SLM2_GEN_INTERRUPT, slots[i].ended = true;
        } else if (st == SLM2_OK && o->n_max > 0) {
#pragma omp parallel for num_threads(slm2_engine_n_threads(e)) schedule(dynamic, 1)
            for (int i = 0; i < n_seq; i++)
                if (slots[i].job) slots[i].st = slot_draw(&slots[i], o, n_ctx, &slots[i].err);
        }
        for (int i = 0; st == SLM2_OK && i < n_seq; i++) {
            struct slot *s = &slots[i];
            if (!s->job) continue;
            if ((st = s->st) != SLM2_OK) {
                if (err) *err = s->err;
            } else if (s->ended || o->n_max < 1) {
                struct slm2_gen_job *job = s->job;
                bool again;
                st = slot_finish(s, o, &again, err);
                if (st == SLM2_OK && again) st = slot_begin(s, i, job, e, tok, o, logits + (size_t)(n_seq + i) * vocab, err);
                else open--;
            } else {
                seq[n_step] = i;
                id[n_step++] = s->ids.v[s->ids.n - 1];
            }
        }
        if (st == SLM2_OK && n_step) st = slm2_engine_step(e, n_step, seq, id, logits, err);
        for (int i = 0; i < n_step; i++) slots[seq[i]].logits = logits + (size_t)i * vocab;
    }
    for (int i = 0; slots && i < n_seq; i++) {
        slot_end(&slots[i]);
        slm2_buf_free(&slots[i].result.text);
        slm2_ids_free(&slots[i].ids);
    }
    free(slots);
    free(logits);
    free(seq);
    free(id);
    return st;
}
