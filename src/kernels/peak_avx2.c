/* peak_avx2.c - the ceilings with 256-bit registers. */
#include "kernels/peak.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

/* Twelve chains cover four cycles of latency at two or three operations a cycle, and leave registers for the operands. */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { N_CHAIN = 12 };
/* The compiler must take x for changed: what is computed from it can neither leave the loop nor be shared. */
#define FRESH(x) __asm__ volatile("" : "+x"(x))

static uint32_t fp32(size_t rounds)
{
    __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1e-3f), sum = _mm256_setzero_ps();
#define START(i) __m256 c##i = _mm256_set1_ps(i);
#define STEP(i) c##i = _mm256_fmadd_ps(a, b, c##i);
#define ADD(i) sum = _mm256_add_ps(sum, c##i);
    CHAINS(START)
    for (size_t r = 0; r < rounds; r++) {
        FRESH(a);
        CHAINS(STEP)
    }
    CHAINS(ADD)
#undef START
#undef STEP
#undef ADD
    return (uint32_t)_mm256_movemask_ps(sum);
}

static uint32_t int8(size_t rounds)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-5), one = _mm256_set1_epi16(1), sum = _mm256_setzero_si256();
#define START(i) __m256i c##i = _mm256_set1_epi32(i);
#define STEP(i)  \
    FRESH(a);    \
    c##i = _mm256_add_epi32(c##i, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), one));
#define ADD(i) sum = _mm256_add_epi32(sum, c##i);
    CHAINS(START)
    for (size_t r = 0; r < rounds; r++) { CHAINS(STEP) }
    CHAINS(ADD)
#undef START
#undef STEP
#undef ADD
    return (uint32_t)_mm256_movemask_epi8(sum);
}

/* Reads 256 bytes into four sums; ahead: bytes to prefetch beyond, 0: none. */
#define LOAD(i) _mm256_load_si256((const __m256i *)(const void *)(q + 32 * (i)))
#define TAKE(k)                                                                      \
    if (ahead) _mm_prefetch((const char *)q + ahead + 64 * (k), _MM_HINT_T0);        \
    sum##k = _mm256_xor_si256(sum##k, _mm256_xor_si256(LOAD(k), LOAD(k + 4)));
static inline __attribute__((always_inline)) uint64_t read_all(const void *block, size_t bytes, bool streams, size_t ahead)
{
    const uint8_t *p = block;
    size_t step = streams ? bytes / 4 : bytes;
    __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    for (size_t i = 0; i < step; i += 256) {
        const uint8_t *q = p + i;
        for (int left = streams ? 4 : 1; left > 0; left--, q += step) { /* the same place of all streams */
            TAKE(0)
            TAKE(1)
            TAKE(2)
            TAKE(3)
        }
    }
    __m256i s = _mm256_xor_si256(_mm256_xor_si256(sum0, sum1), _mm256_xor_si256(sum2, sum3));
    return (uint64_t)_mm256_extract_epi64(s, 0) ^ (uint64_t)_mm256_extract_epi64(s, 1) ^ (uint64_t)_mm256_extract_epi64(s, 2) ^ (uint64_t)_mm256_extract_epi64(s, 3);
}

static uint64_t read_plain(const void *p, size_t bytes) { return read_all(p, bytes, false, 0); }
static uint64_t read_near(const void *p, size_t bytes) { return read_all(p, bytes, false, 1024); }
static uint64_t read_far(const void *p, size_t bytes) { return read_all(p, bytes, false, 4096); }
static uint64_t read_streams(const void *p, size_t bytes) { return read_all(p, bytes, true, 1024); }

void slm2_peak_fill_avx2(struct slm2_peak *p)
{
    p->compute[SLM2_PEAK_FP32] = fp32;
    p->ops_per_round[SLM2_PEAK_FP32] = 2 * 8 * N_CHAIN;
    p->compute[SLM2_PEAK_INT8] = int8;
    p->ops_per_round[SLM2_PEAK_INT8] = 2 * 32 * N_CHAIN;
    p->read[SLM2_READ_PLAIN] = read_plain;
    p->read[SLM2_READ_NEAR] = read_near;
    p->read[SLM2_READ_FAR] = read_far;
    p->read[SLM2_READ_STREAMS] = read_streams;
}
#else /* not this processor family: slm2_peak_get() never asks */
void slm2_peak_fill_avx2(struct slm2_peak *p) { (void)p; }
#endif
