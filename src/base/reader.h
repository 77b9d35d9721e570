/* reader.h - bounded cursor over foreign little-endian bytes.  The first error sticks and carries the byte offset. */
#ifndef SLM2_BASE_READER_H
#define SLM2_BASE_READER_H
#include "base/err.h"

struct slm2_rd {
    const uint8_t *p;
    size_t n, at;
    const char *what; /* file name for messages; borrowed */
    struct slm2_err err;
};
void slm2_rd_init(struct slm2_rd *r, const void *p, size_t n, const char *what);
static inline bool slm2_rd_ok(const struct slm2_rd *r) { return r->err.status == SLM2_OK; }
void slm2_rd_fail(struct slm2_rd *r, const char *fmt, ...) SLM2_PRINTF(2, 3); /* keeps the first failure; "what: byte 123: ..." */
/* All return 0 or NULL once the reader has failed. */
uint8_t slm2_rd_u8(struct slm2_rd *r);
uint16_t slm2_rd_u16(struct slm2_rd *r);
uint32_t slm2_rd_u32(struct slm2_rd *r);
uint64_t slm2_rd_u64(struct slm2_rd *r);
const uint8_t *slm2_rd_bytes(struct slm2_rd *r, uint64_t n); /* borrowed from the input */
slm2_status slm2_rd_status(const struct slm2_rd *r, struct slm2_err *err); /* copies the failure out */
#endif
