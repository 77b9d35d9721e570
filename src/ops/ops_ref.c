/* ops_ref.c - every operation straight from its equation: one thread, one element at a time, sums in double, no scratch.
 * Slow on purpose: it is the judge of the other backends. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ops/ops.h"

enum { CHUNK = 64 }; /* columns that one pass over the keys sums */

/* bits of a scale (part 0) or minimum (part 1) of group g: struct slm2_block_q4_k */
static int six_bits(const uint8_t s[12], int g, int part)
{
    int upper = s[(g & 3) + 4 * part] >> 6, nibble = part ? s[8 + (g & 3)] >> 4 : s[8 + (g & 3)] & 15;
    return g < 4 ? s[g + 4 * part] & 63 : upper << 4 | nibble;
}

/* Element `at` of a block; codes are `high` times 16 more than their nibble. */
static double k_value(uint16_t d, uint16_t dmin, const uint8_t *scales, const uint8_t *nibbles, int high, int at)
{
    int g = at / 32, byte = nibbles[g / 2 * 32 + at % 32], q = (g & 1 ? byte >> 4 : byte & 15) + 16 * high;
    return (double)slm2_f16_to_f32(d) * six_bits(scales, g, 0) * q - (double)slm2_f16_to_f32(dmin) * six_bits(scales, g, 1);
}

static double get_block(const struct slm2_mat *m, size_t i)
{
    size_t block = i / slm2_dtype_info[m->dtype].block_elems;
    int at = (int)(i % slm2_dtype_info[m->dtype].block_elems);
    if (m->dtype == SLM2_Q8_0) {
        const struct slm2_block_q8_0 *b = (const struct slm2_block_q8_0 *)m->data + block;
        return (double)slm2_f16_to_f32(b->d) * b->q[at];
    }
    if (m->dtype == SLM2_Q4_0) {
        const struct slm2_block_q4_0 *b = (const struct slm2_block_q4_0 *)m->data + block;
        int q = at < SLM2_QK / 2 ? b->q[at] & 15 : b->q[at - SLM2_QK / 2] >> 4;
        return (double)slm2_f16_to_f32(b->d) * (q - 8);
    }
    if (m->dtype == SLM2_Q4_1) {
        const struct slm2_block_q4_1 *b = (const struct slm2_block_q4_1 *)m->data + block;
        int q = at < SLM2_QK / 2 ? b->q[at] & 15 : b->q[at - SLM2_QK / 2] >> 4;
        return (double)slm2_f16_to_f32(b->d) * q + (double)slm2_f16_to_f32(b->m);
    }
    if (m->dtype == SLM2_Q4_K) {
        const struct slm2_block_q4_k *b = (const struct slm2_block_q4_k *)m->data + block;
        return k_value(b->d, b->dmin, b->scales, b->q, 0, at);
    }
    if (m->dtype == SLM2_Q5_K) {
        const struct slm2_block_q5_k *b = (const struct slm2_block_q5_k *)m->data + block;
        return k_value(b->d, b->dmin, b->scales, b->q, b->high[at % 32] >> at / 32 & 1, at);
    }
    const struct slm2_block_q6_k *b = (const struct slm2_block_q6_k *)m->data + block;
    int half = at / 128, j = at / 32 % 4, l = at % 32, byte = b->low[64 * half + 32 * (j & 1) + l];
    int q = (j < 2 ? byte & 15 : byte >> 4) | (b->high[32 * half + l] >> 2 * j & 3) << 4;
    return (double)slm2_f16_to_f32(b->d) * b->scales[at / 16] * (q - 32);
}

static double get(const struct slm2_mat *m, int row, int col)
{
    size_t i = (size_t)row * (size_t)m->stride + (size_t)col;
    switch (m->dtype) {
    case SLM2_F32: return (double)((const float *)m->data)[i];
    case SLM2_F16: return (double)slm2_f16_to_f32(((const uint16_t *)m->data)[i]);
    case SLM2_BF16: return (double)slm2_bf16_to_f32(((const uint16_t *)m->data)[i]);
    case SLM2_Q8_0: case SLM2_Q4_0: case SLM2_Q4_1: case SLM2_Q4_K: case SLM2_Q5_K: case SLM2_Q6_K: return get_block(m, i);
    case SLM2_I32: case SLM2_I64: case SLM2_U8: case SLM2_N_DTYPE: break;
    }
    abort(); /* a plan with an integer activation or weight: a mistake of the caller */
}

static void set(struct slm2_mat *m, int row, int col, double v)
{
    size_t i = (size_t)row * (size_t)m->stride + (size_t)col;
    if (m->dtype == SLM2_F32) ((float *)m->data)[i] = (float)v;
    else if (m->dtype == SLM2_BF16) ((uint16_t *)m->data)[i] = slm2_f32_to_bf16((float)v);
    else if (m->dtype == SLM2_F16) ((uint16_t *)m->data)[i] = slm2_f32_to_f16((float)v);
    else abort();
}

static void put(struct slm2_mat *m, int row, int col, double v, bool accumulate) { set(m, row, col, accumulate ? get(m, row, col) + v : v); }

/* ---- rows ----------------------------------------------------------------------------------------------------------- */
static void ref_embed(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *table, const int32_t *ids)
{
    (void)c;
    for (int r = 0; r < y->n_row; r++) {
        for (int i = 0; i < y->n_col; i++) set(y, r, i, get(table, ids[r], i));
    }
}

static void ref_embed_bwd(struct slm2_ctx *c, struct slm2_mat *dtable, const struct slm2_mat *dy, const int32_t *ids)
{
    (void)c;
    for (int r = 0; r < dy->n_row; r++) {
        for (int i = 0; i < dy->n_col; i++) put(dtable, ids[r], i, get(dy, r, i), true);
    }
}

static void ref_layer_norm(struct slm2_ctx *c, struct slm2_mat *y, float *mean, float *rstd, const struct slm2_mat *x,
                           const struct slm2_mat *gamma, const struct slm2_mat *beta, float eps)
{
    (void)c;
    for (int r = 0; r < x->n_row; r++) {
        int g = r % gamma->n_row;
        double mu = 0, var = 0;
        for (int i = 0; i < x->n_col; i++) mu += get(x, r, i);
        mu /= x->n_col;
        for (int i = 0; i < x->n_col; i++) var += (get(x, r, i) - mu) * (get(x, r, i) - mu);
        var /= x->n_col;
        double rs = 1 / sqrt(var + (double)eps);
        for (int i = 0; i < x->n_col; i++) set(y, r, i, (get(x, r, i) - mu) * rs * get(gamma, g, i) + (beta ? get(beta, g % beta->n_row, i) : 0));
        if (mean) mean[r] = (float)mu;
        if (rstd) rstd[r] = (float)rs;
    }
}

static void ref_layer_norm_bwd(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dgamma, struct slm2_mat *dbeta,
                               const struct slm2_mat *dy, const struct slm2_mat *x, const float *mean, const float *rstd, const struct slm2_mat *gamma)
{
    (void)c;
    for (int g = 0; g < gamma->n_row; g++) {
        for (int i = 0; i < x->n_col; i++) {
            double sum_g = 0, sum_b = 0;
            for (int r = g; r < x->n_row; r += gamma->n_row) {
                sum_g += get(dy, r, i) * (get(x, r, i) - (double)mean[r]) * (double)rstd[r];
                sum_b += get(dy, r, i);
            }
            if (dgamma) put(dgamma, g, i, sum_g, true);
            if (dbeta) put(dbeta, g, i, sum_b, true);
        }
    }
    for (int r = 0; r < x->n_row; r++) {
        int g = r % gamma->n_row, n = x->n_col;
        double mu = (double)mean[r], rs = (double)rstd[r], mean_d = 0, mean_dx = 0;
        for (int i = 0; i < n; i++) {
            double d = get(dy, r, i) * get(gamma, g, i);
            mean_d += d / n;
            mean_dx += d * (get(x, r, i) - mu) * rs / n;
        }
        for (int i = 0; i < n; i++) {
            double d = get(dy, r, i) * get(gamma, g, i), xhat = (get(x, r, i) - mu) * rs;
            put(dx, r, i, rs * (d - mean_d - xhat * mean_dx), accumulate);
        }
    }
}

static void ref_rope(struct slm2_ctx *c, struct slm2_mat *x, int n_head, int n_rot, float theta, int sign, const int32_t *position)
{
    (void)c;
    int head_dim = x->n_col / n_head, half = n_rot / 2;
    for (int r = 0; r < x->n_row; r++) {
        for (int i = 0; i < half; i++) {
            double angle = position[r] * pow((double)theta, -2.0 * i / n_rot) * sign, co = cos(angle), si = sin(angle);
            for (int h = 0; h < n_head; h++) {
                double a = get(x, r, h * head_dim + i), b = get(x, r, h * head_dim + i + half);
                set(x, r, h * head_dim + i, a * co - b * si);
                set(x, r, h * head_dim + i + half, b * co + a * si);
            }
        }
    }
}

static void ref_swiglu(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *gate, const struct slm2_mat *up)
{
    (void)c;
    for (int r = 0; r < y->n_row; r++) {
        for (int i = 0; i < y->n_col; i++) set(y, r, i, get(gate, r, i) / (1 + exp(-get(gate, r, i))) * get(up, r, i));
    }
}

static void ref_swiglu_bwd(struct slm2_ctx *c, struct slm2_mat *dgate, struct slm2_mat *dup, const struct slm2_mat *dy,
                           const struct slm2_mat *gate, const struct slm2_mat *up)
{
    (void)c;
    for (int r = 0; r < dy->n_row; r++) {
        for (int i = 0; i < dy->n_col; i++) {
            double g = get(gate, r, i), u = get(up, r, i), d = get(dy, r, i), s = 1 / (1 + exp(-g));
            set(dgate, r, i, d * u * s * (1 + g * (1 - s)));
            set(dup, r, i, d * g * s);
        }
    }
}

static void ref_add(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *a, const struct slm2_mat *b)
{
    (void)c;
    for (int r = 0; r < y->n_row; r++) {
        for (int i = 0; i < y->n_col; i++) set(y, r, i, get(a, r, i) + get(b, r, i));
    }
}

static void ref_scale(struct slm2_ctx *c, struct slm2_mat *y, float by)
{
    (void)c;
    for (int r = 0; r < y->n_row; r++) {
        for (int i = 0; i < y->n_col; i++) set(y, r, i, (double)by * get(y, r, i));
    }
}

/* A block of Q8_0 at element (row, col), from 32 elements of src: struct slm2_kernels, from_f32. */
static void quantise(struct slm2_mat *dst, int row, const struct slm2_mat *src, int src_row, int col)
{
    struct slm2_block_q8_0 *b = (struct slm2_block_q8_0 *)dst->data + ((size_t)row * (size_t)dst->stride + (size_t)col) / SLM2_QK;
    float largest = 0;
    bool finite = true;
    for (int i = 0; i < SLM2_QK; i++) {
        float x = (float)get(src, src_row, col + i);
        largest = fmaxf(largest, fabsf(x));
        finite = finite && isfinite(x);
    }
    b->d = slm2_f32_to_f16(finite ? largest / 127.0f : NAN);
    float by = finite && b->d ? 127.0f / largest : 0.0f;
    for (int i = 0; i < SLM2_QK; i++) b->q[i] = finite ? (int8_t)nearbyintf((float)get(src, src_row, col + i) * by) : 0;
}

static void ref_scatter(struct slm2_ctx *c, struct slm2_mat *dst, const struct slm2_mat *src, const int32_t *index)
{
    (void)c;
    for (int r = 0; r < src->n_row; r++) {
        if (dst->dtype == SLM2_Q8_0) {
            for (int i = 0; i < src->n_col; i += SLM2_QK) quantise(dst, index[r], src, r, i);
        } else {
            for (int i = 0; i < src->n_col; i++) set(dst, index[r], i, get(src, r, i));
        }
    }
}

static void ref_copy(struct slm2_ctx *c, struct slm2_mat *dst, const struct slm2_mat *src)
{
    (void)c;
    for (int r = 0; r < dst->n_row; r++) {
        for (int i = 0; i < dst->n_col; i++) set(dst, r, i, get(src, r, i));
    }
}

/* ---- matrices ------------------------------------------------------------------------------------------------------- */
static void ref_linear(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *x, const struct slm2_mat *w, const struct slm2_mat *b)
{
    (void)c;
    for (int r = 0; r < x->n_row; r++) {
        for (int o = 0; o < w->n_row; o++) {
            double sum = b ? get(b, 0, o) : 0;
            for (int i = 0; i < w->n_col; i++) sum += get(x, r, i) * get(w, o, i);
            set(y, r, o, sum);
        }
    }
}

static void ref_linear_bwd(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dw, struct slm2_mat *db,
                           const struct slm2_mat *dy, const struct slm2_mat *x, const struct slm2_mat *w)
{
    (void)c;
    for (int r = 0; dx && r < dx->n_row; r++) {
        for (int i = 0; i < dx->n_col; i++) {
            double sum = 0;
            for (int o = 0; o < dy->n_col; o++) sum += get(dy, r, o) * get(w, o, i);
            put(dx, r, i, sum, accumulate);
        }
    }
    for (int o = 0; dw && o < dw->n_row; o++) {
        for (int i = 0; i < dw->n_col; i++) {
            double sum = 0;
            for (int r = 0; r < dy->n_row; r++) sum += get(dy, r, o) * get(x, r, i);
            put(dw, o, i, sum, true);
        }
    }
    for (int o = 0; db && o < dy->n_col; o++) {
        double sum = 0;
        for (int r = 0; r < dy->n_row; r++) sum += get(dy, r, o);
        put(db, 0, o, sum, true);
    }
}

/* ---- attention ------------------------------------------------------------------------------------------------------ */
/* a[ra, ca ...] . b[rb, cb ...] over n columns */
static double dot(const struct slm2_mat *a, int ra, int ca, const struct slm2_mat *b, int rb, int cb, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += get(a, ra, ca + i) * get(b, rb, cb + i);
    return sum;
}

static void attn_row(struct slm2_mat *o, float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, int r, int h,
                     int n_head, int n_kv_head, const struct slm2_run *run, int n_key)
{
    int hd = q->n_col / n_head, g = h / (n_head / n_kv_head), left;
    double scale = 1 / sqrt((double)hd), m = -(double)INFINITY, sum = 0;
    for (int j = 0; j < n_key; j++) m = fmax(m, scale * dot(q, r, h * hd, k, slm2_run_row(run, j, &left), g * hd, hd));
    for (int d0 = 0; d0 < hd; d0 += CHUNK) {
        int n = slm2_min_int(CHUNK, hd - d0);
        double acc[CHUNK] = {0};
        sum = 0;
        for (int j = 0; j < n_key; j++) {
            int row = slm2_run_row(run, j, &left);
            double p = exp(scale * dot(q, r, h * hd, k, row, g * hd, hd) - m);
            sum += p;
            for (int d = 0; d < n; d++) acc[d] += p * get(v, row, g * hd + d0 + d);
        }
        for (int d = 0; d < n; d++) set(o, r, h * hd + d0 + d, acc[d] / sum);
    }
    if (lse) lse[(size_t)r * (size_t)n_head + (size_t)h] = (float)(m + log(sum));
}

static void ref_attn(struct slm2_ctx *c, struct slm2_mat *o, float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                     int n_head, int n_kv_head, const struct slm2_seqs *seqs)
{
    (void)c;
    for (int s = 0; s < seqs->n_seq; s++) {
        const struct slm2_run whole = {seqs->run ? 0 : seqs->kv_start[s], INT_MAX}, *run = seqs->run ? seqs->run + seqs->cu_runs[s] : &whole;
        for (int r = seqs->cu_seqlens[s]; r < seqs->cu_seqlens[s + 1]; r++) {
            for (int h = 0; h < n_head; h++) attn_row(o, lse, q, k, v, r, h, n_head, n_kv_head, run, seqs->position[r] + 1);
        }
    }
}

/* What the backward of one head needs, so that its pieces can be named. */
struct attn_grad {
    const struct slm2_mat *do_, *o, *q, *k, *v;
    const float *lse;
    int n_head, group, hd;
    double scale;
};

/* p and ds = dL/d(scaled score) of query row r, head h, key row j */
static double attn_ds(const struct attn_grad *a, int r, int h, int j, double row_d, double *p)
{
    int g = h / a->group;
    double s = a->scale * dot(a->q, r, h * a->hd, a->k, j, g * a->hd, a->hd);
    *p = exp(s - (double)a->lse[(size_t)r * (size_t)a->n_head + (size_t)h]);
    return *p * (dot(a->do_, r, h * a->hd, a->v, j, g * a->hd, a->hd) - row_d);
}

static void attn_bwd_query(const struct attn_grad *a, struct slm2_mat *dq, int r, int h, int key0, int n_key)
{
    int g = h / a->group;
    double row_d = dot(a->do_, r, h * a->hd, a->o, r, h * a->hd, a->hd);
    for (int d0 = 0; d0 < a->hd; d0 += CHUNK) {
        int n = slm2_min_int(CHUNK, a->hd - d0);
        double acc[CHUNK] = {0}, p;
        for (int j = key0; j < key0 + n_key; j++) {
            double ds = attn_ds(a, r, h, j, row_d, &p);
            for (int d = 0; d < n; d++) acc[d] += ds * get(a->k, j, g * a->hd + d0 + d);
        }
        for (int d = 0; d < n; d++) set(dq, r, h * a->hd + d0 + d, a->scale * acc[d]);
    }
}

static void attn_bwd_key(const struct attn_grad *a, struct slm2_mat *dk, struct slm2_mat *dv, int j, int g, const struct slm2_seqs *seqs, int s)
{
    for (int d0 = 0; d0 < a->hd; d0 += CHUNK) {
        int n = slm2_min_int(CHUNK, a->hd - d0);
        double acc_k[CHUNK] = {0}, acc_v[CHUNK] = {0}, p;
        for (int h = g * a->group; h < (g + 1) * a->group; h++) {
            for (int r = seqs->cu_seqlens[s]; r < seqs->cu_seqlens[s + 1]; r++) {
                if (seqs->position[r] < j - seqs->kv_start[s]) continue;
                double ds = attn_ds(a, r, h, j, dot(a->do_, r, h * a->hd, a->o, r, h * a->hd, a->hd), &p);
                for (int d = 0; d < n; d++) {
                    acc_k[d] += ds * a->scale * get(a->q, r, h * a->hd + d0 + d);
                    acc_v[d] += p * get(a->do_, r, h * a->hd + d0 + d);
                }
            }
        }
        for (int d = 0; d < n; d++) {
            set(dk, j, g * a->hd + d0 + d, acc_k[d]);
            set(dv, j, g * a->hd + d0 + d, acc_v[d]);
        }
    }
}

static void ref_attn_bwd(struct slm2_ctx *c, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv, const struct slm2_mat *do_,
                         const struct slm2_mat *o, const float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                         int n_head, int n_kv_head, const struct slm2_seqs *seqs)
{
    (void)c;
    int hd = q->n_col / n_head;
    struct attn_grad a = {do_, o, q, k, v, lse, n_head, n_head / n_kv_head, hd, 1 / sqrt((double)hd)};
    for (int s = 0; s < seqs->n_seq; s++) {
        int r0 = seqs->cu_seqlens[s], r1 = seqs->cu_seqlens[s + 1], key0 = seqs->kv_start[s];
        for (int r = r0; r < r1; r++) {
            for (int h = 0; h < n_head; h++) attn_bwd_query(&a, dq, r, h, key0, seqs->position[r] + 1);
        }
        for (int j = key0; j < key0 + (r1 - r0); j++) {
            for (int g = 0; g < n_kv_head; g++) attn_bwd_key(&a, dk, dv, j, g, seqs, s);
        }
    }
}

/* ---- loss and optimizers -------------------------------------------------------------------------------------------- */
static void ref_logprob(struct slm2_ctx *c, float *lp, int32_t *argmax, struct slm2_mat *dlogits, const struct slm2_mat *logits,
                        const int32_t *target, const float *weight)
{
    (void)c;
    for (int r = 0; r < logits->n_row; r++) {
        int best = 0, n = logits->n_col;
        for (int i = 1; i < n; i++) {
            if (get(logits, r, i) > get(logits, r, best)) best = i;
        }
        double m = get(logits, r, best), sum = 0;
        for (int i = 0; i < n; i++) sum += exp(get(logits, r, i) - m);
        double lse = m + log(sum);
        if (argmax) argmax[r] = best;
        lp[r] = target[r] < 0 ? 0 : (float)(get(logits, r, target[r]) - lse);
        if (!dlogits) continue;
        double w = target[r] < 0 ? 0 : (double)weight[r];
        for (int i = 0; i < n; i++) set(dlogits, r, i, w == 0 ? 0 : w * (exp(get(logits, r, i) - lse) - (i == target[r])));
    }
}

static void ref_zero(struct slm2_ctx *c, void *p, size_t bytes)
{
    (void)c;
    memset(p, 0, bytes);
}

static void ref_sum_sq(struct slm2_ctx *c, double *part, const float *x, size_t n)
{
    (void)c;
    for (size_t at = 0; at < n; at += SLM2_SQ_CHUNK) {
        double sum = 0;
        for (size_t i = at; i < n && i < at + SLM2_SQ_CHUNK; i++) sum += (double)x[i] * (double)x[i];
        part[at / SLM2_SQ_CHUNK] = sum;
    }
}

static void ref_adamw(struct slm2_ctx *c, float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2,
                      float eps, float wd, int64_t t)
{
    (void)c;
    double bc1 = 1 - pow((double)b1, (double)t), bc2 = 1 - pow((double)b2, (double)t);
    for (size_t i = 0; i < n; i++) {
        double gi = (double)g[i] * (double)clip;
        double mi = (double)b1 * (double)m[i] + (1 - (double)b1) * gi, vi = (double)b2 * (double)v[i] + (1 - (double)b2) * gi * gi;
        p[i] = (float)((double)p[i] * (1 - (double)lr * (double)wd) - (double)lr * (mi / bc1) / (sqrt(vi / bc2) + (double)eps));
        m[i] = (float)mi;
        v[i] = (float)vi;
    }
}

static void ref_rmsprop(struct slm2_ctx *c, float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps)
{
    (void)c;
    for (size_t i = 0; i < n; i++) {
        double gi = (double)g[i] * (double)clip, vi = (double)alpha * (double)v[i] + (1 - (double)alpha) * gi * gi;
        p[i] = (float)((double)p[i] - (double)lr * gi / (sqrt(vi) + (double)eps));
        v[i] = (float)vi;
    }
}

const struct slm2_ops slm2_ops_ref = {
    .name = "ref",
    .embed = ref_embed,
    .embed_bwd = ref_embed_bwd,
    .layer_norm = ref_layer_norm,
    .layer_norm_bwd = ref_layer_norm_bwd,
    .linear = ref_linear,
    .linear_bwd = ref_linear_bwd,
    .rope = ref_rope,
    .attn = ref_attn,
    .attn_bwd = ref_attn_bwd,
    .swiglu = ref_swiglu,
    .swiglu_bwd = ref_swiglu_bwd,
    .add = ref_add,
    .scale = ref_scale,
    .scatter = ref_scatter,
    .logprob = ref_logprob,
    .copy = ref_copy,
    .zero = ref_zero,
    .sum_sq = ref_sum_sq,
    .adamw = ref_adamw,
    .rmsprop = ref_rmsprop,
};
