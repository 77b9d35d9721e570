/* kernels_vnni.c - int8 products by AVX-512 VNNI. */
#include "kernels/kernels.h"

#if defined(__AVX512VNNI__)
void slm2_kernels_fill_vnni(struct slm2_kernels *k) { (void)k; }
#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_vnni(struct slm2_kernels *k) { (void)k; }
#endif
