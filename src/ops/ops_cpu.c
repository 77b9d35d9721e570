/* ops_cpu.c - the cpu backend: the table, and its ops that work on rows or elements.
 *
 * Pieces of work are rows, or fixed ranges of columns or elements where rows must be added in order; see ops_cpu.h. */
#include "ops/ops_cpu.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    COLS = 1024,         /* elements converted or computed at a time */
    SUM_COLS = 32,       /* columns of one piece where rows are added in order */
    ELEMS = 64 * 1024,   /* elements of one piece of a flat vector */
    VOCAB_CHUNK = 8192,  /* logits whose exponentials are added in float; such sums are added in double */
    SMALL = 8 * 1024,    /* elements that are not worth waking the threads */
};

static size_t n_elems(const struct slm2_mat *m) { return (size_t)m->n_row * (size_t)m->n_col; }
static int div_up(int a, int b) { return (a + b - 1) / b; }

/* n elements between any two types */
static void convert(const struct slm2_ctx *c, enum slm2_dtype to, void *dst, enum slm2_dtype from, const void *src, int n)
{
    float tmp[COLS];
    if (to == from) memmove(dst, src, slm2_dtype_bytes(to, (size_t)n));
    else if (to == SLM2_F32) c->k->to_f32[from](dst, src, (size_t)n);
    else if (from == SLM2_F32) c->k->from_f32[to](dst, src, (size_t)n);
    else {
        for (int i = 0; i < n; i += COLS) {
            size_t part = (size_t)slm2_min_int(COLS, n - i);
            c->k->to_f32[from](tmp, (const uint8_t *)src + slm2_dtype_bytes(from, (size_t)i), part);
            c->k->from_f32[to]((uint8_t *)dst + slm2_dtype_bytes(to, (size_t)i), tmp, part);
        }
    }
}

/* ---- rows moved ----------------------------------------------------------------------------------------------------- */
static void cpu_embed(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *table, const int32_t *ids)
{
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(y) > SMALL)
    for (int r = 0; r < y->n_row; r++) convert(c, y->dtype, slm2_cpu_at(y, r, 0), table->dtype, slm2_cpu_at(table, ids[r], 0), y->n_col);
}

/* Ids may repeat: columns are shared out, rows come in order. */
static void cpu_embed_bwd(struct slm2_ctx *c, struct slm2_mat *dtable, const struct slm2_mat *dy, const int32_t *ids)
{
    int n_piece = div_up(dy->n_col, SUM_COLS);
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(dy) > SMALL)
    for (int p = 0; p < n_piece; p++) {
        int i = p * SUM_COLS, n = slm2_min_int(SUM_COLS, dy->n_col - i);
        float tmp[SUM_COLS];
        for (int r = 0; r < dy->n_row; r++) {
            float *d = slm2_cpu_at(dtable, ids[r], i);
            c->k->add(d, d, slm2_cpu_load(c, dy, r, i, n, tmp), (size_t)n);
        }
    }
}

static void cpu_scatter(struct slm2_ctx *c, struct slm2_mat *dst, const struct slm2_mat *src, const int32_t *index)
{
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(src) > SMALL)
    for (int r = 0; r < src->n_row; r++) convert(c, dst->dtype, slm2_cpu_at(dst, index[r], 0), src->dtype, slm2_cpu_at(src, r, 0), src->n_col);
}

static void cpu_copy(struct slm2_ctx *c, struct slm2_mat *dst, const struct slm2_mat *src)
{
    int n_part = div_up(dst->n_col, ELEMS); /* a flat vector is one long row */
#pragma omp parallel for collapse(2) schedule(static) num_threads(c->n_threads) if (n_elems(dst) > SMALL)
    for (int r = 0; r < dst->n_row; r++) {
        for (int p = 0; p < n_part; p++) {
            int i = p * ELEMS;
            convert(c, dst->dtype, slm2_cpu_at(dst, r, i), src->dtype, slm2_cpu_at(src, r, i), slm2_min_int(ELEMS, dst->n_col - i));
        }
    }
}

static void cpu_zero(struct slm2_ctx *c, void *p, size_t bytes)
{
    size_t part = ELEMS * sizeof(float), n_part = (bytes + part - 1) / part;
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_part > 1)
    for (size_t i = 0; i < n_part; i++) memset((uint8_t *)p + i * part, 0, slm2_min_size(part, bytes - i * part));
}

/* ---- norm ----------------------------------------------------------------------------------------------------------- */
static void cpu_layer_norm(struct slm2_ctx *c, struct slm2_mat *y, float *mean, float *rstd, const struct slm2_mat *x, const struct slm2_mat *gamma,
                           const struct slm2_mat *beta, float eps)
{
    int n = x->n_col;
    assert((size_t)n <= c->scratch_floats);
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(x) > SMALL)
    for (int r = 0; r < x->n_row; r++) {
        float *tmp = c->scratch[omp_get_thread_num()];
        const float *xr = slm2_cpu_load(c, x, r, 0, n, tmp), *ga = slm2_cpu_at(gamma, r % gamma->n_row, 0);
        const float *be = beta ? slm2_cpu_at(beta, r % beta->n_row, 0) : NULL;
        float *yr = slm2_cpu_dest(y, r, 0, tmp), mu, var;
        c->k->moments(xr, (size_t)n, &mu, &var);
        float rs = 1.0f / sqrtf(var + eps);
        if (be) {
#pragma omp simd
            for (int i = 0; i < n; i++) yr[i] = (xr[i] - mu) * rs * ga[i] + be[i];
        } else {
#pragma omp simd
            for (int i = 0; i < n; i++) yr[i] = (xr[i] - mu) * rs * ga[i];
        }
        slm2_cpu_store(c, y, r, 0, n, yr);
        if (mean) mean[r] = mu;
        if (rstd) rstd[r] = rs;
    }
}

/* Columns [i, i + n) of dgamma row g and dbeta row g: rows in order, sums in double. */
static void norm_sums(const struct slm2_ctx *c, struct slm2_mat *dgamma, struct slm2_mat *dbeta, const struct slm2_mat *dy, const struct slm2_mat *x,
                      const float *mean, const float *rstd, int g, int n_g, int i, int n)
{
    double sum_g[SUM_COLS] = {0}, sum_b[SUM_COLS] = {0};
    float dy_tmp[SUM_COLS], x_tmp[SUM_COLS];
    for (int r = g; r < x->n_row; r += n_g) {
        const float *d = slm2_cpu_load(c, dy, r, i, n, dy_tmp), *xr = slm2_cpu_load(c, x, r, i, n, x_tmp);
        for (int j = 0; j < n; j++) {
            sum_g[j] += (double)(d[j] * ((xr[j] - mean[r]) * rstd[r]));
            sum_b[j] += (double)d[j];
        }
    }
    float *dg = dgamma ? slm2_cpu_at(dgamma, g, i) : NULL, *db = dbeta ? slm2_cpu_at(dbeta, g, i) : NULL;
    for (int j = 0; dg && j < n; j++) dg[j] += (float)sum_g[j];
    for (int j = 0; db && j < n; j++) db[j] += (float)sum_b[j];
}

/* dx of one row; tmp holds 4 rows */
static void norm_dx(const struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, const struct slm2_mat *dy, const struct slm2_mat *x, float mu,
                    float rs, const float *gamma, int r, float *tmp)
{
    int n = x->n_col;
    float *d = tmp, *xhat = d + n, *load = xhat + n, *out_tmp = load + n;
    const float *in = slm2_cpu_load(c, dy, r, 0, n, load);
    float mean_d = c->k->dot(in, gamma, (size_t)n) / (float)n;
#pragma omp simd
    for (int i = 0; i < n; i++) d[i] = in[i] * gamma[i];
    in = slm2_cpu_load(c, x, r, 0, n, load);
#pragma omp simd
    for (int i = 0; i < n; i++) xhat[i] = (in[i] - mu) * rs;
    float mean_dx = c->k->dot(d, xhat, (size_t)n) / (float)n;
    float *out = slm2_cpu_dest(dx, r, 0, out_tmp);
    if (accumulate) {
        const float *old = slm2_cpu_load(c, dx, r, 0, n, out_tmp);
#pragma omp simd
        for (int i = 0; i < n; i++) out[i] = old[i] + rs * (d[i] - mean_d - xhat[i] * mean_dx);
    } else {
#pragma omp simd
        for (int i = 0; i < n; i++) out[i] = rs * (d[i] - mean_d - xhat[i] * mean_dx);
    }
    slm2_cpu_store(c, dx, r, 0, n, out);
}

static void cpu_layer_norm_bwd(struct slm2_ctx *c, struct slm2_mat *dx, bool accumulate, struct slm2_mat *dgamma, struct slm2_mat *dbeta,
                               const struct slm2_mat *dy, const struct slm2_mat *x, const float *mean, const float *rstd, const struct slm2_mat *gamma)
{
    int n_g = gamma->n_row, n_piece = div_up(x->n_col, SUM_COLS);
    assert(SLM2_CPU_ROWS * (size_t)x->n_col <= c->scratch_floats);
    if (dgamma || dbeta) {
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(x) > SMALL)
        for (int p = 0; p < n_g * n_piece; p++) {
            int i = p % n_piece * SUM_COLS;
            norm_sums(c, dgamma, dbeta, dy, x, mean, rstd, p / n_piece, n_g, i, slm2_min_int(SUM_COLS, x->n_col - i));
        }
    }
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(x) > SMALL)
    for (int r = 0; r < x->n_row; r++) {
        norm_dx(c, dx, accumulate, dy, x, mean[r], rstd[r], slm2_cpu_at(gamma, r % n_g, 0), r, c->scratch[omp_get_thread_num()]);
    }
}

/* ---- elements ------------------------------------------------------------------------------------------------------- */
static void cpu_rope(struct slm2_ctx *c, struct slm2_mat *x, int n_head, int n_rot, float theta, int sign, const int32_t *position)
{
    int head_dim = x->n_col / n_head, half = n_rot / 2;
    assert(SLM2_CPU_ROWS * (size_t)n_rot <= c->scratch_floats);
#pragma omp parallel num_threads(c->n_threads) if (n_elems(x) > SMALL)
    {
        float *tmp = c->scratch[omp_get_thread_num()], *co = tmp + n_rot, *si = co + half, *load = si + half;
        double *frequency = (double *)(void *)tmp;
        for (int i = 0; i < half; i++) {
            co[i] = si[i] = 0;
            frequency[i] = pow((double)theta, -2.0 * i / n_rot);
        }
        int at = -1; /* the position that co and si hold */
#pragma omp for schedule(static)
        for (int r = 0; r < x->n_row; r++) {
            for (int i = 0; i < half && position[r] != at; i++) {
                double angle = position[r] * frequency[i];
                co[i] = (float)cos(angle);
                si[i] = (float)sin(angle) * (float)sign;
            }
            at = position[r];
            for (int h = 0; h < n_head; h++) {
                const float *in = slm2_cpu_load(c, x, r, h * head_dim, n_rot, load);
                float *out = slm2_cpu_dest(x, r, h * head_dim, load);
                for (int i = 0; i < half; i++) {
                    float a = in[i], b = in[i + half];
                    out[i] = a * co[i] - b * si[i];
                    out[i + half] = b * co[i] + a * si[i];
                }
                slm2_cpu_store(c, x, r, h * head_dim, n_rot, out);
            }
        }
    }
}

static void cpu_swiglu(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *gate, const struct slm2_mat *up)
{
    int n_part = div_up(y->n_col, COLS);
#pragma omp parallel for collapse(2) schedule(static) num_threads(c->n_threads) if (n_elems(y) > SMALL)
    for (int r = 0; r < y->n_row; r++) {
        for (int p = 0; p < n_part; p++) {
            float g_tmp[COLS], u_tmp[COLS];
            int i = p * COLS, n = slm2_min_int(COLS, y->n_col - i);
            float *out = slm2_cpu_dest(y, r, i, g_tmp);
            c->k->swiglu(out, slm2_cpu_load(c, gate, r, i, n, g_tmp), slm2_cpu_load(c, up, r, i, n, u_tmp), (size_t)n);
            slm2_cpu_store(c, y, r, i, n, out);
        }
    }
}

static void cpu_swiglu_bwd(struct slm2_ctx *c, struct slm2_mat *dgate, struct slm2_mat *dup, const struct slm2_mat *dy, const struct slm2_mat *gate,
                           const struct slm2_mat *up)
{
    int n_part = div_up(dy->n_col, COLS);
#pragma omp parallel for collapse(2) schedule(static) num_threads(c->n_threads) if (n_elems(dy) > SMALL)
    for (int r = 0; r < dy->n_row; r++) {
        for (int p = 0; p < n_part; p++) {
            float d_tmp[COLS], g_tmp[COLS], u_tmp[COLS], dg_tmp[COLS], du_tmp[COLS];
            int i = p * COLS, n = slm2_min_int(COLS, dy->n_col - i);
            float *dg = slm2_cpu_dest(dgate, r, i, dg_tmp), *du = slm2_cpu_dest(dup, r, i, du_tmp);
            c->k->swiglu_bwd(dg, du, slm2_cpu_load(c, dy, r, i, n, d_tmp), slm2_cpu_load(c, gate, r, i, n, g_tmp),
                             slm2_cpu_load(c, up, r, i, n, u_tmp), (size_t)n);
            slm2_cpu_store(c, dgate, r, i, n, dg);
            slm2_cpu_store(c, dup, r, i, n, du);
        }
    }
}

static void cpu_add(struct slm2_ctx *c, struct slm2_mat *y, const struct slm2_mat *a, const struct slm2_mat *b)
{
    int n_part = div_up(y->n_col, COLS);
#pragma omp parallel for collapse(2) schedule(static) num_threads(c->n_threads) if (n_elems(y) > SMALL)
    for (int r = 0; r < y->n_row; r++) {
        for (int p = 0; p < n_part; p++) {
            float a_tmp[COLS], b_tmp[COLS];
            int i = p * COLS, n = slm2_min_int(COLS, y->n_col - i);
            float *out = slm2_cpu_dest(y, r, i, a_tmp);
            c->k->add(out, slm2_cpu_load(c, a, r, i, n, a_tmp), slm2_cpu_load(c, b, r, i, n, b_tmp), (size_t)n);
            slm2_cpu_store(c, y, r, i, n, out);
        }
    }
}

static void cpu_scale(struct slm2_ctx *c, struct slm2_mat *y, float by)
{
    int n_part = div_up(y->n_col, COLS);
#pragma omp parallel for collapse(2) schedule(static) num_threads(c->n_threads) if (n_elems(y) > SMALL)
    for (int r = 0; r < y->n_row; r++) {
        for (int p = 0; p < n_part; p++) {
            float tmp[COLS];
            int i = p * COLS, n = slm2_min_int(COLS, y->n_col - i);
            float *out = slm2_cpu_dest(y, r, i, tmp);
            slm2_cpu_load(c, y, r, i, n, tmp);
            c->k->scale(out, by, (size_t)n);
            slm2_cpu_store(c, y, r, i, n, out);
        }
    }
}

/* ---- loss ----------------------------------------------------------------------------------------------------------- */
/* d[i] = weight exp(x[i] - m) / sum, less weight at the target.  What d holds is read before it is written: a row of bf16 may begin where x does. */
static void logprob_grad(const struct slm2_ctx *c, enum slm2_dtype type, void *d, const float *x, float m, double sum, int n, int target, float weight)
{
    float tmp[VOCAB_CHUNK];
    for (int i = 0; i < n; i += VOCAB_CHUNK) {
        int k = slm2_min_int(VOCAB_CHUNK, n - i);
        float *out = type == SLM2_F32 ? (float *)d + i : tmp;
        c->k->exp_sum(out, x + i, m, (size_t)k);
        c->k->scale(out, (float)((double)weight / sum), (size_t)k);
        if (target >= i && target < i + k) out[target - i] -= weight;
        if (out == tmp) c->k->from_f32[type]((uint8_t *)d + slm2_dtype_bytes(type, (size_t)i), tmp, (size_t)k);
    }
}

/* A row of logits stays in the second cache from one pass over it to the next. */
static void logprob_row(const struct slm2_ctx *c, float *lp, int32_t *argmax, enum slm2_dtype type, void *dx, const float *x, int n, int target, float weight)
{
    float tmp[VOCAB_CHUNK], m = 0;
    double sum = 0;
    if (argmax || target >= 0) m = c->k->max(x, (size_t)n);
    if (argmax) {
        int best = 0;
        while (best < n && x[best] != m) best++;
        *argmax = best < n ? best : 0; /* only NaN is unequal to itself */
    }
    for (int i = 0; i < n && target >= 0; i += VOCAB_CHUNK) sum += (double)c->k->exp_sum(tmp, x + i, m, (size_t)slm2_min_int(VOCAB_CHUNK, n - i));
    *lp = target < 0 ? 0 : (float)((double)x[target] - (double)m - log(sum));
    if (dx && target >= 0 && weight != 0) logprob_grad(c, type, dx, x, m, sum, n, target, weight);
    else if (dx) memset(dx, 0, slm2_dtype_bytes(type, (size_t)n));
}

static void cpu_logprob(struct slm2_ctx *c, float *lp, int32_t *argmax, struct slm2_mat *dlogits, const struct slm2_mat *logits, const int32_t *target,
                        const float *weight)
{
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_elems(logits) > SMALL)
    for (int r = 0; r < logits->n_row; r++) {
        logprob_row(c, lp + r, argmax ? argmax + r : NULL, dlogits ? dlogits->dtype : SLM2_F32, dlogits ? slm2_cpu_at(dlogits, r, 0) : NULL,
                    slm2_cpu_at(logits, r, 0), logits->n_col, target[r], dlogits ? weight[r] : 0);
    }
}

/* ---- optimizers: flat vectors in fixed pieces ----------------------------------------------------------------------- */
static void cpu_sum_sq(struct slm2_ctx *c, double *part, const float *x, size_t n)
{
    size_t n_part = (n + SLM2_SQ_CHUNK - 1) / SLM2_SQ_CHUNK;
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n > ELEMS)
    for (size_t i = 0; i < n_part; i++) {
        size_t at = i * SLM2_SQ_CHUNK;
        part[i] = c->k->sum_sq(x + at, slm2_min_size(SLM2_SQ_CHUNK, n - at));
    }
}

static void cpu_adamw(struct slm2_ctx *c, float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2, float eps,
                      float wd, int64_t t)
{
    float bc1 = (float)(1 - pow((double)b1, (double)t)), bc2 = (float)(1 - pow((double)b2, (double)t));
    size_t n_part = (n + ELEMS - 1) / ELEMS;
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_part > 1)
    for (size_t i = 0; i < n_part; i++) {
        size_t at = i * ELEMS;
        c->k->adamw(p + at, m + at, v + at, g + at, slm2_min_size(ELEMS, n - at), clip, lr, b1, b2, eps, wd, bc1, bc2);
    }
}

static void cpu_rmsprop(struct slm2_ctx *c, float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps)
{
    size_t n_part = (n + ELEMS - 1) / ELEMS;
#pragma omp parallel for schedule(static) num_threads(c->n_threads) if (n_part > 1)
    for (size_t i = 0; i < n_part; i++) {
        size_t at = i * ELEMS;
        c->k->rmsprop(p + at, v + at, g + at, slm2_min_size(ELEMS, n - at), clip, lr, alpha, eps);
    }
}

const struct slm2_ops slm2_ops_cpu = {
    .name = "cpu",
    .embed = cpu_embed,
    .embed_bwd = cpu_embed_bwd,
    .layer_norm = cpu_layer_norm,
    .layer_norm_bwd = cpu_layer_norm_bwd,
    .linear = slm2_cpu_linear,
    .linear_bwd = slm2_cpu_linear_bwd,
    .rope = cpu_rope,
    .attn = slm2_cpu_attn,
    .attn_bwd = slm2_cpu_attn_bwd,
    .swiglu = cpu_swiglu,
    .swiglu_bwd = cpu_swiglu_bwd,
    .add = cpu_add,
    .scale = cpu_scale,
    .scatter = cpu_scatter,
    .logprob = cpu_logprob,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .sum_sq = cpu_sum_sq,
    .adamw = cpu_adamw,
    .rmsprop = cpu_rmsprop,
};
