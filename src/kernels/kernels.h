/* kernels.h - rows of numbers, chosen once at run time by what the processor has.
 *
 * One table, filled from the bottom up: scalar (complete), then AVX2, then AVX-512 replace what they make faster.  Kernels
 * never allocate, never start threads.  Pointers need no alignment beyond their element's.
 *
 * The order of every sum is fixed by the length alone, per table: dot() accumulates element i in lane i mod lanes, lanes are added
 * in a fixed tree.  gemm_nt computes each of its outputs exactly as dot() would, bit for bit, whatever the tile: so decoding one
 * token gives the same bits as reading it in a prompt, and threads may cut rows and columns anywhere.  dot_* of a packed type
 * gives the same bits as unpacking the row with to_f32 and calling dot. */
#ifndef SLM2_KERNELS_H
#define SLM2_KERNELS_H
#include "base/dtype.h"
#include "base/err.h"

struct slm2_kernels {
    const char *name; /* "scalar", "avx2", "avx512" */

    float (*dot)(const float *x, const float *y, size_t n);
    /* x[n] . row of weights in type t; n a multiple of the block */
    float (*dot_w[SLM2_N_DTYPE])(const float *x, const void *w, size_t n); /* F32 F16 BF16 Q8_0 Q4_0; others NULL */
    /* y[o] = x . row o, o < n_out; rows lie row_bytes apart.  The bits of dot_w, but several rows at once: as fast as memory. */
    void (*gemv_w[SLM2_N_DTYPE])(float *y, const float *x, const void *w, size_t row_bytes, size_t n_out, size_t n);

    /* c[m][n] (= or +=) sum_k a[m][k] b[n][k].  Row strides lda, ldb, ldc in elements.  Each sum in the order of dot(). */
    void (*gemm_nt)(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate);
    /* c[m][n] (= or +=) sum_k a[m*a_m + k*a_k] b[k][n]: outer-product form, k in ascending order with fma, one chain an element
     * that starts from c when accumulating: cutting k into several calls gives the same bits.  (scalar: multiply, then add.)
     * (a_m, a_k) = (lda, 1): A as stored; (1, lda): A transposed. */
    void (*gemm_nn)(float *c, size_t ldc, const float *a, size_t a_m, size_t a_k, const float *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate);

    void (*to_f32[SLM2_N_DTYPE])(float *y, const void *x, size_t n);   /* exact; NULL for integer types */
    void (*from_f32[SLM2_N_DTYPE])(void *y, const float *x, size_t n); /* F32 F16 BF16 only: nearest even; NaN stays NaN */

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
};

/* The best table for this processor; SLM2_ISA=scalar|avx2|avx512 is read by the program and passed as `isa` (NULL: best).
 * SLM2_EUSAGE when the name is unknown or the processor lacks it. */
slm2_status slm2_kernels_get(const struct slm2_kernels **k, const char *isa, struct slm2_err *err);
void slm2_kernels_fill_scalar(struct slm2_kernels *k);
void slm2_kernels_fill_avx2(struct slm2_kernels *k);
void slm2_kernels_fill_avx512(struct slm2_kernels *k);
#endif
