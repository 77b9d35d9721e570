/* bucket.h - how the flat buffers are cut into buckets and shared out among ranks.
 *
 * Buckets follow the order in which gradients become final: bucket 0 ends at the end of the flat buffer, the last one begins at 0.  Their borders are
 * multiples of SLM2_SQ_CHUNK, the unit whose squares are one sum, and so are the borders between the ranks' parts of a bucket: whoever owns a chunk gets
 * the same sum.  What does not divide is shared out unevenly, by one chunk.  One rank: one bucket, all of it.
 * A shard is what one rank owns: its parts of all buckets, one behind the other in the order of the buckets.
 *
 * Micro-batches are owned in blocks too: rank r has those from r * block to (r + 1) * block, with the smallest power of two that covers the step.
 * A block is then a subtree of the binary tree over all of them, which makes the sum independent of the number of ranks. */
#ifndef SLM2_DIST_BUCKET_H
#define SLM2_DIST_BUCKET_H
#include "model/model.h"

struct slm2_buckets {
    struct slm2_span *v; /* [n] */
    int n, n_rank;
    size_t flat_elems, largest; /* elements of all, of the largest bucket */
};
/* bucket_elems: a bucket closes when it has as many (rounded up to chunks). */
slm2_status slm2_buckets_init(struct slm2_buckets *b, size_t flat_elems, size_t bucket_elems, int n_rank, struct slm2_err *err);
void slm2_buckets_free(struct slm2_buckets *b);
struct slm2_span slm2_buckets_part(const struct slm2_buckets *b, int bucket, int rank); /* may be empty */

/* The micro-batches of a rank among n of a step. */
struct slm2_block { int first, n; };
int slm2_block_size(int n, int n_rank);
struct slm2_block slm2_block_of(int n, int n_rank, int rank); /* n 0: more ranks than blocks */
#endif
