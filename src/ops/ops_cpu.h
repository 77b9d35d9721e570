/* ops_cpu.h - what the files of the cpu backend share.  Internal to src/ops.
 *
 * Every op cuts its outputs into pieces whose size depends on the shapes only and computes each piece whole, in a fixed order, on whichever
 * thread owns it: so the bits do not depend on the number of threads. */
#ifndef SLM2_OPS_CPU_H
#define SLM2_OPS_CPU_H
#include "base/num.h"
#include "ops/ops.h"

enum { SLM2_CPU_ROWS = 4 }; /* rows of max_row floats that row-wise ops may keep in scratch */

/* Scratch that the matrix and attention ops need, in floats. */
size_t slm2_cpu_linear_floats(size_t max_row);
size_t slm2_cpu_linear_bwd_floats(void);
size_t slm2_cpu_attn_floats(size_t n_ctx, size_t head_dim);

void slm2_cpu_linear(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const struct slm2_mat *b);
void slm2_cpu_linear_bwd(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dw, struct slm2_mat *db,
                         const struct slm2_mat *dy, const struct slm2_mat *x, const struct slm2_mat *w);
void slm2_cpu_attn(struct slm2_ctx *c, struct slm2_mat *o, float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                   int n_head, int n_kv_head, const struct slm2_seqs *seqs);
void slm2_cpu_attn_bwd(struct slm2_ctx *c, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv, const struct slm2_mat *do_,
                       const struct slm2_mat *o, const float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                       int n_head, int n_kv_head, const struct slm2_seqs *seqs);

/* Address of element (row, col); col must be a multiple of the type's block. */
static inline void *slm2_cpu_at(const struct slm2_mat *m, int row, int col)
{
    return (uint8_t *)m->data + slm2_dtype_bytes(m->dtype, (size_t)row * (size_t)m->stride + (size_t)col);
}
/* n elements from (row, col) as floats: where they lie when m is F32, else converted to tmp[n]. */
static inline const float *slm2_cpu_load(const struct slm2_ctx *c, const struct slm2_mat *m, int row, int col, int n, float *tmp)
{
    if (m->dtype == SLM2_F32) return slm2_cpu_at(m, row, col);
    c->k->to_f32[m->dtype](tmp, slm2_cpu_at(m, row, col), (size_t)n);
    return tmp;
}
/* Where to compute n floats for (row, col): in place when m is F32, else in tmp; slm2_cpu_store then rounds tmp into m. */
static inline float *slm2_cpu_dest(const struct slm2_mat *m, int row, int col, float *tmp)
{
    return m->dtype == SLM2_F32 ? slm2_cpu_at(m, row, col) : tmp;
}
static inline void slm2_cpu_store(const struct slm2_ctx *c, const struct slm2_mat *m, int row, int col, int n, const float *tmp)
{
    if (m->dtype != SLM2_F32) c->k->from_f32[m->dtype](slm2_cpu_at(m, row, col), tmp, (size_t)n);
}
/* Rows [row, row + n_row) x columns [col, col + n_col) as a float panel: in place (its stride to *ld) when F32, else converted to tmp. */
const float *slm2_cpu_panel(const struct slm2_ctx *c, const struct slm2_mat *m, int row, int n_row, int col, int n_col, float *tmp, size_t *ld);
#endif
