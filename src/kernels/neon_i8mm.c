/* neon_i8mm.c - products of block types by SMMLA: 2 rows of 8 codes by 2 rows of 8 activations, 32 products an instruction; a single row of
 * activations by SDOT, which has the same sums. */
#include "kernels/kernels.h"

#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
#include <arm_neon.h>

enum { INT_M = 6, SHORT_M = INT_M };
#define dot_4 vdotq_laneq_s32
#define OWN_SUMS
struct form;
static inline void tile_sums(int32x4_t sum[][2], const struct slm2_block_x8 *x, const uint8_t *w, size_t strip, int g, int per, int nm, int nv,
                             struct form f) __attribute__((always_inline));

#include "kernels/neon_int8.h"

/* Rows i and i + 1 of activations, 8 bytes of each. */
INLINE int8x16_t two_rows(const struct slm2_block_x8 *x, int at) { return vcombine_s8(vld1_s8(x[0].q + at), vld1_s8(x[1].q + at)); }

/* Vectors j and j + 1 of codes, interleaved, are the 8 codes of rows 0 and 1, and those of rows 2 and 3. */
static inline void tile_sums(vi sum[][2], const struct slm2_block_x8 *x, const uint8_t *w, size_t strip, int g, const int per, const int nm,
                             const int nv, const struct form f)
{
    vi low[MOST_ROWS / 2][2], high[MOST_ROWS / 2][2]; /* of rows 0 and 1, 2 and 3: row i, then row i + 1 */
    UNROLL for (int i = 0; i < nm / 2; i++) {
        UNROLL for (int v = 0; v < nv; v++) low[i][v] = high[i][v] = i_zero();
    }
    UNROLL for (int i = 0; i < nm; i++) {
        UNROLL for (int v = 0; v < nv; v++) sum[i][v] = sum_start(x + i, g, f);
    }
    UNROLL for (int j = 0; j < per; j += 2) {
        const int at = 4 * (g * per + j);
        UNROLL for (int v = 0; v < nv; v++) {
            const uint8_t *codes = w + (size_t)v * strip + (size_t)(g * per + j) * VB;
            vi even = i_load(codes), odd = i_load(codes + VB);
            int8x16_t rows_01 = vreinterpretq_s8_s32(vzip1q_s32(even, odd)), rows_23 = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
            UNROLL for (int i = 0; i < nm / 2; i++) {
                low[i][v] = vmmlaq_s32(low[i][v], two_rows(x + 2 * i, at), rows_01);
                high[i][v] = vmmlaq_s32(high[i][v], two_rows(x + 2 * i, at), rows_23);
            }
            if (nm % 2) {
                dot_step(&sum[nm - 1][v], even, x[nm - 1].q + at, j);
                dot_step(&sum[nm - 1][v], odd, x[nm - 1].q + at + 4, j + 1);
            }
        }
    }
    UNROLL for (int i = 0; i < nm / 2; i++) {
        UNROLL for (int v = 0; v < nv; v++) {
            sum[2 * i][v] = vaddq_s32(sum[2 * i][v], pair_low(low[i][v], high[i][v]));
            sum[2 * i + 1][v] = vaddq_s32(sum[2 * i + 1][v], pair_high(low[i][v], high[i][v]));
        }
    }
}

void slm2_kernels_fill_neon_i8mm(struct slm2_kernels *k)
{
    slm2_kernels_extend(k, "i8mm");
    fill_int8(k);
}

#else /* not this processor family: kernels_get() never asks */
void slm2_kernels_fill_neon_i8mm(struct slm2_kernels *k) { (void)k; }
#endif
