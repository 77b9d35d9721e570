/* reader.c - the bounded cursor: no read passes the end, the first failure stays and names its byte. */
#include "base/reader.h"

#include <stdarg.h>
#include <stdio.h>

void slm2_rd_init(struct slm2_rd *r, const void *p, size_t n, const char *what)
{
    *r = (struct slm2_rd){.p = p, .n = n, .what = what};
}

void slm2_rd_fail(struct slm2_rd *r, const char *fmt, ...)
{
    if (!slm2_rd_ok(r)) return;
    char text[sizeof r->err.msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    slm2_fail(&r->err, SLM2_EFORMAT, "%s: byte %zu: %s", r->what, r->at, text);
}

const uint8_t *slm2_rd_bytes(struct slm2_rd *r, uint64_t n)
{
    if (!slm2_rd_ok(r)) return NULL;
    if (n > r->n - r->at) {
        slm2_rd_fail(r, "%llu bytes wanted, %zu left: the file is truncated or a count is wrong", (unsigned long long)n, r->n - r->at);
        return NULL;
    }
    const uint8_t *p = r->p + r->at;
    r->at += (size_t)n;
    return p;
}

static uint64_t little_endian(struct slm2_rd *r, int width)
{
    const uint8_t *p = slm2_rd_bytes(r, (uint64_t)width);
    uint64_t v = 0;
    if (!p) return 0;
    for (int i = width; i-- > 0;) v = v << 8 | p[i];
    return v;
}

uint8_t slm2_rd_u8(struct slm2_rd *r) { return (uint8_t)little_endian(r, 1); }
uint16_t slm2_rd_u16(struct slm2_rd *r) { return (uint16_t)little_endian(r, 2); }
uint32_t slm2_rd_u32(struct slm2_rd *r) { return (uint32_t)little_endian(r, 4); }
uint64_t slm2_rd_u64(struct slm2_rd *r) { return little_endian(r, 8); }

slm2_status slm2_rd_status(const struct slm2_rd *r, struct slm2_err *err)
{
    if (err && !slm2_rd_ok(r)) *err = r->err;
    return r->err.status;
}
