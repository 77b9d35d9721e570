/* kernels.c - which kernels this processor runs: the scalar table, raised by each instruction set that is present. */
#include "kernels/kernels.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

enum { ISA_SCALAR, ISA_AVX2, ISA_AVX512, ISA_NEON, N_ISA };
static const char *const isa_name[N_ISA] = {"scalar", "avx2", "avx512", "neon"};

/* Filled once, read-only from then on. */
static struct slm2_kernels table[N_ISA];
static bool present[N_ISA]; /* tables that may run here */
static int best;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The highest set that both the processor has and the system saves on a task switch: __builtin_cpu_supports() asks XGETBV
 * for the wide registers before it says yes to any AVX name. */
static int cpu_best(void)
{
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    __builtin_cpu_init();
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C)) return ISA_SCALAR;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return ISA_SCALAR;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return ISA_AVX512;
    return ISA_AVX2;
#elif defined(__aarch64__)
    return ISA_NEON;
#else
    return ISA_SCALAR;
#endif
}

/* Advanced SIMD is part of every 64-bit Arm processor; integer dot products and matrix products came later. */
static void fill_neon(struct slm2_kernels *k)
{
    slm2_kernels_fill_neon(k);
    slm2_kernels_fill_neon_int8(k);
#if defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) slm2_kernels_fill_neon_dotprod(k);
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP && getauxval(AT_HWCAP2) & HWCAP2_I8MM) slm2_kernels_fill_neon_i8mm(k);
#endif
}

static void fill(void)
{
    best = cpu_best();
    slm2_kernels_fill_scalar(&table[ISA_SCALAR]);
    present[ISA_SCALAR] = present[best] = true;
    if (best == ISA_NEON) {
        table[ISA_NEON] = table[ISA_SCALAR];
        fill_neon(&table[ISA_NEON]);
        return;
    }
    if (best >= ISA_AVX2) {
        table[ISA_AVX2] = table[ISA_SCALAR];
        slm2_kernels_fill_avx2(&table[ISA_AVX2]);
        present[ISA_AVX2] = true;
    }
    if (best >= ISA_AVX512) {
        table[ISA_AVX512] = table[ISA_AVX2];
        slm2_kernels_fill_avx512(&table[ISA_AVX512]);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512vnni")) slm2_kernels_fill_vnni(&table[ISA_AVX512]);
        if (__builtin_cpu_supports("avx512bf16")) {
            slm2_kernels_fill_bf16(&table[ISA_AVX512]);
            slm2_kernels_fill_attn(&table[ISA_AVX512]);
        }
#endif
    }
}

void slm2_kernels_extend(struct slm2_kernels *k, const char *name)
{
    size_t n = strlen(k->variant);
    assert(n + 1 + strlen(name) < sizeof k->variant);
    snprintf(k->variant + n, sizeof k->variant - n, "+%s", name);
}

slm2_status slm2_kernels_get(const struct slm2_kernels **k, const char *isa, struct slm2_err *err)
{
    pthread_once(&once, fill);
    if (!isa || !isa[0]) {
        *k = &table[best];
        return SLM2_OK;
    }
    for (int i = 0; i < N_ISA; i++) {
        if (strcmp(isa, isa_name[i]) != 0) continue;
        if (!present[i])
            return slm2_fail(err, SLM2_EUSAGE, "instruction set \"%s\": this processor lacks it, the best here is \"%s\"", isa,
                             table[best].name);
        *k = &table[i];
        return SLM2_OK;
    }
    return slm2_fail(err, SLM2_EUSAGE, "instruction set \"%s\" is unknown, want scalar, avx2, avx512 or neon", isa);
}
