/* kernels_bf16.c - bf16 products by AVX-512 BF16. */
#include "kernels/kernels.h"

#if defined(__AVX512BF16__)
void slm2_kernels_fill_bf16(struct slm2_kernels *k) { (void)k; }
#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_bf16(struct slm2_kernels *k) { (void)k; }
#endif
