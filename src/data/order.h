/* order.h - the order of a source's documents in one epoch, as two arrays: which document comes k-th, and which token of the epoch is
 * its first.  With a folder they are a file there, made once, by whoever comes first, and mapped by all; without one they are in memory.
 *
 * SOURCE-EPOCH.order (numbers): "slm2-order 1\n\0\0\0"; u64 digest of all that the order depends on; u64 n_doc; u64 sum over the arrays; i64 start[n_doc + 1]; u32 doc[n_doc];
 * native byte order: the file is a cache, and another machine makes its own. */
#ifndef SLM2_DATA_ORDER_H
#define SLM2_DATA_ORDER_H
#include "data/shard.h"

struct slm2_order {
    int64_t epoch; /* -1: none */
    const uint32_t *doc;
    const int64_t *start;
    void *memory;         /* what they lie in: this, */
    struct slm2_map file; /* or this */
};
struct slm2_order_of {    /* whose order */
    const char *name;     /* of the source, for messages */
    const struct slm2_shard *shard;
    uint64_t digest;      /* of the shard, slm2_order_digest */
    uint64_t seed, source; /* the permutation is that of (seed, source, epoch) */
    bool keep;            /* as the file has them */
    const char *dir;      /* folder of the files; NULL: memory */
};
int64_t slm2_order_doc_tokens(const struct slm2_shard *shard, uint32_t doc); /* of all its sequences */
uint64_t slm2_order_digest(const struct slm2_shard *shard); /* of the sizes of all sequences and what makes them documents */
/* Replaces *o, {.epoch = -1} at first.  A file that does not fit is made anew; a folder that cannot be written leaves the arrays in memory. */
slm2_status slm2_order_open(struct slm2_order *o, const struct slm2_order_of *of, int64_t epoch, struct slm2_err *err);
void slm2_order_close(struct slm2_order *o);
#endif
