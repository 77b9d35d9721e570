/* attn.h - attention with bf16 products on tiles of keys: what ops_cpu_attn.c uses where the processor has bf16 arithmetic.
 *
 * A line is one query row of one head, n = head_dim elements, n a multiple of 32.  It meets its keys in tiles of SLM2_ATTN_KEYS, always counted
 * from the first key of its sequence, and carries a running maximum, sum and weighted sum of values from tile to tile (online softmax).
 * Everything that happens to a line depends on that line and on its keys alone: not on the lines beside it, nor on keys that it does not see
 * (their weight is 0, and 0 times a finite value changes no bit of a sum, but for sums below 2^-126, which the processor may flush).  So one line gets the same bits by itself and in a block.
 *
 * Numbers: keys, values, queries and weights are bf16, products are added in fp32 in pairs of ascending elements. */
#ifndef SLM2_ATTN_H
#define SLM2_ATTN_H
#include "base/dtype.h"

#include <stdbool.h>

enum {
    SLM2_ATTN_KEYS = 64,    /* keys of a tile */
    SLM2_ATTN_STATE = 17,   /* floats of a line's state: 16 partial sums of weights, then the largest score */
    SLM2_ATTN_UNIT = 32,    /* head_dim is a multiple of this */
};

struct slm2_attn_kernels {
    bool takes[SLM2_N_DTYPE]; /* types of rows that the packers read */
    /* A panel of n_row <= SLM2_ATTN_KEYS rows, n elements each, row_bytes apart; rows that are missing count as zeros.  Asks for the same rows of
     * the next tile on the way.  Both need 2 * SLM2_ATTN_KEYS * n bytes.
     * across: panel[n / 2][SLM2_ATTN_KEYS][2], for sums over the n elements;  along: panel[SLM2_ATTN_KEYS / 2][n][2], for sums over rows. */
    void (*pack_across)(uint16_t *panel, const void *rows, size_t row_bytes, enum slm2_dtype type, size_t n_row, size_t n);
    void (*pack_along)(uint16_t *panel, const void *rows, size_t row_bytes, enum slm2_dtype type, size_t n_row, size_t n);
    /* A tile for n_line lines: q[n_line][n]; line i sees the first seen[i] - first keys of the tile (all when more, none when <= 0).
     * sum[n_line][n] and state[n_line][SLM2_ATTN_STATE] are brought on; start() sets them before the first tile. */
    void (*start)(float *sum, float *state, size_t n_line, size_t n);
    void (*step)(float *sum, float *state, const uint16_t *q, const int32_t *seen, int32_t first, size_t n_line, const uint16_t *keys, const uint16_t *values,
                 size_t n, float scale);
    /* The same bits as packing a tile and step() for the n_head lines of one query row, which sees all of the tile's n_row keys (1 <= n_row <= SLM2_ATTN_KEYS), but
     * from keys and values where they lie: heads as in heads_dot (kernels.h), scores s[n_head][SLM2_ATTN_KEYS] as scratch. */
    void (*single)(float *sum, float *state, float *s, const uint16_t *q, size_t h0, size_t n_head, size_t group, size_t n, const void *keys, size_t key_bytes, enum slm2_dtype key_type,
                   const void *values, size_t value_bytes, enum slm2_dtype value_type, size_t n_row, float scale);
    /* After the last tile of a line: sum[n] becomes the attention's output; returns the log-sum-exp of the scaled scores. */
    float (*finish)(float *sum, const float *state, size_t n, float scale);
    /* c[m][n] (= or +=) sum over n_pair pairs of a[m][pair] . panel[pair][n]; pairs of a lie at a + m * a_m + pair * a_k; ldb in pairs. */
    void (*mul)(float *c, size_t ldc, const uint16_t *a, size_t a_m, size_t a_k, const uint16_t *panel, size_t ldb, size_t m, size_t n, size_t n_pair, bool accumulate);
    /* Gradient of the softmax for one block of n_line lines and a tile: scores s and dp = do . v, both [n_line][SLM2_ATTN_KEYS], lse and row_d = do . o
     * of each line; seen and first as in step.  p = exp(scale s - lse), ds = p (dp - row_d).  Stored in pairs of lines, [n_line / 2, up][SLM2_ATTN_KEYS][2]:
     * p_pairs, ds_pairs; and by line: ds[n_line][SLM2_ATTN_KEYS]. */
    void (*grad)(uint16_t *p_pairs, uint16_t *ds_pairs, uint16_t *ds, const float *s, const float *dp, const float *lse, const float *row_d, const int32_t *seen, int32_t first,
                 size_t n_line, float scale);
};
#endif
