/* neon_int8.c - products of block types by what every 64-bit Arm processor has: multiply to 16 bits, add in pairs. */
#include "kernels/kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

enum { INT_M = 4, SHORT_M = INT_M };

/* Two products fit 16 bits: |codes| <= 128, |x| <= 127. */
#define dot_4(sum, codes, x, lane) dot_16_bits(sum, codes, vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), lane)))
static inline int32x4_t dot_16_bits(int32x4_t sum, int8x16_t codes, int8x16_t x)
{
    int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(x)), high = vmull_high_s8(codes, x);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
}

#include "kernels/neon_int8.h"

void slm2_kernels_fill_neon_int8(struct slm2_kernels *k)
{
    fill_int8(k);
    k->product[SLM2_BF16] = NULL; /* widened: the fp32 kernels are faster than the scalar product */
}

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_neon_int8(struct slm2_kernels *k) { (void)k; }
#endif
