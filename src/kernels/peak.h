/* peak.h - the ceilings beside which kernels are judged: what one thread computes when all operands stay in registers, and loops that do
 * nothing but read memory.  Threads are the caller's. */
#ifndef SLM2_KERNELS_PEAK_H
#define SLM2_KERNELS_PEAK_H
#include "kernels/kernels.h"

enum slm2_peak_kind {
    SLM2_PEAK_FP32, /* fp32 multiply-add */
    SLM2_PEAK_BF16, /* bf16 pairs into fp32: vdpbf16ps */
    SLM2_PEAK_INT8, /* unsigned by signed bytes into int32: vpdpbusd; AVX2: vpmaddubsw, vpmaddwd, vpaddd */
    SLM2_N_PEAK
};
enum slm2_peak_read { /* how a block is read, always with the widest loads */
    SLM2_READ_PLAIN,
    SLM2_READ_NEAR,    /* prefetching 1 KiB ahead */
    SLM2_READ_FAR,     /* 4 KiB ahead */
    SLM2_READ_STREAMS, /* four streams side by side, as rows of a matrix are, prefetching 1 KiB ahead */
    SLM2_N_READ
};
enum { SLM2_READ_UNIT = 4096 }; /* blocks to read start on and are multiples of it */

struct slm2_peak {
    /* so many rounds of independent multiply-adds; the result only keeps the compiler from dropping them.  NULL: not in this instruction set */
    uint32_t (*compute[SLM2_N_PEAK])(size_t rounds);
    double ops_per_round[SLM2_N_PEAK]; /* a multiply-add is two */
    uint64_t (*read[SLM2_N_READ])(const void *p, size_t bytes); /* all words, folded together; NULL: not in this set */
};

/* By the rules of slm2_kernels_get: k says what may be used. */
const struct slm2_peak *slm2_peak_get(const struct slm2_kernels *k);
/* Operations a second of the calling thread, over about so many seconds; 0 when the set has no such instruction. */
double slm2_peak_measure(const struct slm2_peak *p, enum slm2_peak_kind kind, double seconds);

extern const char *const slm2_peak_read_name[SLM2_N_READ];
void slm2_peak_fill_avx2(struct slm2_peak *p);
void slm2_peak_fill_avx512(struct slm2_peak *p);
void slm2_peak_fill_vnni(struct slm2_peak *p);
void slm2_peak_fill_bf16(struct slm2_peak *p);
#endif
