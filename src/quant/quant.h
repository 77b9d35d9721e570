/* quant.h - rows of numbers from fp32 to stored types and back, and how much that loses.
 *
 * Q8_0, Q4_0 and Q4_1 give the bytes of ggml's reference quantiser: blocks of 32 along the row, an f16 scale d, codes
 *     Q8_0: d = max|x| / 127,                    q = round(x / d), halves away from zero
 *     Q4_0: d = (x of greatest magnitude) / -8,  q = min(15, floor(x / d + 8.5))
 *     Q4_1: m = min x, d = (max x - m) / 15,     q = min(15, floor((x - m) / d + 0.5))
 * where x / d is x times the fp32 reciprocal of the unrounded d.  F16 and BF16 round to nearest, ties to even. */
#ifndef SLM2_QUANT_QUANT_H
#define SLM2_QUANT_QUANT_H
#include "base/dtype.h"
#include "base/err.h"

/* Types that slm2_dequant_row reads: floats and blocks; false for I32, I64, U8 and SLM2_N_DTYPE. */
bool slm2_quant_readable(enum slm2_dtype t);
/* Types that slm2_quant_row makes: as above without Q4_K, Q5_K and Q6_K, whose scales are found by a search that is not written yet. */
bool slm2_quant_supported(enum slm2_dtype t);
/* out receives slm2_dtype_bytes(t, n) bytes; n is a multiple of the type's block.  Values must be finite in block types (others
 * count as 0).  out and in may lie at any address. */
void slm2_quant_row(enum slm2_dtype t, const float *x, void *out, size_t n);
void slm2_dequant_row(enum slm2_dtype t, const void *in, float *x, size_t n);

/* What a conversion lost. */
struct slm2_quant_error {
    double sum_sq;     /* of the differences */
    double sum_sq_ref; /* of the original values */
    double max_abs;    /* largest difference */
    size_t n;
    size_t n_bad;      /* values that are not finite before or after */
};
void slm2_quant_error_add(struct slm2_quant_error *e, const float *ref, const float *got, size_t n);
void slm2_quant_error_merge(struct slm2_quant_error *e, const struct slm2_quant_error *other);
double slm2_quant_rmse(const struct slm2_quant_error *e);     /* sqrt(sum_sq / n) */
double slm2_quant_relative(const struct slm2_quant_error *e); /* sqrt(sum_sq / sum_sq_ref), 0 when both are 0 */
#endif
