/* bucket.c - arithmetic of the layout; see bucket.h. */
#include "dist/bucket.h"

#include <stdlib.h>

#include "base/num.h"

static size_t chunks(size_t n) { return (n + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK; }

slm2_status slm2_buckets_init(struct slm2_buckets *b, size_t flat_elems, size_t bucket_elems, int n_rank, struct slm2_err *err)
{
    size_t total = chunks(flat_elems), per = n_rank == 1 ? total : slm2_min_size(total, bucket_elems ? chunks(bucket_elems) : 1);
    *b = (struct slm2_buckets){.n_rank = n_rank, .flat_elems = flat_elems};
    size_t n = total ? (total + per - 1) / per : 0; /* nothing may be trained at all */
    b->v = n <= INT32_MAX / 2 ? calloc(n ? n : 1, sizeof *b->v) : NULL;
    if (!b->v) return slm2_fail(err, SLM2_ENOMEM, "no memory for %zu buckets of gradients; use larger ones", n);
    for (size_t hi = total; hi > 0; b->n++) {
        size_t lo = hi > per ? hi - per : 0;
        struct slm2_span s = {lo * SLM2_SQ_CHUNK, slm2_min_size(hi * SLM2_SQ_CHUNK, flat_elems)};
        b->v[b->n] = s;
        if (s.to - s.from > b->largest) b->largest = s.to - s.from;
        hi = lo;
    }
    return SLM2_OK;
}

void slm2_buckets_free(struct slm2_buckets *b)
{
    free(b->v);
    *b = (struct slm2_buckets){0};
}

struct slm2_span slm2_buckets_part(const struct slm2_buckets *b, int bucket, int rank)
{
    struct slm2_span s = b->v[bucket];
    size_t n = chunks(s.to - s.from), R = (size_t)b->n_rank, r = (size_t)rank;
    size_t from = s.from + n * r / R * SLM2_SQ_CHUNK, to = s.from + n * (r + 1) / R * SLM2_SQ_CHUNK;
    return (struct slm2_span){slm2_min_size(from, s.to), slm2_min_size(to, s.to)};
}

int slm2_block_size(int n, int n_rank)
{
    int size = 1;
    while ((int64_t)size * n_rank < n) size *= 2;
    return size;
}

struct slm2_block slm2_block_of(int n, int n_rank, int rank)
{
    int size = slm2_block_size(n, n_rank);
    int64_t first = (int64_t)size * rank, end = first + size;
    if (first >= n) return (struct slm2_block){n, 0};
    return (struct slm2_block){(int)first, (int)(end < n ? end : n) - (int)first};
}
