/* other_variant.h - the best kernels of this processor under the name of a variant that no processor has: what is kept under the key of one variant
 * must not be taken for another's, though both run as "avx512", say. */
#ifndef SLM2_OTHER_VARIANT_H
#define SLM2_OTHER_VARIANT_H
#include "slm2_test.h"

#include <string.h>

#include "kernels/kernels.h"

/* on: renamed; off: as it was. */
static inline void other_variant(bool on)
{
    const struct slm2_kernels *k;
    assert_int_equal(slm2_kernels_get(&k, NULL, NULL), SLM2_OK);
    struct slm2_kernels *own = (struct slm2_kernels *)(uintptr_t)k;
    if (on) slm2_kernels_extend(own, "other");
    else *strrchr(own->variant, '+') = '\0';
}
#endif
