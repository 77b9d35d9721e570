/* neon_dotprod.c - products of block types by SDOT: 16 products an instruction, activations by lane. */
#include "kernels/kernels.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

enum { INT_M = 4, SHORT_M = INT_M };
#define dot_4 vdotq_laneq_s32

#include "kernels/neon_int8.h"

void slm2_kernels_fill_neon_dotprod(struct slm2_kernels *k)
{
    slm2_kernels_extend(k, "dotprod");
    fill_int8(k);
}

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_neon_dotprod(struct slm2_kernels *k) { (void)k; }
#endif
