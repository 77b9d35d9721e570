/* buf.c - growing bytes: doubled when full, a NUL always behind them, the first failure kept. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* Room for n more bytes and the NUL. */
static bool reserve(struct slm2_buf *b, size_t n)
{
    size_t want, cap;
    if (b->failed) return false;
    if (!slm2_add_size(b->n, n, &want) || !slm2_add_size(want, 1, &want)) goto fail;
    if (want <= b->cap) return true;
    if (!slm2_mul_size(b->cap, 2, &cap) || cap < want) cap = want;
    if (cap < 64) cap = 64;
    char *v = realloc(b->v, cap);
    if (!v) goto fail;
    b->v = v;
    b->cap = cap;
    return true;
fail:
    b->failed = true;
    return false;
}

void slm2_buf_put(struct slm2_buf *b, const void *bytes, size_t n)
{
    if (!reserve(b, n)) return;
    if (n) memcpy(b->v + b->n, bytes, n);
    b->n += n;
    b->v[b->n] = 0;
}

void slm2_buf_puts(struct slm2_buf *b, const char *s) { slm2_buf_put(b, s, strlen(s)); }

void slm2_buf_putc(struct slm2_buf *b, char c) { slm2_buf_put(b, &c, 1); }

void slm2_buf_printf(struct slm2_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return;
    }
    if (!reserve(b, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(b->v + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

void slm2_buf_clear(struct slm2_buf *b)
{
    b->n = 0;
    if (b->v) b->v[0] = 0;
}

void slm2_buf_free(struct slm2_buf *b)
{
    free(b->v);
    *b = (struct slm2_buf){0};
}

slm2_status slm2_buf_check(const struct slm2_buf *b, struct slm2_err *err)
{
    if (b->failed) return slm2_fail(err, SLM2_ENOMEM, "out of memory for text beyond %zu bytes", b->n);
    return SLM2_OK;
}
