/* peak_avx512.c - the ceilings with 512-bit registers: F, and the dot products of VNNI and BF16. */
#include "kernels/peak.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#include <immintrin.h>

/* Sixteen chains: six cycles of latency at two operations a cycle need twelve. */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
enum { N_CHAIN = 16 };
/* The compiler must take x for changed: what is computed from it can neither leave the loop nor be shared. */
#define FRESH(x) __asm__ volatile("" : "+v"(x))

static uint32_t fp32(size_t rounds)
{
    __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1e-3f), sum = _mm512_setzero_ps();
#define START(i) __m512 c##i = _mm512_set1_ps(i);
#define STEP(i) c##i = _mm512_fmadd_ps(a, b, c##i);
#define ADD(i) sum = _mm512_add_ps(sum, c##i);
    CHAINS(START)
    for (size_t r = 0; r < rounds; r++) {
        FRESH(a);
        CHAINS(STEP)
    }
    CHAINS(ADD)
#undef STEP
    return (uint32_t)_mm512_reduce_add_ps(_mm512_min_ps(sum, _mm512_set1_ps(1.0f)));
}

static uint32_t bf16(size_t rounds)
{
    __m512i x = _mm512_set1_epi16(0x3c00), y = _mm512_set1_epi16(0x3f80); /* 2^-7 and 1 */
    __m512 sum = _mm512_setzero_ps();
    __m512bh a = (__m512bh)x, b = (__m512bh)y;
#define STEP(i) c##i = _mm512_dpbf16_ps(c##i, a, b);
    CHAINS(START)
    for (size_t r = 0; r < rounds; r++) {
        FRESH(a);
        CHAINS(STEP)
    }
    CHAINS(ADD)
#undef START
#undef STEP
#undef ADD
    return (uint32_t)_mm512_reduce_add_ps(_mm512_min_ps(sum, _mm512_set1_ps(1.0f)));
}

static uint32_t int8(size_t rounds)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5), sum = _mm512_setzero_si512();
#define START(i) __m512i c##i = _mm512_set1_epi32(i);
#define STEP(i) c##i = _mm512_dpbusd_epi32(c##i, a, b);
#define ADD(i) sum = _mm512_add_epi32(sum, c##i);
    CHAINS(START)
    for (size_t r = 0; r < rounds; r++) {
        FRESH(a);
        CHAINS(STEP)
    }
    CHAINS(ADD)
#undef START
#undef STEP
#undef ADD
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

/* Reads 512 bytes into four sums; ahead: bytes to prefetch beyond, 0: none. */
#define LOAD(i) _mm512_load_si512(q + 64 * (i))
#define TAKE(k)                                                                      \
    if (ahead) _mm_prefetch((const char *)q + ahead + 64 * (k), _MM_HINT_T0);        \
    if (ahead) _mm_prefetch((const char *)q + ahead + 64 * (k + 4), _MM_HINT_T0);    \
    sum##k = _mm512_xor_si512(sum##k, _mm512_xor_si512(LOAD(k), LOAD(k + 4)));
static inline __attribute__((always_inline)) uint64_t read_all(const void *block, size_t bytes, bool streams, size_t ahead)
{
    const uint8_t *p = block;
    size_t step = streams ? bytes / 4 : bytes;
    __m512i sum0 = _mm512_setzero_si512(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    for (size_t i = 0; i < step; i += 512) {
        const uint8_t *q = p + i;
        for (int left = streams ? 4 : 1; left > 0; left--, q += step) { /* the same place of all streams */
            TAKE(0)
            TAKE(1)
            TAKE(2)
            TAKE(3)
        }
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(sum0, sum1), _mm512_xor_si512(sum2, sum3)));
}

static uint64_t read_plain(const void *p, size_t bytes) { return read_all(p, bytes, false, 0); }
static uint64_t read_near(const void *p, size_t bytes) { return read_all(p, bytes, false, 1024); }
static uint64_t read_far(const void *p, size_t bytes) { return read_all(p, bytes, false, 4096); }
static uint64_t read_streams(const void *p, size_t bytes) { return read_all(p, bytes, true, 1024); }

void slm2_peak_fill_avx512(struct slm2_peak *p)
{
    p->compute[SLM2_PEAK_FP32] = fp32;
    p->ops_per_round[SLM2_PEAK_FP32] = 2 * 16 * N_CHAIN;
    p->read[SLM2_READ_PLAIN] = read_plain;
    p->read[SLM2_READ_NEAR] = read_near;
    p->read[SLM2_READ_FAR] = read_far;
    p->read[SLM2_READ_STREAMS] = read_streams;
}

void slm2_peak_fill_bf16(struct slm2_peak *p)
{
    p->compute[SLM2_PEAK_BF16] = bf16;
    p->ops_per_round[SLM2_PEAK_BF16] = 2 * 32 * N_CHAIN;
}

void slm2_peak_fill_vnni(struct slm2_peak *p)
{
    p->compute[SLM2_PEAK_INT8] = int8;
    p->ops_per_round[SLM2_PEAK_INT8] = 2 * 64 * N_CHAIN;
}
#else /* not this processor family: slm2_peak_get() never asks */
void slm2_peak_fill_avx512(struct slm2_peak *p) { (void)p; }
void slm2_peak_fill_bf16(struct slm2_peak *p) { (void)p; }
void slm2_peak_fill_vnni(struct slm2_peak *p) { (void)p; }
#endif
