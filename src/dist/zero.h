/* zero.h - ZeRO stage 1: every rank computes with all parameters and holds fp32 master weights and optimizer state for its shard only.
 *
 * A step:  slm2_zero_begin; while the last micro-batch runs backwards, slm2_zero_final as gradients become final: a complete bucket is sent at once;
 *          slm2_zero_reduce: own parts of grad now hold the sum over all ranks; slm2_zero_norm; the caller updates its shard (slm2_zero_part)
 *          and puts the new weights into its part of the model's; slm2_zero_share_*: all ranks have all weights.
 * The sum over ranks is the top of the binary tree over the step's micro-batches (bucket.h): each part is received from all ranks that have
 * micro-batches and added pairwise in fixed places, so nothing depends on when messages arrive.  With one rank all of this does nothing.
 * Memory beyond the model: slm2_zero_bytes.  One thread. */
#ifndef SLM2_DIST_ZERO_H
#define SLM2_DIST_ZERO_H
#include "dist/bucket.h"
#include "dist/comm.h"

enum { SLM2_ZERO_SLOTS = 2 }; /* buckets that may be on their way at a time */

struct slm2_zero_vector { int rank; float *data; size_t n; }; /* a stretch of norms or biases and its owner */

struct slm2_zero {
    struct slm2_comm *comm;
    struct slm2_ctx *ctx;
    struct slm2_buckets buckets;
    struct slm2_span *own; /* [buckets.n] parts of this rank: where master weights are held (slm2_model_trainable_shard) */
    size_t shard_elems;
    int n_adder;           /* ranks that have micro-batches: those before it */
    float *grad;           /* flat */
    double comm_s;         /* spent in collectives since the start */
    /* the rest is zero.c's */
    struct slm2_arena mem;
    float *recv[SLM2_ZERO_SLOTS];
    int n_sent, n_reduced;
    struct slm2_piece *out, *in;
    float **leaf;
    double *sum, *sum_mine, *sum_all; /* squares of chunks */
    size_t n_sum_mine;                /* of the rank that has most */
    struct slm2_zero_vector *vector;
    int n_vector;
    float *vec_mine, *vec_all;
    size_t n_vec_mine;
    slm2_status status; /* first failure inside the backward, reported by reduce */
    struct slm2_err err;
};
/* n_micro: micro-batches of a step, all ranks.  comm is borrowed. */
slm2_status slm2_zero_init(struct slm2_zero *z, struct slm2_comm *comm, size_t flat_elems, size_t bucket_elems, int n_micro, struct slm2_err *err);
/* Before the first step. */
slm2_status slm2_zero_bind(struct slm2_zero *z, struct slm2_ctx *ctx, const struct slm2_model *m, struct slm2_err *err);
void slm2_zero_free(struct slm2_zero *z);
size_t slm2_zero_bytes(const struct slm2_zero *z);

void slm2_zero_begin(struct slm2_zero *z);
void slm2_zero_final(struct slm2_zero *z, size_t from); /* grad[from ...] of this rank will not change any more */
slm2_status slm2_zero_reduce(struct slm2_zero *z, struct slm2_err *err);
slm2_status slm2_zero_norm(struct slm2_zero *z, double *sum_sq, struct slm2_err *err);
/* Part i < buckets.n of the shard: elements of the flat buffers; *at its place in the shard. */
struct slm2_span slm2_zero_part(const struct slm2_zero *z, int i, size_t *at);
/* The owners' parts of a flat buffer with elem_bytes an element to all ranks. */
slm2_status slm2_zero_share_flat(struct slm2_zero *z, void *flat, size_t elem_bytes, struct slm2_err *err);
/* The same for norms and biases that have their own copy. */
slm2_status slm2_zero_share_vectors(struct slm2_zero *z, struct slm2_err *err);

/* All shards of a state into flat on rank 0 (for a checkpoint); flat is not touched on other ranks.  A shard is of F32 or BF16, flat always fp32. */
slm2_status slm2_zero_collect(struct slm2_zero *z, const void *shard, enum slm2_dtype type, float *flat, struct slm2_err *err);
void slm2_zero_take(const struct slm2_zero *z, const float *flat, void *shard, enum slm2_dtype type); /* the own parts of a whole state */
#endif
