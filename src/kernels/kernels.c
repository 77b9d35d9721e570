/* kernels.c - which kernels this processor runs: the scalar table, raised by each instruction set that is present. */
#include "kernels/kernels.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { ISA_SCALAR, ISA_AVX2, ISA_AVX512, N_ISA };
static const char *const isa_name[N_ISA] = {"scalar", "avx2", "avx512"};

/* Filled once, read-only from then on. */
static struct slm2_kernels table[N_ISA];
static int n_table; /* tables[0 .. n_table) may run here; each contains the ones before it */
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
#else
    return ISA_SCALAR;
#endif
}

static void fill(void)
{
    int best = cpu_best();

    slm2_kernels_fill_scalar(&table[ISA_SCALAR]);
    n_table = 1;
    if (best >= ISA_AVX2) {
        table[ISA_AVX2] = table[ISA_SCALAR];
        slm2_kernels_fill_avx2(&table[ISA_AVX2]);
        n_table = 2;
    }
    if (best >= ISA_AVX512) {
        table[ISA_AVX512] = table[ISA_AVX2];
        slm2_kernels_fill_avx512(&table[ISA_AVX512]);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi")) slm2_kernels_fill_vnni(&table[ISA_AVX512]);
        if (__builtin_cpu_supports("avx512bf16")) slm2_kernels_fill_bf16(&table[ISA_AVX512]);
#endif
        n_table = 3;
    }
}

slm2_status slm2_kernels_get(const struct slm2_kernels **k, const char *isa, struct slm2_err *err)
{
    pthread_once(&once, fill);
    if (!isa || !isa[0]) {
        *k = &table[n_table - 1];
        return SLM2_OK;
    }
    for (int i = 0; i < N_ISA; i++) {
        if (strcmp(isa, isa_name[i]) != 0) continue;
        if (i >= n_table)
            return slm2_fail(err, SLM2_EUSAGE, "instruction set \"%s\": this processor lacks it, the best here is \"%s\"", isa,
                             table[n_table - 1].name);
        *k = &table[i];
        return SLM2_OK;
    }
    return slm2_fail(err, SLM2_EUSAGE, "instruction set \"%s\" is unknown, want scalar, avx2 or avx512", isa);
}
