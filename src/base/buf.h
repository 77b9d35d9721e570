/* buf.h - growing bytes that remember their first failure: write freely, check ok once at the end. */
#ifndef SLM2_BASE_BUF_H
#define SLM2_BASE_BUF_H
#include "base/err.h"

struct slm2_buf {
    char *v;    /* [n] bytes, always followed by a NUL once anything was written */
    size_t n, cap;
    bool failed; /* out of memory once: later writes do nothing */
};
void slm2_buf_put(struct slm2_buf *b, const void *bytes, size_t n);
void slm2_buf_puts(struct slm2_buf *b, const char *s);
void slm2_buf_putc(struct slm2_buf *b, char c);
void slm2_buf_printf(struct slm2_buf *b, const char *fmt, ...) SLM2_PRINTF(2, 3);
void slm2_buf_clear(struct slm2_buf *b); /* n = 0, keeps the memory */
void slm2_buf_free(struct slm2_buf *b);
slm2_status slm2_buf_check(const struct slm2_buf *b, struct slm2_err *err); /* SLM2_ENOMEM when failed */
#endif
