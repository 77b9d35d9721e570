/* kernels_avx512.c - what avx512 makes faster. */
#include "kernels/kernels.h"

void slm2_kernels_fill_avx512(struct slm2_kernels *k) { k->name = "avx512"; }
