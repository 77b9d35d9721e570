/* tok_bench.c - how fast text becomes ids and ids text, on one thread; the result is checked, so that a fast wrong answer fails. */
#include "base/log.h"
#include "tok/tok_impl.h"

slm2_status slm2_tok_bench(const struct slm2_tok *tok, const char *text, size_t n, int repeats, struct slm2_tok_bench *out,
                           struct slm2_err *err)
{
    struct slm2_ids ids = {0};
    struct slm2_buf back = {0}, nfc = {0};
    slm2_status st = SLM2_OK;
    double best = 0, best_back = 0, best_open = 0;
    bool changed = false;
    for (int r = 0; r < repeats && st == SLM2_OK; r++) {
        ids.n = 0;
        slm2_buf_clear(&back);
        double t0 = slm2_now_s();
        /* documents of 64 KiB and the rest of the line, about what a data build feeds */
        for (size_t i = 0; i < n && st == SLM2_OK;) {
            size_t len = n - i;
            const char *nl = len > 65536 ? memchr(text + i + 65536, '\n', len - 65536) : NULL;
            if (nl) len = (size_t)(nl - (text + i)) + 1;
            st = slm2_tok_encode(tok, text + i, len, slm2_tok_flags_default(tok), &ids, err);
            i += len;
        }
        double t1 = slm2_now_s();
        if (st == SLM2_OK) st = slm2_tok_decode(tok, ids.v, ids.n, &back, err);
        double t2 = slm2_now_s();
        if (r == 0 || t1 - t0 < best) best = t1 - t0;
        if (r == 0 || t2 - t1 < best_back) best_back = t2 - t1;
    }
    for (int r = 0; r < 3 && st == SLM2_OK; r++) {
        struct slm2_tok *fresh = NULL;
        double t0 = slm2_now_s();
        st = slm2_tok_open(&fresh, NULL, err);
        double t1 = slm2_now_s();
        slm2_tok_free(fresh);
        if (r == 0 || t1 - t0 < best_open) best_open = t1 - t0;
    }
    if (st == SLM2_OK && slm2_tok_flags_default(tok)) st = slm2_nfc(text, n, &nfc, &changed, err);
    if (st == SLM2_OK && repeats > 0) {
        const char *want = changed ? nfc.v : text;
        size_t n_want = changed ? nfc.n : n;
        if (back.n != n_want || (n_want && memcmp(back.v, want, n_want) != 0))
            st = slm2_fail(err, SLM2_EFORMAT, "bench tokenizer: decoding gives other bytes than the text has (%zu for %zu)", back.n, n_want);
    }
    if (st == SLM2_OK)
        *out = (struct slm2_tok_bench){.mb_per_s = best > 0 ? (double)n / 1e6 / best : 0, .decode_mb_per_s = best_back > 0 ? (double)back.n / 1e6 / best_back : 0,
                                       .open_s = best_open, .bytes = n, .tokens = ids.n};
    slm2_ids_free(&ids);
    slm2_buf_free(&back);
    slm2_buf_free(&nfc);
    return st;
}
