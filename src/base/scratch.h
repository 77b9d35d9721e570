/* scratch.h - a growing block of bytes in an unnamed file: tables that may outgrow memory.  The kernel writes pages out when memory is
 * short and the file vanishes with the process, however it ends. */
#ifndef SLM2_BASE_SCRATCH_H
#define SLM2_BASE_SCRATCH_H
#include "base/err.h"

struct slm2_scratch {
    uint8_t *p; /* [n]; NULL while n is 0; moves when the block grows */
    size_t n;
    int fd;
};
/* In the folder dir, which must exist and be writable; NULL: in memory. */
slm2_status slm2_scratch_open(struct slm2_scratch *s, const char *dir, struct slm2_err *err);
/* At least n bytes; the new ones are zero.  The disk space is reserved here, so that a full disk is an error and not a fault later. */
slm2_status slm2_scratch_grow(struct slm2_scratch *s, size_t n, struct slm2_err *err);
void slm2_scratch_close(struct slm2_scratch *s); /* accepts NULL, zeroed and closed */
#endif
