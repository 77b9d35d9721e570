/* tok_bench.c - how fast text becomes ids and ids text; the result is checked, so that a fast wrong answer fails. */
#include "base/log.h"
#include "tok/tok_impl.h"

#include <stdlib.h>
#include <time.h>

enum { PART = 1 << 16 }; /* bytes of one call, about a document of a data build */

/* Seconds this thread has computed: what others do on a shared machine does not count. */
static double thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* at[i]: where part i begins, at[*n_part] == n; NULL: no memory */
static size_t *parts_of(const struct slm2_tok *tok, const char *text, size_t n, size_t *n_part)
{
    size_t *at = malloc((n / PART + 2) * sizeof *at), k = 0, i = 0;
    if (!at) return NULL;
    for (; i < n; i = n - i > PART ? slm2_tok_cut(tok, text, n, i + PART) : n) at[k++] = i;
    at[k] = n;
    *n_part = k;
    return at;
}

/* All parts on n_threads threads, the ids thrown away.  *own_s: seconds of all threads' own time. */
static slm2_status encode_all(const struct slm2_tok *tok, const char *text, const size_t *at, size_t n_part, int n_threads, size_t *tokens, double *own_s, struct slm2_err *err)
{
    slm2_status st = SLM2_OK;
    size_t count = 0;
    double own = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : count, own)
    {
        struct slm2_ids ids = {0};
        struct slm2_err e;
        double start = thread_s();
#pragma omp for schedule(dynamic, 4)
        for (size_t i = 0; i < n_part; i++) {
            ids.n = 0;
            slm2_status s = slm2_tok_encode(tok, text + at[i], at[i + 1] - at[i], slm2_tok_flags_default(tok), &ids, &e);
            count += ids.n;
            if (s != SLM2_OK) {
#pragma omp critical
                {
                    st = s;
                    if (err) *err = e;
                }
            }
        }
        own = thread_s() - start;
        slm2_ids_free(&ids);
    }
    *tokens = count;
    *own_s = own;
    return st;
}

static slm2_status time_threads(const struct slm2_tok *tok, const char *text, const size_t *at, size_t n_part, int n_threads, int repeats, size_t want, struct slm2_tok_bench *out,
                                struct slm2_err *err)
{
    double mb = (double)at[n_part] / 1e6;
    for (int r = 0; r < repeats; r++) {
        size_t tokens;
        double own, t0 = slm2_now_s();
        SLM2_TRY(encode_all(tok, text, at, n_part, n_threads, &tokens, &own, err));
        double clock = slm2_now_s() - t0;
        if (tokens != want) return slm2_fail(err, SLM2_EFORMAT, "bench tokenizer: %zu tokens on %d threads, %zu on one", tokens, n_threads, want);
        if (clock > 0 && mb / clock > out->threads_mb_per_s) out->threads_mb_per_s = mb / clock;
        if (own > 0 && mb / own > out->per_thread_mb_per_s) out->per_thread_mb_per_s = mb / own;
    }
    return SLM2_OK;
}

/* One thread, there and back; ids and back hold the last repeat's. */
static slm2_status time_one(const struct slm2_tok *tok, const char *text, const size_t *at, size_t n_part, int repeats, struct slm2_ids *ids, struct slm2_buf *back,
                            struct slm2_tok_bench *out, struct slm2_err *err)
{
    for (int r = 0; r < repeats; r++) {
        ids->n = 0;
        slm2_buf_clear(back);
        double t0 = thread_s();
        for (size_t i = 0; i < n_part; i++) SLM2_TRY(slm2_tok_encode(tok, text + at[i], at[i + 1] - at[i], slm2_tok_flags_default(tok), ids, err));
        double t1 = thread_s();
        SLM2_TRY(slm2_tok_decode(tok, ids->v, ids->n, back, err));
        double t2 = thread_s(), there = (double)at[n_part] / 1e6, again = (double)back->n / 1e6;
        if (t1 > t0 && there / (t1 - t0) > out->mb_per_s) out->mb_per_s = there / (t1 - t0);
        if (t2 > t1 && again / (t2 - t1) > out->decode_mb_per_s) out->decode_mb_per_s = again / (t2 - t1);
    }
    out->tokens = ids->n;
    return SLM2_OK;
}

static slm2_status time_open(double *best, struct slm2_err *err)
{
    for (int r = 0; r < 3; r++) {
        struct slm2_tok *fresh = NULL;
        double t0 = thread_s();
        SLM2_TRY(slm2_tok_open(&fresh, NULL, err));
        double t1 = thread_s();
        slm2_tok_free(fresh);
        if (r == 0 || t1 - t0 < *best) *best = t1 - t0;
    }
    return SLM2_OK;
}

slm2_status slm2_tok_bench(const struct slm2_tok *tok, const char *text, size_t n, int repeats, int n_threads, struct slm2_tok_bench *out,
                           struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    struct slm2_buf back = {0}, nfc = {0};
    struct slm2_tok_bench b = {.bytes = n, .n_threads = n_threads};
    bool changed = false;
    size_t n_part = 0, *at = parts_of(tok, text, n, &n_part);
    slm2_status st = at ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "bench tokenizer: no memory for the parts of %zu bytes", n);
    if (st == SLM2_OK) st = time_one(tok, text, at, n_part, repeats, &ids, &back, &b, err);
    if (st == SLM2_OK) st = time_threads(tok, text, at, n_part, n_threads, repeats, b.tokens, &b, err);
    if (st == SLM2_OK) st = time_open(&b.open_s, err);
    if (st == SLM2_OK && slm2_tok_flags_default(tok)) st = slm2_nfc(text, n, &nfc, &changed, err);
    if (st == SLM2_OK && repeats > 0) {
        const char *want = changed ? nfc.v : text;
        size_t n_want = changed ? nfc.n : n;
        if (back.n != n_want || (n_want && memcmp(back.v, want, n_want) != 0))
            st = slm2_fail(err, SLM2_EFORMAT, "bench tokenizer: decoding gives other bytes than the text has (%zu for %zu)", back.n, n_want);
    }
    if (st == SLM2_OK) *out = b;
    free(at);
    slm2_ids_free(&ids);
    slm2_buf_free(&back);
    slm2_buf_free(&nfc);
    return st;
}
