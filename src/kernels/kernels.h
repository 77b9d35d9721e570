/* kernels.h - rows of numbers, chosen once at run time by what the processor has.
 *
 * One table, filled from the bottom up: scalar (complete), then AVX2, then AVX-512 replace what they make faster.  Kernels
 * never allocate, never start threads.  Pointers need no alignment beyond their element's.
 *
 * The order of every sum is fixed by the length alone, per table: dot() accumulates element i in lane i mod lanes, lanes are added
 * in a fixed tree.  gemm_nt computes each of its outputs exactly as dot() would, bit for bit, whatever the tile: so decoding one
 * token gives the same bits as reading it in a prompt, and threads may cut rows and columns anywhere.
 *
 * Weights in blocks and in bf16 are multiplied by `product`: integers by integers, bf16 by bf16. */
#ifndef SLM2_KERNELS_H
#define SLM2_KERNELS_H
#include "base/dtype.h"
#include "base/err.h"

/* A product: how rows of weights in one type meet rows of activations, y[r][o] = x row r . w row o.
 *
 * Activations are brought once into the form that the arithmetic wants (x_pack), weights either
 *   - into panels of a few rows side by side, sized for the second cache, that many activations pass (w_pack, mul), or
 *   - read as the file has them, for few activations (few): decoding is as fast as memory.
 * Block types: activations become int8 in blocks of SLM2_QK with a float scale, d = max|x| / 127, q = round to nearest even of x / d
 * (struct slm2_block_x8).  An output is one chain over the blocks of w's scale (32 elements, 16 in Q6_K) in ascending order:
 *     acc = fma((float)sum_i q_w[i] q_x[i], d_w d_x, acc)            integer sums, exact; a constant zero point of w is inside the sum
 *     acc = fma((float)sum_i q_x[i] d_x, m_w, acc)                   then, only in types with a minimum (Q4_1, Q4_K, Q5_K; negative in K types)
 * with d_w, m_w as fp32 products of what the block stores; d_w d_x and (float)sum d_x are rounded.  BF16: activations are rounded to bf16
 * (nearest even), pairs of elements are added in ascending order by the processor's dot product.
 * few() and mul() give the same bits, whatever else is computed beside an output.  (scalar: multiply, then add.) */
struct slm2_product {
    /* bytes of n_row packed activation rows of n elements; x_pack writes row r among them (threads may pack rows side by side) */
    size_t (*x_bytes)(size_t n_row, size_t n);
    void (*x_pack)(void *to, size_t n_row, size_t r, const float *x, size_t n);
    /* bytes of a panel of n_out rows of w; rows lie row_bytes apart.  Panels start on 64 bytes. */
    size_t (*w_bytes)(size_t n_out, size_t n);
    void (*w_pack)(void *panel, const void *w, size_t row_bytes, size_t n_out, size_t n);
    /* y[i][o] = x row (r0 + i) . panel row o, i < m, o < n_out; x holds n_row rows in all; ldy in elements */
    void (*mul)(float *y, size_t ldy, const void *x, size_t n_row, size_t r0, size_t m, const void *panel, size_t n_out, size_t n);
    /* the same for all n_row <= SLM2_FEW rows of x at once, from w as it lies */
    void (*few)(float *y, size_t ldy, const void *x, size_t n_row, const void *w, size_t row_bytes, size_t n_out, size_t n);
};
enum { SLM2_FEW = 16 };

/* Activations for integer products: block b of row r of n_row rows is element [b * n_row + r], so that the rows of a tile lie side by side. */
struct slm2_block_x8 {
    float d;           /* x[i] = d * q[i]; 0 when the block is all zeros */
    int16_t sum[2];    /* of q[0..15] and q[16..31] */
    int8_t q[SLM2_QK]; /* -127 .. 127 */
};

enum { SLM2_VARIANT_MAX = 32 };

struct slm2_attn_kernels;

struct slm2_kernels {
    const char *name; /* the instruction set: "scalar", "avx2", "avx512", "neon" */
    char variant[SLM2_VARIANT_MAX]; /* with what extends it here: "avx512+vnni+bf16", "neon+dotprod".  Part of the key of whatever is kept: tables of one
                       * variant give the same bits, those of one name need not */

    const struct slm2_product *product[SLM2_N_DTYPE]; /* block types and BF16; NULL: widen to fp32 and use gemm_nt */

    /* c[m][n] (= or +=) sum_k a[m*a_m + k*a_k] b[k][n], all bf16, sums in fp32; strides as in gemm_nn.  NULL where the processor has no bf16
     * arithmetic.  Pairs of k in ascending order, one chain an element that starts from c: cutting k at even places gives the same bits. */
    void (*gemm_nn_bf16)(float *c, size_t ldc, const uint16_t *a, size_t a_m, size_t a_k, const uint16_t *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate);

    float (*dot)(const float *x, const float *y, size_t n);
    /* x[n] . row of weights in type t */
    float (*dot_w[SLM2_N_DTYPE])(const float *x, const void *w, size_t n); /* F32 F16 BF16; others NULL */
    /* y[o] = x . row o, o < n_out; rows lie row_bytes apart.  The bits of dot_w, but several rows at once: as fast as memory. */
    void (*gemv_w[SLM2_N_DTYPE])(float *y, const float *x, const void *w, size_t row_bytes, size_t n_out, size_t n);

    /* One query over rows of a key/value cache in type t, row_bytes apart: n_head heads of n elements, heads h0, h0 + 1 ... of the query, of which each `group` read the same
     * n elements of a row: (h0 + h) / group * n and on.  n is a multiple of the type's block.  Rows are read whole, once, as they lie in memory.
     * heads_dot: s[h * lds + r] = q[h * n ...] . row r, the bits of dot() on the widened row.
     * heads_sum: y[h * n + i] += sum_r p[h * ldp + r] row r's element i, the bits of gemm_nn accumulating on widened rows. */
    void (*heads_dot[SLM2_N_DTYPE])(float *s, size_t lds, const float *q, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row); /* F32 F16 BF16 Q8_0; others NULL */
    void (*heads_sum[SLM2_N_DTYPE])(float *y, const float *p, size_t ldp, size_t h0, size_t n_head, size_t group, size_t n, const void *rows, size_t row_bytes, size_t n_row);

    /* c[m][n] (= or +=) sum_k a[m][k] b[n][k].  Row strides lda, ldb, ldc in elements.  Each sum in the order of dot(). */
    void (*gemm_nt)(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate);
    /* c[m][n] (= or +=) sum_k a[m*a_m + k*a_k] b[k][n]: outer-product form, k in ascending order with fma, one chain an element
     * that starts from c when accumulating: cutting k into several calls gives the same bits.  (scalar: multiply, then add.)
     * (a_m, a_k) = (lda, 1): A as stored; (1, lda): A transposed. */
    void (*gemm_nn)(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate);

    void (*to_f32[SLM2_N_DTYPE])(float *y, const void *x, size_t n);   /* exact; NULL for integer types */
    void (*from_f32[SLM2_N_DTYPE])(void *y, const float *x, size_t n); /* F32 F16 BF16 only: nearest even; NaN stays NaN.
                                                                         * Q8_0 too (n a multiple of SLM2_QK): d = f16(max|x| / 127), q = nearest even of x (127 / max|x|), 0 where d is; a block that is not finite: d = NaN */

    void (*axpy)(float *y, float a, const float *x, size_t n);  /* y += a x, fma (scalar: multiply, then add) */
    void (*scale)(float *y, float a, size_t n);
    void (*add)(float *y, const float *a, const float *b, size_t n);
    float (*max)(const float *x, size_t n);                     /* -inf for n = 0 */
    /* y[i] = exp(x[i] - m), returns the sum in a fixed order (lanes, then tree).  x - m, rounded to
     * float, must be <= 0 or NaN: |relative error| <= 4e-7 against exp of it; results under 2^-126 may be 0; NaN stays.  y may be x. */
    float (*exp_sum)(float *y, const float *x, float m, size_t n);
    double (*sum_sq)(const float *x, size_t n);                 /* double lanes */
    /* mean and sum of squared differences from the mean, sums in fixed lanes of double */
    void (*moments)(const float *x, size_t n, float *mean, float *var); /* biased variance */
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n); /* y = gate/(1+exp(-gate)) * up; |rel| <= 1e-6; may be 0 for gate < -87 */
    void (*swiglu_bwd)(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n);
    /* Both optimizers round after every operation, no fma: the same bits from every table.
     * One AdamW step on n elements: m = b1 m + (1-b1) g c; v = b2 v + (1-b2) (g c)^2; p = p (1 - lr wd) - lr (m / bc1) / (sqrt(v / bc2) + eps) */
    void (*adamw)(float *p, float *m, float *v, const float *g, size_t n, float clip, float lr, float b1, float b2, float eps, float wd, float bc1, float bc2);
    /* v = a v + (1-a) g^2; p -= lr g / (sqrt(v) + eps), g scaled by clip first */
    void (*rmsprop)(float *p, float *v, const float *g, size_t n, float clip, float lr, float alpha, float eps);

    const struct slm2_attn_kernels *attn; /* attention on tiles with bf16 products (attn.h); NULL where the processor has none */
};

/* The best table for this processor; SLM2_ISA=scalar|avx2|avx512|neon is read by the program and passed as `isa` (NULL: best).
 * SLM2_EUSAGE when the name is unknown or the processor lacks it. */
slm2_status slm2_kernels_get(const struct slm2_kernels **k, const char *isa, struct slm2_err *err);
/* Each of these says in `variant` that it was here; slm2_kernels_extend adds the name of an extension. */
void slm2_kernels_fill_scalar(struct slm2_kernels *k);
void slm2_kernels_fill_avx2(struct slm2_kernels *k);
void slm2_kernels_fill_avx512(struct slm2_kernels *k);
void slm2_kernels_fill_vnni(struct slm2_kernels *k); /* int8 products by AVX-512 VNNI */
void slm2_kernels_fill_bf16(struct slm2_kernels *k); /* bf16 products by AVX-512 BF16 */
void slm2_kernels_fill_attn(struct slm2_kernels *k); /* attention by AVX-512 BF16, always with the one before */
void slm2_kernels_fill_neon(struct slm2_kernels *k);
void slm2_kernels_fill_neon_int8(struct slm2_kernels *k);    /* int8 products by any NEON */
void slm2_kernels_fill_neon_dotprod(struct slm2_kernels *k); /* int8 products by Arm's SDOT */
void slm2_kernels_fill_neon_i8mm(struct slm2_kernels *k);    /* int8 products by Arm's SMMLA, where SDOT is too */
void slm2_kernels_extend(struct slm2_kernels *k, const char *name);
#endif
