/* ops_cpu_attn.c - attention over ragged sequences, forward and backward, on kernels and threads.
 *
 * Forward: keys are taken in fixed tiles from the sequence's first key, in ascending order; each line (one query row of one head) carries the
 * largest score, the sum of weights and the weighted sum of values from tile to tile (online softmax), so no row of scores as long as the
 * context exists.  A key beyond a row's position has weight 0, which leaves every bit of its sums alone.  So a line's result depends on that
 * line and its keys only: decoding one token equals reading it in a prompt.
 * Work: every thread walks over all blocks of rows and does its share of the heads in each, tile by tile: shares are equal whatever the
 * lengths are, and the pieces of a cache row that a thread's heads read lie side by side.
 * Two forms of a tile: fp32 on the general kernels, and bf16 (attn.h) where the cache is BF16 or Q8_0 and the processor has the arithmetic.
 * A single row reads keys and values where they lie, all heads of the thread at once: unpacking a tile of each would cost more than its use.
 *
 * Backward: a piece is (sequence, kv head); its query heads and rows come in order, weights are recomputed from lse. */
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <omp.h>

#include "kernels/attn.h"
#include "ops/ops_cpu.h"

enum {
    ROWS = 16, KEYS = 128, /* fp32: query rows of a backward block, keys of a tile */
    LINES = 96,            /* lines whose state a thread holds at a time */
    BF_KEYS = SLM2_ATTN_KEYS,
};

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t bwd_tile_floats(size_t head_dim) { return 4 * ROWS * head_dim + 2 * KEYS * head_dim + 2 * ROWS * KEYS; }

size_t slm2_cpu_attn_floats(size_t n_ctx, size_t head_dim)
{
    size_t forward = LINES * (2 * head_dim + KEYS + SLM2_ATTN_STATE) + 2 * KEYS * head_dim;
    size_t backward = bwd_tile_floats(head_dim) + 2 * n_ctx * head_dim;
    size_t backward_bf16 = 3 * n_ctx * head_dim + 5 * BF_KEYS * head_dim / 2 + 4 * BF_KEYS * BF_KEYS + 2 * n_ctx;
    return larger(forward, larger(backward, backward_bf16));
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
    int part; /* lines of a row that share a tile: all heads of a kv head, or a divisor of that when they are many */
    float scale;
    bool bf16; /* tiles in bf16 */
};

static struct attn attn_of(const struct slm2_ctx *c, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v, int n_head, int n_kv_head, const int32_t *position)
{
    const struct slm2_attn_kernels *t = c->k->attn;
    int hd = q->n_col / n_head, group = n_head / n_kv_head, part = slm2_min_int(group, LINES);
    while (group % part) part--;
    bool bf16 = !c->exact && t && t->takes[k->dtype] && t->takes[v->dtype] && hd % SLM2_ATTN_UNIT == 0;
    return (struct attn){q, k, v, position, n_head, group, hd, part, (float)(1 / sqrt((double)hd)), bf16};
}

/* Rows [r0, r0 + n) of one sequence, whose keys lie in the pieces of run, and of the heads those from h0 on, n_set sets of a->part heads each.  The
 * lines of a set lie together, and in them those of a row. */
struct lines {
    int r0, n, h0, n_set, n_key;
    const struct slm2_run *run;
    void *q;               /* [line][hd], fp32 with the scale, or bf16 */
    float *sum, *state;    /* [line][hd], [line][SLM2_ATTN_STATE]; fp32: sum of weights, largest score */
    float *tile[2], *s;    /* keys and values of a tile; scores */
    int32_t seen[LINES];   /* keys that a line sees, the same in each set */
};

static void load_queries(const struct slm2_ctx *c, const struct attn *a, const struct lines *l)
{
    size_t d = (size_t)a->hd, at = 0;
    for (int i = 0; i < l->n_set * l->n * a->part; i++, at += d) {
        int set = i / (l->n * a->part), r = l->r0 + i / a->part % l->n, col = (l->h0 + set * a->part + i % a->part) * a->hd;
        if (!a->bf16) load_scaled(c, (float *)l->q + at, a->q, r, 1, col, a->hd, a->scale);
        else if (a->q->dtype == SLM2_BF16) memcpy((uint16_t *)l->q + at, slm2_cpu_at(a->q, r, col), d * sizeof(uint16_t));
        else c->k->from_f32[SLM2_BF16]((uint16_t *)l->q + at, slm2_cpu_load(c, a->q, r, col, a->hd, l->s), d);
    }
}

static void start_lines(const struct slm2_ctx *c, const struct attn *a, struct lines *l, float *tmp)
{
    size_t d = (size_t)a->hd;
    l->tile[0] = tmp;
    l->tile[1] = l->tile[0] + KEYS * d;
    l->q = l->tile[1] + KEYS * d;
    l->sum = (float *)l->q + LINES * d;
    l->s = l->sum + LINES * d;
    l->state = l->s + LINES * KEYS;
    assert((size_t)(l->state - tmp) + LINES * SLM2_ATTN_STATE <= c->scratch_floats);
    for (int i = 0; i < l->n * a->part; i++) l->seen[i] = a->position[l->r0 + i / a->part] + 1;
    l->n_key = most_keys(a->position + l->r0, l->n);
    load_queries(c, a, l);
    size_t n_line = (size_t)(l->n_set * l->n * a->part);
    if (a->bf16) {
        c->k->attn->start(l->sum, l->state, n_line, d);
        return;
    }
    memset(l->sum, 0, n_line * d * sizeof(float));
    for (size_t i = 0; i < n_line; i++) {
        l->state[i * SLM2_ATTN_STATE] = 0;
        l->state[i * SLM2_ATTN_STATE + 1] = -INFINITY;
    }
}

/* Scores of one line against a tile of `keys` keys become weights; it sees the first `seen`. */
static void online_softmax(const struct slm2_kernels *k, float *row, int seen, int keys, float *sum, float *state, size_t d)
{
    if (seen > 0) {
        float m = k->max(row, (size_t)seen);
        if (m > state[1]) { /* what was summed so far shrinks; it is nothing before the first tile */
            float shrink = expf(state[1] - m);
            state[0] *= shrink;
            state[1] = m;
            k->scale(sum, shrink, d);
        }
        state[0] += k->exp_sum(row, row, state[1], (size_t)seen);
    }
    for (int j = slm2_max_int(seen, 0); j < keys; j++) row[j] = 0;
}

/* Rows [row, row + n_row) of a head in the cache as a panel of floats.  Where they are unpacked, each asks for its like in the next tile: rows
 * of one head lie too far apart for the processor to see what comes, and asking for a whole tile at once would only fill its queue. */
static const float *cache_panel(const struct slm2_ctx *c, const struct slm2_mat *m, int row, int n_row, int col, int hd, float *tmp, size_t *ld)
{
    if (m->dtype == SLM2_F32) return slm2_cpu_panel(c, m, row, n_row, col, hd, tmp, ld);
    const uint8_t *p = slm2_cpu_at(m, row, col);
    size_t bytes = slm2_dtype_bytes(m->dtype, (size_t)hd), row_bytes = slm2_mat_row_bytes(m);
    *ld = (size_t)hd;
    for (int r = 0; r < n_row; r++, p += row_bytes) {
        for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + KEYS * row_bytes + i, 0, 2);
        c->k->to_f32[m->dtype](tmp + (size_t)r * (size_t)hd, p, (size_t)hd);
    }
    return tmp;
}

/* The same for the keys from j on, wherever they lie. */
static const float *key_panel(const struct slm2_ctx *c, const struct slm2_mat *m, const struct lines *l, int j, int keys, int col, int hd, float *tmp, size_t *ld)
{
    int n, row = slm2_run_row(l->run, j, &n);
    if (n >= keys) return cache_panel(c, m, row, keys, col, hd, tmp, ld);
    *ld = (size_t)hd;
    for (int at = 0; at < keys; at += n) {
        row = slm2_run_row(l->run, j + at, &n);
        n = slm2_min_int(n, keys - at);
        load_scaled(c, tmp + (size_t)at * (size_t)hd, m, row, n, col, hd, 1.0f);
    }
    return tmp;
}

/* Set `set` against the keys from j on, in fp32. */
static void tile_fp32(const struct slm2_ctx *c, const struct attn *a, struct lines *l, int set, int j)
{
    const struct slm2_kernels *k = c->k;
    int keys = slm2_min_int(KEYS, l->n_key - j), n = l->n * a->part, first = 0, col = (l->h0 + set * a->part) / a->group * a->hd;
    while (first < n && l->seen[first] <= j) first++; /* rows come in order: those before see nothing of this tile */
    size_t ld, d = (size_t)a->hd, at = (size_t)(set * n + first), lines = (size_t)(n - first);
    const float *kp = key_panel(c, a->k, l, j, keys, col, a->hd, l->tile[0], &ld);
    k->gemm_nt(l->s, KEYS, (const float *)l->q + at * d, d, kp, ld, lines, (size_t)keys, d, false);
    for (size_t i = 0; i < lines; i++)
        online_softmax(k, l->s + i * KEYS, slm2_min_int(keys, l->seen[(size_t)first + i] - j), keys, l->sum + (at + i) * d, l->state + (at + i) * SLM2_ATTN_STATE, d);
    const float *vp = key_panel(c, a->v, l, j, keys, col, a->hd, l->tile[1], &ld);
    k->gemm_nn(l->sum + at * d, d, l->s, KEYS, 1, vp, ld, lines, d, (size_t)keys, true);
}

static void tile_bf16(const struct slm2_ctx *c, const struct attn *a, struct lines *l, int set, int j)
{
    const struct slm2_attn_kernels *t = c->k->attn;
    int n = l->n * a->part, col = (l->h0 + set * a->part) / a->group * a->hd;
    int left, row = slm2_run_row(l->run, j, &left);
    size_t keys = (size_t)slm2_min_int(BF_KEYS, l->n_key - j), d = (size_t)a->hd, at = (size_t)(set * n);
    assert((size_t)left >= keys);
    uint16_t *kp = (uint16_t *)l->tile[0], *vp = (uint16_t *)l->tile[1];
    t->pack_across(kp, slm2_cpu_at(a->k, row, col), slm2_mat_row_bytes(a->k), a->k->dtype, keys, d);
    t->pack_along(vp, slm2_cpu_at(a->v, row, col), slm2_mat_row_bytes(a->v), a->v->dtype, keys, d);
    t->step(l->sum + at * d, l->state + at * SLM2_ATTN_STATE, (const uint16_t *)l->q + at * d, l->seen, j, (size_t)n, kp, vp, d, a->scale);
}

/* Either of both for a single row, all its sets at once, with the same bits; false, and nothing done, for a tile of several pieces. */
static bool tile_single(const struct slm2_ctx *c, const struct attn *a, struct lines *l, int j)
{
    const struct slm2_kernels *k = c->k;
    int keys = slm2_min_int(a->bf16 ? BF_KEYS : KEYS, l->n_key - j), left, row = slm2_run_row(l->run, j, &left);
    if (left < keys) return false;
    size_t d = (size_t)a->hd, n_line = (size_t)(l->n_set * a->part), h0 = (size_t)l->h0, group = (size_t)a->group;
    const void *kp = slm2_cpu_at(a->k, row, 0), *vp = slm2_cpu_at(a->v, row, 0);
    size_t k_bytes = slm2_mat_row_bytes(a->k), v_bytes = slm2_mat_row_bytes(a->v);
    if (a->bf16) {
        k->attn->single(l->sum, l->state, l->s, l->q, h0, n_line, group, d, kp, k_bytes, a->k->dtype, vp, v_bytes, a->v->dtype, (size_t)keys, a->scale);
        return true;
    }
    k->heads_dot[a->k->dtype](l->s, KEYS, l->q, h0, n_line, group, d, kp, k_bytes, (size_t)keys);
    for (size_t i = 0; i < n_line; i++) online_softmax(k, l->s + i * KEYS, keys, keys, l->sum + i * d, l->state + i * SLM2_ATTN_STATE, d);
    k->heads_sum[a->v->dtype](l->sum, l->s, KEYS, h0, n_line, group, d, vp, v_bytes, (size_t)keys);
    return true;
}

/* o = softmax(scale q k^T) v for rows [r0, r0 + n) of one sequence, heads h0 .. h0 + n_set * a->part. */
static void attn_lines(struct slm2_ctx *c, const struct attn *a, struct slm2_mat *o, float *lse, int r0, int n, int h0, int n_set, const struct slm2_run *run, float *tmp)
{
    struct lines l = {.r0 = r0, .n = n, .h0 = h0, .n_set = n_set, .run = run};
    size_t d = (size_t)a->hd;
    const bool single = n == 1 && (a->bf16 || (c->k->heads_dot[a->k->dtype] && c->k->heads_sum[a->v->dtype]));
    start_lines(c, a, &l, tmp);
    for (int j = 0; j < l.n_key; j += a->bf16 ? BF_KEYS : KEYS) {
        if (single && tile_single(c, a, &l, j)) continue;
        for (int set = 0; set < n_set; set++) {
            if (a->bf16) tile_bf16(c, a, &l, set, j);
            else tile_fp32(c, a, &l, set, j);
        }
    }
    for (int i = 0; i < n_set * n * a->part; i++) {
        float *sum = l.sum + (size_t)i * d, *state = l.state + i * SLM2_ATTN_STATE, log_sum;
        int r = r0 + i / a->part % n, h = h0 + i / (n * a->part) * a->part + i % a->part;
        if (a->bf16) {
            log_sum = c->k->attn->finish(sum, state, d, a->scale);
        } else {
            c->k->scale(sum, 1.0f / state[0], d);
            log_sum = (float)((double)state[1] + log((double)state[0]));
        }
        c->k->from_f32[o->dtype](slm2_cpu_at(o, r, h * a->hd), sum, d);
        if (lse) lse[(size_t)r * (size_t)a->n_head + (size_t)h] = log_sum;
    }
}

/* What thread t of n_thread does: in each block of rows the t-th part of the heads, or, where they do not divide evenly, each part in turn. */
static void attn_share(struct slm2_ctx *c, const struct attn *a, struct slm2_mat *o, float *lse, const struct slm2_seqs *seqs, int t, int n_thread)
{
    int n_set = a->n_head / a->part, block = 0;
    for (int s = 0; s < seqs->n_seq; s++) {
        const struct slm2_run whole = {seqs->run ? 0 : seqs->kv_start[s], INT_MAX}, *run = seqs->run ? seqs->run + seqs->cu_runs[s] : &whole;
        for (int r = seqs->cu_seqlens[s]; r < seqs->cu_seqlens[s + 1]; r += LINES / a->part, block++) {
            int n = slm2_min_int(LINES / a->part, seqs->cu_seqlens[s + 1] - r), at_once = LINES / (n * a->part);
            int turn = n_set % n_thread ? (t + block) % n_thread : t;
            int from = (int)((int64_t)n_set * turn / n_thread), to = (int)((int64_t)n_set * (turn + 1) / n_thread);
            for (int g = from; g < to; g += at_once) attn_lines(c, a, o, lse, r, n, g * a->part, slm2_min_int(at_once, to - g), run, c->scratch[t]);
        }
    }
}

void slm2_cpu_attn(struct slm2_ctx *c, struct slm2_mat *o, float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                   int n_head, int n_kv_head, const struct slm2_seqs *seqs)
{
    const struct attn a = attn_of(c, q, k, v, n_head, n_kv_head, seqs->position);
    assert(!a.bf16 || !seqs->run);
#pragma omp parallel num_threads(c->n_threads)
    attn_share(c, &a, o, lse, seqs, omp_get_thread_num(), omp_get_num_threads());
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
    float *dk_tmp = tmp + bwd_tile_floats((size_t)hd), *dv_tmp = dk_tmp + (size_t)len * (size_t)hd;
    float *dk_sum = slm2_cpu_dest(dk, key0, g * hd, dk_tmp), *dv_sum = slm2_cpu_dest(dv, key0, g * hd, dv_tmp);
    size_t ldk = dk->dtype == SLM2_F32 ? (size_t)dk->stride : (size_t)hd, ldv = dv->dtype == SLM2_F32 ? (size_t)dv->stride : (size_t)hd;
    assert((size_t)(dv_tmp - tmp) + (size_t)len * (size_t)hd <= c->scratch_floats);
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

/* The same with bf16 products.  A block of rows meets a tile of keys: five products on panels, all of them mul() of attn.h. */
struct bwd_bf16 {
    float *dq, *dk, *dv;                      /* [row][hd], [key][hd] of the sequence */
    float *lse, *row_d;                       /* [row] of one head; row_d = sum_j p_j dp_j = do . o */
    float *s, *dp;                            /* [BF_KEYS][BF_KEYS] */
    uint16_t *p_pairs, *ds_pairs, *ds;        /* struct slm2_attn_kernels, grad */
    uint16_t *k_across, *v_across, *k_along;  /* panels of the tile */
    uint16_t *q_along, *do_along;             /* panels of the block */
};

static struct bwd_bf16 bwd_scratch(const struct slm2_ctx *c, float *tmp, size_t len, size_t d)
{
    struct bwd_bf16 b;
    float **piece[] = {&b.dq, &b.dk, &b.dv};
    uint16_t **panel[] = {&b.k_across, &b.v_across, &b.k_along, &b.q_along, &b.do_along};
    float *at = tmp;
    for (int i = 0; i < 5; i++, at += BF_KEYS * d / 2) *panel[i] = (uint16_t *)at;
    b.s = at;
    b.dp = b.s + BF_KEYS * BF_KEYS;
    b.p_pairs = (uint16_t *)(b.dp + BF_KEYS * BF_KEYS);
    b.ds_pairs = b.p_pairs + BF_KEYS * BF_KEYS;
    b.ds = b.ds_pairs + BF_KEYS * BF_KEYS;
    at = (float *)(void *)b.ds + BF_KEYS * BF_KEYS / 2;
    for (int i = 0; i < 3; i++, at += len * d) *piece[i] = at;
    b.lse = at;
    b.row_d = b.lse + len;
    assert((size_t)(b.row_d + len - tmp) <= c->scratch_floats);
    return b;
}

/* Rows [r, r + n) of head h against the keys from j on; rows and keys are counted from the sequence's first, r0 and key0. */
static void bwd_bf16_tile(const struct slm2_ctx *c, const struct attn *a, const struct bwd_bf16 *b, const struct slm2_mat *do_, int r0, int r, int n, int h, int j, int keys)
{
    const struct slm2_attn_kernels *t = c->k->attn;
    size_t d = (size_t)a->hd, rows = (size_t)n, at = (size_t)r, key = (size_t)j, pairs = (rows + 1) / 2;
    const uint16_t *q = slm2_cpu_at(a->q, r0 + r, h * a->hd), *g = slm2_cpu_at(do_, r0 + r, h * a->hd);
    int32_t seen[BF_KEYS];
    for (int i = 0; i < n; i++) seen[i] = a->position[r0 + r + i] + 1;
    t->pack_along(b->q_along, q, slm2_mat_row_bytes(a->q), SLM2_BF16, rows, d);
    t->pack_along(b->do_along, g, slm2_mat_row_bytes(do_), SLM2_BF16, rows, d);
    t->mul(b->s, BF_KEYS, q, (size_t)a->q->stride, 2, b->k_across, BF_KEYS, rows, BF_KEYS, d / 2, false);
    t->mul(b->dp, BF_KEYS, g, (size_t)do_->stride, 2, b->v_across, BF_KEYS, rows, BF_KEYS, d / 2, false);
    t->grad(b->p_pairs, b->ds_pairs, b->ds, b->s, b->dp, b->lse + r, b->row_d + r, seen, j, rows, a->scale);
    t->mul(b->dv + key * d, d, b->p_pairs, 2, 2 * BF_KEYS, b->do_along, d, (size_t)keys, d, pairs, true);
    t->mul(b->dk + key * d, d, b->ds_pairs, 2, 2 * BF_KEYS, b->q_along, d, (size_t)keys, d, pairs, true);
    t->mul(b->dq + at * d, d, b->ds, BF_KEYS, 2, b->k_along, d, rows, d, (size_t)(keys + 1) / 2, true);
}

static void bwd_bf16_head(const struct slm2_ctx *c, const struct attn *a, const struct bwd_bf16 *b, struct slm2_mat *dq, const struct slm2_mat *do_, const struct slm2_mat *o,
                          const float *lse, int r0, int len, int key0, int h)
{
    const struct slm2_attn_kernels *t = c->k->attn;
    int hd = a->hd, col = h / a->group * hd;
    size_t d = (size_t)hd;
    for (int r = 0; r < len; r++) {
        b->lse[r] = lse[(size_t)(r0 + r) * (size_t)a->n_head + (size_t)h];
        b->row_d[r] = c->k->dot(slm2_cpu_load(c, do_, r0 + r, h * hd, hd, b->s), slm2_cpu_load(c, o, r0 + r, h * hd, hd, b->dp), d);
    }
    memset(b->dq, 0, (size_t)len * d * sizeof(float));
    for (int j = 0; j < len; j += BF_KEYS) {
        int keys = slm2_min_int(BF_KEYS, len - j);
        const void *k_rows = slm2_cpu_at(a->k, key0 + j, col), *v_rows = slm2_cpu_at(a->v, key0 + j, col);
        t->pack_across(b->k_across, k_rows, slm2_mat_row_bytes(a->k), SLM2_BF16, (size_t)keys, d);
        t->pack_across(b->v_across, v_rows, slm2_mat_row_bytes(a->v), SLM2_BF16, (size_t)keys, d);
        t->pack_along(b->k_along, k_rows, slm2_mat_row_bytes(a->k), SLM2_BF16, (size_t)keys, d);
        for (int r = 0; r < len; r += BF_KEYS) {
            int n = slm2_min_int(BF_KEYS, len - r);
            if (most_keys(a->position + r0 + r, n) > j) bwd_bf16_tile(c, a, b, do_, r0, r, n, h, j, keys);
        }
    }
    for (int r = 0; r < len; r++) {
        float *sum = b->dq + (size_t)r * d;
        c->k->scale(sum, a->scale, d);
        c->k->from_f32[dq->dtype](slm2_cpu_at(dq, r0 + r, h * hd), sum, d);
    }
}

static void attn_bwd_seq_bf16(struct slm2_ctx *c, const struct attn *a, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv,
                              const struct slm2_mat *do_, const struct slm2_mat *o, const float *lse, int r0, int r1, int key0, int g, float *tmp)
{
    int hd = a->hd, len = r1 - r0;
    size_t d = (size_t)hd;
    const struct bwd_bf16 b = bwd_scratch(c, tmp, (size_t)len, d);
    memset(b.dk, 0, (size_t)len * d * sizeof(float));
    memset(b.dv, 0, (size_t)len * d * sizeof(float));
    for (int h = g * a->group; h < (g + 1) * a->group; h++) bwd_bf16_head(c, a, &b, dq, do_, o, lse, r0, len, key0, h);
    c->k->scale(b.dk, a->scale, (size_t)len * d);
    for (int j = 0; j < len; j++) {
        c->k->from_f32[dk->dtype](slm2_cpu_at(dk, key0 + j, g * hd), b.dk + (size_t)j * d, d);
        c->k->from_f32[dv->dtype](slm2_cpu_at(dv, key0 + j, g * hd), b.dv + (size_t)j * d, d);
    }
}

void slm2_cpu_attn_bwd(struct slm2_ctx *c, struct slm2_mat *dq, struct slm2_mat *dk, struct slm2_mat *dv, const struct slm2_mat *do_,
                       const struct slm2_mat *o, const float *lse, const struct slm2_mat *q, const struct slm2_mat *k, const struct slm2_mat *v,
                       int n_head, int n_kv_head, const struct slm2_seqs *seqs)
{
    const struct attn a = attn_of(c, q, k, v, n_head, n_kv_head, seqs->position);
    const bool bf16 = a.bf16 && q->dtype == SLM2_BF16 && k->dtype == SLM2_BF16 && v->dtype == SLM2_BF16 && do_->dtype == SLM2_BF16;
#pragma omp parallel for schedule(static, 1) num_threads(c->n_threads)
    for (int i = 0; i < seqs->n_seq * n_kv_head; i++) {
        int s = i / n_kv_head;
        if (seqs->cu_seqlens[s + 1] == seqs->cu_seqlens[s]) continue;
        (bf16 ? attn_bwd_seq_bf16 : attn_bwd_seq)(c, &a, dq, dk, dv, do_, o, lse, seqs->cu_seqlens[s], seqs->cu_seqlens[s + 1], seqs->kv_start[s],
                                                  i % n_kv_head, c->scratch[omp_get_thread_num()]);
    }
}
