/* ops_cpu_attn.c - attention over ragged sequences, forward and backward, on kernels and threads.
 *
 * Forward: a piece of work is (a few query rows, head).  Keys are taken in fixed tiles from the sequence's first key, in ascending order;
 * a key beyond a row's position has weight 0, which leaves every bit of its sums alone.  So a row's result depends on that row and
 * its keys only: decoding one token equals reading it in a prompt.
 * Backward: a piece is (sequence, kv head); its query heads and rows come in order, weights are recomputed from lse. */
#include <assert.h>
#include <math.h>
#include <omp.h>

#include "ops/ops_cpu.h"

enum { ROWS = 16, KEYS = 128 }; /* query rows of a block, keys of a tile */

size_t slm2_cpu_attn_floats(size_t n_ctx, size_t head_dim)
{
    size_t forward = ROWS * (n_ctx + 2 * head_dim) + KEYS * head_dim;
    size_t backward = 4 * ROWS * head_dim + 2 * KEYS * head_dim + 2 * ROWS * KEYS + 2 * n_ctx * head_dim;
    return forward > backward ? forward : backward;
}

/* The sequence that holds query row r. */
static int seq_of_row(const struct slm2_seqs *seqs, int r)
{
    int lo = 0, hi = seqs->n_seq; /* cu_seqlens[lo] <= r < cu_seqlens[hi] */
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (seqs->cu_seqlens[mid] <= r) lo = mid;
        else hi = mid;
    }
    return lo;
}

static int most_keys(const int32_t *position, int n)
{
    int most = 0;
    for (int i = 0; i < n; i++) most = slm2_max_int(most, position[i] + 1);
    return most;
}

/* dst[n][hd] = scale * rows [row, row + n) of m from column col */
static void load_scaled(const struct slm2_ctx *c, float *dst, const struct slm2_mat *m, int row, int n, int col, int hd, float scale)
{
    for (int r = 0; r < n; r++) {
        float *d = dst + (size_t)r * (size_t)hd;
        c->k->to_f32[m->dtype](d, slm2_cpu_at(m, row + r, col), (size_t)hd);
        if (scale != 1.0f) c->k->scale(d, scale, (size_t)hd);
    }
}

struct attn {
    const struct slm2_mat *q, *k, *v;
    const int32_t *position;
    int n_head, group, hd;
    float scale;
};

/* Query rows [r0, r0 + n) of one sequence, one head: o = softmax(scale q k^T) v. */
static void attn_block(struct slm2_ctx *c, const struct attn *a, struct slm2_mat *o, float *lse, int r0, int n, int h, int key0, float *tmp)
{
    const struct slm2_kernels *k = c->k;
    int hd = a->hd, kv_col = h / a->group * hd, n_key = most_keys(a->position + r0, n);
    float *q = tmp, *out = q + ROWS * hd, *tile = out + ROWS * hd, *s = tile + KEYS * hd;
    size_t ld, lds = (size_t)n_key, d = (size_t)hd;
    assert((size_t)(s - tmp) + (size_t)n * lds <= c->scratch_floats);
    load_scaled(c, q, a->q, r0, n, h * hd, hd, a->scale);
    for (int j = 0; j < n_key; j += KEYS) {
        int keys = slm2_min_int(KEYS, n_key - j);
        const float *kp = slm2_cpu_panel(c, a->k, key0 + j, keys, kv_col, hd, tile, &ld);
        k->gemm_nt(s + j, lds, q, d, kp, ld, (size_t)n, (size_t)keys, d, false);
    }
    float sum[ROWS];
    for (int r = 0; r < n; r++) {
        float *row = s + (size_t)r * lds;
        size_t seen = (size_t)a->position[r0 + r] + 1;
        float m = k->max(row, seen);
        sum[r] = k->exp_sum(row, row, m, seen);
        for (size_t j = seen; j < lds; j++) row[j] = 0;
        if (lse) lse[(size_t)(r0 + r) * (size_t)a->n_head + (size_t)h] = (float)((double)m + log((double)sum[r]));
    }
    for (int j = 0; j < n_key; j += KEYS) {
        int keys = slm2_min_int(KEYS, n_key - j);
        const float *vp = slm2_cpu_panel(c, a->v, key0 + j, keys, kv_col, hd, tile, &ld);
        k->gemm_nn(out, d, s + j, lds, 1, vp, ld, (size_t)n, d, (size_t)keys, j > 0);
    }
    for (int r = 0; r < n; r++) {
        float *row = out + (size_t)r * d;
        k->scale(row, 1.0f / sum[r], d);
        k->from_f32[o->dtype](slm2_cpu_at(o, r0 + r, h * hd), row, d);
    }
}

void slm2_cpu_attn(struct slm2_ctx *c, struct slm2_mat *o, float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                   int n_head, int n_kv_head, const struct slm2_seqs *seqs)
{
    int n_tok = seqs->cu_seqlens[seqs->n_seq], n_block = (n_tok + ROWS - 1) / ROWS, hd = q->n_col / n_head;
    const struct attn a = {q, k, v, seqs->position, n_head, n_head / n_kv_head, hd, (float)(1 / sqrt((double)hd))};
#pragma omp parallel for schedule(static, 1) num_threads(c->n_threads)
    for (int i = 0; i < n_block * n_head; i++) {
        int h = i % n_head, r = i / n_head * ROWS, end = slm2_min_int(r + ROWS, n_tok);
        for (int s = seq_of_row(seqs, r); r < end; s++) { /* a block may span sequences */
            int stop = slm2_min_int(end, seqs->cu_seqlens[s + 1]);
            if (stop > r) attn_block(c, &a, o, lse, r, stop - r, h, seqs->kv_start[s], c->scratch[omp_get_thread_num()]);
            r = slm2_max_int(r, stop);
        }
    }
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */
/* s[r][j] <- exp(s - lse) where the row sees the key, else 0: the weights of the forward pass */
static void weights_from_lse(const struct slm2_ctx *c, float *s, const struct attn *a, const float *lse, int r0, int n, int h, int key, int keys)
{
    for (int r = 0; r < n; r++) {
        float *row = s + (size_t)r * KEYS;
        int seen = slm2_max_int(0, slm2_min_int(keys, a->position[r0 + r] + 1 - key));
        if (seen > 0) c->k->exp_sum(row, row, lse[(size_t)(r0 + r) * (size_t)a->n_head + (size_t)h], (size_t)seen);
        for (int j = seen; j < keys; j++) row[j] = 0;
    }
}

/* One head, query rows [r0, r0 + n): adds to dk and dv (from the sequence's first key, row strides ldk and ldv), sets dq. */
static void attn_bwd_block(struct slm2_ctx *c, const struct attn *a, struct slm2_mat *dq, float *dk, size_t ldk, float *dv, size_t ldv,
                           const struct slm2_mat *do_, const struct slm2_mat *o, const float *lse, int r0, int n, int h, int key0, float *tmp)
{
    const struct slm2_kernels *k = c->k;
    int hd = a->hd, kv_col = h / a->group * hd, n_key = most_keys(a->position + r0, n);
    float *q = tmp, *g = q + ROWS * hd, *dq_sum = g + ROWS * hd, *o_row = dq_sum + ROWS * hd;
    float *k_tile = o_row + ROWS * hd, *v_tile = k_tile + KEYS * hd, *p = v_tile + KEYS * hd, *ds = p + ROWS * KEYS;
    float row_d[ROWS]; /* sum_j p_j dp_j = do . o */
    size_t d = (size_t)hd, rows = (size_t)n, ld_k, ld_v;
    load_scaled(c, q, a->q, r0, n, h * hd, hd, a->scale);
    load_scaled(c, g, do_, r0, n, h * hd, hd, 1.0f);
    for (int r = 0; r < n; r++) row_d[r] = k->dot(g + (size_t)r * d, slm2_cpu_load(c, o, r0 + r, h * hd, hd, o_row), d);
    for (int j = 0; j < n_key; j += KEYS) {
        int keys = slm2_min_int(KEYS, n_key - j);
        const float *kp = slm2_cpu_panel(c, a->k, key0 + j, keys, kv_col, hd, k_tile, &ld_k);
        const float *vp = slm2_cpu_panel(c, a->v, key0 + j, keys, kv_col, hd, v_tile, &ld_v);
        k->gemm_nt(p, KEYS, q, d, kp, ld_k, rows, (size_t)keys, d, false);
        weights_from_lse(c, p, a, lse, r0, n, h, j, keys);
        k->gemm_nt(ds, KEYS, g, d, vp, ld_v, rows, (size_t)keys, d, false);
        for (int r = 0; r < n; r++) {
            float *dsr = ds + (size_t)r * KEYS, *pr = p + (size_t)r * KEYS;
#pragma omp simd
            for (int i = 0; i < keys; i++) dsr[i] = pr[i] * (dsr[i] - row_d[r]);
        }
        k->gemm_nn(dv + (size_t)j * ldv, ldv, p, 1, KEYS, g, d, (size_t)keys, d, rows, true);
        k->gemm_nn(dk + (size_t)j * ldk, ldk, ds, 1, KEYS, q, d, (size_t)keys, d, rows, true); /* q carries the scale */
        k->gemm_nn(dq_sum, d, ds, KEYS, 1, kp, ld_k, rows, d, (size_t)keys, j > 0);
    }
    for (int r = 0; r < n; r++) {
        k->scale(dq_sum + (size_t)r * d, a->scale, d);
        k->from_f32[dq->dtype](slm2_cpu_at(dq, r0 + r, h * hd), dq_sum + (size_t)r * d, d);
    }
}

/* All query heads of kv head g in one sequence. */
static void attn_bwd_seq(struct slm2_ctx *c, const struct attn *a, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv,
                         const struct slm2_mat *do_, const struct slm2_mat *o, const float *lse, int r0, int r1, int key0, int g, float *tmp)
{
    int hd = a->hd, len = r1 - r0;
    float *dk_tmp = tmp + slm2_cpu_attn_floats(0, (size_t)hd), *dv_tmp = dk_tmp + (size_t)len * (size_t)hd;
    float *dk_sum = slm2_cpu_dest(dk, key0, g * hd, dk_tmp), *dv_sum = slm2_cpu_dest(dv, key0, g * hd, dv_tmp);
    size_t ldk = dk->dtype == SLM2_F32 ? (size_t)dk->stride : (size_t)hd, ldv = dv->dtype == SLM2_F32 ? (size_t)dv->stride : (size_t)hd;
    assert(slm2_cpu_attn_floats((size_t)len, (size_t)hd) <= c->scratch_floats);
    assert(most_keys(a->position + r0, len) <= len);
    for (int j = 0; j < len; j++) {
        memset(dk_sum + (size_t)j * ldk, 0, (size_t)hd * sizeof(float));
        memset(dv_sum + (size_t)j * ldv, 0, (size_t)hd * sizeof(float));
    }
    for (int h = g * a->group; h < (g + 1) * a->group; h++) {
        for (int r = r0; r < r1; r += ROWS) {
            attn_bwd_block(c, a, dq, dk_sum, ldk, dv_sum, ldv, do_, o, lse, r, slm2_min_int(ROWS, r1 - r), h, key0, tmp);
        }
    }
    for (int j = 0; j < len; j++) {
        slm2_cpu_store(c, dk, key0 + j, g * hd, hd, dk_sum + (size_t)j * ldk);
        slm2_cpu_store(c, dv, key0 + j, g * hd, hd, dv_sum + (size_t)j * ldv);
    }
}

void slm2_cpu_attn_bwd(struct slm2_ctx *c, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv, const struct slm2_mat *do_,
                       const struct slm2_mat *o, const float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                       int n_head, int n_kv_head, const struct slm2_seqs *seqs)
{
    int hd = q->n_col / n_head;
    const struct attn a = {q, k, v, seqs->position, n_head, n_head / n_kv_head, hd, (float)(1 / sqrt((double)hd))};
#pragma omp parallel for schedule(static, 1) num_threads(c->n_threads)
    for (int i = 0; i < seqs->n_seq * n_kv_head; i++) {
        int s = i / n_kv_head;
        if (seqs->cu_seqlens[s + 1] == seqs->cu_seqlens[s]) continue;
        attn_bwd_seq(c, &a, dq, dk, dv, do_, o, lse, seqs->cu_seqlens[s], seqs->cu_seqlens[s + 1], seqs->kv_start[s], i % n_kv_head,
                     c->scratch[omp_get_thread_num()]);
    }
}
