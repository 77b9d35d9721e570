/* zero.c - gradients to their owners, in order; weights back to everyone. */
#include "dist/zero.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"

static size_t length(struct slm2_span s) { return s.to - s.from; }
static bool adds(const struct slm2_zero *z, int rank) { return rank < z->n_adder; }

/* Chunks that a rank owns: its parts begin at chunks, so they add up. */
static size_t shard_chunks(const struct slm2_buckets *b, int rank)
{
    size_t n = 0;
    for (int i = 0; i < b->n; i++) n += (length(slm2_buckets_part(b, i, rank)) + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK;
    return n;
}

static slm2_status lay(struct slm2_zero *z, struct slm2_err *err)
{
    const struct slm2_buckets *b = &z->buckets;
    size_t part = 0, R = (size_t)b->n_rank, n_chunk = (b->flat_elems + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK;
    for (int i = 0; i < b->n; i++) part = length(z->own[i]) > part ? length(z->own[i]) : part;
    for (int r = 0; r < b->n_rank; r++) {
        size_t n = shard_chunks(b, r);
        if (n > z->n_sum_mine) z->n_sum_mine = n;
    }
    size_t senders = (size_t)(z->n_adder - adds(z, z->comm->rank)), recv = slm2_arena_piece(part * senders * sizeof(float));
    size_t bytes = SLM2_ZERO_SLOTS * recv + 2 * slm2_arena_piece(R * sizeof *z->out) + slm2_arena_piece(R * sizeof *z->leaf) + slm2_arena_piece(n_chunk * sizeof(double));
    if (R > 1) bytes += slm2_arena_piece(z->n_sum_mine * sizeof(double)) + slm2_arena_piece(R * z->n_sum_mine * sizeof(double));
    SLM2_TRY(slm2_arena_init(&z->mem, bytes, "buckets of gradients", err));
    for (int i = 0; i < SLM2_ZERO_SLOTS; i++) z->recv[i] = slm2_arena_take(&z->mem, recv);
    z->out = slm2_arena_take(&z->mem, R * sizeof *z->out);
    z->in = slm2_arena_take(&z->mem, R * sizeof *z->in);
    z->leaf = slm2_arena_take(&z->mem, R * sizeof *z->leaf);
    z->sum = slm2_arena_take(&z->mem, n_chunk * sizeof(double));
    z->sum_mine = R > 1 ? slm2_arena_take(&z->mem, z->n_sum_mine * sizeof(double)) : z->sum;
    z->sum_all = R > 1 ? slm2_arena_take(&z->mem, R * z->n_sum_mine * sizeof(double)) : z->sum;
    return SLM2_OK;
}

slm2_status slm2_zero_init(struct slm2_zero *z, struct slm2_comm *comm, size_t flat_elems, size_t bucket_elems, int n_micro, struct slm2_err *err)
{
    *z = (struct slm2_zero){.comm = comm};
    SLM2_TRY(slm2_buckets_init(&z->buckets, flat_elems, bucket_elems, comm->n_rank, err));
    z->own = calloc((size_t)z->buckets.n, sizeof *z->own);
    slm2_status st = z->own ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for %d buckets of gradients", z->buckets.n);
    for (int i = 0; st == SLM2_OK && i < z->buckets.n; i++) {
        z->own[i] = slm2_buckets_part(&z->buckets, i, comm->rank);
        z->shard_elems += length(z->own[i]);
    }
    int block = slm2_block_size(n_micro, comm->n_rank);
    z->n_adder = (n_micro + block - 1) / block;
    if (st == SLM2_OK) st = lay(z, err);
    if (st != SLM2_OK) slm2_zero_free(z);
    return st;
}

/* Stretches of norms and biases, rank by rank in the order of the buckets: what one rank packs all others unpack. */
static int list_vectors(const struct slm2_zero *z, const struct slm2_model *m, struct slm2_zero_vector *out)
{
    int n = 0;
    for (int r = 0; r < z->buckets.n_rank; r++)
        for (int b = 0; b < z->buckets.n; b++) {
            struct slm2_span s = slm2_buckets_part(&z->buckets, b, r);
            for (int i = 0; i < m->params.n; i++) {
                const struct slm2_param *p = &m->params.v[i];
                size_t from = p->at > s.from ? p->at : s.from, to = slm2_min_size(p->at + (size_t)p->n_row * (size_t)p->n_col, s.to);
                if (p->is_matrix || from >= to) continue;
                if (out) out[n] = (struct slm2_zero_vector){r, (float *)p->w.data + (from - p->at), to - from};
                n++;
            }
        }
    return n;
}

slm2_status slm2_zero_bind(struct slm2_zero *z, struct slm2_ctx *ctx, const struct slm2_model *m, struct slm2_err *err)
{
    z->ctx = ctx;
    z->grad = slm2_model_grad(m);
    if (!m->own) return SLM2_OK; /* one rank, or fp32: norms and biases lie among the weights */
    z->n_vector = list_vectors(z, m, NULL);
    z->vector = calloc((size_t)z->n_vector + 1, sizeof *z->vector);
    if (!z->vector) return slm2_fail(err, SLM2_ENOMEM, "no memory for %d norms and biases", z->n_vector);
    list_vectors(z, m, z->vector);
    for (int i = 0, r = 0; r < z->buckets.n_rank; r++) {
        size_t n = 0;
        for (; i < z->n_vector && z->vector[i].rank == r; i++) n += z->vector[i].n;
        if (n > z->n_vec_mine) z->n_vec_mine = n;
    }
    z->vec_mine = calloc(((size_t)z->buckets.n_rank + 1) * z->n_vec_mine, sizeof *z->vec_mine);
    if (!z->vec_mine) return slm2_fail(err, SLM2_ENOMEM, "no memory for norms and biases of %d ranks", z->buckets.n_rank);
    z->vec_all = z->vec_mine + z->n_vec_mine;
    return SLM2_OK;
}

void slm2_zero_free(struct slm2_zero *z)
{
    slm2_buckets_free(&z->buckets);
    slm2_arena_free(&z->mem);
    free(z->own);
    free(z->vector);
    free(z->vec_mine);
    *z = (struct slm2_zero){0};
}

size_t slm2_zero_bytes(const struct slm2_zero *z)
{
    return z->mem.size + (z->vec_mine ? ((size_t)z->buckets.n_rank + 1) * z->n_vec_mine * sizeof(float) : 0);
}

/* ---- the sum over ranks ------------------------------------------------------------------------------------------------- */
static struct slm2_mat flat_mat(float *x, size_t n) { return slm2_mat_of(x, SLM2_F32, 1, (int)n); }

static void send_bucket(struct slm2_zero *z, int b)
{
    int slot = b % SLM2_ZERO_SLOTS, self = z->comm->rank;
    size_t mine = length(z->own[b]) * sizeof(float);
    for (int r = 0, k = 0; r < z->comm->n_rank; r++) {
        struct slm2_span s = slm2_buckets_part(&z->buckets, b, r);
        z->out[r] = (struct slm2_piece){s.from * sizeof(float), adds(z, self) && r != self ? length(s) * sizeof(float) : 0};
        z->in[r] = (struct slm2_piece){(size_t)k * mine, adds(z, r) && r != self ? mine : 0};
        k += adds(z, r) && r != self;
    }
    z->status = z->comm->ops->start_exchange(z->comm, slot, z->grad, z->out, z->recv[slot], z->in, &z->err);
    z->n_sent = b + 1;
}

/* Leaves in the order of the ranks, added pairwise: 0+1, 2+3, ...; then (01)+(23), ...: what is missing at the end is left out. */
static void add_bucket(struct slm2_zero *z, int b)
{
    int slot = b % SLM2_ZERO_SLOTS, self = z->comm->rank, n = z->n_adder;
    size_t mine = length(z->own[b]);
    z->status = z->comm->ops->wait(z->comm, slot, &z->err);
    z->n_reduced = b + 1;
    if (z->status != SLM2_OK || mine == 0) return;
    float *own = z->grad + z->own[b].from;
    for (int r = 0, k = 0; r < n; r++) z->leaf[r] = r == self ? own : z->recv[slot] + (size_t)k++ * mine;
    for (int step = 1; step < n; step *= 2)
        for (int r = 0; r + step < n; r += 2 * step) {
            struct slm2_mat y = flat_mat(z->leaf[r], mine), x = flat_mat(z->leaf[r + step], mine);
            z->ctx->ops->add(z->ctx, &y, &y, &x);
        }
    if (z->leaf[0] != own) memcpy(own, z->leaf[0], mine * sizeof(float));
}

void slm2_zero_begin(struct slm2_zero *z)
{
    z->n_sent = z->n_reduced = 0;
    z->status = SLM2_OK;
}

void slm2_zero_final(struct slm2_zero *z, size_t from)
{
    if (z->comm->n_rank == 1 || z->status != SLM2_OK) return;
    double start = slm2_now_s();
    while (z->status == SLM2_OK && z->n_sent < z->buckets.n && z->buckets.v[z->n_sent].from >= from) {
        if (z->n_sent - z->n_reduced == SLM2_ZERO_SLOTS) add_bucket(z, z->n_reduced);
        if (z->status == SLM2_OK) send_bucket(z, z->n_sent);
    }
    if (z->status == SLM2_OK) z->status = z->comm->ops->poll(z->comm, &z->err);
    z->comm_s += slm2_now_s() - start;
}

slm2_status slm2_zero_reduce(struct slm2_zero *z, struct slm2_err *err)
{
    if (z->comm->n_rank == 1) return SLM2_OK;
    slm2_zero_final(z, 0); /* a rank without micro-batches has sent nothing yet */
    double start = slm2_now_s();
    while (z->status == SLM2_OK && z->n_reduced < z->buckets.n) add_bucket(z, z->n_reduced);
    z->comm_s += slm2_now_s() - start;
    if (z->status != SLM2_OK && err) *err = z->err;
    return z->status;
}

slm2_status slm2_zero_norm(struct slm2_zero *z, double *sum_sq, struct slm2_err *err)
{
    size_t k = 0, n_chunk = (z->buckets.flat_elems + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK;
    for (int b = 0; b < z->buckets.n; b++) {
        struct slm2_span s = z->own[b];
        if (s.from == s.to) continue;
        z->ctx->ops->sum_sq(z->ctx, z->sum_mine + k, z->grad + s.from, length(s));
        k += (length(s) + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK;
    }
    if (z->comm->n_rank > 1) {
        double start = slm2_now_s();
        SLM2_TRY(z->comm->ops->all_gather(z->comm, z->sum_all, z->sum_mine, z->n_sum_mine * sizeof(double), err));
        z->comm_s += slm2_now_s() - start;
        for (int r = 0; r < z->comm->n_rank; r++) {
            const double *from = z->sum_all + (size_t)r * z->n_sum_mine;
            for (int b = 0; b < z->buckets.n; b++) {
                struct slm2_span s = slm2_buckets_part(&z->buckets, b, r);
                size_t n = (length(s) + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK;
                memcpy(z->sum + s.from / SLM2_SQ_CHUNK, from, n * sizeof(double));
                from += n;
            }
        }
    }
    *sum_sq = 0;
    for (size_t i = 0; i < n_chunk; i++) *sum_sq += z->sum[i];
    return SLM2_OK;
}

/* ---- shards and the whole ----------------------------------------------------------------------------------------------- */
struct slm2_span slm2_zero_part(const struct slm2_zero *z, int i, size_t *at)
{
    *at = 0;
    for (int b = 0; b < i; b++) *at += length(z->own[b]);
    return z->own[i];
}

slm2_status slm2_zero_share_flat(struct slm2_zero *z, void *flat, size_t elem_bytes, struct slm2_err *err)
{
    enum { FIRST = SLM2_ZERO_SLOTS, N = SLM2_COMM_SLOTS - SLM2_ZERO_SLOTS };
    struct slm2_comm *c = z->comm;
    if (c->n_rank == 1) return SLM2_OK;
    double start = slm2_now_s();
    for (int b = 0; b < z->buckets.n + N; b++) { /* the last N turns only wait */
        int slot = FIRST + b % N;
        SLM2_TRY(c->ops->wait(c, slot, err));
        if (b >= z->buckets.n) continue;
        for (int r = 0; r < c->n_rank; r++) {
            struct slm2_span s = slm2_buckets_part(&z->buckets, b, r);
            z->out[r] = (struct slm2_piece){s.from * elem_bytes, length(s) * elem_bytes};
        }
        SLM2_TRY(c->ops->start_share(c, slot, flat, z->out, err));
    }
    z->comm_s += slm2_now_s() - start;
    return SLM2_OK;
}

slm2_status slm2_zero_share_vectors(struct slm2_zero *z, struct slm2_err *err)
{
    if (!z->vector) return SLM2_OK;
    size_t k = 0;
    for (int i = 0; i < z->n_vector; i++) {
        const struct slm2_zero_vector *v = &z->vector[i];
        if (v->rank != z->comm->rank) continue;
        memcpy(z->vec_mine + k, v->data, v->n * sizeof(float));
        k += v->n;
    }
    double start = slm2_now_s();
    SLM2_TRY(z->comm->ops->all_gather(z->comm, z->vec_all, z->vec_mine, z->n_vec_mine * sizeof(float), err));
    z->comm_s += slm2_now_s() - start;
    for (int i = 0, r = -1; i < z->n_vector; i++) {
        const struct slm2_zero_vector *v = &z->vector[i];
        if (v->rank != r) k = 0;
        r = v->rank;
        memcpy(v->data, z->vec_all + (size_t)r * z->n_vec_mine + k, v->n * sizeof(float));
        k += v->n;
    }
    return SLM2_OK;
}

/* n elements of a shard as fp32.  bf16 may lie in the last half of y: an element is read before anything is written over it. */
static void widen(float *y, const void *x, enum slm2_dtype type, size_t n)
{
    const uint16_t *half = x;
    if (type == SLM2_F32) memmove(y, x, n * sizeof *y);
    else
        for (size_t i = 0; i < n; i++) y[i] = slm2_bf16_to_f32(half[i]);
}

slm2_status slm2_zero_collect(struct slm2_zero *z, const void *shard, enum slm2_dtype type, float *flat, struct slm2_err *err)
{
    struct slm2_comm *c = z->comm;
    for (int b = 0; b < z->buckets.n; b++) {
        size_t at;
        struct slm2_span mine = slm2_zero_part(z, b, &at);
        const uint8_t *part = (const uint8_t *)shard + slm2_dtype_bytes(type, at);
        if (c->rank > 0) {
            if (length(mine)) SLM2_TRY(c->ops->send(c, 0, part, slm2_dtype_bytes(type, length(mine)), err));
            continue;
        }
        widen(flat + mine.from, part, type, length(mine));
        for (int r = 1; r < c->n_rank; r++) {
            struct slm2_span s = slm2_buckets_part(&z->buckets, b, r);
            size_t bytes = slm2_dtype_bytes(type, length(s));
            uint8_t *to = (uint8_t *)(flat + s.to) - bytes;
            if (length(s)) SLM2_TRY(c->ops->recv(c, r, to, bytes, err));
            widen(flat + s.from, to, type, length(s));
        }
    }
    return SLM2_OK;
}

void slm2_zero_take(const struct slm2_zero *z, const float *flat, void *shard, enum slm2_dtype type)
{
    for (int b = 0; b < z->buckets.n; b++) {
        const float *x = flat + z->own[b].from;
        size_t n = length(z->own[b]);
        uint16_t *half = shard;
        if (type == SLM2_F32) memcpy(shard, x, n * sizeof *x);
        else
            for (size_t i = 0; i < n; i++) half[i] = slm2_f32_to_bf16(x[i]);
        shard = (uint8_t *)shard + slm2_dtype_bytes(type, n);
    }
}
