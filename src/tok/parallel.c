/* parallel.c - a long text to ids on several threads: cut where no piece, no special token and no normalisation crosses, encoded part
 * by part, joined in order.  The ids are those of one call for the whole text, whatever the number of threads. */
#include "tok/tok_impl.h"

#include <stdlib.h>

enum { PART = 1 << 18 }; /* bytes: small beside any text that is worth threads */

/* After a line break and before a visible ASCII character every pattern ends a piece: line breaks join only spaces before and breaks
 * behind them, and of all white space only ' ' and its like join what follows.  ASCII does not combine either.  GPT-2's pattern takes
 * several breaks apart before a visible character and together at the end of the text: there, a break must stand alone. */
size_t slm2_tok_cut(const struct slm2_tok *tok, const char *text, size_t n, size_t from)
{
    if (tok->special_break || from == 0) return from == 0 ? 0 : n;
    while (from < n) {
        const char *nl = memchr(text + from - 1, '\n', n - from); /* text[n - 1] has nothing behind it */
        if (!nl) break;
        from = (size_t)(nl - text) + 1;
        bool alone = tok->split != SLM2_SPLIT_GPT2 || (from > 1 && text[from - 2] > ' ' && text[from - 2] < 0x7f);
        if (alone && text[from] > ' ' && text[from] < 0x7f) return from;
        from++;
    }
    return n;
}

struct part { const char *text; size_t n; struct slm2_ids ids; slm2_status st; struct slm2_err err; };

/* text[0..n) in parts of about PART bytes; SIZE_MAX: no memory */
static size_t cut_parts(const struct slm2_tok *tok, const char *text, size_t n, struct part **parts)
{
    size_t room = n / PART + 1, k = 0;
    struct part *v = calloc(room, sizeof *v);
    if (!v) return SIZE_MAX;
    for (size_t at = 0; at < n; k++) {
        size_t end = n - at > PART ? slm2_tok_cut(tok, text, n, at + PART) : n;
        v[k] = (struct part){.text = text + at, .n = end - at};
        at = end;
    }
    *parts = v;
    return k;
}

slm2_status slm2_tok_encode_threads(const struct slm2_tok *tok, const char *text, size_t n, int flags, int n_threads, struct slm2_ids *ids, struct slm2_err *err)
{
    struct part *part;
    slm2_status st = SLM2_OK;
    if (n_threads <= 1 || n <= PART) return slm2_tok_encode(tok, text, n, flags, ids, err);
    size_t before = ids->n, n_part = cut_parts(tok, text, n, &part);
    if (n_part == SIZE_MAX) return slm2_fail(err, SLM2_ENOMEM, "tokenize: no memory for the parts of %zu bytes", n);
#pragma omp parallel for num_threads(n_threads) schedule(dynamic)
    for (size_t i = 0; i < n_part; i++) part[i].st = slm2_tok_encode(tok, part[i].text, part[i].n, flags, &part[i].ids, &part[i].err);
    for (size_t i = 0; i < n_part; i++) {
        if (st == SLM2_OK && part[i].st != SLM2_OK) {
            st = part[i].st;
            if (err) *err = part[i].err;
        }
        if (st == SLM2_OK) st = tok_ids_reserve(ids, part[i].ids.n, err);
        if (st == SLM2_OK && part[i].ids.n) memcpy(ids->v + ids->n, part[i].ids.v, part[i].ids.n * sizeof *ids->v);
        if (st == SLM2_OK) ids->n += part[i].ids.n;
        slm2_ids_free(&part[i].ids);
    }
    if (st != SLM2_OK) ids->n = before;
    free(part);
    return st;
}
