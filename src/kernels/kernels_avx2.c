/* kernels_avx2.c - what avx2 makes faster. */
#include "kernels/kernels.h"

void slm2_kernels_fill_avx2(struct slm2_kernels *k) { k->name = "avx2"; }
