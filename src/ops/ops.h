/* ops.h - the one table of operations on tensors, forward and backward.  Model and trainer never ask which backend runs.
 *
 * Outputs come first.  Ops return nothing: shapes were checked when the plan was made.  Matrices are row-major; activations are
 * F32 or BF16 (bf16 results are rounded once, sums are fp32), weights any type with to_f32; gradients of weights are F32
 * and accumulated (+=).  Backends: `ref` straight from the equations with sums in double, one thread, F32 and BF16; `cpu` with
 * kernels and threads, the same bits for any number of threads. */
#ifndef SLM2_OPS_H
#define SLM2_OPS_H
#include "base/arena.h"
#include "kernels/kernels.h"

struct slm2_mat {
    void *data;
    enum slm2_dtype dtype;
    int n_row, n_col;
    int stride; /* elements from row to row, >= n_col */
};

struct slm2_run { int row, n; }; /* rows of keys that lie one behind the other */

/* Where sequences lie.  Query row r of sequence s (cu_seqlens[s] <= r < cu_seqlens[s+1]) sees the key rows kv_start[s] ...
 * kv_start[s] + position[r], inclusive.  In training k and v are the batch's own rows: kv_start = cu_seqlens.
 * Sequences that share their beginnings have keys in several pieces: with `run`, sequence s sees the first position[r] + 1 of the rows of
 * run[cu_runs[s]] ... run[cu_runs[s+1] - 1], in that order, and kv_start is not read.  Forward only; the bits are those of keys in one piece.
 * Not where attention multiplies in bf16 (BF16 and Q8_0 keys without `exact`). */
struct slm2_seqs {
    int n_seq;
    const int32_t *cu_seqlens;  /* [n_seq + 1] */
    const int32_t *kv_start;    /* [n_seq] */
    const int32_t *position;    /* [n_tok] */
    const struct slm2_run *run; /* NULL: in one piece */
    const int32_t *cu_runs;     /* [n_seq + 1] */
};
/* The row of key j; *left: rows from it to the end of its piece. */
static inline int slm2_run_row(const struct slm2_run *run, int j, int *left)
{
    for (; j >= run->n; run++) j -= run->n;
    *left = run->n - j;
    return run->row + j;
}

enum { SLM2_SQ_CHUNK = 4096 }; /* elements whose squares are one sum: a norm is the sum of such sums in order, whoever computed them */

struct slm2_ctx; /* backend, kernels, threads, scratch */

struct slm2_ops {
    const char *name;
    /* y[r] = table[ids[r]];   dtable[ids[r]] += dy[r] */
    void (*embed)(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *table, const int32_t *ids);
    void (*embed_bwd)(struct slm2_ctx *c, struct slm2_mat *dtable, const struct slm2_mat *dy, const int32_t *ids);
    /* y = xhat * gamma + beta, xhat = (x - mean) * rstd, biased variance, eps inside the root.  gamma is F32 [g, n_col]: row r uses
     * gamma row r mod g (g = 1, or n_head for per-head q/k norm on rows viewed as [n_tok * n_head, head_dim]).  beta may be NULL.
     * mean, rstd: [n_row] kept for the backward, may be NULL.  y may be x. */
    void (*layer_norm)(struct slm2_ctx *c, struct slm2_mat *y, float *mean, float *rstd, const struct slm2_mat *x, const struct slm2_mat *gamma, const struct slm2_mat *beta, float eps);
    /* dx (= or += when accumulate);  dgamma, dbeta +=;  dbeta may be NULL */
    void (*layer_norm_bwd)(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dgamma, struct slm2_mat *dbeta, const struct slm2_mat *dy, const struct slm2_mat *x, const float *mean, const float *rstd, const struct slm2_mat *gamma);
    /* y[r,o] = sum_i x[r,i] w[o,i] + b[o];  b is F32 [1, n_out] or NULL */
    void (*linear)(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const struct slm2_mat *b);
    /* dx[r,i] (= or +=) sum_o dy[r,o] w[o,i];  dw[o,i] += sum_r dy[r,o] x[r,i];  db[o] += sum_r dy[r,o].  dx, dw, db may be NULL */
    void (*linear_bwd)(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dw, struct slm2_mat *db, const struct slm2_mat *dy, const struct slm2_mat *x, const struct slm2_mat *w);
    /* In place on x [n_tok, n_head * head_dim]: dims i and i + n_rot/2 of each head turn by position * theta^(-2i/n_rot); sign -1 undoes it (the backward) */
    void (*rope)(struct slm2_ctx *c, struct slm2_mat *x, int n_head, int n_rot, float theta, int sign, const int32_t *position);
    /* o [n_tok, n_head * head_dim] = softmax(q k^T / sqrt(head_dim)) v over the rows that seqs allows; head h reads kv head
     * h / (n_head / n_kv_head).  lse [n_tok * n_head] (log-sum-exp of the scaled scores) is kept for the backward, may be NULL. */
    void (*attn)(struct slm2_ctx *c, struct slm2_mat *o, float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, int n_head, int n_kv_head, const struct slm2_seqs *seqs);
    /* dq, dk, dv are set (not accumulated) on all rows of the batch */
    void (*attn_bwd)(struct slm2_ctx *c, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv, const struct slm2_mat *do_, const struct slm2_mat *o, const float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, int n_head, int n_kv_head, const struct slm2_seqs *seqs);
    /* y = silu(gate) * up */
    void (*swiglu)(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *gate, const struct slm2_mat *up);
    void (*swiglu_bwd)(struct slm2_ctx *c, struct slm2_mat *dgate, struct slm2_mat *dup, const struct slm2_mat *dy, const struct slm2_mat *gate, const struct slm2_mat *up);
    void (*add)(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *a, const struct slm2_mat *b); /* y may be a or b */
    void (*scale)(struct slm2_ctx *c, struct slm2_mat *y, float by); /* y = by y; its gradient is the same again */
    /* dst[index[r]] = src[r]: new keys and values into the cache */
    void (*scatter)(struct slm2_ctx *c, struct slm2_mat *dst, const struct slm2_mat *src, const int32_t *index);
    /* lp[r] = log softmax(logits[r, :n_valid])[target[r]], 0 where target[r] < 0.  When dlogits is not NULL, dlogits[r] =
     * weight[r] * (softmax - onehot(target)), the gradient of -sum_r weight[r] lp[r]; dlogits may be logits, and BF16 where rows begin where those of logits do; else F32.  argmax [n_row] may be NULL. */
    void (*logprob)(struct slm2_ctx *c, float *lp, int32_t *argmax, struct slm2_mat *dlogits, const struct slm2_mat *logits, const int32_t *target, const float *weight);
    void (*copy)(struct slm2_ctx *c, struct slm2_mat *dst, const struct slm2_mat *src); /* converts between types, fp32 <-> bf16 */
    void (*zero)(struct slm2_ctx *c, void *p, size_t bytes);
    /* part[i] = sum of the squares of x[i * SLM2_SQ_CHUNK] and what follows it in its chunk; n elements, the last chunk may be short */
    void (*sum_sq)(struct slm2_ctx *c, double *part, const float *x, size_t n);
    void (*adamw)(struct slm2_ctx *c, float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2, float eps, float wd, int64_t t);
    void (*rmsprop)(struct slm2_ctx *c, float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps);
};

struct slm2_ctx {
    const struct slm2_ops *ops;
    const struct slm2_kernels *k;
    int n_threads;
    bool exact;            /* see slm2_ctx_opts */
    float **scratch;       /* [n_threads] per-thread scratch of scratch_floats each; grown by slm2_ctx_reserve only */
    size_t scratch_floats;
    void *shared;          /* one for all threads: what an op has packed for them; at least SLM2_FEW rows of the widest, grown with scratch */
    size_t shared_bytes;
};

struct slm2_ctx_opts {
    const char *backend; /* "cpu" (NULL) or "ref" */
    const char *isa;     /* NULL: best */
    int n_threads;       /* 0: one per core */
    /* false: a product takes the form that its weights' type is fast in: activations are rounded to int8 blocks or bf16 before they meet packed or
     * bf16 weights (struct slm2_product).  true: all weights are widened to fp32 first.  The same for F32 and F16 weights, and where
     * activations are bf16 already. */
    bool exact;
};
/* scratch_floats: what the widest row or tile of any later op needs (slm2_ops_scratch_floats). */
slm2_status slm2_ctx_init(struct slm2_ctx *c, const struct slm2_ctx_opts *o, struct slm2_err *err);
slm2_status slm2_ctx_reserve(struct slm2_ctx *c, size_t scratch_floats, struct slm2_err *err);
void slm2_ctx_free(struct slm2_ctx *c);
/* Scratch per thread for a model of these sizes. */
size_t slm2_ops_scratch_floats(int max_row, int n_ctx, int head_dim);

/* Sum of squares of a vector: its chunks in order. */
double slm2_sum_sq(struct slm2_ctx *c, const float *x, size_t n);

extern const struct slm2_ops slm2_ops_ref, slm2_ops_cpu;

static inline struct slm2_mat slm2_mat_of(void *data, enum slm2_dtype t, int n_row, int n_col)
{
    return (struct slm2_mat){data, t, n_row, n_col, n_col};
}
static inline struct slm2_mat slm2_mat_rows(const struct slm2_mat *m, int row, int n) /* a view of rows [row, row + n) */
{
    struct slm2_mat v = *m;
    v.data = (uint8_t *)m->data + slm2_dtype_bytes(m->dtype, (size_t)row * (size_t)m->stride);
    v.n_row = n;
    return v;
}
static inline size_t slm2_mat_row_bytes(const struct slm2_mat *m) { return slm2_dtype_bytes(m->dtype, (size_t)m->stride); }
#endif
