/* mtbench_judge.c - the judge's side: each answer's two turns to an OpenAI-compatible endpoint, several requests at once.  A thread takes the next
 * judgement that is wanted, asks until there is one, and puts it down; the file has one writer at a time. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/journal.h"
#include "base/json.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/mtbench.h"

enum { MAX_THREADS = 64 };

struct item { /* a judgement that is wanted */
    const struct slm2_mt_question *q;
    const char *model;     /* borrowed from the answers */
    const json_t *answers; /* the two turns */
    int turn;
};
struct run {
    const struct slm2_mt_data *d;
    const struct slm2_mt_judge_args *a;
    struct slm2_mt_judge_done *done;
    char *url;
    struct item *item;
    int n_item, next;
    struct slm2_journal *file;
    pthread_mutex_t lock; /* for all below, next, done and file */
    pthread_cond_t ended; /* a thread */
    int n_running;
    slm2_status st;       /* the first failure: the others stop */
    struct slm2_err err;
    volatile sig_atomic_t stop; /* an interrupt from outside, or a failure of another thread; atomically, for threads read it without the lock */
};

/* ---- what is wanted --------------------------------------------------------------------------------------------------------- */
/* Whether the file holds this judgement.  One of another answer, question or prompt is no such: it would be counted as this answer's. */
static slm2_status is_judged(const struct run *r, const json_t *have, const struct item *w, bool *yes, struct slm2_err *err)
{
    *yes = false;
    for (size_t i = 0; i < json_array_size(have) && !*yes; i++) {
        const json_t *one = json_array_get(have, i), *shown = json_object_get(one, "user_prompt");
        const char *model = json_string_value(json_object_get(one, "model")), *by = json_string_value(json_array_get(json_object_get(one, "judge"), 0));
        struct slm2_buf now = {0};
        const struct slm2_mt_prompt *p;
        if (json_integer_value(json_object_get(one, "question_id")) != w->q->id || json_integer_value(json_object_get(one, "turn")) != w->turn + 1) continue;
        if (!model || strcmp(model, w->model) || !by || strcmp(by, r->a->judge)) continue;
        slm2_status st = slm2_mt_user_prompt(r->d, w->q, w->turn, w->answers, &p, &now, err);
        *yes = st == SLM2_OK && json_is_string(shown) && json_string_length(shown) == now.n && memcmp(json_string_value(shown), now.v, now.n) == 0;
        slm2_buf_free(&now);
        SLM2_TRY(st);
        if (!*yes)
            return slm2_fail(err, SLM2_EUSAGE, "%s: what was judged of %.80s at question %lld, turn %d, is not what %s holds now; name another --out, or remove this one", r->a->out, w->model, (long long)w->q->id,
                             w->turn + 1, r->a->answers);
    }
    return SLM2_OK;
}

static slm2_status take_answer(struct run *r, const json_t *answer, size_t line, const json_t *have, struct slm2_err *err)
{
    char what[300];
    struct item w = {.answers = json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "turns")};
    int64_t id;
    snprintf(what, sizeof what, "%.250s: record %zu", r->a->answers, line);
    SLM2_TRY(slm2_json_get_int(answer, "question_id", what, 0, INT64_MAX, &id, err));
    SLM2_TRY(slm2_json_get_str(answer, "model_id", what, &w.model, err));
    for (int i = 0; i < r->d->n; i++)
        if (r->d->v[i].id == id) w.q = &r->d->v[i];
    if (!w.q) return slm2_fail(err, SLM2_EFORMAT, "%s: question %lld is none of the questions", what, (long long)id);
    for (w.turn = 0; w.turn < SLM2_MT_TURNS; w.turn++) {
        if (!json_is_string(json_array_get(w.answers, (size_t)w.turn))) return slm2_fail(err, SLM2_EFORMAT, "%s: choices[0].turns: want %d strings", what, SLM2_MT_TURNS);
        for (int i = 0; i < r->n_item; i++)
            if (r->item[i].q == w.q && r->item[i].turn == w.turn && !strcmp(r->item[i].model, w.model))
                return slm2_fail(err, SLM2_EFORMAT, "%s: a second answer of %s to question %lld", what, w.model, (long long)id);
        bool judged;
        SLM2_TRY(is_judged(r, have, &w, &judged, err));
        r->done->n_answer++;
        if (judged) r->done->n_kept++;
        else r->item[r->n_item++] = w;
    }
    return SLM2_OK;
}

/* ---- one judgement ------------------------------------------------------------------------------------------------------------ */
static json_t *request_json(const struct run *r, const struct slm2_mt_prompt *p, const struct slm2_buf *user)
{
    return json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:s%}], s:i, s:i, s:i}", "model", r->a->judge, "messages", "role", "system", "content", p->system, "role", "user", "content", user->v, user->n,
                     "temperature", 0, "max_tokens", r->a->max_tokens > 0 ? r->a->max_tokens : 2048, "n", 1);
}

/* The text of a chat completion into *user, a struct slm2_buf. */
static slm2_status take_reply(void *user, const json_t *reply, struct slm2_err *err)
{
    const json_t *content = json_object_get(json_object_get(json_array_get(json_object_get(reply, "choices"), 0), "message"), "content");
    if (!json_is_string(content)) return slm2_fail(err, SLM2_EFORMAT, "the judge's reply has no choices[0].message.content");
    slm2_buf_clear(user);
    slm2_buf_put(user, json_string_value(content), json_string_length(content));
    slm2_buf_puts(user, "");
    return slm2_buf_check(user, err);
}

static json_t *record_json(const struct run *r, const struct item *w, const struct slm2_mt_prompt *p, const struct slm2_buf *user, const struct slm2_buf *judgement, double score)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    bool whole = score < 1e15 && score == (double)(int64_t)score; /* a judge may write a rating that no int64_t holds */
    return json_pack("{s:I, s:s, s:[s, s], s:s%, s:s%, s:o, s:i, s:f}", "question_id", (json_int_t)w->q->id, "model", w->model, "judge", r->a->judge, p->name, "user_prompt", user->v, user->n, "judgment",
                     judgement->v ? judgement->v : "", judgement->n, "score", whole ? json_integer((json_int_t)score) : json_real(score), "turn", w->turn + 1, "tstamp",
                     (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
}

/* What means this request and no other: such statuses, and a reply that is none in every try, as of a judge that declines ("content": null). */
static bool is_refusal(slm2_status st, long status)
{
    if (st == SLM2_EIO) return status == 400 || status == 413 || status == 422;
    return st == SLM2_EFORMAT || st == SLM2_ELIMIT;
}

static slm2_status judge_one(struct run *r, struct slm2_http *http, const struct item *w, struct slm2_err *err)
{
    struct slm2_buf user = {0}, words = {0};
    const struct slm2_mt_prompt *p;
    json_t *request = NULL, *record = NULL;
    slm2_status st = slm2_mt_user_prompt(r->d, w->q, w->turn, w->answers, &p, &user, err);
    if (st == SLM2_OK && !(request = request_json(r, p, &user))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for a request");
    bool asked = st == SLM2_OK;
    if (asked) st = slm2_http_post(http, request, take_reply, &words, err);
    bool refused = asked && is_refusal(st, slm2_http_status(http));
    double score = st == SLM2_OK ? slm2_mt_rating(words.v ? words.v : "", words.n) : -1;
    if (st == SLM2_OK && !(record = record_json(r, w, p, &user, &words, score))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for a judgement");
    pthread_mutex_lock(&r->lock);
    if (st == SLM2_OK) st = slm2_journal_put(r->file, record, err);
    if (st == SLM2_OK) {
        r->done->n_new++;
        r->done->n_unrated += score < 0;
    } else if (refused) {
        if (r->done->n_refused++ == 0 && err) snprintf(r->done->refusal, sizeof r->done->refusal, "question %lld, turn %d: %.300s", (long long)w->q->id, w->turn + 1, err->msg);
        st = SLM2_OK;
    }
    int n = r->done->n_kept + r->done->n_new + r->done->n_refused;
    slm2_progress("judge", (double)n / r->done->n_answer, "%d of %d", n, r->done->n_answer);
    pthread_mutex_unlock(&r->lock);
    json_decref(request);
    json_decref(record);
    slm2_buf_free(&user);
    slm2_buf_free(&words);
    return st;
}

/* ---- the threads ---------------------------------------------------------------------------------------------------------------- */
static void stop_all(struct run *r) { __atomic_store_n(&r->stop, 1, __ATOMIC_RELAXED); }

static void fail_run(struct run *r, slm2_status st, const struct slm2_err *err)
{
    pthread_mutex_lock(&r->lock);
    if (r->st == SLM2_OK) {
        r->st = st;
        r->err = *err;
    }
    stop_all(r);
    pthread_mutex_unlock(&r->lock);
}

static void *work(void *user)
{
    struct run *r = user;
    struct slm2_http_opts o = r->a->http;
    struct slm2_http *http;
    struct slm2_err err;
    o.url = r->url;
    o.interrupt = &r->stop;
    slm2_status st = slm2_http_new(&http, &o, &err);
    while (st == SLM2_OK && !__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&r->lock);
        const struct item *w = r->next < r->n_item ? &r->item[r->next++] : NULL;
        pthread_mutex_unlock(&r->lock);
        if (!w) break;
        st = judge_one(r, http, w, &err);
    }
    if (st != SLM2_OK) fail_run(r, st, &err);
    pthread_mutex_lock(&r->lock);
    r->done->n_retry += http ? slm2_http_n_retry(http) : 0;
    r->n_running--;
    pthread_cond_signal(&r->ended);
    pthread_mutex_unlock(&r->lock);
    slm2_http_free(http);
    return NULL;
}

/* Waits for the threads and passes an interrupt on to them. */
static slm2_status run_threads(struct run *r, struct slm2_err *err)
{
    pthread_t thread[MAX_THREADS];
    int want = slm2_min_int(slm2_min_int(r->a->n_parallel > 0 ? r->a->n_parallel : 4, MAX_THREADS), r->n_item), n = 0;
    pthread_mutex_lock(&r->lock);
    while (n < want && pthread_create(&thread[n], NULL, work, r) == 0) n++;
    r->n_running = n;
    while (r->n_running > 0) {
        struct timespec until;
        if (r->a->http.interrupt && *r->a->http.interrupt) stop_all(r);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 50000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&r->ended, &r->lock, &until);
    }
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
    if (n == 0 && want > 0) return slm2_fail(err, SLM2_ENOMEM, "no thread to ask the judge");
    if (r->st != SLM2_OK && r->st != SLM2_ESTOP) {
        if (err) *err = r->err;
        return r->st;
    }
    if (r->next < r->n_item || r->st == SLM2_ESTOP)
        return slm2_fail(err, SLM2_ESTOP, "stopped: %s holds %d of %d judgements; the same command makes the rest", r->a->out, r->done->n_kept + r->done->n_new, r->done->n_answer);
    return SLM2_OK;
}

/* Where completions are: the path in front of the base's query, such as "?api-version=2". */
static slm2_status completions_url(const char *base, char **url, struct slm2_err *err)
{
    size_t n = strcspn(base, "?#");
    const char *rest = base + n;
    struct slm2_buf b = {0};
    while (n > 0 && base[n - 1] == '/') n--;
    slm2_buf_put(&b, base, n);
    slm2_buf_puts(&b, "/chat/completions");
    slm2_buf_puts(&b, rest);
    slm2_status st = slm2_buf_check(&b, err);
    if (st == SLM2_OK) *url = b.v;
    else slm2_buf_free(&b);
    return st;
}

slm2_status slm2_mt_judge(const struct slm2_mt_data *d, const struct slm2_mt_judge_args *a, struct slm2_mt_judge_done *done, struct slm2_err *err)
{
    struct run r = {.d = d, .a = a, .done = done, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    struct slm2_http *probe = NULL;
    json_t *answers = NULL, *have = NULL;
    *done = (struct slm2_mt_judge_done){0};
    SLM2_TRY(completions_url(a->http.url, &r.url, err));
    struct slm2_http_opts o = a->http;
    o.url = r.url;
    slm2_status st = slm2_http_new(&probe, &o, err); /* a wrong address is found before anything is opened */
    if (st == SLM2_OK) st = slm2_journal_read(a->answers, &answers, err);
    if (st == SLM2_OK && json_array_size(answers) == 0) st = slm2_fail(err, SLM2_EFORMAT, "%s: holds no answer", a->answers);
    if (st == SLM2_OK) st = slm2_journal_open(&r.file, a->out, &have, err);
    if (st == SLM2_OK && !(r.item = calloc(json_array_size(answers) * SLM2_MT_TURNS, sizeof *r.item))) st = slm2_fail(err, SLM2_ENOMEM, "no memory for the answers");
    for (size_t i = 0; st == SLM2_OK && i < json_array_size(answers); i++) st = take_answer(&r, json_array_get(answers, i), i + 1, have, err);
    if (st == SLM2_OK) st = run_threads(&r, err);
    slm2_progress_end();
    slm2_journal_close(r.file);
    slm2_http_free(probe);
    json_decref(answers);
    json_decref(have);
    free(r.item);
    free(r.url);
    return st;
}
