/* peak_scalar.c - the ceilings in plain C, and the choice for this processor. */
#include "kernels/peak.h"

#include <pthread.h>
#include <string.h>

#include "base/log.h"

enum { N_CHAIN = 48 /* twelve vectors, where the compiler finds them */, WORDS = 8 /* of a cache line */ };
const char *const slm2_peak_read_name[SLM2_N_READ] = {"plain", "prefetch 1 KiB", "prefetch 4 KiB", "4 streams"};

static uint32_t fp32(size_t rounds)
{
    float acc[N_CHAIN], a = 0.5f, b = 1.0f, sum = 0.0f;
    for (int i = 0; i < N_CHAIN; i++) acc[i] = (float)i;
    for (size_t r = 0; r < rounds; r++) /* each chain goes to 2 b */
#pragma GCC unroll 48
        for (int i = 0; i < N_CHAIN; i++) acc[i] = acc[i] * a + b;
    for (int i = 0; i < N_CHAIN; i++) sum += acc[i];
    return (uint32_t)sum;
}

static uint64_t read_plain(const void *block, size_t bytes)
{
    const uint64_t *p = block;
    uint64_t a[WORDS] = {0};
    for (size_t i = 0; i < bytes / sizeof *p; i += WORDS)
#pragma GCC unroll 8
        for (int k = 0; k < WORDS; k++) a[k] ^= p[i + (size_t)k];
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}

enum { SCALAR, AVX2, AVX512, N_ISA };
static struct slm2_peak table[N_ISA]; /* filled once, read-only from then on */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
    table[SCALAR] = (struct slm2_peak){.compute = {fp32}, .ops_per_round = {2 * N_CHAIN}, .read = {read_plain}};
    table[AVX2] = table[SCALAR];
#if defined(__x86_64__)
    slm2_peak_fill_avx2(&table[AVX2]);
    table[AVX512] = table[AVX2];
    slm2_peak_fill_avx512(&table[AVX512]);
    if (__builtin_cpu_supports("avx512vnni")) slm2_peak_fill_vnni(&table[AVX512]);
    if (__builtin_cpu_supports("avx512bf16")) slm2_peak_fill_bf16(&table[AVX512]);
#else
    table[AVX512] = table[AVX2];
#endif
}

const struct slm2_peak *slm2_peak_get(const struct slm2_kernels *k)
{
    pthread_once(&once, fill);
    if (strcmp(k->name, "avx512") == 0) return &table[AVX512];
    return &table[strcmp(k->name, "avx2") == 0 ? AVX2 : SCALAR];
}

double slm2_peak_measure(const struct slm2_peak *p, enum slm2_peak_kind kind, double seconds)
{
    if (!p->compute[kind]) return 0.0;
    volatile uint32_t sink;
    double start = slm2_now_s(), took;
    size_t rounds = 1u << 14, done = 0;
    do {
        sink = p->compute[kind](rounds);
        done += rounds;
        took = slm2_now_s() - start;
    } while (took < seconds);
    (void)sink;
    return p->ops_per_round[kind] * (double)done / took;
}
