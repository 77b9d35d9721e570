/* mtbench_answer.c - the model's side: conversations of two turns, many at once.  A slot of the engine holds a conversation; while one is
 * complete and the next begins, the others go on.  The engine gives each the bits that it would have alone, and each has draws of its own, so
 * neither the number of slots nor a stop in between changes an answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/journal.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/mtbench.h"
#include "infer/engine.h"

enum { ID_CHARS = 22 };

struct slot {
    const struct slm2_mt_question *q; /* NULL: free */
    int turn;
    struct slm2_sampler *sampler;
    struct slm2_ids ids;              /* what the engine holds, and the newest token */
    struct slm2_ids prompt;           /* of the next turn */
    int n_new;                        /* tokens of this answer */
    int32_t next;                     /* drawn, not yet fed */
    struct slm2_tok_stream stream;
    struct slm2_buf text[SLM2_MT_TURNS];
};
struct run {
    const struct slm2_mt_data *d;
    const struct slm2_mt_answer_args *a;
    struct slm2_mt_answer_done *done;
    struct slm2_engine *engine;
    struct slm2_journal *file;
    struct slot *slot;
    int n_slot, max_new, n_draw; /* n_draw: ids that may be drawn */
    int32_t stop[2];
    int *seq;       /* [n_slot] scratch of a step: which slots, */
    int32_t *tok;   /* [n_slot] their tokens, */
    float *logits;  /* [n_slot, vocab_size] and what comes out */
    char weights[65];
    const struct slm2_mt_question **todo;
    int n_todo, next;
};

/* ---- what an answer is a function of --------------------------------------------------------------------------------------- */
/* A digest of the weights that reads a little of every tensor. */
static void digest_weights(const struct slm2_model *m, char hex[65])
{
    struct slm2_buf b = {0};
    for (int i = 0; i < m->params.n; i++) {
        const struct slm2_param *p = &m->params.v[i];
        slm2_buf_printf(&b, "%d %d %d %d %d;", (int)p->kind, p->layer, p->n_row, p->n_col, (int)p->w.dtype);
        slm2_buf_put(&b, p->w.data, slm2_min_size(slm2_mat_row_bytes(&p->w), 4096));
    }
    slm2_sha256_hex(b.v ? b.v : "", b.failed ? 0 : b.n, hex);
    slm2_buf_free(&b);
}

/* The record's answer_id, 22 characters as shortuuid makes them: a digest of all that decides the answer. */
static void answer_id(const struct run *r, const struct slm2_mt_question *q, char id[ID_CHARS + 1])
{
    static const char alphabet[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    const struct slm2_mt_answer_args *a = r->a;
    struct slm2_buf b = {0};
    char hex[65];
    slm2_buf_printf(&b, "%s %s %d %d %d %.9g %.9g %.9g %lld %d %d;%lld %s;", a->model_id, r->weights, (int)a->tmpl, r->max_new, a->top_k, (double)a->top_p, (double)a->repetition_penalty, q->temperature,
                    (long long)a->seed, (int)a->exact, slm2_engine_n_ctx(r->engine), (long long)q->id, q->turn[0]);
    slm2_buf_puts(&b, q->turn[1]);
    slm2_sha256_hex(b.v ? b.v : "", b.n, hex);
    for (int i = 0; i < ID_CHARS; i++) {
        char byte[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        id[i] = alphabet[strtoul(byte, NULL, 16) % (sizeof alphabet - 1)];
    }
    id[ID_CHARS] = '\0';
    slm2_buf_free(&b);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */
static slm2_status find_todo(struct run *r, const json_t *have, struct slm2_err *err)
{
    int n = r->a->limit > 0 && r->a->limit < r->d->n ? (int)r->a->limit : r->d->n;
    char id[ID_CHARS + 1];
    r->done->n_question = n;
    if (!(r->todo = calloc((size_t)n, sizeof *r->todo))) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d questions", n);
    for (int i = 0; i < n; i++) {
        const struct slm2_mt_question *q = &r->d->v[i];
        const json_t *found = NULL;
        for (size_t k = 0; k < json_array_size(have) && !found; k++) {
            const json_t *one = json_array_get(have, k);
            if (json_integer_value(json_object_get(one, "question_id")) == q->id) found = one;
        }
        if (!found) {
            r->todo[r->n_todo++] = q;
            continue;
        }
        const char *is = json_string_value(json_object_get(found, "answer_id"));
        answer_id(r, q, id);
        if (!is || strcmp(is, id))
            return slm2_fail(err, SLM2_EUSAGE, "%s: the answer to question %lld was made by another model or with other settings; give another file with --out, or remove this one", r->a->out, (long long)q->id);
        r->done->n_kept++;
    }
    return SLM2_OK;
}

static slm2_status open_all(struct run *r, json_t **have, struct slm2_err *err)
{
    const struct slm2_mt_answer_args *a = r->a;
    const struct slm2_model *m = a->model;
    struct slm2_engine_setup setup = {.isa = a->isa, .backend = a->backend, .exact = a->exact, .kv_dtype = slm2_engine_kv_auto(m, a->exact)};
    struct slm2_engine_opts eo = slm2_engine_opts_default();
    size_t n, bytes;
    r->max_new = a->max_new > 0 ? a->max_new : 1024;
    r->n_slot = a->n_seq > 0 ? a->n_seq : 8;
    r->n_draw = slm2_min_int(m->cfg.vocab_size, slm2_tok_n_vocab(a->tok));
    r->stop[0] = slm2_tok_eos(a->tok);
    r->stop[1] = slm2_chat_stop_id(a->tok, a->tmpl);
    eo.n_ctx = a->n_ctx;
    eo.n_seq = r->n_slot;
    eo.n_threads = a->n_threads;
    SLM2_TRY(slm2_engine_new_setup(&r->engine, m, &eo, &setup, err));
    digest_weights(m, r->weights);
    SLM2_TRY(slm2_journal_open(&r->file, a->out, have, err));
    SLM2_TRY(find_todo(r, *have, err));
    n = (size_t)r->n_slot;
    r->slot = calloc(n, sizeof *r->slot);
    r->seq = calloc(n, sizeof *r->seq);
    r->tok = calloc(n, sizeof *r->tok);
    r->logits = slm2_mul_size(n * sizeof *r->logits, (size_t)m->cfg.vocab_size, &bytes) ? malloc(bytes) : NULL;
    if (!r->slot || !r->seq || !r->tok || !r->logits) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d conversations at once", r->n_slot);
    return SLM2_OK;
}

static void close_slot(struct slot *s)
{
    slm2_sampler_free(s->sampler);
    slm2_ids_free(&s->ids);
    slm2_ids_free(&s->prompt);
    for (int t = 0; t < SLM2_MT_TURNS; t++) slm2_buf_free(&s->text[t]);
    *s = (struct slot){0};
}

static void close_all(struct run *r)
{
    for (int i = 0; i < r->n_slot && r->slot; i++) close_slot(&r->slot[i]);
    free(r->slot);
    free(r->seq);
    free(r->tok);
    free(r->logits);
    free(r->todo);
    slm2_journal_close(r->file);
    slm2_engine_free(r->engine);
}

/* ---- a conversation ------------------------------------------------------------------------------------------------------------ */
/* What leaves room for an answer: all but max_new, at least half of the context. */
static void cut_prompt(struct run *r, struct slot *s)
{
    size_t n_ctx = (size_t)slm2_engine_n_ctx(r->engine), room = n_ctx - slm2_min_size((size_t)r->max_new, n_ctx / 2);
    if (s->prompt.n <= room) return;
    memmove(s->prompt.v, s->prompt.v + (s->prompt.n - room), room * sizeof *s->prompt.v);
    s->prompt.n = room;
    r->done->n_cut++;
}

static void strip(struct slm2_buf *b)
{
    static const char blank[] = " \t\r\n\v\f";
    size_t from = 0;
    slm2_buf_puts(b, "");
    if (b->failed) return;
    while (b->n > 0 && strchr(blank, b->v[b->n - 1])) b->n--;
    while (from < b->n && strchr(blank, b->v[from])) from++;
    memmove(b->v, b->v + from, b->n - from);
    b->n -= from;
    b->v[b->n] = '\0';
}

/* Draws the next token of a slot from its logits; *ended: the answer is complete. */
static slm2_status draw(struct run *r, struct slot *s, const float *logits, bool *ended, struct slm2_err *err)
{
    s->next = slm2_sampler_next(s->sampler, logits, s->ids.v, s->ids.n);
    s->n_new++;
    r->done->n_token++;
    *ended = s->next == r->stop[0] || s->next == r->stop[1];
    if (*ended) return SLM2_OK;
    size_t n;
    struct slm2_buf *text = &s->text[s->turn];
    if (slm2_tok_bytes(r->a->tok, s->next, &n)) SLM2_TRY(slm2_tok_stream_feed(&s->stream, s->next, text, err));
    SLM2_TRY(slm2_ids_push(&s->ids, s->next, err));
    *ended = s->n_new == r->max_new || (int)s->ids.n > slm2_engine_n_ctx(r->engine);
    r->done->n_long += *ended;
    return slm2_buf_check(text, err);
}

/* Feeds the prompt of the slot's turn and draws the first token.  What the cache holds of it already stays there. */
static slm2_status begin_turn(struct run *r, int slot, bool *ended, struct slm2_err *err)
{
    struct slot *s = &r->slot[slot];
    struct slm2_chat_opts co = slm2_chat_opts_default(r->a->tmpl);
    const struct slm2_msg msg[] = {{"user", s->q->turn[0], strlen(s->q->turn[0])}, {"assistant", s->text[0].v, s->text[0].n}, {"user", s->q->turn[1], strlen(s->q->turn[1])}};
    co.add_generation_prompt = true;
    s->prompt.n = 0;
    SLM2_TRY(slm2_chat_encode(r->a->tok, &co, msg, s->turn ? 3 : 1, &s->prompt, NULL, err));
    cut_prompt(r, s);
    size_t same = 0, held = (size_t)slm2_engine_n_past(r->engine, slot);
    while (same < held && same + 1 < s->prompt.n && s->ids.v[same] == s->prompt.v[same]) same++;
    slm2_engine_rewind(r->engine, slot, (int)same);
    struct slm2_ids old = s->ids;
    s->ids = s->prompt;
    s->prompt = old;
    s->n_new = 0;
    slm2_tok_stream_init(&s->stream, r->a->tok, true);
    float *logits = r->logits + (size_t)slot * (size_t)r->a->model->cfg.vocab_size;
    SLM2_TRY(slm2_engine_feed(r->engine, slot, s->ids.v + same, (int)(s->ids.n - same), logits, err));
    r->done->n_prompt += (int64_t)(s->ids.n - same);
    return draw(r, s, logits, ended, err);
}

/* Bytes that are not UTF-8 become U+FFFD: JSON cannot hold them. */
static json_t *text_json(const struct slm2_buf *b)
{
    struct slm2_buf clean = {0};
    for (size_t at = 0; at < b->n;) {
        int32_t c;
        size_t n = slm2_utf8_next((const uint8_t *)b->v + at, b->n - at, &c);
        if (c > 0) slm2_buf_put(&clean, b->v + at, n);
        else slm2_buf_puts(&clean, "\xEF\xBF\xBD");
        at += n;
    }
    json_t *j = clean.failed ? NULL : json_stringn(clean.v ? clean.v : "", clean.n);
    slm2_buf_free(&clean);
    return j;
}

static slm2_status record(struct run *r, struct slot *s, struct slm2_err *err)
{
    char id[ID_CHARS + 1];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    answer_id(r, s->q, id);
    json_t *j = json_pack("{s:I, s:s, s:s, s:[{s:i, s:[o, o]}], s:f}", "question_id", (json_int_t)s->q->id, "answer_id", id, "model_id", r->a->model_id, "choices", "index", 0, "turns",
                          text_json(&s->text[0]), text_json(&s->text[1]), "tstamp", (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    slm2_status st = j ? slm2_journal_put(r->file, j, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for an answer");
    json_decref(j);
    r->done->n_new += st == SLM2_OK;
    return st;
}

/* The slot's answer is complete: the next turn, or the record and the next question, until an answer needs steps. */
static slm2_status go_on(struct run *r, int slot, bool ended, struct slm2_err *err)
{
    struct slot *s = &r->slot[slot];
    while (ended || !s->q) {
        if (ended) {
            slm2_tok_stream_flush(&s->stream, &s->text[s->turn]);
            strip(&s->text[s->turn]);
            SLM2_TRY(slm2_buf_check(&s->text[s->turn], err));
            if (++s->turn == SLM2_MT_TURNS) {
                SLM2_TRY(record(r, s, err));
                close_slot(s);
            }
        }
        if (!s->q) {
            if (r->next == r->n_todo) return SLM2_OK;
            s->q = r->todo[r->next++];
            slm2_engine_rewind(r->engine, slot, 0);
            struct slm2_sampler_opts so = {.temperature = s->q->temperature < 1e-4 ? 0.0f : (float)s->q->temperature, .top_k = r->a->top_k, .top_p = r->a->top_p > 0 ? r->a->top_p : 1.0f,
                                           .repetition_penalty = r->a->repetition_penalty > 0 ? r->a->repetition_penalty : 1.0f, .seed = ((uint64_t)r->a->seed << 24) ^ (uint64_t)s->q->id};
            SLM2_TRY(slm2_sampler_new(&s->sampler, r->n_draw, &so, err));
        }
        SLM2_TRY(begin_turn(r, slot, &ended, err));
    }
    return SLM2_OK;
}

/* One token for every conversation. */
static slm2_status step(struct run *r, struct slm2_err *err)
{
    size_t vocab = (size_t)r->a->model->cfg.vocab_size;
    int n = 0;
    for (int i = 0; i < r->n_slot; i++) {
        if (!r->slot[i].q) continue;
        r->seq[n] = i;
        r->tok[n++] = r->slot[i].next;
    }
    SLM2_TRY(slm2_engine_step(r->engine, n, r->seq, r->tok, r->logits, err));
    for (int i = 0; i < n; i++) { /* all draws first: a new turn overwrites logits */
        bool ended;
        SLM2_TRY(draw(r, &r->slot[r->seq[i]], r->logits + (size_t)i * vocab, &ended, err));
        r->tok[i] = ended;
    }
    for (int i = 0; i < n; i++)
        if (r->tok[i]) SLM2_TRY(go_on(r, r->seq[i], true, err));
    return SLM2_OK;
}

static slm2_status run_all(struct run *r, double start, struct slm2_err *err)
{
    const struct slm2_mt_answer_args *a = r->a;
    for (int i = 0; i < r->n_slot; i++) SLM2_TRY(go_on(r, i, false, err));
    for (;;) {
        bool any = false;
        for (int i = 0; i < r->n_slot; i++) any = any || r->slot[i].q;
        if (!any) return SLM2_OK;
        if (a->interrupt && *a->interrupt)
            return slm2_fail(err, SLM2_ESTOP, "stopped: %s holds %d of %d answers; the same command makes the rest", a->out, r->done->n_kept + r->done->n_new, r->done->n_question);
        SLM2_TRY(step(r, err));
        slm2_progress("answers", (double)(r->done->n_kept + r->done->n_new) / r->done->n_question, "%d of %d, %.0f tokens/s", r->done->n_kept + r->done->n_new, r->done->n_question,
                      (double)r->done->n_token / (slm2_now_s() - start));
    }
}

/* The file in the order of the questions, whatever the order in which conversations ended. */
static slm2_status sort_file(const struct run *r, struct slm2_err *err)
{
    json_t *have, *sorted = json_array();
    slm2_status st = sorted ? slm2_journal_read(r->a->out, &have, err) : slm2_fail(err, SLM2_ENOMEM, "no memory for the answers");
    if (st == SLM2_OK) {
        for (int i = 0; i < r->d->n; i++)
            for (size_t k = 0; k < json_array_size(have); k++)
                if (json_integer_value(json_object_get(json_array_get(have, k), "question_id")) == r->d->v[i].id) json_array_append(sorted, json_array_get(have, k));
        if (json_array_size(sorted) == json_array_size(have) && !json_equal(sorted, have)) st = slm2_journal_rewrite(r->a->out, sorted, err);
        json_decref(have);
    }
    json_decref(sorted);
    return st;
}

slm2_status slm2_mt_answer(const struct slm2_mt_data *d, const struct slm2_mt_answer_args *a, struct slm2_mt_answer_done *done, struct slm2_err *err)
{
    struct run r = {.d = d, .a = a, .done = done};
    double start = slm2_now_s();
    json_t *have = NULL;
    *done = (struct slm2_mt_answer_done){0};
    slm2_status st = open_all(&r, &have, err);
    if (st == SLM2_OK) st = run_all(&r, start, err);
    slm2_progress_end();
    if (st == SLM2_OK && done->n_new > 0) st = sort_file(&r, err);
    done->seconds = slm2_now_s() - start;
    json_decref(have);
    close_all(&r);
    return st;
}
