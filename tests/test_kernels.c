/* test_kernels.c - how the kernels that run here are called.  What they compute: check_kernels, check_products. */
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernels/kernels.h"
#include "slm2_test.h"

static slm2_status get(const struct slm2_kernels **k, const char *isa, struct slm2_err *err)
{
    *k = NULL;
    return slm2_kernels_get(k, isa, err);
}

/* Every table has the name it was asked by; its variant begins with that name, and "+EXTENSION" follows where there is one. */
static void test_names(void **state)
{
    static const char *const isa[] = {"scalar", "avx2", "avx512", "neon"};
    const struct slm2_kernels *k;
    struct slm2_err err;
    (void)state;
    for (int i = 0; i < 4; i++) {
        if (get(&k, isa[i], &err) != SLM2_OK) {
            assert_non_null(strstr(err.msg, isa[i]));
            continue;
        }
        size_t n = strlen(isa[i]);
        assert_string_equal(k->name, isa[i]);
        assert_memory_equal(k->variant, isa[i], n);
        assert_true(k->variant[n] == 0 || k->variant[n] == '+');
    }
    assert_int_equal(get(&k, "avx512+vnni", &err), SLM2_EUSAGE); /* sets can be asked for, extensions cannot */
}

/* What replaces kernels changes the variant, and the best table says all that was put into it.  Only what this processor has can be filled in: the fillers
 * are compiled for it, like the kernels.  `make check-neon` runs this as three processors. */
static void test_variants(void **state)
{
    struct extension { const char *name; bool here; void (*fill[2])(struct slm2_kernels *k); };
    const char *set = "scalar";
    struct extension extension[2] = {{0}};
    (void)state;
#if defined(__x86_64__)
    __builtin_cpu_init();
    set = "avx512";
    extension[0] = (struct extension){"vnni", __builtin_cpu_supports("avx512vnni"), {slm2_kernels_fill_vnni, NULL}};
    extension[1] = (struct extension){"bf16", __builtin_cpu_supports("avx512bf16"), {slm2_kernels_fill_bf16, slm2_kernels_fill_attn}};
#elif defined(__aarch64__) && defined(__linux__)
    set = "neon";
    extension[0] = (struct extension){"dotprod", getauxval(AT_HWCAP) & HWCAP_ASIMDDP, {slm2_kernels_fill_neon_dotprod, NULL}};
    extension[1] = (struct extension){"i8mm", extension[0].here && getauxval(AT_HWCAP2) & HWCAP2_I8MM, {slm2_kernels_fill_neon_i8mm, NULL}};
#endif
    const struct slm2_kernels *best;
    struct slm2_err err;
    if (get(&best, set, &err) != SLM2_OK) { /* no extension without it */
        printf("skipped: %s\n", err.msg);
        return;
    }
    char want[SLM2_VARIANT_MAX];
    size_t n = (size_t)snprintf(want, sizeof want, "%s", set);
    for (int i = 0; i < 2; i++) {
        struct slm2_kernels k, before;
        if (!extension[i].here) continue;
        n += (size_t)snprintf(want + n, sizeof want - n, "+%s", extension[i].name);
        slm2_kernels_fill_scalar(&k);
        before = k;
        for (int f = 0; f < 2; f++)
            if (extension[i].fill[f]) extension[i].fill[f](&k);
        assert_memory_not_equal(k.product, before.product, sizeof k.product);
        assert_string_not_equal(k.variant, before.variant);
    }
    assert_string_equal(best->variant, want);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_variants)};
SLM2_TEST_MAIN(tests)
